"""Support and queries of a class from different groups of its images.

A group is what images may share beside their class: the pack an icon was drawn
for, a domain. A network that recognises groups gains nothing by it then.
"""

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import words as words_lib


def classes(
  dataset: types.ClassIndexed, shots: int, queries: int
) -> np.ndarray:
  """[c] int64, the classes in which every order of the groups surely serves.

  Support takes whole groups in turn, so at worst the largest one for its last
  image; the queries must fit into what is left. A class in which that worst
  order cannot come about is left out all the same.
  """
  sizes = np.diff(dataset.class_offsets())
  left = sizes - (shots - 1 + dataset.largest_groups())
  return np.flatnonzero((sizes > 0) & (left >= queries))


def draw(
  dataset: types.ClassIndexed,
  words: words_lib.Words,
  class_id: int,
  shots: int,
  queries: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Rows of support [shots] and of query [queries], of different groups.

  Groups come in random order: support is drawn from as many as it needs,
  queries from all others.
  """
  start, stop = dataset.class_offsets()[class_id : class_id + 2]
  own = dataset.group_ids()[start:stop]
  _, own, counts = np.unique(own, return_inverse=True, return_counts=True)
  order = words.choose(len(counts), len(counts))
  num_groups = int(np.searchsorted(np.cumsum(counts[order]), shots)) + 1
  of_support = np.isin(own, order[:num_groups])
  parts = []
  for rows, count in ((of_support, shots), (~of_support, queries)):
    own_rows = start + np.flatnonzero(rows)
    parts.append(own_rows[words.choose(len(own_rows), count)])
  return parts[0], parts[1]
