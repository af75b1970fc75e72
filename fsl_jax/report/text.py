"""Numbers and headings in words. Percent exists only in this package."""

import math
import textwrap
from collections.abc import Sequence

from fsl_jax.report import rows


def counted(count: int, singular: str, plural: str = "") -> str:
  """ "1 episode", "3 episodes"."""
  return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def episode_count(counts: Sequence[int]) -> str:
  """ "100 episodes per protocol"; their sum where they differ."""
  if len(set(counts)) > 1:
    return counted(sum(counts), "episode")
  each = " per protocol" if len(counts) > 1 else ""
  return counted(counts[0], "episode") + each


def short_heading(section: rows.Section) -> str:
  """ "5-way 1-shot"."""
  return rows.first(section).protocol_name


def heading(section: rows.Section) -> str:
  """ "5-way 1-shot, 7 queries a class, 100 episodes"."""
  result = rows.first(section)
  episodes = counted(result.num_episodes, "episode")
  parts = (result.protocol_name, result.protocol_text, episodes)
  return ", ".join(filter(None, parts))


def plus_minus(mean: float, ci95: float, *, sign: str = "") -> str:
  """Fractions in percent, differences in pp; "n/a" if not defined."""
  if not math.isfinite(mean):
    return "n/a"
  return f"{100 * mean:{sign}z.2f} ± {percent(ci95)}"


def percent(fraction: float, digits: int = 2) -> str:
  """ "63.21"; "n/a" for what is not defined."""
  if not math.isfinite(fraction):
    return "n/a"
  return f"{100 * fraction:.{digits}f}"


def low_to_high(low: float, high: float) -> str:
  """ "61.20 to 65.10", percent of two fractions."""
  if not (math.isfinite(low) and math.isfinite(high)):
    return "n/a"
  return f"{percent(low)} to {percent(high)}"


def p_value(p: float) -> str:
  """ "< 0.001", "0.034", "0.62"; two digits, or three of a small one."""
  if not math.isfinite(p):
    return "n/a"
  if p < 0.001:
    return "< 0.001"
  return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_phrase(p: float) -> str:
  """ "p < 0.001", "p = 0.62", "p not defined"."""
  if not math.isfinite(p):
    return "p not defined"
  return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def wrap(words: str) -> str:
  """Lines of 80 columns, all but the first set in."""
  return textwrap.fill(words, 80, subsequent_indent="  ")
