"""Files of a tree opened for reading piece by piece."""

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from fsl_jax.data import listing
from fsl_jax.data.containers import archives


@contextlib.contextmanager
def open_binary(
  where: listing.FileRange | listing.ZipMember,
) -> Iterator[tuple[BinaryIO, int]]:
  """Opens a file that may lie within an archive; nothing is unpacked.

  Args:
    where: a file, a range of one, or a member of a zip archive.

  Yields:
    A binary file that can be read and sought in, and its size in bytes.

  Raises:
    InputError: if the archive is damaged.
  """
  with contextlib.ExitStack() as stack:
    if isinstance(where, listing.ZipMember):
      with archives.refuse_broken(where.path):
        archive = stack.enter_context(zipfile.ZipFile(where.path))
        member = stack.enter_context(archive.open(where.name))
        size = archive.getinfo(where.name).file_size
      yield cast(BinaryIO, member), size
      return
    file = stack.enter_context(open(where.path, "rb"))
    size = os.fstat(file.fileno()).st_size - where.offset
    if where.offset == 0 and where.size in (-1, size):
      yield file, size
    else:
      size = size if where.size < 0 else min(size, where.size)
      part = io.BufferedReader(_Range(file, where.offset, size))
      yield cast(BinaryIO, part), size


class _Range(io.RawIOBase):
  """A range of a file as if it were a file."""

  def __init__(self, file: BinaryIO, start: int, size: int):
    self._file, self._start, self._size, self._at = file, start, size, 0

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
    base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
    self._at = max(0, base[whence] + offset)
    return self._at

  def readinto(self, buffer: Any) -> int:
    size = min(len(buffer), max(0, self._size - self._at))
    self._file.seek(self._start + self._at)
    data = self._file.read(size)
    buffer[: len(data)] = data
    self._at += len(data)
    return len(data)
