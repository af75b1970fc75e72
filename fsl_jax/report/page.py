"""The page of a run: tables, figures, notes, provenance."""

import html as html_lib
from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax.report import (
  behaviour,
  classes,
  document,
  outcome,
  rows,
  tables,
  text,
)
from fsl_jax.report import table as table_lib


def html(
  title: str,
  sections: Sequence[rows.Section],
  figures: Sequence[document.Figure] = (),
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  class_names: Sequence[str] | None = None,
  subject: str = "",
) -> str:
  """A self-contained page: nothing fetched, one script that sorts tables.

  Args:
    title: of the page.
    sections: the results, one table each.
    figures: shown in this order.
    provenance: what a number needs to be trusted, for the foot of the page:
      nested mappings and lists of JSON values.
    notes: paragraphs on what the reader should know.
    class_names: of the data set, by class id, for the accuracy by class.
    subject: network and data, with which the first sentence begins.

  Raises:
    InputError: as `rows.check`, `classes.of_section`.
  """
  rows.check(sections)
  lead = outcome.sentence(subject, sections)
  if len(rows.method_names(sections)) > 1:
    lead += " Methods of a protocol were evaluated on the same episodes."
  accuracy, adaptation = [], []
  for section in sections:
    accuracy += _titled(section, tables.results(section))
    adaptation += _titled(section, behaviour.behaviour(section))
  accuracy.append(document.footnotes(tables.footnotes(sections)))
  adaptation += document.paragraphs(behaviour.warnings(sections))
  adaptation.append(document.footnotes(behaviour.FOOTNOTES))
  return document.page(
    title,
    lead,
    [
      *document.section("Accuracy", accuracy),
      *document.figures(figures),
      *document.section("What adaptation changed", adaptation),
      *document.section("Accuracy by class", _classes(sections, class_names)),
      *document.section("Notes", document.paragraphs(notes)),
      *document.provenance(provenance),
    ],
  )


def _titled(section: rows.Section, table: table_lib.Table) -> list[str]:
  name = text.heading(section)
  return [
    f"<h3>{html_lib.escape(name)}</h3>",
    table_lib.html(table, name),
  ]


def _classes(
  sections: Sequence[rows.Section], class_names: Sequence[str] | None
) -> list[str]:
  """Long tables, so closed until they are asked for."""
  if class_names is None:
    return []
  body = []
  for section in sections:
    found = classes.of_section(section, class_names)
    if found:
      table, note = classes.classes(found)
      name = f"{text.short_heading(section)}: {note}"
      body += [
        f"<details><summary>{html_lib.escape(name)}</summary>",
        table_lib.html(table, name),
        "</details>",
      ]
  return body
