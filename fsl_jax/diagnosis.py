"""What adaptation did to the predictions of an episode.

Computed from a result alone. The entropy of the predictions also falls when
they collapse to one class; their histogram distinguishes that from success,
which accuracy alone does not.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from fsl_jax import types

# Chance alone hardly changes the effective ways of balanced queries: 75
# uniformly random predictions of 5 classes have 4.87. Half of the true ones
# means that, in terms of entropy, every second class is no longer predicted.
COLLAPSED_BELOW = 0.5  # effective ways over true effective ways


class Means(NamedTuple):
  """Means of a `Diagnosis` over finite episodes; NaN where there is none."""

  support_accuracy: float
  changed: float
  better: float
  worse: float
  effective_ways: float
  true_effective_ways: float
  divergence: float
  num_collapsed: int  # episodes


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """Of each of n episodes, in the order of the result's `index`.

  Predictions of an episode whose accuracy is not finite are meaningless: what
  is computed from them is NaN, and the episode is not counted as collapsed.

  Attributes:
    effective_ways: [n] float64, exp of the entropy of the histogram of
      predicted classes: 1 where all predictions are the same class, N where
      all classes are predicted equally often.
    true_effective_ways: [n] float64, likewise of the labels.
    divergence: [n] float64, nats, Kullback-Leibler from the uniform
      distribution over the episode's classes to that histogram.
    is_collapsed: [n] bool, `effective_ways` is below `COLLAPSED_BELOW` of
      `true_effective_ways`.
    changed: [n] float64, fraction of the queries whose prediction differs from
      that before the first step.
    better: [n] float64, fraction that was wrong and became correct.
    worse: [n] float64, fraction that was correct and became wrong.
    support_accuracy: [n] float64, fraction, that of the result.
  """

  effective_ways: np.ndarray
  true_effective_ways: np.ndarray
  divergence: np.ndarray
  is_collapsed: np.ndarray
  changed: np.ndarray
  better: np.ndarray
  worse: np.ndarray
  support_accuracy: np.ndarray

  @property
  def num_collapsed(self) -> int:
    return int(self.is_collapsed.sum())

  def means(self) -> Means:
    """Means over the episodes in which a number is finite."""
    found = []
    for name in Means._fields[:-1]:
      values = getattr(self, name)
      finite = values[np.isfinite(values)]
      found.append(float(finite.mean()) if len(finite) else math.nan)
    return Means._make([*found, self.num_collapsed])


def of_result(result: types.EvalResult) -> Diagnosis:
  """Diagnoses every episode of a result."""
  is_query = result.labels >= 0
  is_predicted = is_query & np.isfinite(result.accuracy)[:, None]
  num_ways = result.class_ids.shape[1]
  own_ways = (result.class_ids >= 0).sum(1)
  entropy = _entropy(result.predictions, is_predicted, num_ways)
  effective_ways = np.exp(entropy)
  true_effective_ways = np.exp(_entropy(result.labels, is_query, num_ways))
  was_right = result.initial_predictions == result.labels
  is_right = result.predictions == result.labels
  return Diagnosis(
    effective_ways=effective_ways,
    true_effective_ways=true_effective_ways,
    divergence=np.log(own_ways) - entropy,
    is_collapsed=effective_ways < COLLAPSED_BELOW * true_effective_ways,
    changed=_fraction(
      result.predictions != result.initial_predictions, is_predicted
    ),
    better=_fraction(is_right & ~was_right, is_predicted),
    worse=_fraction(was_right & ~is_right, is_predicted),
    support_accuracy=result.support_accuracy,
  )


def class_accuracy(
  result: types.EvalResult, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """Accuracy by class of the data set, over the queries of all episodes.

  Args:
    result: episodes that are not finite are left out.
    num_classes: of the split that the episodes were drawn from.

  Returns:
    [num_classes] float64, the fraction of its queries that were classified
    correctly, NaN where it had none; [num_classes] int64, the number of its
    queries.

  Raises:
    InputError: if the result has classes beyond `num_classes`.
  """
  if result.class_ids.max(initial=-1) >= num_classes:
    raise types.InputError(
      f"num_classes must be above the class ids of the result, which go up to "
      f"{result.class_ids.max()}, got {num_classes}"
    )
  true, predicted = query_classes(result)
  count = np.bincount(true, minlength=num_classes)
  right = np.bincount(true[true == predicted], minlength=num_classes)
  return right / np.where(count > 0, count, np.nan), count


def query_classes(result: types.EvalResult) -> tuple[np.ndarray, np.ndarray]:
  """True and predicted classes of all queries of finite episodes, row by row.

  Returns:
    [m] int64 each, data set classes.
  """
  is_predicted = (result.labels >= 0) & np.isfinite(result.accuracy)[:, None]
  episode, query = np.nonzero(is_predicted)
  true = result.class_ids[episode, result.labels[episode, query]]
  predicted = result.class_ids[episode, result.predictions[episode, query]]
  return true, predicted


def _entropy(labels: np.ndarray, mask: np.ndarray, num_ways: int) -> np.ndarray:
  """[n] float64 nats, of each row's histogram; NaN where nothing is counted."""
  n = len(labels)
  cells = (np.arange(n)[:, None] * num_ways + labels)[mask]
  counts = np.bincount(cells, minlength=n * num_ways).reshape(n, num_ways)
  totals = counts.sum(1, keepdims=True)
  p = counts / np.where(totals > 0, totals, np.nan)
  return -(p * np.log(np.where(p == 0, 1, p))).sum(1)


def _fraction(hits: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """[n] float64: of what the mask has, the fraction hit; NaN for nothing."""
  totals = mask.sum(1)
  return (hits & mask).sum(1) / np.where(totals > 0, totals, np.nan)
