"""Results as numbers: terminal, Markdown, JSON.

An accuracy never appears without its number of episodes, its interval and
what of the queries the method used. Percent exists only in this package.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from fsl_jax import hardness as hardness_lib
from fsl_jax.report import rows

INTERVAL = "± is 1.96 std / sqrt(n), std of the population over n episodes"


def counted(count: int, singular: str, plural: str = "") -> str:
  """ "1 episode", "3 episodes"."""
  return f"{count} {singular if count == 1 else plural or singular + 's'}"


def short_heading(section: rows.Section) -> str:
  """ "5-way 1-shot"."""
  protocol = rows.first(section).protocol
  return f"{protocol['ways']}-way {protocol['shots']}-shot"


def heading(section: rows.Section) -> str:
  """ "5-way 1-shot, 7 queries a class, 100 episodes"."""
  result = rows.first(section)
  queries = counted(result.protocol["queries"], "query", "queries")
  episodes = counted(result.num_episodes, "episode")
  return f"{short_heading(section)}, {queries} a class, {episodes}"


def difference_text(row: rows.Row) -> str:
  """ "+12.34 ± 1.56", in points; "reference" in the baseline's row.

  Its n is added where it is not that of the row.
  """
  if row.name == rows.BASELINE:
    return "reference"
  if row.difference is None:
    return ""
  mean, ci95, num_episodes = row.difference
  text = plus_minus(mean, ci95, sign="+")
  if num_episodes not in (0, row.num_finite):
    text += f" (n = {num_episodes})"
  return text


def plus_minus(mean: float, ci95: float, *, sign: str = "") -> str:
  """Fractions as percent or points; "n/a" for what is not defined."""
  if not math.isfinite(mean):
    return "n/a"
  return f"{100 * mean:{sign}z.2f} ± {percent(ci95)}"


def percent(fraction: float) -> str:
  """ "63.21"; "n/a" for what is not defined."""
  return f"{100 * fraction:.2f}" if math.isfinite(fraction) else "n/a"


def columns(section: rows.Section) -> tuple[list[str], list[list[str]]]:
  """Head and cells of a section's table; the last column is `query_use`.

  Without the baseline there is no column of differences.
  """
  paired = rows.BASELINE in section
  head = ["method", "accuracy %", "std", "n", "NaN", "queries used"]
  cells = [
    [
      row.label,
      plus_minus(row.mean, row.ci95),
      percent(row.std),
      str(row.num_finite),
      str(row.num_non_finite),
      row.query_use,
    ]
    for row in rows.of_section(section)
  ]
  if paired:
    head.insert(3, "difference")
    for cell, row in zip(cells, rows.of_section(section), strict=True):
      cell.insert(3, difference_text(row))
  return head, cells


def footnotes(sections: Sequence[rows.Section]) -> list[str]:
  """Sentences on what the columns mean."""
  notes = [
    f"{INTERVAL}.",
    "n: episodes in the mean.",
    "NaN: episodes in which the method left the finite numbers; they are in "
    "no mean.",
  ]
  if any(rows.BASELINE in section for section in sections):
    notes.append(
      f"difference: accuracy minus that of {rows.label(rows.BASELINE)}, "
      "in points, over the episodes finite in both."
    )
  return notes


def terminal(sections: Sequence[rows.Section]) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  blocks = []
  for section in sections:
    head, cells = columns(section)
    table = [head, *cells]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [heading(section), ""]
    for number, row in enumerate(table):
      # The words of the last column would make lines of 120 characters.
      *numbers, query_use = row
      text = numbers[0].ljust(widths[0])
      for cell, width in zip(numbers[1:], widths[1:], strict=False):
        text += "  " + cell.rjust(width)
      lines.append(text)
      lines.append(
        f"  queries used: {query_use}"
        if number
        else "-" * (sum(widths[:-1]) + 2 * (len(widths) - 2))
      )
    blocks.append("\n".join(lines))
  notes = [
    textwrap.fill(note, 80, subsequent_indent="  ")
    for note in footnotes(sections)
  ]
  return "\n\n".join([*blocks, "\n".join(notes)]) + "\n"


def markdown(sections: Sequence[rows.Section]) -> str:
  """Markdown tables, for a README.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  blocks = []
  for section in sections:
    head, cells = columns(section)
    lines = [
      f"**{heading(section)}**",
      "",
      _markdown_row(head),
      "|" + "|".join(["---", *["---:"] * (len(head) - 2), "---"]) + "|",
      *map(_markdown_row, cells),
    ]
    blocks.append("\n".join(lines))
  return "\n\n".join([*blocks, " ".join(footnotes(sections))]) + "\n"


def summary(sections: Sequence[rows.Section]) -> dict[str, Any]:
  """All numbers as JSON values: fractions, full precision.

  What is not defined is None: NaN is no JSON.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  return {
    "interval": "half-width, 1.96 std / sqrt(n)",
    "sections": [
      {
        "protocol": {k: int(v) for k, v in first.protocol.items()},
        "num_episodes": first.num_episodes,
        "methods": {r.name: _row_json(r) for r in rows.of_section(section)},
      }
      for section in sections
      for first in [rows.first(section)]
    ],
    "hardness_lines": {
      name: _line_json(rows.pooled_line(sections, name))
      for name in rows.method_names(sections)
    },
  }


def _row_json(row: rows.Row) -> dict[str, Any]:
  paired = row.difference
  return {
    "label": row.label,
    "query_use": row.query_use,
    "mean": _json(row.mean),
    "std": _json(row.std),
    "ci95": _json(row.ci95),
    "num_episodes": row.num_finite + row.num_non_finite,
    "num_finite": row.num_finite,
    "num_non_finite": row.num_non_finite,
    "difference": paired
    and {
      "to": rows.BASELINE,
      "mean": _json(paired.mean),
      "ci95": _json(paired.ci95),
      "num_episodes": paired.num_episodes,
    },
    "hardness_line": _line_json(row.line),
  }


def _line_json(line: hardness_lib.Line | None) -> dict[str, Any] | None:
  return line and {key: _json(value) for key, value in line._asdict().items()}


def _json(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _markdown_row(cells: Sequence[str]) -> str:
  escaped = (
    cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    for cell in cells
  )
  return "| " + " | ".join(" ".join(cell.split()) for cell in escaped) + " |"
