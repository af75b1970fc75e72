"""The hardest and the easiest episodes: which they are, what draws them."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.report import rows, text


class Selection(NamedTuple):
  """Episodes at one end of the scale, the utmost first."""

  kind: str  # "hardest" or "easiest"
  positions: tuple[int, ...]  # in the results of the section
  episodes: tuple[int, ...]  # the i each was drawn with
  words: tuple[tuple[str, str], ...]  # a heading and the accuracies of each
  rule: str  # how they were chosen, one sentence


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """The pictures of one episode.

  Attributes:
    support_images: [S, H, W, 3] uint8.
    support_labels: [S] int in [0, N).
    query_images: [T, H, W, 3] uint8.
    query_labels: [T] int in [0, N).
    class_names: N names.
  """

  support_images: np.ndarray
  support_labels: np.ndarray
  query_images: np.ndarray
  query_labels: np.ndarray
  class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Gallery:
  """A selection with the pictures of its episodes, in its order."""

  selection: Selection
  exhibits: Sequence[Exhibit]

  def __post_init__(self) -> None:
    expected = len(self.selection.episodes)
    if len(self.exhibits) != expected:
      raise types.InputError(
        f"a gallery of {expected} episodes needs as many exhibits, got "
        f"{len(self.exhibits)}"
      )


def extremes(
  section: rows.Section, num_episodes: int = 3
) -> tuple[Selection, Selection]:
  """The hardest and the easiest episodes of a section; none is in both.

  By hardness; where no episode has one, by the accuracy of the baseline, or
  of the first method if the baseline is absent. Of equal episodes the first
  drawn comes first.

  Args:
    section: the results.
    num_episodes: at each end; fewer if there are fewer than twice as many.

  Raises:
    InputError: if no episode is finite by either measure.
  """
  judge = rows.BASELINE if rows.BASELINE in section else next(iter(section))
  hardness = section[judge].hardness
  by_hardness = bool(np.isfinite(hardness).any())
  scale = hardness if by_hardness else -section[judge].accuracy
  known = np.flatnonzero(np.isfinite(scale))
  if not len(known):
    raise types.InputError(
      f"no episode has a hardness or, under {judge!r}, a finite accuracy"
    )
  size = min(num_episodes, len(known) // 2) or 1
  hardest = known[np.argsort(-scale[known], stable=True)[:size]]
  rest = known[~np.isin(known, hardest)]
  easiest = rest[np.argsort(scale[rest], stable=True)[:size]]
  measure = (
    "hardness" if by_hardness else f"the accuracy of {rows.label(judge)}"
  )

  def select(kind: str, positions: np.ndarray) -> Selection:
    shown = text.counted(len(positions), f"{kind} episode")
    rule = (
      f"The {shown} of {len(known):,} by {measure}, the {kind} first; "
      "extremes, so not typical ones."
    )
    return Selection(
      kind,
      tuple(positions.tolist()),
      tuple(rows.first(section).index[positions].tolist()),
      tuple(_words(section, p) for p in positions),
      rule,
    )

  return select("hardest", hardest), select("easiest", easiest)


def _words(section: rows.Section, position: int) -> tuple[str, str]:
  """Hardness, where there is one, and the accuracy of every method."""
  first = rows.first(section)
  heading = f"Episode {first.index[position]}"
  if np.isfinite(first.hardness[position]):
    heading += f", hardness {first.hardness[position]:.2f} nats"
  accuracies = [
    # The space does not break.
    f"{rows.label(name)} {text.percent(result.accuracy[position], 0)}\u00a0%"
    for name, result in section.items()
  ]
  return heading, ", ".join(accuracies)
