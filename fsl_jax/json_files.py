"""JSON text that ends in a digest of itself, so that damage is noticed.

The digest is the last key of the object, "sha256": the first 16 hex digits of
the SHA-256 of the text before it. Other readers see one additional key.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fsl_jax import types

_KEY = "sha256"
_MAX_LEVELS = 100
_SEALED = re.compile(
  rb'(.*?),?(?: |\n  )"sha256": "([0-9a-f]{16})"\n?\}\n', re.DOTALL
)


def parse(text: str | bytes) -> Any:
  """`json.loads`, with ValueError also for more than 100 levels.

  Python's own limit depends on its version and on the thread.
  """
  too_deep = ValueError(f"nested more than {_MAX_LEVELS} levels deep")
  try:
    value = json.loads(text)
  except RecursionError as error:
    raise too_deep from error
  level = [value]
  for _ in range(_MAX_LEVELS):
    level = [inner for outer in level for inner in _inner(outer)]
  if level:
    raise too_deep
  return value


def _inner(value: Any) -> Iterable[Any]:
  if isinstance(value, dict):
    return value.values()
  return value if isinstance(value, list) else ()


def line(value: Mapping[str, Any], *, sealed: bool = True) -> str:
  """An object as one line.

  Raises:
    ValueError: for NaN and infinity, which are no JSON.
  """
  text = json.dumps(value, allow_nan=False)
  return _seal(text, " ", "}\n") if sealed else text + "\n"


def page(value: Any, *, sealed: bool = True) -> str:
  """The text of a file, indented; an object, where it is sealed."""
  text = json.dumps(value, indent=2, allow_nan=False)
  return _seal(text, "\n  ", "\n}\n") if sealed else text + "\n"


def opened(text: bytes, where: str) -> tuple[dict[str, Any], bool]:
  """The object that `line` or `page` wrote, and whether it is sealed.

  Args:
    text: with the line break at its end.
    where: for the message, such as "line 3 of runs/a/episodes.jsonl".

  Raises:
    InputError: if it is no JSON, no object, or has changed since it was sealed.
  """
  match = _SEALED.fullmatch(text)
  try:
    value = parse(text)
    if not isinstance(value, dict):
      raise ValueError("no JSON object")
    stored = value.pop(_KEY, None)
    if stored != (match and match[2].decode()):
      raise ValueError("its digest is damaged")
    if match and match[2].decode() != _digest(match[1]):
      raise ValueError("it does not have the digest it was written with")
  except ValueError as error:
    raise types.InputError(f"{where} is damaged ({error})") from error
  return value, match is not None


def _seal(text: str, gap: str, end: str) -> str:
  stem = text.removesuffix("}").rstrip()
  comma = "" if stem == "{" else ","
  return f'{stem}{comma}{gap}"{_KEY}": "{_digest(stem.encode())}"{end}'


def _digest(text: bytes) -> str:
  return hashlib.sha256(text).hexdigest()[:16]
