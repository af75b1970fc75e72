"""The charts of a run and of a comparison, each with its caption."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import adapt, results, types
from fsl_jax.report import hardness_chart, svg, text

_QUARTERS = 4
_CURVES = (
  ("support_loss", "Support loss (nats)", 1.0),
  ("support_accuracy", "Support accuracy (%)", 100.0),
  ("query_entropy", "Query entropy (nats)", 1.0),
)


class Figure(NamedTuple):
  """A figure with the words that go with it."""

  name: str  # of its file, without the ending; distinct on a page
  title: str
  svg: str
  caption: str  # how to read it


class Bar(NamedTuple):
  """A mean with its interval, on a line of its own; fractions."""

  label: str
  mean: float
  ci95: float  # half-width; NaN: no interval is drawn
  colour: str
  numbers: str  # the same in words, at the right
  note: str = ""  # under the label


def bar(
  label: str, mean: float, ci95: float, colour: str, sign: str = ""
) -> Bar:
  """A bar with its numbers in words."""
  numbers = text.typeset(text.plus_minus(mean, ci95, sign=sign))
  return Bar(label, mean, ci95, colour, numbers)


def accuracy(summary: results.Summary) -> Figure:
  """Mean accuracy and its 95 % interval per method, a panel per protocol."""
  looks = svg.looks(summary.method_names)

  def of_method(method: results.MethodSummary) -> Bar:
    found, colour = method.accuracy, looks[method.name].colour
    made = bar(method.label, found.mean, found.ci95, colour)
    count = f"  (n = {found.num})" if found.num_left_out else ""
    note = f"queries used: {method.result.query_use}"
    return made._replace(numbers=made.numbers + count, note=note)

  counts = [section.num_episodes for section in summary.sections]
  caption = (
    f"Mean accuracy in percent over {text.episode_count(counts)}, with its "
    "95 % interval, ± 1.96 std / √n."
  )
  if summary.is_paired:
    caption += (
      " The methods were evaluated on the same episodes, so overlapping "
      "intervals do not make two methods equal: see the paired differences in "
      "the table."
    )
  return Figure(
    "accuracy",
    "Accuracy by method",
    intervals(
      [
        (
          text.heading(section.first),
          list(map(of_method, section.methods.values())),
        )
        for section in summary.sections
      ],
      x_label="Accuracy (%)",
      title="Accuracy by method",
    ),
    caption,
  )


def intervals(
  panels: Sequence[tuple[str, Sequence[Bar]]],
  *,
  x_label: str,
  title: str,
  with_zero: bool = False,
) -> str:
  """Means with their intervals as SVG, a panel per protocol.

  Args:
    panels: from the top, a heading and the bars under it.
    x_label: of all.
    title: as `svg.draw`.
    with_zero: draws a line at 0, as of differences; else a panel without any
      finite mean shows 0 to 100 %.
  """
  panels = [(svg.title_lines(heading), bars) for heading, bars in panels]
  has_notes = any(bar.note for _, bars in panels for bar in bars)
  heights = [
    (0.56 if has_notes else 0.42) * len(bars)
    + 0.34
    + svg.TITLE_LINE_IN * heading.count("\n")
    for heading, bars in panels
  ]

  def build(figure: Any) -> None:
    axes = figure.subplots(
      len(panels), 1, sharex=True, squeeze=False, height_ratios=heights
    )[:, 0]
    for (heading, bars), own in zip(panels, axes, strict=True):
      own.set_title(heading, pad=8)
      if with_zero:
        own.axvline(0, color=svg.FAINT_INK, linewidth=1)
      elif not any(math.isfinite(bar.mean) for bar in bars):
        own.set_xlim(0, 100)
      _bars(own, bars, has_notes)
    for own in axes[:-1]:
      own.tick_params(axis="x", length=0)
      own.spines["bottom"].set_visible(False)
    axes[-1].set_xlabel(f"{x_label}, mean {svg.INTERVAL}")

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, sum(heights) + 0.55),
    title=title,
    description=" ".join(
      f"{heading}: {'; '.join(f'{bar.label} {bar.numbers}' for bar in bars)}."
      for heading, bars in panels
    ),
  )


def _bars(axes: Any, bars: Sequence[Bar], has_notes: bool) -> None:
  # The label stands above its interval: beside it, the longest would take half
  # of the width of a phone.
  label_at, mark_at = (-0.34, 0.24) if has_notes else (-0.25, 0.15)
  words = {
    "transform": axes.get_yaxis_transform(),
    "va": "center",
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
    "in_layout": False,
  }
  width = 72 * svg.WIDTH_IN
  for y, bar in enumerate(bars):
    label = svg.fit(bar.label, width - 130, 9)
    axes.text(0.0, y + label_at, label, ha="left", **words)
    axes.text(1.0, y + label_at, bar.numbers, ha="right", **words)
    if bar.note:
      note = svg.fit(bar.note, width - 8, 8)
      look = words | {"fontsize": 8, "color": svg.FAINT_INK}
      axes.text(0.0, y - 0.07, note, ha="left", **look)
    if math.isfinite(bar.mean):
      axes.errorbar(
        100 * bar.mean,
        y + mark_at,
        xerr=100 * bar.ci95 if math.isfinite(bar.ci95) else None,
        color=bar.colour,
        marker="o",
        markersize=5.5,
        capsize=4,
        elinewidth=1.8,
        capthick=1.8,
      )
  axes.set_ylim(len(bars) - 0.5, -0.55)
  axes.set_yticks([])
  axes.spines["left"].set_visible(False)
  axes.grid(axis="x")
  axes.margins(x=0.06)


def hardness(summary: results.Summary) -> Figure | None:
  """A least-squares line per method, means per protocol (Figure 3).

  A line is fitted to a method's episodes of all protocols; of a single
  protocol the means are of quarters of its episodes, by hardness. None if no
  episode has a finite hardness and accuracy.
  """
  is_single = len(summary.sections) == 1
  names = [section.protocol_name for section in summary.sections]
  # Protocols may differ in their queries alone.
  names = [
    name if names.count(name) == 1 else section.first.protocol_text
    for name, section in zip(names, summary.sections, strict=True)
  ]
  marks = [
    mark
    for protocol, section in zip(names, summary.sections, strict=True)
    for name, result in section.section.items()
    for mark in hardness_chart.marks(
      name,
      protocol,
      result.hardness,
      result.accuracy,
      parts=_QUARTERS if is_single else 1,
    )
  ]
  if not marks:
    return None
  count = text.episode_count([s.num_episodes for s in summary.sections])
  heading = f"{len(names)} protocols, {count}"
  parts = f"the episodes of each protocol, {count}"
  if is_single:
    heading = text.heading(summary.sections[0].first)
    parts = f"quarters of the {count}, by hardness"
  return Figure(
    "hardness",
    "Accuracy against hardness",
    hardness_chart.draw(
      marks,
      [
        hardness_chart.Line(name, *line.line, *line.span)
        if line
        else hardness_chart.Line(name)
        for name, line in summary.lines.items()
      ],
      heading=heading,
      title="Accuracy against hardness",
    ),
    "Accuracy in percent against hardness in nats. Markers are means with 95 % "
    f"intervals over {parts}; those of different methods are placed side by "
    "side. Hardness is the mean log-odds, under fixed features, that a query "
    "is classified wrongly; it does not depend on the method. Lines are "
    "least-squares fits to a method's episodes of all protocols. The area "
    "between a line, extended to both axes, and the axes summarises a method, "
    "as in the paper; it extrapolates, so a method that gains on easy episodes "
    "alone may have the smaller one." + _slopes(summary),
  )


def _slopes(summary: results.Summary) -> str:
  shown = []
  for name, line in summary.lines.items():
    if line is None:
      continue
    slope = f"{adapt.label(name)} {100 * line.line.slope:.1f}"
    if line.interval and all(map(math.isfinite, line.interval.slope)):
      low, high = (100 * end for end in line.interval.slope)
      slope += f" ({low:.1f} to {high:.1f})"
    shown.append(slope)
  if not shown:
    return ""
  words = " Slopes, pp per nat, with 95 % bootstrap intervals over episodes: "
  words += text.typeset("; ".join(shown)) + "."
  if len(summary.sections) > 1:
    words += (
      " Slopes within a protocol differ and are often steeper; they are in "
      "result.json."
    )
  return words


def curves(section: results.SectionSummary) -> Figure | None:
  """Loss, accuracy and entropy per step: means over episodes, 95 % bands.

  An episode in which a method diverged takes no part in any step, so that
  every point of a curve is a mean over the same episodes. None if no method
  takes steps.
  """
  looks = svg.looks(list(section.methods))
  moving = {
    name: method
    for name, method in section.methods.items()
    if any(_curve(method.result, key).size for key, _, _ in _CURVES)
  }
  if not moving:
    return None
  kinds = [
    kind
    for kind in _CURVES
    if any(_curve(method.result, kind[0]).size for method in moving.values())
  ]
  title = svg.title_lines(text.heading(section.first))

  def build(figure: Any) -> None:
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (key, axis, scale) in zip(panels, kinds, strict=True):
      for name, method in moving.items():
        _band(panel, scale * _curve(method.result, key), looks[name])
      panel.set_ylabel(axis)
      panel.grid()
      panel.margins(x=0.02)
    panels[0].set_title(title)
    panels[-1].set_xlabel(f"Step (band: {svg.INTERVAL})")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    svg.legend(
      figure,
      [
        panels[0].plot(
          *([], []),
          color=looks[name].colour,
          linestyle=looks[name].dashes,
          linewidth=2,
          label=f"{svg.fit(method.label, 210, 8.5)}, n = {method.accuracy.num}",
        )[0]
        for name, method in moving.items()
      ],
    )
    figure.align_ylabels()

  height = 0.6 + 1.45 * len(kinds) + svg.LEGEND_LINE_IN * len(moving)
  labels = "; ".join(method.label for method in moving.values())
  return Figure(
    "curves",
    f"Adaptation step by step, {section.protocol_name}",
    svg.draw(
      build,
      size=(svg.WIDTH_IN, height + svg.TITLE_LINE_IN * title.count("\n")),
      title=f"Adaptation, {section.protocol_name}",
      description="Support loss, support accuracy and query entropy per step: "
      f"{labels}.",
    ),
    "Cross-entropy of the support in nats, accuracy on the support in percent "
    "and entropy of the predictions of the queries in nats, by step of "
    f"adaptation: means over {text.episode_count([section.num_episodes])} "
    "before the update of each step, on the augmented images of that step, "
    f"with bands of {svg.INTERVAL}. Methods that do not use the queries have "
    "no entropy. "
    "The vertical axes do not start at 0.",
  )


def _curve(result: types.EvalResult, key: str) -> np.ndarray:
  """[m, steps] of the finite episodes; empty where there is no curve."""
  curve = result.curves.get(key)
  if curve is None or curve.ndim != 2 or not curve.shape[1]:
    return np.empty((0, 0))
  curve = curve[np.isfinite(result.accuracy)]
  return curve if np.isfinite(curve).any() else np.empty((0, 0))


def _band(panel: Any, values: np.ndarray, look: svg.Look) -> None:
  if not values.size:
    return
  steps = np.arange(1, values.shape[1] + 1)
  mean = values.mean(0)
  panel.plot(
    steps,
    mean,
    color=look.colour,
    linestyle=look.dashes,
    linewidth=2,
    marker="o" if len(steps) == 1 else "",
    # Through the gaps of dashes a line beneath can be seen.
    zorder=2 if look.dashes == "solid" else 3,
  )
  if len(values) > 1:
    half = 1.96 * values.std(0) / math.sqrt(len(values))
    panel.fill_between(
      steps, mean - half, mean + half, color=look.colour, alpha=0.2, linewidth=0
    )
