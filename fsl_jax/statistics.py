"""Means, intervals and paired tests over episodes."""

import math
from typing import NamedTuple

import numpy as np

from fsl_jax import types


class Summary(NamedTuple):
  """Of the finite values; fractions."""

  mean: float
  std: float
  ci95: float
  median: float
  worst: float
  num: int
  num_left_out: int


class Paired(NamedTuple):
  """Of a - b over the episodes finite in both; fractions."""

  mean: float
  ci95: float
  p_t: float
  p_wilcoxon: float
  num_episodes: int
  wins: int
  ties: int
  losses: int


class Interval(NamedTuple):
  """95 %, over the choice of the classes too."""

  low: float
  high: float
  num_classes: int


def summary(values: np.ndarray) -> Summary:
  """Of [n] values."""
  good = values[np.isfinite(values)]
  if not len(good):
    nan = math.nan
    return Summary(nan, nan, nan, nan, nan, 0, len(values))
  worst = np.sort(good)[: math.ceil(0.05 * len(good))]
  return Summary(
    float(good.mean()),
    float(good.std()),
    types.half_width(good),
    float(np.median(good)),
    float(worst.mean()),
    len(good),
    len(values) - len(good),
  )


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
  """Of [n] and [n] values."""
  from scipy import stats

  d = (a - b)[np.isfinite(a - b)]
  counts = len(d), int((d > 0).sum()), int((d == 0).sum()), int((d < 0).sum())
  if len(d) < 2:
    mean = float(d.mean()) if len(d) else math.nan
    return Paired(mean, math.nan, math.nan, math.nan, *counts)
  p_t = p_wilcoxon = 1.0
  if d.any():
    p_t = float(stats.ttest_1samp(d, 0).pvalue) if d.std() > 1e-12 else 0.0
    p_wilcoxon = float(stats.wilcoxon(d).pvalue)
  return Paired(float(d.mean()), types.half_width(d), p_t, p_wilcoxon, *counts)


def class_bootstrap(values: np.ndarray, class_ids: np.ndarray) -> Interval:
  """Of [n] values and [n, N] classes."""
  good = np.isfinite(values)
  ids, places = np.unique(class_ids[good], return_inverse=True)
  if not len(ids):
    return Interval(math.nan, math.nan, 0)
  member = np.zeros((good.sum(), len(ids)))
  np.put_along_axis(member, places.reshape(class_ids[good].shape), 1, 1)
  member = member[:, ids >= 0]
  draws = np.random.default_rng(0).multinomial(
    member.shape[1], np.full(member.shape[1], 1 / member.shape[1]), 500
  )
  weights = draws @ member.T
  means = (weights @ values[good]) / weights.sum(1)
  low, high = np.quantile(means, [0.025, 0.975]).tolist()
  return Interval(low, high, len(ids))
