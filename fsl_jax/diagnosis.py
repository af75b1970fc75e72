"""What adaptation did to the predictions of an episode."""

import dataclasses

import numpy as np

from fsl_jax import types


@dataclasses.dataclass(frozen=True)
class Diagnosis:
  """[n] each."""

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


def of_result(result: types.EvalResult) -> Diagnosis:
  """Of all episodes of a result."""
  is_query = result.labels >= 0
  gone = np.where(np.isfinite(result.accuracy), 0.0, np.nan)

  def share(flags):
    return (flags & is_query).sum(1) / is_query.sum(1) + gone

  def entropy(answers):
    p = np.stack(
      [share(answers == c) for c in range(result.class_ids.shape[1])], 1
    )
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1)

  first = result.initial_predictions == result.labels
  last = result.predictions == result.labels
  ways, true_ways = (
    np.exp(entropy(a)) for a in (result.predictions, result.labels)
  )
  return Diagnosis(
    ways,
    true_ways,
    np.log((result.class_ids >= 0).sum(1)) - np.log(ways),
    ways < 0.5 * true_ways,
    share(result.predictions != result.initial_predictions),
    share(last & ~first),
    share(first & ~last),
    result.support_accuracy,
  )


def class_accuracy(
  result: types.EvalResult, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """[num_classes] accuracy and number of queries."""
  is_query = (result.labels >= 0) & np.isfinite(result.accuracy)[:, None]
  ids = np.take_along_axis(result.class_ids, np.maximum(result.labels, 0), 1)
  right = result.predictions == result.labels
  count = np.bincount(ids[is_query], minlength=num_classes)
  hits = np.bincount(ids[is_query], right[is_query], num_classes)
  return np.where(count, hits / np.maximum(count, 1), np.nan), count
