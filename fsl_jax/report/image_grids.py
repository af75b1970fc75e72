"""Episodes as grids of images: the sheet of one, galleries of several."""

import string
import textwrap
from typing import Any

import numpy as np

from fsl_jax import adapt
from fsl_jax.report import figures, selection, svg

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
_GALLERY_CELL_IN = 0.42
_LINE_IN = 0.22  # height of a line of text
_CHANGED: dict[str, Any] = {
  "facecolor": "#fff3c4",
  "edgecolor": "#b58900",
  "linewidth": 0.8,
  "zorder": -1,  # beneath the images
}


class _Grid:
  """Images and lines of text on an axes, filled from the top.

  The unit of length is a column of images.
  """

  def __init__(self, figure: Any, columns: float, cell_in: float):
    self.columns = columns
    self.line = _LINE_IN / cell_in  # height of a line of text
    self.y = 0.0  # of the next line
    self.width_in = columns * cell_in
    self._cell_in = cell_in
    self._axes = figure.subplots()

  def text(
    self, x: float, words: str, *, below: float = 0.0, **look: Any
  ) -> None:
    """Words in the line of text that begins `below` the next line."""
    self._axes.text(x, self.y + below + 0.7 * self.line, words, **look)

  def left_out(self, num_classes: int) -> None:
    """A line on classes that are not shown, if there are any."""
    if num_classes > 0:
      words = f"and {num_classes} more classes, not shown"
      self.text(0, words, color=svg.FAINT_INK)
      self.y += self.line

  def box(self, x: float, width: float, height: float) -> None:
    """A ground beneath what changed, its upper edge at `y`."""
    from matplotlib import patches

    rectangle = patches.Rectangle((x, self.y), width, height, **_CHANGED)
    self._axes.add_patch(rectangle)

  def image(self, x: float, image: np.ndarray) -> None:
    """An image, a little narrower than a column, its upper edge at `y`."""
    extent = (x, x + 0.9, self.y + 0.92, self.y + 0.02)
    self._axes.imshow(_reduced(image), extent=extent, interpolation="none")

  def rule(self) -> None:
    """A line across."""
    self._axes.plot([0, self.columns], [self.y] * 2, color=svg.RULE, lw=0.8)

  def fit(self, words: str, columns: float) -> str:
    return svg.fit(words, 72 * self._cell_in * columns, 9)

  def finish(self) -> None:
    """Gives the figure the height of what is on it."""
    self._axes.set_axis_off()
    self._axes.set_xlim(-0.1, self.columns + 0.1)
    self._axes.set_ylim(self.y, 0)
    width, height = self._cell_in * (self.columns + 0.2), self._cell_in * self.y
    self._axes.figure.set_size_inches(width + 0.08, height + 0.08)


def _reduced(image: np.ndarray) -> np.ndarray:
  """At most 64 pixels wide and high, since a page embeds it."""
  from PIL import Image

  small = Image.fromarray(image)
  small.thumbnail((64, 64))
  return np.asarray(small)


def sheet_figure(sheet: selection.Sheet) -> figures.Figure:
  """Every query of an episode with two predictions beneath it.

  A row per class: its support images on the left, its queries on the right.
  Classes are named by letters, so that two predictions fit beneath an image.
  """
  methods = [adapt.label(n) for n in (sheet.before_name, sheet.after_name)]
  num_ways = len(sheet.class_names)

  def build(figure: Any) -> None:
    grid = _Grid(figure, _COLUMNS, _CELL_IN)
    for order, method in zip(("First", "Second"), methods, strict=True):
      grid.text(0, grid.fit(f"{order} prediction: {method}", _COLUMNS))
      grid.y += grid.line
    grid.text(0, "A ✓ correct", color=svg.RIGHT, weight="bold")
    grid.text(2, "B ✗ wrong", color=svg.WRONG, weight="bold")
    grid.box(4, 1.5, grid.line)
    grid.text(4.15, "changed")
    grid.y += 1.3 * grid.line
    for label in range(min(num_ways, _MAX_WAYS)):
      _class_of_sheet(grid, sheet, label)
    grid.left_out(num_ways - _MAX_WAYS)
    grid.finish()

  right = [
    int((predictions == sheet.query_labels).sum())
    for predictions in (sheet.before, sheet.after)
  ]
  title = "One episode, query by query"
  return figures.Figure(
    "episode",
    title,
    svg.draw(
      build,
      title=title,
      description=f"{len(sheet.query_labels)} queries of {num_ways} classes; "
      f"correct by {methods[0]}: {right[0]}, by {methods[1]}: {right[1]}.",
    ),
    f"{sheet.rule} Support images are on the left, queries on the right. "
    f"Beneath each query the class predicted by {methods[0]}, then by "
    f"{methods[1]}: ✓ is correct, ✗ is wrong, and a yellow ground marks a "
    "prediction that changed. An example, not an estimate.".strip(),
  )


def _class_of_sheet(grid: _Grid, sheet: selection.Sheet, label: int) -> None:
  support = sheet.support_images[sheet.support_labels == label]
  queries = np.flatnonzero(sheet.query_labels == label)
  before, after = (
    int((p[queries] == label).sum()) for p in (sheet.before, sheet.after)
  )
  grid.rule()
  grid.text(0, _letter(sheet, label), weight="bold")
  grid.text(0.5, grid.fit(sheet.class_names[label], 4.5))
  tally = f"correct {before} → {after} of {len(queries)}"
  grid.text(_COLUMNS, tally, ha="right", color=svg.FAINT_INK)
  grid.y += grid.line
  left = 2 if sheet.most_shots > 1 else 1
  across = _COLUMNS - left
  top, line = grid.y, 1 + grid.line
  for i, image in enumerate(support[: _MAX_LINES * left]):
    grid.y = top + i // left * line
    grid.image(i % left, image)
  for i, row in enumerate(queries[: _MAX_LINES * across]):
    grid.y = top + i // across * line
    _query(grid, left + i % across + 0.1, sheet, row)
  lines = max(-(-len(support) // left), -(-len(queries) // across))
  grid.y = top + min(lines, _MAX_LINES) * line
  rest = len(support) - _MAX_LINES * left, len(queries) - _MAX_LINES * across
  for x, count in zip((0, left + 0.1), rest, strict=True):
    if count > 0:
      grid.text(x, f"and {count} more", color=svg.FAINT_INK)
  grid.y += grid.line if max(rest) > 0 else 0.1


def _query(grid: _Grid, x: float, sheet: selection.Sheet, row: int) -> None:
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


def _letter(sheet: selection.Sheet, label: int) -> str:
  if len(sheet.class_names) <= len(string.ascii_uppercase):
    return string.ascii_uppercase[label]
  return str(label + 1)


def gallery_figure(gallery: selection.Gallery) -> figures.Figure:
  """The episodes of a gallery in small, one beneath the other."""
  chosen = gallery.selection
  most_shots = max(exhibit.most_shots for exhibit in gallery.exhibits)
  queries_at = _GALLERY_NAME + min(_GALLERY_SUPPORT, most_shots) + 0.4

  def build(figure: Any) -> None:
    grid = _Grid(figure, queries_at + _GALLERY_QUERIES, _GALLERY_CELL_IN)
    for words, exhibit in zip(chosen.words, gallery.exhibits, strict=True):
      _small_episode(grid, words, exhibit, queries_at)
    grid.finish()

  title = f"The {chosen.kind} episodes"
  told = " ".join(f"{head}: {accuracies}." for head, accuracies in chosen.words)
  return figures.Figure(
    chosen.kind,
    title,
    svg.draw(build, title=title, description=told),
    f"{chosen.rule} A row per class: its name, up to {_GALLERY_SUPPORT} "
    f"support images, then up to {_GALLERY_QUERIES} queries.",
  )


def _small_episode(
  grid: _Grid,
  words: tuple[str, str],
  exhibit: selection.Exhibit,
  queries_at: float,
) -> None:
  heading, accuracies = words
  grid.text(0, heading, weight="bold")
  grid.y += grid.line
  for part in textwrap.wrap(accuracies, int(14 * grid.width_in)):
    grid.text(0, grid.fit(part, grid.columns))
    grid.y += grid.line
  for label, name in enumerate(exhibit.class_names[:_GALLERY_WAYS]):
    grid.text(0, grid.fit(name, _GALLERY_NAME - 0.2), below=0.2)
    support = exhibit.support_images[exhibit.support_labels == label]
    queries = exhibit.query_images[exhibit.query_labels == label]
    for i, image in enumerate(support[:_GALLERY_SUPPORT]):
      grid.image(_GALLERY_NAME + i, image)
    for i, image in enumerate(queries[:_GALLERY_QUERIES]):
      grid.image(queries_at + i, image)
    grid.y += 1
  grid.left_out(len(exhibit.class_names) - _GALLERY_WAYS)
  grid.y += 0.4
