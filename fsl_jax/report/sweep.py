"""How accuracy changes with one number of the protocol: a figure."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fsl_jax.report import figures, rows, svg, text


class Point(NamedTuple):
  """One protocol of a sweep."""

  label: str  # on the axis
  place: float  # along it
  section: rows.Section


def accuracy_along(points: Sequence[Point], axis: str, title: str) -> str:
  """Accuracy of each method above, its difference to the baseline below.

  Args:
    points: in the order of `place`.
    axis: name of what is varied, with its unit.
    title: of the figure: data set, network.

  Raises:
    InputError: as `rows.check`.
  """
  sections = [point.section for point in points]
  rows.check(sections)
  names = rows.method_names(sections)
  looks = svg.looks(names)
  others = [name for name in names if name != rows.BASELINE]
  paired = rows.BASELINE in names and bool(others)
  of_section = [
    {row.name: row for row in rows.of_section(section)} for section in sections
  ]

  def build(figure):
    panels = figure.subplots(
      1 + paired,
      1,
      sharex=True,
      squeeze=False,
      height_ratios=[1.4, 1][: 1 + paired],
    )[:, 0]
    handles = [
      _line(
        panels[0],
        [(p.place, r[name].mean, r[name].ci95) for p, r in _with(name)],
        looks[name],
        number,
        len(names),
        rows.label(name),
      )
      for number, name in enumerate(names)
    ]
    panels[0].set_title(title)
    panels[0].set_ylabel("Accuracy (%)")
    if paired:
      panels[1].axhline(0, color=svg.FAINT_INK, linewidth=1)
      for name in others:
        _line(
          panels[1],
          [
            (p.place, r[name].difference.mean, r[name].difference.ci95)
            for p, r in _with(name)
            if r[name].difference is not None
          ],
          looks[name],
          names.index(name),
          len(names),
        )
      panels[1].set_ylabel("Minus initialisation\n(points)")
    for panel in panels:
      panel.grid()
    panels[-1].set_xticks([p.place for p in points], [p.label for p in points])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel(axis)
    figure.legend(handles=handles, loc="outside lower left", handlelength=3)
    figure.align_ylabels()

  def _with(name):
    return [
      (p, r) for p, r in zip(points, of_section, strict=True) if name in r
    ]

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, (4.3 if paired else 2.6) + 0.2 * len(names)),
    title=f"{title}: accuracy by {axis}",
    description="; ".join(
      f"{p.label}: "
      + ", ".join(
        f"{row.label} {text.plus_minus(row.mean, row.ci95)} %"
        for row in r.values()
      )
      for p, r in zip(points, of_section, strict=True)
    )
    + ".",
  )


def _line(
  panel: Any,
  values: Sequence[tuple[float, float, float]],
  look: svg.Look,
  number: int,
  count: int,
  label: str | None = None,
) -> Any:
  """Points with intervals, joined; side by side where methods coincide."""
  shift = 0.03 * (number - (count - 1) / 2)
  return panel.errorbar(
    [place + shift for place, _, _ in values],
    [100 * mean for _, mean, _ in values],
    yerr=[100 * ci95 if math.isfinite(ci95) else 0 for _, _, ci95 in values],
    color=look.colour,
    linestyle=look.dashes,
    marker="o",
    markersize=3.5,
    capsize=2.5,
    linewidth=1.6,
    elinewidth=1.2,
    label=label,
  )


def caption(points: Sequence[Point], axis: str) -> str:
  """What stands under the figure: axes, units, n, interval."""
  words = (
    f"Across: {axis[0].lower()}{axis[1:]}. Up: accuracy in percent, mean with "
    f"its 95 % interval, {svg.INTERVAL}, "
    f"{figures.episode_count([p.section for p in points])}."
  )
  if any(rows.BASELINE in p.section for p in points):
    words += (
      " Below: accuracy minus that of "
      f"{rows.label(rows.BASELINE)} on the same episodes, in points."
    )
  return words
