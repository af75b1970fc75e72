"""EfficientNet-Lite0: EfficientNet-B0 for integer hardware.

Against B0 it has ReLU6 instead of swish, no squeeze-and-excitation, and a stem
and head that do not scale. Source: TensorFlow's TPU repository,
`models/official/efficientnet/lite`; layers are named as in the PyTorch files,
"_blocks.0._bn1" there being "blocks_0/bn1" here.
"""

from typing import NamedTuple

import flax.linen as nn
import jax

from fsl_jax import types
from fsl_jax.backbones import frozen, layers

EPSILON = 1e-3  # of batch norm, TensorFlow's
_STEM_WIDTH = 32
_HEAD_WIDTH = 1280


class Stage(NamedTuple):
  repeats: int
  kernel_size: int
  stride: int  # of the first block
  expansion: int
  width: int


_STAGES = (
  Stage(1, 3, 1, 1, 16),
  Stage(2, 3, 2, 6, 24),
  Stage(2, 5, 2, 6, 40),
  Stage(3, 3, 2, 6, 80),
  Stage(3, 5, 1, 6, 112),
  Stage(4, 5, 2, 6, 192),
  Stage(1, 3, 1, 6, 320),
)


def _norm(x, name):
  return layers.BatchNorm(epsilon=EPSILON, name=name)(x, train=False)


class InvertedBottleneck(nn.Module):
  """1x1 to more channels, depthwise, 1x1 to fewer; the last is linear."""

  width: int
  kernel_size: int
  stride: int
  expansion: int

  @nn.compact
  def __call__(self, x):
    init = layers.kaiming_fan_out
    y = x
    if self.expansion > 1:
      wide = x.shape[-1] * self.expansion
      y = layers.Conv1x1(wide, kernel_init=init, name="expand_conv")(y)
      y = nn.relu6(_norm(y, "bn0"))
    y = layers.DepthwiseConv(
      self.kernel_size,
      kernel_init=init,
      stride=self.stride,
      name="depthwise_conv",
    )(y)
    y = nn.relu6(_norm(y, "bn1"))
    y = layers.Conv1x1(self.width, kernel_init=init, name="project_conv")(y)
    y = _norm(y, "bn2")
    return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
  """Stem, 16 inverted bottlenecks, head, average pool, linear; 1/32 of H, W."""

  @nn.compact
  def __call__(self, images: jax.Array) -> types.Outputs:
    init = layers.kaiming_fan_out
    x = layers.Conv(
      _STEM_WIDTH, 3, kernel_init=init, stride=2, name="conv_stem"
    )(images)
    x = nn.relu6(_norm(x, "bn0"))
    index = 0
    for stage in _STAGES:
      for i in range(stage.repeats):
        x = InvertedBottleneck(
          stage.width,
          stage.kernel_size,
          stage.stride if i == 0 else 1,
          stage.expansion,
          name=f"blocks_{index}",
        )(x)
        index += 1
    x = layers.Conv1x1(_HEAD_WIDTH, kernel_init=init, name="conv_head")(x)
    x = nn.relu6(_norm(x, "bn1"))
    return layers.Classifier(1000, name="fc")(layers.global_average(x))


def create() -> types.Backbone:
  """The network, which takes float32 (pixel - 127) / 128; features are 1280."""
  return frozen.backbone(EfficientNetLite0(), "efficientnet_lite0")
