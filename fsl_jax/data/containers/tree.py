"""One interface to folders and to tar and zip archives, read in place.

A compressed tar is decompressed to one file in the scratch folder, so that its
members can be read in any order; nothing else is unpacked.
"""

import array
import bisect
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import archives

File = archives.File
head = archives.head
read = archives.read
tar_files = archives.tar_files


def join(folder: str, name: str) -> str:
  """The name of a file or folder in a folder; "" is the topmost one."""
  return f"{folder}/{name}" if folder else name


class Tree:
  """The files below a path; archives are indexed at once, folders on demand.

  Names in a folder are sorted by code point. Hidden files and folders, whose
  names begin with a dot, are left out, and so is `__MACOSX`.

  Attributes:
    path: the folder or archive.
    kind: "folder", "tar archive" or "zip archive".
  """

  def __init__(
    self, path: pathlib.Path, kind: str, files: Iterable[File] | None = None
  ):
    self.path = path
    self.kind = kind
    self._index = None if files is None else _Index(files)

  def folders(self, folder: str = "") -> list[str]:
    """Names of the folders in a folder, sorted."""
    if self._index is not None:
      return self._index.folders(folder)
    return self._scan(folder)[0]

  def files(self, folder: str = "") -> list[File]:
    """Files in a folder, sorted by name."""
    if self._index is not None:
      return self._index.files(folder)
    return self._scan(folder)[1]

  def walk(self, folder: str = "") -> Iterator[File]:
    """All files below a folder.

    Links to folders are followed, except to a folder that contains them.
    """
    return self._walk(folder, ())

  def top_down(
    self,
    depth: int,
    enter: Callable[[list[str]], list[str]] = lambda names: names,
  ) -> Iterator[str]:
    """Folders breadth-first, beginning with the topmost.

    Args:
      depth: number of levels below the topmost folder.
      enter: of the names of the folders in a folder, those that are entered.
    """
    level = [""]
    for _ in range(depth + 1):
      below = []
      for folder in level:
        yield folder
        below += [join(folder, n) for n in enter(self.folders(folder))]
      level = below

  def get(self, name: str) -> File | None:
    """A file by its name, or None."""
    if self._index is not None:
      return self._index.get(name)
    path = self.path / name
    if archives.is_hidden(name) or not path.is_file():
      return None
    where = listing.FileRange(os.fspath(path))
    return File(name, path.stat().st_size, where)

  def _walk(
    self, folder: str, parents: tuple[tuple[int, int], ...]
  ) -> Iterator[File]:
    if self._index is None:
      try:
        found = os.stat(self.path / folder)
      except (FileNotFoundError, NotADirectoryError):
        return
      this = (found.st_dev, found.st_ino)
      if this in parents:
        return
      parents = (*parents, this)
      folders, files = self._scan(folder)
    else:
      folders, files = self.folders(folder), self.files(folder)
    yield from files
    for name in folders:
      yield from self._walk(join(folder, name), parents)

  def _scan(self, folder: str) -> tuple[list[str], list[File]]:
    folders, files = [], []
    try:
      with os.scandir(self.path / folder) as found:
        for item in found:
          if archives.is_hidden(item.name):
            continue
          _check_readable(item)
          name = join(folder, item.name)
          if item.is_dir():
            folders.append(item.name)
          elif item.is_file():
            where = listing.FileRange(item.path)
            files.append(File(name, item.stat().st_size, where))
          else:
            raise types.InputError(
              f"{item.path} is a device or the like; only plain files and "
              "folders are admitted"
            )
    except (FileNotFoundError, NotADirectoryError):
      return [], []
    return sorted(folders), sorted(files)


def open_tree(
  path: str | os.PathLike[str], scratch: str | os.PathLike[str]
) -> Tree:
  """Opens a folder or an archive.

  Args:
    path: folder, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip; recognised by
      content, not by name.
    scratch: existing folder for decompressed tars.

  Raises:
    InputError: if it is missing, neither, damaged or unsafe.
  """
  path = pathlib.Path(path).expanduser()
  if path.is_dir():
    return Tree(path, "folder")
  if not path.exists():
    raise types.InputError(f"{path} does not exist")
  if not path.is_file():  # Opening a pipe would wait for its writer.
    raise types.InputError(
      f"{path} is a device or the like; expected a folder or an archive"
    )
  with archives.refuse_broken(path):
    # Tars first: one that ends with a zip file is taken for it by `zipfile`.
    if archives.is_tar(path):
      plain = archives.decompressed(path, scratch)
      return Tree(path, "tar archive", archives.tar_files(plain, shown=path))
    if _begins_as_zip(path) or zipfile.is_zipfile(path):
      return Tree(path, "zip archive", archives.zip_files(path))
  raise types.InputError(
    f"{path} is neither a folder nor a tar or zip archive; expected the data "
    "set's folder or its archive"
  )


def _begins_as_zip(path: pathlib.Path) -> bool:
  with open(path, "rb") as file:
    return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _check_readable(item: os.DirEntry[str]) -> None:
  """Refuses names and links that would silently leave out an image."""
  try:
    item.name.encode()
  except UnicodeEncodeError:
    raise types.InputError(
      f"the name of {os.fsencode(item.path)!r} is not UTF-8; rename it"
    ) from None
  if item.is_symlink() and not os.path.exists(item.path):
    raise types.InputError(
      f"{item.path} is a link to nothing; expected a file or folder"
    )


class _Folder:
  """Files of a folder of an archive, in 16 bytes each besides the name."""

  __slots__ = ("folders", "names", "offsets", "sizes")

  def __init__(self) -> None:
    self.folders: list[str] = []
    self.names: list[str] = []
    self.offsets = array.array("q")  # in the tar; -1 in a zip
    self.sizes = array.array("q")

  def sort(self) -> None:
    self.folders.sort()
    # The last of several files of one name counts, as in unpacking.
    last = {name: row for row, name in enumerate(self.names)}
    self.names = sorted(last)
    rows = [last[name] for name in self.names]
    self.offsets = array.array("q", (self.offsets[row] for row in rows))
    self.sizes = array.array("q", (self.sizes[row] for row in rows))


class _Index:
  """The folders of an archive, which need not be listed in it."""

  def __init__(self, files: Iterable[File]) -> None:
    self._path = ""
    self._folders = {"": _Folder()}
    # Names that differ in a zip file: backslashes, unmarked UTF-8.
    self._zip_names: dict[str, str] = {}
    for file in files:
      parent, _, base = file.name.rpartition("/")
      folder = self._folder(parent)
      self._path = file.where.path
      folder.names.append(base)
      folder.sizes.append(file.size)
      if isinstance(file.where, listing.ZipMember):
        folder.offsets.append(-1)
        if file.where.name != file.name:
          self._zip_names[file.name] = file.where.name
        else:
          self._zip_names.pop(file.name, None)
      else:
        folder.offsets.append(file.where.offset)
    for folder in self._folders.values():
      folder.sort()

  def folders(self, folder: str) -> list[str]:
    found = self._folders.get(folder)
    return list(found.folders) if found else []

  def files(self, folder: str) -> list[File]:
    found = self._folders.get(folder)
    if found is None:
      return []
    return [self._file(folder, found, row) for row in range(len(found.names))]

  def get(self, name: str) -> File | None:
    parent, _, base = name.rpartition("/")
    found = self._folders.get(parent)
    if found is None:
      return None
    row = bisect.bisect_left(found.names, base)
    if row == len(found.names) or found.names[row] != base:
      return None
    return self._file(parent, found, row)

  def _file(self, parent: str, folder: _Folder, row: int) -> File:
    name, size = join(parent, folder.names[row]), folder.sizes[row]
    offset = folder.offsets[row]
    if offset >= 0:
      return File(name, size, listing.FileRange(self._path, offset, size))
    original = self._zip_names.get(name, name)
    return File(name, size, listing.ZipMember(self._path, original))

  def _folder(self, name: str) -> _Folder:
    found = self._folders.get(name)
    if found is None:
      parent, _, base = name.rpartition("/")
      self._folder(parent).folders.append(base)
      found = self._folders[name] = _Folder()
    return found
