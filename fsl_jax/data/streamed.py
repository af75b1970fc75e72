"""Images that stay on disk and are decoded when they are indexed."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fsl_jax import types
from fsl_jax.data import index, parallel, pictures, records


class _Rows:
  """Rows of several splits of one data set, one split after another.

  It is pickled as the names of its files.
  """

  def __init__(self, parts: Sequence[records.Records]):
    self._parts = tuple(parts)
    self._starts = np.cumsum([0, *(part.num_images for part in parts)])

  def __len__(self) -> int:
    return int(self._starts[-1])

  def _read(
    self, rows: np.ndarray
  ) -> Iterator[tuple[int, records.Records, records.Record]]:
    """Position in `rows`, split and record, for [n] int64 in [0, len)."""
    part_of = np.searchsorted(self._starts, rows, side="right") - 1
    for i in np.unique(part_of):
      part, places = self._parts[i], np.flatnonzero(part_of == i)
      with _refuse_damage(part):
        positions = _order(part).positions[rows[places] - self._starts[i]]
        found = part.read(positions)
      for place, record in zip(places, found, strict=True):
        yield int(place), part, record


class StreamedImages(_Rows):
  """[n, H, W, 3] uint8 in [0, 255], like an array, but on disk.

  Indexing with rows decodes those images, in this process.

  Args:
    parts: splits of one data set; their rows follow each other.
    image_size_px: H = W, to which images are resized (antialiased bilinear).
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(self, parts: Sequence[records.Records], image_size_px: int):
    super().__init__(parts)
    self._size_px = image_size_px

  @property
  def shape(self) -> tuple[int, int, int, int]:
    return (len(self), self._size_px, self._size_px, 3)

  def __getitem__(self, rows: Any) -> np.ndarray:
    """Images of a row, a slice or an array of rows, decoded."""
    if isinstance(rows, tuple):
      raise IndexError("images are indexed with rows only, pixels afterwards")
    chosen = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
    chosen = np.asarray(chosen)
    if chosen.dtype == bool and chosen.shape == (len(self),):
      chosen = np.flatnonzero(chosen)
    if chosen.size and chosen.dtype.kind not in "iu":
      raise IndexError(
        "images are indexed with a row, a slice, or an array of rows or of one "
        f"bool per image, got {chosen.dtype} {list(chosen.shape)}"
      )
    flat = chosen.reshape(-1).astype(np.int64)
    if flat.size and not -len(self) <= flat.min() <= flat.max() < len(self):
      raise IndexError(f"row out of range for {len(self)} images")
    images = np.empty((flat.size, *self.shape[1:]), np.uint8)
    rule = pictures.Rule(self._size_px)
    rows = np.where(flat < 0, flat + len(self), flat)
    for place, part, record in self._read(rows):
      with _refuse_damage(part, f"image {record.id!r} of "):
        picture = pictures.decode(record.encoded)
      images[place] = np.asarray(pictures.fit(picture, rule))
    return images.reshape(*chosen.shape, *self.shape[1:])


class RecordIds(_Rows, Sequence[str]):
  """Ids of the images of splits, read when they are indexed."""

  def __getitem__(self, row: Any) -> Any:
    if isinstance(row, slice):
      return tuple(self[i] for i in range(*row.indices(len(self))))
    if not -len(self) <= row < len(self):
      raise IndexError(f"row {row} out of range for {len(self)} images")
    ((_, _, record),) = self._read(np.asarray([row % len(self)]))
    return record.id


@functools.lru_cache(maxsize=8)
def _order(part: records.Records) -> index.Index:
  records.check(part)
  return index.read(part)


@contextlib.contextmanager
def _refuse_damage(part: records.Records, what: str = "") -> Iterator[None]:
  """Turns exceptions of reading damaged files into InputError."""
  try:
    yield
  except types.InputError:
    raise
  except Exception as error:
    raise types.InputError(
      f"{what}split {part.split} of the data set in {part.folder} is damaged "
      f"({type(error).__name__}: {error}); make it again with "
      "overwrite=True"
    ) from error


def batches(
  dataset: types.ClassIndexed,
  rows: np.ndarray,
  *,
  workers: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Batches of images in a given order, decoded ahead by worker processes.

  Args:
    dataset: whose images may be streamed or an array.
    rows: [steps, B] integers: the images of each batch. To start in the middle
      of an epoch, pass the rest of it; a host of several passes its columns.
    workers: processes; None is one per core, 0 decodes in this process.

  Yields:
    images [B, H, W, 3] uint8, labels [B] int32.
  """
  if isinstance(dataset.images, np.ndarray):
    workers = 0
  elif workers is None:
    workers = parallel.one_per_core()
  tasks = ((dataset.images, batch) for batch in rows)
  for (_, batch), images in parallel.ordered(_take, tasks, workers=workers):
    yield images, np.asarray(dataset.class_ids[batch])


def _take(task: tuple[Any, np.ndarray]) -> np.ndarray:
  images, rows = task
  return images[rows]
