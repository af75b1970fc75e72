"""Random words of one episode, and uniform draws made from them."""

import numpy as np

from fsl_jax import random_words, types


class Words:
  """64-bit random words, a pure function of the arguments.

  Args:
    seed: at least 0.
    split: name of the split.
    index: of the episode, or of what `purpose` names.
    purpose: distinguishes independent streams.
  """

  def __init__(self, seed: int, split: str, index: int, purpose: str = ""):
    # 1 and 1.0 would give two streams.
    types.check_whole("seed", seed)
    types.check_whole("index", index)
    text = f"{seed}/{split}/{index}" + (f"/{purpose}" if purpose else "")
    self._philox = random_words.stream(text)

  def choose(self, population: int, count: int) -> np.ndarray:
    """[count] distinct integers below `population`, in random order.

    The `count` smallest of `population` random words are a uniform subset in
    uniform order; ties between 64-bit words are negligible.
    """
    keys = self._philox.random_raw(population)
    if count < population:
      chosen = np.argpartition(keys, count)[:count]
    else:
      chosen = np.arange(population)
    return chosen[np.argsort(keys[chosen], kind="stable")]

  def uniform(self, count: int) -> np.ndarray:
    """[count] float64 in the open interval (0, 1)."""
    # 52 bits: with 53 the largest word plus a half would round to 1.
    return ((self._philox.random_raw(count) >> 12) + 0.5) * 2.0**-52

  def whole(self, low: int, high: int, count: int) -> np.ndarray:
    """[count] int64, uniform in [low, high]."""
    return low + np.floor(self.uniform(count) * (high - low + 1)).astype(int)
