"""Mini-ImageNet: 100 classes of ImageNet with 600 images of 84 px each."""

import csv
import functools
import io
from collections.abc import Iterator
from typing import ClassVar

from fsl_jax import types
from fsl_jax.data import class_lists, listing, pictures
from fsl_jax.data.builders import from_source, mini_pickles, wordnet
from fsl_jax.data.containers import archives, tree

_PER_CLASS = 600


class MiniImagenet(from_source.FromSource):
  """Builder of the split by Ravi and Larochelle, 64 / 16 / 20 classes."""

  name = "mini_imagenet"
  DESCRIPTION = """\
Mini-ImageNet in the split of Ravi and Larochelle: 64 base, 16 validation and
20 novel classes with 600 photographs each, named by WordNet id. Copies were
resized by different programs, so their fingerprints differ.
"""
  NUM_CLASSES: ClassVar = {"base": 64, "val": 16, "novel": 20}
  IMAGES_PER_CLASS = _PER_CLASS
  RULE = pictures.Rule(size_px=84, fit="squash")
  OPTIONS = ("size_px", "fit")
  WHERE = (
    "Mini-ImageNet is made of ImageNet and has no official download; expected "
    "is a folder or archive of class folders (n01532829, ...), or images/ with "
    "train.csv, val.csv and test.csv, or mini-imagenet-cache-train.pkl, -val "
    "and -test, or miniImageNet_category_split_train_phase_train.pickle, _val "
    "and _test."
  )
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 38400, "val": 9600, "novel": 12000}
  REFERENCE_NOTE = "copies differ by how they were resized"

  def find(self) -> listing.Listing:
    """Looks at `self.source` and lists what is there, no picture decoded.

    Pickles are read once here, for their labels, and again for each split.

    Raises:
      InputError: if it is not Mini-ImageNet, or classes are missing.
    """
    assert self.source is not None
    return wordnet.look(
      self.source,
      self.scratch,
      _recognise,
      word="mini",
      title="Mini-ImageNet",
      expected="class folders, images with Ravi's CSV files, or pickles",
    )


@functools.cache
def classes() -> dict[str, tuple[str, ...]]:
  """WordNet ids by split, in label order."""
  found = class_lists.load("mini_imagenet")
  return {split: tuple(found[split]) for split in listing.SPLITS}


def hint(found: set[str]) -> str:
  """What the classes may be instead."""
  vinyals = class_lists.load("mini_imagenet")["vinyals"]
  theirs = {wnid for split in listing.SPLITS for wnid in vinyals[split]}
  ours = {wnid for names in classes().values() for wnid in names}
  if len(found & theirs) <= len(found & ours):
    return ""
  return (
    "these are classes of the earlier list of Vinyals et al., the list of "
    "Ravi and Larochelle is expected"
  )


def _recognise(seen: wordnet.Survey) -> listing.Listing | None:
  found = mini_pickles.find(seen, classes(), hint)
  if found is None:
    found = _from_csv(seen)
  if found is None and seen.folders:
    where = str(seen.place.path)
    wordnet.check_classes(
      seen.folders, classes(), where=where, hint=hint(set(seen.folders))
    )
    found = wordnet.from_folders(seen, classes())
    most = max(max(counts.values()) for counts in found.num_images.values())
    if most > 2 * _PER_CLASS:
      raise types.InputError(
        f"{where} has up to {most:,} images a class, expected {_PER_CLASS}; "
        "this looks like all of ImageNet, of which Mini-ImageNet is a choice"
      )
  return found


def _from_csv(seen: wordnet.Survey) -> listing.Listing | None:
  """Pictures that CSV files give a class; None without such files.

  Raises:
    InputError: if classes or pictures are missing.
  """
  class_of: dict[str, str] = {}
  for file in seen.files:
    if file.base.lower().endswith(".csv"):
      class_of.update(_read_csv(seen, file))
  if not class_of:
    return None
  where = f"the CSV files in {seen.place.path}"
  names = set(class_of.values())
  wordnet.check_classes(names, classes(), where=where, hint=hint(names))
  wanted = {wnid for split in classes().values() for wnid in split}
  class_of = {k: v for k, v in class_of.items() if v in wanted}

  files: dict[str, tree.File] = {}
  for file in _all_pictures(seen):
    if file.base in class_of:
      files.setdefault(file.base, file)
  if not files and seen.folders:
    return None  # The folders alone may do.
  missing = [name for name in class_of if name not in files]
  if missing:
    raise types.InputError(
      f"{where} name {len(class_of):,} pictures, of which {len(missing):,} are "
      f"not there: {listing.shorten(missing)}"
    )
  by_class: dict[str, list[tree.File]] = {wnid: [] for wnid in wanted}
  for name, wnid in class_of.items():
    by_class[wnid].append(files[name])

  def entries(split: str) -> Iterator[listing.Entry]:
    for wnid in classes()[split]:
      for file in by_class[wnid]:
        yield listing.Entry(wnid, file.name, file.where)

  return listing.Listing(
    f"{seen.place.kind} of pictures with CSV files",
    {s: {n: len(by_class[n]) for n in names} for s, names in classes().items()},
    entries,
  )


def _all_pictures(seen: wordnet.Survey) -> Iterator[tree.File]:
  yield from wordnet.pictures(iter(seen.files))
  for wnid in seen.folders:
    yield from seen.pictures(wnid)


def _read_csv(seen: wordnet.Survey, file: tree.File) -> dict[str, str]:
  """Class by file name; empty if the columns are others."""
  try:
    text = archives.read(file.where).decode("utf-8-sig")
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
