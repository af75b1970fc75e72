"""Folders of classes and their pictures, and what can be wrong with them."""

import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from fsl_jax import types
from fsl_jax.data import listing
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
_NO_PICTURE_NAMES = ("authors", "copying", "icon\r", "license", "readme")

LAYOUT = (
  "expected one folder per class with its pictures in it (CLASS/PICTURE.jpg), "
  "or folders base, val and novel (or train, val and test) of such folders"
)


class Class(NamedTuple):
  """A class and its folder."""

  split: str  # "" if the folders do not say
  folder: str
  num_images: int


def is_picture(base: str) -> bool:
  """Whether a file of this name is taken for a picture."""
  return ending(base) in _PICTURES


def is_no_picture(base: str) -> bool:
  """Whether a file of this name is surely none."""
  return ending(base) in _NO_PICTURES or base.lower() in _NO_PICTURE_NAMES


def find(place: tree.Tree, parents: Mapping[str, str]) -> dict[str, Class]:
  """All classes by name, their pictures counted.

  Args:
    place: where.
    parents: folders of class folders, with the split that they stand for.

  Raises:
    InputError: naming all folders and files that are not as expected.
  """
  classes: dict[str, Class] = {}
  of_key: dict[str, str] = {}  # folder by what names must differ in
  shared: dict[str, str] = {}  # classes of several splits; a folder of each
  deep: dict[str, list[str]] = {}  # folders of pictures, by class folder
  problems = []
  for parent, split in parents.items():
    folders = place.folders(parent)
    if not folders:
      problems.append(f"{place.path / parent} has no class folders")
    for base in folders:
      folder = tree.join(parent, base)
      name = unicodedata.normalize("NFC", base)
      other = of_key.setdefault(_key(name), folder)
      if _above(other) != parent:
        shared[folder] = other
        continue
      if other != folder:
        problems.append(
          f"{other!a} and {folder!a} differ only in case or Unicode form"
        )
        continue
      count, own, unknown = 0, 0, []
      below = set()  # folders with pictures
      for file in place.walk(folder):
        if is_picture(file.base):
          count += 1
          if (within := _above(file.name)) == folder:
            own += 1
          else:
            below.add(within)
        elif not is_no_picture(file.base):
          unknown.append(file.name)
      problems += [f"{file} may or may not be a picture" for file in unknown]
      if not count:
        problems.append(f"the class folder {folder} has no picture")
      # With most of its pictures in several folders below, this may be no class
      # but what holds classes, such as animals/cat and animals/dog; a picture
      # or two beside these prove nothing. Each folder is asked by itself, since
      # one alone among true classes may be such. Pictures of a single folder
      # (CLASS/images) are the same class at either level.
      if len(below) > 1 and own < count - own:
        deep[folder] = sorted(below)
      classes[name] = Class(split, folder, count)
  if problems:
    said = listing.shorten(problems)
    problems = [f"{said}; {LAYOUT}; remove what is no part of the data"]
  if deep:
    problems.insert(0, _too_deep(place, deep))
  if shared:
    problems.insert(0, _in_several(place, shared))
  if problems:
    raise types.InputError(
      f"{place.path} cannot be used: {'; '.join(problems)}"
    )
  return classes


def _in_several(place: tree.Tree, shared: Mapping[str, str]) -> str:
  """Says which classes are in the folders of several splits."""
  folders = list(dict.fromkeys(map(_above, (*shared.values(), *shared))))
  names = sorted({_base(folder) for folder in shared})
  what = "class is" if len(names) == 1 else "classes are"
  return (
    f"{len(names)} {what} in more than one of the folders "
    f"{', '.join(map(_base, folders))} ({_some(names)}); few-shot splits share "
    f"no class: {_point(place)} one of them"
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
  return f"{first}point --source at"


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
