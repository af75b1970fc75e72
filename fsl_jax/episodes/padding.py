"""Episodes filled up to a few shapes, so that few programs serve many.

A step does not compute micro-batches that are padding alone, see
`adapt.micro_batches`, so that filling up costs it at most a part of one.
"""

import bisect
import dataclasses
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import sampler

# Up to the published micro-batch, at most a third more images than there are;
# 5 and 25, the published sets, are not filled up at all. Above it whole
# micro-batches of that size, into which a larger set is cut anyway.
_SIZES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75)
_MAX_SHAPES = 6


class Shape(NamedTuple):
  """What an episode is filled up to."""

  ways: int  # N
  support: int  # S
  query: int  # T


def bucket(size: int) -> int:
  """The least size that programs are compiled for, not below `size`."""
  largest = _SIZES[-1]
  if size > largest:
    return -(-size // largest) * largest
  return _SIZES[bisect.bisect_left(_SIZES, size)]


def shapes(bounds: sampler.Bounds) -> list[Shape]:
  """At most six shapes for all episodes within the bounds, growing.

  They depend on the protocol and the data set alone, not on how many episodes
  are drawn. Where all episodes are alike, there is one, and its queries are
  not filled up.
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
  """The least of the shapes that an episode fits into."""
  return next(s for s in shapes if support <= s.support and query <= s.query)


def pad(episode: types.Episode, shape: Shape) -> types.Episode:
  """Fills an episode up: images that are masked out, classes that are absent.

  Args:
    episode: NumPy arrays (unbatched), nowhere above the shape.
    shape: of the result.

  Returns:
    The episode with zeros at the end of its arrays, and -1 at that of
    `class_ids`.
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
