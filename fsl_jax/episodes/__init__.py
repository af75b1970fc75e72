"""Few-shot episodes: which images, and their arrays.

protocols  ways, shots, queries and options of episodes
rules      numbers of images per class that vary
words      random words, a pure function of (seed, split, index)
sampler    episode i as rows of a data set
pools      the images from which support and queries are drawn
groups     support and queries from different groups of images
source     sources of episodes: a protocol or a file
files      the episodes of a protocol in one small file
padding    bucketed shapes for episodes of many sizes
feeder     episodes as arrays, in prefetched batches
"""

from typing import Any

from fsl_jax import types
from fsl_jax.episodes import (
  feeder,
  files,
  padding,
  protocols,
  rules,
  sampler,
  source,
)
from fsl_jax.episodes.protocols import Protocol


def sample(
  dataset: types.ClassIndexed,
  *,
  seed: int,
  index: int,
  **protocol: Any,
) -> types.Episode:
  """Episode `index` of a split: a pure function of (seed, split, index).

  Source: section 4.1.

  Args:
    dataset: split to draw from.
    seed: at least 0.
    index: at least 0.
    **protocol: fields of `Protocol`, by default `ways=5, shots=1, queries=15`:
      the number of classes, drawn uniformly without replacement, and of
      support and query images per class, which are disjoint; numbers, or rules
      such as "range:5:20".

  Returns:
    An episode of NumPy arrays; for fixed numbers S = N * K, T = N * Q.

  Raises:
    InputError: if the split has too few classes or a class too few images.
  """
  made = protocols.make(**protocol)
  return feeder.episode(dataset, made, seed=seed, index=index)


__all__ = [
  "Protocol",
  "feeder",
  "files",
  "padding",
  "protocols",
  "rules",
  "sample",
  "sampler",
  "source",
]
