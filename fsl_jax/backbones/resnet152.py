"""ResNet-152 as in torchvision, which has the stride in the 3x3 ("v1.5").

Source: torchvision `models/resnet.py`; layers are named as there,
"layer1.0.downsample.1" being "layer1_0/downsample_1" here. Of the two sets of
weights there, IMAGENET1K_V1 is as old as the paper.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.backbones import layers, pretrained

SOURCE = pretrained.Source("resnet152-394f9c45.pth")
_BLOCKS = (3, 8, 36, 3)
_EXPANSION = 4


class Bottleneck(nn.Module):
  """1x1 to `width`, 3x3, 1x1 to 4 width, and a shortcut."""

  width: int
  stride: int
  dtype: jnp.dtype | None

  @nn.compact
  def __call__(self, x, **batch_norm):
    norm = layers.named_batch_norm(self.dtype, batch_norm)
    kind: dict[str, Any] = {
      "kernel_init": layers.kaiming_fan_out,
      "dtype": self.dtype,
    }
    out = _EXPANSION * self.width
    y = layers.Conv1x1(self.width, name="conv1", **kind)(x)
    y = nn.relu(norm(y, "bn1"))
    y = layers.Conv3x3(self.width, stride=self.stride, name="conv2", **kind)(y)
    y = nn.relu(norm(y, "bn2"))
    y = layers.Conv1x1(out, name="conv3", **kind)(y)
    y = norm(y, "bn3")
    if x.shape != y.shape:
      x = layers.Conv1x1(out, stride=self.stride, name="downsample_0", **kind)(
        x
      )
      x = norm(x, "downsample_1")
    return nn.relu(x + y)


class ResNet152(nn.Module):
  """7x7 stem, max-pool, 50 bottlenecks, average pool, linear; 1/32 of H, W.

  Features are 2048.
  """

  num_classes: int = 1000
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, images: jax.Array, **batch_norm: Any) -> types.Outputs:
    x = layers.Conv(
      64,
      7,
      kernel_init=layers.kaiming_fan_out,
      stride=2,
      padding=((3, 3), (3, 3)),
      dtype=self.dtype,
      name="conv1",
    )(images)
    x = layers.BatchNorm(dtype=self.dtype, name="bn1")(x, **batch_norm)
    x = nn.max_pool(
      nn.relu(x), (3, 3), strides=(2, 2), padding=((1, 1), (1, 1))
    )
    for group, blocks in enumerate(_BLOCKS):
      for i in range(blocks):
        x = Bottleneck(
          width=64 * 2**group,
          stride=2 if group > 0 and i == 0 else 1,
          dtype=self.dtype,
          name=f"layer{group + 1}_{i}",
        )(x, **batch_norm)
    return layers.Classifier(self.num_classes, self.dtype, name="fc")(
      layers.global_average(x)
    )
