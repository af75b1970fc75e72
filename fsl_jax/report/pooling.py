"""Runs that differ in their pre-training alone, as one number per method."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import adapt, results, statistics, types
from fsl_jax.report import table, text

NOTES = (
  "accuracy, difference: mean over the pre-trainings ± Student's t, 95 %, with "
  "their standard deviation.",
  f"difference: to {adapt.label(results.BASELINE)} with the same "
  "pre-training, in percentage points.",
  "The runs share episodes and classes; no interval here covers others.",
)


class Row(NamedTuple):
  """One method in several runs; fractions."""

  label: str
  query_use: str
  means: Sequence[float]
  accuracy: statistics.Pooled
  difference: (
    statistics.Pooled | None
  )  # to the baseline, where all runs have it


def of_runs(sections: Sequence[results.Section]) -> list[Row]:
  """A row per method that all runs have, in the order of the first.

  Args:
    sections: of one protocol, one a run.

  Raises:
    InputError: as `results.check`; if there are fewer than two; or if they
      were evaluated on different episodes or share no method.
  """
  runs = results.summarise(sections).sections
  if len(runs) < 2:
    raise types.InputError(f"at least two runs are pooled, got {len(runs)}")
  first = runs[0].first
  for run in runs[1:]:
    if not np.array_equal(run.first.digests, first.digests):
      raise types.InputError(
        "the runs were evaluated on different episodes of "
        f"{first.protocol_name}"
      )
  common = [
    [run.methods[name] for run in runs]
    for name in runs[0].methods
    if all(name in run.methods for run in runs)
  ]
  if not common:
    raise types.InputError(
      f"the runs share no method on {first.protocol_name}: "
      + "; ".join(", ".join(run.methods) for run in runs)
    )
  return [_row(methods) for methods in common]


def _row(methods: Sequence[results.MethodSummary]) -> Row:
  means = [method.accuracy.mean for method in methods]
  differences = [m.difference.mean for m in methods if m.difference]
  is_paired = len(differences) == len(methods)
  return Row(
    label=methods[0].label,
    query_use=methods[0].result.query_use,
    means=means,
    accuracy=statistics.pool(means),
    difference=statistics.pool(differences) if is_paired else None,
  )


def _mean(sign: str, found: statistics.Pooled | None) -> table.Cell:
  if found is None:
    return table.Cell("")
  return table.Cell(text.plus_minus(found.mean, found.half_width, sign=sign))


def _std(found: statistics.Pooled | None) -> table.Cell:
  return table.Cell("") if found is None else table.percent(found.std)


_COLUMNS = (
  table.column("method", "label", table.Cell),
  table.column("accuracy", "accuracy", functools.partial(_mean, "")),
  table.column("std", "accuracy", _std),
  table.column("difference", "difference", functools.partial(_mean, "+")),
  table.column("std", "difference", _std),
)


def terminal(protocols: Sequence[Sequence[results.Section]]) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods.

  Args:
    protocols: the sections of all runs, per protocol.

  Raises:
    InputError: as `of_runs`.
  """
  blocks = []
  for sections in protocols:
    rows = of_runs(sections)
    beneath = [
      f"runs: {', '.join(map(text.percent, row.means))}\n"
      f"  queries used: {row.query_use}"
      for row in rows
    ]
    heading = text.heading(results.first(sections[0]))
    blocks += [
      f"{heading}, {len(sections)} pre-trainings",
      table.plain(table.make(_COLUMNS, rows), beneath),
    ]
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"
