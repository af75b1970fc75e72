"""Checks that a file of episodes is complete and fits the data set."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fsl_jax import types

FORMAT = 1
PARTS = ("class_ids", "support", "query")
ENDS = {"class_ids": "class_ends"} | {
  name: f"{name}_ends" for name in ("support", "query")
}
ARRAYS = {
  "image_ids": "U",
  "rows": "i",
  "class_names": "U",
  "index": "i",
  **dict.fromkeys((*PARTS, *ENDS.values()), "i"),
  "support_labels": "i",
  "query_labels": "i",
}


def data_of(dataset: types.ClassIndexed) -> dict[str, Any]:
  return {
    "name": dataset.name,
    "split": dataset.split,
    "fingerprint": dataset.fingerprint,
    "num_images": len(dataset.class_ids),
  }


def check(
  path: str,
  header: Any,
  arrays: Mapping[str, np.ndarray],
  dataset: types.ClassIndexed,
) -> None:
  """Raises InputError for anything that `files.write` would not write."""
  _check_header(path, header)
  _check_arrays(path, arrays)
  _check_data(path, header, arrays, dataset)
  _check_counts(path, header, arrays)


def _check_header(path: str, header: Any) -> None:
  kinds = {
    "data": dict,
    "seed": int,
    "protocol": dict,
    "name": str,
    "text": str,
  }
  if not (
    isinstance(header, dict)
    and {"format", *kinds} <= set(header)
    and all(isinstance(header[name], kind) for name, kind in kinds.items())
    and header["seed"] >= 0
  ):
    raise types.InputError(f"{path} is not a file of episodes")
  if header["format"] != FORMAT:
    raise types.InputError(
      f"{path} has episodes in format {header['format']}; expected {FORMAT}"
    )


def _check_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Shapes and ranges, on which all later checks rely."""

  def refuse(what: str) -> None:
    raise types.InputError(f"{path} is damaged: {what}")

  for name, kind in ARRAYS.items():
    array = arrays.get(name)
    if (
      not isinstance(array, np.ndarray)
      or array.ndim != 1
      or array.dtype.kind != kind
    ):
      refuse(f"{name} is missing or of another type")
  n = len(arrays["index"])
  if not n or not np.array_equal(arrays["index"], np.arange(n)):
    refuse("episodes must be 0, 1, 2, ...")
  images, classes = len(arrays["rows"]), len(arrays["class_names"])
  if len(arrays["image_ids"]) != images:
    refuse(f"{len(arrays['image_ids'])} image_ids, but {images} rows")
  if np.any(np.diff(arrays["rows"]) <= 0):
    refuse("rows must ascend")
  ways = np.diff(arrays["class_ends"], prepend=0)
  for name, ends in ENDS.items():
    sizes = np.diff(arrays[ends], prepend=0)
    if len(sizes) != n or sizes.min() < 1 or sizes.sum() != len(arrays[name]):
      refuse(f"{ends} does not cut {name} into {n} episodes")
    limit = classes if name == "class_ids" else images
    if not 0 <= arrays[name].min() <= arrays[name].max() < limit:
      refuse(f"{name} must lie in [0, {limit})")
    if name != "class_ids":
      labels = arrays[f"{name}_labels"]
      if len(labels) != len(arrays[name]):
        refuse(f"{len(labels)} {name}_labels, but {len(arrays[name])} images")
      if np.any(labels < 0) or np.any(labels >= np.repeat(ways, sizes)):
        refuse(f"{name}_labels must lie in the classes of their episode")
  episode = {
    name: np.repeat(np.arange(n), np.diff(arrays[ends], prepend=0))
    for name, ends in ENDS.items()
  }
  keys = {
    name: episode[name] * max(images, classes) + arrays[name] for name in PARTS
  }
  if np.intersect1d(keys["support"], keys["query"]).size:
    refuse("an image is support and query of one episode")
  for name, values in keys.items():
    if len(np.unique(values)) < len(values):
      refuse(f"{name} has something twice in one episode")


def _check_data(
  path: str,
  header: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  dataset: types.ClassIndexed,
) -> None:
  given = data_of(dataset)
  for name, value in given.items():
    if header["data"].get(name) != value:
      raise types.InputError(
        f"{path} was made for other data: its {name} is "
        f"{header['data'].get(name)!r}, that of the data is {value!r}"
      )
  rows = arrays["rows"]
  if not 0 <= rows[0] <= rows[-1] < len(dataset.image_ids):
    raise types.InputError(
      f"{path} is damaged: rows must lie in [0, {len(dataset.image_ids)})"
    )
  ids = [str(dataset.image_ids[row]) for row in rows]
  if list(arrays["class_names"]) != list(dataset.class_names) or ids != list(
    arrays["image_ids"]
  ):
    raise types.InputError(
      f"{path} was made for other data: names of classes or images differ"
    )
  for name in ("support", "query"):
    sizes = np.diff(arrays[ENDS[name]], prepend=0)
    first = np.repeat(np.concatenate([[0], arrays["class_ends"][:-1]]), sizes)
    expected = arrays["class_ids"][first + arrays[f"{name}_labels"]]
    if not np.array_equal(dataset.class_ids[rows[arrays[name]]], expected):
      raise types.InputError(
        f"{path} is damaged: {name} images of other classes"
      )


def _check_counts(
  path: str, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
  """Compares the numbers of images per class with the protocol."""
  ways = np.diff(arrays["class_ends"], prepend=0)
  starts = np.cumsum(ways) - ways
  found = {"ways": ways}
  for name, rule in (("support", "shots"), ("query", "queries")):
    sizes = np.diff(arrays[ENDS[name]], prepend=0)
    place = np.repeat(starts, sizes) + arrays[f"{name}_labels"]
    found[rule] = np.bincount(place, minlength=ways.sum())
  if not found["shots"].all():
    raise types.InputError(
      f"{path} is damaged: a class of an episode has no support"
    )
  for rule, counts in found.items():
    expected = header["protocol"].get(rule)
    if isinstance(expected, int) and np.any(counts != expected):
      raise types.InputError(
        f"{path} is damaged: its protocol has {expected} {rule}, an episode "
        f"{counts[counts != expected][0]}"
      )
