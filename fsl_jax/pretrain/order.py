"""Which images make up a batch: a pure function of (seed, epoch).

A run that continues on another machine or version gets the same batches.
"""

import numpy as np

from fsl_jax import random_words


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
  order = random_words.permutation(f"order/{seed}/{epoch}", num_images)
  steps = num_images // batch_size
  return order[: steps * batch_size].astype(np.int32).reshape(steps, batch_size)
