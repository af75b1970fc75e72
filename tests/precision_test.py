"""bfloat16 is a matter of the network's arithmetic, and of nothing kept."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, augment, backbones


@pytest.fixture(scope="module")
def networks():
  made = {
    dtype: backbones.create(
      "conv64", num_classes=6, image_size_px=16, width=8, dtype=dtype
    )
    for dtype in (None, "bfloat16")
  }
  task, _ = helpers.make_task((2, 2, 2), 9, image_size_px=16)
  images = augment.prepare(task.support_images)
  return made, jax.jit(made[None].init)(jax.random.key(0), images), task


def test_parameters_statistics_and_moments_stay_float32(networks):
  made, variables, task = networks
  adapter = adapt.create("transductive_finetune", made["bfloat16"])
  state = jax.eval_shape(adapter.init, jax.random.key(0), variables, task)
  state, info = jax.eval_shape(adapter.step, state, task)
  kept = (state.params, state.collections, state.optimizer_state, info)
  floats = {
    leaf.dtype
    for leaf in jax.tree.leaves(kept)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  }
  assert floats == {jnp.dtype(jnp.float32)}
  logits = jax.eval_shape(adapter.predict, state, task)
  assert logits.dtype == jnp.float32


def test_the_network_does_compute_in_bfloat16(networks):
  made, variables, task = networks
  text = str(
    jax.make_jaxpr(
      lambda x: made["bfloat16"].apply(variables, x, train=False)[0].logits
    )(augment.prepare(task.query_images))
  )
  assert "bf16" in text


def test_predictions_are_those_of_float32_to_its_rounding(networks):
  """Eight bits of mantissa: a hundredth of a cosine, after three epochs."""
  made, variables, task = networks

  def logits(dtype):
    adapter = adapt.create("transductive_finetune", made[dtype], epochs=3)
    run = jax.jit(lambda key: adapt.run.run(key, adapter, variables, task))
    return np.asarray(run(jax.random.key(1))[0])

  exact, rounded = logits(None), logits("bfloat16")
  assert exact.dtype == rounded.dtype == np.float32
  difference = np.abs(exact - rounded).max()
  assert 0 < difference < 0.02
