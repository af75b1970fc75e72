"""The numbers of a report: one row per method and protocol.

Fractions in [0, 1] here; percent exists only where text is made of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import hardness as hardness_lib
from fsl_jax import statistics, types

Section = Mapping[str, types.EvalResult]
"""One protocol: the results of several methods, by name, on the same
episodes; what `evaluate.run_many` returns."""

BASELINE = "support_init"
LEVEL = 0.05  # of a paired t test, below which a difference is significant

_LABELS = {
  "prototype": "nearest prototype",
  "support_init": "support-based initialisation",
  "finetune": "fine-tuning",
  "transductive_finetune": "transductive fine-tuning",
}


class Row(NamedTuple):
  """One method on one protocol; fractions in [0, 1]."""

  name: str
  label: str  # for people
  query_use: str
  mean: float  # NaN without a finite episode
  std: float  # of the population; NaN below two episodes: one has no spread
  ci95: float  # half-width; NaN as `std`
  median: float
  worst: float  # mean of the worst 5 % of the episodes
  num_finite: int  # n of the mean and of the interval
  num_non_finite: int
  # Minus the baseline; None for the baseline and where it is absent.
  difference: statistics.Paired | None
  line: hardness_lib.Line | None


def label(name: str) -> str:
  """A method's name for people; the name itself where there is no other."""
  return _LABELS.get(name, name)


def check(sections: Sequence[Section]) -> None:
  """Checks that methods of a section can be compared.

  Raises:
    InputError: if there is no section, or a section has no method, or its
      methods met different episodes or protocols.
  """
  if not sections:
    raise types.InputError("a report needs at least one section, got none")
  for number, section in enumerate(sections, 1):
    if not section:
      raise types.InputError(f"section {number} of the report has no method")
    first_name, first = next(iter(section.items()))
    for name, result in section.items():
      if dict(result.protocol) != dict(first.protocol):
        raise types.InputError(
          f"section {number} of the report mixes protocols: {first_name!r} has "
          f"{dict(first.protocol)}, {name!r} has {dict(result.protocol)}"
        )
      if not (
        np.array_equal(result.index, first.index)
        and np.array_equal(result.digests, first.digests)
      ):
        raise types.InputError(
          f"in section {number} of the report {first_name!r} and {name!r} met "
          "different episodes; methods are compared on the same ones only"
        )


def of_section(section: Section) -> list[Row]:
  """The numbers of a section, one row per method, in the section's order."""
  baseline = section.get(BASELINE)
  result_rows = []
  for name, result in section.items():
    summary = statistics.summary(result.accuracy)
    result_rows.append(
      Row(
        name=name,
        label=label(name),
        query_use=result.query_use,
        mean=summary.mean,
        # The deviation of one episode from itself says nothing.
        std=summary.std if summary.num > 1 else math.nan,
        ci95=summary.ci95,
        median=summary.median,
        worst=summary.worst,
        num_finite=summary.num,
        num_non_finite=summary.num_left_out,
        difference=None
        if baseline is None or name == BASELINE
        else statistics.paired(result.accuracy, baseline.accuracy),
        line=hardness_lib.fit_line(result.hardness, result.accuracy),
      )
    )
  return result_rows


def class_intervals(section: Section) -> dict[str, statistics.Interval]:
  """By method: of the mean, over the choice of classes too, within [0, 1].

  Apart from `of_section`, for the sake of the time they take.
  """
  intervals = {
    name: statistics.class_interval(result.accuracy, result.class_ids)
    for name, result in section.items()
  }
  return {
    name: interval._replace(
      low=max(interval.low, 0.0), high=min(interval.high, 1.0)
    )
    for name, interval in intervals.items()
  }


def difference_intervals(
  section: Section,
) -> dict[str, statistics.Interval | None]:
  """By method: of the difference to the baseline, over the choice of classes
  too; None for the baseline."""
  baseline = section[BASELINE]
  return {
    name: None
    if name == BASELINE
    else statistics.class_interval(
      result.accuracy - baseline.accuracy, result.class_ids
    )
    for name, result in section.items()
  }


def pooled_line(
  sections: Sequence[Section], name: str
) -> hardness_lib.Line | None:
  """A method's line through its episodes of all protocols (Figure 3)."""
  results = [section[name] for section in sections if name in section]
  return hardness_lib.fit_line(
    np.concatenate([result.hardness for result in results]),
    np.concatenate([result.accuracy for result in results]),
  )


def pooled_interval(
  sections: Sequence[Section], name: str
) -> hardness_lib.LineInterval | None:
  """Bootstrap intervals of `pooled_line`; None where there is no line."""
  results = [section[name] for section in sections if name in section]
  return hardness_lib.line_interval(
    [result.hardness for result in results],
    [result.accuracy for result in results],
  )


def area_difference(
  sections: Sequence[Section], name: str
) -> hardness_lib.AreaDifference | None:
  """Area of a method less that of the baseline, through the episodes of the
  protocols where both are; None for the baseline, and where one has no area."""
  both = [s for s in sections if name in s and BASELINE in s]
  if name == BASELINE or not both:
    return None
  return hardness_lib.area_difference(
    [s[name].hardness for s in both],
    [s[name].accuracy for s in both],
    [s[BASELINE].accuracy for s in both],
  )


def method_names(sections: Sequence[Section]) -> list[str]:
  """Names of all methods, in the order of their first appearance."""
  return list(dict.fromkeys(name for section in sections for name in section))


def first(section: Section) -> types.EvalResult:
  """Any result of a section, for what its methods have in common."""
  return next(iter(section.values()))
