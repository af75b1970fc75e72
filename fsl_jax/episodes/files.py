"""Episodes in one small file, the same for any method and any framework.

An `.npz` archive that `numpy.load(path, allow_pickle=False)` reads:

  header           [] text, JSON: format, data (name, split, fingerprint,
                   num_images), seed, protocol, name, text, version
  image_ids        [u] text, names of the images that occur
  rows             [u] int64, their rows in a `types.ClassIndexed`
  class_names      [num_classes] text
  index            [n] int64
  class_ids        all episodes' classes end to end, int32, cut at
  class_ends       [n] int64
  support, query   likewise, positions in `image_ids`, int32, cut at
  support_ends, query_ends
  support_labels, query_labels   int32, positions in the episode's classes
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fsl_jax import types, version
from fsl_jax.episodes import padding, sampler
from fsl_jax.episodes import source as source_lib

_FORMAT = 1
_PARTS = ("class_ids", "support", "query")
_ENDS = {"class_ids": "class_ends"} | {
  name: f"{name}_ends" for name in ("support", "query")
}
_ARRAYS = {
  "image_ids": "U",
  "rows": "i",
  "class_names": "U",
  "index": "i",
  **dict.fromkeys((*_PARTS, *_ENDS.values()), "i"),
  "support_labels": "i",
  "query_labels": "i",
}


def write(
  path: str | os.PathLike[str], source: source_lib.Source, num_episodes: int
) -> None:
  """Writes episodes 0 to num_episodes - 1 of a source, in one step.

  Raises:
    InputError: if the source has not as many.
  """
  source.check(num_episodes)
  drawn = [source.rows(index) for index in range(num_episodes)]
  dataset = source.dataset
  rows, positions = np.unique(
    np.concatenate([part for e in drawn for part in (e.support, e.query)]),
    return_inverse=True,
  )
  lengths = [len(part) for e in drawn for part in (e.support, e.query)]
  parts = np.split(positions.reshape(-1).astype(np.int32), np.cumsum(lengths))
  columns = {
    "class_ids": [e.class_ids for e in drawn],
    "support": parts[0:-1:2],
    "query": parts[1:-1:2],
  }
  header = {
    "format": _FORMAT,
    "data": _data_of(dataset),
    "seed": source.seed,
    "protocol": source.values(),
    "name": source.name,
    "text": source.text,
    "version": version.__version__,
  }
  arrays: dict[str, Any] = {
    "header": np.asarray(json.dumps(header)),
    "image_ids": np.asarray([str(dataset.image_ids[row]) for row in rows]),
    "rows": rows.astype(np.int64),
    "class_names": np.asarray(dataset.class_names),
    "index": np.arange(num_episodes),
    "support_labels": np.concatenate([e.support_labels for e in drawn]),
    "query_labels": np.concatenate([e.query_labels for e in drawn]),
  }
  for name, column in columns.items():
    arrays[name] = np.concatenate(column)
    arrays[_ENDS[name]] = np.cumsum([len(part) for part in column])
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(path.name + ".tmp")
  with open(temporary, "wb") as file:
    np.savez_compressed(file, **arrays)
  os.replace(temporary, path)


def _data_of(dataset: types.ClassIndexed) -> dict[str, Any]:
  return {
    "name": dataset.name,
    "split": dataset.split,
    "fingerprint": dataset.fingerprint,
    "num_images": len(dataset.class_ids),
  }


@dataclasses.dataclass(frozen=True)
class Stored:
  """Episodes of a file; made by `read`."""

  dataset: types.ClassIndexed
  path: str
  header: Mapping[str, Any]
  arrays: Mapping[str, np.ndarray]
  digest: str  # hex, of the arrays

  @property
  def seed(self) -> int:
    return int(self.header["seed"])

  @property
  def name(self) -> str:
    return str(self.header["name"])

  @property
  def text(self) -> str:
    return f"{self.header['text']}, from a file"

  @functools.cached_property
  def shapes(self) -> list[padding.Shape]:
    counts = {
      name: np.diff(self.arrays[_ENDS[name]], prepend=0) for name in _PARTS
    }
    least, most = (
      {name: int(of(values)) for name, values in counts.items()}
      for of in (np.min, np.max)
    )
    return padding.shapes(
      sampler.Bounds(
        most["class_ids"],
        (least["support"], most["support"]),
        (least["query"], most["query"]),
      )
    )

  def values(self) -> dict[str, Any]:
    return {**self.header["protocol"], "file": self.digest[:16]}

  def check(self, num_episodes: int) -> None:
    there = len(self.arrays["index"])
    if num_episodes > there:
      raise types.InputError(
        f"{num_episodes} episodes were asked for, but {self.path} has {there}"
      )

  def _part(self, name: str, index: int, of: str | None = None) -> np.ndarray:
    ends = self.arrays[_ENDS[name]]
    start = ends[index - 1] if index else 0
    return self.arrays[of or name][start : ends[index]]

  def rows(self, index: int) -> sampler.Rows:
    rows = self.arrays["rows"]
    return sampler.Rows(
      class_ids=self._part("class_ids", index).astype(np.int32),
      support=rows[self._part("support", index)].astype(np.int32),
      support_labels=self._part("support", index, "support_labels").astype(
        np.int32
      ),
      query=rows[self._part("query", index)].astype(np.int32),
      query_labels=self._part("query", index, "query_labels").astype(np.int32),
    )

  def sizes(self, index: int) -> tuple[int, int]:
    return len(self._part("support", index)), len(self._part("query", index))


def read(path: str | os.PathLike[str], dataset: types.ClassIndexed) -> Stored:
  """The episodes of a file, over the data that they were made for.

  Raises:
    InputError: if the file is none of episodes, is damaged, or was made for
      other data.
  """
  path = os.fspath(path)
  try:
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
  except FileNotFoundError as error:
    raise types.InputError(f"there is no file {path}") from error
  except (
    # What NumPy and zipfile raise for bytes that they did not write.
    *(KeyError, ValueError, TypeError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
  ) as error:
    raise types.InputError(f"{path} is no file of episodes ({error})") from (
      error
    )
  _check_header(path, header)
  _check_arrays(path, arrays)
  _check_data(path, header, arrays, dataset)
  sha = hashlib.sha256()
  for name in sorted(_ARRAYS):
    sha.update(f"{name} {arrays[name].shape}".encode())
    sha.update(np.ascontiguousarray(arrays[name]).tobytes())
  return Stored(dataset, path, header, arrays, sha.hexdigest())


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
  ):
    raise types.InputError(f"{path} is no file of episodes")
  if header["format"] != _FORMAT:
    raise types.InputError(
      f"{path} has episodes in format {header['format']}; expected {_FORMAT}"
    )


def _check_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Shapes and ranges, so that nothing after this can go astray."""

  def refuse(what: str) -> None:
    raise types.InputError(f"{path} is damaged: {what}")

  for name, kind in _ARRAYS.items():
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
  for name, ends in _ENDS.items():
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
    for name, ends in _ENDS.items()
  }
  keys = {
    name: episode[name] * max(images, classes) + arrays[name] for name in _PARTS
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
  given = _data_of(dataset)
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
    sizes = np.diff(arrays[_ENDS[name]], prepend=0)
    first = np.repeat(np.concatenate([[0], arrays["class_ends"][:-1]]), sizes)
    expected = arrays["class_ids"][first + arrays[f"{name}_labels"]]
    if not np.array_equal(dataset.class_ids[rows[arrays[name]]], expected):
      raise types.InputError(
        f"{path} is damaged: {name} images of other classes"
      )
