"""A table of file names and labels, instead of class folders."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import tree

_FILES = ("filename", "file_name", "file", "path", "image")
_LABELS = ("label", "class", "category")
_ENDINGS = (".csv", ".tsv", ".jsonl")

COLUMNS = (
  f"a .csv, .tsv or .jsonl file with a column {', '.join(_FILES[:-1])} or "
  f"{_FILES[-1]} and a column {', '.join(_LABELS[:-1])} or {_LABELS[-1]}"
)


class Labelled(NamedTuple):
  """The files of a table by class."""

  root: str  # folder that the names are relative to
  names: dict[str, list[str]]  # by class
  missing: list[str]  # names without a file


def tables(place: tree.Tree, folder: str) -> list[tree.File]:
  """The tables in a folder: files that have both columns."""
  found = []
  for file in place.files(folder):
    if file.base.lower().endswith(_ENDINGS):
      try:
        next(_rows(file))
      except (types.InputError, StopIteration):
        continue
      found.append(file)
  return found


def read(place: tree.Tree, table: tree.File, top: str) -> Labelled:
  """Reads a table; no image is decoded.

  Args:
    place: where.
    table: the file.
    top: folder in which its files may be if they are not beside it.

  Raises:
    InputError: naming all wrong rows; or if it is not a table.
  """
  label_of: dict[str, str] = {}
  problems = []
  for line, (name, label) in _rows(table):
    name = name.strip().replace("\\", "/").removeprefix("./")
    label = unicodedata.normalize("NFC", label.strip())
    if not name or not label:
      problems.append(f"line {line} lacks a {'label' if name else 'file'}")
    elif name.startswith("/") or ".." in name.split("/"):
      problems.append(f"line {line}: {name} leads outside of the folder")
    elif label_of.setdefault(name, label) != label:
      problems.append(
        f"line {line}: {name} is {label!r} here and {label_of[name]!r} before"
      )
  if problems:
    raise types.InputError(
      f"the table {place.path / table.name} cannot be used: "
      f"{listing.shorten(problems)}"
    )
  root = _root(place, table, top, list(label_of)[:20])
  found = Labelled(root, {}, [])
  for name, label in sorted(label_of.items()):
    if place.get(tree.join(root, name)) is None:
      found.missing.append(name)
    else:
      found.names.setdefault(label, []).append(name)
  return found


def _root(
  place: tree.Tree, table: tree.File, top: str, names: list[str]
) -> str:
  """The folder that holds most of the first files."""
  beside = table.name.rpartition("/")[0]
  below = [tree.join(beside, folder) for folder in place.folders(beside)]

  def num_found(root: str) -> int:
    return sum(place.get(tree.join(root, name)) is not None for name in names)

  return max([beside, top, *below], key=num_found)


def _rows(table: tree.File) -> Iterator[tuple[int, tuple[str, str]]]:
  """Line numbers, and the file and label of each.

  Raises:
    InputError: if it is not text, or lacks a column.
  """
  try:
    text = tree.read(table.where).decode("utf-8-sig")
    if table.base.lower().endswith(".jsonl"):
      lines = text.split("\n")  # JSON may hold other line separators.
      rows = [(n, json.loads(x)) for n, x in enumerate(lines, 1) if x.strip()]
    else:
      first = text.partition("\n")[0]
      reader = csv.DictReader(
        io.StringIO(text, newline=""),
        delimiter=max(",\t;", key=first.count),
        strict=True,
      )
      rows = [(reader.line_num, row) for row in reader]
  except (ValueError, csv.Error, RecursionError) as error:
    raise types.InputError(f"the table {table.name} is damaged: {error}") from (
      error
    )
  for line, row in rows:
    if not isinstance(row, dict):
      row = {}
    values = {str(key).strip().lower(): value for key, value in row.items()}
    file = next((values[key] for key in _FILES if key in values), None)
    label = next((values[key] for key in _LABELS if key in values), None)
    if file is None or label is None:
      raise types.InputError(
        f"line {line} of the table {table.name} has no file or no label; "
        f"expected {COLUMNS}"
      )
    yield line, (str(file), str(label))
