"""A table, and how it becomes HTML, Markdown, or lines of plain text."""

import html as html_lib
import math
import re
from collections.abc import Sequence
from typing import NamedTuple


class Column(NamedTuple):
  """The head of a column."""

  plain: str  # in plain text and Markdown
  words: str = ""  # in HTML; `plain` where it is empty
  unit: str = ""  # beneath it, in HTML


class Cell(NamedTuple):
  """What is shown, and what it is sorted by."""

  text: str
  # None: words, sorted as text. NaN: comes last in either direction.
  value: float | None = None
  detail: str = ""  # beneath the first cell of a row, in HTML


class Table(NamedTuple):
  """Rows of cells; the first cell of a row names it."""

  columns: Sequence[Column]
  rows: Sequence[Sequence[Cell]]


def _filled(table: Table) -> Table:
  """Without the columns in which no row has anything."""
  kept = [
    place
    for place in range(len(table.columns))
    if not table.rows or any(row[place].text for row in table.rows)
  ]
  return Table(
    [table.columns[place] for place in kept],
    [[row[place] for place in kept] for row in table.rows],
  )


def html(table: Table, name: str) -> str:
  """An HTML table that scrolls sideways; a script makes it sortable."""
  table = _filled(table)
  return "\n".join(
    [
      # Focusable, so that it can be scrolled without a pointer.
      '<div class="scroll" role="region" tabindex="0" '
      f'aria-label="{html_lib.escape(name)}">',
      "<table>",
      "<thead><tr>" + "".join(map(_html_head, table.columns)) + "</tr></thead>",
      "<tbody>",
      *(
        "<tr>"
        + f'<th scope="row">{html_lib.escape(first.text)}'
        + f"{_small(first.detail)}</th>"
        + "".join(map(_html_cell, rest))
        + "</tr>"
        for first, *rest in table.rows
      ),
      "</tbody>",
      "</table>",
      "</div>",
    ]
  )


def markdown(table: Table) -> str:
  """A Markdown table; columns of numbers are aligned to the right."""
  table = _filled(table)
  is_words = [cell.value is None for cell in table.rows[0]]
  return "\n".join(
    [
      _markdown_row([column.plain for column in table.columns]),
      "|" + "|".join("---" if words else "---:" for words in is_words) + "|",
      *(_markdown_row([cell.text for cell in row]) for row in table.rows),
    ]
  )


def lines(table: Table, beneath: Sequence[str] = ()) -> list[str]:
  """Plain text; `beneath` has a line to follow each row, if any."""
  table = _filled(table)
  texts = [[column.plain for column in table.columns]]
  texts += [[cell.text for cell in row] for row in table.rows]
  widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
  result = []
  for number, (first, *rest) in enumerate(texts):
    padded = [cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True)]
    result.append("  ".join([first.ljust(widths[0]), *padded]).rstrip())
    if number == 0:
      result.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    elif beneath:
      result.append(f"  {beneath[number - 1]}")
  return result


def _html_head(column: Column) -> str:
  words = html_lib.escape(column.words or column.plain)
  return f'<th scope="col">{words}{_small(column.unit)}</th>'


def _html_cell(cell: Cell) -> str:
  # A true minus sign is as wide as the plus sign above it.
  text = html_lib.escape(re.sub(r"^-(?=\d)", "−", cell.text))
  if cell.value is None:
    return f'<td class="words">{text}</td>'
  key = repr(float(cell.value)) if math.isfinite(cell.value) else ""
  return f'<td data-value="{key}">{text}</td>'


def _small(words: str) -> str:
  if not words:
    return ""
  return f'<br><span class="small">{html_lib.escape(words)}</span>'


def _markdown_row(cells: Sequence[str]) -> str:
  escaped = (
    cell.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    for cell in cells
  )
  return "| " + " | ".join(" ".join(cell.split()) for cell in escaped) + " |"
