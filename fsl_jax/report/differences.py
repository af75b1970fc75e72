"""The figure of a comparison: differences with their intervals."""

import math
from collections.abc import Sequence
from typing import Any

from fsl_jax.report import comparison, svg, text


def accuracy_differences(
  pairs: Sequence[comparison.Pair], names: tuple[str, str]
) -> str:
  """Paired difference and 95 % interval per method, a panel per protocol.

  Raises:
    InputError: as `comparison.check`.
  """
  comparison.check(pairs, names)
  found = [comparison.of_pair(pair) for pair in pairs]
  looks = svg.looks(list(dict.fromkeys(r.name for rows in found for r in rows)))
  titles = [svg.title_lines(text.heading(pair[0])) for pair in pairs]
  tall = [
    0.42 * len(rows) + 0.34 + svg.TITLE_LINE_IN * title.count("\n")
    for rows, title in zip(found, titles, strict=True)
  ]

  def build(figure):
    panels = figure.subplots(
      len(pairs), 1, sharex=True, squeeze=False, height_ratios=tall
    )[:, 0]
    for rows, title, panel in zip(found, titles, panels, strict=True):
      panel.set_title(title, pad=8)
      _panel(panel, rows, looks)
    for panel in panels[:-1]:
      panel.tick_params(axis="x", length=0)
      panel.spines["bottom"].set_visible(False)
    panels[-1].set_xlabel(f"Difference (points), mean {svg.INTERVAL}")

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, sum(tall) + 0.55),
    title=f"{names[0]} minus {names[1]}",
    description=" ".join(
      f"{text.heading(pair[0])}: "
      + "; ".join(f"{r.label}: {comparison.verdict(r, names)}" for r in rows)
      + "."
      for pair, rows in zip(pairs, found, strict=True)
    ),
  )


def _panel(panel: Any, rows: Sequence[comparison.Row], looks: Any) -> None:
  panel.axvline(0, color=svg.FAINT_INK, linewidth=1)
  for y, row in enumerate(rows):
    mean, ci95 = row.difference.mean, row.difference.ci95
    # The name stands above its interval, as in the figure of accuracies.
    place = {
      "transform": panel.get_yaxis_transform(),
      "va": "center",
      "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
      "in_layout": False,
    }
    name = svg.fit(row.label, 72 * svg.WIDTH_IN - 130, 9)
    numbers = text.plus_minus(mean, ci95, sign="+").replace("-", "−")
    panel.text(0.0, y - 0.25, name, ha="left", **place)
    panel.text(1.0, y - 0.25, numbers, ha="right", **place)
    if math.isfinite(mean):
      panel.errorbar(
        100 * mean,
        y + 0.15,
        xerr=100 * ci95 if math.isfinite(ci95) else None,
        color=looks[row.name].colour,
        marker="o",
        markersize=5.5,
        capsize=4,
        elinewidth=1.8,
        capthick=1.8,
      )
  panel.set_ylim(len(rows) - 0.5, -0.55)
  panel.set_yticks([])
  panel.spines["left"].set_visible(False)
  panel.grid(axis="x")
  panel.margins(x=0.06)
