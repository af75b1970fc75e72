"""3x3 convolution that stays fast inside compiled loops on a CPU.

XLA for CPU has two slow paths that few-shot adaptation meets at every step.
The weight gradient, once it stands in a `scan` or `map`, becomes a loop some
seventy times slower than a matrix product of the same size. And images of a
few pixels with hundreds of channels, the last blocks of a network, run at a
fiftieth of the machine's rate, forward and backward. Both are written as
matrix products of patches here, on a CPU only.
"""

import functools
import math

import jax
import jax.numpy as jnp

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Above this many bytes of patches, nine products of shifted views are as fast
# as one product of patches and need no copy of the input.
_MAX_PATCH_BYTES = 2**26
# Measured at 64 to 512 channels: at 8x8 output positions patches are level
# with XLA's convolution, at 2x2 fifty times faster, at 16x16 half as fast.
_MAX_PATCH_POSITIONS = 64


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve_3x3(
  images: jax.Array, kernel: jax.Array, stride: int = 1
) -> jax.Array:
  """Cross-correlates with zero padding of 1 on every side.

  Args:
    images: [M, H, W, I].
    kernel: [3, 3, I, O], same dtype.
    stride: of both spatial dimensions.

  Returns:
    [M, ceil(H / stride), ceil(W / stride), O].
  """
  return _convolve(images, kernel, stride)


def _forward(images, kernel, stride):
  return _convolve(images, kernel, stride), (images, kernel)


def _backward(stride, residuals, gradient):
  images, kernel = residuals
  return (
    _input_gradient(images, kernel, gradient, stride),
    jax.lax.platform_dependent(
      images,
      kernel,
      gradient,
      cpu=functools.partial(_kernel_gradient_as_products, stride),
      default=functools.partial(_kernel_gradient_native, stride),
    ),
  )


convolve_3x3.defvjp(_forward, _backward)


def _convolve(images, kernel, stride):
  positions = math.prod(_output_size(images, stride))
  if positions > _MAX_PATCH_POSITIONS:
    return _native(stride, images, kernel)
  return jax.lax.platform_dependent(
    images,
    kernel,
    cpu=functools.partial(_as_product, stride),
    default=functools.partial(_native, stride),
  )


def _native(stride, images, kernel):
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=((1, 1), (1, 1)),
    dimension_numbers=_DIMENSIONS,
  )


def _as_product(stride, images, kernel):
  patches = jnp.concatenate(_shifted_views(images, stride), axis=-1)
  return patches @ kernel.reshape(-1, kernel.shape[-1])


def _input_gradient(images, kernel, gradient, stride):
  if stride == 1:
    # Correlating with the kernel turned by 180 degrees; XLA's transpose rule
    # gives the same through a dilated form that its CPU kernels do not like.
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    return _convolve(gradient, turned, 1)
  _, transpose = jax.vjp(lambda x: _native(stride, x, kernel), images)
  return transpose(gradient)[0]


def _kernel_gradient_native(stride, images, kernel, gradient):
  _, transpose = jax.vjp(lambda k: _native(stride, images, k), kernel)
  return transpose(gradient)[0]


def _kernel_gradient_as_products(stride, images, kernel, gradient):
  views = _shifted_views(images, stride)

  def product(view):
    return jnp.einsum("mhwi,mhwo->io", view, gradient)

  size = math.prod(views[0].shape) * 9 * images.dtype.itemsize
  if size <= _MAX_PATCH_BYTES:
    result = product(jnp.concatenate(views, axis=-1))
  else:
    result = jnp.stack([product(view) for view in views])
  return result.reshape(kernel.shape)


def _shifted_views(images, stride):
  """What each of the nine kernel entries sees, in the kernel's order."""
  height, width = _output_size(images, stride)
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return [
    padded[
      :,
      i : i + (height - 1) * stride + 1 : stride,
      j : j + (width - 1) * stride + 1 : stride,
    ]
    for i in range(3)
    for j in range(3)
  ]


def _output_size(images, stride):
  return tuple(-(-size // stride) for size in images.shape[1:3])
