"""Many episodes in one compiled program, each as if it were alone."""

from collections.abc import Callable
from typing import Any

import jax

from fsl_jax import devices, programs, types
from fsl_jax.adapt import run as run_lib

# (key, variables, tasks, indices) -> the results of `compile`.
BatchedFn = Callable[
  [jax.Array, types.Variables, types.Task, types.Array], tuple[Any, ...]
]


@programs.kept
def compile(
  adapter: types.Adapter,
  *,
  chunk: int = 1,
  mesh: jax.sharding.Mesh | None = None,
  diagnose: bool = False,
) -> BatchedFn:
  """Compiles `run.run` over a batch: vmap inside a chunk, a loop over chunks.

  Args:
    adapter: the method.
    chunk: episodes that are vmapped together, see `chunking.choose`; B must
      be a multiple of it.
    mesh: devices that the batch is divided over, see `devices.mesh`; B must be
      a multiple of their number times `chunk`. None computes where the
      arguments are.
    diagnose: whether `run.diagnosed` is compiled, which has a third result.

  Returns:
    `f(key, variables, tasks, indices) -> (logits [B, T, N], infos [B, steps])`
    for tasks with a leading B. Episode `indices[b]` uses
    `fold_in(key, indices[b])`, so its result does not depend on the batch it
    is in. The key is not consumed: the same one serves every batch. With a
    mesh, results are divided as the batch is. Equal arguments return the same
    `f`, so that equal shapes are compiled once.
  """
  types.check_whole("chunk", chunk, at_least=1)
  run = run_lib.diagnosed if diagnose else run_lib.run

  def on_one_device(key, variables, tasks, indices):
    def one(arguments):
      task, index = arguments
      return run(jax.random.fold_in(key, index), adapter, variables, task)

    size = indices.shape[0]
    if chunk == 1:
      return jax.lax.map(one, (tasks, indices))
    # Not `lax.map(batch_size=)`, which cannot join results of no elements,
    # the infos of a method without steps.
    chunks = jax.tree.map(
      lambda x: x.reshape(size // chunk, chunk, *x.shape[1:]), (tasks, indices)
    )
    results = jax.lax.map(jax.vmap(one), chunks)
    return jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), results)

  num_devices = 1
  function = on_one_device
  if mesh is not None:
    num_devices = mesh.size
    function = devices.apart(
      on_one_device,
      mesh,
      devices.SAME,
      devices.SAME,
      devices.ROWS,
      devices.ROWS,
    )

  def batched(key, variables, tasks, indices):
    size = indices.shape[0]
    if size % (num_devices * chunk):
      raise types.InputError(
        f"a batch of {size} episodes is not a multiple of the chunk of {chunk}"
        + (f" on each of {num_devices} devices" if num_devices > 1 else "")
      )
    return function(key, variables, tasks, indices)

  return programs.Checked(
    batched,
    lambda key, variables, tasks, indices: run_lib.check(tasks, adapter),
  )
