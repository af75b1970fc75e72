"""Episodes in one small file, for any method and any framework.

An `.npz` archive that `numpy.load(path, allow_pickle=False)` reads:

  header           [] text, JSON: format, data (name, split, fingerprint,
                   num_images), seed, protocol, name, text, version
  image_ids        [u] text, ids of the images that occur
  rows             [u] int64, their rows in a `types.ClassIndexed`
  class_names      [num_classes] text
  index            [n] int64
  class_ids        int32, the classes of all episodes, concatenated and split at
  class_ends       [n] int64
  support, query   likewise, int32 positions in `image_ids`, split at
  support_ends, query_ends
  support_labels, query_labels   int32, positions in the episode's classes
"""

import dataclasses
import functools
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fsl_jax import files as atomic_files
from fsl_jax import paths, types, version
from fsl_jax.episodes import file_checks, padding, sampler
from fsl_jax.episodes import source as source_lib


def write(
  path: str | os.PathLike[str], source: source_lib.Source, num_episodes: int
) -> None:
  """Writes episodes 0 to num_episodes - 1 of a source, atomically.

  Raises:
    InputError: if the source has fewer episodes.
  """
  path = paths.local(path, "the file of episodes")
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
    "format": file_checks.FORMAT,
    "data": file_checks.data_of(dataset),
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
    arrays[file_checks.ENDS[name]] = np.cumsum([len(part) for part in column])
  path.parent.mkdir(parents=True, exist_ok=True)
  with atomic_files.replacing(path) as file:
    np.savez_compressed(file, **arrays)


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
      name: np.diff(self.arrays[file_checks.ENDS[name]], prepend=0)
      for name in file_checks.PARTS
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

  @property
  def min_ways(self) -> int:
    ends = self.arrays[file_checks.ENDS["class_ids"]]
    return int(np.diff(ends, prepend=0).min())

  def values(self) -> dict[str, Any]:
    return {**self.header["protocol"], "file": self.digest[:16]}

  def check(self, num_episodes: int) -> None:
    there = len(self.arrays["index"])
    if num_episodes > there:
      raise types.InputError(
        f"{num_episodes} episodes were asked for, but {self.path} has {there}"
      )

  def _part(self, name: str, index: int, of: str | None = None) -> np.ndarray:
    ends = self.arrays[file_checks.ENDS[name]]
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
  """The episodes of a file, over the data for which they were made.

  Raises:
    InputError: if the file does not hold episodes, is damaged, or was made for
      other data.
  """
  path = os.fspath(paths.local(path, "the file of episodes"))
  try:
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
      arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays.pop("header")))
  except FileNotFoundError as error:
    raise types.InputError(f"there is no file {path}") from error
  except (
    # The errors that NumPy and zipfile raise for arbitrary bytes.
    *(KeyError, ValueError, TypeError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
  ) as error:
    raise types.InputError(f"{path} is not a file of episodes ({error})") from (
      error
    )
  file_checks.check(path, header, arrays, dataset)
  sha = hashlib.sha256()
  for name in sorted(file_checks.ARRAYS):
    sha.update(f"{name} {arrays[name].shape}".encode())
    sha.update(np.ascontiguousarray(arrays[name]).tobytes())
  return Stored(dataset, path, header, arrays, sha.hexdigest())
