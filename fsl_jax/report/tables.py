"""The table of results, for the terminal, for Markdown and for the page.

An accuracy never appears without its number of episodes, its interval and
what of the queries the method used.
"""

import math
from collections.abc import Sequence

from fsl_jax.report import behaviour, rows, table, text

INTERVAL = "± is 1.96 std / sqrt(n), std of the population over n episodes"

_METHOD = table.Column("method")
_MAIN = {
  "accuracy": table.Column("accuracy %", "accuracy", "% ± 95 %"),
  "difference": table.Column("difference", "difference", "pp ± 95 %"),
  "std": table.Column("std", "std", "pp"),
  "n": table.Column("n"),
  "NaN": table.Column("NaN"),
}
_MORE = {
  "median": table.Column("median %", "median", "%"),
  "worst": table.Column("worst 5 %", "worst 5 %", "mean, %"),
  "classes": table.Column("with classes", "accuracy", "with classes, %"),
  "p": table.Column("p", "p", "paired t"),
}
_PAGE = {  # what a terminal has no room for
  "difference_classes": table.Column(
    "difference with classes", "difference", "with classes, pp"
  ),
}
_QUERY_USE = {"query_use": table.Column("queries used")}


def results(section: rows.Section) -> table.Table:
  """All columns, for the page; the use of the queries is by the method."""
  order = (
    # A phone shows the first two.
    *("accuracy", "difference", "n", "NaN", "difference_classes", "p"),
    *("classes", "median", "worst", "std"),
  )
  columns = _MAIN | _MORE | _PAGE
  return _results(section, {name: columns[name] for name in order})


def difference_text(row: rows.Row) -> str:
  """ "+12.34 ± 1.56", in percentage points; "reference" for the baseline.

  Its n is added where it is not that of the row.
  """
  if row.name == rows.BASELINE:
    return "reference"
  if row.difference is None:
    return ""
  paired = row.difference
  shown = text.plus_minus(paired.mean, paired.ci95, sign="+")
  if paired.num_episodes not in (0, row.num_finite):
    shown += f" (n = {paired.num_episodes})"
  return shown


def footnotes(sections: Sequence[rows.Section]) -> list[str]:
  """Sentences on what the columns mean."""
  notes = [f"{INTERVAL}.", "n: episodes in the mean."]
  if any(r.num_non_finite for section in sections for r in section.values()):
    notes.append(
      "NaN: episodes in which the method diverged (NaN or Inf); they are in no "
      "mean."
    )
  notes += [
    "worst 5 %: mean accuracy of the worst twentieth of the episodes.",
    "with classes: 95 % interval that also covers the sampling of classes; ± "
    "is conditional on the classes.",
  ]
  if any(rows.BASELINE in s and len(s) > 1 for s in sections):
    notes.append(
      f"difference: accuracy minus that of {rows.label(rows.BASELINE)}, in "
      "percentage points (pp), paired over the episodes finite in both; p: of "
      "the paired t test, conditional on the classes."
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
    uses = [f"queries used: {r.query_use}" for r in section.values()]
    blocks += [
      text.heading(section),
      "\n".join(table.lines(_results(section, _MAIN), uses)),
      "\n".join(table.lines(_results(section, _MORE))),
    ]
  notes = [*behaviour.warnings(sections), *footnotes(sections)]
  if any(rows.BASELINE in s and len(s) > 1 for s in sections):
    notes.append("The page also has differences with classes.")
  notes = list(map(text.wrap, notes))
  return "\n\n".join([*blocks, "\n".join(notes)]) + "\n"


def markdown(sections: Sequence[rows.Section]) -> str:
  """Markdown tables, for a README.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  blocks = []
  for section in sections:
    shown = _results(section, _MAIN | _QUERY_USE)
    blocks += [f"**{text.heading(section)}**", table.markdown(shown)]
  return "\n\n".join([*blocks, " ".join(footnotes(sections))]) + "\n"


def _results(
  section: rows.Section, columns: dict[str, table.Column]
) -> table.Table:
  """Without something to compare there is no column of differences or of p,
  and without a NaN none of them."""
  if all(result.num_non_finite == 0 for result in section.values()):
    columns = {name: c for name, c in columns.items() if name != "NaN"}
  if rows.BASELINE not in section or len(section) == 1:
    paired = ("difference", "p", "difference_classes")
    columns = {k: c for k, c in columns.items() if k not in paired}
  cells = [_cells(row) for row in rows.of_section(section)]
  if "classes" in columns:
    for cell, found in zip(
      cells, rows.class_intervals(section).values(), strict=True
    ):
      words = text.low_to_high(found.low, found.high)
      cell["classes"] = table.Cell(words, found.low)
  if "difference_classes" in columns:
    for cell, between in zip(
      cells, rows.difference_intervals(section).values(), strict=True
    ):
      cell["difference_classes"] = (
        table.Cell("", math.nan)
        if between is None
        else table.Cell(
          text.low_to_high(between.low, between.high), between.low
        )
      )
  return table.Table(
    [_METHOD, *columns.values()],
    [[c["method"], *(c[name] for name in columns)] for c in cells],
  )


def _cells(row: rows.Row) -> dict[str, table.Cell]:
  """By the names of the columns, but for the interval over classes."""
  paired = row.difference
  # The baseline's difference from itself is 0, and sorts so.
  own = 0.0 if row.name == rows.BASELINE else math.nan
  return {
    "method": table.Cell(row.label, detail=f"queries used: {row.query_use}"),
    "accuracy": table.Cell(text.plus_minus(row.mean, row.ci95), row.mean),
    "std": table.Cell(text.percent(row.std), row.std),
    "difference": table.Cell(
      difference_text(row), paired.mean if paired else own
    ),
    "n": table.Cell(str(row.num_finite), row.num_finite),
    "NaN": table.Cell(str(row.num_non_finite), row.num_non_finite),
    "median": table.Cell(text.percent(row.median), row.median),
    "worst": table.Cell(text.percent(row.worst), row.worst),
    "p": table.Cell(
      text.p_value(paired.p_t) if paired else "",
      paired.p_t if paired else math.nan,
    ),
    "query_use": table.Cell(row.query_use),
  }
