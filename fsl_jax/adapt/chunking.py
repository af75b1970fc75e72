"""How many episodes to vmap together: by memory, and by a short trial."""

import time
from typing import Any, NamedTuple

import jax

from fsl_jax import programs, types
from fsl_jax.adapt import run as run_lib

_GROWTH = 4  # from one candidate to the next; each has to be compiled
_GAIN = 0.95  # share of the time per episode that a larger chunk must beat
_TRIAL_STEPS = 2
_MEMORY_SHARE = 0.8  # of what is free; the batch itself has to fit too


class Chunk(NamedTuple):
  """The outcome of a trial."""

  size: int  # episodes, a power of 4
  num_bytes: float  # of the program, according to the compiler


def choose(
  adapter: types.Adapter,
  variables: types.Variables,
  task: types.Task,
  *,
  largest: int,
) -> int:
  """Episodes to vmap on the default device.

  One on a CPU: XLA has no fast kernel there for the grouped convolutions into
  which vmap turns convolutions with weights per episode, and one episode uses
  all cores. On an accelerator small episodes benefit from batching, large ones
  do not, and where the limit is depends on network, images and device: `trial`
  measures it. The answer is kept as long as its program fits into the memory
  that is free, since another one means another compilation.

  Args:
    adapter: the method.
    variables: of the pre-trained backbone.
    task: one of those to come, unbatched.
    largest: number of episodes for a device.
  """
  if jax.default_backend() == "cpu":
    return 1
  chosen = _chosen(adapter)
  shapes = [
    (jax.numpy.shape(x), jax.numpy.result_type(x))
    for x in jax.tree.leaves((variables, task))
  ]
  key = (largest, task.num_ways, *shapes)
  free = _free_bytes()
  kept = chosen.get(key)
  if kept is None or (kept.size > 1 and kept.num_bytes > free):
    chosen[key] = trial(
      adapter, variables, task, memory_bytes=free, largest=largest
    )
  return chosen[key].size


@programs.kept
def _chosen(adapter: types.Adapter) -> dict[Any, Chunk]:
  """What `choose` found for a method, by sizes."""
  del adapter
  return {}


def trial(
  adapter: types.Adapter,
  variables: types.Variables,
  task: types.Task,
  *,
  memory_bytes: float,
  largest: int,
) -> Chunk:
  """Grows the chunk while it fits and an episode gets cheaper by 5 %.

  Args:
    adapter: the method; two of its steps are run.
    variables: of the pre-trained backbone.
    task: copied to fill the chunk.
    memory_bytes: that the program may use.
    largest: bound of the candidates.
  """
  short = adapter._replace(num_steps=min(adapter.num_steps, _TRIAL_STEPS))

  @jax.jit
  def episodes(keys, variables, tasks):
    return jax.vmap(lambda k, t: run_lib.run(k, short, variables, t))(
      keys, tasks
    )

  best, least = Chunk(1, 0), float("inf")
  chunk = 1
  while chunk <= largest:
    keys = jax.random.split(jax.random.key(0), chunk)
    tasks = jax.tree.map(
      lambda x: jax.numpy.broadcast_to(x, (chunk, *x.shape)),  # noqa: B023
      jax.device_put(task),
    )
    arguments = (keys, jax.device_put(variables), tasks)
    program = episodes.lower(*arguments).compile()
    num_bytes = _bytes(program)
    if chunk > 1 and num_bytes > memory_bytes:
      break
    seconds = _seconds(program, arguments) / chunk
    if seconds > _GAIN * least:
      break
    best, least = Chunk(chunk, num_bytes), seconds
    chunk *= _GROWTH
  return best


def _seconds(program: Any, arguments: tuple[Any, ...]) -> float:
  """The shortest time of three runs."""
  times = []
  for _ in range(3):
    start = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    times.append(time.perf_counter() - start)
  return min(times)


def _bytes(program: Any) -> float:
  analysis = program.memory_analysis()
  return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def _free_bytes() -> float:
  statistics = jax.local_devices()[0].memory_stats()
  if not statistics:  # Not known on every platform.
    return float("inf")
  free = statistics["bytes_limit"] - statistics["bytes_in_use"]
  return _MEMORY_SHARE * free
