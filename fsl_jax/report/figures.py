"""Charts of results, each as one SVG document (a string).

Matplotlib is loaded when a figure is drawn, not when this module is imported.
"""

from collections.abc import Sequence

import numpy as np

from fsl_jax.report import hardness_chart, intervals, rows, svg, text

_QUARTERS = 4


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
  """A least-squares line per method, means per protocol (Figure 3).

  A line is fitted to a method's episodes of all protocols; of a single
  protocol the means are of quarters of its episodes, by hardness.

  Returns:
    None if no episode has a finite hardness and accuracy.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  marks = [
    mark
    for protocol, section in zip(_protocols(sections), sections, strict=True)
    for name, result in section.items()
    for mark in hardness_chart.marks(
      name,
      protocol,
      result.hardness,
      result.accuracy,
      parts=_QUARTERS if len(sections) == 1 else 1,
    )
  ]
  if not marks:
    return None
  heading = text.heading(sections[0])
  if len(sections) > 1:
    heading = f"{len(sections)} protocols, {episode_count(sections)}"
  return hardness_chart.draw(
    marks,
    [_line(sections, name) for name in rows.method_names(sections)],
    heading=heading,
    title="Accuracy against hardness",
  )


def _protocols(sections: Sequence[rows.Section]) -> list[str]:
  """Names that differ; protocols may do so in their queries alone."""
  short = [text.short_heading(section) for section in sections]
  return [
    name if short.count(name) == 1 else rows.first(section).protocol_text
    for name, section in zip(short, sections, strict=True)
  ]


def _line(sections: Sequence[rows.Section], name: str) -> hardness_chart.Line:
  line = rows.pooled_line(sections, name)
  if line is None:
    return hardness_chart.Line(name)
  hardness = np.concatenate([s[name].hardness for s in sections if name in s])
  return hardness_chart.Line(
    name,
    *(line.slope, line.intercept, line.area, line.num_episodes),
    low=float(np.nanmin(hardness)),
    high=float(np.nanmax(hardness)),
  )


def episode_count(sections: Sequence[rows.Section]) -> str:
  """ "100 episodes per protocol"; their sum where they differ."""
  return text.episode_count([rows.first(s).num_episodes for s in sections])
