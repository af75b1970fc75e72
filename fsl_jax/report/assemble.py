"""From results to the files of a run: JSON, figures with captions, page."""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax import paths
from fsl_jax.report import (
  captions,
  document,
  page,
  pictures,
  rows,
  svg,
  text,
  thumbnails,
  values,
)
from fsl_jax.report import curves as curves_lib
from fsl_jax.report import figures as figures_lib
from fsl_jax.report import gallery as gallery_lib
from fsl_jax.report import sheet as sheet_lib


def write(
  run_dir: str | os.PathLike[str],
  sections: Sequence[rows.Section],
  *,
  title: str,
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  sheet: sheet_lib.Sheet | None = None,
  galleries: Sequence[gallery_lib.Gallery] = (),
  class_names: Sequence[str] | None = None,
  figures: Sequence[document.Figure] = (),
  subject: str = "",
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
    galleries: the hardest and the easiest episodes, as pictures.
    class_names: of the data set, by class id, for the accuracy by class.
    figures: that come before those which the results always give.
    subject: network and data, with which the page's first sentence begins.

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: as `rows.check`, `classes.of_section`.
  """
  result = {
    "title": title,
    **values.summary(sections, class_names),
    "notes": list(notes),
    "provenance": dict(provenance or {}),
  }
  drawn = [*figures, *all_figures(sections, sheet, galleries)]
  return save(
    run_dir,
    values.dump(result),
    drawn,
    page.html(title, sections, drawn, provenance, notes, class_names, subject),
    names=("result.json", "report.html"),
  )


def save(
  folder: str | os.PathLike[str],
  json_text: str,
  figures: Sequence[document.Figure],
  html: str,
  *,
  names: tuple[str, str],
) -> list[pathlib.Path]:
  """Writes the JSON, `figures/*.svg` and the page; returns their paths."""
  folder = paths.local(folder, "the folder of the report")
  (folder / "figures").mkdir(parents=True, exist_ok=True)
  contents = {
    folder / names[0]: json_text,
    **{folder / "figures" / f"{f.name}.svg": f.svg for f in figures},
    folder / names[1]: html,
  }
  return [svg.save(content, path) for path, content in contents.items()]


def all_figures(
  sections: Sequence[rows.Section],
  sheet: sheet_lib.Sheet | None = None,
  galleries: Sequence[gallery_lib.Gallery] = (),
) -> list[document.Figure]:
  """Every figure that the results allow, with its caption.

  Raises:
    InputError: as `rows.check`.
  """
  drawn = [
    document.Figure(
      "accuracy",
      "Accuracy by method",
      figures_lib.accuracy_by_method(sections),
      captions.accuracy(sections),
    )
  ]
  hardness = figures_lib.accuracy_against_hardness(sections)
  if hardness is not None:
    drawn.append(
      document.Figure(
        "hardness",
        "Accuracy against hardness",
        hardness,
        captions.hardness(sections),
      )
    )
  for section in sections:
    curves = curves_lib.adaptation_curves(section)
    if curves is not None:
      drawn.append(
        document.Figure(
          _curves_name(section, drawn),
          f"Adaptation step by step, {text.short_heading(section)}",
          curves,
          captions.curves(section),
        )
      )
  drawn += [
    document.Figure(
      gallery.selection.kind,
      f"The {gallery.selection.kind} episodes",
      thumbnails.episode_thumbnails(gallery),
      captions.gallery(gallery),
    )
    for gallery in galleries
    if gallery.exhibits
  ]
  if sheet is not None:
    drawn.append(
      document.Figure(
        "episode",
        "One episode, query by query",
        pictures.episode_sheet(sheet),
        captions.sheet(sheet),
      )
    )
  return drawn


def _curves_name(
  section: rows.Section, drawn: Sequence[document.Figure]
) -> str:
  """A file name that no figure before it has."""
  name = text.short_heading(section).replace("-", "")
  stem = re.sub(r"[^0-9A-Za-z]+", "_", f"curves_{name}").strip("_")
  taken = {figure.name for figure in drawn}
  number = 1
  while (unique := f"{stem}_{number}" if number > 1 else stem) in taken:
    number += 1
  return unique
