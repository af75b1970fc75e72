"""Episodes of random features and a way to run the compared methods on them."""

import functools

import jax
import numpy as np

from fsl_jax import adapt, backbones, types

WIDTH = 8
BACKBONE = backbones.identity()
BASE_MEAN = np.random.default_rng(9).uniform(0, 0.4, WIDTH)
NO_BASE = {"params": {}, "batch_stats": {}}
METHODS = (
  "simpleshot",
  "ridge",
  "logistic",
  "cosine_head",
  "bd_cspn",
  "laplacian_shot",
  "tim_gd",
  "tim_adm",
  "alpha_tim",
  "entropy_head",
  "pt_ncm",
  "pt_map",
  "paddle",
)
CENTRED = ("simpleshot", "bd_cspn", "laplacian_shot")
INDUCTIVE = ("simpleshot", "ridge", "logistic", "cosine_head")
FEW_STEPS = {"iterations": 12, "learning_rate": 0.01}


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


def run(method, task, variables=None, **options):
  """[T, N] logits, as `run` computes them."""
  adapter = adapter_of(method, tuple(options.items()))
  variables = variables_of(method) if variables is None else variables
  logits, infos = adapt.run.run(jax.random.key(0), adapter, variables, task)
  assert np.all(infos.is_finite)
  return np.asarray(logits)
