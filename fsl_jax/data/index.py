"""The order in which the images of a prepared split are numbered.

By class, and within a class by the digest of the pixels: the same image has the
same row whatever archive it came in, so that episode i is the same pictures for
everybody who has the same data.
"""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
) -> None:
  """Stores the order of a split.

  Args:
    folder: of the prepared data set.
    split: which.
    labels: [n] int32, class of each record.
    digests: [n] uint64, the first eight bytes of each image's digest. Two that
      agree are the same image, but for one chance in 10^5 among 14 million.
  """
  positions = np.lexsort((digests, labels))
  class_ids_path, positions_path = _paths(folder, split)
  np.save(class_ids_path, labels[positions].astype(np.int32))
  np.save(positions_path, positions.astype(np.int64))


def read(folder: pathlib.Path, split: str, num_images: int) -> Index:
  """Opens the order of a split.

  Raises:
    ValueError: if it is not of `num_images` images.
  """
  if num_images == 0:
    return Index(np.zeros(0, np.int32), np.zeros(0, np.int64))
  arrays = [np.load(path, mmap_mode="r") for path in _paths(folder, split)]
  for array in arrays:
    if array.shape != (num_images,):
      raise ValueError(f"index of {split} has shape {array.shape}")
  return Index(*arrays)


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
