"""Support and queries of a class from different groups of its images.

A group is what images may share beside their class: the pack an icon was drawn
for, a domain. A network that recognises groups gains nothing by it then.
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
  """[c] int64, the classes in which every order of the groups surely serves.

  Support takes whole groups in turn, so at worst the largest one for its last
  image; the queries must fit into what is left. A class in which that worst
  order cannot come about is left out all the same. `rows` are those of each
  class.
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
  """Of `rows`, support [shots] and queries [queries], of different groups.

  Groups come in random order: support is drawn from as many as it needs,
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
