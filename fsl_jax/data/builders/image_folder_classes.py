"""Class folders and tables of labels: their images, and what may be wrong."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fsl_jax import types
from fsl_jax.data import kinds, listing
from fsl_jax.data.builders import image_labels
from fsl_jax.data.containers import tree

_PICTURES = (
  *("apng", "avif", "bmp", "dib", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg"),
  *("jpg", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff"),
  "webp",
)
_NO_PICTURES = (
  *("cfg", "csv", "db", "doc", "docx", "htm", "html", "ini", "ipynb", "json"),
  *("jsonl", "log", "lnk", "m", "mat", "md", "npy", "npz", "pdf", "pickle"),
  *("pkl", "py", "rst", "sh", "toml", "tsv", "txt", "url", "xls", "xlsx"),
  *("xml", "yaml", "yml"),
)
# Files of cameras and editors beside an image; some hold a small copy of it.
_SIDECARS = ("aae", "dop", "pp3", "thm", "xmp")
_NO_PICTURE_NAMES = ("authors", "copying", "icon\r", "license", "readme")

LAYOUT = (
  "expected one folder per class with its images in it (CLASS/IMAGE.jpg), "
  "or folders base, val and novel (or train, val and test) of such folders, or "
  f"images beside {image_labels.COLUMNS}"
)


class Class(NamedTuple):
  """A class and its images."""

  split: str  # "" if the folders do not define it
  folders: tuple[str, ...]  # all images below them
  files: tuple[str, ...]  # and these
  num_images: int

  def pictures(self, place: tree.Tree) -> Iterator[tree.File]:
    """Its files, in a fixed order."""
    for folder in self.folders:
      for file in place.walk(folder):
        if kinds.is_readable(kind_of(file)):
          yield file
    for name in self.files:
      found = place.get(name)
      if found is not None:
        yield found


class Found(NamedTuple):
  """All classes of a source."""

  classes: dict[str, Class]
  left_out: list[str]  # files that are not images, and why
  root: str  # folder that names of files are relative to


def is_picture(base: str) -> bool:
  """Whether a file of this name is taken for an image."""
  return ending(base) in _PICTURES


def is_no_picture(base: str) -> bool:
  """Whether a file of this name is taken for something else."""
  return (
    ending(base) in (*_NO_PICTURES, *_SIDECARS)
    or base.lower() in _NO_PICTURE_NAMES
  )


def kind_of(file: tree.File) -> str:
  """The kind of a file, see `kinds.of`; "" for files that go with images.

  Endings of images are trusted until they are decoded; all other files are
  opened, because images have other endings too, or none.
  """
  if is_picture(file.base):
    return kinds.PICTURE
  if ending(file.base) in _SIDECARS:
    return ""
  kind = kinds.of(file.base, tree.head(file.where, kinds.NUM_BYTES))
  if is_no_picture(file.base) and kind not in (kinds.PICTURE, kinds.HEIC):
    return ""
  return kind


def find(
  place: tree.Tree,
  parents: Mapping[str, str],
  *,
  tables: Mapping[str, tree.File],
  join: bool = False,
  skip: bool = False,
) -> Found:
  """All classes by name, their images counted.

  Args:
    place: where.
    parents: folders of class folders or of images with a table, with the
      split that they stand for.
    tables: by parent, where images lie in no class folders.
    join: whether several of `parents` may have the same classes.
    skip: whether files that are not images, or cannot be read, are left out.

  Raises:
    InputError: naming all folders and files that are not as expected.
  """
  search = _Search(place, join)
  root = ""
  for parent, split in parents.items():
    if parent in tables:
      read = search.table(tables[parent], parent, split)
      root = read if len(parents) == 1 else ""
    else:
      search.class_folders(parent, split)
  search.refuse(skip)
  return Found(search.classes, search.left_out(), root)


class _Search:
  """The classes found so far, and what is wrong with them."""

  def __init__(self, place: tree.Tree, join: bool):
    self._place, self._join = place, join
    self.classes: dict[str, Class] = {}
    # Folder of each class, by its name without case and Unicode form.
    self._of_key: dict[str, str] = {}
    self._no_pictures: dict[str, list[str]] = {}  # files by kind
    self._empty: list[str] = []  # folders
    self._missing: list[str] = []  # files of tables
    self._shared: dict[str, str] = {}  # classes of several splits, and a folder
    self._deep: dict[str, list[str]] = {}  # folders of images, by class folder
    self._problems: list[str] = []

  def table(self, table: tree.File, parent: str, split: str) -> str:
    """Adds the classes of a table; returns the folder of its files."""
    read = image_labels.read(self._place, table, parent)
    self._missing += [tree.join(read.root, name) for name in read.missing]
    for name, names in read.names.items():
      files = tuple(tree.join(read.root, file) for file in names)
      self._add(
        name, tree.join(parent, name), Class(split, (), files, len(files))
      )
    return read.root

  def class_folders(self, parent: str, split: str) -> None:
    """Adds the class folders of a folder."""
    folders = self._place.folders(parent)
    if not folders:
      self._problems.append(f"{self._place.path / parent} has no class folders")
    for base in folders:
      folder = tree.join(parent, base)
      count = self._count(folder)
      if count:
        name = unicodedata.normalize("NFC", base)
        self._add(name, folder, Class(split, (folder,), (), count))
      else:
        self._empty.append(folder)

  def _count(self, folder: str) -> int:
    """Number of images below a class folder, which may not be a class."""
    count, own = 0, 0
    below = set()  # folders with images
    for file in self._place.walk(folder):
      kind = kind_of(file)
      if kinds.is_readable(kind):
        count += 1
        if (within := _above(file.name)) == folder:
          own += 1
        else:
          below.add(within)
      elif kind:
        self._no_pictures.setdefault(kind, []).append(file.name)
    # With most of its images in several folders below, this may be a folder of
    # classes, such as animals/cat and animals/dog; an image or two beside these
    # prove nothing. Each folder is tested by itself, since it may be the only
    # one among true classes. Images of a single folder (CLASS/images) are the
    # same class at either level.
    if len(below) > 1 and own < count - own:
      self._deep[folder] = sorted(below)
    return count

  def _add(self, name: str, folder: str, more: Class) -> None:
    """Adds images to a class, unless another one has nearly its name."""
    other = self._of_key.setdefault(_key(name), folder)
    same_parent = _above(other) == _above(folder)
    if not same_parent and not self._join:
      self._shared[folder] = other
      return
    same_name = unicodedata.normalize("NFC", _base(other)) == name
    if other != folder and (same_parent or not same_name):
      self._problems.append(
        f"{other!a} and {folder!a} differ only in case or Unicode form"
      )
      return
    before = self.classes.get(name, Class(more.split, (), (), 0))
    self.classes[name] = Class(
      before.split,
      (*before.folders, *more.folders),
      (*before.files, *more.files),
      before.num_images + more.num_images,
    )

  def left_out(self) -> list[str]:
    """Files and folders that hold no image, and why."""
    return [
      *(
        f"{name}: {kinds.remedy(kind)}"
        for kind, names in self._no_pictures.items()
        for name in names
      ),
      *(f"{folder}: a class folder without an image" for folder in self._empty),
      *(f"{name}: there is no such file" for name in self._missing),
    ]

  def refuse(self, skip: bool) -> None:
    """Raises InputError, naming all problems, if there are any."""
    problems = []
    if self._shared:
      problems.append(_in_several(self._place, self._shared))
    if self._deep:
      problems.append(_too_deep(self._place, self._deep))
    if self._problems:
      problems.append(f"{listing.shorten(self._problems)}; {LAYOUT}")
    if not skip and (said := self._describe_left_out()):
      problems.append(
        f"{'; '.join(said)}; skip_bad=True leaves out what cannot be read"
      )
    if problems:
      raise types.InputError(
        f"{self._place.path} cannot be used: {'; '.join(problems)}"
      )

  def _describe_left_out(self) -> list[str]:
    """Clauses on files that are not images, by their kind."""
    said = [
      f"{len(names)} of its files: {kinds.remedy(kind)} ({_some(names)})"
      for kind, names in self._no_pictures.items()
    ]
    if self._empty:
      one = len(self._empty) == 1
      what = "class folder has" if one else "class folders have"
      said.append(f"{len(self._empty)} {what} no image ({_some(self._empty)})")
    if self._missing:
      said.append(
        f"{len(self._missing)} files of a table are not there "
        f"({_some(self._missing)})"
      )
    return said


def _in_several(place: tree.Tree, shared: Mapping[str, str]) -> str:
  """A clause on classes that are in the folders of several splits."""
  folders = list(dict.fromkeys(map(_above, (*shared.values(), *shared))))
  names = sorted({_base(folder) for folder in shared})
  what = "class is" if len(names) == 1 else "classes are"
  return (
    f"{len(names)} {what} in more than one of the folders "
    f"{', '.join(map(_base, folders))} ({_some(names)}); few-shot splits share "
    f"no class: {_point(place)} one of them, or give same_classes=True to draw "
    "support and queries from different ones"
  )


def _too_deep(place: tree.Tree, deep: Mapping[str, list[str]]) -> str:
  """A clause on folders that may hold classes, and what to give instead."""
  shown, candidates = [], []
  for folder, within in deep.items():
    shown.append(f"{folder} has {_some([_base(name) for name in within])}")
    above = [_above(name) for name in within]
    several = sorted({name for name in above if above.count(name) > 1})
    candidates += [str(place.path / name) for name in several or [folder]]
  return (
    "images lie deeper than in one folder per class "
    f"({_some(shown, '; ')}): {_point(place)} the folder that holds the "
    f"classes ({_some(candidates)}), or put the images directly into the "
    "folders of their classes"
  )


def _point(place: tree.Tree) -> str:
  first = "" if place.kind == "folder" else f"unpack the {place.kind} and "
  return f"{first}point source at"


def _some(names: list[str], separator: str = ", ", limit: int = 5) -> str:
  shown = separator.join(names[:limit])
  more = len(names) - limit
  return shown + (f"{separator}and {more} more" if more > 0 else "")


def _above(name: str) -> str:
  return name.rpartition("/")[0]


def _base(name: str) -> str:
  return name.rpartition("/")[2]


def _key(name: str) -> str:
  return unicodedata.normalize("NFC", name.casefold())


def ending(base: str) -> str:
  """What follows the last dot of a name, in lower case."""
  return base.rpartition(".")[2].lower() if "." in base else ""
