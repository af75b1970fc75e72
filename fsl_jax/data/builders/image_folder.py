"""A folder of class folders of pictures: the user's own data."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fsl_jax import types
from fsl_jax.data import listing, pictures
from fsl_jax.data.builders import class_split, from_source
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
_ARCHIVES = ("bz2", "gz", "tar", "tbz2", "tgz", "txz", "xz", "zip")

_SPELLINGS = {
  "base": "base",
  "train": "base",
  "training": "base",
  "val": "val",
  "valid": "val",
  "validation": "val",
  "dev": "val",
  "novel": "novel",
  "test": "novel",
  "testing": "novel",
}
# How far below the source the classes are looked for.
_DEPTH = 8

# Prefixes such as that of meta-train.
_META = ("meta-", "meta_", "meta")

_LAYOUT = (
  "expected one folder per class with its pictures in it (CLASS/PICTURE.jpg), "
  "or folders base, val and novel (or train, val and test) of such folders"
)

_SPLIT_OPTIONS = ("split_file", "seed", "val_share", "novel_share")


class ImageFolder(from_source.FromSource):
  """A class is a folder of the source, or of the folder of a split in it."""

  name = "image_folder"
  DESCRIPTION = """\
Pictures of the user's own, one folder per class.
"""
  RULE = pictures.Rule(size_px=84, fit="crop", upright=True)
  OPTIONS = ("size_px", "fit", *_SPLIT_OPTIONS)
  HAS_VARIANTS = True
  WHERE = (
    "It is a folder of yours, or an archive of it, with one folder per class; "
    "or with folders base, val and novel of class folders."
  )

  def find(self) -> listing.Listing:
    assert self.source is not None
    place, top = _top(tree.open_tree(self.source, self.scratch), self.scratch)
    splits = _split_folders(place, top)
    classes = _classes(place, splits or {top: ""})
    names = sorted(classes)
    chosen: dict[str, list[str]]
    if splits is None:
      chosen = class_split.split(names, self.options, str(place.path / top))
      by_file = self.options.get("split_file") is not None
      how = "split by a file" if by_file else "split by a seed"
    else:
      self._check_no_choice()
      chosen = {
        split: [name for name in names if classes[name].split == split]
        for split in listing.SPLITS
      }
      how = "split by folders"
    num_images = {
      split: {name: classes[name].num_images for name in members}
      for split, members in chosen.items()
    }

    def entries(split: str) -> Iterator[listing.Entry]:
      for name in num_images[split]:
        for file in place.walk(classes[name].folder):
          if is_picture(file.base):
            yield listing.Entry(name, file.name, file.where)

    form = f"class folders in a {place.kind}, {how}"
    beside = _num_beside(place, splits or [top])
    if beside:
      form += f"; {beside} pictures beside the class folders left out"
    return listing.Listing(form, num_images, entries)

  def _check_no_choice(self) -> None:
    given = [o for o in _SPLIT_OPTIONS if self.options.get(o) is not None]
    if given:
      raise types.InputError(
        f"{self.source} has folders for the splits already, so "
        f"{', '.join(given)} cannot be given"
      )


class _Class(NamedTuple):
  split: str  # "" if the folders do not say
  folder: str
  num_images: int


def is_picture(base: str) -> bool:
  """Whether a file of this name is taken for a picture."""
  return _ending(base) in _PICTURES


def only_archive(place: tree.Tree, folder: str = "") -> tree.File | None:
  """The one archive among the files of a folder on disk, or None."""
  if place.kind != "folder":
    return None
  found = [f for f in place.files(folder) if _ending(f.base) in _ARCHIVES]
  return found[0] if len(found) == 1 else None


def _top(
  place: tree.Tree, scratch: str | os.PathLike[str]
) -> tuple[tree.Tree, str]:
  """The tree, and the folder in it, that holds the classes or splits.

  A folder or archive often holds a single folder, or a folder an archive.
  """
  top = ""
  for _ in range(_DEPTH):
    if any(is_picture(file.base) for file in place.files(top)):
      break
    folders = place.folders(top)
    if not folders and (archive := only_archive(place, top)):
      place, top = tree.open_tree(archive.where.path, scratch), ""
    elif len(folders) == 1:
      below = _join(top, folders[0])
      if any(is_picture(file.base) for file in place.files(below)):
        break
      top = below
    else:
      break
  return place, top


def _split_folders(place: tree.Tree, top: str) -> dict[str, str] | None:
  """Folders of the splits, or None if they are those of classes.

  Raises:
    InputError: if only some of them, or the wrong ones, are splits.
  """
  folders = place.folders(top)
  found = {name: s for name in folders if (s := _as_split(name))}
  # One alone may well be a class, such as "train" beside "bus".
  if len(found) < 2:
    return None
  where = place.path / top
  others = [name for name in folders if name not in found]
  if others:
    raise types.InputError(
      f"{where} has folders for splits ({', '.join(found)}) beside others "
      f"({listing.shorten(others)}); {_LAYOUT}"
    )
  if len(set(found.values())) < len(found):
    raise types.InputError(
      f"several of the folders {', '.join(found)} of {where} stand for the "
      f"same split; {_LAYOUT}"
    )
  if "novel" not in found.values():
    raise types.InputError(
      f"{where} has {', '.join(found)} but no novel (test) classes; {_LAYOUT}"
    )
  return {_join(top, name): split for name, split in found.items()}


def _classes(place: tree.Tree, parents: Mapping[str, str]) -> dict[str, _Class]:
  """All classes by name, their pictures counted.

  Args:
    place: where.
    parents: folders of class folders, with the split that they stand for.

  Raises:
    InputError: naming all folders and files that are not as expected.
  """
  classes: dict[str, _Class] = {}
  of_key: dict[str, str] = {}  # folder by what names must differ in
  problems = []
  for parent, split in parents.items():
    folders = place.folders(parent)
    if not folders:
      problems.append(f"{place.path / parent} has no class folders")
    for base in folders:
      folder = _join(parent, base)
      name = unicodedata.normalize("NFC", base)
      other = of_key.setdefault(_key(name), folder)
      if other != folder:
        problems.append(_clash(other, folder, parents))
        continue
      count, unknown = 0, []
      for file in place.walk(folder):
        if is_picture(file.base):
          count += 1
        elif not _is_no_picture(file.base):
          unknown.append(file.name)
      problems += [f"{file} may or may not be a picture" for file in unknown]
      if not count:
        problems.append(f"the class folder {folder} has no picture")
      classes[name] = _Class(split, folder, count)
  if problems:
    raise types.InputError(
      f"{place.path} cannot be used: {listing.shorten(problems)}; {_LAYOUT}; "
      "remove what is no part of the data"
    )
  return classes


def _clash(one: str, other: str, parents: Mapping[str, str]) -> str:
  if len(parents) > 1 and one.rpartition("/")[0] != other.rpartition("/")[0]:
    return (
      f"the class of {one} is also in {other}, but splits of few-shot learning "
      "share no class: point to one of the two, or join them"
    )
  return f"{one!a} and {other!a} differ only in case or Unicode form"


def _num_beside(place: tree.Tree, parents: Iterable[str]) -> int:
  return sum(
    is_picture(file.base) for parent in parents for file in place.files(parent)
  )


def _key(name: str) -> str:
  return unicodedata.normalize("NFC", name.casefold())


def _as_split(name: str) -> str | None:
  name = name.lower()
  for prefix in _META:
    name = name.removeprefix(prefix)
  return _SPELLINGS.get(name)


def _ending(base: str) -> str:
  return base.rpartition(".")[2].lower() if "." in base else ""


def _is_no_picture(base: str) -> bool:
  return _ending(base) in _NO_PICTURES or base.lower() in _NO_PICTURE_NAMES


def _join(folder: str, name: str) -> str:
  return f"{folder}/{name}" if folder else name
