"""Accuracy against hardness (Figure 3): a line per method, marks per protocol.

The episodes themselves are not drawn: those of several methods cover each
other.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import adapt, types
from fsl_jax.report import svg

_MARKERS = "osD^vP*X"
_BESIDE = 0.02  # of the width: how far methods stand apart


class Mark(NamedTuple):
  """The mean of some episodes of one method and protocol."""

  method: str
  protocol: str
  hardness: float  # nats
  accuracy: float  # fraction
  ci95: float  # half-width; NaN below two episodes


class Line(NamedTuple):
  """A least-squares line; fractions and nats. No slope: there is no line."""

  method: str
  slope: float | None = None
  intercept: float | None = None
  area: float | None = None  # percent times nats; NaN where there is none
  num_episodes: int = 0
  low: float = 0.0  # hardness of the easiest episode
  high: float = 0.0  # of the hardest


def marks(
  method: str,
  protocol: str,
  hardness: np.ndarray,
  accuracy: np.ndarray,
  parts: int = 1,
) -> list[Mark]:
  """Means of the episodes that have both numbers.

  Args:
    method: name.
    protocol: name.
    hardness: [n] nats.
    accuracy: [n] fractions.
    parts: equal parts of the episodes, from the easiest to the hardest, a mark
      each.
  """
  both = np.flatnonzero(np.isfinite(hardness) & np.isfinite(accuracy))
  order = both[np.argsort(hardness[both], stable=True)]
  return [
    Mark(
      method,
      protocol,
      float(hardness[part].mean()),
      float(accuracy[part].mean()),
      types.half_width(accuracy[part]),
    )
    for part in np.array_split(order, parts)
    if len(part)
  ]


def draw(
  shown: Sequence[Mark], lines: Sequence[Line], *, heading: str, title: str
) -> str:
  """The figure as SVG; colour tells methods, shape protocols.

  Args:
    shown: the marks.
    lines: one per method, in the order of the legend.
    heading: above the figure.
    title: as `svg.draw`.
  """
  looks = svg.looks([line.method for line in lines])
  protocols = list(dict.fromkeys(mark.protocol for mark in shown))
  legend = [_text(line) for line in lines]
  heading = svg.title_lines(heading)
  places = [mark.hardness for mark in shown]
  places += [end for line in lines for end in ends(line)[0]]
  step = _BESIDE * (max(places) - min(places)) if places else 0.0

  def build(figure: Any) -> None:
    panel = figure.subplots()
    panel.set_title(heading)
    handles = []
    for number, (line, label) in enumerate(zip(lines, legend, strict=True)):
      look = looks[line.method]
      handles += panel.plot(
        *ends(line),
        color=look.colour,
        linestyle=look.dashes,
        linewidth=1.6,
        label=label,
      )
      for mark in shown:
        if mark.method == line.method:
          panel.errorbar(
            mark.hardness + step * (number - (len(lines) - 1) / 2),
            100 * mark.accuracy,
            yerr=100 * mark.ci95 if math.isfinite(mark.ci95) else None,
            marker=_marker(protocols, mark.protocol),
            color=look.colour,
            markersize=5.5,
            elinewidth=1.2,
          )
    if len(protocols) > 1:
      handles += [
        panel.plot(
          [],
          [],
          linestyle="none",
          marker=_marker(protocols, protocol),
          color=svg.FAINT_INK,
          label=svg.fit(protocol, 240, 8.5),
        )[0]
        for protocol in protocols
      ]
    panel.set_xlabel("Hardness (nats)")
    panel.set_ylabel("Accuracy (%)")
    panel.grid()
    svg.legend(figure, handles)

  num_keys = len(lines) + (len(protocols) if len(protocols) > 1 else 0)
  extra = svg.TITLE_LINE_IN * heading.count("\n")
  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 3.0 + svg.LEGEND_LINE_IN * num_keys + extra),
    title=title,
    description=". ".join(legend) + ".",
  )


def ends(line: Line) -> tuple[list[float], list[float]]:
  """Nats and percent of both ends, within its data and 0 to 100 %."""
  slope, intercept = line.slope, line.intercept
  if slope is None or intercept is None:
    return [], []
  found = [line.low, line.high]
  if slope:
    bounds = sorted(((1 - intercept) / slope, -intercept / slope))
    found = [min(max(end, bounds[0]), bounds[1]) for end in found]
  return found, [100 * (intercept + slope * end) for end in found]


def _marker(protocols: Sequence[str], protocol: str) -> str:
  return _MARKERS[protocols.index(protocol) % len(_MARKERS)]


def _text(line: Line) -> str:
  label = svg.fit(adapt.label(line.method), 150, 8.5)
  if line.slope is None:
    return f"{label}: no line"
  if line.area is None or not math.isfinite(line.area):
    return f"{label}: no area, n = {line.num_episodes:,}"
  return f"{label}: area {line.area:.1f} %·nats, n = {line.num_episodes:,}"
