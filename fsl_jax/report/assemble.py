"""From results to the files of a run: JSON, figures with captions, page."""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax.report import curves as curves_lib
from fsl_jax.report import figures as figures_lib
from fsl_jax.report import page, pictures, rows, svg, tables
from fsl_jax.report import sheet as sheet_lib


def write(
  run_dir: str | os.PathLike[str],
  sections: Sequence[rows.Section],
  *,
  title: str,
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  sheet: sheet_lib.Sheet | None = None,
) -> list[pathlib.Path]:
  """Writes `result.json`, `figures/*.svg` and `report.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    run_dir: folder; it is made if there is none.
    sections: the results, one per protocol.
    title: of the page.
    provenance: JSON values for the foot of the page and for `result.json`.
    notes: paragraphs for the page.
    sheet: an episode to show as pictures.

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: as `rows.check`.
  """
  folder = pathlib.Path(run_dir)
  result = {
    "title": title,
    **tables.summary(sections),
    "notes": list(notes),
    "provenance": dict(provenance or {}),
  }
  drawn = all_figures(sections, sheet)
  (folder / "figures").mkdir(parents=True, exist_ok=True)
  paths = [folder / "figures" / f"{figure.name}.svg" for figure in drawn]
  for path, figure in zip(paths, drawn, strict=True):
    svg.save(figure.svg, path)
  text = json.dumps(_plain(result), indent=2, allow_nan=False, default=str)
  return [
    svg.save(text + "\n", folder / "result.json"),
    *paths,
    svg.save(
      page.html(title, sections, drawn, provenance, notes),
      folder / "report.html",
    ),
  ]


def all_figures(
  sections: Sequence[rows.Section], sheet: sheet_lib.Sheet | None = None
) -> list[page.Figure]:
  """Every figure that the results allow, with its caption.

  Raises:
    InputError: as `rows.check`.
  """
  is_paired = any(
    row.difference for section in sections for row in rows.of_section(section)
  )
  drawn = [
    page.Figure(
      "accuracy",
      "Accuracy by method",
      figures_lib.accuracy_by_method(sections),
      "Dot: mean over the episodes. Bar: the 95 % interval of that mean, "
      "± 1.96 std / √n."
      + is_paired
      * (
        " The methods met the same episodes, so intervals that overlap do not "
        "make two methods equal: the paired differences in the table decide."
      ),
    )
  ]
  hardness = figures_lib.accuracy_against_hardness(sections)
  if hardness is not None:
    drawn.append(
      page.Figure(
        "hardness",
        "Accuracy against hardness",
        hardness,
        "One marker per episode and method. Hardness is the mean log-odds, "
        "under fixed features, that a query is classified wrongly; it does "
        "not depend on the method, and further right is harder. Lines: least "
        "squares over a method's episodes of all protocols. The area between "
        "a line, drawn on to both axes, and the axes sums a method up: larger "
        "is better.",
      )
    )
  for section in sections:
    curves = curves_lib.adaptation_curves(section)
    if curves is not None:
      drawn.append(
        page.Figure(
          _curves_name(section, drawn),
          f"Adaptation step by step, {tables.short_heading(section)}",
          curves,
          "Means over episodes before the update of each step, on the "
          "augmented pictures the step saw; the band is their 95 % interval. "
          "Entropy is missing where a method does not look at the queries. The "
          "vertical axes do not start at 0.",
        )
      )
  if sheet is not None:
    drawn.append(
      page.Figure(
        "episode",
        "One episode, query by query",
        pictures.episode_sheet(sheet),
        f"{sheet.rule} Beneath each query the class predicted by "
        f"{rows.label(sheet.before_name)}, then by "
        f"{rows.label(sheet.after_name)}: filled and ticked is correct, dashed "
        "and crossed is wrong, and a yellow ground marks a prediction that "
        "changed. An example, not an estimate.".strip(),
      )
    )
  return drawn


def _curves_name(section: rows.Section, drawn: Sequence[page.Figure]) -> str:
  """A file name that no figure before it has."""
  stem = "curves_" + tables.short_heading(section).replace("-", "").replace(
    " ", "_"
  )
  taken = [figure.name for figure in drawn if figure.name.startswith(stem)]
  return f"{stem}_{len(taken) + 1}" if taken else stem


def _plain(value: Any) -> Any:
  """Python's own types; NaN and infinity, which JSON lacks, become None."""
  if isinstance(value, Mapping):
    return {str(key): _plain(inner) for key, inner in value.items()}
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return [_plain(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
