"""Batch statistics and normalisation, with few passes over the images.

Both are memory-bound: the cost is the number of times that an array of all
images is read or written. Two facts avoid most of that in the gradient. To
first order the variance does not depend on the mean about which it is taken, so
no gradient flows through it. And the gradients of the parameters are two sums
per channel.
"""

import jax
import jax.numpy as jnp


def moments(
  x: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Statistics per channel over unmasked images and all positions.

  Args:
    x: [M, H, W, C], float32 or wider.
    mask: [M] bool, or None for all images.

  Returns:
    Mean [C], biased variance [C] and the number [] of values behind them, of
    x's dtype; 0, 1 and 0 where nothing is unmasked.
  """
  images, height, width, _ = x.shape
  if mask is None:
    mask = jnp.ones(images, bool)
  count = mask.sum().astype(x.dtype) * (height * width)
  share = mask.astype(x.dtype) / jnp.maximum(count, 1)

  def average(values):
    # Weighted after the sum: a weight per position would be another array.
    return (values.sum((1, 2)) * share[:, None]).sum(0)

  mean = average(x)
  centre = jax.lax.stop_gradient(mean)
  var = average(jnp.square(x - centre[None, None, None]))
  # Dividing by nearly zero would end in infinity some layers later.
  return mean, jnp.where(count > 0, var, 1), count


@jax.custom_vjp
def scale_and_shift(
  x: jax.Array, factor: jax.Array, offset: jax.Array
) -> jax.Array:
  """x factor + offset, channel by channel.

  For a gradient g, with sums over images and positions:

    d x = g factor    d factor = sum g x    d offset = sum g

  Not (x - mean) factor + bias: XLA for CPU would keep x - mean, which the
  variance and the gradient need too, as an array of its own.

  Args:
    x: [M, H, W, C].
    factor, offset: [C], of x's dtype.

  Returns:
    [M, H, W, C].
  """
  return x * factor[None, None, None] + offset[None, None, None]


def _forward(x, factor, offset):
  return scale_and_shift(x, factor, offset), (x, factor)


def _backward(residuals, gradient):
  x, factor = residuals
  return (
    gradient * factor[None, None, None],
    (gradient * x).sum((0, 1, 2)),
    gradient.sum((0, 1, 2)),
  )


scale_and_shift.defvjp(_forward, _backward)
