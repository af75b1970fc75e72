"""Episodes as grids of images: which are shown, and their drawing.

A sheet shows every query of one episode with the predictions of two methods; a
gallery shows the hardest or the easiest episodes in small.
"""

import dataclasses
import string
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import adapt, results, types
from fsl_jax.report import figures, svg, text

# Limits beyond which images are no longer looked at; the text says how many
# are left out.
_MAX_WAYS = 12
_MAX_LINES = 3  # of images per class
_COLUMNS = 8  # of images
_GALLERY_WAYS = 6
_GALLERY_SUPPORT = 3  # images per class
_GALLERY_QUERIES = 5  # images per class
_GALLERY_NAME = 3  # columns that the name of a class takes

_CELL_IN = 0.53  # width of a column of a sheet
_GALLERY_CELL_IN = 0.38
_LINE_IN = 0.22  # height of a line of text
_CHANGED: dict[str, Any] = {
  "facecolor": "#fff3c4",
  "edgecolor": "#b58900",
  "linewidth": 0.8,
  "zorder": -1,  # beneath the images
}


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
    before_name: name of the first method.
    after_name: name of the second.
    rule: how the episode was chosen, one sentence.
  """

  before: np.ndarray = dataclasses.field(kw_only=True)
  after: np.ndarray = dataclasses.field(kw_only=True)
  before_name: str = results.BASELINE
  after_name: str = "transductive_finetune"
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
  section: results.Section,
  after: str = "transductive_finetune",
  before: str = results.BASELINE,
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


class _Grid:
  """Images and lines of text on an axes, filled from the top.

  The unit of length is a column of images. What is added is drawn once the
  height is known.
  """

  def __init__(self, columns: float, cell_in: float):
    self.columns = columns
    self.line = _LINE_IN / cell_in  # height of a line of text
    self.y = 0.0  # of the next line
    self._cell_in = cell_in
    self._added: list[Any] = []

  def text(
    self, x: float, words: str, *, below: float = 0.0, **look: Any
  ) -> None:
    """Words in the line of text that begins `below` the next line."""
    y = self.y + below + 0.7 * self.line
    self._added.append(lambda axes: axes.text(x, y, words, **look))

  def box(self, x: float, width: float, height: float) -> None:
    """A ground that marks what is on it, its upper edge at `y`."""
    y = self.y

    def add(axes: Any) -> None:
      from matplotlib import patches

      axes.add_patch(patches.Rectangle((x, y), width, height, **_CHANGED))

    self._added.append(add)

  def image(self, x: float, image: np.ndarray) -> None:
    """An image of a column's width with a thin frame, its upper edge at `y`."""
    small, extent = _reduced(image), (x, x + 0.9, self.y + 0.92, self.y + 0.02)

    def add(axes: Any) -> None:
      axes.imshow(small, extent=extent, interpolation="none")

    self._added.append(add)

  def rule(self) -> None:
    """A line across."""
    y, look = self.y, {"color": svg.RULE, "linewidth": 0.8}
    self._added.append(
      lambda axes: axes.plot([0, self.columns], [y, y], **look)
    )

  def fit(self, words: str, columns: float) -> str:
    return svg.fit(words, 72 * self._cell_in * columns, 9)

  def draw(self, title: str, description: str) -> str:
    def build(figure: Any) -> None:
      axes = figure.subplots()
      for add in self._added:
        add(axes)
      axes.set_axis_off()
      axes.set_xlim(-0.1, self.columns + 0.1)
      axes.set_ylim(self.y, 0)

    return svg.draw(
      build,
      size=(
        self._cell_in * (self.columns + 0.2) + 0.08,
        self._cell_in * self.y + 0.08,
      ),
      title=title,
      description=description,
    )


def _reduced(image: np.ndarray) -> np.ndarray:
  """At most 64 pixels wide and high, since a page embeds it."""
  from PIL import Image

  small = Image.fromarray(image)
  small.thumbnail((64, 64))
  return np.asarray(small)


def sheet_figure(sheet: Sheet) -> figures.Figure:
  """Every query of an episode with two predictions beneath it.

  A row per class: its support images on the left, its queries on the right.
  Classes are named by letters, so that two predictions fit beneath an image.
  """
  grid = _Grid(_COLUMNS, _CELL_IN)
  methods = [adapt.label(n) for n in (sheet.before_name, sheet.after_name)]
  for order, method in zip(("First", "Second"), methods, strict=True):
    grid.text(0, grid.fit(f"{order} prediction: {method}", _COLUMNS))
    grid.y += grid.line
  grid.text(0, "A ✓ correct", color=svg.RIGHT, weight="bold")
  grid.text(2, "B ✗ wrong", color=svg.WRONG, weight="bold")
  grid.box(4, 1.6, grid.line)
  grid.text(4.1, "changed")
  grid.y += 1.3 * grid.line
  ways = min(len(sheet.class_names), _MAX_WAYS)
  for label in range(ways):
    _class_of_sheet(grid, sheet, label)
  if ways < len(sheet.class_names):
    _more(
      grid, 0, f"and {len(sheet.class_names) - ways} more classes, not shown"
    )
    grid.y += grid.line
  right = [
    int((predictions == sheet.query_labels).sum())
    for predictions in (sheet.before, sheet.after)
  ]
  return figures.Figure(
    "episode",
    "One episode, query by query",
    grid.draw(
      "One episode, query by query",
      f"{len(sheet.query_labels)} queries of {len(sheet.class_names)} classes; "
      f"correct by {methods[0]}: {right[0]}, by {methods[1]}: {right[1]}.",
    ),
    f"{sheet.rule} Support images are on the left, queries on the right. "
    f"Beneath each query the class predicted by {methods[0]}, then by "
    f"{methods[1]}: ✓ is correct, ✗ is wrong, and a yellow ground marks a "
    "prediction that changed. An example, not an estimate.".strip(),
  )


def _class_of_sheet(grid: _Grid, sheet: Sheet, label: int) -> None:
  support = sheet.support_images[sheet.support_labels == label]
  queries = np.flatnonzero(sheet.query_labels == label)
  counts = [
    int((p[queries] == label).sum()) for p in (sheet.before, sheet.after)
  ]
  tally = f"correct {counts[0]} → {counts[1]} of {len(queries)}"
  grid.rule()
  grid.text(0, _letter(sheet, label), weight="bold")
  grid.text(0.5, grid.fit(sheet.class_names[label], 4.5))
  grid.text(_COLUMNS, tally, ha="right", color=svg.FAINT_INK)
  grid.y += grid.line
  left = 2 if _most_shots(sheet) > 1 else 1
  across = _COLUMNS - left
  shown = support[: _MAX_LINES * left], queries[: _MAX_LINES * across]
  line_height = 1 + grid.line
  top = grid.y
  for i, image in enumerate(shown[0]):
    grid.y = top + i // left * line_height
    grid.image(i % left, image)
  for i, row in enumerate(shown[1]):
    grid.y = top + i // across * line_height
    _query(grid, left + i % across + 0.1, sheet, row)
  lines = max(-(-len(shown[0]) // left), -(-len(shown[1]) // across))
  grid.y = top + lines * line_height
  rest = len(support) - len(shown[0]), len(queries) - len(shown[1])
  for x, count in zip((0, left + 0.1), rest, strict=True):
    if count:
      _more(grid, x, f"and {count} more")
  grid.y += grid.line if any(rest) else 0.1


def _query(grid: _Grid, x: float, sheet: Sheet, row: int) -> None:
  """A query, and beneath it its two predictions."""
  predictions = sheet.before[row], sheet.after[row]
  if predictions[0] != predictions[1]:
    grid.box(x - 0.04, 0.98, 1 + grid.line - 0.04)
  grid.image(x, sheet.query_images[row])
  grid.y += 0.95
  for place, predicted in zip((0.22, 0.7), predictions, strict=True):
    is_right = predicted == sheet.query_labels[row]
    grid.text(
      x + place,
      f"{_letter(sheet, int(predicted))}{'✓' if is_right else '✗'}",
      color=svg.RIGHT if is_right else svg.WRONG,
      weight="bold",
      ha="center",
    )


def _most_shots(exhibit: Exhibit) -> int:
  return int(np.bincount(exhibit.support_labels, minlength=1).max())


def _letter(sheet: Sheet, label: int) -> str:
  if len(sheet.class_names) <= len(string.ascii_uppercase):
    return string.ascii_uppercase[label]
  return str(label + 1)


def _more(grid: _Grid, x: float, words: str) -> None:
  grid.text(x, words, color=svg.FAINT_INK)


def gallery_figure(gallery: Gallery) -> figures.Figure:
  """The episodes of a gallery in small, one beneath the other."""
  selection = gallery.selection
  most_shots = max(_most_shots(exhibit) for exhibit in gallery.exhibits)
  queries_at = _GALLERY_NAME + min(_GALLERY_SUPPORT, most_shots) + 0.4
  grid = _Grid(queries_at + _GALLERY_QUERIES, _GALLERY_CELL_IN)
  for words, exhibit in zip(selection.words, gallery.exhibits, strict=True):
    _small_episode(grid, words, exhibit, queries_at)
  return figures.Figure(
    selection.kind,
    f"The {selection.kind} episodes",
    grid.draw(
      f"The {selection.kind} episodes",
      " ".join(
        f"{head}: {accuracies}." for head, accuracies in selection.words
      ),
    ),
    f"{selection.rule} A row per class: its name, up to {_GALLERY_SUPPORT} "
    f"support images, then up to {_GALLERY_QUERIES} queries.",
  )


def _small_episode(
  grid: _Grid, words: tuple[str, str], exhibit: Exhibit, queries_at: float
) -> None:
  heading, accuracies = words
  grid.text(0, heading, weight="bold")
  grid.y += grid.line
  for part in textwrap.wrap(accuracies, 56):
    grid.text(0, grid.fit(part, grid.columns))
    grid.y += grid.line
  for label, name in enumerate(exhibit.class_names[:_GALLERY_WAYS]):
    grid.text(0, grid.fit(name, _GALLERY_NAME - 0.2), below=0.15)
    support = exhibit.support_images[exhibit.support_labels == label]
    queries = exhibit.query_images[exhibit.query_labels == label]
    for i, image in enumerate(support[:_GALLERY_SUPPORT]):
      grid.image(_GALLERY_NAME + i, image)
    for i, image in enumerate(queries[:_GALLERY_QUERIES]):
      grid.image(queries_at + i, image)
    grid.y += 1
  rest = len(exhibit.class_names) - _GALLERY_WAYS
  if rest > 0:
    _more(grid, 0, f"and {rest} more classes, not shown")
    grid.y += grid.line
  grid.y += 0.4
