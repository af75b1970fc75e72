"""A few episodes in small: each class's support pictures and queries."""

import textwrap

import numpy as np

from fsl_jax.report import drawing, svg
from fsl_jax.report import gallery as gallery_lib

# What a figure is still looked at with, and a page loaded; the rest is said.
MAX_WAYS = 6
MAX_SUPPORT = 3  # pictures a class
MAX_QUERIES = 5  # pictures a class
MAX_IMAGE_PX = 36

# All lengths in points.
_WIDTH = 317
_MARGIN = 8
_PICTURE = 24
_PITCH = 27
_NAME_WIDTH = 76
_LINE = 13
_GAP = 12  # between support and queries


def episode_thumbnails(gallery: gallery_lib.Gallery) -> str:
  """Draws the episodes of a gallery, one beneath the other, as SVG."""
  selection = gallery.selection
  parts, y = [], float(_MARGIN)
  for words, exhibit in zip(selection.words, gallery.exhibits, strict=True):
    part, height = _episode(words, exhibit, y)
    parts.append(part)
    y += height + _MARGIN
  return svg.wrap(
    "\n".join(parts),
    width=_WIDTH,
    height=y,
    title=f"The {selection.kind} episodes",
    description=" ".join(
      f"{heading}: {accuracies}." for heading, accuracies in selection.words
    ),
  )


def _episode(
  words: tuple[str, str], exhibit: gallery_lib.Exhibit, y: float
) -> tuple[str, float]:
  """One episode, from `y` downwards, and how high it is."""
  heading, accuracies = words
  top = y + _LINE
  parts = [drawing.text(_MARGIN, top, heading, weight=700)]
  for line in textwrap.wrap(accuracies, 56):
    top += _LINE
    shown = svg.fit(line, _WIDTH - 2 * _MARGIN, 9)
    parts.append(drawing.text(_MARGIN, top, shown, size=9))
  top += 5
  support = min(MAX_SUPPORT, _most(exhibit.support_labels))
  left = _MARGIN + _NAME_WIDTH
  middle = left + support * _PITCH + _GAP
  for label, name in enumerate(exhibit.class_names[:MAX_WAYS]):
    parts += [
      drawing.text(
        _MARGIN, top + 15, svg.fit(name, _NAME_WIDTH - 4, 8.5), size=8.5
      ),
      *_pictures(
        exhibit.support_images[exhibit.support_labels == label][:MAX_SUPPORT],
        left,
        top,
      ),
      *_pictures(
        exhibit.query_images[exhibit.query_labels == label][:MAX_QUERIES],
        middle,
        top,
      ),
    ]
    top += _PITCH
  rest = len(exhibit.class_names) - MAX_WAYS
  if rest > 0:
    more = f"and {rest} more classes, not shown"
    parts.append(drawing.text(_MARGIN, top + 10, more, fill=svg.FAINT_INK))
    top += 14
  return "\n".join(parts), top - y


def _pictures(images: np.ndarray, left: float, top: float) -> list[str]:
  return [
    drawing.picture(image, left + i * _PITCH, top, _PICTURE, MAX_IMAGE_PX)
    for i, image in enumerate(images)
  ]


def _most(labels: np.ndarray) -> int:
  return int(np.bincount(labels, minlength=1).max())
