"""The layers that the networks are built of, with PyTorch's conventions.

Agreement with the reference rests on details that Flax's own layers do not
have: a batch norm whose running variance is fed the unbiased variance, a mask
for padded images, and a maximum whose gradient goes to the first of equals.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import convolution

Initializer = Callable[..., jax.Array]

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # share of the new batch in the running statistics


def torch_uniform(fan_in: int) -> Initializer:
  """Uniform within 1 / sqrt(fan_in): PyTorch's default, weights and biases."""
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


kaiming_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv3x3(nn.Module):
  """3x3 convolution, padding 1. [M, H, W, I] -> [M, H / s, W / s, width].

  `kernel_init=None` is PyTorch's default.
  """

  width: int
  stride: int = 1
  use_bias: bool = False
  kernel_init: Initializer | None = None
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    fan_in = 9 * x.shape[-1]
    kernel = self.param(
      "kernel",
      self.kernel_init or torch_uniform(fan_in),
      (3, 3, x.shape[-1], self.width),
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    y = convolution.convolve_3x3(x, kernel, self.stride)
    if self.use_bias:
      bias = self.param("bias", torch_uniform(fan_in), (self.width,))
      y = y + bias.astype(y.dtype)[None, None, None]
    return y


class Conv1x1(nn.Module):
  """1x1 convolution without bias, for shortcuts, as a matrix product."""

  width: int
  kernel_init: Initializer
  stride: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param(
      "kernel", self.kernel_init, (1, 1, x.shape[-1], self.width)
    )
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return x[:, :: self.stride, :: self.stride] @ kernel[0, 0]


class Classifier(nn.Module):
  """The last linear layer. [M, D] features -> `Outputs` with [M, P] logits.

  Initial weights are PyTorch's default.
  """

  num_classes: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, features: jax.Array) -> types.Outputs:
    width = features.shape[-1]
    init = torch_uniform(width)
    kernel = self.param("kernel", init, (width, self.num_classes))
    bias = self.param("bias", init, (self.num_classes,))
    x, kernel, bias = nn.dtypes.promote_dtype(
      features, kernel, bias, dtype=self.dtype
    )
    logits = x @ kernel + bias[None]
    return types.Outputs(at_least_float32(logits), at_least_float32(features))


class BatchNorm(nn.Module):
  """Batch normalisation over images and positions, PyTorch's conventions.

  The batch is normalised with its biased variance; the running variance is
  fed the unbiased one. Statistics are float32 whatever the compute dtype.
  A batch whose mask is all False leaves the running statistics as they are.
  """

  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    """[M, H, W, C] -> [M, H, W, C]; `mask` [M] bool, see `types.ApplyFn`."""
    width = x.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (width,))
    bias = self.param("bias", nn.initializers.zeros, (width,))
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, (width,))
    running_var = self.variable("batch_stats", "var", jnp.ones, (width,))
    y = at_least_float32(x)
    if train:
      mean, var, count = _moments(y, mask)
      if not self.is_initializing():
        moved = jnp.where(count > 0, BATCH_NORM_MOMENTUM, 0.0)
        unbiased = var * count / jnp.maximum(count - 1, 1)
        for running, value in ((running_mean, mean), (running_var, unbiased)):
          value = jax.lax.stop_gradient(value).astype(running.value.dtype)
          running.value = running.value + moved.astype(value.dtype) * (
            value - running.value
          )
    else:
      mean, var = running_mean.value, running_var.value
    factor = scale * jax.lax.rsqrt(var + BATCH_NORM_EPSILON)
    y = (y - mean[None, None, None]) * factor[None, None, None]
    y = y + bias[None, None, None]
    return y.astype(self.dtype or x.dtype)


def _moments(
  x: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Mean [C], biased variance [C] and count [] of unmasked positions."""
  positions = x.shape[1] * x.shape[2]
  if mask is None:
    count = jnp.asarray(x.shape[0] * positions, x.dtype)
    mean = x.mean((0, 1, 2))
    var = jnp.square(x - mean[None, None, None]).mean((0, 1, 2))
    return mean, var, count
  weight = mask.astype(x.dtype)[:, None, None, None]
  count = mask.sum().astype(x.dtype) * positions
  share = weight / jnp.maximum(count, 1)
  mean = (x * share).sum((0, 1, 2))
  var = (jnp.square(x - mean[None, None, None]) * share).sum((0, 1, 2))
  return mean, var, count


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """[M, H, W, C] -> [M, H // 2, W // 2, C]; odd rows and columns are dropped.

  Of equal values the first in row-major order gets the gradient, as in
  PyTorch; flat backgrounds make equal values common.
  """
  height, width = x.shape[1] // 2, x.shape[2] // 2
  x = x[:, : 2 * height, : 2 * width]
  x = x.reshape(x.shape[0], height, 2, width, 2, x.shape[-1])
  top = _first_of_equals(x[:, :, 0, :, 0], x[:, :, 0, :, 1])
  bottom = _first_of_equals(x[:, :, 1, :, 0], x[:, :, 1, :, 1])
  return _first_of_equals(top, bottom)


def _first_of_equals(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.where(a >= b, a, b)


def global_average(x: jax.Array) -> jax.Array:
  """[M, H, W, C] -> [M, C], summed in float32."""
  return at_least_float32(x).mean((1, 2))


def at_least_float32(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
