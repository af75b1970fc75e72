"""What came out, in the sentence at the head of a page."""

import math
from collections.abc import Sequence

from fsl_jax.report import rows, text

_MOST = 3  # protocols that are told one by one


def sentence(subject: str, sections: Sequence[rows.Section]) -> str:
  """ "conv64, trained on ...: in 5-way 1-shot episodes ... ."

  Args:
    subject: network and data; may be empty.
    sections: the results; means of them decide, and the paired difference to
      the baseline says whether that is more than chance.
  """
  found = [rows.of_section(section) for section in sections]
  names = [text.short_heading(section) for section in sections]
  if len(sections) <= _MOST:
    told = "; ".join(
      f"in {name} episodes {_best(own)}"
      for name, own in zip(names, found, strict=True)
    )
  else:
    best = [_highest(own).label for own in found]
    told = f"of {len(found)} protocols the highest accuracy is that of "
    told += ", ".join(
      f"{label} in {best.count(label)}" for label in dict.fromkeys(best)
    )
  return f"{subject}: {told}." if subject else f"{told[0].upper()}{told[1:]}."


def _highest(section: Sequence[rows.Row]) -> rows.Row:
  return max(
    section, key=lambda row: row.mean if math.isfinite(row.mean) else -1.0
  )


def _best(section: Sequence[rows.Row]) -> str:
  row = _highest(section)
  most = "the highest accuracy" if len(section) > 1 else "an accuracy"
  return f"{row.label} has {most}{',' * (len(section) > 1)} {_numbers(row)}"


def _numbers(row: rows.Row) -> str:
  words = f"{text.plus_minus(row.mean, row.ci95)} %"
  if row.difference is None:
    return words
  paired = row.difference
  words += (
    f", {text.plus_minus(paired.mean, paired.ci95, sign='+')} pp against "
    f"{rows.label(rows.BASELINE)}"
  )
  if not paired.p_t < rows.LEVEL:
    words += " (not significantly different)"
  return words
