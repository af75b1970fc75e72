"""All devices of all processes as one axis, over which a batch is divided.

One device, several, and several processes (`jax.distributed`) are the same
program: every process runs all of it in the same order, holds its own rows of
a batch, and process 0 alone writes run folders.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec

from fsl_jax import types

_AXIS = "devices"
SAME = PartitionSpec()  # on every device
ROWS = PartitionSpec(_AXIS)  # [B, ...], divided by rows
COLUMNS = PartitionSpec(None, _AXIS)  # [steps, B, ...]


def mesh(devices: list[jax.Device] | None = None) -> jax.sharding.Mesh:
  """One axis over the devices; None takes all those of all processes."""
  count = jax.device_count() if devices is None else len(devices)
  # The default, explicit axes, has no rule for a vmapped convolution.
  automatic = (jax.sharding.AxisType.Auto,)
  return jax.make_mesh((count,), (_AXIS,), automatic, devices=devices)


def sharding(
  mesh: jax.sharding.Mesh, spec: PartitionSpec
) -> jax.sharding.NamedSharding:
  """`spec`, one of those above, on these devices."""
  return jax.sharding.NamedSharding(mesh, spec)


def own_rows(mesh: jax.sharding.Mesh, size: int) -> np.ndarray:
  """Rows of a batch of `size` that this process's devices hold, ascending."""
  rows = np.arange(size)
  spans = sharding(mesh, ROWS).addressable_devices_indices_map((size,))
  return np.sort(np.concatenate([rows[span] for span in spans.values()]))


def place(mesh: jax.sharding.Mesh, spec: PartitionSpec, tree: Any) -> Any:
  """NumPy arrays of this process as parts of arrays on all devices.

  Args:
    mesh: of all devices.
    spec: `SAME`: every process gives all of it. `ROWS`, `COLUMNS`: its own
      part, see `own_rows`.
    tree: of arrays.

  Returns:
    `jax.Array`s of the global shapes.
  """

  def of_array(x):
    shape = x.shape if spec == SAME else None  # None adds up the parts.
    return jax.make_array_from_process_local_data(
      sharding(mesh, spec), x, shape
    )

  # Explicit, though JAX counts it as explicit in one process only.
  with jax.transfer_guard("allow"):
    return jax.tree.map(of_array, jax.device_get(tree))


def apart(
  function: Callable[..., Any],
  mesh: jax.sharding.Mesh,
  *specs: PartitionSpec,
) -> Callable[..., Any]:
  """`function` on each device alone, of its part of the arguments.

  Args:
    function: its results are the rows that belong to its arguments' rows.
    mesh: devices.
    specs: `SAME` or `ROWS` for each argument.
  """
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=specs,
    out_specs=ROWS,
    # With the check, a gradient with respect to a replicated value is summed
    # over the devices, and so over episodes.
    check_vma=False,
  )


def gather(mesh: jax.sharding.Mesh, tree: Any) -> Any:
  """Divided arrays as whole ones on every device, without waiting for them.

  `jax.device_get` then reads them in every process.
  """
  return jax.jit(_same, out_shardings=sharding(mesh, SAME))(tree)


def _same(tree):
  return tree


def pipelined(
  function: Callable[[Any], Any], batches: Iterable[Any]
) -> Iterator[Any]:
  """`function(batch)` of each batch as NumPy, in order.

  A batch is read and dispatched before the results of the one before it are
  awaited: the device stays busy, and memory holds two batches.

  Args:
    function: from a batch to arrays on devices.
    batches: read one at a time.
  """
  dispatched = itertools.chain(map(function, batches), [None])
  for results, _ in itertools.pairwise(dispatched):
    yield jax.device_get(results)


def is_first_process() -> bool:
  """Whether this is process 0, the one that writes and shows progress."""
  return jax.process_index() == 0


def bar(items: Any = None, *, enabled: bool = True, **options: Any) -> Any:
  """A tqdm bar of process 0, if stderr is a terminal.

  Args:
    items: what it iterates over; None if its `update` is called.
    enabled: False draws nothing.
    **options: of `tqdm.tqdm`.
  """
  import tqdm

  is_shown = enabled and is_first_process()
  return tqdm.tqdm(items, disable=None if is_shown else True, **options)


def first_of(number: int) -> int:
  """The number of process 0, in every process; they wait for each other."""
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def on_first_process(action: Callable[[], None]) -> None:
  """Does something in process 0; the others wait until it is done.

  Raises:
    InputError: in the others, if it failed; in process 0 its own error.
  """
  error = None
  if is_first_process():
    try:
      action()
    except Exception as raised:
      error = raised
  failed = first_of(error is not None)
  if error is not None:
    raise error
  if failed:
    raise types.InputError("stopped by process 0, whose output says why")
