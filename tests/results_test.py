"""The summary of a run: its numbers by hand."""

import dataclasses
import json
import math

import made_results
import numpy as np
import pytest
from made_results import ACCURACY, HARDNESS

from fsl_jax import results, types


def _section(accuracy=ACCURACY, **fields):
  return made_results.section(accuracy, **{"hardness": HARDNESS} | fields)


def _methods(section, class_names=None):
  return results.summarise([section], class_names).sections[0].methods


def test_mean_interval_and_paired_difference():
  methods = _methods(_section())
  # Mean 0.6; deviations -.1 .2 -.2 .1, variance 0.1 / 4.
  found = methods["finetune"].accuracy
  assert found.mean == pytest.approx(0.6)
  assert found.std == pytest.approx(math.sqrt(0.025))
  assert found.ci95 == pytest.approx(1.96 * math.sqrt(0.025) / 2)
  # Differences .1 .2 -.1 .2: mean .1, deviations 0 .1 -.2 .1, variance .015.
  difference = methods["finetune"].difference
  assert difference.mean == pytest.approx(0.1)
  assert difference.ci95 == pytest.approx(1.96 * math.sqrt(0.015) / 2)
  assert difference.num_episodes == 4
  assert methods["support_init"].difference is None


def test_line_of_one_protocol_and_of_two():
  # (1, .4) (0, .6) (1, .5) (.5, .5): x - .625 gives slope -.1 / .6875.
  slope = -0.1 / 0.6875
  line = _methods(_section())["support_init"].line.line
  assert line.slope == pytest.approx(slope)
  assert line.intercept == pytest.approx(0.5 - 0.625 * slope)
  assert line.area == pytest.approx(100 * line.intercept**2 / (-2 * slope))
  twice = results.summarise([_section()] * 2).lines["support_init"]
  assert twice.line.slope == pytest.approx(slope)
  assert twice.line.num_episodes == 8
  assert twice.span == (0.0, 1.0)


def test_slopes_are_pooled_and_by_protocol():
  x = np.linspace(0, 1, 30)
  sections = [
    {
      "finetune": made_results.result(
        "finetune", 0.8 - 0.4 * x + 0.1 * start, hardness=x + start
      )
    }
    for start in (0.0, 1.0)
  ]
  summary = results.summarise(sections).as_json()
  for shown in summary["sections"]:
    line = shown["methods"]["finetune"]["hardness_line"]
    assert line["slope"] == pytest.approx(-0.4)
    # Every episode lies on the line, so does every resample.
    assert line["interval"]["slope"] == pytest.approx([-0.4, -0.4])
  pooled = summary["hardness_lines"]["finetune"]
  low, high = pooled["interval"]["slope"]
  assert -0.4 < low < pooled["slope"] < high
  assert pooled["area_difference"] is None


def test_area_is_compared_with_the_baseline():
  found = results.summarise([_section()])
  assert found.area_difference("support_init") is None
  between = found.area_difference("finetune")
  areas = [found.lines[name].line.area for name in ACCURACY]
  assert between.area == pytest.approx(areas[1] - areas[0])
  shown = found.as_json()["hardness_lines"]["finetune"]["area_difference"]
  assert shown["to"] == "support_init"


def test_episodes_that_are_not_finite_are_left_out_in_pairs():
  accuracy = {
    "support_init": [np.nan, 0.6, 0.5, 0.5],
    "finetune": [0.5, 0.8, np.nan, 1],
  }
  method = _methods(_section(accuracy))["finetune"]
  assert (method.accuracy.num, method.accuracy.num_left_out) == (3, 1)
  assert method.accuracy.mean == pytest.approx(2.3 / 3)
  assert method.difference.num_episodes == 2
  assert method.difference.mean == pytest.approx((0.2 + 0.5) / 2)


@pytest.mark.parametrize("accuracy", [[np.nan] * 3, [0.5]])
def test_what_is_not_defined_is_null(accuracy):
  section = made_results.section(dict.fromkeys(ACCURACY, accuracy))
  summary = results.summarise([section]).as_json()
  method = summary["sections"][0]["methods"]["finetune"]
  assert method["ci95"] is None
  assert method["std"] is None
  assert method["difference"]["ci95"] is None
  assert method["hardness_line"] is None
  assert (method["mean"] is None) == bool(np.isnan(accuracy[0]))
  json.dumps(summary, allow_nan=False)


def test_without_the_baseline_nothing_is_paired():
  section = _section({"finetune": ACCURACY["finetune"]})
  found = results.summarise([section])
  assert not found.is_paired
  methods = found.as_json()["sections"][0]["methods"]
  assert methods["finetune"]["difference"] is None


def test_behaviour():
  found = _methods(made_results.adapted())["finetune"].behaviour
  # Changed: one of four (wrong to right), then queries 2 and 4 of four, the
  # one for the better, the other for the worse.
  assert found.changed == pytest.approx((1 / 4 + 2 / 4) / 2)
  assert found.better == pytest.approx((1 / 4 + 1 / 4) / 2)
  assert found.worse == pytest.approx((0 + 1 / 4) / 2)
  assert found.support_accuracy == pytest.approx(0.75)
  # Both classes equally often, then one class only.
  assert found.effective_ways == pytest.approx((2 + 1) / 2)
  assert found.true_effective_ways == pytest.approx(2)
  assert found.num_collapsed == 0


def test_classes():
  (section,) = results.summarise([made_results.adapted()], "ABCDE").sections
  # After adaptation: D has 2 of 2 and 0 of 2, B 2 of 2, A 2 of 2.
  assert [(row.name, row.num_queries) for row in section.classes] == [
    *(("D", 4), ("A", 2), ("B", 2)),
  ]
  assert section.classes[0].accuracy == {"support_init": 0.5, "finetune": 0.5}
  assert section.classes[1].accuracy == {"support_init": 0.5, "finetune": 1.0}
  with pytest.raises(types.InputError, match=r"got 3 names.* class 3"):
    results.summarise([made_results.adapted()], "ABC")


def test_json_has_everything():
  section = made_results.long(30, 0.1)
  summary = results.summarise([section, section], "ABCDE").as_json()
  json.dumps(summary, allow_nan=False)
  assert summary["sections"][0]["protocol"] == section["finetune"].protocol
  method = summary["sections"][0]["methods"]["finetune"]
  assert method["mean"] == pytest.approx(section["finetune"].mean)
  assert method["ci95"] == pytest.approx(section["finetune"].ci95)
  assert method["median"] == np.median(section["finetune"].accuracy)
  # Thirty episodes: the worst 5 % are the ceil(1.5) = 2 worst.
  worst = np.sort(section["finetune"].accuracy)[:2].mean()
  assert method["worst"] == pytest.approx(worst)
  assert method["difference"]["wins"] == 30
  assert {"p_t", "p_wilcoxon"} <= method["difference"].keys()
  assert method["class_interval"].keys() == {"low", "high", "num_classes"}
  assert method["diagnosis"]["num_collapsed"] == 30
  assert [row["name"] for row in summary["sections"][0]["classes"]]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"index": np.arange(4)}, "different episodes"),
    ({"digests": np.array(list("abcd"))}, "different episodes"),
    ({"protocol": {"ways": 3}}, "mixes protocols"),
  ],
)
def test_methods_that_cannot_be_compared_are_refused(changes, message):
  section = _section()
  other = dataclasses.replace(section["finetune"], **changes)
  with pytest.raises(types.InputError, match=message):
    results.summarise([section | {"finetune": other}])


@pytest.mark.parametrize(
  ("sections", "message"), [([{}], "no method"), ([], "at least one")]
)
def test_nothing_is_refused(sections, message):
  with pytest.raises(types.InputError, match=message):
    results.summarise(sections)
