"""Conv-64, the four-block network of the first few-shot papers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import convolution, layers


class Conv3x3(nn.Module):
  """3x3 convolution with PyTorch's initial weights.

  [M, H, W, I] -> [M, H, W, width] without the bias, and the bias [width].
  """

  width: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x):
    init = layers.torch_uniform(9 * x.shape[-1])
    kernel = self.param(
      "kernel", init, (3, 3, x.shape[-1], self.width), jnp.float32
    )
    bias = self.param("bias", init, (self.width,), jnp.float32)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return convolution.convolve_3x3(x, kernel), bias


class ConvBlock(nn.Module):
  width: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x, **batch_norm):
    x, bias = Conv3x3(self.width, self.dtype, name="conv")(x)
    x = layers.BatchNorm(dtype=self.dtype, name="norm")(
      x, **batch_norm, shift=bias, pool=True
    )
    # Equal to pooling after it: both are monotone.
    return nn.relu(x)


class Conv64(nn.Module):
  """4 x [3x3 convolution with bias, batch norm, ReLU, 2x2 max-pool], linear.

  Features are the flattened last block: 64 * (size // 16)^2.
  """

  num_classes: int
  width: int = 64
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images: jax.Array, **batch_norm: Any) -> types.Outputs:
    x = images
    for i in range(4):
      x = ConvBlock(self.width, self.dtype, name=f"block{i}")(x, **batch_norm)
    return layers.Classifier(self.num_classes, self.dtype, name="classifier")(
      x.reshape(x.shape[0], -1)
    )
