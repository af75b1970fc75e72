"""`query_use` of a method against its behaviour."""

import dataclasses

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, types

TUNE = {"epochs": 2, "learning_rate": 5e-3}
NONE = "none"
ENTROPY = "all jointly: entropy"
BOTH = "all jointly: entropy and batch statistics"

CASES = {
  "prototype": ("prototype", {}, NONE),
  "prototype, cosine": ("prototype", {"distance": "cosine"}, NONE),
  "support_init": ("support_init", {}, NONE),
  "finetune": ("finetune", TUNE, NONE),
  "finetune, frozen": ("finetune", TUNE | {"bn": "frozen"}, NONE),
  "finetune, head": ("finetune", TUNE | {"trainable": "head"}, NONE),
  "no weight": ("transductive_finetune", TUNE | {"entropy_weight": 0}, NONE),
  "no step": ("transductive_finetune", {"epochs": 0}, NONE),
  "published": ("transductive_finetune", TUNE, BOTH),
  "joint": ("transductive_finetune", TUNE | {"updates": "joint"}, BOTH),
  "head": ("transductive_finetune", TUNE | {"trainable": "head"}, BOTH),
  "micro-batches": ("transductive_finetune", TUNE | {"micro_batch": 3}, BOTH),
  "frozen": ("transductive_finetune", TUNE | {"bn": "frozen"}, ENTROPY),
  "inverse weight": (
    "transductive_finetune",
    TUNE | {"bn": "frozen", "entropy_weight": "inverse_log_ways"},
    ENTROPY,
  ),
}


def adapted(adapter, variables, task):
  """Logits, and parameters and statistics of the network after the steps."""

  @jax.jit
  def run(task):
    state = adapter.init(jax.random.key(0), variables, task)
    for _ in range(adapter.num_steps):
      state, _ = adapter.step(state, task)
    own = getattr(state, "variables", None) or {
      "params": state.params,
      **state.collections,
    }
    logits = adapter.predict(state, task)
    return logits, own["params"], types.collections(own)

  others = np.array(task.query_images)
  others[1:] = others[1:][::-1] * 0.5 + (
    20 if others.dtype == np.uint8 else 0.5
  )
  changed = dataclasses.replace(
    task, query_images=others.astype(task.query_images.dtype)
  )
  return run(task), run(changed)


def equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def check(label, variables, before, after):
  """Bit for bit: the two runs are of one program, and differ in queries that
  the label speaks of."""
  (logits, params, stats), (other_logits, other_params, other_stats) = (
    before,
    after,
  )
  used = label != NONE
  assert not equal(logits[1:], other_logits[1:])
  assert equal(logits[0], other_logits[0]) is not used
  assert equal(params, other_params) is not ("entropy" in label)
  assert equal(stats, other_stats) is not ("batch statistics" in label)
  if label == ENTROPY:
    assert equal(stats, types.collections(variables))


@pytest.mark.parametrize("case", CASES)
def test_label(case):
  method, options, label = CASES[case]
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  adapter = adapt.create(method, backbone, **options)
  assert adapter.query_use == label
  task, _ = helpers.make_task((1, 2, 2), 5)
  check(label, variables, *adapted(adapter, variables, task))


@pytest.mark.parametrize("case", ["prototype", "finetune", "published"])
def test_features_have_no_batch_statistics(case):
  """Cached features are not coupled through batch-norm statistics."""
  method, options, label = CASES[case]
  backbone = backbones.identity()
  rng = np.random.default_rng(0)
  task, _ = helpers.make_task((1, 2, 2), 5)
  support, query = (
    rng.normal(size=(5, 6)).astype(np.float32) for _ in range(2)
  )
  task = dataclasses.replace(task, support_images=support, query_images=query)
  variables = backbone.init(jax.random.key(0), jnp.zeros((1, 6)))
  # Features are not pictures, so there are no random views of them.
  options = options if method == "prototype" else options | {"augment": False}
  adapter = adapt.create(method, backbone, **options)
  expected = ENTROPY if label == BOTH else label
  assert adapter.query_use == expected
  check(expected, variables, *adapted(adapter, variables, task))
