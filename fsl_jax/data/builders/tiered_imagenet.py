"""Tiered-ImageNet: 608 classes of ImageNet, split by superclass.

The authors publish, for each split, a list of PNG files or the array that their
program makes of it, and a dict of labels with the names of the classes in
words. The superclass numbers in it are wrong and are not used.
"""

import functools
import zipfile
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import wordnet
from fsl_jax.data.containers import archives, pickles, tree

_LABELS = "_labels.pkl"
# The first one wins: a PNG file defines the order of its channels.
_IMAGES = {"_images_png.pkl": "PNG pickles", "_images.npz": "npz arrays"}


class Class(NamedTuple):
  """A class of the published list."""

  split: str
  wnid: str
  group: str  # superclass
  words: str  # as its authors name it


class TieredImagenet(wordnet.FromWordnet):
  """Builder of the split by Ren et al., 351 / 97 / 160 classes.

  The PNG pickle of one split at a time is in memory while its entries are
  read: that of train is several GB, and takes twice its size to load. Arrays in
  npz files are read one by one.
  """

  name = "tiered_imagenet"
  DESCRIPTION = """\
Tiered-ImageNet of Ren et al.: 351 base, 97 validation and 160 novel classes of
photographs, named by WordNet id; no superclass is in two splits. The group of
an image is the WordNet id of its superclass.
"""
  NUM_CLASSES: ClassVar = {"base": 351, "val": 97, "novel": 160}
  TITLE = "Tiered-ImageNet"
  WORD = "tiered"
  EXPECTED = "class folders, or the authors' pickles or npz files"
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

  def recognise(self, seen: wordnet.Survey) -> listing.Listing | None:
    found = _from_arrays(seen)
    if found is not None or not seen.folders:
      return found
    names = set(seen.folders)
    mini = class_lists.load("mini_imagenet")
    hint = ""
    if names <= {wnid for split in listing.SPLITS for wnid in mini[split]}:
      hint = "these are classes of Mini-ImageNet"
    where = str(seen.place.path)
    wordnet.check_classes(names, by_split(), where=where, hint=hint)

    def num_images(folder: str) -> int:
      return sum(1 for _ in wordnet.images(seen.place.walk(folder)))

    # The validation images of ImageNet lie in folders of the same names, but
    # are not part of this data set.
    folders = {
      wnid: paths if len(paths) == 1 else [max(paths, key=num_images)]
      for wnid, paths in seen.folders.items()
    }
    return wordnet.from_folders(
      seen._replace(folders=folders), by_split(), _groups()
    )


@functools.cache
def classes() -> tuple[Class, ...]:
  """All classes, those of a split in label order."""
  found = class_lists.load("tiered_imagenet")
  return tuple(
    Class(split, *entry) for split in listing.SPLITS for entry in found[split]
  )


def by_split() -> dict[str, tuple[str, ...]]:
  """WordNet ids by split, in label order."""
  return {
    split: tuple(entry.wnid for entry in classes() if entry.split == split)
    for split in listing.SPLITS
  }


def _groups() -> dict[str, str]:
  return {entry.wnid: entry.group for entry in classes()}


def _from_arrays(seen: wordnet.Survey) -> listing.Listing | None:
  """Images and labels of all splits; None without files of the known names.

  Raises:
    InputError: if files or classes are missing or inconsistent.
  """
  images = {suffix: _by_stem(seen, suffix) for suffix in _IMAGES}
  labels = _by_stem(seen, _LABELS)
  if not any(images.values()):
    if labels and not seen.folders:
      raise types.InputError(
        f"{seen.place.path} has labels ({', '.join(sorted(labels))}) but no "
        f"images; expected {' or '.join(_IMAGES)}"
      )
    return None
  suffix = max(images, key=lambda suffix: len(images[suffix]))
  parts, problems = [], []
  for stem, file in images[suffix].items():
    if stem not in labels:
      problems.append(f"{seen.show(file)} has no {stem}{_LABELS} beside it")
      continue
    try:
      parts.append(_labelled(seen, stem, labels[stem], file))
    except types.InputError as error:
      problems.append(str(error))
  if problems:
    raise types.InputError(listing.shorten(problems))
  names = [name for part in parts for name in part.names]
  where = f"{seen.place.path} ({_IMAGES[suffix]})"
  wordnet.check_classes(names, by_split(), where=where)
  form = f"{_IMAGES[suffix]} in a {seen.place.kind}"
  return wordnet.from_labelled(form, parts, by_split(), _groups())


def _by_stem(seen: wordnet.Survey, suffix: str) -> dict[str, tree.File]:
  return {
    file.base.removesuffix(suffix): file
    for file in seen.files
    if file.base in {f"{stem}{suffix}" for stem in ("train", "val", "test")}
  }


def _labelled(
  seen: wordnet.Survey, stem: str, labels: tree.File, images: tree.File
) -> wordnet.Labelled:
  """The files of one split; its images are not read."""
  where = seen.show(labels)
  content = pickles.load(labels.where, name=where)
  if isinstance(content, dict):
    content = pickles.with_text_keys(content, where)
  if not isinstance(content, dict) or not (
    {"label_specific", "label_specific_str"} <= set(content)
  ):
    raise types.InputError(
      f"{where} lacks label_specific or label_specific_str"
    )
  known = {entry.words: entry.wnid for entry in classes()}
  known |= {entry.wnid: entry.wnid for entry in classes()}
  words = pickles.texts(
    content["label_specific_str"], f"label_specific_str of {where}"
  )
  if unknown := [name for name in words if name not in known]:
    raise types.InputError(
      f"{where} has classes that are not of the list of Tiered-ImageNet: "
      f"{listing.shorten([repr(name) for name in unknown])}"
    )
  what = f"label_specific of {where}"
  numbers = pickles.whole_numbers(content["label_specific"], what)
  wordnet.check_labels(numbers, len(words), f"{what} are", "names")
  read = _pngs if images.base.endswith(".pkl") else _arrays

  def read_images() -> Iterator[bytes | np.ndarray]:
    return read(seen, images, len(numbers), labels.base)

  return wordnet.Labelled(
    stem,
    np.arange(len(numbers)),
    numbers,
    [known[name] for name in words],
    read_images,
  )


def _pngs(
  seen: wordnet.Survey, file: tree.File, num_labels: int, labels: str
) -> Iterator[bytes]:
  """Encoded images of a pickle, each released after it was yielded."""
  where = seen.show(file)
  found = pickles.load(file.where, name=where)
  if not isinstance(found, list):
    raise types.InputError(f"{where} is not a list of encoded images")
  _check_number(where, len(found), num_labels, labels)
  found.reverse()
  while found:
    encoded = found.pop()
    if isinstance(encoded, np.ndarray) and encoded.dtype == np.uint8:
      encoded = encoded.tobytes()
    if not isinstance(encoded, bytes):
      raise types.InputError(
        f"{where} holds something other than encoded images"
      )
    yield encoded


def _arrays(
  seen: wordnet.Survey, file: tree.File, num_labels: int, labels: str
) -> Iterator[np.ndarray]:
  """Images of an npz file, read one by one.

  The authors decoded them with OpenCV, whose order of channels is BGR.
  """
  where = seen.show(file)
  with (
    archives.refuse_broken(where),
    archives.open_binary(file.where) as (opened, _),
    zipfile.ZipFile(opened) as archive,
  ):
    if "images.npy" not in archive.namelist():
      raise types.InputError(f"{where} has no array called images")
    with archive.open("images.npy") as member:
      shape = _shape(member, where)
      _check_number(where, shape[0], num_labels, labels)
      size = int(np.prod(shape[1:]))
      for _ in range(shape[0]):
        data = member.read(size)
        if len(data) < size:
          raise types.InputError(f"{where} is cut short")
        pixels = np.frombuffer(data, np.uint8).reshape(shape[1:])
        yield np.ascontiguousarray(pixels[..., ::-1])


def _shape(member: Any, where: str) -> tuple[int, ...]:
  """Reads the header of an array of images."""
  version = np.lib.format.read_magic(member)
  if version == (1, 0):
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
  else:
    shape, fortran, dtype = np.lib.format.read_array_header_2_0(member)
  wordnet.check_images(shape, dtype, where, fortran=fortran)
  return shape


def _check_number(
  where: str, num_images: int, num_labels: int, labels: str
) -> None:
  if num_images != num_labels:
    raise types.InputError(
      f"{where} has {num_images:,} images, but {labels} has {num_labels:,} "
      "labels"
    )
