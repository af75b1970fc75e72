"""Mini-ImageNet: 100 classes of ImageNet with 600 images of 84 px each."""

import csv
import functools
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import wordnet
from fsl_jax.data.containers import pickles, tree

_PER_CLASS = 600

# The two layouts of pickles.
_CACHE = "cached pickles"
_SPLIT = "category split pickles"
# Other images of the base classes, beside the 600 of each.
_LEFT_OUT = re.compile(r"train_phase_(val|test)")


class MiniImagenet(wordnet.FromWordnet):
  """Builder of the split by Ravi and Larochelle, 64 / 16 / 20 classes.

  Pickles are read once for their labels and again for each split; one file is
  in memory at a time.
  """

  name = "mini_imagenet"
  DESCRIPTION = """\
Mini-ImageNet in the split of Ravi and Larochelle: 64 base, 16 validation and
20 novel classes with 600 photographs each, named by WordNet id. Copies were
resized by different programs, so their fingerprints differ.
"""
  NUM_CLASSES: ClassVar = {"base": 64, "val": 16, "novel": 20}
  IMAGES_PER_CLASS = _PER_CLASS
  TITLE = "Mini-ImageNet"
  WORD = "mini"
  EXPECTED = "class folders, images with Ravi's CSV files, or pickles"
  WHERE = (
    "Mini-ImageNet is made of ImageNet and has no official download; expected "
    "is a folder or archive of class folders (n01532829, ...), or images/ with "
    "train.csv, val.csv and test.csv, or mini-imagenet-cache-train.pkl, -val "
    "and -test, or miniImageNet_category_split_train_phase_train.pickle, _val "
    "and _test."
  )
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 38400, "val": 9600, "novel": 12000}
  REFERENCE_NOTE = "copies differ by how they were resized"

  def recognise(self, seen: wordnet.Survey) -> listing.Listing | None:
    found = _from_pickles(seen) or _from_csv(seen)
    if found is not None or not seen.folders:
      return found
    where = str(seen.place.path)
    _check_classes(set(seen.folders), where)
    found = wordnet.from_folders(seen, classes())
    most = max(max(counts.values()) for counts in found.num_images.values())
    if most > 2 * _PER_CLASS:
      raise types.InputError(
        f"{where} has up to {most:,} images a class, expected {_PER_CLASS}; "
        "this looks like all of ImageNet, of which Mini-ImageNet is a subset"
      )
    return found


@functools.cache
def classes() -> dict[str, tuple[str, ...]]:
  """WordNet ids by split, in label order."""
  found = class_lists.load("mini_imagenet")
  return {split: tuple(found[split]) for split in listing.SPLITS}


def _check_classes(found: set[str], where: str) -> None:
  """Raises InputError if classes are missing; it tells which list they are."""
  vinyals = class_lists.load("mini_imagenet")["vinyals"]
  theirs = {wnid for split in listing.SPLITS for wnid in vinyals[split]}
  ours = {wnid for names in classes().values() for wnid in names}
  hint = ""
  if len(found & theirs) > len(found & ours):
    hint = (
      "these are classes of the earlier list of Vinyals et al., the list of "
      "Ravi and Larochelle is expected"
    )
  wordnet.check_classes(found, classes(), where=where, hint=hint)


def _from_csv(seen: wordnet.Survey) -> listing.Listing | None:
  """Images that CSV files give a class; None without such files.

  Raises:
    InputError: if classes or images are missing.
  """
  class_of: dict[str, str] = {}
  for file in seen.files:
    if file.base.lower().endswith(".csv"):
      class_of.update(_read_csv(seen, file))
  if not class_of:
    return None
  where = f"the CSV files in {seen.place.path}"
  _check_classes(set(class_of.values()), where)
  by_class: dict[str, list[tree.File]] = {
    wnid: [] for split in classes().values() for wnid in split
  }
  class_of = {k: v for k, v in class_of.items() if v in by_class}
  files: dict[str, tree.File] = {}
  for file in _all_images(seen):
    if file.base in class_of:
      files.setdefault(file.base, file)
  if not files and seen.folders:
    return None  # The folders alone may do.
  missing = [name for name in class_of if name not in files]
  if missing:
    raise types.InputError(
      f"{where} name {len(class_of):,} images, of which {len(missing):,} are "
      f"not there: {listing.shorten(missing)}"
    )
  for name, wnid in class_of.items():
    by_class[wnid].append(files[name])
  form = f"{seen.place.kind} of images with CSV files"
  return wordnet.from_files(form, by_class.__getitem__, classes())


def _all_images(seen: wordnet.Survey) -> Iterator[tree.File]:
  yield from wordnet.images(iter(seen.files))
  for wnid in seen.folders:
    yield from seen.images(wnid)


def _read_csv(seen: wordnet.Survey, file: tree.File) -> dict[str, str]:
  """Class by file name; empty if the columns are others."""
  try:
    text = tree.read(file.where).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
  except (UnicodeDecodeError, csv.Error) as error:
    raise types.InputError(
      f"cannot read {seen.show(file)}: {error}; expected the columns filename "
      "and label"
    ) from error
  if not rows or not {"filename", "label"} <= set(rows[0]):
    return {}
  class_of = {}
  for number, row in enumerate(rows, 2):
    if not row["filename"] or not row["label"]:
      raise types.InputError(
        f"line {number} of {seen.show(file)} lacks a filename or label"
      )
    class_of[row["filename"].strip().rpartition("/")[2]] = row["label"].strip()
  return class_of


class _Pickle(NamedTuple):
  """What a pickle of either layout holds."""

  layout: str
  rows: Mapping[str, np.ndarray]  # of the images of each class, ascending
  images: np.ndarray  # [n, H, W, 3] uint8


def _from_pickles(seen: wordnet.Survey) -> listing.Listing | None:
  """Pickles of either layout; None if there are none.

  Raises:
    InputError: if a pickle is unreadable or malformed, or classes are missing.
  """
  by_layout: dict[str, list[wordnet.Labelled]] = {}
  problems = []
  for file in seen.files:
    is_pickle = file.base.lower().endswith((".pkl", ".pickle"))
    if not is_pickle or _LEFT_OUT.search(file.base):
      continue
    try:
      content = _parse(seen, file)
      if content is not None:
        labelled = _labelled(seen, file, content)
        by_layout.setdefault(content.layout, []).append(labelled)
    except types.InputError as error:
      problems.append(str(error))
    content = None  # before the next file is read
  # Where both layouts are complete they hold the same images twice.
  for layout in (_CACHE, _SPLIT):
    files = by_layout.get(layout, [])
    names = {name for file in files for name in file.names}
    if all(names.issuperset(split) for split in classes().values()):
      form = f"{layout} in a {seen.place.kind}"
      return wordnet.from_labelled(form, files, classes())
  # A pickle of another kind beside class folders is ignored.
  if problems and (by_layout or not seen.folders):
    raise types.InputError(listing.shorten(problems))
  if not by_layout:
    return None
  names = {n for files in by_layout.values() for f in files for n in f.names}
  _check_classes(names, f"{seen.place.path} ({next(iter(by_layout))})")
  raise types.InputError(
    f"{seen.place.path} has neither all {_CACHE} nor all {_SPLIT}"
  )


def _labelled(
  seen: wordnet.Survey, file: tree.File, content: _Pickle
) -> wordnet.Labelled:
  """The file without its images, which are read again when asked for."""
  rows = np.concatenate([*content.rows.values(), np.zeros(0, np.int64)])
  counts = [len(of_class) for of_class in content.rows.values()]

  def read() -> Iterator[np.ndarray]:
    again = _parse(seen, file)
    assert again is not None
    for row in rows:
      yield again.images[row]

  labels = np.repeat(np.arange(len(counts)), counts)
  return wordnet.Labelled(file.name, rows, labels, list(content.rows), read)


def _parse(seen: wordnet.Survey, file: tree.File) -> _Pickle | None:
  """The content of a file; None if it is something else.

  Raises:
    InputError: if it is not a pickle of plain values, or malformed.
  """
  where = seen.show(file)
  content = pickles.load(file.where, name=where)
  if not isinstance(content, dict):
    return None
  content = pickles.with_text_keys(content, where)
  if {"image_data", "class_dict"} <= set(content):
    images = _images(content["image_data"], where)
    rows = _rows_of_classes(content["class_dict"], len(images), where)
    layout = _CACHE
  elif {"data", "labels"} <= set(content):
    images = _images(content["data"], where)
    rows = _rows_of_labels(content, len(images), where)
    layout = _SPLIT
  else:
    return None
  for name, some in rows.items():
    what = f"class {name!r} of {where} has rows from"
    wordnet.check_labels(some, len(images), what, "images")
  return _Pickle(layout, rows, images)


def _images(found: Any, where: str) -> np.ndarray:
  # A list of the same array a million times takes little room in a pickle.
  if (
    isinstance(found, list)
    and all(isinstance(image, np.ndarray) for image in found)
    and len({(image.dtype, image.shape) for image in found}) == 1
    and len(set(map(id, found))) == len(found)
  ):
    found = np.stack(found)
  if not isinstance(found, np.ndarray):
    raise types.InputError(f"the images of {where} are not an array")
  wordnet.check_images(found.shape, found.dtype, where)
  return found


def _rows_of_classes(
  found: Any, num_images: int, where: str
) -> dict[str, np.ndarray]:
  if not isinstance(found, dict):
    raise types.InputError(f"class_dict of {where} is not a dict")
  rows_of, num_rows = {}, 0
  for key, rows in found.items():
    name = _class_name(key, where)
    what = f"class {name!r} of {where}"
    rows_of[name] = np.sort(pickles.whole_numbers(rows, what))
    num_rows += len(rows)
    if num_rows > num_images:
      raise types.InputError(
        f"class_dict of {where} has more rows than its {num_images:,} images"
      )
  return rows_of


def _rows_of_labels(
  content: dict[str, Any], num_images: int, where: str
) -> dict[str, np.ndarray]:
  labels = pickles.whole_numbers(content["labels"], f"labels of {where}")
  if len(labels) != num_images:
    raise types.InputError(
      f"{where} has {len(labels):,} labels and {num_images:,} images"
    )
  label_of = content.get("catname2label")
  if not isinstance(label_of, dict):
    raise types.InputError(
      f"{where} has no catname2label, so the class of a label is unknown; take "
      "a copy that has it"
    )
  names = [_class_name(key, where) for key in label_of]
  numbers = pickles.whole_numbers(
    list(label_of.values()), f"labels in catname2label of {where}"
  )
  rows = {
    name: np.flatnonzero(labels == number)
    for name, number in zip(names, numbers, strict=True)
  }
  if sum(map(len, rows.values())) != len(labels):
    raise types.InputError(
      f"catname2label of {where} does not name each label once"
    )
  return rows


def _class_name(key: Any, where: str) -> str:
  """A class by its key, which is a number in some data sets."""
  if type(key) is int and abs(key) < 2**63:
    return str(key)
  return pickles.text(key, f"names of classes of {where}")
