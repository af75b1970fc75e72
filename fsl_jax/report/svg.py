"""What all figures share: colours, lettering, and how an SVG is made.

Letters stay letters, in whatever plain typeface the reader's machine has:
smaller, selectable and readable aloud. Figures are laid out with a typeface
that is wider than these, so nothing overlaps.
"""

import html
import io
import os
import pathlib
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fsl_jax import files, paths

FONTS = (
  "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, "
  "sans-serif"
)
TITLE_LINE_IN = 0.17  # that a further line of a heading takes
LEGEND_LINE_IN = 0.2
WIDTH_IN = 4.4  # at which 9 points of lettering are still read on a phone
INTERVAL = "± 1.96 std / √n over episodes"
INK = "#1f2328"
FAINT_INK = "#57606a"
RULE = "#d8dee4"

# Okabe and Ito's palette for all kinds of colour vision. Its yellow is left
# out: it cannot be read on white.
RIGHT = "#0072B2"
WRONG = "#D55E00"
_KNOWN = {
  "support_init": ("#0072B2", (0, (1, 1.2))),
  "finetune": ("#009E73", (0, (5, 1.5))),
  "transductive_finetune": ("#D55E00", "solid"),
  "prototype": ("#CC79A7", (0, (6, 1.5, 1, 1.5))),
}
_SPARE_COLOURS = ("#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_SPARE_DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

# All that a user's own settings could change comes first from the library's
# defaults, so that the same numbers give the same bytes everywhere.
_STYLE = {
  "svg.fonttype": "none",
  "svg.hashsalt": "fsl_jax",
  # A "$" in the name of a class or method is a "$".
  "text.parse_math": False,
  "font.size": 9,
  "text.color": INK,
  "axes.edgecolor": FAINT_INK,
  "axes.labelcolor": INK,
  "axes.labelsize": 9,
  "axes.titlesize": 9.5,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.linewidth": 0.8,
  "axes.axisbelow": True,
  "xtick.color": FAINT_INK,
  "ytick.color": FAINT_INK,
  "xtick.labelsize": 8.5,
  "ytick.labelsize": 8.5,
  "grid.color": RULE,
  "grid.linewidth": 0.7,
  "legend.fontsize": 8.5,
  "legend.frameon": False,
  "figure.facecolor": "white",
  "figure.titlesize": 9.5,
  "figure.titleweight": "bold",
}


class Look(NamedTuple):
  """How a method is drawn, told apart by colour and by dashes."""

  colour: str
  dashes: Any


def looks(names: Sequence[str]) -> dict[str, Look]:
  """A look per method; the library's own keep theirs in every figure."""
  result, spare = {}, 0
  for name in names:
    if name in _KNOWN:
      result[name] = Look(*_KNOWN[name])
    else:
      turn = spare // len(_SPARE_COLOURS)
      result[name] = Look(
        _SPARE_COLOURS[spare % len(_SPARE_COLOURS)],
        _SPARE_DASHES[(spare + turn) % len(_SPARE_DASHES)],
      )
      spare += 1
  return result


def draw(
  build: Callable[[Any], None],
  *,
  size: tuple[float, float],
  title: str,
  description: str,
) -> str:
  """Runs `build` on a new matplotlib figure and returns it as SVG.

  The settings of matplotlib are those of the caller again afterwards; no
  backend is chosen and no figure is registered.

  Args:
    build: draws on the figure that it receives.
    size: width and height, inches.
    title: for readers who do not see the figure, and for hovering.
    description: what it shows, in words.
  """
  import matplotlib
  from matplotlib import figure as figure_lib
  from matplotlib.backends import backend_svg

  settings: Any = {
    key: value
    for key, value in matplotlib.rcParamsDefault.items()
    if not key.startswith("backend")
  } | _STYLE
  buffer = io.StringIO()
  with matplotlib.rc_context(settings), warnings.catch_warnings():
    # A letter the layout typeface lacks comes from the reader's machine.
    warnings.filterwarnings("ignore", "Glyph .* missing from")
    figure = figure_lib.Figure(figsize=size, layout="constrained")
    build(figure)
    # No date, no version: the same numbers give the same bytes.
    backend_svg.FigureCanvasSVG(figure).print_svg(
      buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
  text = buffer.getvalue()
  start = text.index(">", text.index("<svg")) + 1
  body = text[start : text.rindex("</svg>")]
  # Its style element would reach every other figure of a page.
  body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.S)
  body = re.sub(r"(font[^:]*: [^;\"]*?)'DejaVu[^;\"]*", rf"\1{FONTS}", body)
  return wrap(
    body.strip(),
    width=72 * size[0],
    height=72 * size[1],
    title=title,
    description=description,
  )


def legend(figure: Any, handles: Sequence[Any], **options: Any) -> None:
  """Of every figure alike: beneath it, at the left."""
  if handles:
    figure.legend(
      handles=handles, loc="outside lower left", handlelength=3, **options
    )


def fit(text: str, width: float, size: float) -> str:
  """Shortens what could be wider than `width` points in any typeface.

  The middle goes: names that are made by a sweep differ at their end.
  """
  widths = [size * _letter_width(letter) for letter in text]
  if sum(widths) <= width:
    return text
  start, end = 0, len(text)
  room = width - size
  while start < end:
    take_end = start > len(text) - end
    cost = widths[end - 1 if take_end else start]
    if cost > room:
      break
    room -= cost
    start, end = (start, end - 1) if take_end else (start + 1, end)
  return text[:start] + "…" + text[end:]


def title_lines(words: str) -> str:
  """A heading broken into lines that fit the width of a figure."""
  return textwrap.fill(words, 50)


def _letter_width(letter: str) -> float:
  """In units of the type size, in DejaVu Sans or a narrower typeface."""
  if unicodedata.east_asian_width(letter) in "WF":
    return 1.05
  if letter in "fijlrtI .,:;'|!-()[]":
    return 0.42
  if letter in "mwMWQO@%":
    return 1.0
  return 0.78 if letter.isupper() else 0.64


def wrap(
  body: str, *, width: float, height: float, title: str, description: str
) -> str:
  """A whole SVG document around its content, on white.

  It is drawn at 4/3 of its own units, so that a unit is a point, and shrinks
  with the page that it is put in.
  """
  return (
    '<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
    f'viewBox="0 0 {width:g} {height:g}" '
    f'width="{width * 4 / 3:g}" height="{height * 4 / 3:g}" '
    f'font-family="{FONTS}" stroke-linejoin="round">\n'
    f"<title>{html.escape(title)}</title>\n"
    f"<desc>{html.escape(description)}</desc>\n"
    '<rect width="100%" height="100%" fill="#ffffff"/>\n'
    f"{body}\n</svg>\n"
  )


def with_prefix(svg: str, prefix: str) -> str:
  """Renames every id, so that several figures can share a page."""
  svg = re.sub(r'(\sid=")', rf"\g<1>{prefix}-", svg)
  svg = re.sub(r'(href="#)', rf"\g<1>{prefix}-", svg)
  return re.sub(r"(url\(#)", rf"\g<1>{prefix}-", svg)


def save(svg: str, path: str | os.PathLike[str]) -> pathlib.Path:
  """Writes a figure in one step: readers see the old file or the new one."""
  path = paths.local(path, "the file of a figure")
  files.write(path, svg)
  return path
