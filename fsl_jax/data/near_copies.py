"""Near copies within a class: resized, recompressed or mirrored images.

Exact copies are counted when a data set is prepared; near copies need a
comparison of all images of a class.
"""

import itertools
from typing import NamedTuple

import numpy as np
from PIL import Image

from fsl_jax import types

THRESHOLD = 0.98
"""Smallest correlation of two near copies at 8 x 8 pixels, in colour.

Of 1,000 images of CIFAR-100 it finds 99 % of the copies saved as JPEG of
quality 75, 98 % of quality 40 and 99 % of those halved in size; among 10,000
original images nine pairs of a class reach it.
"""

_SIZE_PX = 8
_CHUNK = 1024  # images


class NearCopies(NamedTuple):
  """Images of a split that nearly repeat an earlier one of their class.

  Exact copies are not counted.
  """

  num_images: int
  num_mirrored: int  # of them, those that are more similar when mirrored
  examples: list[tuple[int, int]]  # rows of the most similar pairs


def find(dataset: types.ClassIndexed, *, limit: int = 5) -> NearCopies:
  """Compares all images of each class at 8 x 8 pixels.

  Args:
    dataset: a split of images; streamed ones are decoded once.
    limit: number of examples.

  Raises:
    InputError: if it holds features.
  """
  if dataset.images.ndim != 4:
    raise types.InputError(
      f"near copies need images, but {dataset.name} has features"
    )
  offsets = dataset.class_offsets()
  found: list[tuple[float, bool, int, int]] = []
  for start, stop in itertools.pairwise(offsets.tolist()):
    if stop - start < 2:
      continue
    small = np.concatenate(
      [
        _small(dataset.images[first : min(first + _CHUNK, stop)])
        for first in range(start, stop, _CHUNK)
      ]
    )
    found += [
      (correlation, mirrored, start + earlier, start + later)
      for correlation, mirrored, earlier, later in _nearest_earlier(
        small, dataset.images, start
      )
    ]
  found.sort(key=lambda one: -one[0])
  return NearCopies(
    len(found),
    sum(mirrored for _, mirrored, _, _ in found),
    [(earlier, later) for _, _, earlier, later in found[:limit]],
  )


def _nearest_earlier(
  small: np.ndarray, images: types.Images, first_row: int
) -> list[tuple[float, bool, int, int]]:
  """For each image of a class that has a near copy before it: correlation,
  whether mirrored, and both positions."""
  n = len(small)
  flat = small.reshape(n, -1)
  flipped = small[:, :, ::-1].reshape(n, -1)
  found = []
  for first in range(0, n, _CHUNK):
    own = np.arange(first, min(first + _CHUNK, n))
    both = np.stack([flat[own] @ flat.T, flat[own] @ flipped.T])
    both[:, np.arange(n) >= own[:, None]] = -1
    for i in np.flatnonzero(both.max(axis=(0, 2), initial=-1) >= THRESHOLD):
      order = np.argsort(-both[:, i].max(0), kind="stable")
      for j in order:
        way = int(both[:, i, j].argmax())
        if both[way, i, j] < THRESHOLD:
          break
        pair = images[np.asarray([first_row + j, first_row + own[i]])]
        if not np.array_equal(pair[0], pair[1]):
          found.append((float(both[way, i, j]), way == 1, int(j), int(own[i])))
          break
  return found


def _small(images: np.ndarray) -> np.ndarray:
  """[n, 8, 8, 3] float32 with mean 0 and norm 1; 0 where there is no detail."""
  small = np.stack(
    [
      np.asarray(
        Image.fromarray(image).resize(
          (_SIZE_PX, _SIZE_PX), Image.Resampling.BOX
        ),
        np.float32,
      )
      for image in images
    ]
  )
  small -= small.mean(axis=(1, 2, 3), keepdims=True)
  norm = np.sqrt((small**2).sum(axis=(1, 2, 3), keepdims=True))
  # Below one level of brightness there is only rounding.
  return np.where(norm > small[0].size ** 0.5, small / np.maximum(norm, 1), 0)
