"""Tiered-ImageNet: 608 classes of ImageNet, split by super-class."""

import functools
from typing import ClassVar

from fsl_jax.data import class_lists, listing, pictures
from fsl_jax.data.builders import from_source, tiered_arrays, wordnet


class TieredImagenet(from_source.FromSource):
  """Builder of the split by Ren et al., 351 / 97 / 160 classes."""

  name = "tiered_imagenet"
  DESCRIPTION = """\
Tiered-ImageNet of Ren et al.: 351 base, 97 validation and 160 novel classes of
photographs, named by WordNet id; no super-class is in two splits. The group of
an image is the WordNet id of its super-class.
"""
  NUM_CLASSES: ClassVar = {"base": 351, "val": 97, "novel": 160}
  RULE = pictures.Rule(size_px=84, fit="squash")
  OPTIONS = ("size_px", "fit")
  WHERE = (
    "Tiered-ImageNet is made of ImageNet; expected is the folder of its "
    "authors with train_images_png.pkl (or train_images.npz), train_labels.pkl "
    "and the same of val and test, or a folder or archive of class folders "
    "(n01530575, ...), for which the training images of ImageNet will do."
  )
  REFERENCE_NUM_IMAGES: ClassVar = {
    "base": 448_695,
    "val": 124_261,
    "novel": 206_209,
  }
  REFERENCE_NOTE = "copies from ImageNet differ by how they were resized"

  def find(self) -> listing.Listing:
    """Looks at `self.source` and lists what is there, no picture decoded.

    The PNG pickle of one split at a time is in memory while its entries are
    read: that of train is several GB, and takes twice its size to load. Arrays
    in npz files are read one by one.

    Raises:
      InputError: if it is not Tiered-ImageNet, or classes are missing.
    """
    assert self.source is not None
    return wordnet.look(
      self.source,
      self.scratch,
      _recognise,
      word="tiered",
      title="Tiered-ImageNet",
      expected="class folders, or the authors' pickles or npz files",
    )


@functools.cache
def classes() -> tuple[tiered_arrays.Class, ...]:
  """All classes, those of a split in label order."""
  found = class_lists.load("tiered_imagenet")
  return tuple(
    tiered_arrays.Class(split, *entry)
    for split in listing.SPLITS
    for entry in found[split]
  )


def _recognise(seen: wordnet.Survey) -> listing.Listing | None:
  found = tiered_arrays.find(seen, classes())
  if found is not None or not seen.folders:
    return found
  by_split = tiered_arrays.by_split(classes())
  where = str(seen.place.path)
  wordnet.check_classes(
    seen.folders, by_split, where=where, hint=_hint(set(seen.folders))
  )
  # ImageNet's own validation images lie in folders of the same names. They
  # are no part of this data set.
  folders = {
    wnid: paths if len(paths) == 1 else [_largest(seen, paths)]
    for wnid, paths in seen.folders.items()
  }
  return wordnet.from_folders(
    seen._replace(folders=folders),
    by_split,
    {entry.wnid: entry.group for entry in classes()},
  )


def _largest(seen: wordnet.Survey, folders: list[str]) -> str:
  def size(folder: str) -> int:
    return sum(1 for _ in wordnet.pictures(seen.place.walk(folder)))

  return max(folders, key=size)


def _hint(found: set[str]) -> str:
  mini = class_lists.load("mini_imagenet")
  theirs = {wnid for split in listing.SPLITS for wnid in mini[split]}
  if not found or not found <= theirs:
    return ""
  return "these are classes of Mini-ImageNet"
