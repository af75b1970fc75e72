"""Functions that are called in a loop compile once and keep no memory."""

import contextlib
import gc

import helpers
import jax
import jax.monitoring
import numpy as np
import pytest

from fsl_jax import adapt, evaluate, features, hardness
from fsl_jax.data import synthetic

METHODS = ("support_init", "finetune", "transductive_finetune", "prototype")
_COMPILED = "/jax/core/compile/backend_compile_duration"
_compiled: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def _listen():
  def listener(event, duration, **kwargs):
    del duration, kwargs
    if event == _COMPILED:
      _compiled.append(event)

  jax.monitoring.register_event_duration_secs_listener(listener)
  yield
  jax.monitoring.unregister_event_duration_listener(listener)


@contextlib.contextmanager
def compiles(expected):
  """Whether the block compiles anything at all."""
  before = len(_compiled)
  yield
  assert (len(_compiled) > before) == expected


def create(name):
  """Made anew, as in a loop over settings."""
  options = {} if name in ("support_init", "prototype") else {"epochs": 2}
  return adapt.create(name, helpers.tiny_backbone(), **options)


def variables():
  return helpers.tiny_variables(helpers.tiny_backbone())


def assert_compiles_once(call):
  """The first call does, the next ones neither compile nor keep arrays."""
  with compiles(True):
    call(0)
  call(1)  # What depends on values, such as random keys, is there by now.
  gc.collect()
  arrays = len(jax.live_arrays())
  with compiles(False):
    for number in range(2, 5):
      call(number)
  gc.collect()
  assert len(jax.live_arrays()) == arrays


@pytest.mark.parametrize("name", METHODS)
def test_one_episode_by_hand(name):
  weights = variables()
  task, _ = helpers.make_task()
  jax.clear_caches()

  def call(number):
    key = jax.random.key(number)
    logits, _ = adapt.run.run(key, create(name), weights, task)
    assert np.isfinite(logits).all()

  assert_compiles_once(call)


def test_evaluation():
  weights = variables()
  dataset = synthetic.make(4, 6, image_size_px=8)
  jax.clear_caches()

  def call(number):
    evaluate.run(
      create("transductive_finetune"),
      weights,
      dataset,
      ways=3,
      shots=1,
      queries=2,
      num_episodes=2,
      seed=number,
      progress=False,
    )

  assert_compiles_once(call)


def test_features_and_hardness(monkeypatch, tmp_path):
  weights = variables()
  dataset = synthetic.make(4, 6, image_size_px=8)
  extract = hardness.extractor(helpers.tiny_backbone())
  images = dataset.images
  jax.clear_caches()
  assert_compiles_once(
    lambda number: features.extract(
      helpers.tiny_backbone(), weights, dataset, cache_dir=None, progress=False
    )
  )
  assert_compiles_once(lambda number: np.asarray(extract(weights, images)))
