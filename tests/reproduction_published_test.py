"""The paper's figures are all there, and the rule compares as documented."""

import itertools
import json
import math
import pathlib

import pytest
from reproduction import published

DATASETS = ("mini_imagenet", "tiered_imagenet", "cifar_fs", "fc100")
SBI, FT, TFT = METHODS = ("support_init", "finetune", "transductive_finetune")
SPLITS = ("train", "train+val")
SHOTS = (1, 5)
ABLATIONS = (
  *("wrn_16_4", "features", "frozen_backbone", "no_mixup", "10000_episodes"),
)
CONTENT = json.loads(
  pathlib.Path(published.__file__).with_name("published.json").read_text()
)

MINI = {
  "dataset": "mini_imagenet",
  "backbone": "wrn_28_10",
  "split": "train",
  "ways": 5,
  "shots": 1,
}
TRANSDUCTIVE = MINI | {"method": TFT}


def table1(backbone, splits=SPLITS):
  """All lookups of Table 1's shape for one network."""
  names = ("dataset", "split", "method", "shots")
  return [
    published.accuracy(
      "table1",
      **MINI | {"backbone": backbone, **dict(zip(names, values, strict=True))},
    )
    for values in itertools.product(DATASETS, splits, METHODS, SHOTS)
  ]


def unverified():
  """All figures of the appendix."""
  names = ("dataset", "split", "shots", "ablation")
  values = table1("resnet12", ["train"]) + table1("conv64", ["train"])
  values += [
    published.accuracy(
      "ablation", **TRANSDUCTIVE | dict(zip(names, cell, strict=True))
    )
    for cell in itertools.product(DATASETS, SPLITS, SHOTS, ABLATIONS)
  ]
  return [value for value in values if value is not None]


def test_the_file_has_no_cell_twice_and_every_source():
  for kind in ("accuracy", "area", "seconds"):
    cells = []
    for group in CONTENT[kind]:
      assert group["source"]
      assert isinstance(group["verified"], bool)
      for (head, *figures), target in itertools.product(
        group["rows"], group.get("targets", [""])
      ):
        for column, figure in zip(group["columns"], figures, strict=True):
          cell = group["common"] | column | head | {"target": target}
          cells.append(frozenset(cell.items()))
          if kind == "accuracy" and figure is not None:
            mean, *ci95 = figure
            assert 0 < mean <= 100
            assert all(0 < half_width < 2 for half_width in ci95)
    assert len(set(cells)) == len(cells)


class TestAccuracy:
  def test_all_of_table_1_with_intervals(self):
    values = table1("wrn_28_10")
    assert len(values) == 48
    assert all(value.verified and value.ci95 for value in values)
    # No two cells of the table agree, so one that was pasted twice shows.
    assert len({value.mean for value in values}) == 48

  def test_all_of_table_2_with_intervals(self):
    for ways, shots, method in itertools.product(
      (5, 10, 20, 40, 80, 160), SHOTS, (SBI, TFT)
    ):
      cell = MINI | {"dataset": "imagenet21k", "method": method}
      cell |= {"ways": ways, "shots": shots}
      value = published.accuracy("table2", **cell)
      assert value.verified
      assert value.ci95
      assert value == published.accuracy("figure3", **cell)
      assert published.accuracy("table1", **cell) is None

  def test_corners_of_each_table(self):
    both = "train+val"
    resnet12, conv64 = {"backbone": "resnet12"}, {"backbone": "conv64"}
    frozen = {"ablation": "frozen_backbone"}
    for target, dataset, split, method, shots, others, expected in (
      ("table1", "mini_imagenet", "train", SBI, 1, {}, (56.17, 0.64)),
      ("table1", "fc100", both, TFT, 5, {}, (65.74, 0.60)),
      ("table1", "cifar_fs", both, FT, 1, {}, (70.07, 0.67)),
      ("table2", "imagenet21k", "train", SBI, 1, {}, (87.20, 1.72)),
      ("table2", "imagenet21k", "train", TFT, 5, {"ways": 160}, (60.11, 0.48)),
      ("figure2", "mini_imagenet", both, TFT, 1, {"queries": 1}, (66.94, 1.55)),
      ("table1", "mini_imagenet", "train", TFT, 1, resnet12, (62.35, 0.66)),
      ("table1", "fc100", "train", TFT, 5, conv64, (50.24, None)),
      ("ablation", "tiered_imagenet", both, TFT, 5, frozen, (83.20, None)),
    ):
      cell = {"dataset": dataset, "split": split, "method": method}
      cell |= {"shots": shots, **others}
      assert published.accuracy(target, **MINI | cell)[:2] == expected

  def test_figures_share_the_protocols_of_table_1(self):
    value = published.Value(65.73, 0.68, "Table 1", True)
    for target in ("table1", "figure2", "figure3"):
      assert published.accuracy(target, **TRANSDUCTIVE) == value

  def test_appendix_is_unverified(self):
    # Table 3; four ablations on two data sets, two on one.
    assert len(unverified()) == 48 + 4 * 4 + 2 * 2
    assert not any(value.verified for value in unverified())

  @pytest.mark.parametrize(
    "change",
    [
      {"target": "table9"},
      {"dataset": "icons"},
      {"backbone": "wrn_16_4"},
      {"split": "base"},
      {"method": "prototype"},
      {"ways": 10},
      {"shots": 2},
      {"queries": 1},
      {"ablation": "joint"},
    ],
  )
  def test_what_was_not_published_is_none(self, change):
    cell = {"target": "table1"} | TRANSDUCTIVE | change
    assert published.accuracy(**cell) is None


def difference(method, against, **changes):
  return published.difference(
    "table1", method=method, against=against, **MINI | changes
  )


class TestDifference:
  def test_transductive_gain_at_one_shot(self):
    for dataset, points in zip(DATASETS, (9.6, 5.9, 6.3, 6.3), strict=True):
      gain = difference(TFT, SBI, dataset=dataset)
      assert round(gain.mean, 1) == points
      assert gain[1:] == (None, "Table 1", True)

  def test_transductive_equals_finetune_at_five_shots(self):
    for dataset, split in itertools.product(DATASETS, SPLITS):
      gain = difference(TFT, FT, dataset=dataset, split=split, shots=5)
      expected = 1.3 if (dataset, split) == ("fc100", "train+val") else 0
      assert gain.mean == pytest.approx(expected, abs=0.44)

  def test_finetune_is_below_initialisation_at_one_shot(self):
    for dataset, split in itertools.product(DATASETS[1:3], SPLITS):
      assert difference(FT, SBI, dataset=dataset, split=split).mean < 0

  def test_of_unverified_values_is_unverified(self):
    gain = difference(TFT, SBI, backbone="conv64")
    assert gain == published.Value(-0.23, None, "Table 3 (appendix)", False)

  def test_of_what_was_not_published_is_none(self):
    assert difference(FT, "prototype") is None
    assert difference("prototype", SBI) is None


def test_areas():
  gains = []
  for dataset in DATASETS:
    cell = (dataset, "wrn_28_10", "train+val")
    gains.append(
      published.area(*cell, TFT).mean - published.area(*cell, SBI).mean
    )
    assert published.area(*cell, FT) is None
  assert gains == [208 - 194, 280 - 270, 295 - 284, 167 - 149]
  large = ("imagenet21k", "wrn_28_10", "train")
  assert published.area(*large, TFT).mean == 475
  assert published.area(*large, SBI).mean == 484
  assert published.area("cifar_fs", "conv64", "train+val", TFT) is None


def test_seconds():
  assert published.seconds(TFT, 15).mean == 20.8
  assert published.seconds(TFT, 1).mean == 4
  for queries in (15, 1):
    assert published.seconds("prototype", queries).mean == 0.07
  assert published.seconds("prototype", 5) is None
  assert published.seconds(FT, 15) is None


PAPER = published.Value(65.73, 0.68, "Table 1", True)
NAN = math.nan
# Each mends what the one before it complained of: the paper, n, full.
REASONS = (
  (None, 999, False, "nothing was published"),
  (
    PAPER._replace(verified=False),
    *(999, False, "Table 1 was not checked against the paper"),
  ),
  (PAPER, 999, False, "the run was shortened"),
  (PAPER, 99, True, "99 episodes, {} are needed"),
  (PAPER, 1000, True, "the result is not finite"),
)


def judge(mean, num_episodes=1000, paper=PAPER, full=True):
  rule = published.Rule(full, episodes_required=1000)
  return rule.of_value(mean, num_episodes, paper)


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

  def test_reasons(self):
    assert judge(64.0).reason == "-1.73 from Table 1, 1.68 allowed"
    for paper, n, full, reason in REASONS:
      found = judge(NAN, n, paper, full)
      assert found == ("none", reason.format("1,000"))

  def test_unverified_never_gives_a_verdict(self):
    for paper in unverified():
      assert judge(paper.mean, 10_000, paper).word == "none"


def judge_difference(mean, ci95, paper, num_episodes=1000, full=True):
  if isinstance(paper, float):
    paper = published.Value(paper, None, "T", True)
  rule = published.Rule(full, episodes_required=1000)
  return rule.of_difference(mean, ci95, num_episodes, paper)


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

  def test_sign_needs_fewer_episodes_than_equality(self):
    assert judge_difference(0.4, 0.3, 6.32, 100).word == "same sign"
    assert judge_difference(0.4, 0.3, 6.32, 99).word == "none"
    few = judge_difference(0.4, 0.3, 0.2, 10)
    assert few == ("none", "10 episodes, 1,000 are needed")

  def test_reasons(self):
    reason = judge_difference(0.4, 0.3, 6.32).reason
    assert reason == "+0.40 ± 0.30, +6.32 in T"
    for paper, n, full, reason in REASONS:
      for numbers in ((NAN, 0.3), (0.4, NAN)):
        found = judge_difference(*numbers, paper, n, full)
        assert found == ("none", reason.format("100"))
