"""Which images make up a batch: a pure function of (seed, epoch).

Only the raw output of NumPy's Philox is used, which its policy keeps the same
across versions, so that a run that continues elsewhere meets the same batches.
"""

import hashlib

import numpy as np


def of_epoch(
  seed: int, epoch: int, *, num_images: int, batch_size: int
) -> np.ndarray:
  """A random order of the images, cut into batches.

  Args:
    seed: of the training.
    epoch: from 0.
    num_images: n.
    batch_size: B; the last partial batch is dropped (section 2 of the paper's
      code).

  Returns:
    [n // B, B] int32 rows, no row twice.
  """
  digest = hashlib.sha256(f"order/{seed}/{epoch}".encode()).digest()
  philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
  # Two equal words in 2^64 do not matter: a stable sort keeps their order.
  order = np.argsort(philox.random_raw(num_images), kind="stable")
  steps = num_images // batch_size
  return order[: steps * batch_size].astype(np.int32).reshape(steps, batch_size)
