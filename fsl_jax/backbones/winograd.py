"""3x3 convolution and its gradients by Winograd's minimal filtering.

F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (CVPR 2016): an output tile of 2x2 is

    y = A^T [(G k G^T) * (B^T d B)] A

of the 4x4 input tile d below it. Over all tiles and channels that is sixteen
matrix products, with 2.25 times fewer multiplications than the sum itself.
The gradients are its transpose, and share the transformed arrays. Entries of
the matrices are 0, 1 and a half, so the rounding stays that of the plain sum.

Arrays in the transformed domain are [16, tiles, channels].
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]])
_G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]])

# Axes of height and width, in this order. A transform of the first stacks its
# parts in front: images keep the axis it splits, a kernel loses it.
_IMAGE_AXES = (1, 3)
_KERNEL_AXES = (0, 1)


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """Cross-correlates with stride 1 and zero padding of 1 on every side.

  Args:
    images: [M, H, W, I] floating.
    kernel: [3, 3, I, O], same dtype.

  Returns:
    [M, H, W, O].
  """
  _, height, width, _ = images.shape
  images = _pad_to_even(images)
  products = jax.lax.dot_general(
    _transform(_B.T, _windows, images, _IMAGE_AXES),
    _transform(_G, _taps, kernel, _KERNEL_AXES),
    (((2,), (1,)), ((0,), (0,))),
  )
  shape = _tiled_shape(images, kernel.shape[-1])
  out = _inverse(_A.T, _interleave, products.reshape(shape), _IMAGE_AXES)
  return out[:, :height, :width]


def gradients(
  images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Transpose of `convolve`: gradients by images and kernel, in their shapes.

  `gradient` [M, H, W, O] is that by the output.
  """
  _, height, width, inputs = images.shape
  images = _pad_to_even(images)
  d_products = _transform(_A, _phases, _pad_to_even(gradient), _IMAGE_AXES)
  d_tiles = jax.lax.dot_general(
    d_products,
    _transform(_G, _taps, kernel, _KERNEL_AXES),
    (((2,), (2,)), ((0,), (0,))),
  ).reshape(_tiled_shape(images, inputs))
  d_kernel = jax.lax.dot_general(
    _transform(_B.T, _windows, images, _IMAGE_AXES),
    d_products,
    (((1,), (1,)), ((0,), (0,))),
  ).reshape(4, 4, *kernel.shape[2:])
  d_images = _inverse(_B, _overlap_add, d_tiles, _IMAGE_AXES)
  return (
    d_images[:, :height, :width],
    _inverse(_G.T, jnp.stack, d_kernel, _KERNEL_AXES),
  )


def _pad_to_even(images: jax.Array) -> jax.Array:
  _, height, width, _ = images.shape
  return jnp.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))


def _tiled_shape(images: jax.Array, channels: int) -> tuple[int, ...]:
  count, height, width, _ = images.shape
  return 4, 4, count, height // 2, width // 2, channels


def _transform(
  matrix: np.ndarray,
  split: Callable[[jax.Array, int], list[jax.Array]],
  x: jax.Array,
  axes: tuple[int, int],
) -> jax.Array:
  """Into [16, tiles, channels]: an axis is split, the matrix times its parts
  stacked."""
  for axis in axes:
    x = jnp.stack(_combine(matrix, split(x, axis)))
  # One dimension of tiles: XLA for CPU transposes what is summed over several.
  return x.reshape(16, math.prod(x.shape[2:-1]), x.shape[-1])


def _inverse(
  matrix: np.ndarray,
  merge: Callable[[list[jax.Array], int], jax.Array],
  x: jax.Array,
  axes: tuple[int, int],
) -> jax.Array:
  """Out of [4, 4, ...], the last axis first, as the last stands in front."""
  for axis in reversed(axes):
    x = merge(_combine(matrix, list(x)), axis)
  return x


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
  """The matrix times the column of parts."""
  return [
    functools.reduce(
      operator.add,
      [float(c) * x for c, x in zip(row, parts, strict=True) if c],
    )
    for row in matrix
  ]


def _taps(kernel: jax.Array, axis: int) -> list[jax.Array]:
  return [jax.lax.index_in_dim(kernel, i, axis, False) for i in range(3)]


def _phases(x: jax.Array, axis: int) -> list[jax.Array]:
  """Its even and its odd positions."""
  size = x.shape[axis]
  return [jax.lax.slice_in_dim(x, i, size, 2, axis) for i in range(2)]


def _interleave(phases: list[jax.Array], axis: int) -> jax.Array:
  shape = list(phases[0].shape)
  shape[axis] *= 2
  return jnp.stack(phases, axis + 1).reshape(shape)


def _windows(x: jax.Array, axis: int) -> list[jax.Array]:
  """All windows of four at -1, 1, 3, ...: their first entries, their second,
  third and fourth."""
  size = x.shape[axis]
  x = _pad(x, axis, 1, 1)
  return [jax.lax.slice_in_dim(x, i, i + size - 1, 2, axis) for i in range(4)]


def _overlap_add(windows: list[jax.Array], axis: int) -> jax.Array:
  """The transpose of `_windows`."""
  first, second, third, fourth = windows
  even = second + _pad(fourth, axis, 1, -1)
  odd = third + _pad(first, axis, -1, 1)
  return _interleave([even, odd], axis)


def _pad(x: jax.Array, axis: int, before: int, after: int) -> jax.Array:
  """Pads with zeros; a negative width crops."""
  padding = [(0, 0, 0)] * x.ndim
  padding[axis] = (before, after, 0)
  return jax.lax.pad(x, jnp.zeros((), x.dtype), padding)
