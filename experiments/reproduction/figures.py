"""Charts of one cell, each as one SVG document (a string)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax.report import rows as report_rows
from fsl_jax.report import svg
from reproduction import wording

_MARKERS = "osD^vP"
_MANY = 4000  # markers beyond which they are drawn as one picture
_SHOT_SIZES = {1: 3.0, 5: 5.0}  # diameter, points


def figure3(result: wording.Result) -> str:
  """Accuracy against hardness: a marker per episode, a line per variant.

  Colour tells variants, shape ways and size shots; a line spans its data.
  """
  lines = {line["variant"]: line for line in result["lines"]}
  looks = svg.looks(list(lines))
  legend = {name: _line_text(line) for name, line in lines.items()}
  points = result["points"]
  protocols = sorted({(p["ways"], p["shots"]) for p in points})
  markers = dict(zip(sorted({w for w, _ in protocols}), _MARKERS, strict=False))
  total = sum(len(p["hardness"]) for p in points)

  def build(figure):
    panel = figure.subplots()
    for each in points:
      panel.plot(
        *_finite(each),
        linestyle="none",
        marker=markers.get(each["ways"], "x"),
        markersize=_SHOT_SIZES.get(each["shots"], 4.0),
        color=looks[each["variant"]].colour,
        alpha=float(np.clip(500 / max(total, 1), 0.06, 0.4)),
        markeredgewidth=0,
        rasterized=total > _MANY,
      )
    handles = []
    for name, line in lines.items():
      ends = _ends(line, [p for p in points if p["variant"] == name])
      # A white edge lifts the line off the markers.
      panel.plot(*ends, color="white", linewidth=3.6, alpha=0.75)
      handles += panel.plot(
        *ends,
        color=looks[name].colour,
        linestyle=looks[name].dashes,
        linewidth=2.2,
        label=legend[name],
      )
    panel.set_xlabel("Hardness (nats)")
    panel.set_ylabel("Accuracy (%)")
    panel.set_ylim(0, 103)
    panel.grid()
    figure.legend(handles=handles, loc="outside lower left", handlelength=3)
    keys = [
      panel.plot(
        [],
        [],
        linestyle="none",
        marker=markers.get(ways, "x"),
        markersize=_SHOT_SIZES.get(shots, 4.0),
        color=svg.FAINT_INK,
        label=f"{ways} ways, {wording.shots(shots)}",
      )[0]
      for shots in sorted({s for _, s in protocols})
      for ways in markers
      if (ways, shots) in protocols
    ]
    figure.legend(
      handles=keys,
      loc="outside upper left",
      ncols=2,
      handlelength=1,
      title=wording.title(result),
      title_fontproperties={"weight": "bold", "size": 9},
      alignment="left",
    )

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 3.5 + 0.19 * (len(lines) + (len(protocols) + 1) // 2)),
    title=f"Accuracy against hardness: {wording.cell(result)}",
    description="One marker per episode. " + ". ".join(legend.values()) + ".",
  )


def _line_text(line: Mapping[str, Any]) -> str:
  label = svg.fit(report_rows.label(line["variant"]), 150, 8.5)
  n = f"n = {wording.number(line['num_episodes'], ',d')}"
  if not wording.is_number(line["area"]):
    return f"{label}: no area, {n}"
  return f"{label}: area {line['area']:.0f} %·nats, {n}"


def _finite(points: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
  """Hardness and accuracy of the episodes that have both."""
  hardness, accuracy = (
    np.array(points[key], np.float64) for key in ("hardness", "accuracy")
  )
  both = np.isfinite(hardness) & np.isfinite(accuracy)
  return hardness[both], accuracy[both]


def _ends(
  line: Mapping[str, Any], points: Sequence[Mapping[str, Any]]
) -> tuple[Any, Any]:
  """Both ends of a line within its data and 0 to 100 %, or nothing."""
  hardness = np.concatenate([np.empty(0), *(_finite(p)[0] for p in points)])
  slope, intercept = line["slope"], line["intercept"]
  if not len(hardness) or not wording.is_number(slope):
    return [], []
  ends = np.array([hardness.min(), hardness.max()])
  if slope:
    bounds = sorted(((100 - intercept) / slope, -intercept / slope))
    ends = np.clip(ends, *bounds)
  return ends, intercept + slope * ends


_SWEEPS = (
  ("queries", "Queries a class", False),
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
          label=svg.fit(report_rows.label(variant), 200, 8.5),
        )
      if is_log:
        panel.set_xscale("log")
      values = sorted({row[swept] for row in sweep})
      panel.set_xticks(values, [str(value) for value in values])
      panel.minorticks_off()
      panel.set_xlabel(label)
      panel.set_ylabel("Accuracy (%)")
      panel.set_title(_fixed(sweep, swept), fontweight="normal")
      panel.grid()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
      handles,
      labels,
      loc="outside upper left",
      handlelength=3,
      title=wording.title(result),
      title_fontproperties={"weight": "bold", "size": 9},
      alignment="left",
    )
    figure.supxlabel(
      f"Means {svg.INTERVAL}, {wording.counts(result['rows'])}", fontsize=8.5
    )

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 6.6 + 0.19 * len(variants)),
    title=f"Accuracy by queries, ways and shots: {wording.cell(result)}",
    description=" ".join(
      f"{report_rows.label(row['variant'])}, {row['ways']} ways, "
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
    "queries": f"{sweep[0]['queries']} queries a class",
  }
  return ", ".join(text for key, text in texts.items() if key != swept)
