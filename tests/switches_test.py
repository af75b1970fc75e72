"""Every method under JAX's debugging switches, and called in a loop.

In a loop functions compile once and keep no memory.
"""

import contextlib
import gc

import helpers
import jax
import jax.monitoring
import numpy as np
import pytest

from fsl_jax import adapt, evaluate, features, hardness
from fsl_jax.data import synthetic

METHODS = {
  "support_init": {},
  "finetune": {"epochs": 1},
  "transductive_finetune": {"epochs": 1},
  "prototype": {},
}
SWITCHES = {
  "x64": lambda: jax.enable_x64(True),
  "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
  "no NaN": lambda: jax.debug_nans(True),
  "no infinity": lambda: jax.debug_infs(True),
  "tracer leaks": lambda: jax.checking_leaks(),
  "highest precision": lambda: jax.default_matmul_precision("highest"),
  "explicit transfers": lambda: jax.transfer_guard("disallow"),
}
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


def create(name):
  """Made anew, as in a loop over settings."""
  return adapt.create(name, helpers.tiny_backbone(), **METHODS[name])


def variables():
  return helpers.tiny_variables(helpers.tiny_backbone())


def evaluated(weights, dataset, *, seed=0):
  """All methods on two episodes, with hardness."""
  return evaluate.run_many(
    [create(name) for name in METHODS],
    weights,
    dataset,
    ways=3,
    shots=1,
    queries=2,
    num_episodes=2,
    seed=seed,
    extractor=hardness.extractor(helpers.tiny_backbone()),
    progress=False,
  )


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_method(switch):
  weights = variables()
  dataset = synthetic.make(4, 6, image_size_px=8)
  with SWITCHES[switch]():
    found = evaluated(weights, dataset)
  for result in found.values():
    assert np.isfinite(result.accuracy).all()
    assert np.isfinite(result.hardness).all()


@pytest.mark.parametrize("switch", ["x64", "strict promotion"])
def test_one_episode_equals_that_without(switch):
  weights = variables()
  task, _ = helpers.make_task()

  def run():
    method = create("transductive_finetune")
    return adapt.run.run(jax.random.key(0), method, weights, task)[0]

  plain = run()
  with SWITCHES[switch]():
    assert np.abs(np.asarray(run()) - plain).max() < 1e-4


class TestLoops:
  @contextlib.contextmanager
  def compiles(self, expected):
    """Whether the block compiles anything at all."""
    before = len(_compiled)
    yield
    assert (len(_compiled) > before) == expected

  def assert_compiles_once(self, call):
    """The first call does, the next ones neither compile nor keep arrays."""
    with self.compiles(True):
      call(0)
    call(1)  # What depends on values, such as random keys, is there by now.
    gc.collect()
    arrays = len(jax.live_arrays())
    with self.compiles(False):
      for number in range(2, 5):
        call(number)
    gc.collect()
    assert len(jax.live_arrays()) == arrays

  @pytest.mark.parametrize("name", METHODS)
  def test_one_episode_by_hand(self, name):
    weights = variables()
    task, _ = helpers.make_task()
    jax.clear_caches()

    def call(number):
      key = jax.random.key(number)
      logits, _ = adapt.run.run(key, create(name), weights, task)
      assert np.isfinite(logits).all()

    self.assert_compiles_once(call)

  def test_evaluation(self):
    weights = variables()
    dataset = synthetic.make(4, 6, image_size_px=8)
    jax.clear_caches()
    self.assert_compiles_once(
      lambda number: evaluated(weights, dataset, seed=number)
    )

  def test_features_and_hardness(self):
    weights = variables()
    dataset = synthetic.make(4, 6, image_size_px=8)
    network = helpers.tiny_backbone()
    extract = hardness.extractor(network)
    images = dataset.images
    jax.clear_caches()
    self.assert_compiles_once(
      lambda number: features.extract(network, weights, dataset, progress=False)
    )
    self.assert_compiles_once(
      lambda number: np.asarray(extract(weights, images))
    )
