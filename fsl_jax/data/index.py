"""The order in which the images of a prepared split are numbered.

By class, and within a class by the digest of the pixels: the same image has the
same row whatever archive it came in, so that episode i has the same images for
everybody who has the same data.
"""

import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fsl_jax.data import listing, records


class Index(NamedTuple):
  """Rows of a split; all arrays are memory-mapped."""

  class_ids: np.ndarray  # [n] int32, ascending
  positions: np.ndarray  # [n] int64, record of each row
  # [n] uint64, equal where two images are; None in data sets that were prepared
  # before copies of images were counted.
  digests: np.ndarray | None

  def labels(self) -> np.ndarray:
    """[n] int32, class of each record."""
    labels = np.empty_like(self.class_ids)
    labels[self.positions] = self.class_ids
    return labels


def _path(folder: pathlib.Path, split: str, field: str) -> pathlib.Path:
  return folder / f"{split}.{field}.npy"


def write(
  folder: pathlib.Path, split: str, labels: np.ndarray, digests: np.ndarray
) -> str:
  """Stores the order of a split; returns its digest.

  Args:
    folder: of the prepared data set.
    split: which.
    labels: [n] int32, class of each record.
    digests: [n] uint64, the first eight bytes of each image's digest. Two that
      agree are the same image, except with probability 1e-5 among 14 million.
  """
  positions = np.lexsort((digests, labels))
  order = Index(
    labels[positions].astype(np.int32),
    positions.astype(np.int64),
    digests[positions],
  )
  for field, array in order._asdict().items():
    np.save(_path(folder, split, field), array)
  return _digest(order)


def read(source: records.Records) -> Index:
  """Opens the order of a split.

  Raises:
    ValueError: if it has changed since it was stored.
  """
  if source.num_images == 0:
    none = np.zeros(0, np.uint64)
    return Index(none.astype(np.int32), none.astype(np.int64), none)
  paths = [
    _path(pathlib.Path(source.folder), source.split, field)
    for field in Index._fields
  ]
  if not paths[-1].exists():
    del paths[-1]
  arrays = [np.load(path, mmap_mode="r") for path in paths]
  order = Index(*[*arrays, None][:3])
  if _digest(order) != source.index_digest:
    raise ValueError(
      f"the index of {source.split} has changed since it was made"
    )
  return order


def _digest(order: Index) -> str:
  hasher = hashlib.sha256()
  for array in order:
    if array is None:
      continue
    hasher.update(f"{array.shape} {array.dtype}\n".encode())
    hasher.update(np.ascontiguousarray(array).data)
  return hasher.hexdigest()


class Repeated(NamedTuple):
  """Exact copies of images, within a class and in several classes."""

  num_within: dict[str, int]  # by split, images that repeat one of their class
  num_pairs: int  # of two classes with an image in common, a lower bound
  num_across_splits: int  # of them, those whose classes are in two splits
  examples: list[tuple[tuple[str, int], tuple[str, int]]]  # (split, record)
  examples_within: list[tuple[tuple[str, int], tuple[str, int]]]

  def account(self, id_of: Callable[[str, int], str]) -> dict[str, Any]:
    """JSON values, with the ids of records instead of their positions."""
    values = self._asdict()
    for name in ("examples", "examples_within"):
      values[name] = [
        [f"{split}: {id_of(split, record)}" for split, record in pair]
        for pair in values[name]
      ]
    return values


def repeated(
  labels: Mapping[str, np.ndarray],
  digests: Mapping[str, np.ndarray],
  limit: int = 5,
) -> Repeated:
  """Finds the same image twice in a class, in two classes and in two splits.

  Args:
    labels: by split, [n] int32.
    digests: by split, [n] uint64.
    limit: number of examples; those across splits come first.
  """
  splits = sorted(digests, key=listing.SPLITS.index)
  sizes = [len(digests[split]) for split in splits]
  keys = np.concatenate([digests[split] for split in splits])
  split_of = np.repeat(np.arange(len(splits)), sizes)
  class_of = np.concatenate([labels[split] for split in splits])
  starts = np.cumsum([0, *sizes[:-1]])
  order = np.lexsort((class_of, split_of, keys))
  first, second = order[:-1], order[1:]
  same = keys[first] == keys[second]
  across = split_of[first] != split_of[second]
  other = across | (class_of[first] != class_of[second])
  pairs, within = np.flatnonzero(same & other), np.flatnonzero(same & ~other)

  def places(i: int) -> tuple[tuple[str, int], tuple[str, int]]:
    one, two = (
      (splits[split_of[k]], int(k - starts[split_of[k]]))
      for k in (first[i], second[i])
    )
    return one, two

  pairs = pairs[np.argsort(~across[pairs], kind="stable")]
  counts = np.bincount(split_of[first[within]], minlength=len(splits))
  return Repeated(
    num_within=dict(zip(splits, counts.tolist(), strict=True)),
    num_pairs=len(pairs),
    num_across_splits=int(across[pairs].sum()),
    examples=[places(i) for i in pairs[:limit]],
    examples_within=[places(i) for i in within[:limit]],
  )
