"""What all figures share: colours, lettering, and how an SVG is made.

Letters stay letters, in whatever plain typeface the reader's machine has. The
layout is made with a typeface that is wider than most, so nothing overlaps.
Matplotlib is loaded when a figure is drawn.
"""

import html
import io
import os
import pathlib
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fsl_jax import adapt, files, paths

TITLE_LINE_IN = 0.17  # that a further line of a heading takes
LEGEND_LINE_IN = 0.2
WIDTH_IN = 4.4  # at which 9 points of lettering are still read on a phone
INTERVAL = "± 1.96 std / √n over episodes"
INK = "#1f2328"
FAINT_INK = "#57606a"
RULE = "#d8dee4"
RIGHT = "#0072B2"
WRONG = "#D55E00"

# Okabe and Ito's palette for all kinds of colour vision, without its yellow,
# which cannot be read on white.
_COLOURS = (
  *("#CC79A7", "#0072B2", "#009E73", "#D55E00"),
  *("#E69F00", "#56B4E9", "#000000", "#7F7F7F"),
)
_DASHES = ((0, (6, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (5, 1.5)), "solid")

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
}


class Look(NamedTuple):
  """How a method is drawn: told apart by colour and by dashes."""

  colour: str
  dashes: Any


def looks(names: Sequence[str]) -> dict[str, Look]:
  """A look per method; the library's own keep theirs in every figure."""
  known = list(adapt.names())
  order = known + [name for name in names if name not in known]
  found = {}
  for name in names:
    place = order.index(name)
    turn, colour = divmod(place, len(_COLOURS))
    dashes = _DASHES[(place + turn) % len(_DASHES)]
    found[name] = Look(_COLOURS[colour], dashes)
  return found


def draw(
  build: Callable[[Any], None],
  *,
  size: tuple[float, float] = (WIDTH_IN, WIDTH_IN),
  title: str,
  description: str,
) -> str:
  """Runs `build` on a new matplotlib figure and returns it as SVG.

  The same numbers give the same bytes under any settings of the user, which
  are in force again afterwards; no backend is chosen and no figure registered.

  Args:
    build: draws on the figure that it receives.
    size: width and height, inches; `build` may change it.
    title: for readers who do not see the figure.
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
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    backend_svg.FigureCanvasSVG(figure).print_svg(
      buffer, metadata={"Title": title, **none}
    )
  described = f"</title>\n <desc>{html.escape(description)}</desc>"
  return buffer.getvalue().replace("</title>", described, 1)


def legend(figure: Any, handles: Sequence[Any], **options: Any) -> None:
  """Places the legend of a figure beneath it, at the left."""
  if handles:
    figure.legend(
      handles=handles, loc="outside lower left", handlelength=3, **options
    )


def fit(text: str, width: float, size: float) -> str:
  """Shortens text of `size` points that may be wider than `width` points.

  The middle goes: names that are made by a sweep differ at their end.
  """
  is_wide = [unicodedata.east_asian_width(letter) in "WF" for letter in text]
  own = size * (0.6 * len(text) + 0.45 * sum(is_wide))
  if own <= width:
    return text
  kept = max(int(len(text) * width / own) - 1, 0)
  return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"


def title_lines(words: str) -> str:
  """A heading broken into lines that fit the width of a figure."""
  return textwrap.fill(words, 50)


def save(text: str, path: str | os.PathLike[str]) -> pathlib.Path:
  """Writes a file in one step: readers see the old file or the new one."""
  path = paths.local(path, "the file of a figure")
  files.write(path, text)
  return path
