"""Cached outputs are the network's, and a stale file cannot be read."""

import dataclasses
import threading

import helpers
import jax
import numpy as np
import pytest

import fsl_jax as fsl
from fsl_jax import adapt, augment, backbones, features, hardness, types
from fsl_jax.data import synthetic


@pytest.fixture(scope="module")
def backbone():
  return helpers.tiny_backbone()._replace(config={"name": "tiny"})


@pytest.fixture(scope="module")
def variables(backbone):
  return helpers.tiny_variables(backbone)


@pytest.fixture(scope="module")
def dataset():
  return synthetic.make(6, [70, 40, 50, 60, 41, 45], image_size_px=8, noise=0.6)


def extract(backbone, variables, dataset, **options):
  return features.extract(
    backbone, variables, dataset, progress=False, **options
  )


def test_outputs_of_each_image(backbone, variables, dataset):
  """306 images: a whole batch and a part of one."""
  cached = extract(backbone, variables, dataset)
  outputs, _ = backbone.apply(
    variables, augment.prepare(dataset.images), train=False
  )
  expected = np.concatenate([outputs.logits, outputs.features], axis=1)
  assert cached.images.dtype == np.float32
  np.testing.assert_allclose(cached.images, expected, rtol=1e-5, atol=1e-6)
  assert cached.class_names == dataset.class_names
  np.testing.assert_array_equal(cached.class_ids, dataset.class_ids)


def test_base_statistics_are_of_features_alone(backbone, variables, dataset):
  outputs, _ = backbone.apply(
    variables, augment.prepare(dataset.images), train=False
  )
  found = features.base_statistics(backbone, variables, dataset, progress=False)
  expected = np.asarray(outputs.features, np.float64).mean(0)
  np.testing.assert_allclose(found["mean"], expected, rtol=1e-5, atol=1e-6)


def test_network_of_features_refuses_images(backbone, variables, dataset):
  network = features.network(backbone, variables, dataset)
  method = adapt.create("prototype", network)
  with pytest.raises(types.InputError, match="cached features"):
    fsl.evaluate.run(
      method, {"params": {}}, dataset, num_episodes=1, progress=False
    )


def test_network_without_logits(backbone, variables, dataset):
  def apply(variables, images, **options):
    outputs, collections = backbone.apply(variables, images, **options)
    return outputs._replace(logits=None), collections

  plain = backbone._replace(apply=apply)
  cached = extract(plain, variables, dataset)
  network = features.network(plain, variables, dataset)
  outputs, _ = network.apply({"params": {}}, cached.images, train=False)
  np.testing.assert_array_equal(outputs.features, cached.images)
  width = extract(backbone, variables, dataset).images.shape[1]
  assert cached.images.shape[1] == width - backbone.num_classes


def test_digest_of_features_is_of_their_content(dataset):
  rng = np.random.default_rng(0)
  made = rng.normal(size=(len(dataset.class_ids), 5)).astype(np.float32)
  one = dataset.with_features(made, fingerprint="one")
  other = dataset.with_features(made.copy(), fingerprint="other")
  assert features.data_digest(one) == features.data_digest(other)
  permuted = dataset.with_features(made[::-1].copy(), fingerprint="one")
  assert features.data_digest(one) != features.data_digest(permuted)


@pytest.mark.parametrize("method", ["prototype", "support_init"])
def test_same_results_as_from_images(backbone, variables, dataset, method):
  """Episodes, predictions and hardness."""
  cached = extract(backbone, variables, dataset)
  frozen = backbones.identity(num_logits=backbone.num_classes)
  options = {"num_episodes": 12, "queries": 8, "shots": 2, "progress": False}
  whole = fsl.evaluate.run(
    adapt.create(method, backbone),
    variables,
    dataset,
    extractor=hardness.extractor(backbone),
    **options,
  )
  ours = fsl.evaluate.run(
    adapt.create(method, frozen),
    frozen.init(jax.random.key(0), cached.images[:1]),
    cached,
    extractor=hardness.extractor(frozen),
    **options,
  )
  assert 0.2 < whole.mean < 1
  np.testing.assert_array_equal(ours.predictions, whole.predictions)
  np.testing.assert_array_equal(ours.accuracy, whole.accuracy)
  np.testing.assert_allclose(ours.hardness, whole.hardness, atol=1e-5)


def count_computations(monkeypatch):
  calls = []
  compute = features._compute
  monkeypatch.setattr(
    features, "_compute", lambda *a: calls.append(1) or compute(*a)
  )
  return calls


def test_computed_once(backbone, variables, dataset, tmp_path, monkeypatch):
  calls = count_computations(monkeypatch)
  first = extract(backbone, variables, dataset, cache_dir=tmp_path)
  second = extract(backbone, variables, dataset, cache_dir=tmp_path)
  assert len(calls) == 1
  np.testing.assert_array_equal(first.images, second.images)
  assert first.fingerprint == second.fingerprint
  assert features.data_digest(first) == features.data_digest(second)
  assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def other_weights(backbone, variables, dataset):
  moved = jax.tree.map(lambda x: x, variables)
  moved["params"]["classifier"]["bias"] += 1e-3
  return backbone, moved, dataset


def other_statistics(backbone, variables, dataset):
  moved = jax.tree.map(lambda x: x, variables)
  moved["batch_stats"]["block0"]["norm"]["mean"] += 1e-3
  return backbone, moved, dataset


def other_pixel(backbone, variables, dataset):
  images = dataset.images.copy()
  images[17, 3, 4, 1] ^= 1
  return backbone, variables, dataclasses.replace(dataset, images=images)


def other_classes(backbone, variables, dataset):
  class_ids = dataset.class_ids.copy()
  class_ids[69] = 1
  return backbone, variables, dataclasses.replace(dataset, class_ids=class_ids)


def other_precision(backbone, variables, dataset):
  config = {**backbone.config, "dtype": "bfloat16"}
  return backbone._replace(config=config), variables, dataset


def other_preparation(backbone, variables, dataset):
  return (
    backbone,
    variables,
    dataclasses.replace(dataset, fingerprint="abc"),
  )


def same_name_other_classes(backbone, variables, dataset):
  """As many images of other classes of one prepared data set."""
  prepared = dataclasses.replace(dataset, fingerprint="abc")
  half = np.flatnonzero(dataset.class_ids < 3)
  return (
    backbone,
    variables,
    dataclasses.replace(
      prepared,
      images=prepared.images[half] ^ 255,
      class_ids=dataset.class_ids[half],
      image_ids=tuple(dataset.image_ids[i] for i in half),
    ),
  )


def test_what_was_made_of_prepared_images_is_told_apart(
  backbone, variables, dataset, tmp_path
):
  """They keep the fingerprint of what they were made of."""
  prepared = dataclasses.replace(dataset, fingerprint="abc")
  inverted = dataclasses.replace(prepared, images=255 - prepared.images)
  first, second = (
    extract(backbone, variables, d, cache_dir=tmp_path)
    for d in (prepared, inverted)
  )
  assert first.fingerprint != second.fingerprint
  assert not np.allclose(first.images, second.images)


def test_mapped_pixels_of_a_prepared_data_set_are_not_read(
  dataset, tmp_path, monkeypatch
):
  np.save(tmp_path / "images.npy", dataset.images)
  mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
  prepared = dataclasses.replace(dataset, images=mapped, fingerprint="abc")
  digest = features.data_digest(prepared)
  (tmp_path / "images.npy").write_bytes(
    (tmp_path / "images.npy").read_bytes()[::-1]
  )
  assert features.data_digest(prepared) == digest


def test_a_network_without_a_config_is_not_kept(variables, dataset, tmp_path):
  with pytest.raises(types.InputError, match="config is None"):
    extract(helpers.tiny_backbone(), variables, dataset, cache_dir=tmp_path)


def test_a_folder_that_cannot_be_written_costs_a_warning(
  backbone, variables, dataset, tmp_path
):
  (tmp_path / "file").write_text("")
  with pytest.warns(UserWarning, match="features are not"):
    cached = extract(backbone, variables, dataset, cache_dir=tmp_path / "file")
  assert len(cached.images) == len(dataset.class_ids)


def test_two_that_write_at_once_leave_a_whole_file(tmp_path):
  values = np.arange(3_000_000, dtype=np.float32).reshape(-1, 3)
  threads = [
    threading.Thread(target=features._write, args=(tmp_path / "x.npy", values))
    for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), values)
  assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
  "change",
  [
    same_name_other_classes,
    other_weights,
    other_statistics,
    other_pixel,
    other_classes,
    other_precision,
    other_preparation,
  ],
)
def test_a_stale_file_is_not_read(
  backbone, variables, dataset, tmp_path, monkeypatch, change
):
  first = extract(backbone, variables, dataset, cache_dir=tmp_path)
  calls = count_computations(monkeypatch)
  other = extract(*change(backbone, variables, dataset), cache_dir=tmp_path)
  assert len(calls) == 1
  assert other.fingerprint != first.fingerprint


def test_other_normalisation_is_another_file(
  backbone, variables, dataset, tmp_path
):
  first = extract(backbone, variables, dataset, cache_dir=tmp_path)
  preprocess = types.Preprocess(mean=(0.5, 0.5, 0.5))
  other = backbone._replace(preprocess=preprocess)
  second = extract(other, variables, dataset, cache_dir=tmp_path)
  assert not np.allclose(first.images, second.images)


@pytest.mark.parametrize(
  "damage",
  [
    lambda path: path.write_bytes(path.read_bytes()[:1000]),
    lambda path: path.write_bytes(b"something else"),
    lambda path: path.write_bytes(b""),
    lambda path: np.save(path, np.zeros((306, 4), np.float32)),
    lambda path: np.save(path, np.zeros((3, 4), np.float32)),
    lambda path: np.save(path, np.zeros((306, 4), np.float64)),
  ],
)
def test_a_damaged_file_is_named(
  backbone, variables, dataset, tmp_path, damage
):
  extract(backbone, variables, dataset, cache_dir=tmp_path)
  (path,) = tmp_path.iterdir()
  damage(path)
  with pytest.raises(types.InputError, match=f"{path.name} is damaged"):
    extract(backbone, variables, dataset, cache_dir=tmp_path)


def test_outputs_that_are_not_finite_are_refused(
  backbone, variables, dataset, tmp_path
):
  broken = jax.tree.map(lambda x: x * np.nan, variables)
  with pytest.raises(types.InputError, match="not finite"):
    extract(backbone, broken, dataset, cache_dir=tmp_path)
  assert not list(tmp_path.iterdir())


def test_fine_tuning_the_head_alone(backbone, variables, dataset):
  """The paper's ablation of a frozen backbone, and on cached outputs the
  same."""
  cached = extract(backbone, variables, dataset)
  frozen = backbones.identity(num_logits=backbone.num_classes)
  method = adapt.create("finetune", frozen, augment=False, epochs=5)
  result = fsl.evaluate.run(
    method,
    frozen.init(jax.random.key(0), cached.images[:1]),
    cached,
    num_episodes=3,
    queries=4,
    progress=False,
  )
  assert result.num_non_finite == 0
  losses = result.curves["support_loss"]
  assert np.all(losses[:, -1] < losses[:, 0])


def test_features_are_no_images():
  with pytest.raises(types.InputError, match=r"float32 features"):
    types.ClassIndexed(
      images=np.zeros((2, 3), np.float64),
      class_ids=np.zeros(2, np.int32),
      class_names=("a",),
      image_ids=("0", "1"),
      name="x",
      split="novel",
    )
