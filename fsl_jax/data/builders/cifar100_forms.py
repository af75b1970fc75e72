"""The forms of CIFAR-100 whose images are numbered, each brought to `Found`.

The authors publish rows of bytes (binary) or Python pickles, and
tensorflow-datasets writes records.
"""

import difflib
import functools
import os
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.containers import pickles, tree

COARSE_OF: Mapping[str, str] = class_lists.load("cifar100")["coarse_of_fine"]
"""Superclass of every class."""

FINE = tuple(COARSE_OF)
"""The class of every fine label, in alphabetical order."""

COARSE = tuple(sorted(set(COARSE_OF.values())))
"""The superclass of every coarse label."""

NUM_IMAGES = {"train": 50_000, "test": 10_000}
"""Images of the published parts; each has equally many of every class."""

EDGE_PX = 32

_KNOWN = {"fine": FINE, "coarse": COARSE}
_PIXELS = 3 * EDGE_PX**2
# A row has a coarse label, a fine label, and the red, green and blue planes.
_ROW = 2 + _PIXELS  # bytes
_ROW_OF_CIFAR10 = 1 + _PIXELS  # it has one label

_TFDS = "prepared by tensorflow-datasets"
_TFDS_CHUNK = 256  # records that are read together
_TFDS_LABELS = {"fine": "label", "coarse": "coarse_label"}


class Found(NamedTuple):
  """CIFAR-100, train and test joined.

  Attributes:
    form: as of `listing.Listing`.
    num_images: by fine class.
    entries: all images of some fine classes.
  """

  form: str
  num_images: Mapping[str, int]
  entries: Callable[[Collection[str]], Iterator[listing.Entry]]


class _Part(NamedTuple):
  """One published part, its images by number.

  Attributes:
    name: "train" or "test".
    labels: "fine" and, except in old versions of tfds, "coarse"; [n] integers.
    read: images of some rows, each pixels [32, 32, 3] uint8 or encoded.
  """

  name: str
  labels: Mapping[str, np.ndarray]
  read: Callable[[np.ndarray], Iterator[listing.Picture]]


def binary(
  place: tree.Tree, folder: str, scratch: pathlib.Path
) -> Found | None:
  """CIFAR-100 as train.bin and test.bin in a folder; None if absent.

  Raises:
    InputError: if they are incomplete or malformed.
  """
  files = {file.base: file for file in place.files(folder)}
  if not {"train.bin", "test.bin"} & set(files):
    return None
  names = {
    kind: tree.read(file.where).decode("utf-8", "replace").splitlines()
    for kind in _KNOWN
    if (file := files.get(f"{kind}_label_names.txt")) is not None
  }
  problems, parts = [], []
  for part, num in NUM_IMAGES.items():
    file = files.get(f"{part}.bin")
    if file is None:
      problems.append(f"{part}.bin is missing")
    elif file.size != num * _ROW:
      problems.append(_wrong_size(file, num))
    else:
      where = file.where
      if isinstance(where, listing.ZipMember):
        plain = scratch / f"cifar100-{file.base}"
        plain.write_bytes(tree.read(where))
        where = listing.FileRange(os.fspath(plain))
      rows = np.memmap(
        where.path, np.uint8, "r", offset=where.offset, shape=(num, _ROW)
      )
      parts.append(_part_of_pixels(part, rows[:, 1], rows[:, 0], rows[:, 2:]))
  form = f"official binary files in a {place.kind}"
  return _checked(form, _show(place, folder), names, parts, problems)


def pickled(
  place: tree.Tree, folder: str, scratch: pathlib.Path
) -> Found | None:
  """CIFAR-100 as the pickles train, test and meta; None if absent.

  Raises:
    InputError: if they are incomplete or malformed.
  """
  files = {file.base: file for file in place.files(folder)}
  # Two of the three: a single file called "test" proves nothing.
  if len({"train", "test", "meta"} & set(files)) < 2:
    return None
  meta = _load_dict(place, files["meta"]) if "meta" in files else {}
  names = {}
  for kind in _KNOWN:
    key = f"{kind}_label_names"
    if meta.get(key) is not None:
      names[kind] = pickles.texts(meta[key], f"{key} of {_show(place, folder)}")
  problems, parts = [], []
  for part, num in NUM_IMAGES.items():
    if part not in files:
      problems.append(f"{part} is missing")
      continue
    content = _load_dict(place, files[part])
    wrong = _wrong_content(content, num)
    problems += [f"{part}: {problem}" for problem in wrong]
    if not wrong:
      # The 150 MB of pixels need not stay in memory.
      path = scratch / f"cifar100-{part}.npy"
      np.save(path, content.pop("data"))
      parts.append(
        _part_of_pixels(
          part,
          np.asarray(content["fine_labels"]),
          np.asarray(content["coarse_labels"]),
          np.load(path, mmap_mode="r"),
        )
      )
  form = f"official Python pickles in a {place.kind}"
  return _checked(form, _show(place, folder), names, parts, problems)


def prepared(place: tree.Tree, folder: str) -> Found | None:
  """CIFAR-100 as tensorflow-datasets prepares it; None if absent.

  It is read without TensorFlow.

  Raises:
    InputError: if it is incomplete, or can only be read with TensorFlow.
  """
  if not {"dataset_info.json", "features.json"} <= {
    file.base for file in place.files(folder)
  }:
    return None
  where = place.path / folder
  if place.kind != "folder":
    raise types.InputError(
      f"{_show(place, folder)} was {_TFDS}, which cannot be read inside an "
      "archive; unpack it and give the folder"
    )
  try:
    info = tfds.builder_from_directory(where).info
    return _of_tfds(info, where) if info.name == "cifar100" else None
  except types.InputError:
    raise
  # Its readers raise exceptions of any type.
  except Exception as error:
    raise types.InputError(
      f"{where} ({_TFDS}) is damaged: {type(error).__name__}: {error}"
    ) from error


def key(name: str) -> str:
  """A name without differences of spelling."""
  return "".join(c for c in name.casefold() if c.isalnum())


def canonical(name: str) -> str:
  """The class or superclass of that name in any spelling, or ""."""
  return _of_key().get(key(name), "")


@functools.cache
def _of_key() -> dict[str, str]:
  return {key(name): name for name in (*FINE, *COARSE)}


def unknown(name: str) -> str:
  near = difflib.get_close_matches(key(name), _of_key(), n=1)
  hint = f" (did you mean {_of_key()[near[0]]!r}?)" if near else ""
  return f"unknown class {name!r}{hint}"


def _show(place: tree.Tree, name: str) -> str:
  """A file or folder of a tree, for messages."""
  if place.kind == "folder":
    return str(place.path / name)
  return f"{name} in {place.path}" if name else str(place.path)


def refuse(where: str, form: str, problems: list[str]) -> None:
  """Raises InputError if there are problems, naming all of them."""
  if problems:
    raise types.InputError(
      f"{where} ({form}) is not CIFAR-100 as published: "
      f"{listing.shorten(problems)}"
    )


def _checked(
  form: str,
  where: str,
  names: Mapping[str, Sequence[str]],
  parts: Sequence[_Part],
  problems: list[str],
) -> Found:
  """The parts with their labels as positions in `FINE` and `COARSE`.

  Args:
    form: for `Found` and messages.
    where: for messages.
    names: by kind of label, the class of every label in any spelling; a kind
      that is absent is as published.
    parts: with labels as the files have them.
    problems: of what comes before.

  Raises:
    InputError: naming all problems, and those of names or else of labels.
  """
  positions = {}
  for kind, known in _KNOWN.items():
    given = [name.strip() for name in names.get(kind, known) if name.strip()]
    found = [canonical(name) for name in given]
    what = f"{kind}_label_names"
    problems += [
      f"{what}: {unknown(name)}"
      for name, canonical in zip(given, found, strict=True)
      if canonical not in known
    ]
    found = [name for name in found if name in known]
    if missing := [name for name in known if name not in found]:
      problems.append(f"{what} lacks {', '.join(missing)}")
    if len(set(found)) < len(found):
      problems.append(f"{what} has classes twice")
    positions[kind] = np.array([known.index(name) for name in found], int)
  refuse(where, form, problems)
  fine = []
  for part in parts:
    labels, wrong = _positions_of_labels(part, positions)
    problems += [f"{part.name}: {problem}" for problem in wrong]
    fine.append(labels)
  refuse(where, form, problems)
  counts = np.bincount(np.concatenate(fine), minlength=len(FINE)).tolist()

  def entries(wanted: Collection[str]) -> Iterator[listing.Entry]:
    numbers = [FINE.index(name) for name in wanted]
    for part, labels in zip(parts, fine, strict=True):
      rows = np.flatnonzero(np.isin(labels, numbers))
      for row, image in zip(rows, part.read(rows), strict=True):
        name = FINE[labels[row]]
        entry_id = f"{part.name}/{row:05d}"
        yield listing.Entry(name, entry_id, image, COARSE_OF[name])

  return Found(form, dict(zip(FINE, counts, strict=True)), entries)


def _positions_of_labels(
  part: _Part, positions: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[str]]:
  """[n] positions of the classes in `FINE`; what is wrong with the labels."""
  problems, found = [], {}
  for kind in ("coarse", "fine"):
    if kind not in part.labels:
      continue
    labels, known = part.labels[kind], positions[kind]
    beyond = np.flatnonzero(labels >= len(known))
    if len(beyond):
      problems.append(
        f"{len(beyond):,} {kind} labels are beyond {len(known) - 1}, such as "
        f"{labels[beyond[0]]} of image {beyond[0]}"
      )
    else:
      found[kind] = known[labels]
  if problems:
    return np.zeros(0, np.int64), problems
  fine = found["fine"]
  coarse_of_fine = np.array([COARSE.index(COARSE_OF[name]) for name in FINE])
  expected = coarse_of_fine[fine]
  coarse = found.get("coarse", expected)
  apart = np.flatnonzero(expected != coarse)
  if len(apart):
    first = apart[0]
    problems.append(
      f"{len(apart):,} fine and coarse labels disagree, such as "
      f"{FINE[fine[first]]} with {COARSE[coarse[first]]} of image {first}"
    )
  return fine, problems


def _part_of_pixels(
  name: str, fine: np.ndarray, coarse: np.ndarray, pixels: np.ndarray
) -> _Part:
  """A part of planes, [n, 3072] uint8, memory-mapped."""

  def read(rows: np.ndarray) -> Iterator[np.ndarray]:
    for row in rows:
      planes = pixels[row].reshape(3, EDGE_PX, EDGE_PX)
      # A copy: a view of a mapped file cannot be sent to another process.
      yield np.array(planes.transpose(1, 2, 0), order="C")

  return _Part(name, {"fine": fine, "coarse": coarse}, read)


def _wrong_size(file: tree.File, num: int) -> str:
  hint = ""
  if file.size and file.size % _ROW_OF_CIFAR10 == 0:
    hint = " (these may be rows of CIFAR-10)"
  elif file.size < num * _ROW:
    hint = " (it may be cut short)"
  return (
    f"{file.base} has {file.size:,} bytes, expected {num * _ROW:,}, {num:,} "
    f"rows of {_ROW:,}{hint}"
  )


def _load_dict(place: tree.Tree, file: tree.File) -> dict[str, Any]:
  """A pickled dict; its keys are text or, in some copies, bytes."""
  where = _show(place, file.name)
  content = pickles.load(file.where, name=where)
  if not isinstance(content, dict):
    return {}
  return pickles.with_text_keys(content, where)


def _wrong_content(content: dict[str, Any], num: int) -> list[str]:
  """What is wrong with the pickle of a part, if anything."""
  columns = ("coarse_labels", "fine_labels")
  absent = [name for name in (*columns, "data") if name not in content]
  if absent:
    hint = " (CIFAR-10 has labels of one kind)" if "labels" in content else ""
    return [f"it holds no {', '.join(absent)}{hint}"]
  problems = []
  data = content["data"]
  is_array = isinstance(data, np.ndarray) and data.dtype == np.uint8
  if not is_array or data.shape != (num, _PIXELS):
    got = f"a {type(data).__name__}"
    if isinstance(data, np.ndarray):
      got = f"{list(data.shape)} {data.dtype}"
    problems.append(f"data is {got}, expected [{num}, {_PIXELS}] uint8")
  for name in columns:
    values = content[name]
    if isinstance(values, np.ndarray):
      values = values.tolist()
    # Whether they are known labels is checked with those of the other forms.
    is_right = isinstance(values, list) and all(
      isinstance(v, int) and 0 <= v < 256 for v in values
    )
    if not is_right or len(values) != num:
      problems.append(f"{name} are not {num:,} small whole numbers")
  return problems


def _of_tfds(info: Any, where: pathlib.Path) -> Found:
  problems = [
    f"feature {name!r} is missing"
    for name in ("image", "label")
    if name not in info.features
  ]
  for part, num in NUM_IMAGES.items():
    if part not in info.splits:
      problems.append(f"split {part} is missing")
    elif info.splits[part].num_examples != num:
      problems.append(
        f"{part} has {info.splits[part].num_examples:,} images, expected "
        f"{num:,}"
      )
  refuse(str(where), _TFDS, problems)
  if info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
    raise types.InputError(
      f"{where} ({_TFDS}) is in the format {info.file_format.value}, which "
      "needs TensorFlow; prepare it again with: tfds build cifar100 "
      "--file_format=array_record"
    )
  names = {
    kind: path.read_text(encoding="utf-8").split()
    for kind, feature in _TFDS_LABELS.items()
    if (path := where / f"{feature}.labels.txt").is_file()
  }
  # Old versions have no coarse labels.
  kinds = [k for k, name in _TFDS_LABELS.items() if name in info.features]
  parts = []
  for part, num in NUM_IMAGES.items():
    records = functools.partial(_tfds_records, where, part)
    labels = np.array(
      [[r[_TFDS_LABELS[k]] for k in kinds] for r in records(np.arange(num))]
    )
    columns = dict(zip(kinds, labels.T, strict=True))

    def read(rows: np.ndarray, records=records) -> Iterator[bytes]:
      return (record["image"] for record in records(rows))

    parts.append(_Part(part, columns, read))
  return _checked(_TFDS, str(where), names, parts, problems)


def _tfds_records(
  where: pathlib.Path, part: str, rows: np.ndarray
) -> Iterator[Any]:
  """Records, their images as the bytes that are stored."""
  source = tfds.builder_from_directory(where).as_data_source(
    part, decoders={"image": tfds.decode.SkipDecoding()}
  )
  for start in range(0, len(rows), _TFDS_CHUNK):
    yield from source.__getitems__(rows[start : start + _TFDS_CHUNK].tolist())
