"""Two runs on the same episodes: each method in both, and the difference."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import results, types
from fsl_jax.report import figures, page, svg, table, tables, text

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


def of_pair(pair: Pair) -> list[results.MethodSummary]:
  """The methods that are in both, in the order of the first run; the reference
  of each is the same method in the second."""
  first, second = pair
  return [
    results.MethodSummary(name, result, second[name])
    for name, result in first.items()
    if name in second
  ]


def rule(section: results.Section) -> dict[str, Any]:
  """The protocol, whether its episodes were drawn or read from a file."""
  protocol = results.first(section).protocol
  return {name: value for name, value in protocol.items() if name != "file"}


def check(pairs: Sequence[Pair], names: tuple[str, str]) -> None:
  """Checks that the runs can be compared.

  Raises:
    InputError: as `results.check`; if the names are equal; or if the sections
      of a pair differ in protocol or episodes, or share no method.
  """
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


def verdict(method: results.MethodSummary, names: tuple[str, str]) -> str:
  """ "A is better by 1.20 ± 0.50 pp (p < 0.001)", or not significant."""
  paired, between = method.difference, method.difference_class_interval
  assert paired is not None and between is not None  # noqa: PT018
  if not paired.num_episodes:
    return "not compared: no episode is finite in both"
  p = text.p_phrase(paired.p_t)
  if not paired.p_t < results.LEVEL:
    signed = text.plus_minus(paired.mean, paired.ci95, sign="+")
    return f"not significantly different: {signed} pp ({p})"
  points = text.plus_minus(abs(paired.mean), paired.ci95)
  better = (
    f"{names[0 if paired.mean > 0 else 1]} is better by {points} pp ({p})"
  )
  # Of NaN, nothing is known.
  if not (between.low > 0 or between.high < 0):
    better += " on these classes, which need not hold for others"
  return better


def _outcome(pairs: Sequence[Pair], names: tuple[str, str]) -> str:
  """The verdicts in a sentence, or how many of them favour which run."""
  found = [(method, pair[0]) for pair in pairs for method in of_pair(pair)]
  if len(found) <= 3:
    told = (
      f"{method.label}, {results.first(section).protocol_name}: "
      f"{verdict(method, names)}"
      for method, section in found
    )
    return "; ".join(told) + "."
  differences = [method.difference for method, _ in found if method.difference]
  significant = [d.mean > 0 for d in differences if d.p_t < results.LEVEL]
  first = sum(significant)
  return (
    f"of {len(found)} comparisons {names[0]} is better in {first}, {names[1]} "
    f"in {len(significant) - first}, and {len(found) - len(significant)} show "
    "no significant difference."
  )


def _query_uses(method: results.MethodSummary) -> str:
  assert method.reference is not None
  first, second = method.result.query_use, method.reference.query_use
  if first == second:
    return f"queries used: {first}"
  return f"queries used: {first} (first), {second} (second)"


def _columns(names: Sequence[str]) -> tuple[list[table.Column], ...]:
  """The columns of a terminal, and those that only the page has."""
  return (
    [
      tables.METHOD._replace(
        cell=lambda m: table.Cell(m.label, detail=_query_uses(m))
      ),
      tables.ACCURACY._replace(head=names[0], plain=""),
      tables.ACCURACY._replace(
        head=names[1],
        plain="",
        cell=lambda m: table.estimate(m.reference.mean, m.reference.ci95),
      ),
      table.Column(
        "difference",
        lambda m: table.estimate(m.difference.mean, m.difference.ci95, "+"),
        "pp ± 95 %",
      ),
    ],
    [
      table.Column(
        "difference",
        lambda m: table.interval(m.difference_class_interval),
        "with classes, pp",
      ),
      table.Column("p", lambda m: table.p_value(m.difference.p_t), "paired t"),
      table.Column(
        "p", lambda m: table.p_value(m.difference.p_wilcoxon), "Wilcoxon"
      ),
      table.Column("wins", lambda m: table.count(m.difference.wins)),
      table.Column("ties", lambda m: table.count(m.difference.ties)),
      table.Column("losses", lambda m: table.count(m.difference.losses)),
      table.Column("n", lambda m: table.count(m.difference.num_episodes)),
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
  short = [name if len(name) <= 14 else svg.fit(name, 80, 9) for name in names]
  if short[0] == short[1]:
    short = ["first", "second"]
  blocks = [f"{names[0]} against {names[1]}"]
  for pair in pairs:
    found = of_pair(pair)
    blocks += [
      text.heading(results.first(pair[0])),
      table.plain(table.make(_columns(short)[0], found)),
      "\n".join(text.wrap(_sentence(method, names)) for method in found),
    ]
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"


def _sentence(method: results.MethodSummary, names: tuple[str, str]) -> str:
  paired = method.difference
  assert paired is not None
  return (
    f"{method.label}: {verdict(method, names)}; {paired.wins} won, "
    f"{paired.ties} tied, {paired.losses} lost; with classes "
    f"{table.interval(method.difference_class_interval).text}. "
    f"{_query_uses(method)}"
  )


def json_values(
  pairs: Sequence[Pair], names: tuple[str, str] = ("A", "B")
) -> dict[str, Any]:
  """All numbers as JSON values: fractions, full precision, None for NaN.

  Raises:
    InputError: as `check`.
  """
  check(pairs, names)
  return results.plain(
    {
      "names": names,
      "difference": "the first minus the second, paired by episode",
      "sections": [
        {
          **results.protocol_json(results.first(pair[0])),
          "methods": {
            method.name: _method_json(method, pair[1][method.name], names)
            for method in of_pair(pair)
          },
        }
        for pair in pairs
      ],
    }
  )


def _method_json(
  method: results.MethodSummary,
  other: types.EvalResult,
  names: tuple[str, str],
) -> dict[str, Any]:
  paired, between = method.difference, method.difference_class_interval
  assert paired is not None and between is not None  # noqa: PT018
  return {
    "label": method.label,
    "a": method.accuracy._asdict(),
    "b": results.MethodSummary(method.name, other).accuracy._asdict(),
    "difference": paired._asdict(),
    "class_interval": between._asdict(),
    "query_uses": (method.result.query_use, other.query_use),
    "verdict": verdict(method, names),
  }


def write(
  folder: str | os.PathLike[str],
  pairs: Sequence[Pair],
  *,
  title: str,
  provenance_a: Mapping[str, Any] | None = None,
  provenance_b: Mapping[str, Any] | None = None,
  names: tuple[str, str] = ("A", "B"),
  subject: str = "the same episodes",
) -> list[pathlib.Path]:
  """Writes `comparison.json`, `figures/differences.svg`, `comparison.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    folder: it is made if there is none.
    pairs: the sections of both runs, one pair per protocol, on the same
      episodes; methods that are in one run only are left out.
    title: of the page.
    provenance_a: JSON values of the first run, for the foot of the page.
    provenance_b: of the second.
    names: of the runs, for people; they differ.
    subject: networks and data in words, as in "A against B on ...".

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: as `check`.
  """
  check(pairs, names)
  provenance = {
    name: dict(of_run or {})
    for name, of_run in zip(names, (provenance_a, provenance_b), strict=True)
  }
  (method, *accuracies, difference), more = _columns(names)
  # The difference first, since a phone shows little beside the method.
  columns = [method, difference, *accuracies, *more]
  found = [(pair, of_pair(pair)) for pair in pairs]
  blocks = [
    page.Block(
      text.heading(results.first(pair[0])),
      table.make(columns, methods),
      [f"{m.label}: {verdict(m, names)}." for m in methods],
    )
    for pair, methods in found
  ]
  figure = _figure(pairs, names)
  return page.save(
    folder,
    {"title": title, **json_values(pairs, names), "provenance": provenance},
    [figure],
    page.render(
      title,
      f"{names[0]} against {names[1]} on {subject}: {_outcome(pairs, names)}",
      [page.Part("Difference in accuracy", blocks, NOTES)],
      [figure],
      provenance,
    ),
    names=("comparison.json", "comparison.html"),
  )


def _figure(pairs: Sequence[Pair], names: tuple[str, str]) -> figures.Figure:
  """Paired difference and 95 % interval per method, a panel per protocol."""
  found = [(results.first(pair[0]), of_pair(pair)) for pair in pairs]
  looks = svg.looks(list(dict.fromkeys(m.name for _, ms in found for m in ms)))
  title = f"{names[0]} minus {names[1]}"
  count = text.episode_count([first.num_episodes for first, _ in found])
  return figures.Figure(
    "differences",
    title,
    figures.intervals(
      [
        (
          text.heading(first),
          [
            figures.Bar.of(m, *m.difference[:2], looks[m.name].colour, "+")
            for m in methods
            if m.difference
          ],
        )
        for first, methods in found
      ],
      x_label="Difference (pp)",
      with_zero=True,
      title=title,
    ),
    "Across: difference in accuracy, in percentage points; right of 0 "
    f"{names[0]} is better; {count}. Dot: mean of the paired differences. Bar: "
    "its 95 % interval, ± 1.96 std / √n of the differences.",
  )
