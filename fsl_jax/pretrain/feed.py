"""Training images: all of them on the device, or batch by batch.

A training step takes rows of an array of images. If the data set fits, the
array is the data set, the same on every device, and the rows are those of a
whole epoch; otherwise the array is one batch. The compiled step is the same.
Rows are divided over the devices, and each process reads the images of its own.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from fsl_jax import devices, types
from fsl_jax.data import streamed

_MAX_VALIDATED = 50_000
"""Images of a streamed data set on which the best weights are selected."""


class Span(NamedTuple):
  """Consecutive steps of training, run by one call; on the devices."""

  images: jax.Array  # [m, H, W, 3] uint8
  labels: jax.Array  # [m] int32
  rows: jax.Array  # [steps, B] int32, rows of `images`


class Resident:
  """A data set that lies on every device."""

  def __init__(self, dataset: types.ClassIndexed, mesh: jax.sharding.Mesh):
    self._mesh = mesh
    self._images, self._labels = devices.place(
      mesh, devices.SAME, (dataset.images, dataset.class_ids)
    )
    self.num_validated = len(dataset.class_ids)

  def spans(self, rows: np.ndarray) -> Iterator[Span]:
    """The given batches, [steps, B] rows, as one span."""
    yield Span(self._images, self._labels, _divide(self._mesh, rows))

  def validation(self, batch_size: int) -> Iterator[tuple[Span, jax.Array]]:
    """Images on which accuracy is computed, and the mask of no padding."""
    rows, real = _padded(np.arange(self.num_validated), batch_size)
    (span,) = self.spans(rows)
    yield span, _divide(self._mesh, real)


class Streamed:
  """A data set that is decoded as training goes on."""

  def __init__(self, dataset: types.ClassIndexed, mesh: jax.sharding.Mesh):
    self._mesh = mesh
    self._dataset = dataset
    self.num_validated = min(len(dataset.class_ids), _MAX_VALIDATED)

  def spans(self, rows: np.ndarray) -> Iterator[Span]:
    """The given batches, one span each."""
    size = rows.shape[1]
    here = _divide(self._mesh, np.arange(size, dtype=np.int32)[None])
    own = rows[:, devices.own_rows(self._mesh, size)]
    for batch in streamed.batches(self._dataset, own):
      images, labels = devices.place(self._mesh, devices.ROWS, batch)
      yield Span(images, labels, here)

  def validation(self, batch_size: int) -> Iterator[tuple[Span, jax.Array]]:
    """Evenly spaced images, at most 50,000."""
    n = len(self._dataset.class_ids)
    chosen = np.unique(np.linspace(0, n - 1, self.num_validated).astype(int))
    rows, real = _padded(chosen, batch_size)
    for span, mask in zip(self.spans(rows), real, strict=True):
      yield span, _divide(self._mesh, mask[None])


def of(
  dataset: types.ClassIndexed, mesh: jax.sharding.Mesh
) -> Resident | Streamed:
  """The feed for a data set, of batches that `mesh` divides evenly."""
  if isinstance(dataset.images, np.ndarray):
    return Resident(dataset, mesh)
  return Streamed(dataset, mesh)


def _divide(mesh: jax.sharding.Mesh, batches: np.ndarray) -> jax.Array:
  """Places [steps, B], which every process holds completely."""
  own = devices.own_rows(mesh, batches.shape[1])
  return devices.place(mesh, devices.COLUMNS, batches[:, own])


def _padded(
  chosen: np.ndarray, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """[k] rows as [steps, B] int32, and the [steps, B] mask of no padding."""
  steps = -(-len(chosen) // batch_size)
  real = np.arange(steps * batch_size) < len(chosen)
  rows = np.zeros(steps * batch_size, np.int32)
  rows[: len(chosen)] = chosen
  return rows.reshape(steps, batch_size), real.reshape(steps, batch_size)
