"""Reports: the numbers by hand, and that no name or NaN breaks a page."""

import dataclasses
import html as html_lib
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fsl_jax import report, types
from fsl_jax.report import hardness_chart

ACCURACY = {
  "support_init": [0.4, 0.6, 0.5, 0.5],
  "finetune": [0.5, 0.8, 0.4, 0.7],
}
HARDNESS = [1.0, 0.0, 1.0, 0.5]
EVIL = "a <script>alert('1')</script> & \"b\" $x_1$"


def _result(method, accuracy, hardness=None, *, steps=0, query_use="none"):
  n = len(accuracy)
  curve = np.linspace(1, 0.1, steps) + np.arange(n)[:, None] / 10
  return types.EvalResult(
    method=method,
    query_use=query_use,
    protocol={"ways": 5, "shots": 1, "queries": 2},
    protocol_name="5-way 1-shot",
    protocol_text="2 queries a class",
    index=np.arange(10, 10 + n),
    digests=np.arange(10, 10 + n).astype(str),
    class_ids=np.tile(np.arange(5), (n, 1)),
    labels=np.tile(np.repeat(np.arange(5), 2), (n, 1)),
    accuracy=np.asarray(accuracy, np.float64),
    hardness=np.full(n, np.nan) if hardness is None else np.asarray(hardness),
    predictions=np.zeros((n, 10), np.int64),
    initial_predictions=np.zeros((n, 10), np.int64),
    support_accuracy=np.ones(n),
    curves={
      "support_loss": curve,
      "support_accuracy": 1 - curve / 3,
      "query_entropy": np.full_like(curve, np.nan),
    },
  )


def _section(accuracy=ACCURACY, hardness=HARDNESS, **options):
  return {
    name: _result(name, values, hardness, **options)
    for name, values in accuracy.items()
  }


def _sheet(names=("a", "b")):
  images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8)
  return report.Sheet(
    support_images=images[:2],
    support_labels=np.array([0, 1]),
    query_images=images[2:],
    query_labels=np.array([0, 0, 1, 1]),
    before=np.array([0, 1, 1, 0]),
    after=np.array([0, 0, 1, 0]),
    class_names=tuple(names),
    rule="Episode 3.",
  )


def _number(row, name):
  return {r.name: r for r in report.rows.of_section(row)}[name]


def test_numbers_by_hand():
  row = _number(_section(), "finetune")
  # Mean 0.6; deviations -.1 .2 -.2 .1, variance 0.1 / 4.
  assert row.mean == pytest.approx(0.6)
  assert row.std == pytest.approx(math.sqrt(0.025))
  assert row.ci95 == pytest.approx(1.96 * math.sqrt(0.025) / 2)
  # Differences .1 .2 -.1 .2: mean .1, deviations 0 .1 -.2 .1, variance .015.
  assert row.difference.mean == pytest.approx(0.1)
  assert row.difference.ci95 == pytest.approx(1.96 * math.sqrt(0.015) / 2)
  assert row.difference.num_episodes == 4
  assert _number(_section(), "support_init").difference is None


def test_line_by_hand():
  # (1, .4) (0, .6) (1, .5) (.5, .5): x - .625 gives slope -.1 / .6875.
  line = _number(_section(), "support_init").line
  slope = -0.1 / 0.6875
  assert line.slope == pytest.approx(slope)
  assert line.intercept == pytest.approx(0.5 - 0.625 * slope)
  assert line.area == pytest.approx(100 * line.intercept**2 / (-2 * slope))
  # The line of two protocols is fitted to the episodes of both.
  twice = report.rows.pooled_line([_section(), _section()], "support_init")
  assert twice.slope == pytest.approx(slope)
  assert twice.num_episodes == 8


def test_episodes_that_are_not_finite_are_left_out_in_pairs():
  section = _section(
    {"support_init": [np.nan, 0.6, 0.5, 0.5], "finetune": [0.5, 0.8, np.nan, 1]}
  )
  row = _number(section, "finetune")
  assert (row.num_finite, row.num_non_finite) == (3, 1)
  assert row.mean == pytest.approx(2.3 / 3)
  assert row.difference.num_episodes == 2
  assert row.difference.mean == pytest.approx((0.2 + 0.5) / 2)
  assert "+35.00 ± 20.79 (n = 2)" in report.terminal([section])


@pytest.mark.parametrize("accuracy", [[np.nan] * 3, [0.5]])
def test_what_is_not_defined_is_not_shown_as_a_number(accuracy):
  sections = [_section(dict.fromkeys(ACCURACY, accuracy), hardness=None)]
  summary = report.summary(sections)
  method = summary["sections"][0]["methods"]["finetune"]
  assert method["ci95"] is None
  assert method["std"] is None
  assert method["difference"]["ci95"] is None
  assert method["hardness_line"] is None
  assert (method["mean"] is None) == bool(np.isnan(accuracy[0]))
  json.dumps(summary, allow_nan=False)
  assert "n/a" in report.terminal(sections)
  assert "nan" not in report.terminal(sections)
  ElementTree.fromstring(report.accuracy_by_method(sections))
  assert report.accuracy_against_hardness(sections) is None


def test_without_the_baseline_nothing_is_paired():
  sections = [_section({"finetune": ACCURACY["finetune"]})]
  assert "difference" not in report.terminal(sections)
  assert "difference" not in report.markdown(sections)
  methods = report.summary(sections)["sections"][0]["methods"]
  assert methods["finetune"]["difference"] is None
  assert "paired" not in report.html(
    "t", sections, report.all_figures(sections)
  )


def test_tables_say_all_that_belongs_to_an_accuracy():
  sections = [_section(query_use="all jointly")]
  for text in (
    report.terminal(sections),
    report.markdown(sections),
    report.accuracy_by_method(sections),
  ):
    assert "5-way 1-shot, 2 queries a class, 4 episodes" in text
    assert "60.00 ± 15.50" in text
    assert "support-based initialisation" in text
    assert "all jointly" in text
  for line in report.terminal(sections).splitlines():
    assert len(line) <= 80


def test_markdown_cells_cannot_break_the_table():
  sections = [_section({"a|b\n<i>": ACCURACY["finetune"]})]
  row = report.markdown(sections).splitlines()[4]
  assert row.startswith("| a\\|b &lt;i> | 60.00 ± 15.50 |")


def test_methods_on_other_episodes_are_refused():
  section = _section()
  other = dataclasses.replace(section["finetune"], index=np.arange(4))
  with pytest.raises(types.InputError, match="different episodes"):
    report.terminal([section | {"finetune": other}])
  other = dataclasses.replace(section["finetune"], protocol={"ways": 3})
  with pytest.raises(types.InputError, match="mixes protocols"):
    report.summary([section | {"finetune": other}])
  with pytest.raises(types.InputError, match="no method"):
    report.accuracy_by_method([{}])
  with pytest.raises(types.InputError, match="at least one"):
    report.markdown([])


def test_page_has_every_number_and_fetches_nothing():
  sections = [_section(steps=3), _section({"prototype": [0.2, 0.3]}, [1, 0])]
  figures = report.all_figures(sections, _sheet())
  assert [figure.name for figure in figures] == [
    "accuracy",
    "hardness",
    "curves_5way_1shot",
    "episode",
  ]
  provenance = {"commit": "abc", "runs": [{"jax": "0.10"}, {"jax": "0.11"}]}
  page = report.html("A title", sections, figures, provenance, ["Mind this."])
  for text in (
    *("50.00 ± 6.93", "60.00 ± 15.50", "+10.00 ± 12.00", "25.00 ± 6.93"),
    *("15.81", "7.07", "reference", "nearest prototype", "A title"),
    *("Mind this.", "abc", "1.jax", "0.10", "0.11", "Episode 3."),
    "2 queries a class, 4 episodes",
  ):
    assert text in page, text
  targets = re.findall(r'(?:src|href|action)\s*=\s*["\']?([^"\'\s>]*)', page)
  assert all(t.startswith(("#", "data:image/png;base64,")) for t in targets)
  assert "@import" not in page
  assert re.findall(r"url\((?!#)", page) == []
  assert page.count("<script") == 1
  ids = re.findall(r'\sid="([^"]*)"', page)
  assert len(ids) == len(set(ids))
  assert set(re.findall(r'(?:href="|url\()#([^")]*)', page)) <= set(ids)


def test_names_are_escaped_everywhere():
  sections = [_section({EVIL: ACCURACY["finetune"]}, query_use=EVIL, steps=2)]
  sheet = dataclasses.replace(
    _sheet((EVIL, "猫" * 99)), before_name=EVIL, rule=EVIL
  )
  figures = report.all_figures(sections, sheet)
  page = report.html(EVIL, sections, figures, {EVIL: {EVIL: EVIL}}, [EVIL])
  assert page.count("<script") == 1
  assert page.count(html_lib.escape(EVIL)) > 8
  for figure in figures:
    ElementTree.fromstring(figure.svg)


def test_figures_are_the_same_bytes_under_any_settings():
  matplotlib = pytest.importorskip("matplotlib")
  sections = [_section(steps=3)]
  first = [f.svg for f in report.all_figures(sections, _sheet())]
  with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
    second = [f.svg for f in report.all_figures(sections, _sheet())]
    assert matplotlib.rcParams["font.size"] == 30
  assert first == second
  assert report.svg.WRONG in first[-1]


def test_curves_are_of_methods_that_step():
  assert report.adaptation_curves(_section()) is None
  section = _section(steps=3)
  section["prototype"] = _result("prototype", [0.5] * 4)
  # A non-finite episode leaves every step of its method.
  section["finetune"] = dataclasses.replace(
    section["finetune"], accuracy=np.array([0.5, np.nan, 0.4, 0.7])
  )
  text = report.adaptation_curves(section)
  assert "fine-tuning, n = 3" in text
  assert "prototype" not in text
  assert "Support loss (nats)" in text
  assert "Query entropy" not in text  # NaN throughout


def test_hardness_legend_has_the_area():
  text = report.accuracy_against_hardness([_section()])
  area = _number(_section(), "support_init").line.area
  assert f"support-based initialisation: area {area:.1f} %·nats, n = 4" in text


def test_hardness_has_a_mark_per_method_and_protocol():
  """Of one protocol, one per quarter; the episodes do not cover each other."""
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
  two = report.accuracy_against_hardness([_section(), _section()])
  assert "2 protocols, 4 episodes per protocol" in two


def test_a_line_spans_its_data_within_0_and_100_percent():
  line = hardness_chart.Line("m", -0.2, 0.9, 1.0, 2, low=0.5, high=1.0)
  assert hardness_chart.ends(line) == (
    [0.5, 1.0],
    pytest.approx([80.0, 70.0]),
  )
  nats, percent = hardness_chart.ends(
    line._replace(slope=-0.4, intercept=1.3, high=9.0)
  )
  assert nats == pytest.approx([0.75, 3.25])
  assert percent == pytest.approx([100.0, 0.0])
  assert hardness_chart.ends(hardness_chart.Line("m")) == ([], [])


def test_points_of_categories_or_two_points_are_not_joined():
  points = [
    report.sweep.point(label, place, _section())
    for place, label in enumerate("abc")
  ]
  joined, apart, two = (
    report.sweep.accuracy_along(shown, "x", "t", joined=joined)
    for shown, joined in ((points, True), (points, False), (points[:2], True))
  )
  # The initialisation's dashes, the look of no other line.
  assert "stroke-dasharray: 1.6," in joined
  assert "stroke-dasharray: 1.6," not in apart
  assert "stroke-dasharray: 1.6," not in two


def test_choices_follow_their_rules():
  section = _section()
  # All are called 0, of labels 0 0 1 1 2 2 ...: two are right.
  predictions = np.zeros((4, 10), np.int64)
  predictions[1, 2:9] = [1, 1, 2, 2, 3, 3, 4]  # seven better
  predictions[2, 1:3] = predictions[3, 1:3] = 1  # one better, one worse
  section["finetune"] = dataclasses.replace(
    section["finetune"], predictions=predictions
  )
  choice = report.both_directions(section, "finetune")
  assert choice[:2] == (2, 12)
  assert "predictions 1 become correct, of the correct ones 1" in choice.rule
  # Of 40 queries 7 + 1 + 1 and 1 + 1.
  assert "(in all episodes 22.5 % and 5.0 % of the queries)" in choice.rule
  # Where there is no such episode, the rule says so.
  section["finetune"] = dataclasses.replace(
    section["finetune"], predictions=np.where(predictions > 1, predictions, 0)
  )
  choice = report.both_directions(section, "finetune")
  assert choice[:2] == (1, 11)
  assert "no episode shows both directions" in choice.rule
  # Differences .1 .2 -.1 .2: the lower median is .1.
  choice = report.median_difference(section, "finetune")
  assert choice[:2] == (0, 10)
  assert "+10.0 points" in choice.rule
  with pytest.raises(types.InputError, match="did you mean 'finetune'"):
    report.both_directions(section, "finetunes")
  section["finetune"] = dataclasses.replace(
    section["finetune"], accuracy=np.full(4, np.nan)
  )
  with pytest.raises(types.InputError, match="no episode is finite"):
    report.median_difference(section, "finetune")


def test_sheet_tells_right_from_wrong_without_colour():
  text = report.episode_sheet(_sheet())
  assert "correct 1 → 2 of 2" in text
  assert "correct 1 → 1 of 2" in text
  # Wrong answers, and the key's example, are dashed; four are right.
  assert text.count("stroke-dasharray") == 3 + 1
  assert text.count("data:image/png;base64,") == 6
  assert "a: b, then a" in text


def test_large_sheets_say_what_they_leave_out():
  num_ways, per_way = 40, 30
  labels = np.repeat(np.arange(num_ways), per_way)
  images = np.zeros((len(labels), 4, 4, 3), np.uint8)
  sheet = report.Sheet(
    *(images, labels, images, labels, labels, labels),
    class_names=tuple(map(str, range(num_ways))),
  )
  text = report.episode_sheet(sheet)
  assert "and 28 more classes, not shown" in text
  assert "and 24 more" in text  # support
  assert "and 9 more" in text  # queries


def test_wrong_sheets_are_named():
  good = _sheet()
  with pytest.raises(types.InputError, match=r"after must be \[4\], got \[1\]"):
    dataclasses.replace(good, after=np.zeros(1, int))
  with pytest.raises(types.InputError, match=r"before must lie in \[0, 2\)"):
    dataclasses.replace(good, before=np.full(4, 2))
  with pytest.raises(types.InputError, match="query_images must be"):
    dataclasses.replace(good, query_images=np.zeros((4, 8, 8, 3)))


def test_long_names_are_cut_in_the_middle():
  assert report.svg.fit("short", 100, 9) == "short"
  text = report.svg.fit("sweep_" + "x" * 200 + "_lr_0.1", 100, 9)
  assert text.startswith("sweep_")
  assert text.endswith("lr_0.1")
  assert len(text) < 25
  assert report.svg.fit("wide", 1, 9) == "…"


def test_looks_stay_with_the_method_and_differ():
  alone = report.svg.looks(["finetune"])["finetune"]
  names = ["mine", "finetune", *(f"m{i}" for i in range(12))]
  looks = report.svg.looks(names)
  assert looks["finetune"] == alone
  assert len({(look.colour, str(look.dashes)) for look in looks.values()}) == 14


def test_write_makes_the_files_of_a_run(tmp_path):
  sections = [_section(steps=3)]
  options = {
    "title": "Run",
    "provenance": {"loss": math.inf, "size": np.int64(3), "at": tmp_path},
    "notes": ["A note."],
    "sheet": _sheet(),
  }
  paths = report.write(tmp_path / "run", sections, **options)
  names = [path.relative_to(tmp_path / "run").as_posix() for path in paths]
  assert names == [
    "result.json",
    "figures/accuracy.svg",
    "figures/hardness.svg",
    "figures/curves_5way_1shot.svg",
    "figures/episode.svg",
    "report.html",
  ]
  result = json.loads(paths[0].read_text())
  assert result["provenance"] == {
    "loss": None,
    "size": 3,
    "at": str(tmp_path),
  }
  finetune = result["sections"][0]["methods"]["finetune"]
  assert finetune["mean"] == sections[0]["finetune"].mean
  assert finetune["ci95"] == sections[0]["finetune"].ci95
  before = [path.read_bytes() for path in paths]
  report.write(tmp_path / "run", sections, **options)
  assert [path.read_bytes() for path in paths] == before
  assert list((tmp_path / "run").rglob("*.tmp")) == []


def test_import_does_not_load_matplotlib():
  code = "import sys, fsl_jax.report; sys.exit('matplotlib' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code]).returncode == 0
