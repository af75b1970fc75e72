"""Streams of random 64-bit words that are the same everywhere.

Only the raw output of NumPy's Philox generator is used, which NumPy's policy
keeps the same across versions; the methods of `numpy.random.Generator` may
change.
"""

import hashlib
from collections.abc import Sequence

import numpy as np


def stream(name: str | Sequence[int]) -> np.random.Philox:
  """The stream of a name, such as "order/0/3", or of whole numbers."""
  if not isinstance(name, str):
    return np.random.Philox(list(name))
  digest = hashlib.sha256(name.encode()).digest()
  return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def permutation(name: str | Sequence[int], size: int) -> np.ndarray:
  """[size] int64, the numbers below `size` in the random order of a stream.

  Two equal words in 2^64 do not matter: a stable sort keeps their order.
  """
  return np.argsort(stream(name).random_raw(size), kind="stable")
