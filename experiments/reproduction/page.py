"""From files of results to README, docs and figures.

A document says where what goes:

  <!-- results: table1 -->
  <!-- end -->

Only `update` writes between these two lines.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import curve_kinds

from fsl_jax import json_files, types
from fsl_jax.report import svg
from reproduction import figures, store, tables, wording

Path = str | os.PathLike[str]

_DOCUMENTS = ("README.md", "docs/reproduction.md", "docs/evaluation.md")
_CURVES = "curves"  # folder of curves in that of the results
_FIGURES = "docs/figures"
# How the names of all generated figures begin.
_KINDS = (
  *("against-paper", "ablations", "figure2-", "figure3-"),
  *(f"{name}-" for name in curve_kinds.CURVES),
)
_START = re.compile(r"<!-- results: *(.*?) *-->")
_END = "<!-- end -->"
_CURVE_KEYS = {
  *("curve", "title", "command", "points", "lines", "commits", "device")
}


def load(results_dir: Path) -> list[dict[str, Any]]:
  """All results of a folder, by name, the full budget first.

  Raises:
    InputError: naming the file that cannot be read or lacks something.
  """
  paths = pathlib.Path(results_dir).glob("*.json")
  return sorted(map(store.load, paths), key=store.file_name)


def load_curves(folder: Path) -> list[dict[str, Any]]:
  """All curves of a folder, by file name; there may be none.

  Raises:
    InputError: naming the file that cannot be read or lacks something.
  """
  found = []
  for path in sorted(pathlib.Path(folder).glob("*.json")):
    try:
      curve = json_files.parse(path.read_bytes())
      missing = _CURVE_KEYS - set(curve)
    except (ValueError, TypeError) as error:
      raise types.InputError(f"{path} is damaged ({error})") from error
    if missing:
      raise types.InputError(f"{path} lacks {', '.join(sorted(missing))}")
    found.append(curve | {"file": path.stem})
  return found


def render(
  results: Sequence[wording.Result],
  curves: Sequence[Mapping[str, Any]] = (),
  figures_dir: str = _FIGURES,
) -> dict[str, str]:
  """Every block by name, as Markdown that ends without a newline.

  Args:
    results: as `load` returns them.
    curves: as `load_curves` returns them.
    figures_dir: folder of the figures relative to the document.
  """
  drawn = list(figures.of_results(results))

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
    "table1": tables.outcomes(results, "table1"),
    "paired": tables.paired(results),
    "table2": tables.outcomes(results, "table2"),
    "protocols": tables.outcomes(results, "figure2"),
    "lines": tables.lines(results),
    "ablations": tables.ablations(results),
    "compute": tables.compute(results),
    "provenance": tables.provenance(results),
    "curves": tables.curves(curves),
    "curve_lines": tables.curve_lines(curves),
    "figures": images(),
    "against_paper": images("against_paper"),
    "figure2": images("figure2"),
    "figure3": images("figure3"),
    "ablation_differences": images("ablation_differences"),
  }


def fill(text: str, blocks: Mapping[str, str]) -> str:
  """Replaces the text between the markers of each block.

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


class Generated:
  """All that is generated from a folder of results, which may be empty.

  Attributes:
    documents: by path, their content with the blocks filled.
    figures: by path, to be drawn.
    left_over: figures of a kind that is made here, without results.
  """

  def __init__(self, results_dir: Path, root: Path):
    """Loads the results.

    Args:
      results_dir: folder of the files of results.
      root: of the repository.

    Raises:
      InputError: as `load`, `load_curves` and `fill`, naming the document.
    """
    folder = pathlib.Path(root) / _FIGURES
    results = load(results_dir)
    curves = load_curves(pathlib.Path(results_dir) / _CURVES)
    self.documents = _documents(results, curves, pathlib.Path(root))
    self.figures = {
      folder / f"{figure.name}.svg": figure
      for figure in (*figures.of_results(results), *figures.of_curves(curves))
    }
    self.left_over = [
      path
      for path in sorted(folder.glob("*.svg"))
      if path.name.startswith(_KINDS) and path not in self.figures
    ]

  def stale(self) -> list[pathlib.Path]:
    """What `update` would change. The bytes of a figure depend on the version
    of matplotlib, so only the presence of figures is checked."""
    return [
      *(p for p, text in self.documents.items() if _differs(p, text)),
      *(path for path in self.figures if not path.exists()),
      *self.left_over,
    ]


def update(results_dir: Path, root: Path) -> list[pathlib.Path]:
  """Writes what differs, each file in one step, and returns their paths.

  Figures without results are removed. Arguments and errors are those of
  `Generated`.
  """
  found = Generated(results_dir, root)
  texts = found.documents | {p: f.draw() for p, f in found.figures.items()}
  changed = {path: t for path, t in texts.items() if _differs(path, t)}
  for path, text in changed.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    svg.save(text, path)
  for path in found.left_over:
    path.unlink()
  return [*changed, *found.left_over]


def _differs(path: pathlib.Path, text: str) -> bool:
  return not path.exists() or path.read_text(encoding="utf-8") != text


def _documents(
  results: Sequence[wording.Result],
  curves: Sequence[Mapping[str, Any]],
  root: pathlib.Path,
) -> dict[pathlib.Path, str]:
  """The documents that have blocks, filled."""
  found = {}
  for path in (root / name for name in _DOCUMENTS):
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if not _START.search(text):
      continue
    folder = pathlib.Path(os.path.relpath(root / _FIGURES, path.parent))
    try:
      found[path] = fill(text, render(results, curves, folder.as_posix()))
    except types.InputError as error:
      raise types.InputError(f"{path}: {error}") from None
  return found
