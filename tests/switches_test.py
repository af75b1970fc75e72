"""Every method under the debugging switches that JAX documents."""

import contextlib

import helpers
import jax
import numpy as np
import pytest

from fsl_jax import adapt, evaluate, hardness
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


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_method(switch):
  network = helpers.tiny_backbone()
  weights = helpers.tiny_variables(network)
  dataset = synthetic.make(4, 6, image_size_px=8)
  with contextlib.ExitStack() as stack:
    stack.enter_context(SWITCHES[switch]())
    found = evaluate.run_many(
      [adapt.create(name, network, **o) for name, o in METHODS.items()],
      weights,
      dataset,
      ways=3,
      shots=1,
      queries=2,
      num_episodes=2,
      extractor=hardness.extractor(network),
      progress=False,
    )
  for result in found.values():
    assert np.isfinite(result.accuracy).all()
    assert np.isfinite(result.hardness).all()


@pytest.mark.parametrize("switch", ["x64", "strict promotion"])
def test_one_episode_equals_that_without(switch):
  network = helpers.tiny_backbone()
  weights = helpers.tiny_variables(network)
  task, _ = helpers.make_task()

  def run():
    method = adapt.create("transductive_finetune", network, epochs=1)
    return adapt.run.run(jax.random.key(0), method, weights, task)[0]

  plain = run()
  with SWITCHES[switch]():
    assert np.abs(np.asarray(run()) - plain).max() < 1e-4
