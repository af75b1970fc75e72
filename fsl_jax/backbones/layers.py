"""The layers that the networks are built of, with PyTorch's conventions.

Agreement with the reference depends on details that Flax's layers lack: a
running variance that is updated with the unbiased variance, a mask for padded
images, and a maximum whose gradient goes to the first of equal values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import convolution, normalisation, pooling

Initializer = Callable[..., jax.Array]

PARAM_DTYPE = jnp.float32  # under JAX_ENABLE_X64 too
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # weight of the new batch in the running statistics


def torch_uniform(fan_in: int) -> Initializer:
  """Uniform within 1 / sqrt(fan_in): PyTorch's default, weights and biases."""
  bound = 1 / math.sqrt(fan_in)

  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


kaiming_fan_in = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv3x3(nn.Module):
  """3x3 convolution, padding 1. [M, H, W, I] -> [M, H / s, W / s, width]."""

  width: int
  kernel_init: Initializer
  stride: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (3, 3, x.shape[-1], self.width)
    kernel = self.param("kernel", self.kernel_init, shape, PARAM_DTYPE)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return convolution.convolve_3x3(x, kernel, self.stride)


class Conv1x1(nn.Module):
  """1x1 convolution without bias, as a matrix product."""

  width: int
  kernel_init: Initializer
  stride: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (1, 1, x.shape[-1], self.width)
    kernel = self.param("kernel", self.kernel_init, shape, PARAM_DTYPE)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    if self.stride > 1:
      # Without the barrier the slice is fused into the product, at which XLA of
      # jax 0.10.2 aborts the process when it compiles for a Hopper GPU.
      x = jax.lax.optimization_barrier(x[:, :: self.stride, :: self.stride])
    # Flat, because XLA for CPU transposes an operand of the weight gradient
    # where more than one dimension is summed over.
    y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return y.reshape(*x.shape[:-1], self.width)


class Conv(nn.Module):
  """Any other convolution without bias. [M, H, W, I] -> [M, H', W', width].

  Padding "SAME" is TensorFlow's: of an odd number the smaller half goes to the
  top and left.
  """

  width: int
  size: int  # of the kernel, both ways
  kernel_init: Initializer
  stride: int = 1
  padding: str | Sequence[tuple[int, int]] = "SAME"
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.size, self.size, x.shape[-1], self.width)
    kernel = self.param("kernel", self.kernel_init, shape, PARAM_DTYPE)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      window_strides=(self.stride, self.stride),
      padding=self.padding,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class DepthwiseConv(nn.Module):
  """Each channel with a kernel of its own, TensorFlow's "SAME" padding.

  [M, H, W, C] -> [M, ceil(H / stride), ceil(W / stride), C].
  """

  size: int  # of the kernel, both ways
  kernel_init: Initializer
  stride: int = 1
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.size, self.size, 1, x.shape[-1])
    kernel = self.param("kernel", self.kernel_init, shape, PARAM_DTYPE)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return convolution.convolve_depthwise(x, kernel, self.stride)


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
    kernel = self.param("kernel", init, (width, self.num_classes), PARAM_DTYPE)
    bias = self.param("bias", init, (self.num_classes,), PARAM_DTYPE)
    x, kernel, bias = nn.dtypes.promote_dtype(
      features, kernel, bias, dtype=self.dtype
    )
    logits = x @ kernel + bias[None]
    return types.Outputs(at_least_float32(logits), at_least_float32(features))


class BatchNorm(nn.Module):
  """Batch normalisation over images and positions, PyTorch's conventions.

  The batch is normalised with its biased variance; the running variance uses
  the unbiased one. Statistics are float32 whatever the compute dtype.
  A batch whose mask is all False leaves the running statistics as they are.
  """

  dtype: jnp.dtype | None = None
  epsilon: float = BATCH_NORM_EPSILON

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    *,
    train: bool,
    mask: jax.Array | None = None,
    groups: int = 1,
    shift: jax.Array | float = 0.0,
    pool: bool = False,
  ) -> jax.Array:
    """Normalises x + shift; with `pool`, `max_pool_2x2` of that.

    Neither takes another pass over the images. Subtracting the mean of the
    batch removes the shift, so in training it only changes the running mean and
    its gradient is 0. One value of a pooled window is normalised, which is a
    quarter of the work, in the gradient too.

    Args:
      x: [M, H, W, C].
      train: whether the statistics are those of this batch, which also update
        the running ones, or the running ones.
      mask: [M] bool; images where it is False do not enter the statistics.
      groups: G, a divisor of M. In training, each of G consecutive parts of the
        batch is normalised with its own statistics, and those of the first
        update the running ones: as on G devices that share no statistics.
      shift: [C], the bias of the convolution before.
      pool: see above.

    Returns:
      [M, H, W, C], or with `pool` [M, H // 2, W // 2, C], of the compute dtype.
    """
    width = x.shape[-1]
    dtype = self.dtype or x.dtype
    like = ((width,), PARAM_DTYPE)
    scale = self.param("scale", nn.initializers.ones, *like)
    bias = self.param("bias", nn.initializers.zeros, *like)
    running_mean = self.variable("batch_stats", "mean", jnp.zeros, *like)
    running_var = self.variable("batch_stats", "var", jnp.ones, *like)
    x = at_least_float32(x)
    is_grouped = train and groups > 1
    of_each = jax.vmap if is_grouped else lambda function: function

    def split(x):
      return x.reshape(groups, -1, *x.shape[1:]) if is_grouped else x

    if train:
      statistics = of_each(normalisation.moments)(
        split(x), None if mask is None else split(mask)
      )
      mean, var, _ = statistics
      if not self.is_initializing():
        if is_grouped:
          statistics = [values[0] for values in statistics]
        new_mean, new_var, count = statistics
        moved = jnp.where(count > 0, BATCH_NORM_MOMENTUM, 0.0)
        unbiased = new_var * count / jnp.maximum(count - 1, 1)
        for running, value in (
          (running_mean, new_mean + shift),
          (running_var, unbiased),
        ):
          value = jax.lax.stop_gradient(value).astype(running.value.dtype)
          running.value = running.value + moved.astype(value.dtype) * (
            value - running.value
          )
    else:
      mean, var = running_mean.value - shift, running_var.value

    def affine(mean, var):
      factor = scale * jax.lax.rsqrt(var + self.epsilon)
      return factor, bias - mean * factor

    factor, offset = of_each(affine)(mean, var)

    def normalise(x):
      y = of_each(normalisation.scale_and_shift)(split(x), factor, offset)
      return y.reshape(x.shape).astype(dtype)

    if pool:
      x = pooling.take_2x2(x, pooling.argmax_2x2(normalise(x)))
    return normalise(x)


def named_batch_norm(
  dtype: jnp.dtype | None,
  batch_norm: Mapping[str, Any],
  *,
  epsilon: float = BATCH_NORM_EPSILON,
) -> Callable[[jax.Array, str], jax.Array]:
  """`norm(x, name)`, a batch norm of the module that calls it.

  Args:
    dtype: of the computation.
    batch_norm: `train`, `mask` and `groups` of `BatchNorm`.
    epsilon: added to the variance.
  """

  def norm(x, name):
    layer = BatchNorm(dtype=dtype, epsilon=epsilon, name=name)
    return layer(x, **batch_norm)

  return norm


def max_pool_2x2(x: jax.Array) -> jax.Array:
  """[M, H, W, C] -> [M, H // 2, W // 2, C]; odd rows and columns are dropped.

  Of equal values the first in row-major order gets the gradient, as in
  PyTorch; flat backgrounds make equal values common.
  """
  return pooling.take_2x2(x, pooling.argmax_2x2(x))


def global_average(x: jax.Array) -> jax.Array:
  """[M, H, W, C] -> [M, C], summed in float32."""
  return at_least_float32(x).mean((1, 2))


def at_least_float32(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
