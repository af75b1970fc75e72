"""One HTML page that holds everything: numbers, figures, provenance."""

import html as html_lib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fsl_jax.report import rows, svg, tables, template

_HEADS = {
  "accuracy %": ("accuracy", "% ± 95 %"),
  "std": ("std", "points"),
  "difference": ("difference", "points ± 95 %"),
  "n": ("n", "episodes"),
  "NaN": ("NaN", "episodes"),
}


class Figure(NamedTuple):
  """A figure with the words that go with it."""

  name: str  # of its file, without the ending; distinct on a page
  title: str
  svg: str
  caption: str  # how to read it


def html(
  title: str,
  sections: Sequence[rows.Section],
  figures: Sequence[Figure] = (),
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
) -> str:
  """A self-contained page: no script, nothing fetched.

  Args:
    title: of the page.
    sections: the results, one table each.
    figures: shown in this order.
    provenance: what a number needs to be trusted, for the foot of the page:
      nested mappings and lists of JSON values.
    notes: paragraphs on what the reader should know.

  Raises:
    InputError: as `rows.check`.
  """
  rows.check(sections)
  names = rows.method_names(sections)
  lead = (
    f"{tables.counted(len(names), 'method')}, "
    f"{tables.counted(len(sections), 'protocol')}."
  )
  if len(names) > 1:
    lead += " Within a protocol, every method met the same episodes."
  body = [
    "<section>",
    "<h2>Accuracy</h2>",
    *(_table(section) for section in sections),
    '<p class="small">',
    "<br>\n".join(map(_text, tables.footnotes(sections))),
    "</p>",
    "</section>",
  ]
  if figures:
    body += [
      "<section>",
      "<h2>Figures</h2>",
      '<div class="figures">',
      *(_figure(number, figure) for number, figure in enumerate(figures, 1)),
      "</div>",
      "</section>",
    ]
  if notes:
    body += [
      "<section>",
      "<h2>Notes</h2>",
      *(f"<p>{_text(note)}</p>" for note in notes),
      "</section>",
    ]
  if provenance:
    body += [
      "<footer>",
      "<h2>Provenance</h2>",
      '<div class="facts">',
      *_facts(provenance),
      "</div>",
      "</footer>",
    ]
  return template.PAGE.format(
    policy=template.POLICY,
    css=template.CSS,
    title=_text(title),
    lead=f'<p class="lead">{_text(lead)}</p>',
    body="\n".join(body),
  )


def _table(section: rows.Section) -> str:
  head, cells = tables.columns(section)
  name = tables.heading(section)
  lines = [
    f"<h3>{_text(name)}</h3>",
    # Focusable, so that it can be scrolled without a pointer.
    '<div class="scroll" role="region" tabindex="0" '
    f'aria-label="{_text(name)}">',
    "<table>",
    "<thead><tr>" + "".join(map(_head, head)) + "</tr></thead>",
    "<tbody>",
  ]
  for method, *rest in cells:
    # A true minus sign is as wide as the plus sign above it.
    data = [_text(re.sub(r"^-(?=\d)", "−", cell)) for cell in rest]
    lines.append(
      f'<tr><th scope="row">{_text(method)}</th>'
      + "".join(f"<td>{cell}</td>" for cell in data)
      + "</tr>"
    )
  return "\n".join([*lines, "</tbody>", "</table>", "</div>"])


def _head(name: str) -> str:
  words, unit = _HEADS.get(name, (name, ""))
  unit = unit and f'<br><span class="unit">{_text(unit)}</span>'
  return f'<th scope="col">{_text(words)}{unit}</th>'


def _figure(number: int, figure: Figure) -> str:
  picture = svg.with_prefix(figure.svg, f"f{number}")
  return (
    f'<figure id="figure-{number}">\n<div class="card">{picture}</div>\n'
    f"<figcaption><b>{number}. {_text(figure.title)}.</b> "
    f"{_text(figure.caption)}</figcaption>\n</figure>"
  )


def _facts(values: Mapping[str, Any]) -> list[str]:
  """Single values first, then a list for every mapping among them."""
  single = {k: v for k, v in values.items() if not _is_nested(v)}
  groups = [("", single)] if single else []
  groups += [(k, _flat(v)) for k, v in values.items() if _is_nested(v)]
  result = []
  for name, facts in groups:
    head = f"<h3>{_text(name)}</h3>" if name else ""
    entries = "".join(
      f"<div><dt>{_text(key)}</dt><dd>{_text(_value(value))}</dd></div>"
      for key, value in facts.items()
    )
    result.append(f"<section>{head}<dl>{entries}</dl></section>")
  return result


def _is_nested(value: Any) -> bool:
  if isinstance(value, Mapping):
    return True
  return isinstance(value, (list, tuple)) and any(map(_is_nested, value))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
  """Leaves by dotted path; places in a list count from 1."""
  if not _is_nested(value):
    return {prefix: value}
  pairs = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
  result: dict[str, Any] = {}
  for key, inner in pairs:
    result |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
  return result


def _value(value: Any) -> str:
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_value, value))
  if value is None:
    return "none"
  if isinstance(value, bool):
    return "yes" if value else "no"
  return str(value)


def _text(text: str) -> str:
  return html_lib.escape(str(text))
