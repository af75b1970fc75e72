"""A table as a specification of its columns, and its views.

A column has its head and a function from what a row is about to a cell. The
views are lines of plain text, Markdown and, in the page's template, HTML.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from fsl_jax import statistics
from fsl_jax.report import text


class Cell(NamedTuple):
  """What is shown, and what it is sorted by."""

  text: str
  # None: words, sorted as text. NaN: comes last in either direction.
  value: float | None = None
  detail: str = ""  # beneath the first cell of a row, on a page

  @property
  def key(self) -> str:
    """The value for the script that sorts; empty where there is none."""
    known = self.value is not None and math.isfinite(self.value)
    return repr(float(self.value)) if known else ""  # type: ignore[arg-type]

  @property
  def typeset(self) -> str:
    return text.typeset(self.text)


class Column(NamedTuple):
  """A column: `cell` makes its cell of what a row is about."""

  head: str
  cell: Callable[[Any], Cell]
  unit: str = ""  # beneath the head, on a page
  plain: str = ""  # the head in plain text and Markdown, where it differs


def column(
  head: str,
  path: str,
  show: Callable[..., Cell],
  unit: str = "",
  plain: str = "",
) -> Column:
  """A column of an attribute such as "difference.p_t", shown by `show`."""
  value = operator.attrgetter(path)
  return Column(head, lambda subject: show(value(subject)), unit, plain)


class Table(NamedTuple):
  """Rows of cells; the first cell of a row names it."""

  columns: Sequence[Column]
  rows: Sequence[Sequence[Cell]]


def make(columns: Iterable[Column], subjects: Iterable[Any]) -> Table:
  """A row per subject, without the columns that are empty in every row."""
  columns = list(columns)
  rows = [[column.cell(subject) for column in columns] for subject in subjects]
  kept = [
    place
    for place in range(len(columns))
    if not rows or any(row[place].text for row in rows)
  ]
  return Table(
    [columns[place] for place in kept],
    [[row[place] for place in kept] for row in rows],
  )


def percent(fraction: float, digits: int = 2) -> Cell:
  return Cell(text.percent(fraction, digits), fraction)


percent_1 = functools.partial(percent, digits=1)
percent_0 = functools.partial(percent, digits=0)


def count(number: int) -> Cell:
  return Cell(f"{number:,}", number)


def nats(value: float) -> Cell:
  return Cell(text.number(value), value)


def p_value(p: float) -> Cell:
  return Cell(text.p_value(p), p)


def estimate(found: statistics.Summary) -> Cell:
  return Cell(text.plus_minus(found.mean, found.ci95), found.mean)


def difference(found: statistics.Paired) -> Cell:
  return Cell(text.plus_minus(found.mean, found.ci95, sign="+"), found.mean)


def interval(found: statistics.Interval | None) -> Cell:
  if found is None:
    return Cell("", math.nan)
  return Cell(text.low_to_high(found.low, found.high), found.low)


def markdown(table: Table) -> str:
  """A Markdown table; columns of numbers are aligned to the right."""
  is_words = [cell.value is None for cell in table.rows[0]]
  return "\n".join(
    [
      _markdown_row([column.plain or column.head for column in table.columns]),
      "|" + "|".join("---" if words else "---:" for words in is_words) + "|",
      *(_markdown_row([cell.text for cell in row]) for row in table.rows),
    ]
  )


def plain(table: Table, beneath: Sequence[str] = ()) -> str:
  """Lines of plain text; `beneath` has a line to follow each row, if any."""
  texts = [[column.plain or column.head for column in table.columns]]
  texts += [[cell.text for cell in row] for row in table.rows]
  widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
  lines = []
  for number, (first, *rest) in enumerate(texts):
    padded = [cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True)]
    lines.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    if number == 0:
      lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    elif beneath:
      lines.append(f"  {beneath[number - 1]}")
  return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
  escaped = (
    cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    for cell in cells
  )
  return "| " + " | ".join(" ".join(cell.split()) for cell in escaped) + " |"
