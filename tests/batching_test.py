"""One episode alone is that episode in any batch, chunk and order.

In float64, where a difference of more than rounding is a fault. The network
has 16 px images, so that vmap turns convolutions into XLA's grouped ones, with
a kernel per episode.
"""

import functools
import inspect

import helpers
import jax
import numpy as np
import pytest

from fsl_jax import adapt, backbones, types

NUMBER = 4
# Views are made in float32, where logit and sigmoid may round otherwise under
# vmap: 6e-8 of a pixel, and less of a logit. Another episode's numbers would
# move the logits by 1e-3 and more.
TOLERANCE = 1e-6


@pytest.fixture(autouse=True, scope="module")
def _float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def adapter(method):
  options = (
    {} if method == "prototype" else {"epochs": 2, "learning_rate": 5e-3}
  )
  return adapt.create(method, helpers.tiny_backbone(), **options)


@functools.cache
def program(method, chunk):
  return adapt.batched.compile(adapter(method), chunk=chunk)


@functools.cache
def variables():
  return helpers.tiny_variables(helpers.tiny_backbone())


@functools.cache
def episodes():
  tasks = [
    helpers.make_task(seed=seed, image_size_px=16)[0] for seed in range(NUMBER)
  ]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *tasks)


INDICES = np.array([11, 4, 0, 7], np.int32)


def run(method, chunk, tasks, indices, key=1):
  result = program(method, chunk)(
    jax.random.key(key), variables(), tasks, indices
  )
  return jax.device_get(result)


def pick(tree, rows):
  return jax.tree.map(lambda x: x[np.asarray(rows)], tree)


METHODS = ["prototype", "transductive_finetune"]


@pytest.fixture(scope="module", params=METHODS)
def method(request):
  return request.param


def test_alone_is_the_definition(method):
  """Each of a batch is `run.run` with the key folded with its index."""
  logits, infos = run(method, 1, episodes(), INDICES)
  alone = jax.jit(
    lambda key, variables, task: adapt.run.run(
      key, adapter(method), variables, task
    )
  )
  for b, index in enumerate(INDICES):
    key = jax.random.fold_in(jax.random.key(1), index)
    expected, expected_infos = alone(key, variables(), pick(episodes(), b))
    np.testing.assert_allclose(logits[b], expected, atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(
      infos.support_loss[b], expected_infos.support_loss, atol=TOLERANCE
    )


@pytest.mark.parametrize("chunk", [2, 4])
def test_any_chunk(method, chunk):
  ours = run(method, chunk, episodes(), INDICES)
  theirs = run(method, 1, episodes(), INDICES)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.shape == b.shape
    np.testing.assert_allclose(
      a.astype(float), b.astype(float), atol=TOLERANCE, rtol=0
    )


@pytest.mark.parametrize(("chunk", "tolerance"), [(1, 0), (2, TOLERANCE)])
def test_any_order(method, chunk, tolerance):
  order = [2, 0, 3, 1]
  logits, _ = run(method, chunk, episodes(), INDICES)
  moved, _ = run(method, chunk, pick(episodes(), order), INDICES[order])
  np.testing.assert_allclose(moved, logits[order], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
  # In a loop nothing is shared; under vmap the sums are, at most, reordered.
  ("chunk", "tolerance"),
  [(1, 0), (2, TOLERANCE), (4, TOLERANCE)],
)
def test_others_change_nothing(method, chunk, tolerance):
  logits, infos = run(method, chunk, episodes(), INDICES)
  others = episodes()
  for leaf in jax.tree.leaves(others):
    assert len(leaf) == NUMBER
  # The others become copies of episode 3; one of them has no support left.
  others = pick(others, [0, 3, 3, 3])
  mask = others.support_mask.copy()
  mask[1] = False
  others = types.Task(
    support_images=others.support_images,
    support_labels=others.support_labels,
    support_mask=mask,
    query_images=others.query_images,
    query_mask=others.query_mask,
    num_ways=others.num_ways,
  )
  moved, moved_infos = run(
    method, chunk, others, np.array([11, 5, 6, 8], np.int32)
  )
  np.testing.assert_allclose(moved[0], logits[0], atol=tolerance, rtol=0)
  assert moved_infos.is_finite[0].all()
  assert infos.is_finite.all()
  # They do differ, which is seen in the same array.
  assert np.abs(moved[2] - logits[2]).max() > 1e-3


def test_index_and_key_choose_the_draws():
  """Same task and key, other index: other views, other answer."""
  same = pick(episodes(), [0, 0, 0, 0])
  logits, _ = run(
    "transductive_finetune", 1, same, np.array([1, 2, 1, 3], np.int32)
  )
  np.testing.assert_array_equal(logits[0], logits[2])
  assert np.abs(logits[0] - logits[1]).max() > 1e-5
  assert np.abs(logits[1] - logits[3]).max() > 1e-5
  other, _ = run(
    "transductive_finetune", 1, same, np.array([1, 2, 1, 3], np.int32), key=2
  )
  assert np.abs(logits[0] - other[0]).max() > 1e-5


def test_signature_is_its_own():
  parameters = inspect.signature(program("prototype", 1)).parameters
  assert list(parameters) == ["key", "variables", "tasks", "indices"]


def test_batch_must_be_a_multiple_of_the_chunk():
  with pytest.raises(types.InputError, match="batch of 3 episodes"):
    run("prototype", 2, pick(episodes(), [0, 1, 2]), INDICES[:3])


def test_features_of_the_network_are_the_same_method():
  """Cached features and the identity backbone: no second code path."""
  backbone = helpers.tiny_backbone()
  images = helpers.normalised(pick(episodes(), 1))

  def features(x):
    return backbone.apply(variables(), x, train=False)[0].features

  cached = types.Task(
    support_images=features(images.support_images),
    support_labels=images.support_labels,
    support_mask=images.support_mask,
    query_images=features(images.query_images),
    query_mask=images.query_mask,
    num_ways=images.num_ways,
  )
  identity = backbones.identity()
  empty = identity.init(jax.random.key(0), cached.query_images)
  for name, options in (
    ("prototype", {"distance": "cosine"}),
    ("support_init", {"input": "features"}),
  ):
    whole = adapt.create(name, backbone, **options)
    frozen = adapt.create(name, identity, **options)
    expected, _ = adapt.run.run(jax.random.key(0), whole, variables(), images)
    ours, _ = adapt.run.run(jax.random.key(0), frozen, empty, cached)
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE)
