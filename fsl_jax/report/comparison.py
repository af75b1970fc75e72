"""Two runs on the same episodes: each method in both, and the difference."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import statistics, types
from fsl_jax.report import rows, svg, table, text, values

Pair = tuple[rows.Section, rows.Section]
"""The sections of both runs for one protocol."""

NOTES = (
  "Differences are paired, episode by episode, over the n finite in both; "
  "± is 1.96 std / √n. p: of the paired t test.",
  f"Significant: p below {rows.LEVEL}, which one in twenty comparisons of "
  "equals is by chance.",
  "± and p are conditional on the classes. With classes: a 95 % interval of "
  "the difference that also covers the sampling of classes. Neither covers "
  "another pre-training.",
)


class Row(NamedTuple):
  """One method in two runs, on the same episodes; fractions in [0, 1]."""

  name: str
  label: str
  a: statistics.Summary
  b: statistics.Summary
  difference: statistics.Paired  # a - b
  classes: statistics.Interval  # of it, over the choice of classes too
  query_uses: tuple[str, str]  # of both


def of_pair(pair: Pair) -> list[Row]:
  """A row per method that is in both, in the order of the first."""
  first, second = pair
  return [
    Row(
      name=name,
      label=rows.label(name),
      a=statistics.summary(result.accuracy),
      b=statistics.summary(second[name].accuracy),
      difference=statistics.paired(result.accuracy, second[name].accuracy),
      classes=statistics.class_interval(
        result.accuracy - second[name].accuracy, result.class_ids
      ),
      query_uses=(result.query_use, second[name].query_use),
    )
    for name, result in first.items()
    if name in second
  ]


def rule(section: rows.Section) -> dict[str, Any]:
  """The protocol, whether its episodes were drawn or read from a file."""
  protocol = rows.first(section).protocol
  return {name: value for name, value in protocol.items() if name != "file"}


def check(pairs: Sequence[Pair], names: tuple[str, str]) -> None:
  """Checks that the runs can be compared.

  Raises:
    InputError: as `rows.check`; if the names are equal; or if the sections of
      a pair differ in protocol or episodes, or share no method.
  """
  if names[0] == names[1]:
    raise types.InputError(
      f"the runs that are compared need two names, got {names[0]!r} twice"
    )
  for run in zip(*pairs, strict=True):
    rows.check(run)
  if not pairs:
    raise types.InputError("a comparison needs at least one pair of sections")
  for number, pair in enumerate(pairs, 1):
    first, second = map(rows.first, pair)
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
          f"in {where} {names[0]!r} and {names[1]!r} met different episodes: "
          f"{field} of {list(ours.shape)} and {list(theirs.shape)} must be "
          "the same; evaluate both on one data set, seed and number of episodes"
        )
    if not pair[0].keys() & pair[1].keys():
      raise types.InputError(
        f"in {where} no method is in both: {names[0]!r} has "
        f"{', '.join(pair[0])}, {names[1]!r} has {', '.join(pair[1])}"
      )


def sentences(pair: Pair, names: tuple[str, str]) -> list[str]:
  """One per method."""
  return [f"{row.label}: {verdict(row, names)}." for row in of_pair(pair)]


def verdict(row: Row, names: tuple[str, str]) -> str:
  """ "A is better by 1.20 ± 0.50 pp (p < 0.001)", or not significant."""
  paired = row.difference
  if not paired.num_episodes:
    return "not compared: no episode is finite in both"
  points = text.plus_minus(abs(paired.mean), paired.ci95)
  evidence = f"{points} pp ({text.p_phrase(paired.p_t)})"
  if not paired.p_t < rows.LEVEL:
    signed = text.plus_minus(paired.mean, paired.ci95, sign="+")
    return (
      f"not significantly different: {signed} pp ({text.p_phrase(paired.p_t)})"
    )
  better = names[0 if paired.mean > 0 else 1]
  # Of NaN, nothing is known.
  if not (row.classes.low > 0 or row.classes.high < 0):
    return (
      f"{better} is better by {evidence} on these classes, not surely on others"
    )
  return f"{better} is better by {evidence}"


def outcome(pairs: Sequence[Pair], names: tuple[str, str]) -> str:
  """The verdicts in a sentence, or how many of them name a better run."""
  told = [
    (f"{row.label}, {text.short_heading(pair[0])}", verdict(row, names), row)
    for pair in pairs
    for row in of_pair(pair)
  ]
  if len(told) <= 3:
    return "; ".join(f"{what}: {words}" for what, words, _ in told) + "."
  significant = [row for _, _, row in told if row.difference.p_t < rows.LEVEL]
  first = sum(row.difference.mean > 0 for row in significant)
  return (
    f"of {len(told)} comparisons {names[0]} is better in {first}, {names[1]} "
    f"in {len(significant) - first}, and {len(told) - len(significant)} show "
    "no significant difference."
  )


def comparison(pair: Pair, names: tuple[str, str]) -> table.Table:
  """All columns, for the page."""
  return table.Table(
    [
      table.Column("method"),
      # First, since a phone shows little beside the method.
      table.Column("difference", unit="pp ± 95 %"),
      *(table.Column(name, unit="% ± 95 %") for name in names),
      table.Column("difference", unit="with classes, pp"),
      table.Column("p", unit="paired t"),
      table.Column("p", unit="Wilcoxon"),
      table.Column("wins"),
      table.Column("ties"),
      table.Column("losses"),
      table.Column("n"),
    ],
    [
      [
        *(method, difference, *accuracies),
        table.Cell(
          text.low_to_high(row.classes.low, row.classes.high), row.classes.low
        ),
        *(
          table.Cell(text.p_value(p), p)
          for p in (row.difference.p_t, row.difference.p_wilcoxon)
        ),
        *(
          table.Cell(f"{count:,}", count)
          for count in (
            row.difference.wins,
            row.difference.ties,
            row.difference.losses,
            row.difference.num_episodes,
          )
        ),
      ]
      for row in of_pair(pair)
      for method, *accuracies, difference in [_numbers(row)]
    ],
  )


def terminal(pairs: Sequence[Pair], names: tuple[str, str] = ("A", "B")) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods.

  Args:
    pairs: the sections of both runs, one pair per protocol.
    names: of the runs.

  Raises:
    InputError: as `check`.
  """
  check(pairs, names)
  # What 14 letters of any typeface take.
  short = [name if len(name) <= 14 else svg.fit(name, 80, 9) for name in names]
  blocks = [f"{names[0]} against {names[1]}"]
  if short[0] == short[1]:
    short = ["first", "second"]
  for pair in pairs:
    found = of_pair(pair)
    columns = [table.Column(n) for n in ("method", *short, "difference")]
    shown = table.Table(columns, [_numbers(row) for row in found])
    blocks += [
      text.heading(pair[0]),
      "\n".join(table.lines(shown)),
      "\n".join(
        text.wrap(
          f"{row.label}: {verdict(row, names)}; {row.difference.wins} won, "
          f"{row.difference.ties} tied, {row.difference.losses} lost; with "
          f"classes {text.low_to_high(row.classes.low, row.classes.high)}. "
          f"{_query_uses(row)}"
        )
        for row in found
      ),
    ]
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"


def json_values(
  pairs: Sequence[Pair], names: tuple[str, str] = ("A", "B")
) -> dict[str, Any]:
  """All numbers as JSON values: fractions, full precision, None for NaN.

  Raises:
    InputError: as `check`.
  """
  check(pairs, names)
  return values.plain(
    {
      "names": names,
      "difference": "the first minus the second, paired by episode",
      "sections": [
        {
          "protocol": first.protocol,
          "protocol_name": first.protocol_name,
          "protocol_text": first.protocol_text,
          "num_episodes": first.num_episodes,
          "methods": {
            row.name: {
              "label": row.label,
              "a": row.a._asdict(),
              "b": row.b._asdict(),
              "difference": row.difference._asdict(),
              "class_interval": row.classes._asdict(),
              "query_uses": row.query_uses,
              "verdict": verdict(row, names),
            }
            for row in of_pair(pair)
          },
        }
        for pair in pairs
        for first in [rows.first(pair[0])]
      ],
    }
  )


def _numbers(row: Row) -> list[table.Cell]:
  """Method, both accuracies, difference."""
  paired = row.difference
  return [
    table.Cell(row.label, detail=_query_uses(row)),
    *(
      table.Cell(text.plus_minus(s.mean, s.ci95), s.mean)
      for s in (row.a, row.b)
    ),
    table.Cell(
      text.plus_minus(paired.mean, paired.ci95, sign="+"), paired.mean
    ),
  ]


def _query_uses(row: Row) -> str:
  first, second = row.query_uses
  if first == second:
    return f"queries used: {first}"
  return f"queries used: {first} (first), {second} (second)"
