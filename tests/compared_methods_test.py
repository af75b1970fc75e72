"""The compared methods against NumPy, worked by hand, and on known facts."""

import dataclasses
import functools
import math

import compared_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, types
from fsl_jax.adapt import pt_map, tim

ABSENT_BELOW = -1e20
WIDTH = 8
BACKBONE = backbones.identity()
BASE_MEAN = np.random.default_rng(9).uniform(0, 0.4, WIDTH)
CENTRED = {"simpleshot", "bd_cspn", "laplacian_shot"}
INDUCTIVE = {"simpleshot", "ridge", "logistic", "cosine_head"}
FEW_STEPS = {"iterations": 12, "learning_rate": 0.01}

# Methods with options, the same for the reference.
CASES = {
  "simpleshot": ("simpleshot", {}),
  "simpleshot, l2n": ("simpleshot", {"transform": "l2n"}),
  "simpleshot, un": ("simpleshot", {"transform": "un"}),
  "bd_cspn": ("bd_cspn", {}),
  "bd_cspn, as in alpha-TIM's code": (
    "bd_cspn",
    {"classify": "unshifted"},
  ),
  "bd_cspn, as in easyfsl": (
    "bd_cspn",
    {
      "classify": "unshifted",
      "mean": "weight",
      "scale": 1.0,
      "distance": "cosine",
      "transform": "un",
    },
  ),
  "laplacian_shot": ("laplacian_shot", {}),
  "laplacian_shot, means": (
    "laplacian_shot",
    {"rectify": False, "laplacian_weight": 1.0, "neighbours": 4},
  ),
  "tim_gd": ("tim_gd", FEW_STEPS),
  "tim_adm": ("tim_adm", {}),
  "alpha_tim": ("alpha_tim", FEW_STEPS),
  "alpha_tim, 5": ("alpha_tim", FEW_STEPS | {"alpha": 5.0}),
  "entropy_head": ("entropy_head", FEW_STEPS),
  "cosine_head": ("cosine_head", FEW_STEPS),
  "pt_ncm": ("pt_ncm", {}),
  "pt_map": ("pt_map", {}),
  "pt_map, unknown": ("pt_map", {"balance": "unknown", "negative": "signed"}),
  "ridge": ("ridge", {}),
  "ridge, big_vision": ("ridge", {"rule": "big_vision"}),
  "logistic": ("logistic", {}),
  "logistic, 10": ("logistic", {"c": 10.0}),
  "paddle": ("paddle", {}),
}
METHODS = sorted({method for method, _ in CASES.values()})

EPISODES = {
  # Shots and queries of each class.
  "balanced": ((2, 2, 2), (4, 4, 4)),
  "unequal shots": ((1, 2, 7), (4, 3, 5)),
  "a class without queries": ((2, 1, 1), (6, 0, 6)),
}


@pytest.fixture(autouse=True, scope="module")
def _float64():
  with jax.enable_x64(True):
    yield


@functools.cache
def adapter_of(method, options=()):
  return adapt.create(method, BACKBONE, **dict(options))


def variables_of(method):
  variables = {"params": {}, "batch_stats": {}}
  if method in CENTRED:
    variables["base_statistics"] = {"mean": BASE_MEAN}
  return variables


def draw(shots, queries, *, seed=0, width=WIDTH, noise=0.35):
  """Features, at least 0, of Gaussian classes: xs, ys, xq, labels of xq."""
  rng = np.random.default_rng(seed)
  centres = rng.uniform(0, 1, (len(shots), width))

  def sample(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    x = centres[labels] + noise * rng.normal(size=(len(labels), width))
    return np.abs(x), labels

  (xs, ys), (xq, yq) = sample(shots), sample(queries)
  return xs, ys, xq, yq


def task_of(xs, ys, xq, num_ways=None):
  return types.Task(
    support_images=np.asarray(xs, float),
    support_labels=np.asarray(ys, np.int32),
    support_mask=np.ones(len(xs), bool),
    query_images=np.asarray(xq, float),
    query_mask=np.ones(len(xq), bool),
    num_ways=num_ways or max(ys) + 1,
  )


def padded(task):
  """With NaN images that are masked out, and a class that is absent."""

  def pad(images):
    return np.concatenate([images, np.full((3, images.shape[1]), np.nan)])

  mask = np.arange(len(task.support_mask) + 3) < len(task.support_mask)
  return types.Task(
    support_images=pad(task.support_images),
    support_labels=np.append(task.support_labels, [0, 3, 77]).astype(np.int32),
    support_mask=mask,
    query_images=pad(task.query_images),
    query_mask=np.append(task.query_mask, [False] * 3),
    num_ways=task.num_ways + 1,
  )


def run(method, task, variables=None, **options):
  """[T, N] logits, as `run` computes them."""
  adapter = adapter_of(method, tuple(options.items()))
  variables = variables_of(method) if variables is None else variables
  logits, infos = adapt.run.run(jax.random.key(0), adapter, variables, task)
  assert np.all(infos.is_finite)
  return np.asarray(logits)


@pytest.mark.parametrize("case", CASES)
class TestAgainstNumpy:
  def expected(self, case, xs, ys, xq):
    method, options = CASES[case]
    if method in CENTRED:
      options = options | {"base_mean": BASE_MEAN}
    return getattr(reference, method)(xs, ys, xq, **options)

  @pytest.mark.parametrize("episode", EPISODES)
  def test_episode(self, case, episode):
    xs, ys, xq, _ = draw(*EPISODES[episode])
    method, options = CASES[case]
    logits = run(method, task_of(xs, ys, xq), **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 1e-4  # It tells classes apart.

  def test_padding_and_an_absent_class(self, case):
    xs, ys, xq, _ = draw(*EPISODES["unequal shots"])
    method, options = CASES[case]
    # NaN is an error here, in gradients too, even where it is masked out.
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
      task = padded(task_of(xs, ys, xq))
      logits = run(method, task, **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(
      logits[: len(xq), :3], expected, rtol=1e-5, atol=1e-5
    )
    assert (logits[:, 3] < ABSENT_BELOW).all()
