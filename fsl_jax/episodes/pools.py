"""The images from which support and queries of an episode are drawn.

A protocol may exclude copies of an image, or all images outside a group.
"""

from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import groups, protocols, rules


class Pool(NamedTuple):
  """Rows of a data set, grouped by class."""

  offsets: np.ndarray  # [num_classes + 1] int64, first row of each class
  rows: np.ndarray | None  # [offsets[-1]] int64; None stands for all rows

  @property
  def sizes(self) -> np.ndarray:
    """[num_classes] int64, images of each class."""
    return np.diff(self.offsets)

  def of_class(self, class_id: int) -> np.ndarray:
    """[n] int64, the rows of a class."""
    start, stop = self.offsets[class_id : class_id + 2]
    if self.rows is None:
      return np.arange(start, stop)
    return self.rows[start:stop]


class Pools(NamedTuple):
  """The images of a data set that a protocol uses."""

  support: Pool
  query: Pool  # the same, or one that shares no image with it
  class_ids: np.ndarray  # [c] int64, classes with enough images

  @property
  def together(self) -> bool:
    """Whether support and queries are drawn from the same images."""
    return self.support is self.query


def of(dataset: types.ClassIndexed, protocol: protocols.Protocol) -> Pools:
  """The pools of a data set and protocol, computed once.

  Raises:
    InputError: for an unknown group, or if image digests are unavailable.
  """
  if protocol not in dataset.pools:
    dataset.pools[protocol] = _of(dataset, protocol)
  return dataset.pools[protocol]


def _of(dataset: types.ClassIndexed, protocol: protocols.Protocol) -> Pools:
  apart = protocol.copies == "apart"
  shots, queries = (
    value if isinstance(value, int) else value.most_of_a_class()
    for value in (protocol.shots, protocol.queries)
  )
  names = protocol.group_names
  if names is None:
    pool = Pool(dataset.class_offsets(), None)
    if apart:
      pool = _pool(dataset, _first_copies(dataset, np.arange(pool.offsets[-1])))
    if protocol.groups == "apart":
      rows = [pool.of_class(c) for c in range(dataset.num_classes)]
      served = groups.classes(dataset, rows, shots, queries)
    else:
      served = np.flatnonzero(pool.sizes >= shots + queries)
    return Pools(pool, pool, served)
  of_support, of_query = (_of_group(dataset, name) for name in names)
  if apart:
    of_support, of_query = (
      _first_copies(dataset, rows) for rows in (of_support, of_query)
    )
    # A query must not be a copy of the support image of another episode either.
    digests = dataset.image_digests()
    of_query = of_query[~np.isin(digests[of_query], digests[of_support])]
  support, query = _pool(dataset, of_support), _pool(dataset, of_query)
  enough = (support.sizes >= shots) & (query.sizes >= queries)
  return Pools(support, query, np.flatnonzero(enough))


def left(
  pools: Pools, shots: protocols.Shots, least_ways: int, most_ways: int
) -> tuple[int, int]:
  """Minimum and maximum number of queries if they are all remaining images."""
  few, many = (
    (1, shots.most_of_a_class())
    if isinstance(shots, rules.Rule)
    else [shots] * 2
  )
  sizes = np.sort(pools.query.sizes[pools.class_ids])
  least, most = sizes[:least_ways], sizes[-most_ways:]
  if pools.together:
    least, most = least - many, most - few
  return int(least.sum()), int(most.sum())


def _of_group(dataset: types.ClassIndexed, name: str) -> np.ndarray:
  known = dataset.group_names()
  if name not in known:
    shown = known if len(known) <= 20 else (*known[:20], "...")
    where = f"group of {dataset.name}, split {dataset.split!r},"
    raise types.unknown_name(where, name, shown)
  return np.flatnonzero(dataset.group_ids() == known.index(name))


def _first_copies(dataset: types.ClassIndexed, rows: np.ndarray) -> np.ndarray:
  """The first row of each distinct image per class, in ascending order."""
  _, image = np.unique(dataset.image_digests()[rows], return_inverse=True)
  key = dataset.class_ids[rows].astype(np.int64) * len(rows) + image
  return rows[np.sort(np.unique(key, return_index=True)[1])]


def _pool(dataset: types.ClassIndexed, rows: np.ndarray) -> Pool:
  return Pool(np.searchsorted(rows, dataset.class_offsets()), rows)
