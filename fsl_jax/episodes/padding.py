"""Support sets filled up to a few sizes, so that few programs serve many."""

import bisect
import dataclasses

import jax
import numpy as np

from fsl_jax import types

# Up to the published micro-batch, at most a third more images than there are;
# 5 and 25, the published sets, are not filled up at all. Above it whole
# micro-batches of that size, into which a larger set is cut anyway.
_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75)


def bucket(size: int) -> int:
  """The least size that programs are compiled for, not below `size`."""
  largest = _SIZES[-1]
  if size > largest:
    return -(-size // largest) * largest
  return _SIZES[bisect.bisect_left(_SIZES, size)]


def pad_support(episode: types.Episode, size: int) -> types.Episode:
  """Fills the support set up to `size` images, which are masked out.

  Args:
    episode: NumPy arrays (unbatched), S at most `size`.
    size: the new S.

  Returns:
    The episode with zeros at the end of its support arrays.
  """

  def fill(x):
    widths = [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1)
    return np.pad(x, widths)

  task = episode.task
  support = jax.tree.map(
    fill, (task.support_images, task.support_labels, task.support_mask)
  )
  return dataclasses.replace(
    episode,
    task=dataclasses.replace(
      task,
      support_images=support[0],
      support_labels=support[1],
      support_mask=support[2],
    ),
    support_rows=fill(episode.support_rows),
  )
