"""The paper's figures are all there, and the rule judges as it says."""

import itertools
import json
import math
import pathlib

import pytest
from reproduction import published, verdicts

DATASETS = ("mini_imagenet", "tiered_imagenet", "cifar_fs", "fc100")
METHODS = ("support_init", "finetune", "transductive_finetune")
SPLITS = ("train", "train+val")
SHOTS = (1, 5)
ABLATIONS = (
  "wrn_16_4",
  "features",
  "frozen_backbone",
  "no_mixup",
  "10000_episodes",
)
CONTENT = json.loads(
  pathlib.Path(published.__file__).with_name("published.json").read_text()
)
GROUPS = [
  group for kind in ("accuracy", "area", "seconds") for group in CONTENT[kind]
]

MINI = {
  "dataset": "mini_imagenet",
  "backbone": "wrn_28_10",
  "split": "train",
  "ways": 5,
  "shots": 1,
}
TRANSDUCTIVE = MINI | {"method": "transductive_finetune"}


def table1(backbone, splits=SPLITS):
  """All lookups of Table 1's shape for one network."""
  return [
    published.accuracy(
      "table1",
      dataset=dataset,
      backbone=backbone,
      split=split,
      method=method,
      ways=5,
      shots=shots,
    )
    for dataset, split, method, shots in itertools.product(
      DATASETS, splits, METHODS, SHOTS
    )
  ]


def unverified():
  """All lookups that are of the appendix."""
  values = table1("resnet12", ["train"]) + table1("conv64", ["train"])
  values += [
    published.accuracy(
      "ablation",
      dataset=dataset,
      backbone="wrn_28_10",
      split=split,
      method="transductive_finetune",
      ways=5,
      shots=shots,
      ablation=ablation,
    )
    for dataset, split, shots, ablation in itertools.product(
      DATASETS, SPLITS, SHOTS, ABLATIONS
    )
  ]
  return [value for value in values if value is not None]


class TestStructure:
  def test_groups_say_where_they_are_from(self):
    for group in GROUPS:
      assert group["source"]
      assert isinstance(group["verified"], bool)

  def test_no_cell_is_given_twice(self):
    for kind in ("accuracy", "area", "seconds"):
      cells = [
        sorted((group["common"] | column | row[0] | {"target": target}).items())
        for group in CONTENT[kind]
        for target in group.get("targets", [""])
        for row in group["rows"]
        for column in group["columns"]
      ]
      assert len({str(cell) for cell in cells}) == len(cells)

  def test_accuracies_are_percentages_with_narrow_intervals(self):
    for group in CONTENT["accuracy"]:
      for _, *figures in group["rows"]:
        for mean, *ci95 in filter(None, figures):
          assert 0 < mean <= 100
          assert all(0 < half_width < 2 for half_width in ci95)


class TestAccuracy:
  def test_all_of_table_1_with_intervals(self):
    values = table1("wrn_28_10")
    assert len(values) == 48
    assert all(value.verified and value.ci95 for value in values)
    # No two cells of the table agree, so one that was pasted twice shows.
    assert len({value.mean for value in values}) == 48

  def test_all_of_table_2_with_intervals(self):
    for ways, shots, method in itertools.product(
      (5, 10, 20, 40, 80, 160), SHOTS, ("support_init", "transductive_finetune")
    ):
      cell = {
        "dataset": "imagenet21k",
        "backbone": "wrn_28_10",
        "split": "train",
        "method": method,
        "ways": ways,
        "shots": shots,
      }
      value = published.accuracy("table2", **cell)
      assert value.verified
      assert value.ci95
      assert value == published.accuracy("figure3", **cell)
      assert published.accuracy("table1", **cell) is None

  def test_corners_of_each_table(self):
    def of(target, dataset, split, method, shots, **others):
      cell = {"backbone": "wrn_28_10", "ways": 5} | others
      return published.accuracy(
        target,
        dataset=dataset,
        split=split,
        method=method,
        shots=shots,
        **cell,
      )[:2]

    tuned = "transductive_finetune"
    sbi, mini, tiered = "support_init", "mini_imagenet", "tiered_imagenet"
    both = "train+val"
    assert of("table1", mini, "train", sbi, 1) == (56.17, 0.64)
    assert of("table1", "fc100", both, tuned, 5) == (65.74, 0.60)
    assert of("table1", "cifar_fs", both, "finetune", 1) == (70.07, 0.67)
    assert of("table2", "imagenet21k", "train", sbi, 1) == (87.20, 1.72)
    assert of("table2", "imagenet21k", "train", tuned, 5, ways=160) == (
      60.11,
      0.48,
    )
    assert of("figure2", mini, both, tuned, 1, queries=1) == (66.94, 1.55)
    assert of("table1", mini, "train", tuned, 1, backbone="resnet12") == (
      62.35,
      0.66,
    )
    assert of("table1", "fc100", "train", tuned, 5, backbone="conv64") == (
      50.24,
      None,
    )
    assert of(
      "ablation", tiered, both, tuned, 5, ablation="frozen_backbone"
    ) == (83.20, None)

  def test_figures_share_the_protocols_of_table_1(self):
    value = published.accuracy("table1", **TRANSDUCTIVE)
    assert value == published.Value(65.73, 0.68, "Table 1", True)
    assert published.accuracy("figure2", **TRANSDUCTIVE) == value
    assert published.accuracy("figure3", **TRANSDUCTIVE) == value

  def test_appendix_is_unverified(self):
    # Table 3; four ablations on two data sets, two on one.
    assert len(unverified()) == 48 + 4 * 4 + 2 * 2
    assert not any(value.verified for value in unverified())

  @pytest.mark.parametrize(
    "change",
    [
      {"dataset": "icons"},
      {"backbone": "wrn_16_4"},
      {"split": "base"},
      {"method": "prototype"},
      {"method": "no such method"},
      {"ways": 10},
      {"shots": 2},
      {"queries": 1},
      {"ablation": "joint"},
    ],
  )
  def test_what_was_not_published_is_none(self, change):
    assert published.accuracy("table1", **TRANSDUCTIVE | change) is None

  def test_unknown_target_is_none(self):
    assert published.accuracy("table9", **TRANSDUCTIVE) is None


class TestDifference:
  @pytest.mark.parametrize(
    ("dataset", "points"),
    [
      ("mini_imagenet", 9.6),
      ("tiered_imagenet", 5.9),
      ("cifar_fs", 6.3),
      ("fc100", 6.3),
    ],
  )
  def test_transductive_gain_at_one_shot(self, dataset, points):
    gain = published.difference(
      target="table1",
      method="transductive_finetune",
      against="support_init",
      **MINI | {"dataset": dataset},
    )
    assert round(gain.mean, 1) == points
    assert gain[1:] == (None, "Table 1", True)

  def test_transductive_equals_finetune_at_five_shots(self):
    for dataset, split in itertools.product(DATASETS, SPLITS):
      gain = published.difference(
        "table1",
        method="transductive_finetune",
        against="finetune",
        **MINI | {"dataset": dataset, "split": split, "shots": 5},
      )
      expected = 1.3 if (dataset, split) == ("fc100", "train+val") else 0
      assert gain.mean == pytest.approx(expected, abs=0.44)

  def test_finetune_is_below_initialisation_at_one_shot(self):
    for dataset in ("tiered_imagenet", "cifar_fs"):
      for split in SPLITS:
        gain = published.difference(
          "table1",
          method="finetune",
          against="support_init",
          **MINI | {"dataset": dataset, "split": split},
        )
        assert gain.mean < 0

  def test_of_unverified_values_is_unverified(self):
    gain = published.difference(
      "table1",
      method="transductive_finetune",
      against="support_init",
      **MINI | {"backbone": "conv64"},
    )
    assert gain == published.Value(-0.23, None, "Table 3 (appendix)", False)

  @pytest.mark.parametrize("missing", ["method", "against"])
  def test_of_what_was_not_published_is_none(self, missing):
    methods = {"method": "finetune", "against": "support_init"}
    cell = MINI | methods | {missing: "prototype"}
    assert published.difference("table1", **cell) is None


def test_areas():
  tuned, sbi = "transductive_finetune", "support_init"
  gains = []
  for dataset in DATASETS:
    cell = (dataset, "wrn_28_10", "train+val")
    gains.append(
      published.area(*cell, tuned).mean - published.area(*cell, sbi).mean
    )
    assert published.area(*cell, "finetune") is None
  assert gains == [208 - 194, 280 - 270, 295 - 284, 167 - 149]
  large = ("imagenet21k", "wrn_28_10", "train")
  assert published.area(*large, tuned).mean == 475
  assert published.area(*large, sbi).mean == 484
  assert published.area("cifar_fs", "conv64", "train+val", tuned) is None


def test_seconds():
  assert published.seconds("transductive_finetune", 15).mean == 20.8
  assert published.seconds("transductive_finetune", 1).mean == 4
  for queries in (15, 1):
    assert published.seconds("prototype", queries).mean == 0.07
  assert published.seconds("prototype", 5) is None
  assert published.seconds("finetune", 15) is None


PAPER = published.Value(65.73, 0.68, "Table 1", True)
UNVERIFIED = PAPER._replace(verified=False)


def judge(mean, num_episodes=1000, paper=PAPER, full=True):
  return verdicts.of_value(
    mean, num_episodes, paper, full=full, episodes_required=1000
  )


class TestOfValue:
  @pytest.mark.parametrize(
    ("mean", "word"),
    [  # 65.73 ± 1.68 is 64.05 to 67.41.
      (65.73, "reproduced"),
      (67.41, "reproduced"),
      (64.05, "reproduced"),
      (67.42, "above"),
      (64.04, "below"),
      (67.414, "reproduced"),  # printed as 67.41
      (67.416, "above"),
    ],
  )
  def test_word(self, mean, word):
    assert judge(mean).word == word

  def test_without_an_interval_a_point_is_allowed(self):
    paper = published.Value(60.0, None, "Table 1", True)
    assert judge(61.0, paper=paper).word == "reproduced"
    assert judge(61.01, paper=paper).word == "above"

  def test_reason_has_the_numbers(self):
    assert judge(64.0).reason == "-1.73 from Table 1, 1.68 allowed"

  def test_first_reason_for_none(self):
    """Each mends what the one before it complained of."""
    nan = math.nan
    nones = [
      judge(nan, 999, None, full=False),
      judge(nan, 999, UNVERIFIED, full=False),
      judge(nan, 999, PAPER, full=False),
      judge(nan, 999, PAPER),
      judge(nan, 1000, PAPER),
    ]
    assert [verdict.word for verdict in nones] == ["none"] * 5
    assert [verdict.reason for verdict in nones] == [
      "nothing was published",
      "Table 1 was not checked against the paper",
      "the run was shortened",
      "999 episodes, 1,000 are needed",
      "the result is not finite",
    ]

  def test_unverified_never_gives_a_verdict(self):
    for paper in unverified():
      assert judge(paper.mean, 10_000, paper).word == "none"


def judge_difference(mean, ci95, paper, num_episodes=1000, full=True):
  value = None if paper is None else published.Value(paper, None, "T", True)
  return verdicts.of_difference(
    mean, ci95, num_episodes, value, full=full, episodes_required=1000
  )


class TestOfDifference:
  @pytest.mark.parametrize(
    ("mean", "ci95", "paper", "word"),
    [
      (0.4, 0.3, 6.32, "same sign"),
      (0.4, 0.4, 6.32, "not told apart"),  # 0 is the end of the interval
      (0.1, 0.4, 6.32, "not told apart"),
      (-0.4, 0.3, 6.32, "opposite sign"),
      (-0.4, 0.3, -0.5, "same sign"),
      (0.4, 0.3, -0.5, "opposite sign"),
      (0.0, 0.0, 0.5, "not told apart"),
      (1.0, 0.3, 0.49, "about equal"),
      (-1.0, 0.3, 0.49, "about equal"),
      (1.01, 0.3, 0.49, "not equal"),
      (-1.01, 9.9, -0.49, "not equal"),
      (0.0, 0.0, 0.0, "about equal"),
    ],
  )
  def test_word(self, mean, ci95, paper, word):
    assert judge_difference(mean, ci95, paper).word == word

  def test_reason_has_the_numbers(self):
    reason = judge_difference(0.4, 0.3, 6.32).reason
    assert reason == "+0.40 ± 0.30, +6.32 in T"

  def test_sign_needs_fewer_episodes_than_equality(self):
    assert judge_difference(0.4, 0.3, 6.32, 100).word == "same sign"
    assert judge_difference(0.4, 0.3, 6.32, 99).word == "none"
    few = judge_difference(0.4, 0.3, 0.2, 10)
    assert few == ("none", "10 episodes, 1,000 are needed")

  def test_first_reason_for_none(self):
    nan = math.nan
    gain = published.Value(6.32, None, "T", False)
    unchecked = verdicts.of_difference(
      nan, nan, 10, gain, full=False, episodes_required=1000
    )
    nones = [
      judge_difference(nan, nan, None, full=False),
      unchecked,
      judge_difference(nan, nan, 6.32, full=False),
      judge_difference(nan, 0.3, 6.32),
      judge_difference(0.4, nan, 6.32),
    ]
    assert [verdict.word for verdict in nones] == ["none"] * 5
    assert [verdict.reason for verdict in nones] == [
      "nothing was published",
      "T was not checked against the paper",
      "the run was shortened",
      "the result is not finite",
      "the result is not finite",
    ]
