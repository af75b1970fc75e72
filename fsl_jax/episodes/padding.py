"""Episodes padded to bucketed shapes, so that few programs are compiled.

A step skips micro-batches that consist of padding only, see
`adapt.micro_batches`, so that padding costs at most a part of one.
"""

import bisect
import dataclasses
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import sampler

# Up to the published micro-batch of 75, padding adds at most a third; 5 and 25,
# the published support sizes, are not padded. Larger sets are padded to whole
# micro-batches, into which they are split anyway.
_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75)
_MAX_SHAPES = 6


class Shape(NamedTuple):
  """The shape that an episode is padded to."""

  ways: int  # N
  support: int  # S
  query: int  # T


def bucket(size: int) -> int:
  """The smallest bucket that holds `size` images."""
  largest = _SIZES[-1]
  if size > largest:
    return -(-size // largest) * largest
  return _SIZES[bisect.bisect_left(_SIZES, size)]


def shapes(bounds: sampler.Bounds) -> list[Shape]:
  """At most six shapes, ascending, for all episodes within the bounds.

  They depend only on the protocol and the data set, not on the number of
  episodes. If all episodes have equal sizes there is one shape, whose queries
  are not padded.
  """
  if bounds.support[0] == bounds.support[1] and (
    bounds.query[0] == bounds.query[1]
  ):
    return [Shape(bounds.ways, bucket(bounds.support[1]), bounds.query[1])]

  def steps(least, most):
    if least == most:
      return [most] * _MAX_SHAPES
    sizes = np.geomspace(least, most, _MAX_SHAPES).round(6)
    return [bucket(int(np.ceil(size))) for size in sizes]

  pairs = zip(steps(*bounds.support), steps(*bounds.query), strict=True)
  return [Shape(bounds.ways, *pair) for pair in dict.fromkeys(pairs)]


def fitting(shapes: list[Shape], support: int, query: int) -> Shape:
  """The smallest of the shapes that an episode fits into."""
  return next(s for s in shapes if support <= s.support and query <= s.query)


def pad(episode: types.Episode, shape: Shape) -> types.Episode:
  """Pads an episode with masked-out images and absent classes.

  Args:
    episode: NumPy arrays (unbatched), no larger than the shape.
    shape: of the result.

  Returns:
    The episode with zeros appended to its arrays, and -1 to `class_ids`.
  """

  def fill(size, value=0):
    return lambda x: np.pad(
      x,
      [(0, size - len(x))] + [(0, 0)] * (x.ndim - 1),
      constant_values=value,
    )

  task = episode.task
  support, query = fill(shape.support), fill(shape.query)
  return types.Episode(
    task=dataclasses.replace(
      task,
      support_images=support(task.support_images),
      support_labels=support(task.support_labels),
      support_mask=support(task.support_mask),
      query_images=query(task.query_images),
      query_mask=query(task.query_mask),
      num_ways=shape.ways,
    ),
    query_labels=query(episode.query_labels),
    index=episode.index,
    class_ids=fill(shape.ways, -1)(episode.class_ids),
    support_rows=support(episode.support_rows),
    query_rows=query(episode.query_rows),
  )
