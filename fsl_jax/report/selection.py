"""Which episodes are shown with their images, and what is needed to draw them.

A sheet shows every query of one episode with the predictions of two methods; a
gallery shows the hardest or the easiest episodes in small.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import adapt, results, types
from fsl_jax.report import text


@dataclasses.dataclass(frozen=True)
class Exhibit:
  """The images of one episode.

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

  def __post_init__(self) -> None:
    for name in ("support_images", "query_images"):
      images = getattr(self, name)
      if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise types.InputError(
          f"{name} must be [n, H, W, 3] uint8, got {list(images.shape)} "
          f"{images.dtype}"
        )
    self._check_labels("support_labels", len(self.support_images))
    self._check_labels("query_labels", len(self.query_images))

  @property
  def most_shots(self) -> int:
    """The number of images per class, over all classes."""
    return int(np.bincount(self.support_labels, minlength=1).max())

  def _check_labels(self, name: str, size: int) -> None:
    labels = np.asarray(getattr(self, name))
    if labels.shape != (size,):
      raise types.InputError(
        f"{name} must be [{size}], got {list(labels.shape)}"
      )
    if size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
      raise types.InputError(
        f"{name} must lie in [0, {len(self.class_names)}), got "
        f"{labels.min()} to {labels.max()}"
      )


@dataclasses.dataclass(frozen=True)
class Sheet(Exhibit):
  """An episode with the predictions of two methods.

  Attributes:
    before: [T] int in [0, N), predictions of the first method.
    after: [T] int in [0, N), predictions of the second.
    after_name: name of the second method.
    before_name: name of the first.
    rule: how the episode was chosen, one sentence.
  """

  before: np.ndarray
  after: np.ndarray
  after_name: str
  before_name: str = results.BASELINE
  rule: str = ""

  def __post_init__(self) -> None:
    super().__post_init__()
    self._check_labels("before", len(self.query_images))
    self._check_labels("after", len(self.query_images))


class Choice(NamedTuple):
  """An episode for a sheet, and the rule by which it was chosen."""

  position: int  # in the results of the section
  episode: int  # the i it was drawn with
  rule: str


def both_directions(
  section: results.Section, after: str, before: str = results.BASELINE
) -> Choice:
  """The episode that shows best what a method corrects and what it breaks.

  Of the numbers of queries that become correct and that become wrong, the
  smaller one is maximised; ties go to the episode with the smaller other
  number, then to the earlier one. The rule says so where no episode has both.

  Raises:
    InputError: if a method is not in the section, or no episode is finite.
  """
  for name in (before, after):
    if name not in section:
      raise types.unknown_name("method of the section", name, section)
  first, second = section[before], section[after]
  finite = np.isfinite(first.accuracy) & np.isfinite(second.accuracy)
  if not finite.any():
    raise types.InputError(
      f"no episode is finite under both {before!r} and {after!r}"
    )
  is_query = (first.labels >= 0) & finite[:, None]
  was_right = (first.predictions == first.labels) & is_query
  is_right = (second.predictions == second.labels) & is_query
  better = (is_right & ~was_right).sum(1)
  worse = (was_right & ~is_right).sum(1)
  small, great = np.minimum(better, worse), np.maximum(better, worse)
  if small.any():
    scores = small * (is_query.shape[1] + 1) - great
    why = "chosen because it shows both directions"
  else:
    scores, why = great, "no episode shows both directions"
  position = int(np.where(finite, scores, scores.min() - 1).argmax())
  episode = int(first.index[position])
  shares = [text.percent(n.sum() / is_query.sum(), 1) for n in (better, worse)]
  return Choice(
    position,
    episode,
    f"Episode {episode}, {why}: of the wrong predictions {better[position]} "
    f"become correct, of the correct ones {worse[position]} wrong (in all "
    f"episodes {shares[0]} % and {shares[1]} % of the queries).",
  )


class Selection(NamedTuple):
  """Episodes at one end of the scale, the utmost first."""

  kind: str  # "hardest" or "easiest"
  positions: tuple[int, ...]  # in the results of the section
  episodes: tuple[int, ...]  # the i each was drawn with
  words: tuple[tuple[str, str], ...]  # a heading and the accuracies of each
  rule: str  # how they were chosen, one sentence


@dataclasses.dataclass(frozen=True)
class Gallery:
  """A selection with the images of its episodes, in its order."""

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
  section: results.Section, num_episodes: int = 3
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
  name = (
    results.BASELINE if results.BASELINE in section else next(iter(section))
  )
  hardness = section[name].hardness
  by_hardness = bool(np.isfinite(hardness).any())
  scale = hardness if by_hardness else -section[name].accuracy
  known = np.flatnonzero(np.isfinite(scale))
  if not len(known):
    raise types.InputError(
      f"no episode has a hardness or, under {name!r}, a finite accuracy"
    )
  size = min(num_episodes, len(known) // 2) or 1
  hardest = known[np.argsort(-scale[known], stable=True)[:size]]
  rest = known[~np.isin(known, hardest)]
  easiest = rest[np.argsort(scale[rest], stable=True)[:size]]
  measure = "hardness"
  if not by_hardness:
    measure = f"the accuracy of {adapt.label(name)}"

  def select(kind: str, positions: np.ndarray) -> Selection:
    shown = text.counted(len(positions), f"{kind} episode")
    return Selection(
      kind,
      tuple(positions.tolist()),
      tuple(results.first(section).index[positions].tolist()),
      tuple(_words(section, position) for position in positions),
      f"The {shown} of {len(known):,} by {measure}, the {kind} first; "
      "extremes, not typical episodes.",
    )

  return select("hardest", hardest), select("easiest", easiest)


def _words(section: results.Section, position: int) -> tuple[str, str]:
  """Hardness, where there is one, and the accuracy of every method."""
  first = results.first(section)
  heading = f"Episode {first.index[position]}"
  if np.isfinite(first.hardness[position]):
    heading += f", hardness {first.hardness[position]:.2f} nats"
  accuracies = [
    # The space does not break.
    f"{adapt.label(name)} {text.percent(r.accuracy[position], 0)}\u00a0%"
    for name, r in section.items()
  ]
  return heading, ", ".join(accuracies)
