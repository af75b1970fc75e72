"""The files of a data set's hardness: JSON, figures, page."""

import html as html_lib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import dataset_hardness, types
from fsl_jax.report import (
  assemble,
  captions,
  dataset_tables,
  document,
  figures,
  svg,
  text,
  thumbnails,
  values,
)
from fsl_jax.report import gallery as gallery_lib
from fsl_jax.report import table as table_lib

_NUM_BINS = 40


def write(
  folder: str | os.PathLike[str],
  sections: Sequence[dataset_hardness.Judged],
  class_names: Sequence[str],
  *,
  title: str,
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  galleries: Sequence[Sequence[gallery_lib.Gallery]] = (),
  subject: str = "",
) -> list[pathlib.Path]:
  """Writes `result.json`, `figures/*.svg` and `hardness.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    folder: it is made if there is none.
    sections: the episodes, one entry per protocol.
    class_names: of the split, by class id.
    title: of the page.
    provenance: JSON values for the foot of the page and for `result.json`.
    notes: paragraphs for the page.
    galleries: for each protocol its extreme episodes as pictures, or nothing.
    subject: data and judge, with which the first sentence begins.

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: if there is no section.
  """
  if not sections:
    raise types.InputError("a page of hardness needs a protocol, got none")
  result = {
    "title": title,
    **dataset_tables.json_values(sections, class_names),
    "notes": list(notes),
    "provenance": dict(provenance or {}),
  }
  drawn = [_distribution(sections)]
  for number, (judged, shown) in enumerate(
    zip(sections, galleries, strict=bool(galleries)), 1
  ):
    drawn += [_extremes(number, judged, gallery) for gallery in shown]
  return assemble.save(
    folder,
    values.dump(result),
    drawn,
    _html(title, sections, class_names, drawn, provenance, notes, subject),
    names=("result.json", "hardness.html"),
  )


def hardness_by_protocol(sections: Sequence[dataset_hardness.Judged]) -> str:
  """Histograms of the episodes' hardness, a panel per protocol, as SVG."""
  found = [dataset_tables.numbers(judged) for judged in sections]
  names = [judged.result.protocol_name for judged in sections]
  bins = np.histogram_bin_edges(
    np.concatenate([judged.result.hardness for judged in sections]), _NUM_BINS
  )

  def build(figure):
    panels = figure.subplots(len(sections), 1, sharex=True, squeeze=False)[:, 0]
    for judged, name, own, panel in zip(
      sections, names, found, panels, strict=True
    ):
      panel.set_title(svg.title_lines(name), pad=6)
      panel.hist(judged.result.hardness, bins, color=svg.RIGHT)
      panel.axvline(own.mean, color=svg.INK, linewidth=1.4)
      panel.axvline(
        own.uniform, color=svg.WRONG, linewidth=1.6, linestyle=(0, (4, 2))
      )
      panel.set_ylabel("Episodes")
      panel.grid(axis="y")
    panels[-1].set_xlabel("Hardness (nats)")

  return svg.draw(
    build,
    size=(svg.WIDTH_IN, 1.75 * len(sections) + 0.4),
    title="Hardness by protocol",
    description=" ".join(
      f"{name}: mean {own.mean:.3f} nats, of uniform predictions "
      f"{own.uniform:.3f}."
      for name, own in zip(names, found, strict=True)
    ),
  )


def _distribution(
  sections: Sequence[dataset_hardness.Judged],
) -> document.Figure:
  shown = [dataset_tables.section(judged) for judged in sections]
  return document.Figure(
    "hardness",
    "Hardness by protocol",
    hardness_by_protocol(sections),
    "Across: hardness in nats. Up: episodes of "
    f"{figures.episode_count(shown)}. Black line: mean. Dashed: mean of "
    "log(ways − 1), where all classes look alike to the judge.",
  )


def _extremes(
  number: int,
  judged: dataset_hardness.Judged,
  gallery: gallery_lib.Gallery,
) -> document.Figure:
  kind = gallery.selection.kind
  return document.Figure(
    f"{kind}_{number}",
    f"The {kind} episodes, {judged.result.protocol_name}",
    thumbnails.episode_thumbnails(gallery),
    captions.gallery(gallery),
  )


def _outcome(sections: Sequence[dataset_hardness.Judged]) -> str:
  """The easiest and the hardest protocol."""
  means = [
    (dataset_tables.numbers(judged).mean, judged.result.protocol_name)
    for judged in sections
  ]
  return "mean hardness " + " to ".join(
    f"{mean:.3f} nats ({name})"
    for mean, name in dict.fromkeys((min(means), max(means)))
  )


def _html(
  title: str,
  sections: Sequence[dataset_hardness.Judged],
  class_names: Sequence[str],
  drawn: Sequence[document.Figure],
  provenance: Mapping[str, Any] | None,
  notes: Sequence[str],
  subject: str,
) -> str:
  classes, pairs = [], []
  for number, judged in enumerate(sections):
    name = text.heading(dataset_tables.section(judged))
    shown, note = dataset_tables.classes(judged, class_names)
    summary = f"{judged.result.protocol_name}: {note}"
    classes += [
      # Long tables, so those after the first wait until they are asked for.
      f"<details{'' if number else ' open'}>"
      f"<summary>{html_lib.escape(summary)}</summary>",
      table_lib.html(shown, summary),
      "</details>",
    ]
    pairs += [
      f"<h3>{html_lib.escape(name)}</h3>",
      table_lib.html(dataset_tables.pairs(judged, class_names), name),
    ]
  subject = subject or text.counted(len(class_names), "class", "classes")
  overview = table_lib.html(dataset_tables.protocols(sections), "Hardness")
  small_print = document.footnotes(dataset_tables.NOTES)
  return document.page(
    title,
    f"{subject}: {_outcome(sections)}; no few-shot method took part.",
    [
      *document.section("Hardness", [overview, small_print]),
      *document.figures(drawn),
      *document.section("Classes", classes),
      *document.section("Classes taken for each other", pairs),
      *document.section("Notes", document.paragraphs(notes)),
      *document.provenance(provenance),
    ],
  )
