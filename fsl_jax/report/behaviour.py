"""What adaptation did to the predictions, as a table and in a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fsl_jax import diagnosis
from fsl_jax.report import rows, table, text

_COLUMNS = (
  table.Column("method"),
  table.Column("support", "support accuracy", "%, adapted"),
  table.Column("changed", "changed", "% of queries"),
  table.Column("better", "for the better", "% of queries"),
  table.Column("worse", "for the worse", "% of queries"),
  table.Column("ways", "effective ways", "predicted of true"),
  table.Column("collapsed", "collapsed", "episodes"),
)

FOOTNOTES = (
  "support accuracy: of the support pictures, not augmented, after adaptation.",
  "changed: queries whose class is another after adaptation than before it, "
  "for the better or the worse where one of the two is right.",
  "effective ways: exp of the entropy of how often each class is predicted; N "
  "if all are predicted equally often, 1 if always the same.",
  "collapsed: episodes with fewer than half of the true effective ways; ▲ "
  "marks a method that has some.",
)


def behaviour(section: rows.Section) -> table.Table:
  """Means over the finite episodes of each method."""
  return table.Table(
    _COLUMNS,
    [
      [
        table.Cell(rows.label(name)),
        *(_share(numbers[key]) for key in _SHARES),
        table.Cell(
          _ways(numbers["effective_ways"], numbers["true_effective_ways"]),
          numbers["effective_ways"],
        ),
        table.Cell(
          f"{'▲ ' * (numbers['num_collapsed'] > 0)}{numbers['num_collapsed']} "
          f"of {result.num_episodes - result.num_non_finite}",
          numbers["num_collapsed"],
        ),
      ]
      for name, result in section.items()
      for numbers in [of_result(result)]
    ],
  )


_SHARES = ("support_accuracy", "changed", "better", "worse")
_MEANS = (*_SHARES, "effective_ways", "true_effective_ways", "divergence")


def of_result(result: Any) -> dict[str, Any]:
  """Means of `diagnosis.of_result` over the finite episodes; fractions,
  ways, nats. NaN where there is none."""
  found = diagnosis.of_result(result)
  means = {name: _mean(getattr(found, name)) for name in _MEANS}
  return means | {"num_collapsed": found.num_collapsed}


def warnings(sections: Sequence[rows.Section]) -> list[str]:
  """A sentence if a method collapsed, else none."""
  found = [
    f"{rows.label(name)} in {number} of {result.num_episodes} "
    f"({text.short_heading(section)})"
    for section in sections
    for name, result in section.items()
    for number in [diagnosis.of_result(result).num_collapsed]
    if number
  ]
  if not found:
    return []
  return [
    "Collapsed to fewer than half of the classes there are: "
    + "; ".join(found)
    + ". The episodes are in the mean."
  ]


def _mean(values: np.ndarray) -> float:
  finite = values[np.isfinite(values)]
  return float(finite.mean()) if len(finite) else float("nan")


def _share(fraction: float) -> table.Cell:
  """Empty where there is none: of methods without steps, a whole column."""
  shown = text.percent(fraction, 1) if np.isfinite(fraction) else ""
  return table.Cell(shown, fraction)


def _ways(predicted: float, true: float) -> str:
  return f"{predicted:.2f} of {true:.2f}" if np.isfinite(predicted) else "n/a"
