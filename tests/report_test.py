"""Views of results: no name and no NaN breaks a table, figure or page."""

import base64
import dataclasses
import hashlib
import html as html_lib
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import made_results
import numpy as np
import pytest
from made_results import ACCURACY, EVIL, HARDNESS

from fsl_jax import report, results, types
from fsl_jax.report import hardness_chart, table, tables, text


def _section(accuracy=ACCURACY, hardness=HARDNESS, *, steps=0, **fields):
  n = len(next(iter(accuracy.values())))
  curve = np.linspace(1, 0.1, steps) + np.arange(n)[:, None] / 10
  curves = {
    "support_loss": curve,
    "support_accuracy": 1 - curve / 3,
    "query_entropy": np.full_like(curve, np.nan),
  }
  if hardness is not None:
    fields["hardness"] = hardness
  return made_results.section(accuracy, curves=curves, **fields)


def _summary(*sections, class_names=None):
  return results.summarise(sections or [_section()], class_names)


def _exhibit(names=("a", "b"), per_class=9, size_px=84):
  labels = np.repeat(np.arange(len(names)), per_class)
  rng = np.random.default_rng(0)
  shape = (len(labels), size_px, size_px, 3)
  images = rng.integers(0, 256, shape, np.uint8)
  return report.Exhibit(images, labels, images, labels, tuple(names))


def _sheet(names=("a", "b"), **fields):
  images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
  given = {
    "support_images": images[:2],
    "support_labels": np.array([0, 1]),
    "query_images": images[2:],
    "query_labels": np.array([0, 0, 1, 1]),
    "before": np.array([0, 1, 1, 0]),
    "after": np.array([0, 0, 1, 0]),
    "after_name": "finetune",
    "class_names": tuple(names),
    "rule": "Episode 3.",
  }
  return report.Sheet(**given | fields)


def _galleries(section, **exhibit):
  return [
    report.Gallery(selection, [_exhibit(**exhibit)] * len(selection.episodes))
    for selection in report.extremes(section)
  ]


def _words(svg):
  """All text of a figure, which must be XML."""
  return " ".join(ElementTree.fromstring(svg).itertext())


@pytest.mark.parametrize(
  ("shown", "expected"),
  [
    (text.p_phrase(0.0004), "p < 0.001"),
    (text.p_phrase(0.034), "p = 0.034"),
    (text.p_phrase(0.617), "p = 0.62"),
    (text.p_phrase(math.nan), "p not defined"),
    (text.p_value(math.nan), "n/a"),
    (text.plus_minus(0.6321, 0.0045), "63.21 ± 0.45"),
    (text.plus_minus(0.1, math.nan, sign="+"), "+10.00 ± n/a"),
    (text.plus_minus(math.nan, 0.1), "n/a"),
    # A zero has no sign.
    (text.plus_minus(-1e-9, 0.01, sign="+"), "+0.00 ± 1.00"),
    (text.low_to_high(0.1, math.nan), "n/a"),
    (text.episode_count([1]), "1 episode"),
    (text.episode_count([1000, 1000]), "1,000 episodes per protocol"),
    (text.episode_count([1, 2]), "3 episodes"),
  ],
)
def test_text(shown, expected):
  assert shown == expected


class TestTables:
  def test_views(self):
    columns = [
      table.Column("name", lambda row: table.Cell(row[0])),
      table.Column("empty", lambda row: table.Cell("", math.nan)),
      table.Column("x", lambda row: table.percent(row[1]), plain="x %"),
    ]
    shown = table.make(columns, [("a|b\n<i>", -0.01), ("c", math.nan)])
    # A column without anything is left out, and no cell breaks the table.
    assert [column.head for column in shown.columns] == ["name", "x"]
    assert table.plain(shown).splitlines()[0].split() == ["name", "x", "%"]
    assert table.markdown(shown).splitlines() == [
      "| name | x % |",
      "|---|---:|",
      "| a\\|b &lt;i> | -1.00 |",
      "| c | n/a |",
    ]
    # Sorted by numbers; what has none comes last.
    assert [row[1].key for row in shown.rows] == ["-0.01", ""]
    assert shown.rows[0][1].typeset == "−1.00"

  def test_every_view_has_what_belongs_to_an_accuracy(self):
    summary = _summary(_section(query_use="all jointly"))
    for shown in (
      report.terminal(summary),
      report.markdown(summary),
      report.all_figures(summary)[0].svg,
    ):
      for words in (
        "5-way 1-shot, 2 queries per class, 4 episodes",
        *("60.00 ± 15.50", "support-based initialisation", "all jointly"),
      ):
        assert words in shown
    assert max(map(len, report.terminal(summary).splitlines())) <= 80

  def test_difference_has_its_own_n(self):
    accuracy = {
      "support_init": [np.nan, 0.6, 0.5, 0.5],
      "finetune": [0.5, 0.8, np.nan, 1],
    }
    shown = tables.accuracy(_summary(_section(accuracy)).sections[0])
    heads = [column.head for column in shown.columns]
    cells = dict(zip(heads[:5], shown.rows[1][:5], strict=True))
    assert cells["difference"].text == "+35.00 ± 20.79 (n = 2)"
    assert (cells["n"].text, cells["NaN"].text) == ("3", "1")

  @pytest.mark.parametrize("accuracy", [[np.nan] * 3, [0.5]])
  def test_what_is_not_defined_is_no_number(self, accuracy):
    summary = _summary(_section(dict.fromkeys(ACCURACY, accuracy), None))
    assert "n/a" in report.terminal(summary)
    assert "nan" not in report.terminal(summary)
    (figure,) = report.all_figures(summary)
    ElementTree.fromstring(figure.svg)

  @pytest.mark.parametrize("name", ["finetune", "support_init"])
  def test_without_something_to_compare_there_is_no_difference(self, name):
    summary = _summary(_section({name: ACCURACY[name]}))
    for shown in (
      report.terminal(summary),
      report.markdown(summary),
      report.html("t", summary, report.all_figures(summary)),
    ):
      assert "difference" not in shown

  def test_behaviour(self):
    section = _summary(made_results.adapted()).sections[0]
    row = tables.behaviour(section).rows[1]
    assert [cell.text for cell in row] == [
      *("fine-tuning", "75.0", "37.5", "25.0", "12.5"),
      *("1.50 of 2.00", "0 of 2"),
    ]
    assert tables.warnings(_summary(made_results.adapted())) == []

  def test_collapse_is_marked_and_said(self):
    labels = np.array([[0, 1, 2], [0, 1, 2]])
    section = {
      "finetune": made_results.result(
        "finetune",
        predictions=[[0, 1, 2], [1, 1, 1]],
        labels=labels,
        initial_predictions=labels,
      )
    }
    summary = _summary(section)
    assert tables.behaviour(summary.sections[0]).rows[0][-1].value == 1
    (warning,) = tables.warnings(summary)
    assert "fine-tuning in 1 of 2 (5-way 1-shot)" in warning
    assert " ".join(warning.split()) in " ".join(
      report.terminal(summary).split()
    )
    assert warning in report.html("t", summary)

  def test_many_classes_show_both_ends(self):
    many = [
      results.ClassRow(f"c{i}", {"finetune": i / 150}, 9) for i in range(150)
    ]
    shown, note = tables.classes(many)
    names = [row[0].text for row in shown.rows]
    assert names == [f"c{i}" for i in (*range(50), *range(100, 150))]
    assert "150 classes" in note
    shown, _ = tables.classes(many[:100])
    assert len(shown.rows) == 100


class TestFigures:
  def test_same_bytes_under_any_settings(self):
    matplotlib = pytest.importorskip("matplotlib")
    summary = _summary(_section(steps=3))
    first = report.all_figures(summary, _sheet())
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
      second = report.all_figures(summary, _sheet())
      assert matplotlib.rcParams["font.size"] == 30
    assert first == second

  def test_curves_are_of_methods_that_step(self):
    assert len(report.all_figures(_summary())) == 2
    section = _section(steps=3)
    section["prototype"] = made_results.result("prototype", [0.5] * 4)
    # A non-finite episode leaves every step of its method.
    section["finetune"] = dataclasses.replace(
      section["finetune"], accuracy=np.array([0.5, np.nan, 0.4, 0.7])
    )
    words = _words(report.all_figures(_summary(section))[-1].svg)
    assert "fine-tuning, n = 3" in words
    assert "prototype" not in words
    assert "Support loss (nats)" in words
    assert "Query entropy" not in words  # NaN throughout

  def test_hardness_has_area_and_slope(self):
    x = np.linspace(0, 1, 30)
    accuracy = 0.9 - 0.3 * x + np.random.default_rng(0).normal(0, 0.05, 30)
    section = _section({"finetune": accuracy}, x)
    summary = _summary(section, section)
    figure = report.all_figures(summary)[1]
    line = summary.lines["finetune"]
    assert f"area {line.line.area:.1f} %·nats, n = 60" in _words(figure.svg)
    low, high = line.interval.slope
    numbers = (
      f"{100 * line.line.slope:.1f} ({100 * low:.1f} to {100 * high:.1f})"
    )
    assert f"fine-tuning {numbers.replace('-', '−')}" in figure.caption
    assert "30 episodes per protocol" in figure.caption

  def test_marks_are_means_of_parts(self):
    marks = hardness_chart.marks(
      "m", "p", np.array([3.0, 1, np.nan, 2]), np.array([0.2, 0.6, 0.5, np.nan])
    )
    assert marks == [("m", "p", 2.0, pytest.approx(0.4), marks[0].ci95)]
    # 0.4 around its mean: 1.96 times 0.2 over the root of 2.
    assert marks[0].ci95 == pytest.approx(1.96 * 0.2 / math.sqrt(2))
    halves = hardness_chart.marks(
      "m", "p", np.arange(4.0)[::-1], np.arange(4.0) / 10, parts=2
    )
    assert [mark.hardness for mark in halves] == [0.5, 2.5]
    assert [mark.accuracy for mark in halves] == pytest.approx([0.25, 0.05])

  def test_a_line_spans_its_data_within_0_and_100_percent(self):
    line = hardness_chart.Line("m", -0.2, 0.9, 1.0, 2, low=0.5, high=1.0)
    ends = hardness_chart.ends(line)
    assert ends == ([0.5, 1.0], pytest.approx([80.0, 70.0]))
    steep = line._replace(slope=-0.4, intercept=1.3, high=9.0)
    nats, percent = hardness_chart.ends(steep)
    assert nats == pytest.approx([0.75, 3.25])
    assert percent == pytest.approx([100.0, 0.0])
    assert hardness_chart.ends(hardness_chart.Line("m")) == ([], [])

  def test_points_of_categories_or_two_points_are_not_joined(self):
    section = _summary().sections[0]
    points = [
      report.sweep.point(label, place, section)
      for place, label in enumerate("abc")
    ]
    assert points[0].methods["finetune"].difference[0] == pytest.approx(0.1)
    # The initialisation's dashes, the look of no other line.
    for shown, joined, expected in (
      (points, True, True),
      (points, False, False),
      (points[:2], True, False),
    ):
      drawn = report.sweep.accuracy_along(shown, "x", "t", joined=joined)
      assert ("stroke-dasharray: 1.6," in drawn) == expected

  def test_long_names_are_cut_in_the_middle(self):
    assert report.svg.fit("short", 100, 9) == "short"
    shown = report.svg.fit("sweep_" + "x" * 200 + "_lr_0.1", 100, 9)
    assert shown.startswith("sweep_")
    assert shown.endswith("lr_0.1")
    assert len(shown) < 25
    assert report.svg.fit("wide", 1, 9) == "…"
    # Wide letters take more room.
    assert len(report.svg.fit("猫" * 50, 100, 9)) < 12

  def test_looks_stay_with_the_method_and_differ(self):
    alone = report.svg.looks(["finetune"])["finetune"]
    names = ["mine", "finetune", *(f"m{i}" for i in range(12))]
    looks = report.svg.looks(names)
    assert looks["finetune"] == alone
    assert len(set(map(str, looks.values()))) == len(names)


class TestEpisodes:
  def test_sheet_follows_its_rule(self):
    section = _section()
    # All are predicted as 0, of labels 0 0 1 1 2 2 ...: two are correct.
    predictions = np.zeros((4, 10), np.int64)
    predictions[1, 2:9] = [1, 1, 2, 2, 3, 3, 4]  # seven better
    predictions[2, 1:3] = predictions[3, 1:3] = 1  # one better, one worse
    section["finetune"] = dataclasses.replace(
      section["finetune"], predictions=predictions
    )
    choice = report.both_directions(section, "finetune")
    assert choice[:2] == (2, 12)
    # Of 40 queries 7 + 1 + 1 and 1 + 1.
    assert re.findall(r"[\d.]+ %", choice.rule) == ["22.5 %", "5.0 %"]
    # Where there is no such episode, the rule says so.
    section["finetune"] = dataclasses.replace(
      section["finetune"], predictions=np.where(predictions > 1, predictions, 0)
    )
    choice = report.both_directions(section, "finetune")
    assert choice[:2] == (1, 11)
    assert "no episode" in choice.rule
    with pytest.raises(types.InputError, match="did you mean 'finetune'"):
      report.both_directions(section, "finetunes")
    section["finetune"] = dataclasses.replace(
      section["finetune"], accuracy=np.full(4, np.nan)
    )
    with pytest.raises(types.InputError, match="no episode is finite"):
      report.both_directions(section, "finetune")

  def test_sheet_tells_right_from_wrong_without_colour(self):
    figure = report.all_figures(_summary(), _sheet())[-1]
    words = _words(figure.svg)
    assert "correct 1 → 2 of 2" in words
    assert "correct 1 → 1 of 2" in words
    # Five correct predictions and three wrong ones, and the key.
    assert words.count("✓") == 5 + 1
    assert words.count("✗") == 3 + 1
    # The prediction that changed, and the key.
    assert figure.svg.count("fill: #fff3c4") == 1 + 1
    assert figure.svg.count("data:image/png;base64,") == 6

  def test_large_sheets_say_what_they_leave_out(self):
    exhibit = _exhibit([str(i) for i in range(40)], per_class=30, size_px=4)
    labels = exhibit.query_labels
    sheet = report.Sheet(
      **vars(exhibit), before=labels, after=labels, after_name="m"
    )
    words = _words(report.all_figures(_summary(), sheet)[-1].svg)
    assert "and 28 more classes, not shown" in words
    assert "and 24 more" in words  # support
    assert "and 12 more" in words  # queries

  @pytest.mark.parametrize(
    ("changes", "message"),
    [
      ({"after": np.zeros(1, int)}, r"after must be \[4\], got \[1\]"),
      ({"before": np.full(4, 2)}, r"before must lie in \[0, 2\)"),
      ({"query_images": np.zeros((4, 8, 8, 3))}, "query_images must be"),
      ({"support_labels": np.full(2, -1)}, "support_labels must lie"),
    ],
  )
  def test_wrong_sheets_are_named(self, changes, message):
    with pytest.raises(types.InputError, match=message):
      _sheet(**changes)

  def test_extremes_follow_their_rule(self):
    hardness = np.array([1.0, 3.0, np.nan, 3.0, 0.0, 2.0, 0.0])
    section = _section({"finetune": [0.5] * 7}, hardness)
    hardest, easiest = report.extremes(section, 2)
    assert hardest.positions == (1, 3)
    assert easiest.positions == (4, 6)
    assert hardest.episodes == (11, 13)
    # Six are known: no episode is shown at both ends.
    hardest, easiest = report.extremes(section, 9)
    assert set(hardest.positions) | set(easiest.positions) == {0, 1, 3, 4, 5, 6}
    assert hardest.words[0][0] == "Episode 11, hardness 3.00 nats"

  def test_extremes_go_by_the_baseline_without_hardness(self):
    section = _section(hardness=None)
    hardest, easiest = report.extremes(section, 1)
    assert (hardest.episodes, easiest.episodes) == ((10,), (11,))
    assert "support-based initialisation" in hardest.rule
    gone = _section(dict.fromkeys(ACCURACY, [np.nan] * 2), None)
    with pytest.raises(types.InputError, match="no episode has a hardness"):
      report.extremes(gone)

  def test_galleries_are_few_and_small(self):
    galleries = _galleries(_section(), names=(EVIL, *"bcdefgh"))
    first, second = (
      figure.svg
      for figure in report.all_figures(_summary(), galleries=galleries)[2:]
    )
    assert "and 2 more classes, not shown" in _words(first)
    assert first.count("data:image/png;base64,") == 2 * 6 * (3 + 5)
    # Noise, which compresses worst; three such episodes on a page at each end.
    assert len(first) + len(second) < 4_000_000
    with pytest.raises(types.InputError, match="of 2 episodes needs as many"):
      report.Gallery(galleries[0].selection, [])


class TestPage:
  def test_has_every_number_and_fetches_nothing(self):
    summary = _summary(
      _section(steps=3), _section({"prototype": [0.2, 0.3]}, [1, 0])
    )
    figures = report.all_figures(summary, _sheet())
    assert [figure.name for figure in figures] == [
      *("accuracy", "hardness", "curves_5way_1shot", "episode"),
    ]
    provenance = {"commit": "abc", "runs": [{"jax": "0.10"}, {"jax": "0.11"}]}
    page = report.html("A title", summary, figures, provenance, ["Mind this."])
    for words in (
      *("50.00 ± 6.93", "60.00 ± 15.50", "+10.00 ± 12.00", "25.00 ± 6.93"),
      *("15.81", "7.07", "reference", "nearest prototype", "A title"),
      *("Mind this.", "abc", "1.jax", "0.10", "0.11", "Episode 3."),
      "2 queries per class, 4 episodes",
    ):
      assert words in page, words
    targets = re.findall(r'(?:src|href|action)\s*=\s*["\']?([^"\'\s>]*)', page)
    assert all(target.startswith(("#", "data:image/")) for target in targets)
    assert "@import" not in page
    assert re.findall(r"url\(", page) == []
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids)) == len(figures)

  def test_names_are_escaped_and_only_its_script_may_run(self):
    section = _section(
      {EVIL: ACCURACY["finetune"]},
      steps=2,
      query_use=EVIL,
      protocol_name=EVIL,
    )
    summary = _summary(section, class_names=[EVIL] * 5)
    sheet = _sheet((EVIL, "猫" * 99), before_name=EVIL, rule=EVIL)
    figures = report.all_figures(summary, sheet, _galleries(section))
    page = report.html(EVIL, summary, figures, {EVIL: {EVIL: EVIL}}, [EVIL])
    for figure in figures:
      ElementTree.fromstring(figure.svg)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
    assert len(scripts) == page.count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest())
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
    rules = dict(
      rule.strip().split(" ", 1)
      for rule in html_lib.unescape(policy).split(";")
    )
    assert rules["script-src"] == f"'sha256-{digest.decode()}'"
    assert rules["default-src"] == "'none'"
    assert not re.search(r"\son[a-z]+\s*=", page.split("<script>")[0])
    assert html_lib.unescape(page).count(EVIL) > 8

  def test_first_sentence_has_network_data_and_outcome(self):
    def gaining(low, high):
      section = made_results.long(40, 0.0)
      more = section["finetune"].accuracy + np.linspace(low, high, 40)
      better = dataclasses.replace(section["finetune"], accuracy=more)
      return section | {"finetune": better}

    def lead(*sections):
      return tables.outcome(_summary(*sections), "net on data")

    better = gaining(0.05, 0.15)
    mean = _summary(better).sections[0].methods["finetune"].accuracy.mean
    first, rest = lead(better).split(" %, ")
    assert first.startswith("net on data: in 5-way 1-shot episodes fine-tuning")
    assert f"{100 * mean:.2f} ± " in first
    assert rest.startswith("+10.00 ± 0.92 pp against support-based initial")
    assert "not significantly different" not in rest
    assert "not significantly different" in lead(gaining(-0.1, 0.11))
    words = lead(*[better] * 3, gaining(-0.2, -0.1))
    assert "fine-tuning in 3, support-based initialisation in 1" in words

  def test_accuracy_and_its_difference_come_first(self):
    """A phone shows two columns beside the method."""
    page = report.html("t", _summary())
    heads = re.findall(r'<th scope="col">(\w+)', page)
    assert heads[:3] == ["method", "accuracy", "difference"]

  def test_write_makes_the_files_of_a_run(self, tmp_path):
    summary = _summary(_section(steps=3))
    options = {
      "title": "Run",
      "provenance": {"loss": math.inf, "size": np.int64(3), "at": tmp_path},
      "notes": ["A note."],
      "sheet": _sheet(),
    }
    paths = report.write(tmp_path / "run", summary, **options)
    names = [path.relative_to(tmp_path / "run").as_posix() for path in paths]
    figures = ("accuracy", "hardness", "curves_5way_1shot", "episode")
    assert names == [
      "result.json",
      *(f"figures/{name}.svg" for name in figures),
      "report.html",
    ]
    result = json.loads(paths[0].read_text())
    assert result["provenance"] == {
      "loss": None,
      "size": 3,
      "at": str(tmp_path),
    }
    expected = summary.as_json()
    assert {key: result[key] for key in expected} == expected
    before = [path.read_bytes() for path in paths]
    report.write(tmp_path / "run", summary, **options)
    assert [path.read_bytes() for path in paths] == before
    assert list((tmp_path / "run").rglob("*.tmp")) == []

  def test_figures_of_any_protocol_have_plain_file_names(self, tmp_path):
    section = _section(steps=3, protocol_name="../5 ways; Meta's / shots")
    paths = report.write(tmp_path, _summary(section, section), title="t")
    names = [path.name for path in paths if path.name.startswith("curves")]
    assert names == [
      "curves_5_ways_Meta_s_shots.svg",
      "curves_5_ways_Meta_s_shots_2.svg",
    ]


def test_import_does_not_load_matplotlib():
  code = "import sys, fsl_jax.report; sys.exit('matplotlib' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0
