"""What the data sets of classes with WordNet ids have in common.

Which classes a split has is decided by the published list alone, never by the
name of a folder or file: copies exist in which val and test are exchanged.
"""

import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import tree

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")

_ID = re.compile(r"n\d{8}")

# Such as datasets/mini-imagenet/images/train/n01532829.
_DEPTH = 4
# A folder with more folders that are no classes holds something else.
_MAX_FOLDERS = 200

# Names of what people point at instead of the folder above it.
_PARTS = {
  *("train", "base", "val", "valid", "validation", "test", "novel"),
  *("images", "split", "splits"),
}
_PART_SUFFIXES = (".pkl", ".pickle", ".npz", ".csv")
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip")

Classes = Mapping[str, Collection[str]]
"""WordNet ids by split, in label order."""


class Survey(NamedTuple):
  """What a folder or archive has, class folders not opened."""

  place: tree.Tree
  folders: Mapping[str, list[str]]  # of each WordNet id
  files: list[tree.File]  # outside of these

  def show(self, file: tree.File) -> str:
    """The file as it is called in messages."""
    return f"{self.place.path}/{file.name}"

  def pictures(self, wnid: str) -> Iterator[tree.File]:
    """Picture files of a class, by suffix."""
    for folder in self.folders[wnid]:
      yield from pictures(self.place.walk(folder))


def pictures(files: Iterator[tree.File]) -> Iterator[tree.File]:
  """Those that are pictures, by suffix."""
  return (file for file in files if file.base.lower().endswith(SUFFIXES))


def survey(place: tree.Tree) -> Survey:
  """Looks for class folders and other files, a few levels deep."""
  folders: dict[str, list[str]] = {}
  files: list[tree.File] = []
  level = [""]
  for depth in range(_DEPTH + 1):
    below = []
    for folder in level:
      files += place.files(folder)
      names = place.folders(folder)
      others = [name for name in names if not _ID.fullmatch(name)]
      for name in names:
        path = tree.join(folder, name)
        if _ID.fullmatch(name):
          folders.setdefault(name, []).append(path)
        elif depth < _DEPTH and len(others) <= _MAX_FOLDERS:
          below.append(path)
    level = below
  return Survey(place, folders, files)


def look(
  source: pathlib.Path,
  scratch: pathlib.Path,
  recognise: Callable[[Survey], listing.Listing | None],
  *,
  word: str,
  title: str,
  expected: str,
) -> listing.Listing:
  """Tries the source, the archives in it, and what it is a part of.

  Args:
    source: what the user gave.
    scratch: for decompressed archives.
    recognise: None where nothing is of the data set.
    word: in the names of its archives, such as "mini".
    title: of the data set, for the message.
    expected: the forms, for the message.

  Raises:
    InputError: that of the first place that had something of the data set.
  """
  problem = None
  for path in _candidates(source.expanduser(), word):
    try:
      found = recognise(survey(tree.open_tree(path, scratch)))
    except types.InputError as error:
      problem = problem or error
      continue
    if found is not None:
      return found
  raise problem or types.InputError(
    f"nothing of {title} was found in {source}; expected {expected}"
  )


def _candidates(source: pathlib.Path, word: str) -> Iterator[pathlib.Path]:
  if source.is_file() and source.suffix.lower() in _PART_SUFFIXES:
    yield source.parent
    return
  yield source
  if source.is_dir():
    for path in sorted(source.iterdir()):
      name = path.name.lower()
      if word in name and name.endswith(_ARCHIVES) and path.is_file():
        yield path
    if source.name.lower() in _PARTS:
      yield source.absolute().parent


def check_classes(
  found: Collection[str], classes: Classes, *, where: str, hint: str = ""
) -> None:
  """Refuses a source in which classes are missing.

  Args:
    found: WordNet ids that are there, others than wanted among them.
    classes: that must be there.
    where: for the message.
    hint: what else it may be; empty if not known.

  Raises:
    InputError: naming all that are missing.
  """
  wanted = [wnid for names in classes.values() for wnid in names]
  missing = [wnid for wnid in wanted if wnid not in found]
  if not missing:
    return
  whole = [
    split
    for split, names in classes.items()
    if not set(names).intersection(missing)
  ]
  absent = [
    split for split, names in classes.items() if set(names) <= set(missing)
  ]
  if not hint and whole and len(whole) + len(absent) == len(classes):
    hint = (
      f"only classes of {' and '.join(whole)}; point at what holds all splits"
    )
  if not hint:
    hint = "missing: " + listing.shorten(missing)
  raise types.InputError(
    f"{where} has {len(wanted) - len(missing)} of the {len(wanted)} classes; "
    f"{hint}"
  )


def from_folders(
  seen: Survey, classes: Classes, groups: Mapping[str, str] | None = None
) -> listing.Listing:
  """The listing of class folders, all of which are there.

  Args:
    seen: the folders.
    classes: to be listed, by split.
    groups: of the classes, if they have one.
  """
  groups = groups or {}

  def entries(split: str) -> Iterator[listing.Entry]:
    for wnid in classes.get(split, ()):
      for file in seen.pictures(wnid):
        group = groups.get(wnid, "")
        yield listing.Entry(wnid, file.name, file.where, group)

  num_images = {
    split: {wnid: sum(1 for _ in seen.pictures(wnid)) for wnid in names}
    for split, names in classes.items()
  }
  return listing.Listing(
    f"{seen.place.kind} of class folders", num_images, entries
  )
