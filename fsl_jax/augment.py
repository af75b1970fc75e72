"""Normalisation and the random views of pre-training and adaptation.

Source: the paper's code (fastai v1's transforms), in its order: reflect-pad,
brightness, contrast, horizontal flip, random crop, normalisation. Pure
functions on the device; the random numbers of an image depend on the key and
its position alone, so padding a batch does not change the images before it.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import types

IMAGENET = types.Preprocess()
MEAN = np.asarray(IMAGENET.mean, np.float32)
STD = np.asarray(IMAGENET.std, np.float32)


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """Ranges of the random views; the defaults are the published ones."""

  pad_px: int = 4  # reflected border, and the reach of the random crop
  flip: bool = True  # left-right, with probability 1/2
  brightness: tuple[float, float] = (0.1, 0.9)  # added as logit(uniform)
  contrast: tuple[float, float] = (0.6, 1.4)  # log-uniform factor of logits

  def __post_init__(self) -> None:
    types.check_whole("pad_px", self.pad_px)
    for name, high in (("brightness", 1.0), ("contrast", math.inf)):
      a, b = getattr(self, name)
      if not 0 < a <= b < high:
        raise types.InputError(
          f"{name} must be a range within (0, {high}), got {(a, b)}"
        )


def prepare(
  images: jax.Array, preprocess: types.Preprocess = IMAGENET
) -> jax.Array:
  """Normalises and resizes uint8 images; returns floats as they are.

  Args:
    images: [M, H, W, C] uint8 in [0, 255], or any float array, which is taken
      as already prepared.
    preprocess: of the network, `Backbone.preprocess`.

  Returns:
    uint8: float32 (image / 255 - mean) / std, resized; float: the input.

  Raises:
    InputError: for floats that are pixels in [0, 255]; see `check_normalised`.
  """
  if jnp.issubdtype(images.dtype, jnp.floating):
    check_normalised("images", images)
    return images
  _check_uint8(images)
  return _normalise(images.astype(jnp.float32) / 255, preprocess)


def check_normalised(name: str, images: types.Array) -> None:
  """Raises InputError for colour images whose floats are pixels in [0, 255].

  Normalised ones have negative values and none far above 2. Values that are
  not concrete, and features, are not checked.
  """
  if (
    not jnp.issubdtype(images.dtype, jnp.floating)
    or images.ndim < 4
    or images.shape[-1] != 3
    or not images.size
    or not types.is_concrete(images)
  ):
    return
  values = jax.device_get(images)
  low, high = values.min(), values.max()
  if low >= 0 and high > 25:
    raise types.InputError(
      f"{name} are {images.dtype} in [{low:g}, {high:g}]; expected uint8 in "
      "[0, 255], or floats that are normalised, (pixel / 255 - mean) / std"
    )


def random_views(
  key: jax.Array,
  images: jax.Array,
  config: AugmentConfig | None = None,
  *,
  positions: jax.Array | None = None,
  preprocess: types.Preprocess = IMAGENET,
) -> jax.Array:
  """One random view of each image, normalised and resized.

  Brightness and contrast act on logits, as fastai does:
  sigmoid(c * (logit(x) + logit(u))), u uniform, c log-uniform.

  Args:
    key: consumed.
    images: [M, H, W, C] uint8 in [0, 255].
    config: ranges; None is the published ones.
    positions: [M] int32, of each image in the batch that these are a part of,
      on which its random numbers depend. None is 0 to M - 1.
    preprocess: of the network.

  Returns:
    [M, H, W, C] float32, as `prepare` makes them.
  """
  _check_uint8(images)
  config = config or AugmentConfig()
  height, width = images.shape[1:3]
  if config.pad_px >= min(height, width):
    raise types.InputError(
      f"pad_px must be below the image size {min(height, width)}, got "
      f"{config.pad_px}"
    )

  def draw(position):
    return jax.random.uniform(
      jax.random.fold_in(key, position), (5,), jnp.float32
    )

  if positions is None:
    positions = jnp.arange(images.shape[0])
  top, left, flip, brightness, contrast = jax.vmap(draw, out_axes=1)(positions)
  rows = _window(top, height, config.pad_px)
  columns = _window(left, width, config.pad_px)
  if config.flip:
    columns = jnp.where(flip[:, None] < 0.5, columns[:, ::-1], columns)
  views = jax.vmap(lambda x, r, c: x[r][:, c])(images, rows, columns)

  low, high = config.brightness
  shift = jax.scipy.special.logit(low + (high - low) * brightness)
  low, high = (math.log(value) for value in config.contrast)
  factor = jnp.exp(low + (high - low) * contrast)
  # fastai's clamp, so that pure black and white stay finite.
  pixels = jnp.clip(views.astype(jnp.float32) / 255, 1e-7, 1 - 1e-7)
  logits = jax.scipy.special.logit(pixels)
  logits = (logits + _per_image(shift)) * _per_image(factor)
  return _normalise(jax.nn.sigmoid(logits), preprocess)


def _window(uniform: jax.Array, size: int, pad: int) -> jax.Array:
  """[M] uniforms in [0, 1) -> [M, size] indices of a reflect-padded crop."""
  start = jnp.floor(uniform * (2 * pad + 1)).astype(jnp.int32) - pad
  index = jnp.abs(start[:, None] + jnp.arange(size)[None])
  return jnp.where(index >= size, 2 * (size - 1) - index, index)


def _per_image(x: jax.Array) -> jax.Array:
  return x[:, None, None, None]


def _normalise(pixels: jax.Array, preprocess: types.Preprocess) -> jax.Array:
  channels = pixels.shape[-1]
  if channels != len(preprocess.mean):
    raise types.InputError(
      f"images must have {len(preprocess.mean)} channels, got {channels}"
    )
  mean, std = (
    np.asarray(x, np.float32)[None, None, None] for x in preprocess[:2]
  )
  images = (pixels - mean) / std
  size = preprocess.size_px
  if size is None or images.shape[1:3] == (size, size):
    return images
  shape = (images.shape[0], size, size, channels)
  return jax.image.resize(images, shape, "bilinear")


def _check_uint8(images: jax.Array) -> None:
  if images.dtype != jnp.uint8 or images.ndim != 4:
    raise types.InputError(
      "images must be [M, H, W, 3] uint8, got "
      f"{list(images.shape)} {images.dtype}; arrays of features or of "
      "normalised images cannot be augmented (augment=False)"
    )
