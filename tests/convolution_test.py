"""Convolutions and their gradients against XLA's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax.backbones import convolution, winograd


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def arrays(height, width, stride=1, *, batch=3, inputs=28, outputs=5):
  """Images, kernel and gradient by the output, of numbers near 1."""
  rng = np.random.default_rng(height * 100 + width)
  out = (batch, -(-height // stride), -(-width // stride), outputs)
  shapes = ((batch, height, width, inputs), (3, 3, inputs, outputs), out)
  return [rng.normal(size=shape) for shape in shapes]


def xla(images, kernel, stride=1):
  return jax.lax.conv_general_dilated(
    images,
    kernel,
    (stride, stride),
    ((1, 1), (1, 1)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def with_gradients(function, stride=1):
  """Output and both gradients, as one compiled program."""

  @jax.jit
  def run(images, kernel, gradient):
    out, transpose = jax.vjp(
      lambda x, k: function(x, k, stride), images, kernel
    )
    return out, *transpose(gradient)

  return run


def assert_as_xla(stride, size, **options):
  given = arrays(*size, stride, **options)
  ours = with_gradients(convolution.convolve_3x3, stride)(*given)
  theirs = with_gradients(xla, stride)(*given)
  for a, b in zip(ours, theirs, strict=True):
    assert a.shape == b.shape
    # Sums of at most some thousand products of numbers near 1.
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


# Tiles of 2x2 that fit, that stick out of one side, of both, of one pixel.
SIZES = [(8, 8), (2, 2), (1, 1), (5, 7), (6, 3), (17, 16)]
# On either side of the channels that are transformed.
INPUTS = [3, convolution._MAX_PATCH_CHANNELS + 1]


@pytest.mark.usefixtures("x64")
class TestAgainstXla:
  @pytest.mark.parametrize("stride", [1, 2])
  @pytest.mark.parametrize("size", SIZES, ids=str)
  @pytest.mark.parametrize("inputs", INPUTS)
  def test_output_and_gradients(self, size, stride, inputs):
    assert_as_xla(stride, size, inputs=inputs)

  def test_other_platforms(self, monkeypatch):
    """What a GPU or TPU compiles, compiled here."""
    monkeypatch.setattr(
      jax.lax,
      "platform_dependent",
      lambda *arguments, default, **_: default(*arguments),
    )
    for stride in (1, 2):
      assert_as_xla(stride, (9, 8))

  @pytest.mark.parametrize("inputs", INPUTS)
  @pytest.mark.parametrize("size", [(4, 4), (9, 9)], ids=str)
  def test_vmap_over_kernels_inside_scan(self, size, inputs):
    """As in a chunk of episodes, each with weights of its own."""
    given = arrays(*size, inputs=inputs, outputs=inputs)
    images, kernels, gradients = (np.stack([x, 2 * x[::-1]]) for x in given)
    kernels /= 3 * np.sqrt(inputs)

    def three_times(function):
      def loss(kernels):
        def body(x, _):
          return jnp.tanh(jax.vmap(function)(x, kernels)), None

        x, _ = jax.lax.scan(body, jnp.asarray(images), length=3)
        return (x * gradients).sum()

      return jax.jit(jax.value_and_grad(loss))(jnp.asarray(kernels))

    ours = three_times(convolution.convolve_3x3)
    theirs = three_times(xla)
    # Three convolutions in a row amplify rounding.
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-11)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-10, atol=1e-10)

  @pytest.mark.parametrize("inputs", INPUTS)
  def test_second_derivative(self, inputs):
    images, kernel, gradient = arrays(4, 4, inputs=inputs)

    def curvature(function):
      def slope(k):
        return jax.grad(
          lambda k: (jnp.tanh(function(images, k) / 9) * gradient).sum()
        )(k)

      return jax.jit(jax.grad(lambda k: jnp.square(slope(k)).sum()))(kernel)

    np.testing.assert_allclose(
      curvature(convolution.convolve_3x3),
      curvature(xla),
      rtol=1e-10,
      atol=1e-10,
    )


def errors_of(function, given):
  """Relative errors of output and gradients, which float64 tells."""
  with jax.enable_x64(True):
    exact = with_gradients(xla)(*(np.asarray(x, np.float64) for x in given))
  ours = with_gradients(function)(*given)
  errors = []
  for a, b in zip(ours, map(np.asarray, exact), strict=True):
    difference = np.asarray(a).astype(np.float64) - b
    errors.append(np.linalg.norm(difference) / np.linalg.norm(b))
  return errors


def test_float32_is_as_exact_as_the_plain_sum():
  given = [np.float32(x) for x in arrays(8, 8, inputs=256, outputs=64)]
  ours = errors_of(convolution.convolve_3x3, given)
  theirs = errors_of(xla, given)
  # Twice, for the sums of four before and after the products.
  assert all(a < 2 * b for a, b in zip(ours, theirs, strict=True))


def test_bfloat16_loses_its_last_bit_only():
  given = [np.asarray(x, jnp.bfloat16) for x in arrays(8, 8)]
  out = with_gradients(convolution.convolve_3x3)(*given)
  assert {x.dtype for x in out} == {jnp.dtype(jnp.bfloat16)}
  assert max(errors_of(convolution.convolve_3x3, given)) < 2**-8


@pytest.mark.parametrize("inputs", INPUTS)
def test_one_pixel_by_hand(inputs):
  # Only the middle of the kernel sees a single pixel.
  kernel = np.zeros((3, 3, inputs, 1), np.float32)
  kernel[:, :, 0, 0] = np.arange(9).reshape(3, 3)
  out = convolution.convolve_3x3(jnp.full((1, 1, 1, inputs), 2.0), kernel)
  assert out.shape == (1, 1, 1, 1)
  assert out[0, 0, 0, 0] == 8


@pytest.mark.parametrize("inputs", INPUTS)
def test_no_image(inputs):
  given = [np.float32(x) for x in arrays(4, 4, batch=0, inputs=inputs)]
  out, d_images, d_kernel = with_gradients(convolution.convolve_3x3)(*given)
  assert out.shape == (0, 4, 4, 5)
  assert d_images.shape == given[0].shape
  np.testing.assert_array_equal(d_kernel, np.zeros_like(given[1]))


def test_winograd_gradients_are_the_transpose():
  images, kernel, gradient = (np.float32(x) for x in arrays(5, 6))
  _, transpose = jax.vjp(winograd.convolve, images, kernel)
  for a, b in zip(
    jax.jit(winograd.gradients)(images, kernel, gradient),
    jax.jit(transpose)(gradient),
    strict=True,
  ):
    # Sums of some hundred products in float32.
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


class TestDepthwise:
  @pytest.mark.parametrize("size", [(7, 8), (1, 4)], ids=str)
  @pytest.mark.parametrize("stride", [1, 2])
  @pytest.mark.parametrize("kernel_size", [3, 5])
  def test_output_and_gradients(self, kernel_size, stride, size):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, *size, 4)))
    kernel = jnp.asarray(rng.normal(size=(kernel_size, kernel_size, 1, 4)))
    out = (2, *(-(-n // stride) for n in size), 4)
    given = (images, kernel, jnp.asarray(rng.normal(size=out)))

    def grouped(images, kernel, stride):
      return jax.lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        "SAME",
        feature_group_count=4,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )

    ours = with_gradients(convolution.convolve_depthwise, stride)(*given)
    theirs = with_gradients(grouped, stride)(*given)
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

  def test_same_padding_by_hand(self):
    # Of 4 pixels, stride 2 and size 3 there is one zero, on the right.
    images = jnp.asarray([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, :, 0, 0].set(jnp.ones(3))
    found = convolution.convolve_depthwise(images, kernel, 2)
    np.testing.assert_allclose(found.ravel(), [1 + 2 + 3, 3 + 4])
