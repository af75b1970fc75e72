"""What Mini- and Tiered-ImageNet have in common: classes with WordNet ids.

The published list alone decides which classes a split has, not the name of a
folder or file: there are copies in which val and test are exchanged.
"""

import pathlib
import re
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import listing, pictures
from fsl_jax.data.builders import from_source
from fsl_jax.data.containers import tree

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm")

_ID = re.compile(r"n\d{8}")

# Such as datasets/mini-imagenet/images/train/n01532829.
_DEPTH = 4
# A folder with more folders that are not classes holds something else.
_MAX_FOLDERS = 200

# Folders and files that people give instead of the folder that holds them.
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
  folders: Mapping[str, list[str]]  # by WordNet id
  files: list[tree.File]  # outside of these

  def show(self, file: tree.File) -> str:
    """The file's name in messages."""
    return f"{self.place.path}/{file.name}"

  def images(self, wnid: str) -> Iterator[tree.File]:
    """Image files of a class, by suffix."""
    for folder in self.folders[wnid]:
      yield from images(self.place.walk(folder))


def images(files: Iterator[tree.File]) -> Iterator[tree.File]:
  """Files that are images, by suffix."""
  return (file for file in files if file.base.lower().endswith(_SUFFIXES))


class FromWordnet(from_source.FromSource):
  """Base of the builders."""

  RULE = pictures.Rule(size_px=84, fit="squash")
  OPTIONS = ("size_px", "fit")
  TITLE = ""  # of the data set, for messages
  EXPECTED = ""  # its forms, for messages
  WORD = ""  # in the names of its archives, such as "mini"

  def recognise(self, seen: Survey) -> listing.Listing | None:
    """The listing of a folder or archive; None if it has nothing of the set.

    Raises:
      InputError: if it is incomplete or malformed.
    """
    raise NotImplementedError

  def find(self) -> listing.Listing:
    """Lists the images of the source, the archives in it, or its parent.

    No image is decoded.

    Raises:
      InputError: that of the first place that had something of the data set.
    """
    assert self.source is not None
    problem = None
    for path in self._candidates(self.source.expanduser()):
      try:
        found = self.recognise(_survey(tree.open_tree(path, self.scratch)))
      except types.InputError as error:
        problem = problem or error
        continue
      if found is not None:
        return found
    raise problem or types.InputError(
      f"nothing of {self.TITLE} was found in {self.source}; expected "
      f"{self.EXPECTED}"
    )

  def _candidates(self, source: pathlib.Path) -> Iterator[pathlib.Path]:
    if source.is_file() and source.suffix.lower() in _PART_SUFFIXES:
      yield source.parent
      return
    yield source
    if source.is_dir():
      for path in sorted(source.iterdir()):
        name = path.name.lower()
        if self.WORD in name and name.endswith(_ARCHIVES) and path.is_file():
          yield path
      if source.name.lower() in _PARTS:
        yield source.absolute().parent


def _survey(place: tree.Tree) -> Survey:
  """Looks for class folders and other files, a few levels deep."""
  folders: dict[str, list[str]] = {}
  files: list[tree.File] = []

  def enter(names: list[str]) -> list[str]:
    others = [name for name in names if not _ID.fullmatch(name)]
    return others if len(others) <= _MAX_FOLDERS else []

  for folder in place.top_down(_DEPTH, enter):
    files += place.files(folder)
    for name in filter(_ID.fullmatch, place.folders(folder)):
      folders.setdefault(name, []).append(tree.join(folder, name))
  return Survey(place, folders, files)


def check_classes(
  found: Collection[str], classes: Classes, *, where: str, hint: str = ""
) -> None:
  """Refuses a source in which classes are missing.

  Args:
    found: WordNet ids that are there; others than wanted are ignored.
    classes: that must be there.
    where: for the message.
    hint: what else it may be; empty if unknown.

  Raises:
    InputError: naming all that are missing.
  """
  wanted = [wnid for names in classes.values() for wnid in names]
  missing = [wnid for wnid in wanted if wnid not in found]
  if not missing:
    return
  whole = [s for s, n in classes.items() if not set(n).intersection(missing)]
  absent = [s for s, names in classes.items() if set(names) <= set(missing)]
  if not hint and whole and len(whole) + len(absent) == len(classes):
    hint = (
      f"only classes of {' and '.join(whole)}; point at what holds all splits"
    )
  raise types.InputError(
    f"{where} has {len(wanted) - len(missing)} of the {len(wanted)} classes; "
    f"{hint or 'missing: ' + listing.shorten(missing)}"
  )


def from_folders(
  seen: Survey, classes: Classes, groups: Mapping[str, str] | None = None
) -> listing.Listing:
  """The listing of class folders, all of which are there.

  Args:
    seen: the folders.
    classes: to be listed, by split.
    groups: by class, if they have one.
  """
  form = f"{seen.place.kind} of class folders"
  return from_files(form, seen.images, classes, groups)


def from_files(
  form: str,
  files_of: Callable[[str], Iterable[tree.File]],
  classes: Classes,
  groups: Mapping[str, str] | None = None,
) -> listing.Listing:
  """The listing of image files, given by class, anew at every call."""

  def entries(split: str) -> Iterator[listing.Entry]:
    for wnid in classes[split]:
      for file in files_of(wnid):
        group = (groups or {}).get(wnid, "")
        yield listing.Entry(wnid, file.name, file.where, group)

  num_images = {
    split: {wnid: sum(1 for _ in files_of(wnid)) for wnid in names}
    for split, names in classes.items()
  }
  return listing.Listing(form, num_images, entries)


class Labelled(NamedTuple):
  """One file of many images, and the class of each.

  Attributes:
    name: what the ids of its images begin with.
    rows: [n] integers, number of each image in the file.
    labels: [n] integers, positions in `names`.
    names: WordNet ids.
    read: the n images, anew at every call.
  """

  name: str
  rows: np.ndarray
  labels: np.ndarray
  names: Sequence[str]
  read: Callable[[], Iterator[listing.Picture]]


def from_labelled(
  form: str,
  files: Sequence[Labelled],
  classes: Classes,
  groups: Mapping[str, str] | None = None,
) -> listing.Listing:
  """The listing of files of many images, of which one is open at a time."""
  counts = dict.fromkeys((n for names in classes.values() for n in names), 0)
  for file in files:
    in_file = np.bincount(file.labels, minlength=len(file.names)).tolist()
    for name, count in zip(file.names, in_file, strict=True):
      if name in counts:
        counts[name] += count

  def entries(split: str) -> Iterator[listing.Entry]:
    wanted = set(classes[split])
    for file in files:
      if wanted.isdisjoint(file.names):
        continue
      columns = (file.rows.tolist(), file.labels.tolist(), file.read())
      for row, label, image in zip(*columns, strict=True):
        name = file.names[label]
        if name in wanted:
          group = (groups or {}).get(name, "")
          yield listing.Entry(name, f"{file.name}/{row}", image, group)

  num_images = {
    split: {name: counts[name] for name in names}
    for split, names in classes.items()
  }
  return listing.Listing(form, num_images, entries)


def check_labels(labels: np.ndarray, num: int, what: str, of: str) -> None:
  """Raises InputError unless all labels are in [0, num).

  Args:
    labels: [n] integers.
    num: how many there are of what they number.
    what: what they are, for the message, with its verb.
    of: what they number.
  """
  if len(labels) and not 0 <= labels.min() <= labels.max() < num:
    raise types.InputError(
      f"{what} {labels.min()} to {labels.max()}, there are {num:,} {of}"
    )


def check_images(
  shape: tuple[int, ...], dtype: np.dtype, where: str, *, fortran: bool = False
) -> None:
  """Raises InputError unless an array is [n, H, W, 3] uint8 in C order."""
  if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
    raise types.InputError(
      f"the images of {where} are {list(shape)} {dtype}, expected "
      "[n, 84, 84, 3] uint8"
    )
