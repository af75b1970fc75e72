"""From files of results to README, docs and figures.

A document says where what goes:

  <!-- results: table1 -->
  <!-- end -->

Nobody writes between these two lines but `update`.
"""

import functools
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import curve_kinds

from fsl_jax import types
from fsl_jax.report import svg
from reproduction import (
  analyses,
  curves,
  figures,
  intervals,
  store,
  tables,
  wording,
)

Path = str | os.PathLike[str]

_DOCUMENTS = ("README.md", "docs/reproduction.md", "docs/evaluation.md")
_CURVES = "curves"  # folder of curves in that of the results
_FIGURES = "docs/figures"
# How the names of all figures begin.
_KINDS = (
  *("against-paper", "ablations", "figure2-", "figure3-"),
  *(f"{name}-" for name in curve_kinds.CURVES),
)
_START = re.compile(r"<!-- results: *(.*?) *-->")
_END = "<!-- end -->"


class Figure(NamedTuple):
  """A figure that the results allow; drawn when it is asked for."""

  name: str  # file name without its ending
  block: str  # the block that shows it
  caption: str
  draw: Callable[[], str]


def load(results_dir: Path) -> list[dict[str, Any]]:
  """All results of a folder, by name, the full budget first.

  Raises:
    InputError: naming the file that cannot be read or lacks something.
  """
  paths = pathlib.Path(results_dir).glob("*.json")
  return sorted(map(store.load, paths), key=store.file_name)


def drawings(results: Sequence[wording.Result]) -> list[Figure]:
  """The figures that the results allow, with their captions."""
  table1, ablations = (wording.of(results, t) for t in ("table1", "ablation"))
  pairs = [p for r in ablations for p in r["paired"]]
  found = []
  if table1:
    found.append(
      Figure(
        "against-paper",
        "against_paper",
        "Our accuracy in filled circles, the paper's in hollow diamonds; "
        "crosses are figures of its appendix, not checked. 95% intervals over "
        "episodes.",
        functools.partial(intervals.against_paper, table1),
      )
    )
  for result in wording.of(results, "figure2"):
    if result["rows"]:
      found.append(
        Figure(
          store.file_name(result),
          "figure2",
          f"{wording.cell(result)}: accuracy as queries, ways and shots grow, "
          f"{wording.counts(result['rows'])} episodes.",
          functools.partial(figures.figure2, result),
        )
      )
  for result in wording.of(results, "figure3"):
    if result["points"]:
      found.append(
        Figure(
          store.file_name(result),
          "figure3",
          f"{wording.cell(result)}: accuracy against hardness, means of each "
          "protocol with 95% intervals, lines through the episodes of all, "
          f"{wording.counts(result['lines'])} per line.",
          functools.partial(figures.figure3, result),
        )
      )
  if any(pair["against"] == "reference" for pair in pairs):
    found.append(
      Figure(
        "ablations",
        "ablation_differences",
        "Accuracy of each ablation minus that of the unchanged method on the "
        "same episodes, with 95% intervals.",
        functools.partial(intervals.ablations, ablations),
      )
    )
  return found


def curve_drawings(kept: Sequence[Mapping[str, Any]]) -> list[Figure]:
  """The figures of curves; documents place them by hand."""
  return [
    Figure(curve["file"], "", "", functools.partial(curves.figure, curve))
    for curve in kept
    if curves.has_figure(curve)
  ]


def render(
  results: Sequence[wording.Result], figures_dir: str = _FIGURES
) -> dict[str, str]:
  """Every block by name, as Markdown that ends without a newline.

  Args:
    results: as `load` returns them.
    figures_dir: folder of the figures as seen from the document.
  """
  drawn = drawings(results)

  def images(block: str | None = None) -> str:
    shown = [
      f"![{figure.caption}]({figures_dir}/{figure.name}.svg)\n\n"
      f"*{figure.caption}*"
      for figure in drawn
      if block in (None, figure.block)
    ]
    return "\n\n".join(shown) or wording.nothing(block or "figures")

  return {
    "readme": tables.readme(results),
    "table1": tables.table1(results),
    "paired": tables.paired(results),
    "table2": tables.table2(results),
    "protocols": tables.figure2(results),
    "lines": analyses.lines(results),
    "ablations": analyses.ablations(results),
    "compute": analyses.compute(results),
    "provenance": analyses.provenance(results),
    "figures": images(),
    "against_paper": images("against_paper"),
    "figure2": images("figure2"),
    "figure3": images("figure3"),
    "ablation_differences": images("ablation_differences"),
  }


def fill(text: str, blocks: Mapping[str, str]) -> str:
  """Replaces what stands between the markers of each block.

  Raises:
    InputError: for an unknown block, or one that does not end before the next
      begins.
  """
  result, *parts = _START.split(text)
  for name, rest in zip(parts[::2], parts[1::2], strict=True):
    if name not in blocks:
      raise types.unknown_name("block of results", name, blocks)
    _, end, after = rest.partition(_END)
    if not end:
      raise types.InputError(
        f"the block of results {name!r} does not end; expected {_END!r} before "
        "the next block"
      )
    result += f"<!-- results: {name} -->\n\n{blocks[name]}\n\n{end}{after}"
  return result


def files(results_dir: Path, root: Path) -> dict[pathlib.Path, str]:
  """All that is generated: path and content.

  Args:
    results_dir: folder of the files of results; there may be none.
    root: of the repository.

  Raises:
    InputError: as `load` and `fill`, naming the document.
  """
  root = pathlib.Path(root)
  results, kept = load(results_dir), _curves(results_dir)
  return _documents(results, kept, root) | {
    _svg(root, figure): figure.draw() for figure in _all(results, kept)
  }


def update(results_dir: Path, root: Path) -> list[pathlib.Path]:
  """Writes what differs, each file in one step, and returns their paths.

  Figures whose results are gone are removed.
  """
  changed = [
    (path, text)
    for path, text in files(results_dir, root).items()
    if _differs(path, text)
  ]
  for path, text in changed:
    path.parent.mkdir(parents=True, exist_ok=True)
    svg.save(text, path)
  removed = _left_over(results_dir, root)
  for path in removed:
    path.unlink()
  return [path for path, _ in changed] + removed


def stale(results_dir: Path, root: Path) -> list[pathlib.Path]:
  """Documents that differ from what is generated, and figures that are
  missing, or whose results are."""
  root = pathlib.Path(root)
  results, kept = load(results_dir), _curves(results_dir)
  documents = _documents(results, kept, root)
  # The bytes of a figure follow the version of matplotlib, not only the
  # numbers, so of figures only the presence is compared.
  drawn = [_svg(root, figure) for figure in _all(results, kept)]
  return [
    *(path for path, text in documents.items() if _differs(path, text)),
    *(path for path in drawn if not path.exists()),
    *_left_over(results_dir, root),
  ]


def _all(
  results: Sequence[wording.Result], kept: Sequence[Mapping[str, Any]]
) -> list[Figure]:
  return drawings(results) + curve_drawings(kept)


def _svg(root: pathlib.Path, figure: Figure) -> pathlib.Path:
  return root / _FIGURES / f"{figure.name}.svg"


def _left_over(results_dir: Path, root: Path) -> list[pathlib.Path]:
  """Figures of a kind that is made here, without results."""
  root = pathlib.Path(root)
  drawn = _all(load(results_dir), _curves(results_dir))
  known = {_svg(root, figure) for figure in drawn}
  return [
    path
    for path in sorted((root / _FIGURES).glob("*.svg"))
    if path.name.startswith(_KINDS) and path not in known
  ]


def _differs(path: pathlib.Path, text: str) -> bool:
  return not path.exists() or path.read_text(encoding="utf-8") != text


def _curves(results_dir: Path) -> list[dict[str, Any]]:
  """The curves that are kept beside the cells."""
  return curves.load(pathlib.Path(results_dir) / _CURVES)


def _documents(
  results: Sequence[wording.Result],
  kept: Sequence[Mapping[str, Any]],
  root: pathlib.Path,
) -> dict[pathlib.Path, str]:
  """The documents that have blocks, filled."""
  found = {}
  of_curves = {"curves": curves.points(kept), "curve_lines": curves.lines(kept)}
  for name in _DOCUMENTS:
    path = root / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not _START.search(text):
      continue
    seen_from = os.path.relpath(root / _FIGURES, path.parent)
    blocks = render(results, pathlib.Path(seen_from).as_posix()) | of_curves
    try:
      found[path] = fill(text, blocks)
    except types.InputError as error:
      raise types.InputError(f"{path}: {error}") from None
  return found
