"""Operations of the published networks, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from fsl_jax import backbones, types
from fsl_jax.backbones import cost


def test_conv64_by_hand():
  """9 I O products at each position of 32, 16, 8 and 4 px, then 256 x 64."""
  backbone = backbones.create("conv64", num_classes=64, image_size_px=32)
  products = 9 * 3 * 64 * 32**2
  products += sum(9 * 64 * 64 * size**2 for size in (16, 8, 4))
  products += 256 * 64
  assert cost.forward_flop(backbone) == 2 * products


def test_resnet12_by_hand():
  backbone = backbones.create("resnet12", num_classes=5, image_size_px=16)
  products, inputs = 512 * 5, 3
  for width, size in ((64, 16), (128, 8), (256, 4), (512, 2)):
    products += size**2 * width * (10 * inputs + 2 * 9 * width)
    inputs = width
  assert cost.forward_flop(backbone) == 2 * products


@pytest.mark.parametrize(
  ("size_px", "giga_multiplications"), [(32, 5.24), (84, 36.1)]
)
def test_wide_resnet_28_10(size_px, giga_multiplications):
  """Strides and shortcuts included."""
  backbone = backbones.create(
    "wrn_28_10", num_classes=64, image_size_px=size_px
  )
  assert cost.forward_flop(backbone) / 2e9 == pytest.approx(
    giga_multiplications, rel=1e-3
  )


def test_grouped_convolution_and_loops_of_other_networks():
  """Two groups halve the products; a scan of three does them three times."""

  def init(key, images):
    return {"params": {"kernel": jnp.ones((3, 3, 2, 4))}}

  def apply(variables, images, *, train, mask=None):
    def convolve(x, _):
      x = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=2,
      )
      return x, None

    x, _ = jax.lax.scan(convolve, images, length=3)
    flat = x.reshape(len(x), -1)
    return types.Outputs(flat, flat), {}

  backbone = types.Backbone(init, apply, "grouped", image_size_px=8)
  assert cost.forward_flop(backbone, channels=4) == 2 * 3 * 64 * 4 * 9 * 2
