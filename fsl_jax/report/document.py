"""What the pages share: the document, figures with captions, provenance."""

import html as html_lib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fsl_jax.report import sorting, svg, template


class Figure(NamedTuple):
  """A figure with the words that go with it."""

  name: str  # of its file, without the ending; distinct on a page
  title: str
  svg: str
  caption: str  # how to read it


def page(title: str, lead: str, body: Sequence[str]) -> str:
  """A self-contained HTML page; `body` is HTML, title and lead are text."""
  return template.PAGE.format(
    policy=template.POLICY,
    css=template.CSS,
    script=sorting.SCRIPT,
    title=_text(title),
    lead=f'<p class="lead">{_text(lead)}</p>',
    body="\n".join(body),
  )


def paragraphs(texts: Sequence[str]) -> list[str]:
  """A paragraph each."""
  return [f"<p>{_text(text)}</p>" for text in texts]


def footnotes(notes: Sequence[str]) -> str:
  """Small print, a line each."""
  lines = "<br>\n".join(map(_text, notes))
  return f'<p class="small">\n{lines}\n</p>'


def section(title: str, body: Sequence[str]) -> list[str]:
  """A section with a heading, of HTML; nothing where the body is empty."""
  if not body:
    return []
  return ["<section>", f"<h2>{_text(title)}</h2>", *body, "</section>"]


def figures(drawn: Sequence[Figure]) -> list[str]:
  """A section of figures, numbered in their order."""
  numbered = [_figure(number, figure) for number, figure in enumerate(drawn, 1)]
  if not numbered:
    return []
  return section("Figures", ['<div class="figures">', *numbered, "</div>"])


def provenance(values: Mapping[str, Any] | None) -> list[str]:
  """The foot of a page, of nested JSON values."""
  if not values:
    return []
  return [
    "<footer>",
    "<h2>Provenance</h2>",
    '<div class="facts">',
    *_facts(values),
    "</div>",
    "</footer>",
  ]


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
