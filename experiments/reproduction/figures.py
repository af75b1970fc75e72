"""Charts of one cell, each as one SVG document (a string)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import adapt
from fsl_jax.report import hardness_chart, svg
from reproduction import wording


def figure3(result: wording.Result) -> str:
  """Accuracy against hardness: a line per variant, marks per protocol."""
  points = result["points"]
  return hardness_chart.draw(
    [
      mark
      for each in points
      for mark in hardness_chart.marks(
        each["variant"],
        f"{each['ways']} ways, {wording.shots(each['shots'])}",
        *_arrays(each),
      )
    ],
    [
      _line(line, [p for p in points if p["variant"] == line["variant"]])
      for line in result["lines"]
    ],
    heading=wording.title(result),
    title=f"Accuracy against hardness: {wording.cell(result)}",
  )


def _arrays(points: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  """Hardness in nats, accuracy in fractions."""
  hardness, accuracy = (
    np.array(points[key], np.float64) for key in ("hardness", "accuracy")
  )
  return hardness, accuracy / 100


def _line(
  line: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> hardness_chart.Line:
  if not wording.is_number(line["slope"]):
    return hardness_chart.Line(line["variant"])
  hardness = np.concatenate([_arrays(p)[0] for p in points])
  return hardness_chart.Line(
    line["variant"],
    *(line["slope"] / 100, line["intercept"] / 100),
    *(line["area"], line["num_episodes"]),
    low=float(np.nanmin(hardness)),
    high=float(np.nanmax(hardness)),
  )


_SWEEPS = (
  ("queries", "Queries per class", False),
  ("ways", "Ways", True),
  ("shots", "Shots", True),
)


def figure2(result: wording.Result) -> str:
  """Accuracy by queries, ways and shots, a panel each, a line per variant."""
  variants = list(dict.fromkeys(row["variant"] for row in result["rows"]))
  looks = svg.looks(variants)

  def build(figure):
    panels = figure.subplots(len(_SWEEPS), 1)
    for panel, (swept, label, is_log) in zip(panels, _SWEEPS, strict=True):
      sweep = _sweep(result["rows"], swept)
      for variant in variants:
        line = [row for row in sweep if row["variant"] == variant]
        panel.errorbar(
          [row[swept] for row in line],
          [row["mean"] for row in line],
          yerr=[row["ci95"] or 0 for row in line],
          color=looks[variant].colour,
          linestyle=looks[variant].dashes,
          linewidth=1.8,
          elinewidth=1.2,
          marker="o",
          markersize=4,
          capsize=3,
          label=svg.fit(adapt.label(variant), 200, 8.5),
        )
      if is_log:
        panel.set_xscale("log")
      values = sorted({row[swept] for row in sweep})
      panel.set_xticks(values, [str(value) for value in values])
      panel.minorticks_off()
      panel.set_xlabel(label)
      panel.set_ylabel("Accuracy (%)")
      panel.set_title(_fixed(sweep, swept))
      panel.grid()
    counts = wording.counts(result["rows"])
    panels[0].set_title(
      f"{wording.title(result, counts)}\n{panels[0].get_title(loc='left')}"
    )
    panels[-1].set_xlabel(f"{_SWEEPS[-1][1]} (means {svg.INTERVAL})")
    svg.legend(figure, panels[0].get_legend_handles_labels()[0])

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 7.0 + svg.LEGEND_LINE_IN * len(variants)),
    title=f"Accuracy by queries, ways and shots: {wording.cell(result)}",
    description=" ".join(
      f"{adapt.label(row['variant'])}, {row['ways']} ways, "
      f"{wording.shots(row['shots'])}, {row['queries']} queries: "
      f"{wording.plus_minus(row['mean'], row['ci95'])} %."
      for row in result["rows"]
    ),
  )


def _sweep(rows: Sequence[Mapping[str, Any]], swept: str) -> list[Any]:
  """The rows in which all but one number is that of most rows, in order."""
  others = [key for key in ("ways", "shots", "queries") if key != swept]

  def fixed(row):
    return tuple(row[key] for key in others)

  groups = [fixed(row) for row in rows]
  usual = max(groups, key=groups.count)
  sweep = [
    row
    for row in rows
    if fixed(row) == usual and wording.is_number(row["mean"])
  ]
  return sorted(sweep, key=lambda row: row[swept])


def _fixed(sweep: Sequence[Mapping[str, Any]], swept: str) -> str:
  """ "5 ways, 15 queries", what the rows of a sweep share."""
  if not sweep:
    return "nothing finite"
  texts = {
    "ways": f"{sweep[0]['ways']} ways",
    "shots": wording.shots(sweep[0]["shots"]),
    "queries": f"{sweep[0]['queries']} queries per class",
  }
  return ", ".join(text for key, text in texts.items() if key != swept)
