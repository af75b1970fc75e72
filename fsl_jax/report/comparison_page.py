"""The files of a comparison: JSON, figure, page."""

import html as html_lib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax.report import (
  assemble,
  comparison,
  differences,
  document,
  figures,
  text,
  values,
)
from fsl_jax.report import table as table_lib


def write(
  folder: str | os.PathLike[str],
  pairs: Sequence[comparison.Pair],
  *,
  title: str,
  provenance_a: Mapping[str, Any] | None = None,
  provenance_b: Mapping[str, Any] | None = None,
  names: tuple[str, str] = ("A", "B"),
  subject: str = "the same episodes",
) -> list[pathlib.Path]:
  """Writes `comparison.json`, `figures/differences.svg`, `comparison.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    folder: it is made if there is none.
    pairs: the sections of both runs, one pair per protocol, on the same
      episodes; methods that are in one run only are left out.
    title: of the page.
    provenance_a: JSON values of the first run, for the foot of the page.
    provenance_b: of the second.
    names: of the runs, for people; they differ.
    subject: networks and data in words, as in "A against B on ...".

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: as `comparison.check`.
  """
  comparison.check(pairs, names)
  provenance = {
    name: dict(of_run or {})
    for name, of_run in zip(names, (provenance_a, provenance_b), strict=True)
  }
  count = figures.episode_count([pair[0] for pair in pairs])
  figure = document.Figure(
    "differences",
    f"{names[0]} minus {names[1]}",
    differences.accuracy_differences(pairs, names),
    "Across: difference in accuracy, in percentage points; right of 0 "
    f"{names[0]} is better; {count}. Dot: mean of the paired differences. Bar: "
    "its 95 % interval, ± 1.96 std / √n of the differences.",
  )
  result = {
    "title": title,
    **comparison.json_values(pairs, names),
    "provenance": provenance,
  }
  return assemble.save(
    folder,
    values.dump(result),
    [figure],
    _html(title, pairs, names, figure, provenance, subject),
    names=("comparison.json", "comparison.html"),
  )


def _html(
  title: str,
  pairs: Sequence[comparison.Pair],
  names: tuple[str, str],
  figure: document.Figure,
  provenance: Mapping[str, Any],
  subject: str,
) -> str:
  body = []
  for pair in pairs:
    name = text.heading(pair[0])
    shown = comparison.comparison(pair, names)
    body += [
      f"<h3>{html_lib.escape(name)}</h3>",
      table_lib.html(shown, name),
      *document.paragraphs(comparison.sentences(pair, names)),
    ]
  body.append(document.footnotes(comparison.NOTES))
  lead = f"{names[0]} against {names[1]} on {subject}: "
  lead += comparison.outcome(pairs, names)
  return document.page(
    title,
    lead,
    [
      *document.section("Difference in accuracy", body),
      *document.figures([figure]),
      *document.provenance(provenance),
    ],
  )
