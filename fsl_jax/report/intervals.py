"""Means with their intervals: a panel per protocol, in it a row per method."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fsl_jax.report import svg


class Row(NamedTuple):
  """What is drawn of one method; fractions."""

  label: str
  numbers: str  # the same in words, at the right
  mean: float
  ci95: float
  colour: str
  note: str = ""


class Panel(NamedTuple):
  """The methods of one protocol."""

  heading: str
  rows: Sequence[Row]


class _Places(NamedTuple):
  """Heights in a row that is 1 high and centred at 0, downwards."""

  label: float
  mark: float
  note: float = 0.0


_PLAIN, _WITH_NOTES = _Places(-0.25, 0.15), _Places(-0.34, 0.24, -0.07)


def draw(
  panels: Sequence[Panel],
  *,
  x_label: str,
  title: str,
  description: str,
  with_zero: bool = False,
) -> str:
  """The figure as SVG.

  Args:
    panels: from the top.
    x_label: of all.
    title: as `svg.draw`.
    description: as `svg.draw`.
    with_zero: draws a line at 0, as of differences; else a panel without any
      finite mean shows 0 to 100 %.
  """
  has_notes = any(row.note for panel in panels for row in panel.rows)
  headings = [svg.title_lines(panel.heading) for panel in panels]
  heights = [
    (0.56 if has_notes else 0.42) * len(panel.rows)
    + 0.34
    + svg.TITLE_LINE_IN * heading.count("\n")
    for panel, heading in zip(panels, headings, strict=True)
  ]

  def build(figure: Any) -> None:
    axes = figure.subplots(
      len(panels), 1, sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for panel, heading, own in zip(panels, headings, axes, strict=True):
      own.set_title(heading, pad=8)
      if with_zero:
        own.axvline(0, color=svg.FAINT_INK, linewidth=1)
      elif not any(math.isfinite(row.mean) for row in panel.rows):
        own.set_xlim(0, 100)
      _rows(own, panel.rows, _WITH_NOTES if has_notes else _PLAIN)
    for own in axes[:-1]:
      own.tick_params(axis="x", length=0)
      own.spines["bottom"].set_visible(False)
    axes[-1].set_xlabel(f"{x_label}, mean {svg.INTERVAL}")

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, sum(heights) + 0.55),
    title=title,
    description=description,
  )


def _rows(axes: Any, rows: Sequence[Row], places: _Places) -> None:
  # The label stands above its interval: beside it, the longest would take half
  # of the width of a phone.
  words = {
    "transform": axes.get_yaxis_transform(),
    "va": "center",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
    "in_layout": False,
  }
  for y, row in enumerate(rows):
    label = svg.fit(row.label, 72 * svg.WIDTH_IN - 130, 9)
    axes.text(0.0, y + places.label, label, ha="left", **words)
    axes.text(1.0, y + places.label, row.numbers, ha="right", **words)
    if row.note:
      axes.text(
        0.0,
        y + places.note,
        svg.fit(row.note, 72 * svg.WIDTH_IN - 8, 8),
        ha="left",
        fontsize=8,
        color=svg.FAINT_INK,
        **words,
      )
    if math.isfinite(row.mean):
      axes.errorbar(
        100 * row.mean,
        y + places.mark,
        xerr=100 * row.ci95 if math.isfinite(row.ci95) else None,
        color=row.colour,
        marker="o",
        markersize=5.5,
        capsize=4,
        elinewidth=1.8,
        capthick=1.8,
      )
  axes.set_ylim(len(rows) - 0.5, -0.55)
  axes.set_yticks([])
  axes.spines["left"].set_visible(False)
  axes.grid(axis="x")
  axes.margins(x=0.06)
