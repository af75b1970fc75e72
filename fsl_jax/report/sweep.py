"""How accuracy changes with one number of the protocol: a figure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fsl_jax import adapt, results
from fsl_jax.report import svg, text

_BESIDE = 0.014  # of the width: how far methods stand apart


class Estimate(NamedTuple):
  """A method on one protocol; fractions, half-widths of 95 % intervals."""

  mean: float
  ci95: float
  difference: tuple[float, float] | None = None  # to the baseline, paired


class Point(NamedTuple):
  """One protocol of a sweep."""

  label: str  # on the axis
  place: float  # along it
  methods: Mapping[str, Estimate]
  num_episodes: int


def point(label: str, place: float, section: results.SectionSummary) -> Point:
  """A point of the results of a protocol."""
  methods = {
    name: Estimate(
      found.accuracy.mean,
      found.accuracy.ci95,
      found.difference and (found.difference.mean, found.difference.ci95),
    )
    for name, found in section.methods.items()
  }
  return Point(label, place, methods, section.num_episodes)


def accuracy_along(
  points: Sequence[Point], axis: str, title: str, *, joined: bool
) -> str:
  """Accuracy of each method above, its difference to the baseline below.

  Args:
    points: in the order of `place`.
    axis: name of what is varied, with its unit.
    title: of the figure: data set, network.
    joined: draws lines between the points, if there are three or more; the
      axis is one of numbers.
  """
  names = list(dict.fromkeys(name for p in points for name in p.methods))
  looks = svg.looks(names)
  paired = any(e.difference for p in points for e in p.methods.values())
  joined = joined and len(points) > 2
  places = [p.place for p in points]
  step = _BESIDE * ((max(places) - min(places)) or 1) * (1 if joined else 3)

  def build(figure: Any) -> None:
    panels = figure.subplots(
      1 + paired,
      1,
      sharex=True,
      squeeze=False,
      height_ratios=[1.4, 1][: 1 + paired],
    )[:, 0]
    handles = []
    for number, name in enumerate(names):
      found = [
        (p.place + step * (number - (len(names) - 1) / 2), p.methods[name])
        for p in points
        if name in p.methods
      ]
      above = [(x, e.mean, e.ci95) for x, e in found]
      handles.append(_points(panels[0], above, looks[name], joined))
      handles[-1].set_label(adapt.label(name))
      if paired:
        below = [(x, *e.difference) for x, e in found if e.difference]
        _points(panels[1], below, looks[name], joined)
    panels[0].set_title(title)
    panels[0].set_ylabel("Accuracy (%)")
    if paired:
      panels[1].axhline(0, color=svg.FAINT_INK, linewidth=1)
      panels[1].set_ylabel("Difference (pp)")
    for panel in panels:
      panel.grid()
      if not joined:
        panel.margins(x=0.3)
    panels[-1].set_xticks(places, [p.label for p in points])
    panels[-1].minorticks_off()
    panels[-1].set_xlabel(axis)
    svg.legend(figure, handles)
    figure.align_ylabels()

  height = (4.3 if paired else 2.6) + svg.LEGEND_LINE_IN * len(names)
  return svg.draw(
    build,
    size=(svg.WIDTH_IN, height),
    title=f"{title}: accuracy by {axis}",
    description="; ".join(
      f"{p.label}: "
      + ", ".join(
        f"{adapt.label(name)} {text.plus_minus(e.mean, e.ci95)} %"
        for name, e in p.methods.items()
      )
      for p in points
    )
    + ".",
  )


def _points(
  panel: Any,
  values: Sequence[tuple[float, float, float]],
  look: svg.Look,
  joined: bool,
) -> Any:
  """Means with their intervals."""
  return panel.errorbar(
    [place for place, _, _ in values],
    [100 * mean for _, mean, _ in values],
    yerr=[100 * ci95 if math.isfinite(ci95) else 0 for _, _, ci95 in values],
    color=look.colour,
    linestyle=look.dashes if joined else "none",
    marker="o",
    markersize=3.5,
    capsize=2.5,
    linewidth=1.6,
    elinewidth=1.2,
  )


def caption(points: Sequence[Point], axis: str) -> str:
  """The caption of `accuracy_along`."""
  count = text.episode_count([p.num_episodes for p in points])
  words = (
    f"Accuracy in percent by {axis[0].lower()}{axis[1:]}: means over {count}, "
    f"with 95 % intervals, {svg.INTERVAL}."
  )
  if any(results.BASELINE in p.methods for p in points):
    words += (
      " The lower panel is the difference to "
      f"{adapt.label(results.BASELINE)} on the same episodes, in percentage "
      "points."
    )
  return words
