"""Decoded images as one memory-mapped array, shared between processes.

The images of all splits lie one after another in one file, so that base+val is
a part of it like any other. The file is made once per image size, from the
records, whose fingerprints are checked at the same time.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import PIL

from fsl_jax import folder_lock
from fsl_jax.data import (
  description,
  fingerprint,
  index,
  listing,
  parallel,
  pictures,
  records,
)

LIMIT_BYTES = 32 * 2**30
"""Data sets whose arrays would take more are read from their records."""

_FOLDER = "arrays"
_CHUNK = 256  # images


def num_bytes(found: description.Description, size_px: int) -> int:
  """Size of the array of all splits."""
  return sum(found.num_images.values()) * size_px**2 * 3


def sizes(found: description.Description) -> list[int]:
  """Image sizes of which there are arrays, in pixels."""
  notes = (found.folder / _FOLDER).glob("*px.json")
  return sorted(int(note.name.removesuffix("px.json")) for note in notes)


def make_usual(
  found: description.Description,
  size_px: int | None,
  progress: parallel.Progress | None = None,
) -> None:
  """Makes the array of the usual size, or only checks a very large data set.

  Args:
    found: the data set.
    size_px: the size; None is the images' own, if they share one.
    progress: called with the chunks of a split and their number; yields them.

  Raises:
    ValueError: if the records do not match the description.
    OSError: if it cannot be written.
  """
  size_px = size_px or found.square_size_px
  if size_px is not None and num_bytes(found, size_px) <= LIMIT_BYTES:
    make(found, size_px, progress)
  else:
    check(found, progress)


def make(
  found: description.Description,
  size_px: int,
  progress: parallel.Progress | None = None,
) -> None:
  """Decodes all images into the array of a size.

  Raises:
    ValueError: if the records do not match the description.
    OSError: if it cannot be written.
  """
  try:
    _make(found, size_px, progress)
  except OSError as error:
    if error.filename is not None:
      raise
    # Calls on an open file do not know its name.
    megabytes = num_bytes(found, size_px) / 1e6
    raise OSError(
      error.errno,
      f"{error.strerror or error} ({megabytes:,.0f} MB are needed)",
      os.fspath(found.folder / _FOLDER),
    ) from error


def _make(
  found: description.Description,
  size_px: int,
  progress: parallel.Progress | None,
) -> None:
  shape = (sum(found.num_images.values()), size_px, size_px, 3)
  with folder_lock.working_folder(found.folder / _FOLDER) as place:
    path = place / "array.npy"
    start, digests = 0, {}
    with _new_array(path, shape) as (file, offset, row_bytes):
      for split in listing.SPLITS:
        stop = start + found.num_images[split]
        at = offset + start * row_bytes
        part = _Part(file.fileno(), at, row_bytes)
        decode(found, split, size_px, part, progress)
        digests[split] = _digest(file, at, offset + stop * row_bytes)
        start = stop
    array_path, note_path = _paths(found, size_px)
    note = place / "note.json"
    note.write_text(
      json.dumps({"fingerprint": found.fingerprint, "sha256": digests})
    )
    os.replace(path, array_path)
    # Last: an array without its note does not count.
    os.replace(note, note_path)


def open_array(
  found: description.Description, splits: list[str], size_px: int
) -> np.ndarray | None:
  """[n, size_px, size_px, 3] uint8 of neighbouring splits, read-only.

  Args:
    found: the data set.
    splits: in the order of `listing.SPLITS`.
    size_px: height and width.

  Returns:
    A view of the file, or None if it is not made.

  Raises:
    ValueError: if the file has changed since it was made.
  """
  array_path, note_path = _paths(found, size_px)
  try:
    note = json.loads(note_path.read_text())
    array = np.load(array_path, mmap_mode="r")
  except FileNotFoundError:
    return None
  if note["fingerprint"] != found.fingerprint:
    return None
  total = sum(found.num_images.values())
  if array.shape != (total, size_px, size_px, 3) or array.dtype != np.uint8:
    raise ValueError(f"{array_path.name} holds {array.shape} {array.dtype}")
  bounds = np.cumsum([0, *(found.num_images[s] for s in listing.SPLITS)])
  places = (array.offset + array[0].nbytes * bounds).tolist()
  with open(array_path, "rb") as file:
    for i, split in enumerate(listing.SPLITS):
      if (
        split in splits
        and _digest(file, *places[i : i + 2]) != note["sha256"][split]
      ):
        raise ValueError(f"{array_path.name} has changed since it was made")
  first = listing.SPLITS.index(splits[0])
  last = listing.SPLITS.index(splits[-1])
  # A plain array over the mapping: nothing is copied.
  return np.asarray(array[bounds[first] : bounds[last + 1]])


class _Images(Protocol):
  """Images that are written by their rows, such as an array."""

  def __setitem__(self, rows: Any, images: Any) -> None: ...


def decode(
  found: description.Description,
  split: str,
  size_px: int | None,
  out: _Images | None,
  progress: parallel.Progress | None = None,
) -> np.ndarray:
  """Decodes a split, in parallel, and checks its fingerprint.

  Args:
    found: the data set.
    split: which.
    size_px: height and width to resize to.
    out: [n, size_px, size_px, 3] uint8, written in the order of the rows; None
      only checks.
    progress: called with the chunks of the split and their number.

  Returns:
    [n] uint64, as `index.write` takes them, of each record.

  Raises:
    ValueError: if the fingerprint differs from the stored one, or the index is
      not the order of these images.
  """
  n = found.num_images[split]
  source = records.of(found, split)
  order = index.read(source)
  row_of = np.empty(n, np.int64)
  row_of[order.positions] = np.arange(n)
  names = found.class_names[split]
  accumulator = fingerprint.Accumulator()
  found_digests = np.empty(n, np.uint64)

  def chunks() -> Iterator[_Chunk]:
    for start in range(0, n, _CHUNK):
      stop = min(start + _CHUNK, n)
      yield _Chunk(source, start, stop, size_px, out is not None)

  decoded: Iterable[Any] = parallel.ordered(
    _decode_chunk, chunks(), workers=parallel.num_workers(n)
  )
  if progress is not None:
    decoded = progress(decoded, -(-n // _CHUNK))
  for chunk, (pixels, labels, digests) in decoded:
    rows = row_of[chunk.start : chunk.stop]
    if not np.array_equal(labels, order.class_ids[rows]):
      raise ValueError(f"index of split {split} is of other records")
    for i, (label, digest) in enumerate(zip(labels, digests, strict=True)):
      accumulator.add(names[label], digest)
      found_digests[chunk.start + i] = int.from_bytes(digest[:8], "big")
    if out is not None:
      out[rows] = pixels
  actual = accumulator.hexdigest(names)
  if actual != found.fingerprints[split]:
    made, now = found.made_with.get("pillow"), PIL.__version__
    other = (
      "" if made == now else f" (made with Pillow {made}, read with {now})"
    )
    raise ValueError(
      f"fingerprint of split {split} is {actual[:12]}, expected "
      f"{found.fingerprints[split][:12]}{other}"
    )
  return found_digests


def check(
  found: description.Description, progress: parallel.Progress | None = None
) -> dict[str, np.ndarray]:
  """Decodes every record and compares the fingerprints.

  Returns:
    By split that has images, what `decode` gives.

  Raises:
    ValueError: if one differs.
  """
  digests = {
    split: decode(found, split, None, None, progress)
    for split in listing.SPLITS
  }
  return {split: of for split, of in digests.items() if found.num_images[split]}


class _Chunk(NamedTuple):
  """Neighbouring records that a worker process decodes."""

  source: records.Records
  start: int
  stop: int
  size_px: int | None
  wants_pixels: bool


def _decode_chunk(
  chunk: _Chunk,
) -> tuple[np.ndarray | None, list[int], list[bytes]]:
  rows = chunk.source.read(range(chunk.start, chunk.stop))
  rule = pictures.Rule(chunk.size_px)
  images, digests = [], []
  for row in rows:
    picture = pictures.decode(row.encoded)
    digests.append(fingerprint.of_image(np.asarray(picture)))
    if chunk.wants_pixels:
      images.append(np.asarray(pictures.fit(picture, rule)))
  pixels = np.stack(images) if images else None
  return pixels, [row.label for row in rows], digests


def _paths(
  found: description.Description, size_px: int
) -> tuple[pathlib.Path, pathlib.Path]:
  folder = found.folder / _FOLDER
  return folder / f"{size_px}px.npy", folder / f"{size_px}px.json"


@contextlib.contextmanager
def _new_array(
  path: pathlib.Path, shape: tuple[int, ...]
) -> Iterator[tuple[BinaryIO, int, int]]:
  """A new .npy file of uint8, to be written in any order of its rows.

  It is not mapped: pages of a mapping would count as memory of the process
  until the whole array is in it.

  Yields:
    The unbuffered file, the position of its first row, and the bytes of a row.
  """
  array = np.lib.format.open_memmap(
    path, mode="w+", dtype=np.uint8, shape=shape
  )
  offset = array.offset
  del array
  with open(path, "r+b", buffering=0) as file:
    if hasattr(os, "posix_fallocate"):  # not on macOS
      # A full disk is found now and not after the decoding.
      os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    yield file, offset, int(np.prod(shape[1:]))


class _Part(NamedTuple):
  """Neighbouring rows of the file of an array."""

  handle: int
  offset: int
  row_bytes: int

  def __setitem__(self, rows: np.ndarray, images: np.ndarray) -> None:
    for row, image in zip(rows, images, strict=True):
      place = self.offset + int(row) * self.row_bytes
      if os.pwrite(self.handle, image.data, place) < self.row_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _digest(file: BinaryIO, start: int, stop: int) -> str:
  """SHA-256 of some bytes of a file, read and not mapped."""
  hasher = hashlib.sha256()
  file.seek(start)
  while start < stop:
    data = file.read(min(2**20, stop - start))
    if not data:
      raise ValueError(f"{file.name} is cut short")
    hasher.update(data)
    start += len(data)
  return hasher.hexdigest()
