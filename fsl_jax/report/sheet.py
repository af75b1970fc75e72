"""Which episode is shown as pictures, and what is needed to draw it."""

import dataclasses
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.report import rows


@dataclasses.dataclass(frozen=True)
class Sheet:
  """An episode with the answers of two methods.

  Attributes:
    support_images: [S, H, W, 3] uint8.
    support_labels: [S] int in [0, N).
    query_images: [T, H, W, 3] uint8.
    query_labels: [T] int in [0, N).
    before: [T] int in [0, N), predictions of the first method.
    after: [T] int in [0, N), predictions of the second.
    class_names: N names.
    before_name: name of the first method.
    after_name: name of the second.
    rule: how the episode was chosen, one sentence.
  """

  support_images: np.ndarray
  support_labels: np.ndarray
  query_images: np.ndarray
  query_labels: np.ndarray
  before: np.ndarray
  after: np.ndarray
  class_names: tuple[str, ...]
  before_name: str = "support_init"
  after_name: str = "transductive_finetune"
  rule: str = ""

  def __post_init__(self) -> None:
    for name in ("support_images", "query_images"):
      images = getattr(self, name)
      if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise types.InputError(
          f"{name} must be [n, H, W, 3] uint8, got {list(images.shape)} "
          f"{images.dtype}"
        )
    sizes = {"support_labels": len(self.support_images)} | dict.fromkeys(
      ("query_labels", "before", "after"), len(self.query_images)
    )
    for name, size in sizes.items():
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


class Choice(NamedTuple):
  """An episode for a sheet, and the rule by which it was taken."""

  position: int  # in the results of the section
  episode: int  # the i it was drawn with
  rule: str


def both_directions(
  section: rows.Section,
  after: str = "transductive_finetune",
  before: str = rows.BASELINE,
) -> Choice:
  """The episode that shows best what a method corrects and what it breaks.

  The smaller of both numbers of queries is to be large, then the greater one
  small, then the episode early. The rule says so where no episode has both.

  Raises:
    InputError: if a method is not in the section, or no episode is finite.
  """
  first, second, finite = _pair(section, before, after)
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
  shares = [f"{100 * n.sum() / is_query.sum():.1f} %" for n in (better, worse)]
  return Choice(
    position,
    episode,
    f"Episode {episode}, {why}: of the wrong predictions {better[position]} "
    f"become correct, of the correct ones {worse[position]} wrong (in all "
    f"episodes {shares[0]} and {shares[1]} of the queries).",
  )


def median_difference(
  section: rows.Section,
  after: str = "transductive_finetune",
  before: str = rows.BASELINE,
) -> Choice:
  """The first episode whose paired difference is the (lower) median.

  Raises:
    InputError: as `both_directions`.
  """
  first, second, finite = _pair(section, before, after)
  # Rounded, or 0.8 - 0.6 and 0.6 - 0.4 would not be the same difference.
  gain = np.round(second.accuracy - first.accuracy, 9)
  median = np.sort(gain[finite])[(finite.sum() - 1) // 2]
  position = int(np.argmax(gain == median))
  episode = int(first.index[position])
  return Choice(
    position,
    episode,
    f"Episode {episode}: the first whose difference in accuracy is the median, "
    f"{100 * median:+.1f} points.",
  )


def _pair(
  section: rows.Section, before: str, after: str
) -> tuple[types.EvalResult, types.EvalResult, np.ndarray]:
  for name in (before, after):
    if name not in section:
      raise types.unknown_name("method of the section", name, section)
  first, second = section[before], section[after]
  finite = np.isfinite(first.accuracy) & np.isfinite(second.accuracy)
  if not finite.any():
    raise types.InputError(
      f"no episode is finite under both {before!r} and {after!r}"
    )
  return first, second, finite
