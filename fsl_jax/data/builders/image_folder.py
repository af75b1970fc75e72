"""The user's own images: a folder of class folders, or a table of labels."""

import os
from collections.abc import Iterable, Iterator

from fsl_jax import types
from fsl_jax.data import kinds, listing, pictures
from fsl_jax.data.builders import class_split, from_source, image_labels
from fsl_jax.data.builders import image_folder_classes as class_folders
from fsl_jax.data.containers import tree

is_picture = class_folders.is_picture

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
# How far below the source the classes may be.
_DEPTH = 8

# Prefixes such as that of meta-train.
_META = ("meta-", "meta_", "meta")

_SPLIT_OPTIONS = ("split_file", "seed", "val_share", "novel_share")


class ImageFolder(from_source.FromSource):
  """A class is a folder of the source, or of a split folder in it."""

  name = "image_folder"
  DESCRIPTION = """\
Images of the user's own, one folder per class.
"""
  RULE = pictures.Rule(size_px=84, fit="crop", upright=True)
  OPTIONS = (
    *("size_px", "fit", "max_megapixels", "labels", "same_classes"),
    *_SPLIT_OPTIONS,
  )
  HAS_VARIANTS = True
  WHERE = (
    "It is a folder of yours, or an archive of it, with one folder per class; "
    "or with folders base, val and novel of class folders; or with images "
    f"beside {image_labels.COLUMNS}."
  )

  def find(self) -> listing.Listing:
    assert self.source is not None
    place, top = _top(tree.open_tree(self.source, self.scratch), self.scratch)
    where = str(place.path / top)
    joins = bool(self.options.get("same_classes"))
    splits = None if joins else _split_folders(place, top)
    table = self._named_table(place, top)
    if table is not None or splits is None:
      splits, parents = None, {top: ""}
    else:
      parents = splits
    if joins and table is None:
      parents = {tree.join(top, name): "" for name in place.folders(top)}
    tables = {
      parent: one
      for parent in parents
      if (one := table or _only_table(place, parent)) is not None
    }
    what = "class folders"
    if tables:
      what = f"tables {', '.join(file.name for file in tables.values())}"
    if joins:
      what += f" of {', '.join(parents)}"
    found = class_folders.find(
      place, parents, tables=tables, join=joins, skip=self.skip_bad
    )
    classes = found.classes
    names = sorted(classes)
    chosen: dict[str, list[str]]
    if splits is None:
      chosen, how = class_split.split(names, self.options, where)
    else:
      self._check_no_choice()
      chosen = {
        split: [name for name in names if classes[name].split == split]
        for split in listing.SPLITS
      }
      how = "split by folders"
      if len(chosen["novel"]) < class_split.MIN_NOVEL:
        raise types.InputError(
          class_split.too_few_novel(where, chosen["novel"])
        )
    num_images = {
      split: {name: classes[name].num_images for name in members}
      for split, members in chosen.items()
    }
    # An id begins with its group, see `types.ClassIndexed`.
    root = f"{top if joins else found.root}/"

    def entries(split: str) -> Iterator[listing.Entry]:
      for name in num_images[split]:
        for file in classes[name].pictures(place):
          yield listing.Entry(name, file.name.removeprefix(root), file.where)

    form = f"{what} in a {place.kind}, {how}"
    beside = 0 if tables else _num_beside(place, parents)
    if beside:
      form += f"; {beside} images beside the class folders left out"
    return listing.Listing(form, num_images, entries, tuple(found.left_out))

  def _named_table(self, place: tree.Tree, top: str) -> tree.File | None:
    given = self.options.get("labels")
    if given is None:
      return None
    for folder in _with_above(top):
      if (file := place.get(tree.join(folder, given))) is not None:
        return file
    raise types.InputError(f"{place.path} has no table {given!r}")

  def _check_no_choice(self) -> None:
    given = [o for o in _SPLIT_OPTIONS if self.options.get(o) is not None]
    if given:
      raise types.InputError(
        f"{self.source} has folders for the splits already, so "
        f"{', '.join(given)} cannot be given"
      )


def only_archive(place: tree.Tree, folder: str = "") -> tree.File | None:
  """The one archive among the files of a folder on disk, or None."""
  if place.kind != "folder":
    return None
  found = [
    f for f in place.files(folder) if class_folders.ending(f.base) in _ARCHIVES
  ]
  return found[0] if len(found) == 1 else None


def _only_table(place: tree.Tree, folder: str) -> tree.File | None:
  """The table of labels beside or above images without class folders.

  Raises:
    InputError: if there are several.
  """
  if place.folders(folder) or not _has_pictures(place, folder):
    return None
  for above in _with_above(folder):
    found = [file.name for file in image_labels.tables(place, above)]
    if len(found) > 1:
      raise types.InputError(
        f"{place.path} has several tables of labels ({', '.join(found)}); "
        "labels=NAME selects one"
      )
    if found:
      return place.get(found[0])
  return None


def _with_above(folder: str) -> list[str]:
  """A folder and its parents, up to the topmost."""
  parts = folder.split("/") if folder else []
  return ["/".join(parts[:n]) for n in range(len(parts), -1, -1)]


def _top(
  place: tree.Tree, scratch: str | os.PathLike[str]
) -> tuple[tree.Tree, str]:
  """The tree, and the folder in it, that holds the classes or splits.

  These are often nested in a single folder or archive, or in one folder beside
  others of annotations.
  """
  top = ""
  for _ in range(_DEPTH):
    if _has_pictures(place, top):
      break
    folders = place.folders(top)
    if not folders and (archive := only_archive(place, top)):
      place, top = tree.open_tree(archive.where.path, scratch), ""
      continue
    # An empty split folder is missing data, not an annotation.
    if len(folders) > 1 and not any(map(_as_split, folders)):
      folders = _up_to_two_with_data(place, top, folders)
    if len(folders) != 1:
      break
    below = tree.join(top, folders[0])
    if _has_pictures(place, below):
      # The only class, unless a table has the labels.
      if any(image_labels.tables(place, name) for name in _with_above(below)):
        top = below
      break
    top = below
  return place, top


def _up_to_two_with_data(
  place: tree.Tree, top: str, folders: list[str]
) -> list[str]:
  """The first two folders that hold a file that may be an image.

  A folder of images of an unknown format must not be taken for annotations.
  """
  found = []
  for name in folders:
    files = place.walk(tree.join(top, name))
    if not all(class_folders.is_no_picture(file.base) for file in files):
      found.append(name)
      if len(found) == 2:
        break
  return found


def _split_folders(place: tree.Tree, top: str) -> dict[str, str] | None:
  """The split folders by split, or None if the folders are classes.

  Raises:
    InputError: if only some of them are splits, or novel is missing.
  """
  folders = place.folders(top)
  found = {name: s for name in folders if (s := _as_split(name))}
  # A single one may be a class, such as "train" beside "bus".
  if len(found) < 2:
    return None
  where = place.path / top
  others = [name for name in folders if name not in found]
  if others:
    raise types.InputError(
      f"{where} has folders for splits ({', '.join(found)}) beside others "
      f"({listing.shorten(others)}); {class_folders.LAYOUT}"
    )
  if len(set(found.values())) < len(found):
    raise types.InputError(
      f"several of the folders {', '.join(found)} of {where} stand for the "
      f"same split; {class_folders.LAYOUT}"
    )
  if "novel" not in found.values():
    raise types.InputError(
      f"{where} has {', '.join(found)} but no novel (test) classes; "
      f"{class_folders.LAYOUT}"
    )
  return {tree.join(top, name): split for name, split in found.items()}


def _has_pictures(place: tree.Tree, folder: str) -> bool:
  """Whether a folder itself has images, readable or not."""
  some = (kinds.PICTURE, kinds.HEIC)
  return any(class_folders.kind_of(f) in some for f in place.files(folder))


def _num_beside(place: tree.Tree, parents: Iterable[str]) -> int:
  return sum(
    kinds.is_readable(class_folders.kind_of(file))
    for parent in parents
    for file in place.files(parent)
  )


def _as_split(name: str) -> str | None:
  name = name.lower()
  for prefix in _META:
    name = name.removeprefix(prefix)
  return _SPELLINGS.get(name)
