"""From a summary to the files of a run: JSON, figures, one page.

A page is self-contained: nothing is fetched, and its one script sorts tables.
"""

import base64
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import markupsafe

from fsl_jax import paths, results
from fsl_jax.report import (
  figures,
  image_grids,
  selection,
  svg,
  table,
  tables,
  text,
)

_TEMPLATES = pathlib.Path(__file__).parent / "templates"


class Block(NamedTuple):
  """A table with its heading, and paragraphs below it."""

  heading: str = ""
  content: table.Table | None = None
  paragraphs: Sequence[str] = ()
  # Whether a long table waits to be opened; None: it cannot be closed.
  is_folded: bool | None = None


class Part(NamedTuple):
  """A section of a page; without blocks there is none."""

  title: str
  blocks: Sequence[Block]
  footnotes: Sequence[str] = ()


def render(
  title: str,
  lead: str,
  parts: Sequence[Part],
  drawn: Sequence[figures.Figure] = (),
  provenance: Mapping[str, Any] | None = None,
) -> str:
  """A page as HTML; all text is escaped.

  Args:
    title: of the page.
    lead: its first sentence.
    parts: the figures follow the first one.
    drawn: figures, numbered in their order.
    provenance: what a number needs to be trusted, for the foot of the page:
      nested mappings and lists of JSON values.
  """
  script = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")
  digest = hashlib.sha256(script.encode()).digest()
  # No request can leave the page and no other script can run, whatever a name
  # in it contains.
  policy = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src "
    f"'sha256-{base64.b64encode(digest).decode()}'; base-uri 'none'; "
    "form-action 'none'"
  )
  return (
    _environment()
    .get_template("page.html")
    .render(
      title=title,
      lead=lead,
      parts=parts,
      figures=drawn,
      provenance=_facts(provenance or {}),
      policy=policy,
      script=markupsafe.Markup(script),
    )
  )


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters["data_uri"] = _data_uri
  return environment


def _data_uri(figure: figures.Figure) -> str:
  encoded = base64.b64encode(figure.svg.encode()).decode()
  return f"data:image/svg+xml;base64,{encoded}"


def _facts(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
  """By first key, "" for single values: leaves by the rest of their path."""
  groups: dict[str, dict[str, str]] = {"": {}}
  for path, leaf in _leaves(values):
    group = path[0] if len(path) > 1 else ""
    groups.setdefault(group, {})[".".join(path[1:] or path)] = _value(leaf)
  return {name: facts for name, facts in groups.items() if facts}


def _leaves(
  value: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
  """Values that are not mappings; places in a list of mappings count from 1."""
  is_list = isinstance(value, (list, tuple))
  if is_list and any(isinstance(inner, Mapping) for inner in value):
    value = dict(enumerate(value, 1))
  if not isinstance(value, Mapping):
    yield path, value
    return
  for key, inner in value.items():
    yield from _leaves(inner, (*path, str(key)))


def _value(value: Any) -> str:
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_value, value))
  if isinstance(value, bool):
    return "yes" if value else "no"
  return "none" if value is None else str(value)


def html(
  title: str,
  summary: results.Summary,
  drawn: Sequence[figures.Figure] = (),
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  subject: str = "",
) -> str:
  """The page of a run; arguments as for `write`."""
  lead = tables.outcome(summary, subject)
  if len(summary.method_names) > 1:
    lead += " Methods of a protocol were evaluated on the same episodes."
  headings = [text.heading(section.first) for section in summary.sections]
  accuracy, behaviour = (
    [
      Block(heading, make(section))
      for heading, section in zip(headings, summary.sections, strict=True)
    ]
    for make in (tables.accuracy, tables.behaviour)
  )
  behaviour.append(Block(paragraphs=tables.warnings(summary)))
  classes = []
  for section in summary.sections:
    if section.classes:
      shown, note = tables.classes(section.classes)
      heading = f"{section.protocol_name}: {note}"
      classes.append(Block(heading, shown, is_folded=True))
  return render(
    title,
    lead,
    [
      Part("Accuracy", accuracy, tables.footnotes(summary)),
      Part("What adaptation changed", behaviour, tables.BEHAVIOUR_NOTES),
      Part("Accuracy by class", classes),
      Part("Notes", [Block(paragraphs=notes)] if notes else []),
    ],
    drawn,
    provenance,
  )


def all_figures(
  summary: results.Summary,
  sheet: selection.Sheet | None = None,
  galleries: Sequence[selection.Gallery] = (),
) -> list[figures.Figure]:
  """Every figure that the results allow, with its caption."""
  drawn = [figures.accuracy(summary), figures.hardness(summary)]
  names: list[str] = []
  for section in summary.sections:
    curves = figures.curves(section)
    if curves is not None:
      stem = section.protocol_name.replace("-", "")
      stem = re.sub(r"[^0-9A-Za-z]+", "_", f"curves_{stem}").strip("_")
      name, number = stem, 1
      while name in names:
        number += 1
        name = f"{stem}_{number}"
      names.append(name)
      drawn.append(curves._replace(name=name))
  drawn += [image_grids.gallery_figure(g) for g in galleries if g.exhibits]
  if sheet is not None:
    drawn.append(image_grids.sheet_figure(sheet))
  return [figure for figure in drawn if figure is not None]


def write(
  run_dir: str | os.PathLike[str],
  summary: results.Summary,
  *,
  title: str,
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  sheet: selection.Sheet | None = None,
  galleries: Sequence[selection.Gallery] = (),
  more_figures: Sequence[figures.Figure] = (),
  subject: str = "",
) -> list[pathlib.Path]:
  """Writes `result.json`, `figures/*.svg` and `report.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    run_dir: folder; it is made if there is none.
    summary: of the run.
    title: of the page.
    provenance: JSON values for the foot of the page and for `result.json`.
    notes: paragraphs on what the reader should know.
    sheet: an episode to show with its images and predictions.
    galleries: the hardest and the easiest episodes, as images.
    more_figures: that come before those which the results always give.
    subject: network and data, with which the page's first sentence begins.

  Returns:
    The paths of the files, the page last.
  """
  drawn = [*more_figures, *all_figures(summary, sheet, galleries)]
  return save(
    run_dir,
    {
      "title": title,
      **summary.as_json(),
      "notes": list(notes),
      "provenance": dict(provenance or {}),
    },
    drawn,
    html(title, summary, drawn, provenance, notes, subject),
    names=("result.json", "report.html"),
  )


def save(
  folder: str | os.PathLike[str],
  values: Mapping[str, Any],
  drawn: Sequence[figures.Figure],
  page: str,
  *,
  names: tuple[str, str],
) -> list[pathlib.Path]:
  """Writes the JSON, `figures/*.svg` and the page; returns their paths."""
  folder = paths.local(folder, "the folder of the report")
  (folder / "figures").mkdir(parents=True, exist_ok=True)
  # Values that are no JSON, such as paths, are shown as text.
  json_text = json.dumps(
    results.plain(values), indent=2, allow_nan=False, default=str
  )
  contents = {
    folder / names[0]: json_text + "\n",
    **{folder / "figures" / f"{f.name}.svg": f.svg for f in drawn},
    folder / names[1]: page,
  }
  return [svg.save(content, path) for path, content in contents.items()]
