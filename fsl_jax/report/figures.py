"""Charts of results, each as one SVG document (a string).

Matplotlib is loaded when a figure is drawn, not when this module is imported.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fsl_jax.report import intervals, rows, svg, text

_MARKERS = "osD^vP*X"
_MANY = 4000  # markers beyond which they are drawn as one picture


def accuracy_by_method(sections: Sequence[rows.Section]) -> str:
  """Mean accuracy and its 95 % interval per method, a panel per protocol.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  looks = svg.looks(rows.method_names(sections))
  found = [rows.of_section(section) for section in sections]
  headings = [text.heading(section) for section in sections]

  def of_row(row: rows.Row) -> intervals.Row:
    numbers = text.plus_minus(row.mean, row.ci95)
    if row.num_non_finite:
      numbers += f"  (n = {row.num_finite})"
    return intervals.Row(
      row.label,
      numbers,
      row.mean,
      row.ci95,
      looks[row.name].colour,
      note=f"queries used: {row.query_use}",
    )

  return intervals.draw(
    [
      intervals.Panel(heading, [of_row(row) for row in section_rows])
      for heading, section_rows in zip(headings, found, strict=True)
    ],
    x_label="Accuracy (%)",
    title="Accuracy by method",
    description=" ".join(
      f"{heading}: "
      + "; ".join(
        f"{row.label} {text.plus_minus(row.mean, row.ci95)} %"
        for row in section_rows
      )
      + "."
      for heading, section_rows in zip(headings, found, strict=True)
    ),
  )


def accuracy_against_hardness(sections: Sequence[rows.Section]) -> str | None:
  """A marker per episode, a least-squares line per method (Figure 3).

  Colours tell methods, shapes of markers tell protocols; a line is fitted to
  a method's episodes of all protocols. The legend has the area under it.

  Returns:
    None if no episode has a finite hardness and accuracy.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  names = rows.method_names(sections)
  if not any(
    (np.isfinite(result.hardness) & np.isfinite(result.accuracy)).any()
    for section in sections
    for result in section.values()
  ):
    return None
  looks = svg.looks(names)
  legend = {name: _line_text(sections, name) for name in names}
  num_keys = len(names) + math.ceil(len(sections) / 2) + 1

  def build(figure):
    panel = figure.subplots()
    _episodes(panel, sections, looks)
    handles = []
    for name in names:
      ends = _line_ends(sections, name)
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
    panel.set_ylim(top=103)
    panel.grid()
    figure.legend(handles=handles, loc="outside lower left", handlelength=3)
    if len(sections) > 1:
      figure.legend(
        handles=_protocol_keys(panel, sections),
        loc="outside upper left",
        ncols=2,
        handlelength=1,
      )
    panel.set_title(episode_count(sections), loc="right", fontweight="normal")

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 3.2 + 0.2 * num_keys),
    title="Accuracy against hardness",
    description="One marker per episode. " + ". ".join(legend.values()) + ".",
  )


def _episodes(panel: Any, sections: Sequence[rows.Section], looks: Any) -> None:
  total = sum(r.num_episodes for s in sections for r in s.values())
  for number, section in enumerate(sections):
    for name, result in section.items():
      panel.plot(
        result.hardness,
        100 * result.accuracy,
        linestyle="none",
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4.2 if total < 1000 else 3,
        color=looks[name].colour,
        alpha=0.45 if total < 1000 else 0.25,
        markeredgewidth=0,
        rasterized=total > _MANY,
      )


def _protocol_keys(panel: Any, sections: Sequence[rows.Section]) -> list[Any]:
  short = [text.short_heading(section) for section in sections]
  keys = []
  for number, section in enumerate(sections):
    keys += panel.plot(
      [],
      [],
      linestyle="none",
      marker=_MARKERS[number % len(_MARKERS)],
      color=svg.FAINT_INK,
      # Protocols may differ in their queries alone.
      label=short[number]
      if short.count(short[number]) == 1
      else svg.fit(rows.first(section).protocol_text, 140, 8.5),
    )
  return keys


def episode_count(sections: Sequence[rows.Section]) -> str:
  """ "100 episodes per protocol"; their sum where they differ."""
  counts = [rows.first(section).num_episodes for section in sections]
  if len(set(counts)) == 1:
    each = " per protocol" if len(counts) > 1 else ""
    return text.counted(counts[0], "episode") + each
  return text.counted(sum(counts), "episode")


def _line_text(sections: Sequence[rows.Section], name: str) -> str:
  line = rows.pooled_line(sections, name)
  label = svg.fit(rows.label(name), 150, 8.5)
  if line is None:
    return f"{label}: no line"
  if math.isnan(line.area):
    return f"{label}: no area, n = {line.num_episodes}"
  return f"{label}: area {line.area:.1f} %·nats, n = {line.num_episodes}"


def _line_ends(
  sections: Sequence[rows.Section], name: str
) -> tuple[list[float], list[float]]:
  """Hardness and percent at both ends of a method's line, or nothing."""
  line = rows.pooled_line(sections, name)
  if line is None:
    return [], []
  hardness = np.concatenate([s[name].hardness for s in sections if name in s])
  ends = [float(np.nanmin(hardness)), float(np.nanmax(hardness))]
  return ends, [100 * (line.intercept + line.slope * end) for end in ends]
