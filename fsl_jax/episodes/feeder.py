"""Episodes as arrays: one, or a stream of batches made ahead of their use."""

import dataclasses
import queue
import threading
from collections.abc import Generator, Sequence

import jax
import numpy as np

from fsl_jax import types
from fsl_jax.episodes import padding, sampler


@dataclasses.dataclass(frozen=True)
class Batch:
  """`episodes` with a leading B, or the rows asked for; [B] bool `mask`, False
  where padded."""

  episodes: types.Episode
  mask: np.ndarray


def episode(
  dataset: types.ClassIndexed,
  protocol: sampler.Protocol,
  *,
  seed: int,
  index: int,
) -> types.Episode:
  """Episode `index` with its images, as NumPy arrays (unbatched)."""
  rows = sampler.draw(dataset, protocol, seed=seed, index=index)
  task = types.Task(
    support_images=dataset.images[rows.support],
    support_labels=rows.support_labels,
    support_mask=np.ones(len(rows.support), bool),
    query_images=dataset.images[rows.query],
    query_mask=np.ones(len(rows.query), bool),
    num_ways=protocol.ways,
  )
  return types.Episode(
    task=task,
    query_labels=rows.query_labels,
    index=np.asarray(index, np.int32),
    class_ids=rows.class_ids,
    support_rows=rows.support,
    query_rows=rows.query,
  )


def padded_episode(
  dataset: types.ClassIndexed,
  protocol: sampler.Protocol,
  *,
  seed: int,
  index: int,
) -> types.Episode:
  """`episode` with its support set filled up to its `padding.bucket`."""
  made = episode(dataset, protocol, seed=seed, index=index)
  size = len(made.task.support_mask)
  return padding.pad_support(made, padding.bucket(size))


def batches(
  dataset: types.ClassIndexed,
  protocol: sampler.Protocol,
  *,
  seed: int,
  indices: Sequence[Sequence[int]],
  batch_size: int,
  rows: np.ndarray | None = None,
  prefetch: int = 2,
) -> Generator[Batch, None, None]:
  """Batches of padded episodes, drawn by a thread while the device works.

  Args:
    dataset: split to draw from.
    protocol: of every episode.
    seed: of the sampler.
    indices: the episodes of each batch, at most `batch_size` of them.
    batch_size: B. A shorter batch is padded with copies of its first episode
      whose mask is False, so that every batch has the same shapes.
    rows: [b] integers in [0, B), those to draw: of several hosts, each draws
      a part of every batch. None is all of them.
    prefetch: batches held ready.

  Raises:
    InputError: before the first batch, if the data cannot serve the protocol.
  """
  sampler.check(dataset, protocol)
  types.check_whole("prefetch", prefetch, at_least=1)
  rows = np.arange(batch_size) if rows is None else rows
  ready: queue.Queue = queue.Queue(maxsize=prefetch)
  stop = threading.Event()

  def put(item) -> None:
    while not stop.is_set():
      try:
        return ready.put(item, timeout=0.1)
      except queue.Full:
        continue

  def work() -> None:
    try:
      for batch_indices in indices:
        if stop.is_set():
          return
        put(_stack(dataset, protocol, seed, batch_indices, batch_size, rows))
      put(None)
    except BaseException as error:  # Re-raised where the batch is awaited.
      put(error)

  thread = threading.Thread(target=work, daemon=True)
  thread.start()
  try:
    while (item := ready.get()) is not None:
      if isinstance(item, BaseException):
        raise item
      yield item
  finally:
    stop.set()
    thread.join()


def _stack(dataset, protocol, seed, indices, batch_size, rows) -> Batch:
  missing = batch_size - len(indices)
  if missing < 0:
    raise types.InputError(
      f"{len(indices)} episodes do not fit a batch of {batch_size}"
    )
  padded = [*indices, *[indices[0]] * missing]
  wanted = [padded[row] for row in rows]
  made = {
    index: padded_episode(dataset, protocol, seed=seed, index=index)
    for index in dict.fromkeys(wanted)
  }
  stacked = jax.tree.map(
    lambda *leaves: np.stack(leaves), *[made[index] for index in wanted]
  )
  return Batch(stacked, rows < len(indices))
