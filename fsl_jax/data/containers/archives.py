"""Tar and zip archives, listed by their headers and read in place.

No archive can write anywhere, since nothing is unpacked. One that holds links,
devices or names that lead outside of it is refused nevertheless.
"""

import bz2
import contextlib
import errno
import functools
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import re
import stat
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from fsl_jax import types
from fsl_jax.data import listing

_OPENERS: dict[bytes, Any] = {
  b"\x1f\x8b": gzip.open,
  b"BZh": bz2.open,
  b"\xfd7zXZ\0": lzma.open,
}

_BLOCK = 512  # bytes of a tar header
# With the other methods ZipFile decompresses all that is available at once,
# however little was asked for: a hundred bytes of bzip2 may be gigabytes.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What the readers of the standard library raise for damaged archives.
_BROKEN = (
  *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
  *(struct.error, EOFError, LookupError, OverflowError),
  MemoryError,  # of absurd sizes
  NotImplementedError,  # of zip methods
  RuntimeError,  # of encrypted zip members
  ValueError,  # of numbers, text and positions
)

_UTF8_FLAG = 0x800  # of zip members
_ENCRYPTED_FLAG = 0x1
_SPECIAL_FILES = (
  *(stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK),
)
_DRIVE = re.compile("[A-Za-z]:")  # of Windows

_lock = threading.Lock()

Where = listing.FileRange | listing.ZipMember


class File(NamedTuple):
  """A file of a folder or archive."""

  name: str  # "/" between the parts, relative to the folder or archive
  size: int  # bytes
  where: Where

  @property
  def base(self) -> str:
    """The last part of the name."""
    return self.name.rpartition("/")[2]


def safe_name(name: str, archive: str) -> str:
  """The name of a member with "/" between its parts, "." if it has none.

  Args:
    name: as it stands in the archive.
    archive: for the message.

  Raises:
    InputError: if it leads outside of the archive.
  """
  try:
    name.encode()
  except UnicodeEncodeError:  # Old tars do not record how names are encoded.
    name = name.encode("utf-8", "surrogateescape").decode("latin-1")
  # Without pathlib, which from Python 3.12 on never frees the parts.
  whole = name.replace("\\", "/")
  parts = [part for part in whole.split("/") if part not in ("", ".")]
  path = "/".join(parts)
  if whole.startswith("/") or ".." in parts or _DRIVE.match(path):
    raise types.InputError(
      f"the archive {archive} holds {name!r}, which leads outside of it"
    )
  return path or "."


def is_hidden(name: str) -> bool:
  """Whether a file, or a folder that it lies in, is not a part of the data."""
  return any(
    part.startswith(".") or part == "__MACOSX" for part in name.split("/")
  )


@contextlib.contextmanager
def refuse_broken(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns exceptions that readers of damaged archives raise into InputError."""
  try:
    yield
  except types.InputError:
    raise
  except (*_BROKEN, OSError) as error:
    # Decompressors and seeks before the start raise these; all other errors of
    # the operating system do not come from the archive.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
      raise
    raise types.InputError(
      f"the archive {os.fspath(path)} is damaged or cut short: "
      f"{type(error).__name__}: {error}"
    ) from error


@contextlib.contextmanager
def open_binary(where: Where) -> Iterator[tuple[BinaryIO, int]]:
  """Opens a file that may lie in an archive, from any thread or process.

  Args:
    where: a file, a range of one, or a member of a zip archive.

  Yields:
    A binary file that can be read and sought in, and its size in bytes, of a
    range that of what is there.

  Raises:
    InputError: if the archive is damaged.
  """
  if isinstance(where, listing.ZipMember):
    with refuse_broken(where.path):
      archive = _zip(where.path)
      with _lock:  # ZipFile counts its readers without one.
        member = archive.open(where.name)
      with member:
        size = archive.getinfo(where.name).file_size
        yield cast(BinaryIO, member), size
    return
  with open(where.path, "rb") as file:
    size = os.fstat(file.fileno()).st_size - where.offset
    if where.offset == 0 and where.size in (-1, size):
      yield file, size
    else:
      size = size if where.size < 0 else min(size, where.size)
      part = io.BufferedReader(_Range(file, where.offset, size))
      yield cast(BinaryIO, part), size


class _Range(io.RawIOBase):
  """A range of a file as a file of its own."""

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


def read(where: Where, limit: int | None = None) -> bytes:
  """The bytes of a file of a folder or archive.

  Args:
    where: the file.
    limit: largest number of bytes that is admitted; None admits any.

  Raises:
    InputError: if the archive is damaged, the file cut short or larger.
  """
  most = -1 if limit is None else limit + 1
  with open_binary(where) as (file, size):
    if isinstance(where, listing.FileRange):
      # Memory for as many bytes is allocated before they are read.
      most = size if limit is None else min(most, size)
    data = file.read(most)
  if isinstance(where, listing.FileRange) and len(data) < (
    where.size if limit is None else min(where.size, limit + 1)
  ):
    raise types.InputError(f"{where.path} is cut short")
  if limit is not None and len(data) > limit:
    raise types.InputError(f"the file has more than {limit / 2**20:g} MiB")
  return data


def head(where: Where, num_bytes: int) -> bytes:
  """The first bytes of a file, or all of a shorter one.

  Raises:
    InputError: if the archive is damaged.
  """
  with open_binary(where) as (file, _):
    return file.read(num_bytes)


def is_tar(path: str | os.PathLike[str]) -> bool:
  """Whether a file, decompressed, begins as a tar does."""
  opener = _opener(path)
  with (opener or open)(path, "rb") as file:
    if _is_tar_header(file.read(_BLOCK)):
      return True
    if opener:
      file.read(1 << 20)  # Damage shows at the end of a block of bzip2 only.
  return False


def decompressed(
  path: pathlib.Path, scratch: str | os.PathLike[str]
) -> pathlib.Path:
  """A compressed tar as one file in `scratch`; others as they are.

  Members of a compressed stream could only be read in their order.
  """
  opener = _opener(path)
  if opener is None:
    return path
  # Archives of different folders may have the same name.
  key = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
  plain = pathlib.Path(scratch) / f"{key}.tar"
  if not plain.exists():
    part = plain.with_suffix(".part")
    with opener(path) as source, open(part, "wb") as target:
      while data := source.read(1 << 20):
        target.write(data)
    part.rename(plain)
  return plain


def tar_files(
  where: str | os.PathLike[str] | listing.FileRange,
  *,
  shown: str | os.PathLike[str] | None = None,
) -> Iterator[File]:
  """Files of an uncompressed tar, in its order; hidden ones left out.

  Only the headers are read, and none is kept.

  Args:
    where: the tar, or the range of a file that is one.
    shown: its name in messages.

  Raises:
    InputError: if it is damaged, or holds links, devices or unsafe names.
  """
  if not isinstance(where, listing.FileRange):
    where = listing.FileRange(os.fspath(where))
  shown = os.fspath(shown or where.path)
  with refuse_broken(shown), open(where.path, "rb") as file:
    end = os.fstat(file.fileno()).st_size
    if where.size >= 0:
      end = min(end, where.offset + where.size)
    file.seek(where.offset)
    with tarfile.open(fileobj=file, mode="r:") as tar:
      last = -1
      while (member := tar.next()) is not None:
        # The list of members would otherwise grow as long as the archive.
        tar.members.clear()  # type: ignore[attr-defined]
        if member.size < 0 or member.offset_data <= last:
          raise tarfile.ReadError("a header gives an impossible size")
        last = member.offset_data
        name = safe_name(member.name, shown)
        if member.isdir() or is_hidden(name):
          continue
        _refuse(_kind_of_tar_member(member), member.name, shown)
        if member.offset_data + member.size > end:
          raise types.InputError(
            f"the archive {shown} is cut short in {member.name!r}"
          )
        data = listing.FileRange(where.path, member.offset_data, member.size)
        yield File(name, member.size, data)
      # `next` takes a damaged header, or none, for the end.
      file.seek(tar.offset)
      if tar.offset + _BLOCK > end or any(file.read(_BLOCK)):
        raise tarfile.ReadError(f"no end mark at byte {tar.offset}")


def _refuse(kind: str, name: str, shown: str) -> None:
  """Raises InputError if a member is of a kind that is not admitted."""
  if kind:
    raise types.InputError(
      f"the archive {shown} holds {name!r}, which is {kind}; only plain files "
      "are admitted"
    )


def _kind_of_tar_member(member: tarfile.TarInfo) -> str:
  """Why a member is not admitted, or ""."""
  if member.islnk() or member.issym():
    return "a link"
  if not member.isreg():
    return "a device or the like"
  return "stored with holes (sparse)" if member.issparse() else ""


def _kind_of_zip_member(info: zipfile.ZipInfo) -> str:
  """Why a member is not admitted, or ""."""
  # The upper half of the attributes is the Unix mode.
  mode = stat.S_IFMT(info.external_attr >> 16)
  if mode in _SPECIAL_FILES:
    return "a link" if mode == stat.S_IFLNK else "a device or the like"
  if info.flag_bits & _ENCRYPTED_FLAG:
    return "encrypted"
  if info.compress_type not in _METHODS:
    return "compressed by a method other than deflate"
  return ""


def zip_files(path: str | os.PathLike[str]) -> Iterator[File]:
  """Files of a zip, in its order; hidden ones left out.

  Raises:
    InputError: if it is damaged, or holds links, devices, unsafe names, or
      members that are encrypted or neither stored nor deflated.
  """
  path = os.fspath(path)
  with refuse_broken(path), zipfile.ZipFile(path) as archive:
    for info in archive.infolist():
      name = safe_name(_zip_name(info), path)
      if info.filename.endswith(("/", "\\")) or is_hidden(name):
        continue
      _refuse(_kind_of_zip_member(info), info.filename, path)
      yield File(name, info.file_size, listing.ZipMember(path, info.filename))


def _zip_name(info: zipfile.ZipInfo) -> str:
  """The name of a member.

  Many programs write UTF-8 without the flag, and it is then read as cp437.
  """
  if info.flag_bits & _UTF8_FLAG:
    return info.filename
  try:
    return info.filename.encode("cp437").decode("utf-8")
  except UnicodeError:
    return info.filename


def _zip(path: str) -> zipfile.ZipFile:
  found = os.stat(path)
  # A replaced file must not be read by the index of the old one, and a forked
  # process must not share a position with its parent.
  key = (found.st_ino, found.st_size, found.st_mtime_ns, os.getpid())
  with _lock:
    return _open_zip(path, key)


@functools.lru_cache(maxsize=8)
def _open_zip(path: str, key: tuple[int, ...]) -> zipfile.ZipFile:
  """Opening reads the whole index, hence once."""
  del key
  return zipfile.ZipFile(path)


def _opener(path: str | os.PathLike[str]) -> Any:
  with open(path, "rb") as file:
    head = file.read(8)
  for magic, opener in _OPENERS.items():
    if head.startswith(magic):
      return opener
  return None


def _is_tar_header(head: bytes) -> bool:
  # An old tar has no magic, but every header has a checksum.
  try:
    tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
  except tarfile.TarError:
    return False
  return True
