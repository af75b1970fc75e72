"""2x2 windows: the place of the maximum, and the value at a place.

Places are numbered 0 to 3 in row-major order. Odd last rows and columns belong
to no window; a NaN is never the maximum if a value follows it.
"""

import jax
import jax.numpy as jnp


def argmax_2x2(x: jax.Array) -> jax.Array:
  """Place of each window's maximum, of equals the first.

  [M, H, W, C] -> [M, H // 2, W // 2, C] int8.
  """
  a, b, c, d = _corners(x)
  top = jnp.where(a >= b, jnp.int8(0), jnp.int8(1))
  bottom = jnp.where(c >= d, jnp.int8(2), jnp.int8(3))
  above = jnp.where(a >= b, a, b) >= jnp.where(c >= d, c, d)
  return jnp.where(above, top, bottom)


@jax.custom_vjp
def take_2x2(x: jax.Array, place: jax.Array) -> jax.Array:
  """The value of each window at its place.

  The gradient goes back there in one pass; differentiating the slices would
  add up four padded arrays.

  Args:
    x: [M, H, W, C].
    place: [M, H // 2, W // 2, C] int8 in [0, 4).

  Returns:
    [M, H // 2, W // 2, C], of x's dtype.
  """
  a, b, c, d = _corners(x)
  return jnp.where(
    place < 2, jnp.where(place == 0, a, b), jnp.where(place == 2, c, d)
  )


def _forward(x, place):
  return take_2x2(x, place), (place, x)


def _backward(residuals, gradient):
  place, x = residuals
  images, height, width, channels = x.shape
  row, column = (
    jax.lax.broadcasted_iota(jnp.int8, (1, 1, 2, 1, 2, 1), axis)
    for axis in (2, 4)
  )
  spread = jnp.where(
    place[:, :, None, :, None] == 2 * row + column,
    gradient[:, :, None, :, None],
    0,
  )
  even = (height // 2 * 2, width // 2 * 2)
  spread = spread.reshape(images, *even, channels)
  odd = ((0, height - even[0]), (0, width - even[1]))
  return jnp.pad(spread, ((0, 0), *odd, (0, 0))), None


take_2x2.defvjp(_forward, _backward)


def _corners(x):
  """[M, H // 2, W // 2, C] each: the windows at places 0, 1, 2 and 3."""
  images, height, width, channels = x.shape
  rows, columns = height // 2, width // 2
  x = x[:, : 2 * rows, : 2 * columns]
  x = x.reshape(images, rows, 2, columns, 2, channels)
  return x[:, :, 0, :, 0], x[:, :, 0, :, 1], x[:, :, 1, :, 0], x[:, :, 1, :, 1]
