"""Whether a result agrees with the published one.

A value is reproduced if it differs from the published one by no more than the
published 95 % half-width and one point more; else it is above or below. The
interval is of the episodes alone, the point allows for another pre-training; a
figure printed without an interval has half-width 0.

A difference between two methods is taken over the same episodes. If the paper
tells the two apart by half a point or more, the result has the same sign or
the opposite sign when its own 95 % interval excludes 0, and is otherwise not
told apart. If the paper has them closer than that, they are about equal in
the result when they differ by one point or less, and else not equal.

There is no verdict, for the first of these reasons that holds: nothing was
published; what is known of it was not checked against the paper; the run was
shorter than the published programme; it has fewer episodes than the paper's
1,000 (80 in Table 2); it is not finite. A sign needs 100 episodes, below which
1.96 standard errors are no 95 % interval; the interval tells whether there
were enough.

All numbers are compared in hundredths of a point, as the paper prints them.
"""

import math
from typing import NamedTuple

from reproduction import published

MARGIN = 1.0  # points of a percent, beside the published interval
TOLD_APART = 0.5  # points; a smaller published difference is about equal
EPISODES_OF_A_SIGN = 100


class Verdict(NamedTuple):
  """A word of the rule and the sentence that says why."""

  word: str
  reason: str


def of_value(
  mean: float,
  num_episodes: int,
  paper: published.Value | None,
  *,
  full: bool,
  episodes_required: int,
) -> Verdict:
  """Judges an accuracy.

  Args:
    mean: percent.
    num_episodes: it is the mean over.
    paper: what was published, in percent.
    full: whether nothing was shortened.
    episodes_required: what the paper used.

  Returns:
    "reproduced", "above", "below" or "none".
  """
  if paper is None:
    return _UNPUBLISHED
  if objection := _objection(
    paper, full, num_episodes, episodes_required, (mean,)
  ):
    return Verdict("none", objection)
  allowed = round((paper.ci95 or 0.0) + MARGIN, 2)
  off = round(mean - paper.mean, 2)
  reason = f"{off:+.2f} from {paper.source}, {allowed:.2f} allowed"
  if abs(off) <= allowed:
    return Verdict("reproduced", reason)
  return Verdict("above" if off > 0 else "below", reason)


def of_difference(
  mean: float,
  ci95: float,
  num_episodes: int,
  paper: published.Value | None,
  *,
  full: bool,
  episodes_required: int,
) -> Verdict:
  """Judges the difference of two methods on the same episodes.

  Args:
    mean: of the differences, points of a percent.
    ci95: half-width of their 95 % interval, points.
    num_episodes: that both were run on.
    paper: the published difference, points.
    full: whether nothing was shortened.
    episodes_required: what the paper used; it matters only where the paper's
      methods are about equal.

  Returns:
    "same sign", "opposite sign", "not told apart", "about equal", "not equal"
    or "none".
  """
  if paper is None:
    return _UNPUBLISHED
  has_sign = abs(paper.mean) >= TOLD_APART
  required = episodes_required
  if has_sign:
    required = min(required, EPISODES_OF_A_SIGN)
  if objection := _objection(paper, full, num_episodes, required, (mean, ci95)):
    return Verdict("none", objection)
  mean, ci95 = round(mean, 2), round(ci95, 2)
  reason = f"{mean:+.2f} ± {ci95:.2f}, {paper.mean:+.2f} in {paper.source}"
  if not has_sign:
    is_equal = abs(mean) <= MARGIN
    return Verdict("about equal" if is_equal else "not equal", reason)
  if abs(mean) <= ci95:
    return Verdict("not told apart", reason)
  is_same = (mean > 0) == (paper.mean > 0)
  return Verdict("same sign" if is_same else "opposite sign", reason)


_UNPUBLISHED = Verdict("none", "nothing was published")


def _objection(
  paper: published.Value,
  full: bool,
  num_episodes: int,
  episodes_required: int,
  numbers: tuple[float, ...],
) -> str | None:
  """Why there is no verdict, or None."""
  if not paper.verified:
    return f"{paper.source} was not checked against the paper"
  if not full:
    return "the run was shortened"
  if num_episodes < episodes_required:
    return f"{num_episodes:,} episodes, {episodes_required:,} are needed"
  if not all(map(math.isfinite, numbers)):
    return "the result is not finite"
  return None
