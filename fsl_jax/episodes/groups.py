"""Support and queries of a class drawn from different groups of images.

A group is a property that images share beside their class, such as the icon
pack or the domain. Recognising groups then does not help classification.
"""

from collections.abc import Sequence

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import words as words_lib


def classes(
  dataset: types.ClassIndexed,
  rows: Sequence[np.ndarray],
  shots: int,
  queries: int,
) -> np.ndarray:
  """[c] int64, the classes in which every order of the groups is feasible.

  The support uses whole groups in turn, in the worst case the largest one for
  its last image; the queries must fit into the remaining groups. The bound is
  conservative. `rows` holds the rows of each class.
  """
  groups = dataset.group_ids()
  sizes = np.asarray([len(own) for own in rows])
  largest = [max(np.bincount(groups[own]), default=0) for own in rows]
  left = sizes - (shots - 1 + np.asarray(largest))
  return np.flatnonzero((sizes > 0) & (left >= queries))


def draw(
  dataset: types.ClassIndexed,
  words: words_lib.Words,
  rows: np.ndarray,
  shots: int,
  queries: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Support [shots] and queries [queries] among `rows`, of different groups.

  Groups are shuffled: the support is drawn from as many as it needs, the
  queries from all others.
  """
  own = dataset.group_ids()[rows]
  _, own, counts = np.unique(own, return_inverse=True, return_counts=True)
  order = words.choose(len(counts), len(counts))
  num_groups = int(np.searchsorted(np.cumsum(counts[order]), shots)) + 1
  of_support = np.isin(own, order[:num_groups])
  parts = []
  for chosen, count in ((of_support, shots), (~of_support, queries)):
    own_rows = rows[chosen]
    parts.append(own_rows[words.choose(len(own_rows), count)])
  return parts[0], parts[1]
