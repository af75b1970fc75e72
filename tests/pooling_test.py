"""Several pre-trainings as one number per method."""

import dataclasses
import math

import numpy as np
import pytest

from fsl_jax import report, types
from fsl_jax.report import pooling


def section(**accuracies):
  """Methods on two episodes each."""
  return {
    name: types.EvalResult(
      method=name,
      query_use="none",
      protocol={"ways": 2},
      protocol_name="2-way 1-shot",
      protocol_text="1 query a class",
      index=np.arange(2),
      digests=np.array(["a", "b"]),
      class_ids=np.tile(np.arange(2), (2, 1)),
      labels=np.tile(np.arange(2), (2, 1)),
      accuracy=np.asarray(values, float),
      hardness=np.full(2, math.nan),
      predictions=np.zeros((2, 2), int),
      initial_predictions=np.zeros((2, 2), int),
      support_accuracy=np.ones(2),
      curves={},
    )
    for name, values in accuracies.items()
  }


# Means of the baseline 0.4, 0.5, 0.6; of the other 0.5, 0.5, 0.8.
RUNS = [
  section(support_init=[0.3, 0.5], finetune=[0.4, 0.6], prototype=[0, 0]),
  section(support_init=[0.5, 0.5], finetune=[0.6, 0.4]),
  section(support_init=[0.7, 0.5], finetune=[0.7, 0.9]),
]


def test_by_hand():
  baseline, other = pooling.of_runs(RUNS)
  # 95 % of Student's t with two degrees lie within 4.303.
  assert baseline.means == pytest.approx([0.4, 0.5, 0.6])
  assert baseline.accuracy.mean == pytest.approx(0.5)
  assert baseline.accuracy.std == pytest.approx(0.1)
  assert baseline.accuracy.half_width == pytest.approx(0.2484, abs=1e-4)
  assert baseline.difference is None
  # Differences 0.1, 0 and 0.2 vary less than the accuracies themselves.
  assert other.accuracy.std == pytest.approx(math.sqrt(0.03))
  assert other.difference.mean == pytest.approx(0.1)
  assert other.difference.std == pytest.approx(0.1)
  text = report.pooling_terminal([RUNS])
  assert "2-way 1-shot, 1 query a class, 2 episodes, 3 pre-trainings" in text
  assert "+10.00 ± 24.84  10.00" in text
  assert "runs: 50.00, 50.00, 80.00\n" in text
  assert "prototype" not in text
  assert max(map(len, text.splitlines())) <= 80


def test_a_failed_pre_training_is_no_gap():
  failed = section(support_init=[0.5, 0.5], finetune=[math.nan, math.nan])
  _, other = pooling.of_runs([*RUNS, failed])
  assert math.isnan(other.accuracy.mean)
  assert "n/a" in report.pooling_terminal([[*RUNS, failed]])


def test_without_a_baseline():
  runs = [section(finetune=[0.4, 0.6]), section(finetune=[0.6, 0.4])]
  text = report.pooling_terminal([runs])
  head = text.splitlines()[2].split()
  assert head == ["method", "accuracy", "std"]


def test_what_cannot_be_pooled_is_refused():
  with pytest.raises(types.InputError, match="at least two runs"):
    pooling.of_runs(RUNS[:1])
  with pytest.raises(types.InputError, match="share no method"):
    pooling.of_runs([RUNS[0], section(other=[0.5, 0.5])])
  moved = {
    name: dataclasses.replace(result, digests=np.array(["a", "c"]))
    for name, result in RUNS[1].items()
  }
  with pytest.raises(types.InputError, match="different episodes"):
    pooling.of_runs([RUNS[0], moved])
