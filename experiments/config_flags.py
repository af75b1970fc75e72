"""Flags made of a configuration dataclass, so that defaults live in one place.

A field `epochs: int = 25` becomes `--epochs`, tuples become comma-separated
lists; earlier names of fields are aliases. Only flags that were given are read,
so a default is always the dataclass's own.
"""

import dataclasses
import typing
from collections.abc import Collection
from typing import Any

from absl import flags

from fsl_jax import types


def define(config_class: Any, *, skip: Collection[str] = ()) -> None:
  """Defines one flag per field of a dataclass with defaults."""
  for field in dataclasses.fields(config_class):
    if field.name in skip:
      continue
    default = field.default
    text = f"See {config_class.__name__}; default {_show(default)}."
    if isinstance(default, bool):
      flags.DEFINE_bool(field.name, None, text)
    elif isinstance(default, tuple):
      flags.DEFINE_list(field.name, None, text)
    else:
      flags.DEFINE_string(field.name, None, text)
  for name, earlier in getattr(config_class, "EARLIER_NAMES", {}).items():
    if name not in skip:
      flags.DEFINE_alias(earlier, name)


def given(config_class: Any, *, skip: Collection[str] = ()) -> dict[str, Any]:
  """The fields whose flags were given, converted to the defaults' types.

  Raises:
    InputError: if a value cannot be converted.
  """
  result = {}
  for field in dataclasses.fields(config_class):
    if field.name in skip:
      continue
    text = flags.FLAGS[field.name].value
    if text is not None:
      admits_names = any(
        typing.get_origin(kind) is typing.Literal
        for kind in typing.get_args(field.type)
      )
      result[field.name] = _convert(
        field.name, text, field.default, admits_names
      )
  return result


def _convert(
  name: str, text: Any, default: Any, admits_names: bool = False
) -> Any:
  if isinstance(default, bool | str):
    return text
  if isinstance(default, tuple):
    return tuple(_convert(name, part, default[0]) for part in text)
  kind = type(default)
  try:
    return kind(text)
  except ValueError:
    # A number with named alternatives, such as entropy_weight; the
    # configuration knows which.
    if admits_names:
      return text
    expected = "a whole number" if kind is int else "a number"
    raise types.InputError(
      f"--{name} must be {expected}, got {text!r}"
    ) from None


def _show(value: Any) -> str:
  if isinstance(value, tuple):
    return ",".join(map(str, value))
  return str(value).lower() if isinstance(value, bool) else str(value)
