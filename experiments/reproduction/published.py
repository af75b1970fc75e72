"""The figures that the paper prints, and the rule that compares ours with them.

Source: "A Baseline for Few-Shot Image Classification", arXiv 1909.02729; the
figures are in `published.json`. Data sets, backbones and methods have the names
of this library, splits the paper's: "train" or "train+val". Whatever is not in
the file is None, because most of what can be run was never published.

The rule: a value is reproduced if it differs from the published one by at most
the published 95 % half-width plus one percentage point; otherwise it is above
or below. The interval covers the sampling of episodes alone, the point allows
for another pre-training; a figure printed without an interval has half-width 0.

A difference between two methods is taken over the same episodes. If the paper
has them half a point or more apart, the result has the same sign or the
opposite sign when its own 95 % interval excludes 0, and is otherwise not told
apart. If the paper has them closer than that, they are about equal when our
result is at most one point, and otherwise not equal.

There is no verdict, for the first of these reasons that holds: nothing was
published; the published figure was not checked against the paper; the run was
shorter than the published programme; it has fewer episodes than the paper's
1,000 (80 in Table 2); it is not finite. A sign needs 100 episodes, below which
1.96 standard errors are no 95 % interval.

All numbers are compared in hundredths of a point, as the paper prints them.
"""

import functools
import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

MARGIN = 1.0  # percentage points, beside the published interval
TOLD_APART = 0.5  # points; a smaller published difference is about equal
EPISODES_OF_A_SIGN = 100
_FILE = pathlib.Path(__file__).with_name("published.json")


class Value(NamedTuple):
  """A published figure.

  Attributes:
    mean: percent; areas are percent times nats, times are seconds.
    ci95: half-width of the 95 % interval, in the unit of `mean`; None where
      none is known.
    source: where it is printed, such as "Table 1".
    verified: whether it was checked against the paper; others never decide
      anything.
  """

  mean: float
  ci95: float | None
  source: str
  verified: bool


def accuracy(target: str, **cell: Any) -> Value | None:
  """Accuracy on novel classes, percent.

  Args:
    target: "table1" (with the appendix's other networks), "table2", "figure2",
      "figure3" or "ablation". A protocol that a figure shares with a table
      has the table's value.
    **cell: `dataset`, `backbone`, `split`, `method`, `ways`, `shots`, `queries`
      per class (15 by default) and, with the target "ablation", `ablation`; of
      an ablation, `backbone` is the network that the change is made to.
  """
  cell = {"queries": 15} | {k: v for k, v in cell.items() if v is not None}
  return _read()["accuracy"].get(_key({"target": target, **cell}))


def difference(
  target: str, *, method: str, against: str, **cell: Any
) -> Value | None:
  """Accuracy of `method` minus that of `against`, percentage points.

  It has no interval: the two printed ones are not of paired episodes. It is
  verified if both are, and None unless both are published. Arguments are
  those of `accuracy`.
  """
  ours = accuracy(target, method=method, **cell)
  theirs = accuracy(target, method=against, **cell)
  if ours is None or theirs is None:
    return None
  # To the hundredths that both are printed in.
  mean = round(ours.mean - theirs.mean, 2)
  return Value(mean, None, ours.source, ours.verified and theirs.verified)


def area(dataset: str, backbone: str, split: str, method: str) -> Value | None:
  """Area under the line of accuracy over hardness, percent times nats."""
  cell = {"dataset": dataset, "backbone": backbone}
  return _read()["area"].get(_key(cell | {"split": split, "method": method}))


def seconds(method: str, queries: int) -> Value | None:
  """Seconds per episode: wrn_28_10, 5 ways, 1 shot.

  Args:
    method: "transductive_finetune" or "prototype".
    queries: per class, 15 or 1.
  """
  cell = {"backbone": "wrn_28_10", "ways": 5, "shots": 1}
  return _read()["seconds"].get(
    _key(cell | {"method": method, "queries": queries})
  )


def _key(cell: Mapping[str, Any]) -> frozenset[Any]:
  return frozenset(cell.items())


@functools.cache
def _read() -> dict[str, dict[frozenset[Any], Value]]:
  content = json.loads(_FILE.read_text("utf-8"))
  return {
    kind: {
      _key(cell): value for group in content[kind] for cell, value in _of(group)
    }
    for kind in ("accuracy", "area", "seconds")
  }


def _of(group: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Value]]:
  """The figures of a group, each with all that identifies it."""
  targets = [{"target": target} for target in group.get("targets", [])] or [{}]
  for head, *figures in group["rows"]:
    for column, figure in zip(group["columns"], figures, strict=True):
      if figure is not None:
        mean, ci95 = (*figure, None)[:2]
        value = Value(mean, ci95, group["source"], group["verified"])
        for target in targets:
          yield target | group["common"] | column | head, value


class Verdict(NamedTuple):
  """A word of the rule and the sentence that explains it."""

  word: str
  reason: str


class Rule(NamedTuple):
  """What a verdict requires of a run."""

  full: bool  # whether the run was the whole programme
  episodes_required: int  # as many as the paper's

  def of_value(
    self, mean: float, num_episodes: int, paper: Value | None
  ) -> Verdict:
    """Compares an accuracy.

    Args:
      mean: percent.
      num_episodes: it is the mean over.
      paper: the published one, percent.

    Returns:
      "reproduced", "above", "below" or "none".
    """
    if paper is None:
      return _UNPUBLISHED
    if why := self._objection(
      paper, num_episodes, self.episodes_required, (mean,)
    ):
      return Verdict("none", why)
    allowed = round((paper.ci95 or 0.0) + MARGIN, 2)
    off = round(mean - paper.mean, 2)
    reason = f"{off:+.2f} from {paper.source}, {allowed:.2f} allowed"
    if abs(off) <= allowed:
      return Verdict("reproduced", reason)
    return Verdict("above" if off > 0 else "below", reason)

  def of_difference(
    self, mean: float, ci95: float, num_episodes: int, paper: Value | None
  ) -> Verdict:
    """Compares the difference of two methods on the same episodes.

    Args:
      mean: of the differences, percentage points.
      ci95: half-width of their 95 % interval, points.
      num_episodes: that both were evaluated on; the paper's number is required
        only where its methods are about equal.
      paper: the published difference, points.

    Returns:
      "same sign", "opposite sign", "not told apart", "about equal", "not
      equal" or "none".
    """
    if paper is None:
      return _UNPUBLISHED
    has_sign = abs(paper.mean) >= TOLD_APART
    required = self.episodes_required
    if has_sign:
      required = min(required, EPISODES_OF_A_SIGN)
    if why := self._objection(paper, num_episodes, required, (mean, ci95)):
      return Verdict("none", why)
    mean, ci95 = round(mean, 2), round(ci95, 2)
    reason = f"{mean:+.2f} ± {ci95:.2f}, {paper.mean:+.2f} in {paper.source}"
    if not has_sign:
      is_equal = abs(mean) <= MARGIN
      return Verdict("about equal" if is_equal else "not equal", reason)
    if abs(mean) <= ci95:
      return Verdict("not told apart", reason)
    is_same = (mean > 0) == (paper.mean > 0)
    return Verdict("same sign" if is_same else "opposite sign", reason)

  def _objection(
    self,
    paper: Value,
    num_episodes: int,
    required: int,
    numbers: tuple[float, ...],
  ) -> str | None:
    """Why there is no verdict, or None."""
    if not paper.verified:
      return f"{paper.source} was not checked against the paper"
    if not self.full:
      return "the run was shortened"
    if num_episodes < required:
      return f"{num_episodes:,} episodes, {required:,} are needed"
    if not all(map(math.isfinite, numbers)):
      return "the result is not finite"
    return None


_UNPUBLISHED = Verdict("none", "nothing was published")
