"""The words under the figures: axes, units, n, intervals, and how to read."""

import math
from collections.abc import Sequence

from fsl_jax.report import figures, rows, svg, thumbnails
from fsl_jax.report import gallery as gallery_lib
from fsl_jax.report import sheet as sheet_lib


def accuracy(sections: Sequence[rows.Section]) -> str:
  """Of `figures.accuracy_by_method`."""
  caption = (
    f"Across: accuracy in percent, {figures.episode_count(sections)}. Dot: "
    "mean. Bar: the 95 % interval of that mean, ± 1.96 std / √n."
  )
  if any(rows.BASELINE in section and len(section) > 1 for section in sections):
    caption += (
      " The methods were evaluated on the same episodes, so overlapping "
      "intervals do not make two methods equal: see the paired differences in "
      "the table."
    )
  return caption


def hardness(sections: Sequence[rows.Section]) -> str:
  """Of `figures.accuracy_against_hardness`, with the slopes of its lines."""
  slopes = [
    f"{rows.label(name)} {slope}"
    for name in rows.method_names(sections)
    for slope in [_slope(sections, name)]
    if slope
  ]
  caption = (
    "Across: hardness in nats. Up: accuracy in percent. Markers: means with "
    f"95 % intervals over {_parts(sections)}; those of different methods are "
    "set beside each other. Hardness is the mean log-odds, under fixed "
    "features, that a query is classified wrongly; it does not depend on the "
    "method, and further right is harder. Lines: least squares through a "
    "method's episodes of all protocols. The area between a line, drawn on to "
    "both axes, and the axes sums up a method, as in the paper; it "
    "extrapolates, so a method that gains on easy episodes alone may have the "
    "smaller one."
  )
  if slopes:
    caption += (
      " Slopes, pp per nat, with 95 % bootstrap intervals over episodes: "
      + "; ".join(slopes)
      + "."
    )
  if len(sections) > 1:
    caption += (
      " Slopes within a protocol differ and are often steeper; they are in "
      "result.json."
    )
  return caption


def _parts(sections: Sequence[rows.Section]) -> str:
  count = figures.episode_count(sections)
  if len(sections) == 1:
    return f"quarters of the {count}, by hardness"
  return f"the episodes of each protocol, {count}"


def curves(section: rows.Section) -> str:
  """Of `curves.adaptation_curves`."""
  return (
    "Across: steps of adaptation. Up: cross-entropy of the support in nats, "
    "accuracy on it in percent, entropy of the queries' predictions in nats. "
    f"Means over {figures.episode_count([section])} before the update of each "
    f"step, on the augmented images of that step; band: {svg.INTERVAL}. "
    "Entropy is missing where a method does not look at the queries. The "
    "vertical axes do not start at 0."
  )


def sheet(shown: sheet_lib.Sheet) -> str:
  """Of `pictures.episode_sheet`."""
  return (
    f"{shown.rule} Beneath each query the class predicted by "
    f"{rows.label(shown.before_name)}, then by "
    f"{rows.label(shown.after_name)}: filled and ticked is correct, dashed "
    "and crossed is wrong, and a yellow ground marks a prediction that "
    "changed. An example, not an estimate."
  ).strip()


def gallery(shown: gallery_lib.Gallery) -> str:
  """Of `thumbnails.episode_thumbnails`."""
  return (
    f"{shown.selection.rule} A row per class: its name, up to "
    f"{thumbnails.MAX_SUPPORT} support pictures, then up to "
    f"{thumbnails.MAX_QUERIES} queries."
  )


def _slope(sections: Sequence[rows.Section], name: str) -> str:
  """ "-12.3 (-14.0 to -10.9)", or nothing without a line."""
  line = rows.pooled_line(sections, name)
  interval = rows.pooled_interval(sections, name)
  if line is None or interval is None:
    return ""
  if not all(map(math.isfinite, interval.slope)):
    return f"{100 * line.slope:.1f}".replace("-", "−")
  low, high = (100 * end for end in interval.slope)
  return f"{100 * line.slope:.1f} ({low:.1f} to {high:.1f})".replace("-", "−")
