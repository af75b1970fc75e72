"""The order in which the images of a prepared split are numbered.

By class, and within a class by the digest of the pixels: the same image has the
same row whatever archive it came in, so that episode i is the same pictures for
everybody who has the same data.
"""

import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax.data import records


class Index(NamedTuple):
  """Rows of a split; both arrays are memory-mapped."""

  class_ids: np.ndarray  # [n] int32, ascending
  positions: np.ndarray  # [n] int64, record of each row


def _paths(folder: pathlib.Path, split: str) -> tuple[pathlib.Path, ...]:
  return (
    folder / f"{split}.class_ids.npy",
    folder / f"{split}.positions.npy",
  )


def write(
  folder: pathlib.Path, split: str, labels: np.ndarray, digests: np.ndarray
) -> str:
  """Stores the order of a split; returns the digest of what was stored.

  Args:
    folder: of the prepared data set.
    split: which.
    labels: [n] int32, class of each record.
    digests: [n] uint64, the first eight bytes of each image's digest. Two that
      agree are the same image, but for one chance in 10^5 among 14 million.
  """
  positions = np.lexsort((digests, labels))
  order = Index(labels[positions].astype(np.int32), positions.astype(np.int64))
  for path, array in zip(_paths(folder, split), order, strict=True):
    np.save(path, array)
  return _digest(order)


def read(source: records.Records) -> Index:
  """Opens the order of a split.

  Raises:
    ValueError: if it is not what was stored.
  """
  if source.num_images == 0:
    return Index(np.zeros(0, np.int32), np.zeros(0, np.int64))
  paths = _paths(pathlib.Path(source.folder), source.split)
  order = Index(*(np.load(path, mmap_mode="r") for path in paths))
  if _digest(order) != source.index_digest:
    raise ValueError(f"the index of {source.split} is not as it was when made")
  return order


def _digest(order: Index) -> str:
  hasher = hashlib.sha256()
  for array in order:
    hasher.update(f"{array.shape} {array.dtype}\n".encode())
    hasher.update(np.ascontiguousarray(array).data)
  return hasher.hexdigest()


class Repeated(NamedTuple):
  """Images that occur in several classes."""

  num_pairs: int  # of neighbours in the sorted order, a lower bound
  num_across_splits: int  # of them, those whose classes are in two splits
  examples: list[tuple[tuple[str, int], tuple[str, int]]]  # (split, record)


def repeated(
  labels: dict[str, np.ndarray],
  digests: dict[str, np.ndarray],
  limit: int = 5,
) -> Repeated:
  """Finds the same image in two classes, within a split and across splits.

  Args:
    labels: by split, [n] int32.
    digests: by split, [n] uint64.
    limit: number of examples; those across splits come first.
  """
  splits: Sequence[str] = list(digests)
  sizes = [len(digests[split]) for split in splits]
  keys = np.concatenate([digests[split] for split in splits])
  split_of = np.repeat(np.arange(len(splits)), sizes)
  class_of = np.concatenate([labels[split] for split in splits])
  starts = np.cumsum([0, *sizes[:-1]])
  order = np.argsort(keys, kind="stable")
  first, second = order[:-1], order[1:]
  across = split_of[first] != split_of[second]
  pairs = np.flatnonzero(
    (keys[first] == keys[second])
    & (across | (class_of[first] != class_of[second]))
  )

  def place(i: int) -> tuple[str, int]:
    split = int(split_of[i])
    return splits[split], int(i - starts[split])

  pairs = pairs[np.argsort(~across[pairs], kind="stable")]
  return Repeated(
    num_pairs=len(pairs),
    num_across_splits=int(across[pairs].sum()),
    examples=[(place(first[i]), place(second[i])) for i in pairs[:limit]],
  )
