"""Deeper parts of a report: behaviour, classes, extremes, sorting, two runs."""

import base64
import dataclasses
import hashlib
import html as html_lib
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from fsl_jax import report, types
from fsl_jax.report import behaviour, classes, comparison, table, text

EVIL = "a <script>alert('1')</script> & \"b\" $x_1$"
NAMES = tuple("ABCDE")

# Two ways, two queries a class; data set classes 3 and 1, then 0 and 3. The
# last place of each row is padding.
CLASS_IDS = [[3, 1, -1], [0, 3, -1]]
LABELS = [[0, 0, 1, 1, -1], [0, 0, 1, 1, -1]]
BEFORE = [[0, 1, 1, 1, -1], [0, 1, 0, 1, -1]]
AFTER = [[0, 0, 1, 1, -1], [0, 0, 0, 0, -1]]


def _result(method, predictions, hardness=(0.5, 2.0), **changes):
  labels = np.array(changes.get("labels", LABELS))
  right = (np.array(predictions) == labels) & (labels >= 0)
  fields = {
    "method": method,
    "query_use": "nothing",
    "protocol": {"ways": [2, 3], "shots": "any"},
    "protocol_name": "2 to 3 ways, any shots",
    "protocol_text": "2 queries a class",
    "index": np.arange(7, 9),
    "digests": np.arange(7, 9).astype(str),
    "class_ids": np.array(CLASS_IDS),
    "labels": labels,
    "accuracy": right.sum(1) / 4,
    "hardness": np.array(hardness),
    "predictions": np.array(predictions),
    "initial_predictions": np.array(BEFORE),
    "support_accuracy": np.array([1.0, 0.5]),
    "curves": {},
  }
  return types.EvalResult(**fields | changes)


def _section(**changes):
  return {
    "support_init": _result("support_init", BEFORE, **changes),
    "finetune": _result("finetune", AFTER, **changes),
  }


def _exhibit(ways=2, names=("a", "b")):
  labels = np.repeat(np.arange(ways), 9)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (len(labels), 84, 84, 3), np.uint8)
  return report.Exhibit(images, labels, images, labels, tuple(names))


def _galleries(section, **exhibit):
  return [
    report.Gallery(selection, [_exhibit(**exhibit)] * len(selection.episodes))
    for selection in report.extremes(section)
  ]


def _long(num_episodes, shift, seed):
  """A section of more episodes, of which `shift` is added to the accuracy."""
  accuracy = np.random.default_rng(seed).uniform(0.4, 0.6, num_episodes)
  repeated = {
    name: np.repeat(np.array(value)[:1], num_episodes, 0)
    for name, value in {
      "class_ids": CLASS_IDS,
      "labels": LABELS,
      "initial_predictions": BEFORE,
      "support_accuracy": [1.0],
    }.items()
  }
  return {
    name: _result(
      name,
      AFTER[:1] * num_episodes,
      index=np.arange(num_episodes),
      hardness=np.linspace(0, 1, num_episodes),
      accuracy=accuracy + more,
      **repeated,
    )
    for name, more in {"support_init": 0.0, "finetune": shift}.items()
  }


def test_behaviour_by_hand():
  found = behaviour.of_result(_section()["finetune"])
  # Changed: one of four (wrong to right), then queries 2 and 4 of four, the
  # one for the better, the other for the worse.
  assert found["changed"] == pytest.approx((1 / 4 + 2 / 4) / 2)
  assert found["better"] == pytest.approx((1 / 4 + 1 / 4) / 2)
  assert found["worse"] == pytest.approx((0 + 1 / 4) / 2)
  assert found["support_accuracy"] == pytest.approx(0.75)
  # Both classes equally often, then one class only.
  assert found["effective_ways"] == pytest.approx((2 + 1) / 2)
  assert found["true_effective_ways"] == pytest.approx(2)
  shown = behaviour.behaviour(_section()).rows[1]
  assert [cell.text for cell in shown[:6]] == [
    *("fine-tuning", "75.0", "37.5", "25.0", "12.5"),
    "1.50 of 2.00",
  ]


def test_collapse_is_marked_and_said():
  labels = np.array([[0, 1, 2], [0, 1, 2]])
  section = {
    "finetune": _result(
      "finetune",
      [[0, 1, 2], [1, 1, 1]],
      labels=labels,
      class_ids=np.array([[3, 1, 2], [0, 3, 4]]),
      initial_predictions=labels,
    )
  }
  assert behaviour.behaviour(section).rows[0][-1] == ("▲ 1 of 2", 1, "")
  output = report.terminal([section])
  assert "fine-tuning in 1 of 2" in output
  assert all(len(line) <= 80 for line in output.splitlines())
  assert "▲ 1 of 2" in report.html("t", [section])
  assert "Collapsed" not in report.terminal([_section()])


def test_classes_by_hand():
  found = classes.of_section(_section(), NAMES)
  # After adaptation: D has 2 of 2 and 0 of 2, B 2 of 2, A 2 of 2.
  assert [(row.name, row.num_queries) for row in found] == [
    *(("D", 4), ("A", 2), ("B", 2)),
  ]
  assert found[0].accuracy == {"support_init": 0.5, "finetune": 0.5}
  assert found[1].accuracy == {"support_init": 0.5, "finetune": 1.0}
  with pytest.raises(types.InputError, match="got 3 names, but an episode has"):
    classes.of_section(_section(), "ABC")


def test_many_classes_show_both_ends():
  many = [
    classes.ClassRow(f"c{i}", {"finetune": i / 150}, 9) for i in range(150)
  ]
  shown, note = classes.classes(many)
  names = [row[0].text for row in shown.rows]
  assert names[:50] == [f"c{i}" for i in range(50)]
  assert names[50:] == [f"c{i}" for i in range(100, 150)]
  assert "The 50 worst and the 50 best of 150 classes by fine-tuning" in note
  shown, note = classes.classes(many[:100])
  assert len(shown.rows) == 100
  assert note == "100 classes, worst first by fine-tuning."


def test_headings_come_from_the_protocols_own_words():
  heading = "2 to 3 ways, any shots, 2 queries a class, 2 episodes"
  for shown in (
    report.terminal([_section()]),
    report.markdown([_section()]),
    report.html("t", [_section()], report.all_figures([_section()])),
  ):
    assert heading in shown
  summary = report.summary([_section()])
  assert summary["sections"][0]["protocol"] == {
    "ways": [2, 3],
    "shots": "any",
  }


def test_figures_of_any_protocol_have_plain_file_names(tmp_path):
  curve = {"support_loss": np.ones((2, 3))}
  section = _section(curves=curve, protocol_name="../5 ways; Meta's / shots")
  paths = report.write(tmp_path, [section, section], title="t")
  names = [path.name for path in paths if path.name.startswith("curves")]
  assert names == [
    "curves_5_ways_Meta_s_shots.svg",
    "curves_5_ways_Meta_s_shots_2.svg",
  ]


def test_json_has_everything():
  section = _long(30, 0.1, 0)
  summary = report.summary([section, section], NAMES)
  json.dumps(summary, allow_nan=False)
  method = summary["sections"][0]["methods"]["finetune"]
  assert method["median"] == np.median(section["finetune"].accuracy)
  # Thirty episodes: the worst 5 % are the ceil(1.5) = 2 worst.
  worst = np.sort(section["finetune"].accuracy)[:2].mean()
  assert method["worst"] == pytest.approx(worst)
  assert method["difference"]["wins"] == 30
  assert {"p_t", "p_wilcoxon"} <= method["difference"].keys()
  assert method["class_interval"].keys() == {"low", "high", "num_classes"}
  assert method["diagnosis"]["num_collapsed"] == 0
  assert [row["name"] for row in summary["sections"][0]["classes"]]


def test_slopes_are_pooled_and_by_protocol():
  x = np.linspace(0, 1, 30)

  def falls(start):
    result = _long(30, 0, 0)["finetune"]
    return {
      "finetune": dataclasses.replace(
        result, hardness=x + start, accuracy=0.8 - 0.4 * x + 0.1 * start
      )
    }

  sections = [falls(0.0), falls(1.0)]
  summary = report.summary(sections)
  for shown in summary["sections"]:
    line = shown["methods"]["finetune"]["hardness_line"]
    assert line["slope"] == pytest.approx(-0.4)
    # Every episode lies on the line, so does every resample.
    assert line["interval"]["slope"] == pytest.approx([-0.4, -0.4])
  pooled = summary["hardness_lines"]["finetune"]
  assert pooled["slope"] > -0.2
  low, high = pooled["interval"]["slope"]
  assert low < pooled["slope"] < high
  caption = report.all_figures(sections)[1].caption
  shown = f" {100 * pooled['slope']:.1f} ({100 * low:.1f} to "
  assert "fine-tuning" + shown.replace("-", "−") in caption
  assert "30 episodes per protocol" in caption


def test_extremes_follow_their_rule():
  hardness = np.array([1.0, 3.0, np.nan, 3.0, 0.0, 2.0, 0.0])
  section = {
    name: dataclasses.replace(result, hardness=hardness)
    for name, result in _long(7, 0.1, 0).items()
  }
  hardest, easiest = report.extremes(section, 2)
  assert hardest.positions == (1, 3)
  assert easiest.positions == (4, 6)
  assert "The 2 hardest episodes of 6 by hardness" in hardest.rule
  # Six are known: no episode is shown at both ends.
  hardest, easiest = report.extremes(section, 9)
  assert set(hardest.positions) | set(easiest.positions) == {0, 1, 3, 4, 5, 6}
  assert hardest.words[0][0] == "Episode 1, hardness 3.00 nats"


def test_extremes_go_by_the_baseline_without_hardness():
  section = _section(hardness=[np.nan, np.nan])
  hardest, easiest = report.extremes(section)
  # The baseline has 3 of 4, then 2 of 4.
  assert (hardest.episodes, easiest.episodes) == ((8,), (7,))
  assert "accuracy of support-based initialisation" in hardest.rule
  gone = _section(hardness=[np.nan] * 2, accuracy=np.full(2, np.nan))
  with pytest.raises(types.InputError, match="no episode has a hardness"):
    report.extremes(gone)


def test_thumbnails_are_few_and_small():
  gallery = _galleries(_section(), ways=8, names=(EVIL, *"bcdefgh"))[0]
  drawn = report.episode_thumbnails(gallery)
  ElementTree.fromstring(drawn)
  assert "and 2 more classes, not shown" in drawn
  assert drawn.count("data:image/png;base64,") == 6 * (3 + 5)
  # Noise, which compresses worst; three such episodes on a page at each end.
  assert 6 * len(drawn) < 2_000_000
  assert drawn == report.episode_thumbnails(gallery)
  with pytest.raises(types.InputError, match="of 1 episodes needs as many"):
    report.Gallery(gallery.selection, [])


def test_policy_lets_the_one_script_run_and_no_other():
  section = {EVIL: _result(EVIL, AFTER, protocol_name=EVIL)}
  names = [EVIL] * 5
  figures = report.all_figures([section], galleries=_galleries(section))
  page = report.html(EVIL, [section], figures, class_names=names)
  scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
  assert scripts == [report.sorting.SCRIPT]
  digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest())
  policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
  rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
  assert rules["script-src"] == f"'sha256-{digest.decode()}'"
  assert rules["default-src"] == "'none'"
  assert not re.search(r"\son[a-z]+\s*=", page.split("<script>")[0])
  assert html_lib.escape(EVIL) in page


def test_columns_without_anything_are_left_out():
  columns = [table.Column(name) for name in ("method", "empty", "full")]
  shown = table.Table(
    columns,
    [
      [table.Cell("a"), table.Cell(""), table.Cell("1", 1)],
      [table.Cell("b"), table.Cell("", math.nan), table.Cell("", math.nan)],
    ],
  )
  for words in (
    table.html(shown, "t"),
    table.markdown(shown),
    "\n".join(table.lines(shown)),
  ):
    assert "empty" not in words
    assert "full" in words
  # Nothing to compare with: no difference, no p.
  alone = {"support_init": _section()["support_init"]}
  assert "difference" not in report.html("t", [alone])


def test_the_first_sentence_has_network_data_and_outcome():
  section = _long(40, 0.0, 0)

  def gaining(low, high):
    more = section["finetune"].accuracy + np.linspace(low, high, 40)
    better = dataclasses.replace(section["finetune"], accuracy=more)
    return section | {"finetune": better}

  def lead(*sections):
    page = report.html("t", list(sections), subject="net on data")
    return html_lib.unescape(re.search(r'class="lead">([^<]*)<', page)[1])

  better = gaining(0.05, 0.15)
  row = report.rows.of_section(better)[1]
  first, rest = lead(better).split(" %, ")
  assert first.startswith("net on data: in 2 to 3 ways, any shots episodes ")
  assert f"fine-tuning has the highest accuracy, {100 * row.mean:.2f}" in first
  assert rest.startswith("+10.00 ± 0.92 pp against support-based initial")
  assert "not significantly different" not in rest
  assert "(not significantly different)" in lead(gaining(-0.1, 0.11))
  words = lead(*[better] * 3, gaining(-0.2, -0.1))
  assert "of 4 protocols the highest accuracy is that of" in words
  assert "fine-tuning in 3, support-based initialisation in 1" in words


def test_accuracy_and_its_difference_come_first():
  """A phone shows two columns beside the method."""
  page = report.html("t", [_section()])
  heads = re.findall(r'<th scope="col">(\w+)', page)
  assert heads[:3] == ["method", "accuracy", "difference"]
  both = comparison.comparison((_section(), _section()), ("A", "B"))
  assert [c.plain for c in both.columns[:3]] == ["method", "difference", "A"]


def test_cells_are_sorted_by_numbers():
  shown = table.Table(
    [table.Column("name"), table.Column("x"), table.Column("y")],
    [
      [table.Cell("a"), table.Cell("-1.00 ± 2", -0.01), table.Cell("b <")],
      [table.Cell("c"), table.Cell("n/a", math.nan), table.Cell("d")],
    ],
  )
  page = table.html(shown, "t")
  assert '<td data-value="-0.01">−1.00 ± 2</td>' in page
  assert '<td data-value="">n/a</td>' in page
  assert '<td class="words">b &lt;</td>' in page


@pytest.mark.parametrize(
  ("p", "shown", "phrase"),
  [
    (0.0004, "< 0.001", "p < 0.001"),
    (0.034, "0.034", "p = 0.034"),
    (0.617, "0.62", "p = 0.62"),
    (math.nan, "n/a", "p not defined"),
  ],
)
def test_p_in_words(p, shown, phrase):
  assert text.p_value(p) == shown
  assert text.p_phrase(p) == phrase


def test_comparison_by_hand():
  first, second = _section(), _section()
  accuracy = np.array([0.5, 0.25])
  second["finetune"] = dataclasses.replace(
    second["finetune"], accuracy=accuracy
  )
  second["mine"] = second["finetune"]
  result = report.comparison_json([(first, second)], ("x", "y"))
  methods = result["sections"][0]["methods"]
  assert methods.keys() == {"support_init", "finetune"}
  # 1 and .5 against .5 and .25: differences .5 and .25, mean .375, sd .125.
  found = methods["finetune"]["difference"]
  assert found["mean"] == pytest.approx(0.375)
  assert found["ci95"] == pytest.approx(1.96 * 0.125 / math.sqrt(2))
  assert (found["wins"], found["ties"], found["losses"]) == (2, 0, 0)
  assert methods["support_init"]["difference"]["ties"] == 2
  # t = .375 / (.125 sqrt(2) / sqrt(2)) = 3 with one degree of freedom:
  # p = 1 - 2 atan(3) / pi.
  assert found["p_t"] == pytest.approx(1 - 2 * math.atan(3) / math.pi)
  assert methods["finetune"]["verdict"] == (
    "not significantly different: +37.50 ± 17.32 pp (p = 0.20)"
  )


def test_comparison_says_which_is_better():
  first, second = _long(40, 0.0, 1), _long(40, 0.0, 2)
  better = dataclasses.replace(
    first["finetune"],
    accuracy=second["finetune"].accuracy + np.linspace(0.1, 0.2, 40),
  )
  pairs = [(first | {"finetune": better}, second)]
  output = report.comparison_terminal(pairs, ("this one", "that one, and more"))
  assert "fine-tuning: this one is better by 15.00 ± 0.92 pp" in output
  words = " ".join(output.split())
  # All episodes are of the same classes, so of others nothing is known.
  assert (
    "(p < 0.001) on these classes, not surely on others; 40 won, 0 tied, 0 "
    "lost; with classes n/a." in words
  )
  assert "queries used:" in words
  assert all(len(line) <= 80 for line in output.splitlines())
  alike = ("conv64, seed 0, fine-tuning", "conv64, seed 1, fine-tuning")
  assert "method " in (text := report.comparison_terminal(pairs, alike))
  assert "first" in text.splitlines()[4]
  turned = [(b, a) for a, b in pairs]
  assert "B is better by 15.00" in report.comparison_terminal(turned)


def test_runs_that_cannot_be_compared_are_refused():
  section = _section()

  def fails(match, other, names=("A", "B")):
    with pytest.raises(types.InputError, match=match):
      report.comparison_json([(section, other)], names)

  fails("'A' twice", section, ("A", "A"))
  fails("mixes protocols", _section(protocol={"ways": 4}))
  fails("index of", _section(index=np.arange(2)))
  fails("digests of", _section(digests=np.array(["a", "b"])))
  fails("no method is in both", {"mine": section["finetune"]})
  with pytest.raises(types.InputError, match="at least one pair"):
    report.comparison_terminal([])


def test_comparison_files(tmp_path):
  names = (EVIL, "other")
  section = {EVIL: _result(EVIL, AFTER)}
  options = {
    "title": EVIL,
    "provenance_a": {"commit": "abc", "loss": math.nan},
    "provenance_b": {EVIL: [1, 2]},
    "names": names,
  }
  paths = report.write_comparison(
    tmp_path / "both", [(section, section)], **options
  )
  assert [path.relative_to(tmp_path / "both").as_posix() for path in paths] == [
    "comparison.json",
    "figures/differences.svg",
    "comparison.html",
  ]
  result = json.loads(paths[0].read_text())
  assert result["provenance"][EVIL] == {"commit": "abc", "loss": None}
  ElementTree.fromstring(paths[1].read_text())
  page = paths[2].read_text()
  assert page.count("<script") == 1
  assert html_lib.escape(EVIL) in page
  assert "abc" in page
  assert "; 2 episodes. Dot" in page
  targets = re.findall(r'(?:src|href|action)\s*=\s*["\']?([^"\'\s>]*)', page)
  assert all(target.startswith("#") for target in targets)
  before = [path.read_bytes() for path in paths]
  report.write_comparison(tmp_path / "both", [(section, section)], **options)
  assert [path.read_bytes() for path in paths] == before
