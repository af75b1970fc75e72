"""Base-class training: formulas by hand, and a run that is really killed."""

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsl_jax as fsl
from fsl_jax import types
from fsl_jax.data import synthetic
from fsl_jax.pretrain import recipe

_DRIVER = """
import sys
import fsl_jax as fsl
data = fsl.data.synthetic.make(4, 16, image_size_px=16, noise=0.3)
net = fsl.backbones.create("conv64", num_classes=4, image_size_px=16, width=4)
config = fsl.pretrain.PretrainConfig(cycles=(3, 5), batch_size=32)
result = fsl.pretrain.run(
  net, data, config, run_dir=sys.argv[1], progress=False
)
print(result.meta["digest"])
"""


def _tiny_data(**options) -> types.ClassIndexed:
  return synthetic.make(4, 16, image_size_px=16, noise=0.3, **options)


def _tiny_net(num_classes: int = 4) -> types.Backbone:
  return fsl.backbones.create(
    "conv64", num_classes=num_classes, image_size_px=16, width=4
  )


def test_learning_rate_follows_two_cosine_cycles():
  config = recipe.PretrainConfig(cycles=(2, 4), learning_rate=0.1)
  steps = jnp.arange(60)
  rates = np.asarray(
    jax.vmap(recipe.learning_rate(config, steps_per_epoch=10))(steps)
  )
  # First cycle: 20 steps from 0.1; second: 40 steps from 0.01.
  np.testing.assert_allclose(rates[0], 0.1, rtol=1e-6)
  np.testing.assert_allclose(rates[10], 0.05, rtol=1e-5)
  np.testing.assert_allclose(
    rates[5], 0.05 * (1 + np.cos(np.pi / 4)), rtol=1e-5
  )
  np.testing.assert_allclose(rates[20], 0.01, rtol=1e-6)
  np.testing.assert_allclose(rates[40], 0.005, rtol=1e-5)
  assert rates[19] < 0.001
  assert 0 < rates[59] < 2e-5
  assert (np.diff(rates[:20]) < 0).all()
  assert (np.diff(rates[20:]) < 0).all()


def test_published_recipe_is_the_default():
  config = recipe.PretrainConfig()
  assert config.num_epochs == 120
  assert (config.learning_rate, config.momentum) == (0.1, 0.9)
  assert (config.weight_decay, config.batch_size) == (1e-4, 256)
  assert (config.label_smoothing, config.mixup_alpha) == (0.1, 0.25)


def test_smoothed_cross_entropy_by_hand():
  # p = (0.5, 0.25, 0.25): -log p = (0.6931, 1.3863, 1.3863), mean 1.1552.
  logits = jnp.log(jnp.asarray([[0.5, 0.25, 0.25]]))
  value = recipe.smoothed_cross_entropy(logits, jnp.asarray([0]), 0.1)
  np.testing.assert_allclose(value, [0.9 * 0.693147 + 0.1 * 1.155245], 1e-5)
  plain = recipe.smoothed_cross_entropy(logits, jnp.asarray([1]), 0.0)
  np.testing.assert_allclose(plain, [1.386294], 1e-5)


def test_mixup_blends_each_sample_with_its_own_weight():
  mixup = recipe.draw_mixup(jax.random.key(0), 2000, 0.25)
  weight = np.asarray(mixup.weight)
  assert ((weight >= 0.5) & (weight <= 1)).all()
  assert len(np.unique(weight)) > 1000
  assert sorted(np.asarray(mixup.permutation)) == list(range(2000))
  # max(b, 1 - b) of Beta(1/4, 1/4), by SciPy's sampler, has mean 0.9. The
  # standard deviation is 0.137, so 0.015 is five standard errors.
  draws = np.random.default_rng(0).beta(0.25, 0.25, 400_000)
  expected = np.maximum(draws, 1 - draws).mean()
  assert abs(weight.mean() - expected) < 0.015

  mixed = recipe.mix(
    recipe.Mixup(jnp.asarray([0.75, 1.0]), jnp.asarray([1, 0])),
    jnp.asarray([[[4.0]], [[8.0]]]),
  )
  np.testing.assert_allclose(np.ravel(mixed), [0.75 * 4 + 0.25 * 8, 8.0])


def test_no_mixup_leaves_values_alone():
  mixup = recipe.draw_mixup(jax.random.key(0), 8, 0.0)
  values = jnp.arange(8.0)
  np.testing.assert_array_equal(recipe.mix(mixup, values), values)


def test_optimizer_is_nesterov_with_decay_outside_and_of_kernels_only():
  config = recipe.PretrainConfig(cycles=(1,), weight_decay=0.5)
  sgd = recipe.optimizer(config, steps_per_epoch=4)
  params = {
    "conv": {"kernel": jnp.asarray(2.0), "bias": jnp.asarray(2.0)},
    "norm": {"scale": jnp.asarray(2.0), "bias": jnp.asarray(2.0)},
  }
  state = sgd.init(params)
  expected = {True: 2.0, False: 2.0}  # by whether it is decayed
  velocity = 0.0
  for step, gradient in enumerate((1.0, -3.0, 0.5)):
    gradients = jax.tree.map(lambda _, g=gradient: jnp.asarray(g), params)
    updates, state = sgd.update(gradients, state, params)
    params = jax.tree.map(jnp.add, params, updates)
    rate = 0.05 * (1 + np.cos(np.pi * step / 4))
    velocity = 0.9 * velocity + gradient
    for decayed in expected:
      shrunk = expected[decayed] * (1 - rate * 0.5 * decayed)
      expected[decayed] = shrunk - rate * (gradient + 0.9 * velocity)
  np.testing.assert_allclose(params["conv"]["kernel"], expected[True], 1e-6)
  for leaf in (
    params["conv"]["bias"],
    params["norm"]["scale"],
    params["norm"]["bias"],
  ):
    np.testing.assert_allclose(leaf, expected[False], 1e-6)


@pytest.fixture(scope="module", autouse=True)
def _own_compilation_cache(tmp_path_factory: pytest.TempPathFactory):
  """The runs of the driver compile the same programs, once."""
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("compiled")
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
  """An uninterrupted run of the driver: its folder and its digest."""
  folder = tmp_path_factory.mktemp("uninterrupted") / "run"
  return folder, _drive(folder)


def _drive(folder: pathlib.Path) -> str:
  done = subprocess.run(
    [sys.executable, "-c", _DRIVER, str(folder)],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.strip()


def _log(folder: pathlib.Path) -> list[dict]:
  lines = (folder / "epochs.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def _without_speed(records: list[dict]) -> list[dict]:
  return [
    # Its digest covers the speed.
    {k: v for k, v in record.items() if k not in ("images_per_s", "sha256")}
    for record in records
  ]


def test_killed_run_ends_as_the_uninterrupted_one(trained, tmp_path):
  uninterrupted, digest = trained
  folder = tmp_path / "run"
  process = subprocess.Popen(
    [sys.executable, "-c", _DRIVER, str(folder)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  log = folder / "epochs.jsonl"
  deadline = time.monotonic() + 200
  while not (log.exists() and log.read_text().count("\n") >= 2):
    assert process.poll() is None, "it ended before it could be killed"
    assert time.monotonic() < deadline
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  process.wait()
  before = len(_log(folder))
  assert before < 8
  assert _drive(folder) == digest
  assert _without_speed(_log(folder)) == _without_speed(_log(uninterrupted))


def test_log_line_without_its_checkpoint_is_not_kept_twice(trained, tmp_path):
  folder, _ = trained
  assert [r["epoch"] for r in _log(folder)] == list(range(1, 9))
  assert len(list((folder / "checkpoints/last").iterdir())) == 1
  assert any((folder / "tensorboard").iterdir())
  # The names of earlier versions, whose runs are continued.
  state, _ = fsl.checkpoint.restore(folder / "checkpoints/last")
  assert set(state) == {"params", "batch_stats", "optimizer_state", "step"}


def test_finished_run_is_not_trained_again(trained):
  folder, digest = trained
  log = (folder / "epochs.jsonl").read_bytes()
  config = recipe.PretrainConfig(cycles=(3, 5), batch_size=32)
  again = fsl.pretrain.run(_tiny_net(), _tiny_data(), config, run_dir=folder)
  assert again.meta["digest"] == digest
  assert (folder / "epochs.jsonl").read_bytes() == log


def test_other_configuration_is_refused(trained):
  folder, _ = trained
  config = recipe.PretrainConfig(cycles=(3, 5), batch_size=32, seed=1)
  with pytest.raises(types.InputError, match=r"pretrain\.seed was 0, now 1"):
    fsl.pretrain.run(_tiny_net(), _tiny_data(), config, run_dir=folder)


def test_best_checkpoint_has_the_accuracy_of_its_metadata(trained):
  folder, digest = trained
  variables, meta = fsl.checkpoint.restore(folder / "checkpoints/best")
  assert meta["digest"] == digest
  data = _tiny_data()
  outputs, _ = _tiny_net().apply(
    variables, fsl.augment.prepare(jnp.asarray(data.images)), train=False
  )
  accuracy = np.mean(outputs.logits.argmax(-1) == data.class_ids)
  np.testing.assert_allclose(meta["train_accuracy"], accuracy, 1e-6)
  accuracies = [r["train_accuracy"] for r in _log(folder)]
  assert max(accuracies) == meta["train_accuracy"]
  # The first epoch that reached it.
  assert accuracies.index(max(accuracies)) + 1 == meta["epoch"]
  assert meta["data"]["class_names"] == list(data.class_names)


def test_it_learns(tmp_path):
  config = recipe.PretrainConfig(
    cycles=(12,), batch_size=16, mixup_alpha=0.0, augment=False
  )
  result = fsl.pretrain.run(
    _tiny_net(), _tiny_data(), config, run_dir=tmp_path, progress=False
  )
  # Chance is 0.25; smooth patterns with this noise are easy to tell apart.
  assert result.meta["train_accuracy"] > 0.9
  assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]


@pytest.mark.parametrize(
  ("net", "data", "options", "message"),
  [
    (7, {}, {}, "has 7 classes, but synthetic"),
    (4, {}, {"batch_size": 256}, "batch_size 256 exceeds the 64"),
    (4, {"image_size_px": 32}, {}, r"16 px.*image_size_px=16"),
    (1, {"num_classes": 1}, {}, r"one class \('base-0000'\)"),
  ],
)
def test_refused_before_any_work(tmp_path, net, data, options, message):
  data = {"num_classes": 4, "image_size_px": 16} | data
  dataset = synthetic.make(data.pop("num_classes"), 16, **data)
  config = recipe.PretrainConfig(**({"batch_size": 8} | options))
  with pytest.raises(types.InputError, match=message):
    fsl.pretrain.run(_tiny_net(net), dataset, config, run_dir=tmp_path / "run")
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"cycles": ()}, "cycles must name at least one"),
    ({"cycles": (3, 0)}, "epochs of a cycle must be at least 1"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"batch_norm_group": 48}, "256 must be a multiple of batch_norm_group 48"),
    ({"batch_norm_group": -1}, "batch_norm_group must be at least 0"),
    ({"momentum": 1.0}, "momentum must lie in"),
    ({"label_smoothing": -0.1}, "label_smoothing must lie in"),
  ],
)
def test_values_out_of_range(options, message):
  with pytest.raises(types.InputError, match=message):
    recipe.PretrainConfig(**options)


def test_divergence_is_one_sentence(tmp_path):
  config = recipe.PretrainConfig(
    cycles=(2,), batch_size=16, learning_rate=1e30, augment=False
  )
  with pytest.raises(types.InputError, match="learning_rate below 1e\\+30"):
    fsl.pretrain.run(
      _tiny_net(), _tiny_data(), config, run_dir=tmp_path, progress=False
    )


def test_finished_gives_what_the_run_gave_and_only_that(tmp_path):
  data, net = _tiny_data(), _tiny_net()
  config = recipe.PretrainConfig(cycles=(1, 1), batch_size=32)

  def finished(config=config, data=data, run_dir=tmp_path / "run"):
    return fsl.pretrain.finished(net, data, config, run_dir=run_dir)

  assert finished() is None
  result = fsl.pretrain.run(
    net, data, config, run_dir=tmp_path / "run", progress=False
  )
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
  again = finished()
  assert again is not None
  assert again.meta == result.meta
  assert again.epochs == result.epochs
  jax.tree.map(np.testing.assert_array_equal, again.variables, result.variables)
  # Nothing was written or locked.
  assert before == {
    p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")
  }
  assert finished(recipe.PretrainConfig(cycles=(2,), batch_size=32)) is None
  other = dataclasses.replace(data, fingerprint="another")
  assert finished(data=other) is None
  (tmp_path / "run" / "result.json").unlink()
  assert finished() is None


def test_runs_from_before_groups_of_batch_norm_go_on(trained):
  folder, _ = trained
  config = json.loads((folder / "config.json").read_text())
  assert "batch_norm_group" not in config["pretrain"]
  grouped = recipe.PretrainConfig(
    cycles=(3, 5), batch_size=32, batch_norm_group=8
  )
  with pytest.raises(types.InputError, match="batch_norm_group"):
    fsl.pretrain.run(_tiny_net(), _tiny_data(), grouped, run_dir=folder)
