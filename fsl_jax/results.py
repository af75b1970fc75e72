"""The summary of a run: every number of it, computed once.

A section is what `evaluate.run_many` returns: several methods on the same
episodes of one protocol. `summarise` makes a `Summary` of sections; the
terminal, `result.json`, the figures and the page are views of that object.

    Summary                 a run; regression lines through all protocols
      SectionSummary        a protocol; accuracy by class
        MethodSummary       a method: mean and interval, paired difference, ...

Accuracies and differences are fractions, hardness is in nats. Each number is
computed when it is first used and then kept, since the intervals over classes
and the bootstrap of the lines take most of the time of a report.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import adapt, diagnosis, hardness, statistics, types

Section = Mapping[str, types.EvalResult]
"""One protocol: the results of several methods, by name, on the same
episodes."""

BASELINE = "support_init"  # the method that the others are compared with
LEVEL = 0.05  # of the paired t test: below it a difference is significant


def first(section: Section) -> types.EvalResult:
  """Any result of a section, for what its methods have in common."""
  return next(iter(section.values()))


def protocol_json(result: types.EvalResult) -> dict[str, Any]:
  """What is said of the protocol of a section in every JSON file."""
  keys = ("protocol", "protocol_name", "protocol_text", "num_episodes")
  return {key: getattr(result, key) for key in keys}


@dataclasses.dataclass(frozen=True, eq=False)
class MethodSummary:
  """One method on one protocol, and in comparison with a reference.

  Attributes:
    name: of the method.
    result: its episodes.
    reference: on the same episodes, such as that of the baseline, or of the
      same method in another run; None where there is nothing to compare with.
  """

  name: str
  result: types.EvalResult
  reference: types.EvalResult | None = None

  @property
  def label(self) -> str:
    return adapt.label(self.name)

  @functools.cached_property
  def accuracy(self) -> statistics.Summary:
    """Mean, std, ci95, median, worst, num and num_left_out."""
    return statistics.summary(self.result.accuracy)

  @functools.cached_property
  def difference(self) -> statistics.Paired | None:
    """Accuracy minus that of the reference, paired by episode."""
    if self.reference is None:
      return None
    return statistics.paired(self.result.accuracy, self.reference.accuracy)

  @functools.cached_property
  def class_interval(self) -> statistics.Interval:
    """95 % interval of the mean that also covers the sampling of classes,
    within [0, 1]."""
    found = statistics.class_interval(
      self.result.accuracy, self.result.class_ids
    )
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 1.0))

  @functools.cached_property
  def difference_class_interval(self) -> statistics.Interval | None:
    """95 % interval of the difference that also covers the sampling of
    classes."""
    if self.reference is None:
      return None
    return statistics.class_interval(
      self.result.accuracy - self.reference.accuracy, self.result.class_ids
    )

  @functools.cached_property
  def line(self) -> "HardnessLine | None":
    """Of accuracy against hardness; None where no line is defined."""
    return HardnessLine.of([self.result])

  @functools.cached_property
  def behaviour(self) -> diagnosis.Means:
    """What adaptation did to the predictions, over the finite episodes."""
    return diagnosis.of_result(self.result).means()

  def as_json(self) -> dict[str, Any]:
    found = self.accuracy
    between = self.difference_class_interval
    return {
      "label": self.label,
      "query_use": self.result.query_use,
      "mean": found.mean,
      "std": found.std,
      "ci95": found.ci95,
      "median": found.median,
      "worst": found.worst,
      "num_episodes": found.num + found.num_left_out,
      "num_finite": found.num,
      "num_non_finite": found.num_left_out,
      "difference": self.difference
      and {
        "to": self.reference and self.reference.method,
        **self.difference._asdict(),
        "class_interval": between and between._asdict(),
      },
      "class_interval": self.class_interval._asdict(),
      "hardness_line": self.line and self.line.as_json(),
      "diagnosis": self.behaviour._asdict(),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class HardnessLine:
  """A method's line through its episodes of one or more protocols (Figure 3).

  Attributes:
    line: least squares.
    results: of the method, one per protocol.
  """

  line: hardness.Line
  results: Sequence[types.EvalResult]

  @classmethod
  def of(cls, results: Sequence[types.EvalResult]) -> "HardnessLine | None":
    line = hardness.fit_line(
      np.concatenate([result.hardness for result in results]),
      np.concatenate([result.accuracy for result in results]),
    )
    return None if line is None else cls(line, results)

  @functools.cached_property
  def interval(self) -> hardness.LineInterval | None:
    """95 % bootstrap intervals over episodes."""
    return hardness.line_interval(
      [result.hardness for result in self.results],
      [result.accuracy for result in self.results],
    )

  @property
  def span(self) -> tuple[float, float]:
    """Hardness of the easiest and of the hardest episode."""
    values = np.concatenate([result.hardness for result in self.results])
    return float(np.nanmin(values)), float(np.nanmax(values))

  def as_json(self) -> dict[str, Any]:
    return self.line._asdict() | {
      "interval": self.interval and self.interval._asdict()
    }


class ClassRow(NamedTuple):
  """A class that has queries in a section."""

  name: str
  accuracy: Mapping[str, float]  # by method: fraction of its queries, or NaN
  num_queries: int  # in the episodes finite under the last method


@dataclasses.dataclass(frozen=True, eq=False)
class SectionSummary:
  """The methods of one protocol, on the same episodes.

  Attributes:
    section: the results.
    methods: by name, in the order of the section; the reference of each but
      the baseline is the baseline, where the section has it.
    class_names: of the data set, by class id, or None.
  """

  section: Section
  methods: Mapping[str, MethodSummary]
  class_names: Sequence[str] | None = None

  @property
  def first(self) -> types.EvalResult:
    """Any result, for what the methods have in common."""
    return first(self.section)

  @property
  def protocol_name(self) -> str:
    """Such as "5-way 1-shot"."""
    return self.first.protocol_name

  @property
  def num_episodes(self) -> int:
    return self.first.num_episodes

  @property
  def is_paired(self) -> bool:
    """Whether a method is compared with the baseline."""
    return any(method.reference for method in self.methods.values())

  @functools.cached_property
  def classes(self) -> list[ClassRow] | None:
    """The classes that have queries, worst first by the last method."""
    if self.class_names is None:
      return None
    found = {
      name: diagnosis.class_accuracy(result, len(self.class_names))
      for name, result in self.section.items()
    }
    accuracy, count = next(reversed(found.values()))
    used = np.flatnonzero(np.any([c for _, c in found.values()], axis=0))
    # NaN comes first: sorting would count it among the best.
    by_accuracy = np.argsort(np.nan_to_num(accuracy, nan=-1)[used], stable=True)
    return [
      ClassRow(
        name=self.class_names[i],
        accuracy={name: float(a[i]) for name, (a, _) in found.items()},
        num_queries=int(count[i]),
      )
      for i in used[by_accuracy]
    ]

  def as_json(self) -> dict[str, Any]:
    return {
      **protocol_json(self.first),
      "methods": {
        name: method.as_json() for name, method in self.methods.items()
      },
      "classes": self.classes and [row._asdict() for row in self.classes],
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
  """All numbers of a run.

  Attributes:
    sections: one per protocol.
  """

  sections: Sequence[SectionSummary]

  @property
  def method_names(self) -> list[str]:
    """Names of all methods, in the order of their first appearance."""
    names = (name for section in self.sections for name in section.methods)
    return list(dict.fromkeys(names))

  @property
  def is_paired(self) -> bool:
    """Whether a method is compared with the baseline."""
    return any(section.is_paired for section in self.sections)

  @functools.cached_property
  def lines(self) -> Mapping[str, HardnessLine | None]:
    """By method: the line through its episodes of all protocols."""
    return {
      name: HardnessLine.of(
        [s.section[name] for s in self.sections if name in s.section]
      )
      for name in self.method_names
    }

  def area_difference(self, name: str) -> hardness.AreaDifference | None:
    """Area of a method less that of the baseline, through the episodes of the
    protocols that have both; None for the baseline, and where one of them has
    no area."""
    both = [
      (method.result, method.reference)
      for section in self.sections
      for method in [section.methods.get(name)]
      if method is not None and method.reference is not None
    ]
    if not both:
      return None
    return hardness.area_difference(
      [result.hardness for result, _ in both],
      [result.accuracy for result, _ in both],
      [reference.accuracy for _, reference in both],
    )

  def as_json(self) -> dict[str, Any]:
    """The numbers as JSON values: fractions, full precision, None for NaN."""
    return plain(
      {
        "interval": "half-width, 1.96 std / sqrt(n)",
        "sections": [section.as_json() for section in self.sections],
        "hardness_lines": {
          name: line and line.as_json() | {"area_difference": self._area(name)}
          for name, line in self.lines.items()
        },
      }
    )

  def _area(self, name: str) -> dict[str, Any] | None:
    found = self.area_difference(name)
    return found and {"to": BASELINE, **found._asdict()}


def summarise(
  sections: Iterable[Section], class_names: Sequence[str] | None = None
) -> Summary:
  """Summarises the results of a run.

  Args:
    sections: what `evaluate.run_many` returns, one per protocol.
    class_names: of the data set, by class id; with them each section has the
      accuracy of every class that has queries.

  Raises:
    InputError: if there is no section, or a section has no method, or its
      methods were evaluated on different episodes or protocols, or a class has
      no name.
  """
  sections = tuple(sections)
  check(sections)
  if class_names is not None:
    _check_names(sections, class_names)
  return Summary(
    [
      SectionSummary(
        section,
        {
          name: MethodSummary(
            name, result, None if name == BASELINE else section.get(BASELINE)
          )
          for name, result in section.items()
        },
        class_names,
      )
      for section in sections
    ]
  )


def check(sections: Sequence[Section]) -> None:
  """Checks that the methods of each section can be compared.

  Raises:
    InputError: as `summarise`.
  """
  if not sections:
    raise types.InputError("a report needs at least one section, got none")
  for number, section in enumerate(sections, 1):
    if not section:
      raise types.InputError(f"section {number} of the report has no method")
    name, one = next(iter(section.items()))
    for other_name, other in section.items():
      if dict(other.protocol) != dict(one.protocol):
        raise types.InputError(
          f"section {number} of the report mixes protocols: {name!r} has "
          f"{dict(one.protocol)}, {other_name!r} has {dict(other.protocol)}"
        )
      if not same_episodes(one, other):
        raise types.InputError(
          f"in section {number} of the report {name!r} and {other_name!r} were "
          "evaluated on different episodes, expected the same ones"
        )


def same_episodes(one: types.EvalResult, other: types.EvalResult) -> bool:
  """Whether two results are of the same episodes, in the same order."""
  return np.array_equal(one.index, other.index) and np.array_equal(
    one.digests, other.digests
  )


def _check_names(
  sections: Sequence[Section], class_names: Sequence[str]
) -> None:
  results = (result for section in sections for result in section.values())
  largest = max(int(result.class_ids.max()) for result in results)
  if largest >= len(class_names):
    raise types.InputError(
      "class_names must name every class of the data set: got "
      f"{len(class_names)} names, but an episode has class {largest}"
    )


def plain(value: Any) -> Any:
  """Python's own types; NaN and infinity, which JSON lacks, become None."""
  if isinstance(value, Mapping):
    return {str(key): plain(inner) for key, inner in value.items()}
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return [plain(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
