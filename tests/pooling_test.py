"""Several pre-trainings as one number per method."""

import math

import made_results
import numpy as np
import pytest

from fsl_jax import types
from fsl_jax.report import pooling


def section(**accuracies):
  """Methods on two episodes each."""
  return made_results.section(accuracies)


# Means of the baseline 0.4, 0.5, 0.6; of the other 0.5, 0.5, 0.8.
RUNS = [
  section(support_init=[0.3, 0.5], finetune=[0.4, 0.6], prototype=[0, 0]),
  section(support_init=[0.5, 0.5], finetune=[0.6, 0.4]),
  section(support_init=[0.7, 0.5], finetune=[0.7, 0.9]),
]


def test_numbers():
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
  text = pooling.terminal([RUNS])
  assert "2 episodes, 3 pre-trainings" in text
  assert "+10.00 ± 24.84  10.00" in text
  assert "runs: 50.00, 50.00, 80.00\n" in text
  assert "prototype" not in text
  assert max(map(len, text.splitlines())) <= 80


def test_a_failed_pre_training_is_not_left_out():
  failed = section(support_init=[0.5, 0.5], finetune=[math.nan, math.nan])
  _, other = pooling.of_runs([*RUNS, failed])
  assert math.isnan(other.accuracy.mean)
  assert "n/a" in pooling.terminal([[*RUNS, failed]])


def test_without_a_baseline():
  runs = [section(finetune=[0.4, 0.6]), section(finetune=[0.6, 0.4])]
  head = pooling.terminal([runs]).splitlines()[2].split()
  assert head == ["method", "accuracy", "std"]


@pytest.mark.parametrize(
  ("others", "message"),
  [
    ([], "at least two runs"),
    ([section(other=[0.5, 0.5])], "share no method"),
    (
      [
        made_results.section({"finetune": [0, 1]}, digests=np.array(["a", "c"]))
      ],
      "different episodes",
    ),
  ],
)
def test_what_cannot_be_pooled_is_refused(others, message):
  with pytest.raises(types.InputError, match=message):
    pooling.of_runs([RUNS[0], *others])
