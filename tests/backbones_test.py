"""Networks and their layers against NumPy, XLA and hand-worked numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from fsl_jax import backbones, types
from fsl_jax.backbones import layers

# Library name and options, name in the reference, its widths.
NETS = {
  "conv64": ("conv64", {"width": 8}, (8, 8, 8, 8)),
  "resnet12": ("resnet12", {"widths": (4, 8, 8, 8)}, (4, 8, 8, 8)),
  "wide_resnet": (
    "wrn_16_4",
    {"blocks_per_group": 1, "widen": 1},
    (16, 16, 32, 64),
  ),
}
CLASSES = 6
# Rounding of a forward and a backward pass: 1e-16 and 6e-8 a step, a hundred
# times that after a dozen layers with batch norm.
TOLERANCE = {np.float64: 1e-11, np.float32: 1e-4}


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def make(net, size):
  name, options, widths = NETS[net]
  backbone = backbones.create(
    name, num_classes=CLASSES, image_size_px=size, **options
  )
  params, stats = reference.random_model(
    net, np.random.default_rng(0), widths, CLASSES, size
  )
  return backbone, {"params": params, "batch_stats": stats}


def cast(tree, dtype):
  return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)


def assert_trees_close(ours, theirs, tolerance):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(ours),
    jax.tree.leaves(theirs),
    strict=True,
  ):
    np.testing.assert_allclose(
      a,
      b,
      rtol=tolerance,
      atol=tolerance,
      err_msg=jax.tree_util.keystr(path),
    )


class TestParameters:
  # Exact counts by hand; the fact sheet has them in millions, 64 classes.
  def conv64(self, size):
    convolutions = (27 + 1) * 64 + 3 * (9 * 64 + 1) * 64
    features = 64 * (size // 16) ** 2
    return convolutions + 4 * 2 * 64 + (features + 1) * 64

  def resnet12(self, size):
    del size
    total, inputs = 0, 3
    for width in (64, 128, 256, 512):
      total += 9 * inputs * width + 2 * 9 * width**2  # three 3x3
      total += inputs * width + 4 * 2 * width  # shortcut, four norms
      inputs = width
    return total + 513 * 64

  def wide(self, size, blocks, widen):
    del size
    total, inputs = 27 * 16, 16
    for width in (16 * widen, 32 * widen, 64 * widen):
      for _ in range(blocks):
        total += 9 * inputs * width + 9 * width**2 + 2 * (inputs + width)
        total += inputs * width if inputs != width else 0
        inputs = width
    return total + 2 * inputs + (inputs + 1) * 64

  @pytest.mark.parametrize(
    ("name", "size", "features", "millions"),
    [
      ("conv64", 84, 1600, 0.22),
      ("conv64", 32, 256, 0.13),
      ("resnet12", 84, 512, 8.0),
      ("resnet12", 32, 512, 8.0),
      ("wrn_16_4", 84, 256, 2.8),
      ("wrn_28_10", 84, 640, 36.5),
      ("wrn_28_10", 32, 640, 36.5),
    ],
  )
  def test_counts_and_widths(self, name, size, features, millions):
    backbone = backbones.create(name, num_classes=64, image_size_px=size)
    expected = {
      "conv64": self.conv64,
      "resnet12": self.resnet12,
      "wrn_16_4": functools.partial(self.wide, blocks=2, widen=4),
      "wrn_28_10": functools.partial(self.wide, blocks=4, widen=10),
    }[name](size)
    count = backbones.num_parameters(backbone)
    assert count == expected
    digits = 2 if millions < 1 else 1
    assert round(count / 1e6, digits) == millions
    outputs, _ = jax.eval_shape(
      functools.partial(backbone.apply, train=False),
      backbones.init_shapes(backbone),
      jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32),
    )
    assert outputs.logits.shape == (2, 64)
    assert outputs.features.shape == (2, features)

  @pytest.mark.parametrize("net", NETS)
  def test_trees_have_the_names_of_the_reference(self, net):
    backbone, variables = make(net, 16)
    shapes = backbones.init_shapes(backbone)
    assert jax.tree.map(np.shape, variables) == jax.tree.map(
      lambda x: x.shape, shapes
    )
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype("float32")}


class TestInitialWeights:
  def init(self, name, **options):
    backbone = backbones.create(
      name, num_classes=50, image_size_px=16, **options
    )
    return jax.jit(backbone.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))

  def assert_uniform(self, x, fan_in):
    bound = 1 / np.sqrt(fan_in)
    assert np.abs(x).max() <= bound
    assert np.abs(x).max() > 0.9 * bound
    # Standard error of a standard deviation is below 1 / sqrt(2 n).
    spread = 5 / np.sqrt(2 * x.size)
    assert abs(x.std() * np.sqrt(3) / bound - 1) < spread
    assert abs(x.mean()) < 5 * bound / np.sqrt(x.size)

  def assert_normal(self, x, deviation):
    assert abs(x.std() / deviation - 1) < 5 / np.sqrt(2 * x.size)
    # A normal that is cut off, as some libraries make it, has lighter tails.
    tail = (np.abs(x) > 2 * deviation).mean()
    assert abs(tail - 0.0455) < 5 * np.sqrt(0.0455 / x.size)

  def assert_norms_are_neutral(self, variables):
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
      name = jax.tree_util.keystr(path)
      if "norm" in name:
        neutral = 1 if "scale" in name or "var" in name else 0
        np.testing.assert_array_equal(leaf, neutral, err_msg=name)

  def test_conv64(self):
    variables = self.init("conv64")
    params = jax.tree.map(np.asarray, variables["params"])
    for block, inputs in (("block0", 3), ("block3", 64)):
      self.assert_uniform(params[block]["conv"]["kernel"], 9 * inputs)
      self.assert_uniform(params[block]["conv"]["bias"], 9 * inputs)
    self.assert_uniform(params["classifier"]["kernel"], 64)
    assert not np.array_equal(
      params["block1"]["conv"]["kernel"], params["block2"]["conv"]["kernel"]
    )
    self.assert_norms_are_neutral(variables)

  def test_resnet12_fan_out(self):
    variables = self.init("resnet12", widths=(32, 64, 48, 48))
    block = jax.tree.map(np.asarray, variables["params"]["block1"])
    self.assert_normal(block["conv0"]["kernel"], np.sqrt(2 / (9 * 64)))
    self.assert_normal(block["shortcut_conv"]["kernel"], np.sqrt(2 / 64))
    last = np.asarray(variables["params"]["classifier"]["kernel"])
    self.assert_uniform(last, 48)
    self.assert_norms_are_neutral(variables)

  def test_wide_resnet_fan_in(self):
    variables = self.init("wrn_16_4", blocks_per_group=1, widen=2)
    block = jax.tree.map(np.asarray, variables["params"]["group1_block0"])
    self.assert_normal(block["conv0"]["kernel"], np.sqrt(2 / (9 * 32)))
    self.assert_normal(block["shortcut_conv"]["kernel"], np.sqrt(2 / 32))
    self.assert_norms_are_neutral(variables)


class TestAgainstReference:
  @pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
  @pytest.mark.parametrize("net", NETS)
  def test_forward(self, net, dtype):
    # 19 px: every pool has an odd size to floor, and the last is 2x2.
    with jax.enable_x64(dtype == np.float64):
      size = 19
      backbone, variables = make(net, size)
      rng = np.random.default_rng(1)
      images = rng.normal(size=(7, size, size, 3))
      mask = np.array([True, True, False, True, True, True, False])

      @jax.jit
      def run(variables, images, mask):
        return (
          backbone.apply(variables, images, train=False),
          backbone.apply(variables, images, train=True),
          backbone.apply(variables, images, train=True, mask=mask),
        )

      ours = run(cast(variables, dtype), jnp.asarray(images, dtype), mask)
      modes = ((False, None), (True, None), (True, mask))
      for (outputs, collections), (train, used) in zip(
        ours, modes, strict=True
      ):
        logits, features, new_stats = reference.forward(
          net,
          variables["params"],
          variables["batch_stats"],
          images,
          train=train,
          mask=used,
        )
        assert outputs.logits.dtype == outputs.features.dtype == dtype
        assert_trees_close(
          (outputs.logits, outputs.features, collections["batch_stats"]),
          (logits, features, new_stats),
          TOLERANCE[dtype],
        )

  @pytest.mark.parametrize("net", ["conv64", "resnet12"])
  @pytest.mark.usefixtures("x64")
  def test_gradients(self, net):
    backbone, variables = make(net, 16)
    rng = np.random.default_rng(2)
    images = rng.normal(size=(6, 16, 16, 3))
    weights = rng.normal(size=(6, CLASSES))
    mask = np.array([True, False, True, True, True, False])

    @jax.jit
    def gradient(params):
      def weighted(params):
        outputs, _ = backbone.apply(
          {"params": params, "batch_stats": variables["batch_stats"]},
          images,
          train=True,
          mask=mask,
        )
        return (outputs.logits * weights).sum()

      return jax.grad(weighted)(params)

    ours = gradient(cast(variables["params"], np.float64))
    theirs = reference.gradients(
      net,
      variables["params"],
      variables["batch_stats"],
      images,
      weights,
      mask=mask,
    )
    # Gradients reach some hundreds here, so the tolerance is nearly relative.
    assert_trees_close(ours, theirs, 1e-10)


class TestMaxPool:
  def test_by_hand(self):
    x = jnp.array([[1.0, 5, 2, 9], [3, 4, 8, 7]])[None, :, :, None]
    pooled = layers.max_pool_2x2(x)
    np.testing.assert_array_equal(pooled[0, :, :, 0], [[5, 9]])

  def test_odd_sizes_are_floored(self):
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(layers.max_pool_2x2(x)[0, :, :, 0], [[6, 8]])

  @pytest.mark.parametrize(
    ("window", "first"),
    [
      ([[7, 7], [7, 7]], (0, 0)),
      ([[1, 7], [7, 7]], (0, 1)),
      ([[1, 2], [7, 7]], (1, 0)),
      ([[1, 2], [6, 7]], (1, 1)),
      ([[1, 7], [7, 0]], (0, 1)),
    ],
  )
  def test_first_of_equals_gets_the_gradient(self, window, first):
    x = jnp.array(window, jnp.float32)[None, :, :, None]
    gradient = jax.grad(lambda x: layers.max_pool_2x2(x).sum())(x)
    expected = np.zeros((2, 2))
    expected[first] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0], expected)


class TestBatchNorm:
  """Two images of one pixel and one channel, unless said."""

  def apply(self, x, stats=(0.0, 1.0), affine=(1.0, 0.0), **options):
    variables = {
      "params": {
        "scale": jnp.array([affine[0]]),
        "bias": jnp.array([affine[1]]),
      },
      "batch_stats": {
        "mean": jnp.array([stats[0]]),
        "var": jnp.array([stats[1]]),
      },
    }
    x = jnp.asarray(x, jnp.float32).reshape(-1, 1, 1, 1)
    y, updated = layers.BatchNorm().apply(
      variables, x, mutable=["batch_stats"], **options
    )
    moved = updated["batch_stats"]
    return (
      np.asarray(y)[:, 0, 0, 0],
      float(moved["mean"][0]),
      float(moved["var"][0]),
    )

  def test_train_by_hand(self):
    y, mean, var = self.apply([1, 3], (5.0, 4.0), (2.0, 7.0), train=True)
    # Mean 2, biased variance 1; the running one is fed 2 / (2 - 1) = 2.
    root = np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y, [7 - 2 / root, 7 + 2 / root], rtol=1e-6)
    assert mean == pytest.approx(0.9 * 5 + 0.1 * 2)
    assert var == pytest.approx(0.9 * 4 + 0.1 * 2)

  def test_eval_by_hand(self):
    y, mean, var = self.apply([1, 3], (5.0, 4.0), (2.0, 7.0), train=False)
    root = np.sqrt(4 + 1e-5)
    np.testing.assert_allclose(y, [7 - 8 / root, 7 - 4 / root], rtol=1e-6)
    assert (mean, var) == (5, 4)

  def test_mask_leaves_out(self):
    mask = jnp.array([True, False, True, False])
    y, mean, var = self.apply([1, 100, 3, -50], train=True, mask=mask)
    whole, whole_mean, whole_var = self.apply([1, 3], train=True)
    np.testing.assert_allclose(y[[0, 2]], whole, rtol=1e-6)
    assert (mean, var) == pytest.approx((whole_mean, whole_var))

  def test_positions_count_as_images_do(self):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    variables = {
      "params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)},
      "batch_stats": {"mean": jnp.zeros(2), "var": jnp.ones(2)},
    }
    _, updated = layers.BatchNorm().apply(
      variables, x, train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(
      updated["batch_stats"]["var"],
      0.9 + 0.1 * x.reshape(-1, 2).var(0, ddof=1),
      rtol=1e-6,
    )

  def test_nothing_but_padding(self):
    y, mean, var = self.apply(
      [4, 9], (5.0, 4.0), train=True, mask=jnp.zeros(2, bool)
    )
    assert (mean, var) == (5, 4)
    assert np.isfinite(y).all()

  def test_single_value(self):
    # PyTorch refuses; here the running variance goes towards 0, not to NaN.
    y, mean, var = self.apply([4], (5.0, 4.0), train=True)
    assert y[0] == 0
    assert mean == pytest.approx(4.9)
    assert var == pytest.approx(3.6)

  def test_large_mean_small_spread(self):
    # The variance must not be taken as a difference of two large squares.
    _, _, var = self.apply([1000.0, 1000.1], train=True)
    assert var == pytest.approx(0.9 + 0.1 * 0.005, rel=1e-4)


class TestBfloat16:
  @pytest.mark.parametrize("net", ["resnet12", "wide_resnet"])
  def test_close_to_float32_and_float32_outside(self, net):
    name, options, _ = NETS[net]
    full, half = (
      backbones.create(
        name, num_classes=CLASSES, image_size_px=16, dtype=dtype, **options
      )
      for dtype in (None, jnp.bfloat16)
    )
    _, variables = make(net, 16)
    variables = cast(variables, jnp.float32)
    shapes = backbones.init_shapes(half)
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {np.dtype("float32")}
    images = jax.random.normal(jax.random.key(0), (6, 16, 16, 3))

    def run(backbone):
      return jax.jit(functools.partial(backbone.apply, train=True))(
        variables, images
      )

    (expected, _), (outputs, stats) = run(full), run(half)
    assert {x.dtype for x in jax.tree.leaves((outputs, stats))} == {
      np.dtype("float32")
    }
    error = np.linalg.norm(outputs.logits - expected.logits)
    error /= np.linalg.norm(expected.logits)
    # A bfloat16 has 8 bits: half a percent per layer, a dozen layers. Less
    # than a tenth of a percent would mean that it was not used at all.
    assert 1e-3 < error < 0.1


class TestErrors:
  def make(self, **options):
    return backbones.create(
      "conv64", num_classes=5, image_size_px=16, width=4, **options
    )

  def test_unknown_name_suggests_the_nearest(self):
    with pytest.raises(types.InputError, match="mean 'resnet12'"):
      backbones.create("resnet", num_classes=5, image_size_px=32)

  def test_unknown_option_is_named(self):
    with pytest.raises(types.InputError, match="widen"):
      self.make(widen=3)

  @pytest.mark.parametrize(
    ("num_classes", "image_size_px"), [(0, 32), (5, 15), (5, 0), (5, 10**6)]
  )
  def test_out_of_range(self, num_classes, image_size_px):
    with pytest.raises(types.InputError, match="must be"):
      backbones.create(
        "conv64", num_classes=num_classes, image_size_px=image_size_px
      )

  def test_other_image_size(self):
    backbone = self.make()
    variables = backbones.init_shapes(backbone)
    for shape in ((2, 32, 32, 3), (16, 16, 3), (2, 16, 32, 3)):
      images = jax.ShapeDtypeStruct(shape, jnp.float32)
      with pytest.raises(types.InputError, match=r"\[M, 16, 16, C\]"):
        jax.eval_shape(
          functools.partial(backbone.apply, train=False), variables, images
        )

  def test_uint8_is_refused_with_a_name_that_exists(self):
    from fsl_jax import augment

    images = jnp.zeros((2, 16, 16, 3), jnp.uint8)
    with pytest.raises(types.InputError, match="uint8") as raised:
      self.make().init(jax.random.key(0), images)
    advice = str(raised.value).split("see augment.")[1]
    assert hasattr(augment, advice)


def test_identity_passes_features_on():
  backbone = backbones.identity()
  variables = backbone.init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)))
  images = np.random.default_rng(0).normal(size=(4, 2, 2, 3))
  outputs, stats = backbone.apply(variables, jnp.asarray(images), train=True)
  np.testing.assert_allclose(outputs.logits, images.reshape(4, 12), rtol=1e-6)
  np.testing.assert_array_equal(outputs.logits, outputs.features)
  assert not jax.tree.leaves((variables, stats))


def test_eval_leaves_the_statistics_and_the_batch_out():
  backbone, variables = make("conv64", 16)
  variables = cast(variables, jnp.float32)
  images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
  apply = jax.jit(functools.partial(backbone.apply, train=False))
  outputs, collections = apply(variables, images)
  stats = collections["batch_stats"]
  jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
  other, _ = apply(variables, images.at[1:].set(0))
  np.testing.assert_array_equal(outputs.logits[0], other.logits[0])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("net", NETS)
def test_groups_of_a_batch_are_as_on_separate_devices(net, masked):
  """Logits, mean gradient and the first device's running statistics."""
  backbone, variables = make(net, 16)
  variables = cast(variables, np.float64)
  rng = np.random.default_rng(1)
  images = rng.normal(size=(4, 3, 16, 16, 3))  # [devices, images of each, ...]
  weights = rng.normal(size=(4, 3, CLASSES))
  mask = np.ones((4, 3), bool)
  mask[1, 2] = not masked

  @functools.partial(jax.jit, static_argnames="groups")
  def run(params, images, mask, weights, groups=1):
    def loss(params):
      outputs, stats = backbone.apply(
        variables | {"params": params},
        images,
        train=True,
        mask=mask,
        groups=groups,
      )
      return (outputs.logits * weights).sum(), (outputs.logits, stats)

    return jax.grad(loss, has_aux=True)(params)

  params = variables["params"]
  gradients, (logits, stats) = run(
    params,
    images.reshape(12, 16, 16, 3),
    mask.reshape(12) if masked else None,
    weights.reshape(12, CLASSES),
    groups=4,
  )
  alone = [
    run(params, images[i], mask[i] if masked else None, weights[i])
    for i in range(4)
  ]
  expected = jax.tree.map(lambda *g: sum(g), *(g for g, _ in alone))
  assert_trees_close(gradients, expected, 1e-10)
  assert_trees_close(
    logits, np.concatenate([logits for _, (logits, _) in alone]), 1e-10
  )
  assert_trees_close(stats, alone[0][1][1], 1e-10)
  # Groups matter: the whole batch has other statistics.
  whole = run(
    params,
    images.reshape(12, 16, 16, 3),
    None,
    weights.reshape(12, CLASSES),
  )
  assert np.abs(whole[1][0] - logits).max() > 1e-2
