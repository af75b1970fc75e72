"""One episode as pictures: what was shown, what was asked, what was answered.

A row per class: its support pictures on the left, its queries on the right.
Classes are told by letters, so that two answers fit beneath a small picture.
"""

import html
import string

import numpy as np

from fsl_jax.report import drawing, rows, svg
from fsl_jax.report import sheet as sheet_lib

# Limits beyond which a sheet is no longer looked at; what is left out is said.
MAX_WAYS = 12
MAX_SUPPORT = 6  # pictures a class
MAX_QUERIES = 21  # pictures a class
MAX_IMAGE_PX = 64  # larger pictures are reduced before they are embedded

# All lengths in points.
_MIN_WIDTH = 290  # of the words above the rows
_MAX_WIDTH = 372
_MARGIN = 8
_PITCH = 44  # from query to query
_PICTURE = 38
_CELL_HEIGHT = 60
_NAME_HEIGHT = 17
_SMALL_PICTURE = 29  # support, two in a row


def episode_sheet(sheet: sheet_lib.Sheet) -> str:
  """Draws the sheet as an SVG document.

  Right and wrong are told by fill, by mark and by colour.
  """
  ways = min(len(sheet.class_names), MAX_WAYS)
  parts, y = [_key(sheet)], 72.0
  for label in range(ways):
    part, height = _class_row(sheet, label, y)
    parts.append(part)
    y += height
  if ways < len(sheet.class_names):
    more = f"and {len(sheet.class_names) - ways} more classes, not shown"
    parts.append(drawing.text(_MARGIN, y + 12, more, fill=svg.FAINT_INK))
    y += 18
  right = [int((p == sheet.query_labels).sum()) for p in _answers(sheet)]
  return svg.wrap(
    "\n".join(parts),
    width=_width(sheet),
    height=y + 4,
    title="One episode, query by query",
    description=f"{len(sheet.query_labels)} queries of "
    f"{len(sheet.class_names)} classes; right by "
    f"{rows.label(sheet.before_name)}: {right[0]}, by "
    f"{rows.label(sheet.after_name)}: {right[1]}.",
  )


def _answers(sheet: sheet_lib.Sheet) -> tuple[np.ndarray, np.ndarray]:
  return sheet.before, sheet.after


def _key(sheet: sheet_lib.Sheet) -> str:
  """How to read a cell, above the rows."""
  width = _width(sheet) - 2 * _MARGIN
  first = f"First answer: {rows.label(sheet.before_name)}"
  second = f"Second answer: {rows.label(sheet.after_name)}"
  return "\n".join(
    [
      drawing.text(_MARGIN, 14, svg.fit(first, width, 9.5)),
      drawing.text(_MARGIN, 27, svg.fit(second, width, 9.5)),
      _chip(_MARGIN, 35, "A", True),
      drawing.text(_MARGIN + 25, 45, "correct"),
      _chip(_MARGIN + 74, 35, "B", False),
      drawing.text(_MARGIN + 99, 45, "wrong"),
      _changed(_MARGIN + 143, 35, 20, 14),
      drawing.text(_MARGIN + 168, 45, "changed"),
      drawing.text(_MARGIN, 66, "Support", size=9, weight=700),
      drawing.text(
        _queries_left(sheet), 66, "Queries, each with two answers", weight=700
      ),
    ]
  )


def _class_row(
  sheet: sheet_lib.Sheet, label: int, y: float
) -> tuple[str, float]:
  """One class, from `y` downwards, and how high it is."""
  support = np.flatnonzero(sheet.support_labels == label)
  queries = np.flatnonzero(sheet.query_labels == label)
  counts = [int((p[queries] == label).sum()) for p in _answers(sheet)]
  tally = f"correct {counts[0]} → {counts[1]} of {len(queries)}"
  top = y + _NAME_HEIGHT + 2
  end = _width(sheet) - _MARGIN
  name = svg.fit(sheet.class_names[label], end - _MARGIN - 136, 9.5)
  left, left_height = _support(sheet, support, top)
  right, right_height = _queries(sheet, label, queries, top)
  parts = [
    f'<line x1="{_MARGIN}" x2="{end}" y1="{y:g}" y2="{y:g}" '
    f'stroke="{svg.RULE}"/>',
    drawing.text(
      _MARGIN, y + 12.5, _letter(sheet, label), size=9.5, weight=700
    ),
    drawing.text(_MARGIN + 16, y + 12.5, name),
    drawing.text(end, y + 12.5, tally, anchor="end", fill=svg.FAINT_INK),
    *left,
    *right,
  ]
  return "\n".join(parts), _NAME_HEIGHT + max(left_height, right_height) + 6


def _support(
  sheet: sheet_lib.Sheet, support: np.ndarray, top: float
) -> tuple[list[str], float]:
  shown = support[:MAX_SUPPORT]
  side, across = (
    (_SMALL_PICTURE, 2) if _most_shots(sheet) > 1 else (_PICTURE, 1)
  )
  parts = [
    drawing.picture(
      sheet.support_images[row],
      _MARGIN + i % across * (side + 3),
      top + 1 + i // across * (side + 3),
      side,
      MAX_IMAGE_PX,
    )
    for i, row in enumerate(shown)
  ]
  height = -(-len(shown) // across) * (side + 3)
  return _with_rest(parts, height, len(support) - len(shown), _MARGIN, top)


def _queries(
  sheet: sheet_lib.Sheet, label: int, queries: np.ndarray, top: float
) -> tuple[list[str], float]:
  shown = queries[:MAX_QUERIES]
  left = _queries_left(sheet)
  across = _queries_across(sheet)
  parts = [
    _cell(
      sheet,
      row,
      label,
      left + i % across * _PITCH,
      top + i // across * _CELL_HEIGHT,
    )
    for i, row in enumerate(shown)
  ]
  height = -(-len(shown) // across) * _CELL_HEIGHT
  return _with_rest(parts, height, len(queries) - len(shown), left, top)


def _queries_left(sheet: sheet_lib.Sheet) -> int:
  """Where the queries begin, points."""
  support = 2 * _SMALL_PICTURE if _most_shots(sheet) > 1 else _PICTURE
  return _MARGIN + support + 10


def _queries_across(sheet: sheet_lib.Sheet) -> int:
  fitting = (_MAX_WIDTH - _MARGIN - _queries_left(sheet)) // _PITCH
  return max(
    1, min(fitting, int(np.bincount(sheet.query_labels, minlength=1).max()))
  )


def _width(sheet: sheet_lib.Sheet) -> int:
  used = _queries_left(sheet) + _queries_across(sheet) * _PITCH + _MARGIN
  return max(_MIN_WIDTH, used)


def _most_shots(sheet: sheet_lib.Sheet) -> int:
  return int(np.bincount(sheet.support_labels, minlength=1).max())


def _with_rest(
  parts: list[str], height: float, rest: int, x: float, top: float
) -> tuple[list[str], float]:
  """Says how many pictures are not shown, if there are such."""
  if not rest:
    return parts, height
  more = drawing.text(
    x, top + height + 9, f"and {rest} more", fill=svg.FAINT_INK
  )
  return [*parts, more], height + 13


def _cell(
  sheet: sheet_lib.Sheet, row: int, label: int, x: float, y: float
) -> str:
  """A query and its two answers."""
  before, after = (int(answers[row]) for answers in _answers(sheet))
  names = sheet.class_names
  words = f"{names[label]}: {names[before]}, then {names[after]}"
  parts = [f"<g><title>{html.escape(words)}</title>"]
  if before != after:
    parts.append(_changed(x - 1.2, y - 1.2, _PITCH - 0.6, _CELL_HEIGHT - 2))
  parts += [
    drawing.picture(
      sheet.query_images[row], x + 1.5, y + 1, _PICTURE, MAX_IMAGE_PX
    ),
    _chip(x, y + _PICTURE + 3, _letter(sheet, before), before == label),
    _chip(x + 20.5, y + _PICTURE + 3, _letter(sheet, after), after == label),
    "</g>",
  ]
  return "".join(parts)


def _chip(x: float, y: float, letter: str, is_right: bool) -> str:
  """A predicted class: filled and ticked, or dashed and crossed."""
  fill, line, ink, rest = (
    (svg.RIGHT, svg.RIGHT, "#ffffff", "")
    if is_right
    else ("#ffffff", svg.WRONG, "#a04000", ' stroke-dasharray="2.2 1.4"')
  )
  mark = (
    f"M{x + 3:g} {y + 7:g}l2 2.2l3.6 -4.6"
    if is_right
    else f"M{x + 3.4:g} {y + 4.6:g}l4.4 4.4m0 -4.4l-4.4 4.4"
  )
  return (
    f'<rect x="{x + 0.5:g}" y="{y + 0.5:g}" width="19" height="13" rx="2.5" '
    f'fill="{fill}" stroke="{line}"{rest}/>'
    f'<path d="{mark}" fill="none" stroke="{ink}" stroke-width="1.4"/>'
    + drawing.text(
      x + 13.6, y + 10.3, letter, weight=700, anchor="middle", fill=ink
    )
  )


def _changed(x: float, y: float, width: float, height: float) -> str:
  return (
    f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" '
    'fill="#fff3c4" stroke="#b58900" stroke-width="0.8"/>'
  )


def _letter(sheet: sheet_lib.Sheet, label: int) -> str:
  if len(sheet.class_names) <= len(string.ascii_uppercase):
    return string.ascii_uppercase[label]
  return str(label + 1)
