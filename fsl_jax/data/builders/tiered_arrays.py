"""Tiered-ImageNet as its authors publish it: encoded pictures or arrays.

A split is a list of PNG files, or the array that their program makes of it,
and a dict of labels with the names of the classes in words. The numbers of the
super-classes in it are not used: the program that wrote them counted wrongly.
"""

import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.builders import wordnet
from fsl_jax.data.containers import (
  archives,
  members,
  pickled_fields,
  pickles,
  tree,
)

_LABELS = "_labels.pkl"
# The first one wins: a PNG says itself in which order its channels are.
_IMAGES = {"_images_png.pkl": "PNG pickles", "_images.npz": "npz arrays"}


class Class(NamedTuple):
  """A class of the published list."""

  split: str
  wnid: str
  group: str  # super-class
  words: str  # as its authors name it


class _Part(NamedTuple):
  """The files of one split."""

  stem: str  # such as "train"
  labels: np.ndarray  # [n] rows of `names`
  names: list[str]  # WordNet ids
  images: tree.File


def by_split(classes: Sequence[Class]) -> dict[str, tuple[str, ...]]:
  """WordNet ids by split, in label order."""
  return {
    split: tuple(entry.wnid for entry in classes if entry.split == split)
    for split in listing.SPLITS
  }


def find(
  seen: wordnet.Survey, classes: Sequence[Class]
) -> listing.Listing | None:
  """Images and labels of all splits.

  Args:
    seen: where to look.
    classes: that must be there.

  Returns:
    None if there are neither images nor labels under the known names.

  Raises:
    InputError: if files or classes are missing or do not fit together.
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
      parts.append(_part(seen, stem, labels[stem], file, classes))
    except types.InputError as error:
      problems.append(str(error))
  if problems:
    raise types.InputError(listing.shorten(problems))
  names = [name for part in parts for name in part.names]
  where = f"{seen.place.path} ({_IMAGES[suffix]})"
  wordnet.check_classes(names, by_split(classes), where=where)
  return _listing(seen, parts, classes, _IMAGES[suffix])


def _by_stem(seen: wordnet.Survey, suffix: str) -> dict[str, tree.File]:
  return {
    file.base.removesuffix(suffix): file
    for file in seen.files
    if file.base in {f"{stem}{suffix}" for stem in ("train", "val", "test")}
  }


def _part(
  seen: wordnet.Survey,
  stem: str,
  labels: tree.File,
  images: tree.File,
  classes: Sequence[Class],
) -> _Part:
  where = seen.show(labels)
  content = pickles.load(labels.where, name=where)
  if isinstance(content, dict):
    content = pickled_fields.with_text_keys(content, where)
  if not isinstance(content, dict) or not (
    {"label_specific", "label_specific_str"} <= set(content)
  ):
    raise types.InputError(
      f"{where} lacks label_specific or label_specific_str"
    )
  known = {entry.words: entry.wnid for entry in classes}
  known |= {entry.wnid: entry.wnid for entry in classes}
  words = pickled_fields.texts(
    content["label_specific_str"], f"label_specific_str of {where}"
  )
  if unknown := [name for name in words if name not in known]:
    raise types.InputError(
      f"{where} has classes that are not of the list of Tiered-ImageNet: "
      f"{listing.shorten([repr(name) for name in unknown])}"
    )
  rows = pickled_fields.whole_numbers(
    content["label_specific"], f"label_specific of {where}"
  )
  if len(rows) and not 0 <= rows.min() <= rows.max() < len(words):
    raise types.InputError(
      f"label_specific of {where} are {rows.min()} to {rows.max()}, there are "
      f"{len(words)} names"
    )
  return _Part(stem, rows, [known[name] for name in words], images)


def _listing(
  seen: wordnet.Survey,
  parts: Sequence[_Part],
  classes: Sequence[Class],
  form: str,
) -> listing.Listing:
  num_images: dict[str, dict[str, int]] = {
    split: dict.fromkeys(names, 0) for split, names in by_split(classes).items()
  }
  of_class = {entry.wnid: entry for entry in classes}
  for part in parts:
    counts = np.bincount(part.labels, minlength=len(part.names))
    for name, count in zip(part.names, counts, strict=True):
      num_images[of_class[name].split][name] += int(count)

  def entries(split: str) -> Iterator[listing.Entry]:
    for part in parts:
      if all(of_class[name].split != split for name in part.names):
        continue
      is_pickle = part.images.base.endswith(".pkl")
      pictures: Iterator[bytes | np.ndarray] = (
        _pngs(seen, part) if is_pickle else _arrays(seen, part)
      )
      for row, (label, picture) in enumerate(
        zip(part.labels.tolist(), pictures, strict=True)
      ):
        entry = of_class[part.names[label]]
        if entry.split == split:
          yield listing.Entry(
            entry.wnid, f"{part.stem}/{row}", picture, entry.group
          )

  return listing.Listing(f"{form} in a {seen.place.kind}", num_images, entries)


def _pngs(seen: wordnet.Survey, part: _Part) -> Iterator[bytes]:
  """Encoded pictures of a pickle, each let go of once it was yielded."""
  where = seen.show(part.images)
  found = pickles.load(part.images.where, name=where)
  if not isinstance(found, list):
    raise types.InputError(f"{where} is no list of encoded pictures")
  _check_number(where, len(found), part)
  found.reverse()
  while found:
    encoded = found.pop()
    if isinstance(encoded, np.ndarray) and encoded.dtype == np.uint8:
      encoded = encoded.tobytes()
    if not isinstance(encoded, bytes):
      raise types.InputError(f"{where} holds what is no encoded picture")
    yield encoded


def _arrays(seen: wordnet.Survey, part: _Part) -> Iterator[np.ndarray]:
  """Pictures of an npz file, read one by one.

  OpenCV decoded them and the authors kept its order of channels: BGR.
  """
  where = seen.show(part.images)
  with (
    archives.refuse_broken(where),
    members.open_binary(part.images.where) as (file, _),
    zipfile.ZipFile(file) as archive,
  ):
    if "images.npy" not in archive.namelist():
      raise types.InputError(f"{where} has no array called images")
    with archive.open("images.npy") as member:
      shape = _shape(member, where)
      _check_number(where, shape[0], part)
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
  if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or fortran:
    raise types.InputError(
      f"the images of {where} are {list(shape)} {dtype}, expected "
      "[n, 84, 84, 3] uint8"
    )
  return shape


def _check_number(where: str, num_images: int, part: _Part) -> None:
  if num_images != len(part.labels):
    raise types.InputError(
      f"{where} has {num_images:,} images, but {part.stem}{_LABELS} has "
      f"{len(part.labels):,} labels"
    )
