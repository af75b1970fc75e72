"""Folders of classes and their pictures, and what can be wrong with them."""

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
# What cameras and editors put beside a picture; some hold a small copy of it.
_SIDECARS = ("aae", "dop", "pp3", "thm", "xmp")
_NO_PICTURE_NAMES = ("authors", "copying", "icon\r", "license", "readme")

LAYOUT = (
  "expected one folder per class with its pictures in it (CLASS/PICTURE.jpg), "
  "or folders base, val and novel (or train, val and test) of such folders, or "
  f"pictures beside {image_labels.COLUMNS}"
)


class Class(NamedTuple):
  """A class and its pictures."""

  split: str  # "" if the folders do not say
  folders: tuple[str, ...]  # all pictures below them
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
  """What was found."""

  classes: dict[str, Class]
  left_out: list[str]  # what is no picture, and why
  root: str  # what names of files are shown without


def is_picture(base: str) -> bool:
  """Whether a file of this name is taken for a picture."""
  return ending(base) in _PICTURES


def is_no_picture(base: str) -> bool:
  """Whether a file of this name is taken for none."""
  return (
    ending(base) in (*_NO_PICTURES, *_SIDECARS)
    or base.lower() in _NO_PICTURE_NAMES
  )


def kind_of(file: tree.File) -> str:
  """What a file is, see `kinds.of`; "" for what often lies beside pictures.

  Names of pictures are believed until they are decoded; all other files are
  opened, because pictures have other names too, or none.
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
  tables: Mapping[str, tree.File] | None = None,
  join: bool = False,
  skip: bool = False,
) -> Found:
  """All classes by name, their pictures counted.

  Args:
    place: where.
    parents: folders of class folders or of pictures with a table, with the
      split that they stand for.
    tables: by parent, where pictures lie in no class folders.
    join: whether several of `parents` may have the same classes.
    skip: whether files that are no pictures, or cannot be read, are left out.

  Raises:
    InputError: naming all folders and files that are not as expected.
  """
  classes: dict[str, Class] = {}
  no_pictures: dict[str, list[str]] = {}  # files by what they are
  empty: list[str] = []  # folders
  of_key: dict[str, str] = {}  # folder by what names must differ in
  shared: dict[str, str] = {}  # classes of several splits; a folder of each
  deep: dict[str, list[str]] = {}  # folders of pictures, by class folder
  missing: list[str] = []  # files of tables
  problems = []
  root = ""

  def add(name: str, split: str, folders=(), files=(), count: int = 0) -> None:
    before = classes.get(name, Class(split, (), (), 0))
    classes[name] = Class(
      before.split,
      (*before.folders, *folders),
      (*before.files, *files),
      before.num_images + count,
    )

  for parent, split in parents.items():
    if tables is not None and parent in tables:
      read = image_labels.read(place, tables[parent], parent)
      missing += [tree.join(read.root, name) for name in read.missing]
      root = read.root if len(parents) == 1 else ""
      for name, names in read.names.items():
        other = of_key.setdefault(_key(name), tree.join(parent, name))
        if _above(other) != parent and not join:
          shared[tree.join(parent, name)] = other
        if _base(other) != name and (join or _above(other) == parent):
          problems.append(f"{_base(other)!a} and {name!a} differ only in case")
        files = [tree.join(read.root, file) for file in names]
        add(name, split, files=files, count=len(files))
      continue
    folders = place.folders(parent)
    if not folders:
      problems.append(f"{place.path / parent} has no class folders")
    for base in folders:
      folder = tree.join(parent, base)
      name = unicodedata.normalize("NFC", base)
      other = of_key.setdefault(_key(name), folder)
      if _above(other) != parent and not join:
        shared[folder] = other
        continue
      same_name = unicodedata.normalize("NFC", _base(other)) == name
      if other != folder and (_above(other) == parent or not same_name):
        problems.append(
          f"{other!a} and {folder!a} differ only in case or Unicode form"
        )
        continue
      count, own = 0, 0
      below = set()  # folders with pictures
      for file in place.walk(folder):
        kind = kind_of(file)
        if kinds.is_readable(kind):
          count += 1
          if (within := _above(file.name)) == folder:
            own += 1
          else:
            below.add(within)
        elif kind:
          no_pictures.setdefault(kind, []).append(file.name)
      if not count:
        empty.append(folder)
        continue
      # With most of its pictures in several folders below, this may be no class
      # but what holds classes, such as animals/cat and animals/dog; a picture
      # or two beside these prove nothing. Each folder is asked by itself, since
      # one alone among true classes may be such. Pictures of a single folder
      # (CLASS/images) are the same class at either level.
      if len(below) > 1 and own < count - own:
        deep[folder] = sorted(below)
      add(name, split, folders=[folder], count=count)
  if problems:
    problems = [f"{listing.shorten(problems)}; {LAYOUT}"]
  left_out = [
    *(
      f"{name}: {kinds.remedy(kind)}"
      for kind, names in no_pictures.items()
      for name in names
    ),
    *(f"{folder}: a class folder without a picture" for folder in empty),
    *(f"{name}: there is no such file" for name in missing),
  ]
  if left_out and not skip:
    problems.append(_no_pictures(no_pictures, empty, missing))
  if deep:
    problems.insert(0, _too_deep(place, deep))
  if shared:
    problems.insert(0, _in_several(place, shared))
  if problems:
    raise types.InputError(
      f"{place.path} cannot be used: {'; '.join(problems)}"
    )
  return Found(classes, left_out, root)


def _no_pictures(
  no_pictures: Mapping[str, list[str]], empty: list[str], missing: list[str]
) -> str:
  """Says which files are no pictures, by what they are instead."""
  said = [
    f"{len(names)} of its files: {kinds.remedy(kind)} ({_some(names)})"
    for kind, names in no_pictures.items()
  ]
  if empty:
    what = "class folder has" if len(empty) == 1 else "class folders have"
    said.append(f"{len(empty)} {what} no picture ({_some(empty)})")
  if missing:
    said.append(
      f"{len(missing)} files of a table are not there ({_some(missing)})"
    )
  return f"{'; '.join(said)}; skip_bad=True leaves out what cannot be read"


def _in_several(place: tree.Tree, shared: Mapping[str, str]) -> str:
  """Says which classes are in the folders of several splits."""
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
  """Says which folders may be no classes, and what to take instead."""
  shown, candidates = [], []
  for folder, within in deep.items():
    shown.append(f"{folder} has {_some([_base(name) for name in within])}")
    above = [_above(name) for name in within]
    several = sorted({name for name in above if above.count(name) > 1})
    candidates += [str(place.path / name) for name in several or [folder]]
  return (
    "pictures lie deeper than in one folder per class "
    f"({_some(shown, '; ')}): {_point(place)} the folder that holds the "
    f"classes ({_some(candidates)}), or put the pictures directly into the "
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
