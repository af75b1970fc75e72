"""What adaptation did to predictions: collapse, changes, classes."""

import made_results
import numpy as np
import pytest

from fsl_jax import diagnosis, types

BALANCED = [0, 0, 1, 1, 2, 2, 3, 3]


def result(labels, predictions, initial=None, **fields):
  """A result of episodes of four ways, unless `class_ids` says otherwise."""
  fields.setdefault("class_ids", np.tile(np.arange(4), (len(labels), 1)))
  if initial is not None:
    fields["initial_predictions"] = initial
  return made_results.result(labels=labels, predictions=predictions, **fields)


class TestWays:
  def test_of_three_histograms(self):
    # All the same; half and half; three quarters in one class.
    predictions = [[2] * 8, [0, 0, 0, 0, 3, 3, 3, 3], [1] * 6 + [0] * 2]
    found = diagnosis.of_result(result([BALANCED] * 3, predictions))
    uneven = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    np.testing.assert_allclose(found.effective_ways, [1, 2, np.exp(uneven)])
    np.testing.assert_allclose(found.true_effective_ways, [4, 4, 4])
    np.testing.assert_allclose(
      found.divergence, [np.log(4), np.log(2), np.log(4) - uneven]
    )

  def test_all_right_is_uniform(self):
    found = diagnosis.of_result(result([BALANCED], [BALANCED]))
    assert found.effective_ways[0] == pytest.approx(4)
    assert found.divergence[0] == pytest.approx(0, abs=1e-12)

  def test_permuted_classes_change_nothing(self):
    rng = np.random.default_rng(0)
    predictions = rng.integers(0, 4, (5, 8))
    names = np.array([2, 0, 3, 1])
    ours = diagnosis.of_result(result([BALANCED] * 5, predictions))
    theirs = diagnosis.of_result(result([BALANCED] * 5, names[predictions]))
    np.testing.assert_allclose(ours.effective_ways, theirs.effective_ways)
    np.testing.assert_allclose(ours.divergence, theirs.divergence)

  def test_smaller_episodes_count_their_own_queries_and_classes(self):
    # The second has three classes and six queries.
    labels = [BALANCED, [0, 0, 1, 1, 2, 2, -1, -1]]
    found = diagnosis.of_result(
      result(labels, labels, class_ids=[[5, 6, 7, 8], [1, 2, 3, -1]])
    )
    np.testing.assert_allclose(found.effective_ways, [4, 3])
    np.testing.assert_allclose(found.divergence, [0, 0], atol=1e-12)


class TestCollapse:
  def test_below_half_of_the_true_ways(self):
    # One class; two of four, which is half; nearly one.
    predictions = [[0] * 8, [0, 0, 0, 0, 1, 1, 1, 1], [0] * 7 + [1]]
    found = diagnosis.of_result(result([BALANCED] * 3, predictions))
    np.testing.assert_array_equal(found.is_collapsed, [True, False, True])
    assert found.num_collapsed == 2

  def test_queries_of_one_class_are_no_collapse(self):
    found = diagnosis.of_result(result([[2] * 8], [[2] * 8]))
    assert found.true_effective_ways[0] == pytest.approx(1)
    assert found.num_collapsed == 0


class TestChanges:
  def test_every_kind(self):
    # Right stays, wrong to right twice, right to wrong, wrong to wrong, thrice
    # wrong stays.
    initial = [0, 1, 0, 1, 3, 1, 1, 1]
    after = [0, 0, 1, 2, 0, 1, 1, 1]
    found = diagnosis.of_result(result([BALANCED], [after], [initial]))
    assert found.changed[0] == pytest.approx(4 / 8)
    assert found.better[0] == pytest.approx(2 / 8)
    assert found.worse[0] == pytest.approx(1 / 8)

  def test_better_minus_worse_is_the_gain(self):
    rng = np.random.default_rng(0)
    labels, initial, after = rng.integers(0, 4, (3, 20, 9))
    labels[:7, 6:] = initial[:7, 6:] = after[:7, 6:] = -1
    ours = result(labels, after, initial)
    before = result(labels, initial)
    found = diagnosis.of_result(ours)
    np.testing.assert_allclose(
      found.better - found.worse, ours.accuracy - before.accuracy, atol=1e-12
    )
    assert (found.changed >= found.better + found.worse - 1e-12).all()


class TestNotFinite:
  ours = result(
    [BALANCED, BALANCED], [[0] * 8, [0] * 8], accuracy=[np.nan, 0.25]
  )

  def test_says_nothing_of_its_predictions(self):
    found = diagnosis.of_result(self.ours)
    for name in ("effective_ways", "divergence", "changed", "better", "worse"):
      np.testing.assert_array_equal(
        np.isnan(getattr(found, name)), [True, False], err_msg=name
      )
    np.testing.assert_array_equal(found.is_collapsed, [False, True])
    np.testing.assert_allclose(found.true_effective_ways, [4, 4])
    np.testing.assert_array_equal(
      found.support_accuracy, self.ours.support_accuracy
    )

  def test_takes_no_part_in_the_classes(self):
    assert diagnosis.class_accuracy(self.ours, 4)[1].sum() == 8
    assert len(diagnosis.query_classes(self.ours)[0]) == 8


class TestClasses:
  # Classes 7, 3 and 3, 5 of the data set.
  ours = result(
    [[0, 0, 1, 1], [0, 1, 1, -1]],
    [[0, 1, 1, 1], [1, 1, 0, -1]],
    class_ids=[[7, 3], [3, 5]],
  )

  def test_accuracy_by_hand(self):
    accuracy, count = diagnosis.class_accuracy(self.ours, 9)
    np.testing.assert_array_equal(count, [0, 0, 0, 3, 0, 2, 0, 2, 0])
    nan = np.nan
    np.testing.assert_allclose(
      accuracy, [nan, nan, nan, 2 / 3, nan, 1 / 2, nan, 1 / 2, nan]
    )

  def test_query_classes_by_hand(self):
    true, predicted = diagnosis.query_classes(self.ours)
    np.testing.assert_array_equal(true, [7, 7, 3, 3, 3, 5, 5])
    np.testing.assert_array_equal(predicted, [7, 3, 3, 3, 5, 5, 3])

  def test_too_few_classes(self):
    with pytest.raises(types.InputError, match="go up to 7, got 7"):
      diagnosis.class_accuracy(self.ours, 7)
