"""Batch norm and pooling, against differentiating their plain formulas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax.backbones import layers

EPSILON = 1e-5
MASKS = {
  "no mask": None,
  "none masked": [True, True, True, True],
  "some masked": [True, False, True, False],
  "one left": [False, False, True, False],
  "all masked": [False, False, False, False],
}
# Sums of some hundred numbers near 1, in float64.
close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-11)


@pytest.fixture(autouse=True)
def x64():
  with jax.enable_x64(True):
    yield


def inputs(size, images=4, ties=False):
  """x [images, *size, 3], parameters, and weights of the outputs for a loss.

  One channel each has a positive, a negative and no scale.
  """
  rng = np.random.default_rng(0)
  x = rng.normal(2, 3, (images, *size, 3))
  given = {
    "x": np.round(x / 3) if ties else x,
    "scale": np.array([1.5, -0.7, 0.0]),
    "bias": rng.normal(size=3),
    "shift": rng.normal(size=3),
    "mean": rng.normal(size=3),
    "var": rng.uniform(0.5, 2, 3),
  }
  # Every image has a weight, so gradients arrive at masked ones as well.
  return given, rng.normal(size=(images, *size, 3))


def ours(given, mask, train, pool):
  y, updated = layers.BatchNorm().apply(
    {
      "params": {k: given[k] for k in ("scale", "bias")},
      "batch_stats": {k: given[k] for k in ("mean", "var")},
    },
    given["x"],
    train=train,
    mask=mask,
    shift=given["shift"],
    pool=pool,
    mutable=["batch_stats"],
  )
  return jax.nn.relu(y), updated["batch_stats"]


def plain(given, mask, train, pool):
  """The formulas as one would write them down."""
  x = given["x"] + given["shift"][None, None, None]
  mean, var = given["mean"], given["var"]
  moved = {"mean": mean, "var": var}
  if train:
    weight = jnp.ones(len(x)) if mask is None else mask.astype(x.dtype)
    weight = jnp.broadcast_to(weight[:, None, None, None], (*x.shape[:3], 1))
    count = weight.sum()
    mean = (weight * x).sum((0, 1, 2)) / jnp.maximum(count, 1)
    deviation = x - mean[None, None, None]
    var = (weight * deviation**2).sum((0, 1, 2)) / jnp.maximum(count, 1)
    var = jnp.where(count > 0, var, 1)
    unbiased = var * count / jnp.maximum(count - 1, 1)
    share = jnp.where(count > 0, 0.1, 0.0)
    for name, value in (("mean", mean), ("var", unbiased)):
      moved[name] = (1 - share) * moved[name] + share * value
  y = (x - mean[None, None, None]) / jnp.sqrt(var + EPSILON)[None, None, None]
  y = y * given["scale"][None, None, None] + given["bias"][None, None, None]
  y = jax.nn.relu(y)
  return (plain_pool(y) if pool else y), moved


def plain_pool(y):
  height, width = (size // 2 * 2 for size in y.shape[1:3])
  a, b, c, d = (y[:, i:height:2, j:width:2] for i in range(2) for j in range(2))

  def first(a, b):
    return jnp.where(a >= b, a, b)

  return first(first(a, b), first(c, d))


@functools.cache
def compiled(function, train, pool):
  """Output, running statistics and gradients in x and the parameters."""

  @jax.jit
  def run(given, mask, weights):
    def loss(wanted):
      y, moved = function({**given, **wanted}, mask, train, pool)
      rows, columns = y.shape[1:3]
      return (y * weights[:, :rows, :columns]).sum(), (y, moved)

    wanted = {k: given[k] for k in ("x", "scale", "bias", "shift")}
    return jax.grad(loss, has_aux=True)(wanted)

  return run


def assert_as_plain(given, weights, mask=None, *, train=True, pool=False):
  if mask is not None:
    mask = np.array(mask)
    if not mask.any():
      # Such a batch has no mean that would take a shift away.
      given = {**given, "shift": np.zeros(3)}
  gradients, (y, moved) = compiled(ours, train, pool)(given, mask, weights)
  theirs, (expected, expected_moved) = compiled(plain, train, pool)(
    given, mask, weights
  )
  if mask is not None and not mask.any():
    del gradients["shift"], theirs["shift"]
  close(y, expected)
  jax.tree.map(close, dict(moved), expected_moved)
  jax.tree.map(close, gradients, theirs)
  return gradients


@pytest.mark.parametrize("pool", [False, True], ids=["whole", "pooled"])
class TestAsPlain:
  @pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
  def test_masks(self, mask, pool):
    assert_as_plain(*inputs((4, 6)), mask, pool=pool)

  def test_shift_has_no_gradient_in_training(self, pool):
    gradients = assert_as_plain(
      *inputs((4, 6)), MASKS["some masked"], pool=pool
    )
    np.testing.assert_array_equal(gradients["shift"], 0)

  def test_running_statistics(self, pool):
    assert_as_plain(*inputs((4, 6)), train=False, pool=pool)

  def test_one_image(self, pool):
    assert_as_plain(*inputs((4, 6), images=1), pool=pool)

  def test_odd_size(self, pool):
    assert_as_plain(*inputs((5, 3)), MASKS["some masked"], pool=pool)

  def test_ties(self, pool):
    given, weights = inputs((4, 6), ties=True)
    assert len(np.unique(given["x"])) < 10
    assert_as_plain(given, weights, MASKS["some masked"], pool=pool)

  def test_vmap(self, pool):
    """As in a chunk of episodes, each with parameters of its own."""
    given, weights = inputs((4, 6))
    mask = np.array(MASKS["some masked"])
    pair = jax.tree.map(lambda x: np.stack([x, 2 * x]), given)
    masks = np.stack([mask, ~mask])
    run = compiled(ours, True, pool)
    together = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))(
      pair, masks, weights
    )
    for i in range(2):
      alone = run(jax.tree.map(lambda x, i=i: x[i], pair), masks[i], weights)
      jax.tree.map(lambda a, b, i=i: close(a[i], b), together, alone)

  def test_second_derivative(self, pool):
    given, weights = inputs((4, 6))

    def curvature(function):
      def loss(x):
        y, _ = function({**given, "x": x}, None, True, pool)
        rows, columns = y.shape[1:3]
        return (jnp.tanh(y) * weights[:, :rows, :columns]).sum()

      slope = jax.grad(loss)
      return jax.jit(jax.grad(lambda x: jnp.square(slope(x)).sum()))(given["x"])

    close(curvature(ours), curvature(plain))


def test_bfloat16():
  """Computed in float32 from rounded images, rounded at the end."""
  given, weights = jax.tree.map(jnp.float32, inputs((5, 6)))
  given["x"] = given["x"].astype(jnp.bfloat16)
  del given["shift"]

  def run(given, pool):
    module = layers.BatchNorm(dtype=jnp.bfloat16)
    y, updated = module.apply(
      {
        "params": {k: given[k] for k in ("scale", "bias")},
        "batch_stats": {k: given[k] for k in ("mean", "var")},
      },
      given["x"],
      train=True,
      pool=pool,
      mutable=["batch_stats"],
    )
    return y if pool else layers.max_pool_2x2(y), updated["batch_stats"]

  def loss(given, pool):
    y, moved = run(given, pool)
    return (y.astype(jnp.float32) * weights[:, :2, :3]).sum(), (y, moved)

  gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
  pooled, after = gradient(given, True), gradient(given, False)
  gradients, (y, moved) = pooled
  assert y.dtype == gradients["x"].dtype == jnp.bfloat16
  for leaf in jax.tree.leaves((moved, gradients["scale"], gradients["bias"])):
    assert leaf.dtype == jnp.float32
  # Values that differ before rounding and tie after it fare alike both ways.
  np.testing.assert_array_equal(y, after[1][0])
  for a, b in zip(*map(jax.tree.leaves, (pooled, after)), strict=True):
    # The last bit of bfloat16, where float32 sums differ in order.
    np.testing.assert_allclose(
      a.astype(jnp.float32), b.astype(jnp.float32), rtol=2**-7, atol=1e-5
    )
