"""Numbers and headings in words. Percent exists only in this package."""

import math
import re
import textwrap
from collections.abc import Sequence

from fsl_jax import types


def counted(count: int, singular: str, plural: str = "") -> str:
  """ "1 episode", "3 episodes"."""
  return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def episode_count(counts: Sequence[int]) -> str:
  """ "100 episodes per protocol"; their sum where they differ."""
  if len(set(counts)) > 1:
    return counted(sum(counts), "episode")
  each = " per protocol" if len(counts) > 1 else ""
  return counted(counts[0], "episode") + each


def heading(result: types.EvalResult) -> str:
  """ "5-way 1-shot, 7 queries per class, 100 episodes"."""
  episodes = counted(result.num_episodes, "episode")
  parts = (result.protocol_name, result.protocol_text, episodes)
  return ", ".join(filter(None, parts))


def number(value: float, digits: int = 3, sign: str = "") -> str:
  """ "0.345"; "n/a" for what is not defined."""
  return f"{value:{sign}z.{digits}f}" if math.isfinite(value) else "n/a"


def percent(fraction: float, digits: int = 2) -> str:
  """ "63.21"."""
  return number(100 * fraction, digits)


def plus_minus(mean: float, ci95: float, *, sign: str = "") -> str:
  """ "63.21 ± 0.45": fractions in percent, differences in pp."""
  if not math.isfinite(mean):
    return "n/a"
  return f"{number(100 * mean, 2, sign)} ± {percent(ci95)}"


def low_to_high(low: float, high: float) -> str:
  """ "61.20 to 65.10", percent of two fractions."""
  if not (math.isfinite(low) and math.isfinite(high)):
    return "n/a"
  return f"{percent(low)} to {percent(high)}"


def p_value(p: float) -> str:
  """ "< 0.001", "0.034", "0.62"; two digits, or three of a small one."""
  if p < 0.001:
    return "< 0.001"
  return number(p, 3 if p < 0.1 else 2)


def p_phrase(p: float) -> str:
  """ "p < 0.001", "p = 0.62", "p not defined"."""
  if not math.isfinite(p):
    return "p not defined"
  return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def typeset(words: str) -> str:
  """With true minus signs, as wide as the plus sign, before numbers."""
  return re.sub(r"(?<!\w)-(?=\d)", "−", words)


def wrap(words: str) -> str:
  """Lines of 80 columns, all but the first indented."""
  return textwrap.fill(words, 80, subsequent_indent="  ")
