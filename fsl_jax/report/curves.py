"""What happened step by step: one SVG document per protocol."""

import math
from typing import Any

import numpy as np

from fsl_jax import types
from fsl_jax.report import rows, svg, text

_CURVES = (
  ("support_loss", "Support loss (nats)", 1.0),
  ("support_accuracy", "Support accuracy (%)", 100.0),
  ("query_entropy", "Query entropy (nats)", 1.0),
)


def adaptation_curves(section: rows.Section) -> str | None:
  """Loss, accuracy and entropy per step: means over episodes, 95 % bands.

  An episode that did not stay finite takes no part in any step, so that every
  point of a curve is a mean over the same episodes.

  Returns:
    None if no method takes steps.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check([section])
  looks = svg.looks(list(section))
  moving = {
    name: result
    for name, result in section.items()
    if any(_curve(result, key).size for key, _, _ in _CURVES)
  }
  if not moving:
    return None
  kinds = [
    kind
    for kind in _CURVES
    if any(_curve(result, kind[0]).size for result in moving.values())
  ]

  title = svg.title_lines(text.heading(section))
  extra = svg.TITLE_LINE_IN * title.count("\n")

  def build(figure):
    panels = figure.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (key, axis, scale) in zip(panels, kinds, strict=True):
      for name, result in moving.items():
        _band(panel, scale * _curve(result, key), looks[name])
      panel.set_ylabel(axis)
      panel.grid()
      panel.margins(x=0.02)
    panels[0].set_title(title)
    panels[-1].set_xlabel(f"Step (band: {svg.INTERVAL})")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    handles = [
      panels[0].plot(
        [],
        [],
        color=looks[name].colour,
        linestyle=looks[name].dashes,
        linewidth=2,
        label=f"{svg.fit(rows.label(name), 210, 8.5)}, "
        f"n = {_num_finite(result)}",
      )[0]
      for name, result in moving.items()
    ]
    svg.legend(figure, handles)
    figure.align_ylabels()

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 0.6 + 1.45 * len(kinds) + 0.2 * len(moving) + extra),
    title=f"Adaptation, {text.short_heading(section)}",
    description="Support loss, support accuracy and query entropy per step: "
    + "; ".join(rows.label(name) for name in moving)
    + ".",
  )


def _curve(result: types.EvalResult, key: str) -> np.ndarray:
  """[m, steps] of the finite episodes; empty where there is no curve."""
  curve = result.curves.get(key)
  if curve is None or curve.ndim != 2 or not curve.shape[1]:
    return np.empty((0, 0))
  curve = curve[np.isfinite(result.accuracy)]
  return curve if np.isfinite(curve).any() else np.empty((0, 0))


def _num_finite(result: types.EvalResult) -> int:
  return result.num_episodes - result.num_non_finite


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
