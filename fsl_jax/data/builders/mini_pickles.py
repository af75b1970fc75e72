"""Mini-ImageNet as pickles of arrays, in the two layouts that exist."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.builders import wordnet
from fsl_jax.data.containers import pickled_fields, pickles, tree

_CACHE = "cached pickles"
_SPLIT = "category split pickles"

# Other pictures of the base classes, beside the 600 of each.
_LEFT_OUT = re.compile(r"train_phase_(val|test)")


class _File(NamedTuple):
  """A file, and the rows of each class in its array of images."""

  file: tree.File
  layout: str
  rows: Mapping[str, np.ndarray]


def find(
  seen: wordnet.Survey,
  classes: wordnet.Classes,
  hint: Callable[[set[str]], str],
) -> listing.Listing | None:
  """Pickles of either layout; one file is in memory at a time.

  Args:
    seen: where to look.
    classes: that must be there.
    hint: what other classes may be.

  Returns:
    None if there is no pickle of either layout.

  Raises:
    InputError: if a pickle is unreadable or malformed, or classes are missing.
  """
  files, problems = _index(seen)
  # Someone may have both; they are then the same pictures twice.
  for layout in (_CACHE, _SPLIT):
    chosen = [file for file in files if file.layout == layout]
    names = {name for file in chosen for name in file.rows}
    if all(names.issuperset(split) for split in classes.values()):
      return _listing(seen, chosen, classes)
  # A pickle of another kind beside class folders is no fault.
  if problems and (files or not seen.folders):
    raise types.InputError(listing.shorten(problems))
  if files:
    names = {name for file in files for name in file.rows}
    where = f"{seen.place.path} ({files[0].layout})"
    wordnet.check_classes(names, classes, where=where, hint=hint(names))
    raise types.InputError(
      f"{seen.place.path} has neither all {_CACHE} nor all {_SPLIT}"
    )
  return None


def _index(seen: wordnet.Survey) -> tuple[list[_File], list[str]]:
  """Files of either layout, without their images, and what is wrong."""
  files, problems = [], []
  for file in seen.files:
    is_pickle = file.base.lower().endswith((".pkl", ".pickle"))
    if not is_pickle or _LEFT_OUT.search(file.base):
      continue
    try:
      parsed = _parse(seen, file)
    except types.InputError as error:
      problems.append(str(error))
      continue
    if parsed is not None:
      files.append(_File(file, parsed[0], parsed[1]))
    del parsed  # before the next file is read
  return files, problems


def _listing(
  seen: wordnet.Survey, files: list[_File], classes: wordnet.Classes
) -> listing.Listing:
  def entries(split: str) -> Iterator[listing.Entry]:
    for file in files:
      names = [name for name in classes[split] if name in file.rows]
      if not names:
        continue
      parsed = _parse(seen, file.file)
      assert parsed is not None
      images = parsed[2]
      for name in names:
        for row in file.rows[name]:
          yield listing.Entry(name, f"{file.file.name}/{row}", images[row])
      del parsed, images  # before the next file is read

  def count(name: str) -> int:
    return sum(len(file.rows.get(name, ())) for file in files)

  return listing.Listing(
    f"{files[0].layout} in a {seen.place.kind}",
    {s: {name: count(name) for name in names} for s, names in classes.items()},
    entries,
  )


def _parse(
  seen: wordnet.Survey, file: tree.File
) -> tuple[str, dict[str, np.ndarray], np.ndarray] | None:
  """Layout, rows by class, images; None if it is something else."""
  where = seen.show(file)
  content = pickles.load(file.where, name=where)
  if not isinstance(content, dict):
    return None
  content = pickled_fields.with_text_keys(content, where)
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
    if len(some) and not 0 <= some.min() <= some.max() < len(images):
      raise types.InputError(
        f"class {name!r} of {where} has rows from {some.min()} to "
        f"{some.max()}, there are {len(images):,} images"
      )
  return layout, rows, images


def _images(found: Any, where: str) -> np.ndarray:
  images = found
  if isinstance(found, list) and _are_arrays(found):
    images = np.stack(found)
  if not isinstance(images, np.ndarray):
    raise types.InputError(f"the images of {where} are no array")
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
    raise types.InputError(
      f"the images of {where} are {list(images.shape)} {images.dtype}, "
      "expected [n, 84, 84, 3] uint8"
    )
  return images


def _are_arrays(found: list[Any]) -> bool:
  """Whether they are arrays of one kind, none of which is there twice.

  The same one a million times takes little room in a pickle.
  """
  return (
    all(isinstance(image, np.ndarray) for image in found)
    and len({(image.dtype, image.shape) for image in found}) == 1
    and len(set(map(id, found))) == len(found)
  )


def _rows_of_classes(
  found: Any, num_images: int, where: str
) -> dict[str, np.ndarray]:
  if not isinstance(found, dict):
    raise types.InputError(f"class_dict of {where} is no dict")
  rows_of, num_rows = {}, 0
  for key, rows in found.items():
    name = _class_name(key, where)
    what = f"class {name!r} of {where}"
    rows_of[name] = np.sort(pickled_fields.whole_numbers(rows, what))
    num_rows += len(rows)
    if num_rows > num_images:
      raise types.InputError(
        f"class_dict of {where} has more rows than its {num_images:,} images"
      )
  return rows_of


def _rows_of_labels(
  content: dict[str, Any], num_images: int, where: str
) -> dict[str, np.ndarray]:
  labels = pickled_fields.whole_numbers(content["labels"], f"labels of {where}")
  if len(labels) != num_images:
    raise types.InputError(
      f"{where} has {len(labels):,} labels and {num_images:,} images"
    )
  label_of = content.get("catname2label")
  if not isinstance(label_of, dict):
    raise types.InputError(
      f"{where} has no catname2label, without which nobody can tell which "
      "class a label is; take a copy that has it"
    )
  names = [_class_name(key, where) for key in label_of]
  numbers = pickled_fields.whole_numbers(
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
  return pickled_fields.text(key, f"names of classes of {where}")
