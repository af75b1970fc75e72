"""Small synthetic images of known difficulty."""

import zlib
from collections.abc import Sequence

import numpy as np

from fsl_jax import types

_WAVES = 4  # waves per pattern and channel, of at most 2 periods per image


def make(
  num_classes: int,
  images_per_class: int | Sequence[int],
  *,
  image_size_px: int = 16,
  noise: float = 0.1,
  seed: int = 0,
  split: str = "base",
) -> types.ClassIndexed:
  """Makes classes, each a smooth random pattern plus noise.

  A pattern is a sum of waves with mean 0.5 and standard deviation 0.15 over
  an image, as a fraction of the range; an image adds independent normal noise
  to each value and is clipped. Accuracy of the nearest class mean on pixels,
  5 ways, 16 px (1 shot / 5 shots), by noise:

    0.1  1.00 / 1.00     0.6  0.58 / 0.91     1.0  0.31 / 0.48
    0.4  0.92 / 1.00     0.8  0.39 / 0.65     2.0  0.22 / 0.25

  Args:
    num_classes: at least 1.
    images_per_class: one number for all classes or one per class; 0 is allowed.
    image_size_px: H = W.
    noise: standard deviation as a fraction of the range [0, 255].
    seed: of patterns and noise.
    split: other splits of the same seed have other classes.

  Returns:
    The data set `synthetic`. The first images of a class do not depend on how
    many there are, nor a class on the number of classes.

  Raises:
    InputError: if a number is out of range or the counts do not fit.
  """
  if isinstance(images_per_class, int | np.integer):
    counts = [int(images_per_class)] * num_classes
  else:
    counts = [int(count) for count in images_per_class]
  if num_classes < 1 or len(counts) != num_classes or min(counts) < 0:
    raise types.InputError(
      "num_classes must be at least 1 and images_per_class a number or "
      f"num_classes numbers, none negative, got {num_classes} and "
      f"{images_per_class}"
    )
  types.check_size_px("image_size_px", image_size_px)
  if noise < 0 or seed < 0:
    raise types.InputError(
      f"noise and seed must not be negative, got {noise} and {seed}"
    )

  shape = (image_size_px, image_size_px, 3)
  images, image_ids = [], []
  for class_id, count in enumerate(counts):
    # Python's own hash differs between processes.
    entropy = [seed, zlib.crc32(split.encode()), class_id]
    pattern = _pattern(np.random.default_rng([*entropy, 0]), image_size_px)
    noises = np.random.default_rng([*entropy, 1]).normal(
      scale=noise, size=(count, *shape)
    )
    values = np.clip((pattern + noises) * 255, 0, 255)
    images.append(np.round(values).astype(np.uint8))
    image_ids += [f"{class_id:04d}/{i:06d}" for i in range(count)]
  return types.ClassIndexed(
    images=np.concatenate(images),
    class_ids=np.repeat(np.arange(num_classes, dtype=np.int32), counts),
    class_names=tuple(f"{split}-{c:04d}" for c in range(num_classes)),
    image_ids=tuple(image_ids),
    name="synthetic",
    split=split,
  )


def _pattern(rng: np.random.Generator, size_px: int) -> np.ndarray:
  """[size_px, size_px, 3] float64, mean near 0.5, smooth."""
  frequency = rng.uniform(-2, 2, size=(2, _WAVES, 3))  # periods per image
  phase = rng.uniform(size=(_WAVES, 3))
  at = (np.arange(size_px) + 0.5) / size_px
  turns = (
    frequency[0] * at[:, None, None, None]
    + frequency[1] * at[None, :, None, None]
    + phase
  )
  # A sine has standard deviation sqrt(1/2), and independent variances add.
  scale = 0.15 / np.sqrt(_WAVES / 2)
  return 0.5 + scale * np.sin(2 * np.pi * turns).sum(2)
