"""Wide ResNet as in the paper's code (fastai's variant).

It differs from the usual one: the residual branch is multiplied by 0.2, every
shortcut starts from the activated input, and the first group has stride 1 at
every image size.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import layers

RESIDUAL_SCALE = 0.2


class PreActivationBlock(nn.Module):
  width: int
  stride: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x, **batch_norm):
    norm = layers.named_batch_norm(self.dtype, batch_norm)

    def activate(y, name):
      return nn.relu(norm(y, name))

    def convolve(y, stride, name):
      return layers.Conv3x3(
        self.width,
        stride=stride,
        kernel_init=layers.kaiming_fan_in,
        dtype=self.dtype,
        name=name,
      )(y)

    shortcut = activated = activate(x, "norm0")
    if x.shape[-1] != self.width or self.stride != 1:
      shortcut = layers.Conv1x1(
        self.width,
        kernel_init=layers.kaiming_fan_in,
        stride=self.stride,
        dtype=self.dtype,
        name="shortcut_conv",
      )(activated)
    branch = convolve(activated, self.stride, "conv0")
    branch = convolve(activate(branch, "norm1"), 1, "conv1")
    return shortcut + RESIDUAL_SCALE * branch


class WideResNet(nn.Module):
  """Stem of 16, three groups of widths 16k, 32k, 64k, average pool, linear.

  Depth is 6 * blocks_per_group + 4. Features are 64 * widen.
  """

  num_classes: int
  blocks_per_group: int = 4
  widen: int = 10
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images: jax.Array, **batch_norm: Any) -> types.Outputs:
    x = layers.Conv3x3(
      16, kernel_init=layers.kaiming_fan_in, dtype=self.dtype, name="stem"
    )(images)
    for group in range(3):
      for block in range(self.blocks_per_group):
        x = PreActivationBlock(
          width=16 * 2**group * self.widen,
          stride=2 if group > 0 and block == 0 else 1,
          dtype=self.dtype,
          name=f"group{group}_block{block}",
        )(x, **batch_norm)
    x = layers.BatchNorm(dtype=self.dtype, name="norm")(x, **batch_norm)
    return layers.Classifier(self.num_classes, self.dtype, name="classifier")(
      layers.global_average(nn.relu(x))
    )
