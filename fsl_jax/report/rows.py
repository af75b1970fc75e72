"""The numbers of a report: one row per method and protocol.

Fractions in [0, 1] here; percent exists only where text is made of them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import hardness as hardness_lib
from fsl_jax import types

Section = Mapping[str, types.EvalResult]
"""One protocol: the results of several methods, by name, on the same
episodes; what `evaluate.run_many` returns."""

BASELINE = "support_init"

_LABELS = {
  "prototype": "nearest prototype",
  "support_init": "support-based initialisation",
  "finetune": "fine-tuning",
  "transductive_finetune": "transductive fine-tuning",
}


class Difference(NamedTuple):
  """Accuracy minus that of the baseline, episode by episode."""

  mean: float  # fraction; NaN without an episode finite in both
  ci95: float  # half-width, fraction; NaN below two episodes
  num_episodes: int  # finite in both


class Row(NamedTuple):
  """One method on one protocol; fractions in [0, 1]."""

  name: str
  label: str  # for people
  query_use: str
  mean: float  # NaN without a finite episode
  std: float  # of the population; NaN below two episodes: one has no spread
  ci95: float  # half-width; NaN as `std`
  num_finite: int  # n of the mean and of the interval
  num_non_finite: int
  difference: Difference | None  # None for the baseline and where it is absent
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
      if not np.array_equal(result.index, first.index):
        raise types.InputError(
          f"in section {number} of the report {first_name!r} and {name!r} met "
          "different episodes; methods are compared on the same ones only"
        )


def difference(
  result: types.EvalResult, baseline: types.EvalResult
) -> Difference:
  """Mean paired difference and its interval, 1.96 std(difference) / sqrt(n).

  Episodes on which either is not finite are left out.
  """
  pairs = result.accuracy - baseline.accuracy
  pairs = pairs[np.isfinite(pairs)]
  if not len(pairs):
    return Difference(math.nan, math.nan, 0)
  return Difference(float(pairs.mean()), _half_width(pairs), len(pairs))


def of_section(section: Section) -> list[Row]:
  """The numbers of a section, one row per method, in the section's order."""
  baseline = section.get(BASELINE)
  result_rows = []
  for name, result in section.items():
    finite = result.accuracy[np.isfinite(result.accuracy)]
    result_rows.append(
      Row(
        name=name,
        label=label(name),
        query_use=result.query_use,
        mean=result.mean,
        std=result.std if len(finite) > 1 else math.nan,
        ci95=_half_width(finite),
        num_finite=len(finite),
        num_non_finite=result.num_non_finite,
        difference=None
        if baseline is None or name == BASELINE
        else difference(result, baseline),
        line=hardness_lib.fit_line(result.hardness, result.accuracy),
      )
    )
  return result_rows


def pooled_line(
  sections: Sequence[Section], name: str
) -> hardness_lib.Line | None:
  """A method's line through its episodes of all protocols (Figure 3)."""
  results = [section[name] for section in sections if name in section]
  return hardness_lib.fit_line(
    np.concatenate([result.hardness for result in results]),
    np.concatenate([result.accuracy for result in results]),
  )


def method_names(sections: Sequence[Section]) -> list[str]:
  """Names of all methods, in the order of their first appearance."""
  return list(dict.fromkeys(name for section in sections for name in section))


def first(section: Section) -> types.EvalResult:
  """Any result of a section, for what its methods have in common."""
  return next(iter(section.values()))


def _half_width(values: np.ndarray) -> float:
  return types.half_width(values) if len(values) > 1 else math.nan
