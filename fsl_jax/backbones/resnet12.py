"""ResNet-12 as in the paper's code: plain ReLU, no DropBlock."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import layers


class ResidualBlock(nn.Module):
  """3 x (3x3 convolution, batch norm), 1x1 shortcut, ReLU, 2x2 max-pool."""

  width: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x, **batch_norm):
    norm = layers.named_batch_norm(self.dtype, batch_norm)
    init = layers.kaiming_fan_out
    y = x
    for i in range(3):
      y = layers.Conv3x3(
        self.width, kernel_init=init, dtype=self.dtype, name=f"conv{i}"
      )(y)
      y = norm(y, f"norm{i}")
      if i < 2:
        y = nn.relu(y)
    shortcut = layers.Conv1x1(
      self.width, kernel_init=init, dtype=self.dtype, name="shortcut_conv"
    )(x)
    shortcut = norm(shortcut, "shortcut_norm")
    # Equal to pooling after the ReLU: both are monotone.
    return nn.relu(layers.max_pool_2x2(y + shortcut))


class ResNet12(nn.Module):
  """Four residual blocks, global average pool, linear. Features are 512."""

  num_classes: int
  widths: tuple[int, ...] = (64, 128, 256, 512)
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images: jax.Array, **batch_norm: Any) -> types.Outputs:
    x = images
    for i, width in enumerate(self.widths):
      x = ResidualBlock(width, self.dtype, name=f"block{i}")(x, **batch_norm)
    return layers.Classifier(self.num_classes, self.dtype, name="classifier")(
      layers.global_average(x)
    )
