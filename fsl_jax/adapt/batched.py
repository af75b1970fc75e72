"""Many episodes in one compiled program, each as if it were alone."""

from collections.abc import Callable

import jax

from fsl_jax import types
from fsl_jax.adapt import run as run_lib

BatchedFn = Callable[
  [jax.Array, types.Variables, types.Task, jax.Array],
  tuple[jax.Array, types.AdaptInfo],
]


def default_chunk() -> int:
  """Episodes to vmap at a time where the caller does not say.

  XLA for CPU has no good kernel for the grouped convolutions that vmap over
  per-episode weights makes, and a single episode fills its cores.
  """
  return 1 if jax.default_backend() == "cpu" else 8


def compile(adapter: types.Adapter, *, chunk: int | None = None) -> BatchedFn:
  """Compiles `run.run` over a batch: vmap inside a chunk, a loop over chunks.

  Args:
    adapter: the method.
    chunk: episodes that are vmapped together; B must be a multiple of it.
      None chooses by the device.

  Returns:
    `f(key, variables, tasks, indices) -> (logits [B, T, N], infos [B, steps])`
    for tasks with a leading B. Episode `indices[b]` uses
    `fold_in(key, indices[b])`, so its result does not depend on the batch it
    is in. The key is not consumed: the same one serves every batch.
  """
  chunk = default_chunk() if chunk is None else chunk
  types.check_whole("chunk", chunk, at_least=1)

  @jax.jit
  def batched(key, variables, tasks, indices):
    def one(arguments):
      task, index = arguments
      return run_lib.run(
        jax.random.fold_in(key, index), adapter, variables, task
      )

    size = indices.shape[0]
    if size % chunk:
      raise types.InputError(
        f"a batch of {size} episodes is no multiple of the chunk of {chunk}"
      )
    if chunk == 1:
      return jax.lax.map(one, (tasks, indices))
    # Not `lax.map(batch_size=)`, which cannot join results of no elements,
    # the infos of a method without steps.
    chunks = jax.tree.map(
      lambda x: x.reshape(size // chunk, chunk, *x.shape[1:]), (tasks, indices)
    )
    results = jax.lax.map(jax.vmap(one), chunks)
    return jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), results)

  return batched
