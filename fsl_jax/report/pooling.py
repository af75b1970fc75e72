"""Runs that differ in their pre-training alone, as one number per method."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import statistics, types
from fsl_jax.report import rows, table, text

NOTES = (
  "accuracy, difference: mean over the pre-trainings ± Student's t, 95 %, with "
  "their standard deviation.",
  f"difference: to {rows.label(rows.BASELINE)} with the same pre-training, in "
  "percentage points.",
  "The runs share episodes and classes; no interval here covers others.",
)


class Row(NamedTuple):
  """One method in several runs; fractions."""

  label: str
  query_use: str
  means: Sequence[float]
  accuracy: statistics.Pooled
  difference: statistics.Pooled | None  # to `rows.BASELINE`, where it is there


def of_runs(sections: Sequence[rows.Section]) -> list[Row]:
  """A row per method that all runs have, in the order of the first.

  Args:
    sections: of one protocol, one a run.

  Raises:
    InputError: as `rows.check`; if there are fewer than two; or if they met
      different episodes or share no method.
  """
  rows.check(sections)
  if len(sections) < 2:
    raise types.InputError(f"at least two runs are pooled, got {len(sections)}")
  first = rows.first(sections[0])
  for section in sections[1:]:
    if not np.array_equal(rows.first(section).digests, first.digests):
      raise types.InputError(
        f"the runs met different episodes of {first.protocol_name}"
      )
  names = [name for name in sections[0] if all(name in s for s in sections)]
  if not names:
    raise types.InputError(
      f"the runs share no method on {first.protocol_name}: "
      + "; ".join(", ".join(section) for section in sections)
    )
  return [_row([s[name] for s in sections], sections) for name in names]


def _row(
  results: Sequence[types.EvalResult], sections: Sequence[rows.Section]
) -> Row:
  difference = None
  name = results[0].method
  if name != rows.BASELINE and all(rows.BASELINE in s for s in sections):
    difference = statistics.pool(
      [
        statistics.paired(result.accuracy, s[rows.BASELINE].accuracy).mean
        for result, s in zip(results, sections, strict=True)
      ]
    )
  means = [result.mean for result in results]
  return Row(
    label=rows.label(name),
    query_use=results[0].query_use,
    means=means,
    accuracy=statistics.pool(means),
    difference=difference,
  )


def terminal(protocols: Sequence[Sequence[rows.Section]]) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods.

  Args:
    protocols: the sections of all runs, per protocol.

  Raises:
    InputError: as `of_runs`.
  """
  blocks = []
  for sections in protocols:
    found = of_runs(sections)
    columns = ["method", "accuracy", "std"]
    if any(row.difference for row in found):
      columns += ["difference", "std"]
    shown = table.Table(
      [table.Column(name) for name in columns],
      [_cells(row)[: len(columns)] for row in found],
    )
    beneath = [
      f"runs: {', '.join(map(text.percent, row.means))}\n"
      f"  queries used: {row.query_use}"
      for row in found
    ]
    blocks += [
      f"{text.heading(sections[0])}, {len(sections)} pre-trainings",
      "\n".join(table.lines(shown, beneath)),
    ]
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"


def _cells(row: Row) -> list[table.Cell]:
  cells = [table.Cell(row.label), *_pooled(row.accuracy)]
  if row.difference is None:
    return [*cells, table.Cell(""), table.Cell("")]
  return [*cells, *_pooled(row.difference, sign="+")]


def _pooled(found: statistics.Pooled, sign: str = "") -> list[table.Cell]:
  return [
    table.Cell(text.plus_minus(found.mean, found.half_width, sign=sign)),
    table.Cell(text.percent(found.std)),
  ]
