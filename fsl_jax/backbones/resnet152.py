"""ResNet-152 as in torchvision, which has the stride in the 3x3 ("v1.5").

Source: torchvision `models/resnet.py`; layers are named as there,
"layer1.0.downsample.1" being "layer1_0/downsample_1" here.
"""

import flax.linen as nn
import jax

from fsl_jax import types
from fsl_jax.backbones import frozen, layers

_BLOCKS = (3, 8, 36, 3)
_EXPANSION = 4


def _norm(x, name):
  return layers.BatchNorm(name=name)(x, train=False)


class Bottleneck(nn.Module):
  """1x1 to `width`, 3x3, 1x1 to 4 width, and a shortcut."""

  width: int
  stride: int

  @nn.compact
  def __call__(self, x):
    init = layers.kaiming_fan_out
    out = _EXPANSION * self.width
    y = layers.Conv1x1(self.width, kernel_init=init, name="conv1")(x)
    y = nn.relu(_norm(y, "bn1"))
    y = layers.Conv3x3(
      self.width, kernel_init=init, stride=self.stride, name="conv2"
    )(y)
    y = nn.relu(_norm(y, "bn2"))
    y = layers.Conv1x1(out, kernel_init=init, name="conv3")(y)
    y = _norm(y, "bn3")
    if x.shape != y.shape:
      x = layers.Conv1x1(
        out, kernel_init=init, stride=self.stride, name="downsample_0"
      )(x)
      x = _norm(x, "downsample_1")
    return nn.relu(x + y)


class ResNet152(nn.Module):
  """7x7 stem, max-pool, 50 bottlenecks, average pool, linear; 1/32 of H, W."""

  @nn.compact
  def __call__(self, images: jax.Array) -> types.Outputs:
    x = layers.Conv(
      64,
      7,
      kernel_init=layers.kaiming_fan_out,
      stride=2,
      padding=((3, 3), (3, 3)),
      name="conv1",
    )(images)
    x = nn.relu(_norm(x, "bn1"))
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    for group, blocks in enumerate(_BLOCKS):
      for i in range(blocks):
        x = Bottleneck(
          width=64 * 2**group,
          stride=2 if group > 0 and i == 0 else 1,
          name=f"layer{group + 1}_{i}",
        )(x)
    return layers.Classifier(1000, name="fc")(layers.global_average(x))


def create() -> types.Backbone:
  """The network, which takes ImageNet's mean and deviation; features are 2048.

  Normalised images are those of `augment.prepare`.
  """
  return frozen.backbone(ResNet152(), "resnet152")
