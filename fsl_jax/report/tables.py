"""The tables of a run, for the terminal, for Markdown and for the page.

An accuracy never appears without its number of episodes, its interval and
what of the queries the method used.
"""

import math
from collections.abc import Sequence
from typing import Any

from fsl_jax import adapt, diagnosis, results, statistics
from fsl_jax.report import table, text

INTERVAL = "± is 1.96 std / sqrt(n), std of the population over n episodes"
MAX_CLASSES = 100  # rows of a table of classes; of more it has both ends


def _difference(method: results.MethodSummary) -> table.Cell:
  """Its n is added where it is not that of the row."""
  found = method.difference
  if found is None:
    return table.Cell("reference", 0.0)
  cell = table.difference(found)
  if found.num_episodes in (0, method.accuracy.num):
    return cell
  return cell._replace(text=f"{cell.text} (n = {found.num_episodes})")


def _p(found: statistics.Paired | None) -> table.Cell:
  return table.p_value(found.p_t) if found else table.Cell("", math.nan)


def _diverged(count: int) -> table.Cell:
  return table.Cell(str(count) if count else "", count)


_METHOD = table.Column(
  "method",
  lambda m: table.Cell(m.label, detail=f"queries used: {m.result.query_use}"),
)
_ACCURACY = table.column(
  "accuracy", "accuracy", table.estimate, "% ± 95 %", "accuracy %"
)
_NUM = table.column("n", "accuracy.num", table.count)
_NAN = table.column("NaN", "accuracy.num_left_out", _diverged)
_STD = table.column("std", "accuracy.std", table.percent, "pp")
_MEDIAN = table.column(
  "median", "accuracy.median", table.percent, "%", "median %"
)
_WORST = table.column("worst 5 %", "accuracy.worst", table.percent, "mean, %")
_WITH_CLASSES = table.column(
  *("accuracy", "class_interval", table.interval),
  *("with classes, %", "with classes"),
)
_QUERY_USE = table.column("queries used", "result.query_use", table.Cell)
_PAIRED = (  # that only a comparison with the baseline has
  table.Column("difference", _difference, "pp ± 95 %"),
  table.column("p", "difference", _p, "paired t"),
  table.column(
    *("difference", "difference_class_interval", table.interval),
    "with classes, pp",
  ),
)
_DIFFERENCE, _P, _DIFFERENCE_WITH_CLASSES = _PAIRED

_TERMINAL = (_METHOD, _ACCURACY, _DIFFERENCE, _STD, _NUM, _NAN)
_TERMINAL_MORE = (_METHOD, _MEDIAN, _WORST, _WITH_CLASSES, _P)
_MARKDOWN = (*_TERMINAL, _QUERY_USE)
_PAGE = (
  *(_METHOD, _ACCURACY, _DIFFERENCE),  # A phone shows these three.
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
  """Plain text for a terminal, in 80 columns with the paper's methods."""
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


def _share(fraction: float) -> table.Cell:
  """Empty where not defined: of methods without steps, a whole column."""
  found = table.percent(fraction, 1)
  return found._replace(text=found.text.replace("n/a", ""))


def _ways(found: diagnosis.Means) -> table.Cell:
  ways = [found.effective_ways, found.true_effective_ways]
  shown = " of ".join(text.number(value, 2) for value in ways)
  return table.Cell(shown, ways[0])


def _collapsed(method: results.MethodSummary) -> table.Cell:
  count = method.behaviour.num_collapsed
  mark = "▲ " if count else ""
  return table.Cell(f"{mark}{count} of {method.accuracy.num}", count)


_BEHAVIOUR = (
  table.column("method", "label", table.Cell),
  table.column(
    "support accuracy", "behaviour.support_accuracy", _share, "%, adapted"
  ),
  table.column("changed", "behaviour.changed", _share, "% of queries"),
  table.column("for the better", "behaviour.better", _share, "% of queries"),
  table.column("for the worse", "behaviour.worse", _share, "% of queries"),
  table.column("effective ways", "behaviour", _ways, "predicted of true"),
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
      adapt.label(name), lambda r: table.percent_1(r.accuracy[name]), "%"
    )

  columns = [
    table.column("class", "name", table.Cell),
    *map(of_method, found[0].accuracy),
    table.column("queries", "num_queries", table.count),
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
  between = method.difference_class_interval
  if not paired.p_t < results.LEVEL:
    words += " (not significantly different)"
  elif between is None or not (between.low > 0 or between.high < 0):
    words += " (on these classes; not significant for the sampling of classes)"
  return words
