"""The tables of a run, for the terminal, for Markdown and for the page.

An accuracy never appears without its number of episodes, its interval and
what of the queries the method used.
"""

import math
from collections.abc import Sequence
from typing import Any

from fsl_jax import adapt, results
from fsl_jax.report import table, text

INTERVAL = "± is 1.96 std / sqrt(n), std of the population over n episodes"
MAX_CLASSES = 100  # rows of a table of classes; of more it has both ends


def _difference(method: results.MethodSummary) -> table.Cell:
  """Its n is added where it is not that of the row."""
  found = method.difference
  if found is None:
    return table.Cell("reference", 0.0)
  cell = table.estimate(found.mean, found.ci95, "+")
  if found.num_episodes in (0, method.accuracy.num):
    return cell
  return cell._replace(text=f"{cell.text} (n = {found.num_episodes})")


def _p(method: results.MethodSummary) -> table.Cell:
  if method.difference is None:
    return table.Cell("", math.nan)
  return table.p_value(method.difference.p_t)


def _diverged(method: results.MethodSummary) -> table.Cell:
  count = method.accuracy.num_left_out
  return table.Cell(str(count) if count else "", count)


METHOD = table.Column(
  "method",
  lambda m: table.Cell(m.label, detail=f"queries used: {m.result.query_use}"),
)
ACCURACY = table.Column(
  "accuracy",
  lambda m: table.estimate(m.accuracy.mean, m.accuracy.ci95),
  "% ± 95 %",
  "accuracy %",
)
_PAIRED = (  # that only a comparison with the baseline has
  table.Column("difference", _difference, "pp ± 95 %"),
  table.Column(
    "difference",
    lambda m: table.interval(m.difference_class_interval),
    "with classes, pp",
  ),
  table.Column("p", _p, "paired t"),
)
_DIFFERENCE, _DIFFERENCE_WITH_CLASSES, _P = _PAIRED
_NUM = table.Column("n", lambda m: table.count(m.accuracy.num))
_NAN = table.Column("NaN", _diverged)
_STD = table.Column("std", lambda m: table.percent(m.accuracy.std), "pp")
_MEDIAN = table.Column(
  "median", lambda m: table.percent(m.accuracy.median), "%", "median %"
)
_WORST = table.Column(
  "worst 5 %", lambda m: table.percent(m.accuracy.worst), "mean, %"
)
_WITH_CLASSES = table.Column(
  "accuracy",
  lambda m: table.interval(m.class_interval),
  "with classes, %",
  "with classes",
)
_QUERY_USE = table.Column(
  "queries used", lambda m: table.Cell(m.result.query_use)
)

_TERMINAL = (METHOD, ACCURACY, _DIFFERENCE, _STD, _NUM, _NAN)
_TERMINAL_MORE = (METHOD, _MEDIAN, _WORST, _WITH_CLASSES, _P)
_MARKDOWN = (*_TERMINAL, _QUERY_USE)
_PAGE = (
  *(METHOD, ACCURACY, _DIFFERENCE),  # A phone shows these three.
  *(_NUM, _NAN, _DIFFERENCE_WITH_CLASSES, _P),
  *(_WITH_CLASSES, _MEDIAN, _WORST, _STD),
)


def accuracy(
  section: results.SectionSummary, columns: Sequence[table.Column] = _PAGE
) -> table.Table:
  """A row per method."""
  if not section.is_paired:
    columns = [column for column in columns if column not in _PAIRED]
  return table.make(columns, section.methods.values())


def footnotes(summary: results.Summary) -> list[str]:
  """Sentences on what the columns mean."""
  notes = [f"{INTERVAL}.", "n: episodes in the mean."]
  methods = (m for s in summary.sections for m in s.methods.values())
  if any(method.accuracy.num_left_out for method in methods):
    notes.append(
      "NaN: episodes in which the method diverged (NaN or Inf); they are in no "
      "mean."
    )
  notes += [
    "worst 5 %: mean accuracy of the worst twentieth of the episodes.",
    "with classes: 95 % interval that also covers the sampling of classes; ± "
    "is conditional on the classes.",
  ]
  if summary.is_paired:
    notes.append(
      f"difference: accuracy minus that of {adapt.label(results.BASELINE)}, "
      "in percentage points (pp), paired over the episodes finite in both; p: "
      "of the paired t test, conditional on the classes."
    )
  return notes


def terminal(summary: results.Summary) -> str:
  """Plain text for a terminal, in 80 columns with the library's methods."""
  blocks = []
  for section in summary.sections:
    uses = [f"queries used: {r.query_use}" for r in section.section.values()]
    blocks += [
      text.heading(section.first),
      table.plain(accuracy(section, _TERMINAL), uses),
      table.plain(accuracy(section, _TERMINAL_MORE)),
    ]
  notes = [*warnings(summary), *footnotes(summary)]
  if summary.is_paired:
    notes.append("The page also has differences with classes.")
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, notes))]) + "\n"


def markdown(summary: results.Summary) -> str:
  """Markdown tables, for a README."""
  blocks = []
  for section in summary.sections:
    blocks += [
      f"**{text.heading(section.first)}**",
      table.markdown(accuracy(section, _MARKDOWN)),
    ]
  return "\n\n".join([*blocks, " ".join(footnotes(summary))]) + "\n"


def _share(name: str, head: str, unit: str) -> table.Column:
  """Empty where not defined: of methods without steps, a whole column."""

  def cell(method: results.MethodSummary) -> table.Cell:
    found = table.percent(getattr(method.behaviour, name), 1)
    return found._replace(text=found.text.replace("n/a", ""))

  return table.Column(head, cell, unit)


def _ways(method: results.MethodSummary) -> table.Cell:
  found = method.behaviour
  if not math.isfinite(found.effective_ways):
    return table.Cell("n/a", math.nan)
  shown = f"{found.effective_ways:.2f} of {found.true_effective_ways:.2f}"
  return table.Cell(shown, found.effective_ways)


def _collapsed(method: results.MethodSummary) -> table.Cell:
  count = method.behaviour.num_collapsed
  mark = "▲ " if count else ""
  return table.Cell(f"{mark}{count} of {method.accuracy.num}", count)


_BEHAVIOUR = (
  METHOD._replace(cell=lambda m: table.Cell(m.label)),
  _share("support_accuracy", "support accuracy", "%, adapted"),
  _share("changed", "changed", "% of queries"),
  _share("better", "for the better", "% of queries"),
  _share("worse", "for the worse", "% of queries"),
  table.Column("effective ways", _ways, "predicted of true"),
  table.Column("collapsed", _collapsed, "episodes"),
)

BEHAVIOUR_NOTES = (
  "support accuracy: on the support images, not augmented, after adaptation.",
  "changed: queries whose predicted class differs before and after adaptation, "
  "for the better or the worse where one of the two is correct.",
  "effective ways: exp of the entropy of the histogram of predicted classes; N "
  "if all are predicted equally often, 1 if predictions collapse to one class.",
  "collapsed: episodes with fewer than half of the true effective ways; ▲ "
  "marks a method that has some.",
)


def behaviour(section: results.SectionSummary) -> table.Table:
  """What adaptation did to the predictions: means over the finite episodes."""
  return table.make(_BEHAVIOUR, section.methods.values())


def warnings(summary: results.Summary) -> list[str]:
  """A sentence if the predictions of a method collapsed, else none."""
  found = [
    f"{method.label} in {method.behaviour.num_collapsed} of "
    f"{section.num_episodes} ({section.protocol_name})"
    for section in summary.sections
    for method in section.methods.values()
    if method.behaviour.num_collapsed
  ]
  if not found:
    return []
  return [
    "Predictions collapsed to fewer than half of the classes: "
    f"{'; '.join(found)}. These episodes are in the mean."
  ]


def both_ends(rows: Sequence[Any], worst: str, best: str) -> tuple[Any, str]:
  """At most `MAX_CLASSES` rows, from both ends, and which they are."""
  count = text.counted(len(rows), "class", "classes")
  if len(rows) <= MAX_CLASSES:
    return rows, count
  half = MAX_CLASSES // 2
  note = f"The {half} {worst} and the {half} {best} of {count}"
  return [*rows[:half], *rows[-half:]], note


def classes(
  found: Sequence[results.ClassRow],
) -> tuple[table.Table, str]:
  """The accuracy by class, worst first, and a sentence on what is shown."""
  *_, last = found[0].accuracy
  found, note = both_ends(found, "worst", "best")
  note = f"{note}, worst first by {adapt.label(last)}."

  def of_method(name: str) -> table.Column:
    return table.Column(
      adapt.label(name), lambda r: table.percent(r.accuracy[name], 1), "%"
    )

  columns = [
    table.Column("class", lambda row: table.Cell(row.name)),
    *map(of_method, found[0].accuracy),
    table.Column("queries", lambda row: table.count(row.num_queries)),
  ]
  return table.make(columns, found), note


def outcome(summary: results.Summary, subject: str) -> str:
  """The first sentence of a page: network, data, and what came out.

  The highest mean of each protocol with its paired difference to the baseline,
  or of more than three protocols how often each method has the highest.
  """
  best = [
    max(
      section.methods.values(),
      key=lambda m: m.accuracy.mean if m.accuracy.num else -1.0,
    )
    for section in summary.sections
  ]
  if len(best) <= 3:
    told = "; ".join(
      f"in {section.protocol_name} episodes {_best(section, method)}"
      for section, method in zip(summary.sections, best, strict=True)
    )
  else:
    labels = [method.label for method in best]
    told = f"of {len(best)} protocols the highest accuracy is that of "
    told += ", ".join(
      f"{label} in {labels.count(label)}" for label in dict.fromkeys(labels)
    )
  return f"{subject}: {told}." if subject else f"{told[0].upper()}{told[1:]}."


def _best(
  section: results.SectionSummary, method: results.MethodSummary
) -> str:
  found = method.accuracy
  words = "an accuracy of"
  if len(section.methods) > 1:
    words = "the highest accuracy,"
  words = (
    f"{method.label} has {words} {text.plus_minus(found.mean, found.ci95)}"
  )
  words += " %"
  paired = method.difference
  if paired is None:
    return words
  words += (
    f", {text.plus_minus(paired.mean, paired.ci95, sign='+')} pp against "
    f"{adapt.label(results.BASELINE)}"
  )
  if not paired.p_t < results.LEVEL:
    words += " (not significantly different)"
  return words
