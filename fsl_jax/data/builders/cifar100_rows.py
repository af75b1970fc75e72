"""CIFAR-100 as its authors publish it: rows of bytes, or Python pickles.

A row is a coarse label, a fine label and 3,072 pixel bytes: the red, the green
and the blue plane. Pickles are written out as such rows first, so that their
150 MB of pixels need not stay in memory.
"""

import functools
import os
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from fsl_jax.data import listing
from fsl_jax.data.builders import cifar100_classes as classes
from fsl_jax.data.containers import pickled_fields, pickles, tree

_PIXELS = 3 * classes.EDGE_PX**2
_ROW = 2 + _PIXELS  # bytes

# Of one image in the files of CIFAR-10, which has one label.
_ROW_OF_CIFAR10 = 1 + _PIXELS


class _Names(NamedTuple):
  """Positions of the labels' classes in `classes.FINE` and `COARSE`."""

  fine: np.ndarray  # [100] int64
  coarse: np.ndarray  # [20] int64


class _Rows(NamedTuple):
  """One file of rows that has been checked."""

  part: str  # "train" or "test"
  where: listing.FileRange
  classes: np.ndarray  # [n] int64, positions in `classes.FINE`

  def pixels(self) -> np.ndarray:
    """[n, 3, 32, 32] uint8, not in memory."""
    edge = classes.EDGE_PX
    rows = _map(self.where, len(self.classes))
    return rows[:, 2:].reshape(-1, 3, edge, edge)


def binary(
  place: tree.Tree, folder: str, scratch: pathlib.Path
) -> classes.Found | None:
  """CIFAR-100 as train.bin and test.bin, if they are in a folder of a tree.

  Raises:
    InputError: if they are not whole.
  """
  files = {file.base: file for file in place.files(folder)}
  if not {"train.bin", "test.bin"} & set(files):
    return None
  form = f"official binary files in a {place.kind}"
  where = classes.show(place, folder)
  listed = [
    tree.read(files[name].where).decode("utf-8", "replace").splitlines()
    if name in files
    else None
    for name in ("fine_label_names.txt", "coarse_label_names.txt")
  ]
  names, problems = _names(*listed)
  parts = []
  for part, num in classes.NUM_IMAGES.items():
    file = files.get(f"{part}.bin")
    if file is None:
      problems.append(f"{part}.bin is missing")
    elif file.size != num * _ROW:
      problems.append(_wrong_size(file, num))
    else:
      parts.append((part, _range(file, scratch), num))
  return _found(form, where, parts, names, problems)


def pickled(
  place: tree.Tree, folder: str, scratch: pathlib.Path
) -> classes.Found | None:
  """CIFAR-100 as the pickles train, test and meta, as `binary`.

  Raises:
    InputError: if they are not whole, or hold more than arrays and text.
  """
  files = {file.base: file for file in place.files(folder)}
  # Two of the three: a lone file called "test" means nothing.
  if len({"train", "test", "meta"} & set(files)) < 2:
    return None
  form = f"official Python pickles in a {place.kind}"
  where = classes.show(place, folder)
  meta = _load(place, files["meta"]) if "meta" in files else {}
  names, problems = _names(
    *(
      pickled_fields.texts(meta[key], f"{key} of {classes.show(place, folder)}")
      if meta.get(key) is not None
      else None
      for key in ("fine_label_names", "coarse_label_names")
    )
  )
  parts = []
  for part, num in classes.NUM_IMAGES.items():
    if part not in files:
      problems.append(f"{part} is missing")
      continue
    target = scratch / f"cifar100-{part}.bin"
    wrong = _write_rows(_load(place, files[part]), num, target)
    problems += [f"{part}: {problem}" for problem in wrong]
    if not wrong:
      parts.append((part, listing.FileRange(os.fspath(target)), num))
  return _found(form, where, parts, names, problems)


def _names(
  fine: list[str] | None, coarse: list[str] | None
) -> tuple[_Names, list[str]]:
  """What the labels stand for; without names, what is published."""
  found, problems = [], []
  for given, known, what in (
    (fine, classes.FINE, "fine_label_names"),
    (coarse, classes.COARSE, "coarse_label_names"),
  ):
    names = known if given is None else [n.strip() for n in given if n.strip()]
    places, wrong = classes.positions(names, known, what)
    problems += wrong
    found.append(np.array(range(len(known)) if wrong else places))
  return _Names(*found), problems


def _found(
  form: str,
  where: str,
  parts: list[tuple[str, listing.FileRange, int]],
  names: _Names,
  problems: list[str],
) -> classes.Found:
  classes.refuse(where, form, problems)
  rows = []
  for part, range_, num in parts:
    of_row, wrong = _check_labels(_map(range_, num), names)
    problems += [f"{part}: {problem}" for problem in wrong]
    rows.append(_Rows(part, range_, of_row))
  classes.refuse(where, form, problems)
  return classes.Found(
    form,
    classes.count([of_part.classes for of_part in rows]),
    functools.partial(_entries, rows),
  )


def _check_labels(
  rows: np.ndarray, names: _Names
) -> tuple[np.ndarray, list[str]]:
  """[n] positions of the classes in `FINE`; what is wrong with the labels."""
  labels = np.array(rows[:, :2])
  problems = []
  for what, column, known in (
    ("coarse", labels[:, 0], names.coarse),
    ("fine", labels[:, 1], names.fine),
  ):
    beyond = np.flatnonzero(column >= len(known))
    if len(beyond):
      problems.append(
        f"{len(beyond):,} {what} labels are beyond {len(known) - 1}, such as "
        f"{column[beyond[0]]} of image {beyond[0]}"
      )
  if problems:
    return np.zeros(0, np.int64), problems
  fine, coarse = names.fine[labels[:, 1]], names.coarse[labels[:, 0]]
  return fine, classes.check_coarse(fine, coarse)


def _entries(
  rows: list[_Rows], wanted: Collection[str]
) -> Iterator[listing.Entry]:
  numbers = [classes.FINE.index(name) for name in wanted]
  for of_part in rows:
    pixels = of_part.pixels()
    for i in np.flatnonzero(np.isin(of_part.classes, numbers)):
      name = classes.FINE[of_part.classes[i]]
      yield listing.Entry(
        name,
        f"{of_part.part}/{i:05d}",
        # A copy, because what lies in a file would not travel to a process.
        np.array(pixels[i].transpose(1, 2, 0), order="C"),
        classes.COARSE_OF[name],
      )


def _map(where: listing.FileRange, num: int) -> np.ndarray:
  return np.memmap(
    where.path, np.uint8, "r", offset=where.offset, shape=(num, _ROW)
  )


def _range(file: tree.File, scratch: pathlib.Path) -> listing.FileRange:
  """A file's place on disk; a member of a zip archive gets one."""
  if isinstance(file.where, listing.FileRange):
    return file.where
  plain = scratch / f"cifar100-{file.base}"
  plain.write_bytes(tree.read(file.where))
  return listing.FileRange(os.fspath(plain))


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


def _load(place: tree.Tree, file: tree.File) -> dict[str, Any]:
  """A pickled dict; its keys are text or, in copies of copies, bytes."""
  where = classes.show(place, file.name)
  content = pickles.load(file.where, name=where)
  if not isinstance(content, dict):
    return {}
  return pickled_fields.with_text_keys(content, where)


def _write_rows(
  content: dict[str, Any], num: int, target: pathlib.Path
) -> list[str]:
  """Writes what a pickle holds as rows; what is wrong with it, if anything."""
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
  labels = []
  for name in columns:
    values = content[name]
    if isinstance(values, np.ndarray):
      values = values.tolist()
    # A byte must hold them; whether they are labels is checked with the rows.
    is_right = isinstance(values, list) and all(
      isinstance(v, int) and 0 <= v < 256 for v in values
    )
    if not is_right or len(values) != num:
      problems.append(f"{name} are not {num:,} small whole numbers")
    labels.append(values)
  if problems:
    return problems
  rows = np.memmap(target, np.uint8, "w+", shape=(num, _ROW))
  rows[:, 0], rows[:, 1] = labels
  rows[:, 2:] = data
  rows.flush()
  return []
