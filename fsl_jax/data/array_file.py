"""Arrays on disk, written in any order of their rows, in constant memory."""

import errno
import hashlib
import os
import pathlib
from typing import BinaryIO, NamedTuple

import numpy as np


class ArrayFile:
  """An .npy file of images that is written in any order of its rows.

  Not through a mapping, whose pages would count as memory of the process until
  the whole array is in it.
  """

  def __init__(self, path: pathlib.Path, shape: tuple[int, ...]):
    array = np.lib.format.open_memmap(
      path, mode="w+", dtype=np.uint8, shape=shape
    )
    self._offset = array.offset
    self._row_bytes = int(np.prod(shape[1:]))
    del array
    if hasattr(os, "posix_fallocate"):  # not on macOS
      # A full disk is found now and not after the decoding.
      with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    self._file = open(path, "r+b", buffering=0)  # noqa: SIM115

  def __enter__(self) -> "ArrayFile":
    return self

  def __exit__(self, *error: object) -> None:
    self._file.close()

  def part(self, first: int) -> "Part":
    """Rows from `first` on, to be assigned to like an array."""
    return Part(
      self._file.fileno(),
      self._offset + first * self._row_bytes,
      self._row_bytes,
    )

  def digest(self, first: int, stop: int) -> str:
    """SHA-256 of some rows."""
    start, end = (self._offset + i * self._row_bytes for i in (first, stop))
    return digest(self._file, start, end)


class Part(NamedTuple):
  """Neighbouring rows of an `ArrayFile`."""

  handle: int
  offset: int
  row_bytes: int

  def __setitem__(self, rows: np.ndarray, images: np.ndarray) -> None:
    for row, image in zip(rows, images, strict=True):
      place = self.offset + int(row) * self.row_bytes
      if os.pwrite(self.handle, image.data, place) < self.row_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def digest(file: BinaryIO, start: int, stop: int) -> str:
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
