"""Episodes as arrays: one, or a prefetched stream of batches."""

import dataclasses
import queue
import threading
from collections.abc import Generator, Sequence

import jax
import numpy as np

from fsl_jax import types
from fsl_jax.episodes import padding, protocols, sampler
from fsl_jax.episodes import source as source_lib


@dataclasses.dataclass(frozen=True)
class Batch:
  """The episodes of a batch, or the requested rows of it.

  Attributes:
    episodes: with a leading B.
    mask: [B] bool, False for padding.
    embeddings: [B, S, P] and [B, T, P] float32 of the images, for hardness;
      None if it is not computed from embeddings.
  """

  episodes: types.Episode
  mask: np.ndarray
  embeddings: tuple[np.ndarray, np.ndarray] | None = None


def episode(
  dataset: types.ClassIndexed,
  protocol: protocols.Protocol,
  *,
  seed: int,
  index: int,
) -> types.Episode:
  """Episode `index` with its images, as NumPy arrays (unbatched)."""
  rows = sampler.draw(dataset, protocol, seed=seed, index=index)
  return of_rows(dataset, rows, index)


def of_rows(
  dataset: types.ClassIndexed, rows: sampler.Rows, index: int
) -> types.Episode:
  """An episode with its images, as NumPy arrays (unbatched)."""
  task = types.Task(
    support_images=dataset.images[rows.support],
    support_labels=rows.support_labels,
    support_mask=np.ones(len(rows.support), bool),
    query_images=dataset.images[rows.query],
    query_mask=np.ones(len(rows.query), bool),
    num_ways=len(rows.class_ids),
  )
  return types.Episode(
    task=task,
    query_labels=rows.query_labels,
    index=np.asarray(index, np.int32),
    class_ids=rows.class_ids,
    support_rows=rows.support,
    query_rows=rows.query,
  )


def padded(
  source: source_lib.Source, index: int, shape: padding.Shape
) -> types.Episode:
  """Episode `index` of a source, padded to a shape."""
  made = of_rows(source.dataset, source.rows(index), index)
  return padding.pad(made, shape)


@dataclasses.dataclass(frozen=True)
class Request:
  """A batch to be made, of episodes that are padded to one shape."""

  indices: Sequence[int]
  shape: padding.Shape


def requests(
  source: source_lib.Source, num_episodes: int, batch_size: int
) -> list[Request]:
  """Batches of episodes 0 to num_episodes - 1, each of one shape.

  Episodes of a shape stay in order; batches are sorted by their first episode.
  """
  shapes = source.shapes
  members: dict[padding.Shape, list[int]] = {shape: [] for shape in shapes}
  for index in range(num_episodes):
    shape = (
      shapes[0]
      if len(shapes) == 1
      else padding.fitting(shapes, *source.sizes(index))
    )
    members[shape].append(index)
  made = [
    Request(indices[start : start + batch_size], shape)
    for shape, indices in members.items()
    for start in range(0, len(indices), batch_size)
  ]
  return sorted(made, key=lambda request: request.indices[0])


def batches(
  source: source_lib.Source,
  requests: Sequence[Request],
  *,
  batch_size: int,
  rows: np.ndarray | None = None,
  embeddings: np.ndarray | None = None,
  prefetch: int = 2,
) -> Generator[Batch, None, None]:
  """Batches of episodes, drawn by a thread while the device works.

  Args:
    source: of the episodes.
    requests: the batches, each of at most `batch_size` episodes.
    batch_size: B. A shorter batch is padded with copies of its first episode
      whose mask is False, so that every batch has the same shape.
    rows: [b] integers in [0, B), the rows to draw: on several hosts, each draws
      a part of every batch. None draws all.
    embeddings: [n, P] float32 of the images of the data set, for
      `Batch.embeddings`.
    prefetch: number of batches drawn ahead.
  """
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
      for request in requests:
        if stop.is_set():
          return
        put(_stack(source, request, batch_size, rows, embeddings))
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


def _stack(source, request, batch_size, rows, embeddings) -> Batch:
  indices = request.indices
  missing = batch_size - len(indices)
  if missing < 0:
    raise types.InputError(
      f"{len(indices)} episodes do not fit a batch of {batch_size}"
    )
  filled = [*indices, *[indices[0]] * missing]
  wanted = [filled[row] for row in rows]
  made = {
    index: padded(source, index, request.shape)
    for index in dict.fromkeys(wanted)
  }
  stacked: types.Episode = jax.tree.map(
    lambda *leaves: np.stack(leaves), *[made[index] for index in wanted]
  )
  return Batch(
    stacked,
    rows < len(indices),
    None
    if embeddings is None
    else (
      np.asarray(embeddings[stacked.support_rows]),
      np.asarray(embeddings[stacked.query_rows]),
    ),
  )
