"""Few-shot episodes: which images, and their arrays."""

from fsl_jax import types
from fsl_jax.episodes import feeder, sampler
from fsl_jax.episodes.sampler import Protocol


def sample(
  dataset: types.ClassIndexed,
  *,
  seed: int,
  index: int,
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
) -> types.Episode:
  """Episode `index` of a split: a pure function of (seed, split, index).

  Source: section 4.1.

  Args:
    dataset: split to draw from.
    seed: at least 0.
    index: at least 0.
    ways: N, classes, drawn uniformly without replacement.
    shots: K, support images per class.
    queries: Q, query images per class, disjoint from the support.

  Returns:
    An episode of NumPy arrays, S = N * K, T = N * Q.

  Raises:
    InputError: if the split has too few classes or a class too few images.
  """
  protocol = Protocol(ways=ways, shots=shots, queries=queries)
  return feeder.episode(dataset, protocol, seed=seed, index=index)


__all__ = ["Protocol", "feeder", "sample", "sampler"]
