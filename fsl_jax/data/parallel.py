"""An ordered parallel map that holds only a few items at a time."""

import collections
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fsl_jax import types

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Wraps an iterable of known length and reports progress, as tqdm does."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def _ending_with_parent() -> Callable[[int], None]:
  """Makes a worker process end soon after its parent.

  A nested function is pickled by value. For a function of a module the worker
  would first import this library, and with it JAX: for seconds a killed parent
  would leave its workers behind.
  """

  def end_with(parent: int) -> None:
    def watch() -> None:
      while os.getppid() == parent:
        time.sleep(0.2)
      os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

  return end_with


_END_WITH = _ending_with_parent()

# With fewer, starting processes takes longer than the work.
MIN_PICTURES = 5000


def num_workers(num_pictures: int) -> int:
  """Worker processes worth starting: 0 for few images, else one per core."""
  return 0 if num_pictures < MIN_PICTURES else one_per_core()


def one_per_core() -> int:
  """As many worker processes as cores; 0 on a single core."""
  if hasattr(os, "sched_getaffinity"):  # not on macOS
    cores = len(os.sched_getaffinity(0))
  else:
    cores = os.cpu_count() or 1
  return 0 if cores == 1 else cores


def ordered(
  function: Callable[[Item], Result],
  items: Iterable[Item],
  *,
  workers: int,
) -> Iterator[tuple[Item, Result]]:
  """Applies a function to each item in worker processes; yields in order.

  At most three items per worker are drawn ahead of the one that is yielded, so
  that memory does not grow with their number, however slow the consumer is.

  Args:
    function: of a module, so that it can be pickled.
    items: each worth milliseconds of work, such as a chunk of images.
    workers: processes; 0 works in this one.

  Yields:
    (item, function(item)).
  """
  if workers == 0:
    for item in items:
      yield item, function(item)
    return
  import loky

  # The pools of multiprocessing fork a process that has threads, or run the
  # caller's script again in every worker.
  with warnings.catch_warnings():
    # It warns when another number of workers waits for an abandoned iterator.
    warnings.simplefilter("ignore", UserWarning)
    executor = loky.get_reusable_executor(
      max_workers=workers,
      timeout=60,
      initializer=_END_WITH,
      initargs=(os.getpid(),),
    )
  waiting: collections.deque = collections.deque()
  try:
    for item in items:
      waiting.append((item, executor.submit(function, item)))
      if len(waiting) >= 3 * workers:
        done, future = waiting.popleft()
        yield done, future.result()
    while waiting:
      done, future = waiting.popleft()
      yield done, future.result()
  # It was killed, or its result did not fit in memory.
  except loky.process_executor.BrokenProcessPool as error:
    raise types.InputError(
      "a worker process was killed while it decoded images, or its result "
      f"is too large; most often the machine ran out of memory ({error})"
    ) from error
  finally:
    for _, future in waiting:
      future.cancel()
