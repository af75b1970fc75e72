"""Few-shot episodes: which images, and their arrays.

protocols  what kind of episodes: numbers or rules, switches
rules      how many images of each class, where that varies
words      random words that are a pure function of (seed, split, index)
sampler    episode i as rows of a data set
pools      the images that support and queries are drawn from
groups     support and queries apart in pack or domain
source     where episodes come from
files      the episodes of a protocol in one small file
padding    few shapes for episodes of many sizes
feeder     episodes as arrays, in batches made ahead
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
    **protocol: fields of `Protocol`, `ways=5, shots=1, queries=15` by default:
      classes, drawn uniformly without replacement; support images of each;
      query images of each, disjoint from the support. Numbers, or rules such
      as "range:5:20".

  Returns:
    An episode of NumPy arrays; with numbers S = N * K, T = N * Q.

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
