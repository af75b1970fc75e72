"""Figures from files of results and of curves, each as one SVG document."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import curve_kinds
import numpy as np

from fsl_jax.report import figures as charts
from fsl_jax.report import hardness_chart, svg, sweep
from reproduction import store, wording

_SHOT_COLOURS = {1: svg.RIGHT, 5: svg.WRONG}
_SWEPT = {"queries": "Queries per class", "ways": "Ways", "shots": "Shots"}


class Figure(NamedTuple):
  """A figure that the results allow; drawn when it is asked for."""

  name: str  # file name without its ending
  block: str  # the block of a document that shows it, if any
  caption: str
  draw: Callable[[], str]


def of_results(results: Sequence[wording.Result]) -> Iterator[Figure]:
  """The figures of the cells, with their captions."""
  table1, ablations = (wording.of(results, t) for t in ("table1", "ablation"))
  if table1:
    yield Figure(
      "against-paper",
      "against_paper",
      "Our accuracy in the colours of the methods, the paper's in grey below; "
      "figures of its appendix were not checked. 95% intervals over episodes.",
      functools.partial(against_paper, table1),
    )
  for result in wording.of(results, "figure2"):
    for swept in _SWEPT if result["rows"] else ():
      yield Figure(
        f"{store.file_name(result)}-{swept}",
        "figure2",
        f"{wording.cell(result)}: accuracy by {_SWEPT[swept].lower()}, "
        f"{wording.counts(result['rows'])} episodes.",
        functools.partial(figure2, result, swept),
      )
  for result in wording.of(results, "figure3"):
    if result["points"]:
      yield Figure(
        store.file_name(result),
        "figure3",
        f"{wording.cell(result)}: accuracy against hardness, means of each "
        "protocol with 95% intervals, lines through the episodes of all, "
        f"{wording.counts(result['lines'])} per line.",
        functools.partial(figure3, result),
      )
  if any(wording.to_reference(result) for result in ablations):
    yield Figure(
      "ablations",
      "ablation_differences",
      "Accuracy of each ablation minus that of the unchanged method on the "
      "same episodes, with 95% intervals.",
      functools.partial(ablation_differences, ablations),
    )


def of_curves(kept: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
  """The figures of curves; documents place them by hand."""
  for curve in kept:
    if curve["curve"] != "hardness":
      yield Figure(curve["file"], "", "", functools.partial(along, curve))
    elif all(point.get("hardness") for point in curve["points"]):
      draw = functools.partial(against_hardness, curve)
      yield Figure(curve["file"], "", "", draw)


def against_paper(results: Sequence[wording.Result]) -> str:
  """Table 1's cells: ours and the paper's with intervals, a panel per cell."""
  panels = []
  for result in results:
    rows = sorted(result["rows"], key=lambda row: row["shots"])
    looks = svg.looks([row["variant"] for row in rows])
    bars = []
    for row in rows:
      label = f"{wording.method(row)}, {wording.shots(row['shots'])}"
      bars.append(_bar(label, row, looks[row["variant"]].colour))
      paper = row["paper"]
      if paper:
        label = "paper" if paper["verified"] else "appendix, unchecked"
        bars.append(_bar(label, paper, svg.FAINT_INK))
    heading = wording.cell(result, wording.counts(result["rows"]))
    panels.append((heading, bars))
  return charts.intervals(
    panels, x_label="Accuracy (%)", title="Accuracy beside the paper's"
  )


def ablation_differences(results: Sequence[wording.Result]) -> str:
  """Paired differences to the reference, a panel per data set and network."""
  groups: dict[str, list[Mapping[str, Any]]] = {}
  for result in results:
    if pairs := wording.to_reference(result):
      groups.setdefault(wording.cell(result), []).extend(pairs)

  def bar(pair):
    change, shots = pair["variant"].replace("_", " "), pair["shots"]
    colour = _SHOT_COLOURS.get(shots, svg.INK)
    return _bar(f"{change}, {wording.shots(shots)}", pair, colour, "+z.2f")

  return charts.intervals(
    [
      (f"{name}, {wording.counts(pairs)}", list(map(bar, pairs)))
      for name, pairs in groups.items()
    ],
    x_label="Difference in accuracy (pp)",
    title="Ablations: difference to the reference",
    with_zero=True,
  )


def _bar(
  label: str, row: Mapping[str, Any], colour: str, form: str = ".2f"
) -> charts.Bar:
  """`mean` and `ci95` of a row, percent."""
  numbers = wording.plus_minus(row["mean"], row["ci95"], form)
  return charts.Bar(label, *_fractions(row), colour, numbers)


def _fractions(row: Mapping[str, Any]) -> tuple[float, float]:
  """`mean` and `ci95` of a row in percent; NaN for None."""
  mean, ci95 = (
    math.nan if row[key] is None else row[key] / 100 for key in ("mean", "ci95")
  )
  return mean, ci95


def figure2(result: wording.Result, swept: str) -> str:
  """Accuracy by queries, ways or shots, the others as in most rows."""
  others = [key for key in _SWEPT if key != swept]

  def fixed(row):
    return tuple(row[key] for key in others)

  groups = [fixed(row) for row in result["rows"]]
  usual = max(groups, key=groups.count)

  def at(rows, value):
    return [r for r in rows if fixed(r) == usual and r[swept] == value]

  points = []
  for value in sorted({r[swept] for r in result["rows"] if fixed(r) == usual}):
    rows = at(result["rows"], value)
    gains = {
      pair["variant"]: _fractions(pair)
      for pair in at(result["paired"], value)
      if pair["against"] == "support_init"
    }
    methods = {
      name: sweep.Estimate(*_fractions(row), gains.get(name))
      for row in rows
      if wording.is_number(row["mean"])
      for name in [row["variant"]]
    }
    count = min(row["num_episodes"] for row in rows)
    points.append(sweep.Point(str(value), math.log2(value), methods, count))
  heading = wording.cell(result, wording.counts(result["rows"]))
  return sweep.accuracy_along(points, _SWEPT[swept], heading, joined=True)


def along(curve: Mapping[str, Any]) -> str:
  """Accuracy along a curve of `curves.py`."""
  kind = curve_kinds.CURVES[curve["curve"]]
  labels = [point["label"] for point in curve["points"]]
  points = []
  for point, place in zip(curve["points"], kind.places(labels), strict=True):
    methods = {}
    for name, row in point["methods"].items():
      found = row["difference"]
      methods[name] = sweep.Estimate(
        row["mean"], row["ci95"], found and (found["mean"], found["ci95"])
      )
    count = min(row["num_finite"] for row in point["methods"].values())
    points.append(sweep.Point(point["label"], place, methods, count))
  return sweep.accuracy_along(
    points, kind.axis, wording.curve_title(curve), joined=kind.logarithmic
  )


def against_hardness(curve: Mapping[str, Any]) -> str:
  """Accuracy against hardness of `curves.py`."""
  spans = [point["hardness"] for point in curve["points"]]
  span = {
    "low": min(s["min"] for s in spans),
    "high": max(s["max"] for s in spans),
  }
  keys = ("slope", "intercept", "area", "num_episodes")
  marks = [
    hardness_chart.Mark(
      *(name, point["label"], point["hardness"]["mean"]),
      *(row["mean"], row["ci95"]),
    )
    for point in curve["points"]
    for name, row in point["methods"].items()
  ]
  lines = [
    hardness_chart.Line(name, **{k: line[k] for k in keys}, **span)
    if line
    else hardness_chart.Line(name)
    for name, line in curve["lines"].items()
  ]
  return _hardness(marks, lines, wording.curve_title(curve))


def figure3(result: wording.Result) -> str:
  """Accuracy against hardness: a line per variant, marks per protocol."""
  marks, lines = [], []
  spans: dict[str, list[float]] = {}
  for point in result["points"]:
    nats, percent = (
      np.array(point[key], np.float64) for key in ("hardness", "accuracy")
    )
    protocol = f"{point['ways']} ways, {wording.shots(point['shots'])}"
    marks += hardness_chart.marks(
      point["variant"], protocol, nats, percent / 100
    )
    spans.setdefault(point["variant"], []).extend(nats[np.isfinite(nats)])
  for line in result["lines"]:
    name = line["variant"]
    if not wording.is_number(line["slope"]):
      lines.append(hardness_chart.Line(name))
      continue
    fractions = line["slope"] / 100, line["intercept"] / 100
    lines.append(
      hardness_chart.Line(
        *(name, *fractions, line["area"], line["num_episodes"]),
        *(float(end(spans[name])) for end in (min, max)),
      )
    )
  return _hardness(marks, lines, wording.cell(result))


def _hardness(
  marks: Sequence[hardness_chart.Mark],
  lines: Sequence[hardness_chart.Line],
  heading: str,
) -> str:
  title = f"Accuracy against hardness: {heading}"
  return hardness_chart.draw(marks, lines, heading=heading, title=title)
