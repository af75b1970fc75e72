"""CIFAR-100 as tensorflow-datasets prepares it, read without TensorFlow."""

import functools
import pathlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.builders import cifar100_classes as classes
from fsl_jax.data.containers import tree

_FORM = "prepared by tensorflow-datasets"

_CHUNK = 256  # records that are read together

_LABELS = {"label": classes.FINE, "coarse_label": classes.COARSE}


def find(place: tree.Tree, folder: str) -> classes.Found | None:
  """CIFAR-100 as prepared files, if they are in a folder of a tree.

  Raises:
    InputError: if they are not whole, or can only be read with TensorFlow.
  """
  names = {file.base for file in place.files(folder)}
  if not {"dataset_info.json", "features.json"} <= names:
    return None
  if place.kind != "folder":
    raise types.InputError(
      f"{classes.show(place, folder)} was {_FORM}, which cannot be read inside "
      "an archive; unpack it and give the folder"
    )
  where = place.path / folder
  try:
    info = tfds.builder_from_directory(where).info
    if info.name != "cifar100":
      return None
    return _found(info, where)
  except types.InputError:
    raise
  # Its readers raise what they like.
  except Exception as error:
    raise types.InputError(
      f"{where} ({_FORM}) is damaged: {type(error).__name__}: {error}"
    ) from error


def _found(info: Any, where: pathlib.Path) -> classes.Found:
  problems = [
    f"feature {name!r} is missing"
    for name in ("image", "label")
    if name not in info.features
  ]
  for part, num in classes.NUM_IMAGES.items():
    if part not in info.splits:
      problems.append(f"split {part} is missing")
    elif info.splits[part].num_examples != num:
      problems.append(
        f"{part} has {info.splits[part].num_examples:,} images, expected "
        f"{num:,}"
      )
  # Old versions have no coarse labels.
  positions = {}
  for name in set(_LABELS) & set(info.features):
    positions[name], wrong = _positions(where, name)
    problems += wrong
  classes.refuse(str(where), _FORM, problems)
  if info.file_format is not tfds.core.FileFormat.ARRAY_RECORD:
    raise types.InputError(
      f"{where} ({_FORM}) is in the format {info.file_format.value}, which "
      "needs TensorFlow; prepare it again with: tfds build cifar100 "
      "--file_format=array_record"
    )
  labels = {}
  for part, num in classes.NUM_IMAGES.items():
    of_part = _read_labels(where, part, num, positions)
    labels[part] = of_part["label"]
    if "coarse_label" in of_part:
      wrong = classes.check_coarse(of_part["label"], of_part["coarse_label"])
      problems += [f"{part}: {problem}" for problem in wrong]
  classes.refuse(str(where), _FORM, problems)
  return classes.Found(
    _FORM,
    classes.count(list(labels.values())),
    functools.partial(_entries, where, labels),
  )


def _positions(where: pathlib.Path, name: str) -> tuple[np.ndarray, list[str]]:
  """What the numbers of a label stand for; what is wrong with its names."""
  names: Sequence[str] = _LABELS[name]
  file = where / f"{name}.labels.txt"
  if file.is_file():
    names = file.read_text(encoding="utf-8").split()
  found, problems = classes.positions(names, _LABELS[name], file.name)
  return np.array(found), problems


def _read_labels(
  where: pathlib.Path, part: str, num: int, positions: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """[num] positions of the classes, by name of the label."""
  labels = {name: np.zeros(num, np.int64) for name in positions}
  for i, record in _records(where, part, np.arange(num)):
    for name, values in labels.items():
      values[i] = record[name]
  return {name: positions[name][values] for name, values in labels.items()}


def _records(
  where: pathlib.Path, part: str, rows: np.ndarray
) -> Iterator[tuple[int, Any]]:
  """Records with their numbers; images as the bytes that are stored."""
  source = tfds.builder_from_directory(where).as_data_source(
    part, decoders={"image": tfds.decode.SkipDecoding()}
  )
  for start in range(0, len(rows), _CHUNK):
    chunk = rows[start : start + _CHUNK].tolist()
    yield from zip(chunk, source.__getitems__(chunk), strict=True)


def _entries(
  where: pathlib.Path, labels: dict[str, np.ndarray], wanted: Collection[str]
) -> Iterator[listing.Entry]:
  numbers = [classes.FINE.index(name) for name in wanted]
  for part, of_part in labels.items():
    rows = np.flatnonzero(np.isin(of_part, numbers))
    for i, record in _records(where, part, rows):
      name = classes.FINE[of_part[i]]
      yield listing.Entry(
        name, f"{part}/{i:05d}", record["image"], classes.COARSE_OF[name]
      )
