"""Two runs on the same episodes: each method in both, and the difference."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import adapt, results, statistics, types
from fsl_jax.report import figures, page, svg, table, text

Pair = tuple[results.Section, results.Section]
"""The sections of both runs for one protocol."""

NOTES = (
  "Differences are paired, episode by episode, over the n finite in both; "
  "± is 1.96 std / √n. p: of the paired t test.",
  f"Significant: p below {results.LEVEL}, which one in twenty comparisons of "
  "equals is by chance.",
  "± and p are conditional on the classes. With classes: a 95 % interval of "
  "the difference that also covers the sampling of classes. Neither covers "
  "another pre-training.",
)


class Row(NamedTuple):
  """One method in two runs, on the same episodes; fractions in [0, 1]."""

  name: str
  a: statistics.Summary
  b: statistics.Summary
  difference: statistics.Paired  # a - b
  between: statistics.Interval  # of it, also over the sampling of classes
  query_uses: tuple[str, str]  # of both
  verdict: str

  @property
  def label(self) -> str:
    return adapt.label(self.name)

  @property
  def query_use(self) -> str:
    first, second = self.query_uses
    if first == second:
      return f"queries used: {first}"
    return f"queries used: {first} (first), {second} (second)"


class Section(NamedTuple):
  """One protocol: the methods that are in both runs."""

  result: types.EvalResult  # any, for what they have in common
  rows: list[Row]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """Two runs, compared; the views below are of this.

  Attributes:
    names: of the runs.
    sections: one per protocol.
  """

  names: tuple[str, str]
  sections: Sequence[Section]

  def as_json(self) -> dict[str, Any]:
    """All numbers: fractions, full precision, None for NaN."""
    return results.plain(
      {
        "names": self.names,
        "difference": "the first minus the second, paired by episode",
        "sections": [
          {
            **results.protocol_json(section.result),
            "methods": {
              row.name: {
                "label": row.label,
                "a": row.a._asdict(),
                "b": row.b._asdict(),
                "difference": row.difference._asdict(),
                "class_interval": row.between._asdict(),
                "query_uses": row.query_uses,
                "verdict": row.verdict,
              }
              for row in section.rows
            },
          }
          for section in self.sections
        ],
      }
    )


def compare(
  pairs: Sequence[Pair], names: tuple[str, str] = ("A", "B")
) -> Comparison:
  """Compares two runs, method by method.

  Args:
    pairs: the sections of both runs, one pair per protocol, on the same
      episodes; methods that are in one run only are left out.
    names: of the runs, for people; they differ.

  Raises:
    InputError: as `results.check`; if the names are equal; or if the sections
      of a pair differ in protocol or episodes, or share no method.
  """
  _check(pairs, names)
  return Comparison(
    names,
    [
      Section(
        results.first(first),
        [
          _row(results.MethodSummary(name, first[name], second[name]), names)
          for name in first
          if name in second
        ],
      )
      for first, second in pairs
    ],
  )


def rule(section: results.Section) -> dict[str, Any]:
  """The protocol, whether its episodes were drawn or read from a file."""
  protocol = results.first(section).protocol
  return {name: value for name, value in protocol.items() if name != "file"}


def _check(pairs: Sequence[Pair], names: tuple[str, str]) -> None:
  if names[0] == names[1]:
    raise types.InputError(
      f"the runs that are compared need two names, got {names[0]!r} twice"
    )
  for run in zip(*pairs, strict=True):
    results.check(run)
  if not pairs:
    raise types.InputError("a comparison needs at least one pair of sections")
  for number, pair in enumerate(pairs, 1):
    first, second = map(results.first, pair)
    where = f"pair {number} of the comparison"
    if rule(pair[0]) != rule(pair[1]):
      raise types.InputError(
        f"{where} mixes protocols: {names[0]!r} has {rule(pair[0])}, "
        f"{names[1]!r} has {rule(pair[1])}"
      )
    for field in ("index", "digests"):
      ours, theirs = getattr(first, field), getattr(second, field)
      if not np.array_equal(ours, theirs):
        raise types.InputError(
          f"in {where} {names[0]!r} and {names[1]!r} were evaluated on "
          f"different episodes: {field} of {list(ours.shape)} and "
          f"{list(theirs.shape)} must be the same; evaluate both on one data "
          "set, seed and number of episodes"
        )
    if not pair[0].keys() & pair[1].keys():
      raise types.InputError(
        f"in {where} no method is in both: {names[0]!r} has "
        f"{', '.join(pair[0])}, {names[1]!r} has {', '.join(pair[1])}"
      )


def _row(method: results.MethodSummary, names: tuple[str, str]) -> Row:
  other, difference = method.reference, method.difference
  between = method.difference_class_interval
  if other is None or difference is None or between is None:
    raise ValueError(f"{method.name} has no reference")
  return Row(
    name=method.name,
    a=method.accuracy,
    b=statistics.summary(other.accuracy),
    difference=difference,
    between=between,
    query_uses=(method.result.query_use, other.query_use),
    verdict=_verdict(difference, between, names),
  )


def _verdict(
  difference: statistics.Paired,
  between: statistics.Interval,
  names: tuple[str, str],
) -> str:
  """ "A is better by 1.20 ± 0.50 pp (p < 0.001)", or not significant."""
  if not difference.num_episodes:
    return "not compared: no episode is finite in both"
  p = text.p_phrase(difference.p_t)
  if not difference.p_t < results.LEVEL:
    signed = text.plus_minus(difference.mean, difference.ci95, sign="+")
    return f"not significantly different: {signed} pp ({p})"
  points = text.plus_minus(abs(difference.mean), difference.ci95)
  better = names[0 if difference.mean > 0 else 1]
  words = f"{better} is better by {points} pp ({p})"
  # Of NaN, nothing is known.
  if not (between.low > 0 or between.high < 0):
    words += " on these classes, which need not hold for others"
  return words


def _outcome(found: Comparison) -> str:
  """The verdicts in a sentence, or how many of them favour which run."""
  rows = [(row, section) for section in found.sections for row in section.rows]
  if len(rows) <= 3:
    told = (
      f"{row.label}, {section.result.protocol_name}: {row.verdict}"
      for row, section in rows
    )
    return "; ".join(told) + "."
  differences = [row.difference for row, _ in rows]
  significant = [d.mean > 0 for d in differences if d.p_t < results.LEVEL]
  first = sum(significant)
  return (
    f"of {len(rows)} comparisons {found.names[0]} is better in {first}, "
    f"{found.names[1]} in {len(significant) - first}, and "
    f"{len(rows) - len(significant)} show no significant difference."
  )


_METHOD = table.Column(
  "method", lambda row: table.Cell(row.label, detail=row.query_use)
)
_DIFFERENCE = table.column(
  "difference", "difference", table.difference, "pp ± 95 %"
)
_MORE = (
  table.column("difference", "between", table.interval, "with classes, pp"),
  table.column("p", "difference.p_t", table.p_value, "paired t"),
  table.column("p", "difference.p_wilcoxon", table.p_value, "Wilcoxon"),
  table.column("wins", "difference.wins", table.count),
  table.column("ties", "difference.ties", table.count),
  table.column("losses", "difference.losses", table.count),
  table.column("n", "difference.num_episodes", table.count),
)


def _accuracies(names: Sequence[str]) -> list[table.Column]:
  return [
    table.column(name, run, table.estimate, "% ± 95 %")
    for name, run in zip(names, "ab", strict=True)
  ]


def terminal(found: Comparison) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods."""
  heads = [n if len(n) <= 14 else svg.fit(n, 80, 9) for n in found.names]
  if heads[0] == heads[1]:
    heads = ["first", "second"]
  columns = [_METHOD, *_accuracies(heads), _DIFFERENCE]
  blocks = [f"{found.names[0]} against {found.names[1]}"]
  for section in found.sections:
    sentences = [
      f"{row.label}: {row.verdict}; {row.difference.wins} won, "
      f"{row.difference.ties} tied, {row.difference.losses} lost; with classes "
      f"{table.interval(row.between).text}. {row.query_use}"
      for row in section.rows
    ]
    blocks += [
      text.heading(section.result),
      table.plain(table.make(columns, section.rows)),
      "\n".join(map(text.wrap, sentences)),
    ]
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"


def write(
  folder: str | os.PathLike[str],
  found: Comparison,
  *,
  title: str,
  provenance_a: Mapping[str, Any] | None = None,
  provenance_b: Mapping[str, Any] | None = None,
  subject: str = "the same episodes",
) -> list[pathlib.Path]:
  """Writes `comparison.json`, `figures/differences.svg`, `comparison.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    folder: it is made if there is none.
    found: the comparison.
    title: of the page.
    provenance_a: JSON values of the first run, for the foot of the page.
    provenance_b: of the second.
    subject: networks and data in words, as in "A against B on ...".

  Returns:
    The paths of the files, the page last.
  """
  names = found.names
  both = (provenance_a or {}, provenance_b or {})
  provenance = {n: dict(p) for n, p in zip(names, both, strict=True)}
  # The difference first, since a phone shows little beside the method.
  columns = [_METHOD, _DIFFERENCE, *_accuracies(names), *_MORE]
  blocks = [
    page.Block(
      text.heading(section.result),
      table.make(columns, section.rows),
      [f"{row.label}: {row.verdict}." for row in section.rows],
    )
    for section in found.sections
  ]
  drawn = [_figure(found)]
  html = page.render(
    title,
    f"{names[0]} against {names[1]} on {subject}: {_outcome(found)}",
    [page.Part("Difference in accuracy", blocks, NOTES)],
    drawn,
    provenance,
  )
  values = {"title": title, **found.as_json(), "provenance": provenance}
  file_names = ("comparison.json", "comparison.html")
  return page.save(folder, values, drawn, html, names=file_names)


def _figure(found: Comparison) -> figures.Figure:
  """Paired difference and 95 % interval per method, a panel per protocol."""
  methods = [row.name for section in found.sections for row in section.rows]
  looks = svg.looks(list(dict.fromkeys(methods)))
  title = f"{found.names[0]} minus {found.names[1]}"
  count = text.episode_count([s.result.num_episodes for s in found.sections])
  return figures.Figure(
    "differences",
    title,
    figures.intervals(
      [
        (
          text.heading(section.result),
          [
            figures.bar(
              row.label, *row.difference[:2], looks[row.name].colour, "+"
            )
            for row in section.rows
          ],
        )
        for section in found.sections
      ],
      x_label="Difference (pp)",
      with_zero=True,
      title=title,
    ),
    f"Paired differences in accuracy over {count}, in percentage points: means "
    "with their 95 % intervals, ± 1.96 std / √n of the differences. To the "
    f"right of 0 {found.names[0]} is better.",
  )
