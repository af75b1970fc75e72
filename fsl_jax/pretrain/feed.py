"""Hands training its images: all of them on the device, or batch by batch.

Training is told rows of an array of images. Where the data set fits, the array
is the data set and the rows those of a whole epoch; where it does not, it is
one batch. The compiled step is the same.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import types
from fsl_jax.data import streamed

_MAX_JUDGED = 50_000
"""Images of a streamed data set whose accuracy chooses the weights."""


class Span(NamedTuple):
  """Consecutive steps of training, run by one call."""

  images: Any  # [m, H, W, 3] uint8, on the device
  labels: Any  # [m] int32, on the device
  rows: np.ndarray  # [steps, B] int32, rows of `images`


class Resident:
  """A data set that lies on the device."""

  def __init__(self, dataset: types.ClassIndexed):
    self._images = jax.device_put(dataset.images)
    self._labels = jax.device_put(dataset.class_ids)
    self.sample = self._images[:1]  # [1, H, W, 3], for its shape

  def spans(self, rows: np.ndarray) -> Iterator[Span]:
    """The given batches, [steps, B] rows, as one span."""
    yield Span(self._images, self._labels, rows)

  def judged(self, batch_size: int) -> Iterator[tuple[Span, np.ndarray]]:
    """Images whose accuracy is taken, and which of them are no padding."""
    rows, real = _padded(np.arange(len(self._images)), batch_size)
    yield Span(self._images, self._labels, rows), real


class Streamed:
  """A data set that is decoded as training goes on."""

  def __init__(self, dataset: types.ClassIndexed):
    self._dataset = dataset
    self.sample = jnp.asarray(dataset.images[:1])

  def spans(self, rows: np.ndarray) -> Iterator[Span]:
    """The given batches, one span each."""
    here = np.arange(rows.shape[1], dtype=np.int32)[None]
    for images, labels in streamed.batches(self._dataset, rows):
      yield Span(jax.device_put(images), jax.device_put(labels), here)

  def judged(self, batch_size: int) -> Iterator[tuple[Span, np.ndarray]]:
    """Evenly spaced images, at most 50,000."""
    n = len(self._dataset.class_ids)
    chosen = np.unique(np.linspace(0, n - 1, min(n, _MAX_JUDGED)).astype(int))
    rows, real = _padded(chosen, batch_size)
    for span, mask in zip(self.spans(rows), real, strict=True):
      yield span, mask[None]


def of(dataset: types.ClassIndexed) -> Resident | Streamed:
  """The feed for a data set."""
  if isinstance(dataset.images, np.ndarray):
    return Resident(dataset)
  return Streamed(dataset)


def _padded(
  chosen: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """[k] rows as [steps, B] int32, and the [steps, B] mask of no padding."""
  batch_size = min(batch_size, len(chosen))
  steps = -(-len(chosen) // batch_size)
  real = np.arange(steps * batch_size) < len(chosen)
  rows = np.zeros(steps * batch_size, np.int32)
  rows[: len(chosen)] = chosen
  return rows.reshape(steps, batch_size), real.reshape(steps, batch_size)
