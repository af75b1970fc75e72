"""Flags generated from configuration dataclasses, which hold the defaults.

A field `epochs: int = 25` becomes `--epochs`, tuples become comma-separated
lists; earlier names of fields are aliases. Only flags that were given are read,
so a default is always the dataclass's own. The options of a method have its
name before them, such as `--transductive_finetune.entropy_weight=0`.
"""

import dataclasses
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from fsl_jax import adapt, types
from fsl_jax.adapt import entries


def define(
  config_class: Any, *, only: Collection[str] | None = None, prefix: str = ""
) -> None:
  """Defines one flag per field of a dataclass with defaults.

  Args:
    config_class: the dataclass.
    only: names of the fields; None is all of them.
    prefix: before the name of each flag.
  """
  for field in _fields(config_class, only):
    name, default = prefix + field.name, field.default
    text = f"See {config_class.__name__}; default {_show(default)}."
    if isinstance(default, bool):
      flags.DEFINE_bool(name, None, text)
    elif isinstance(default, tuple):
      flags.DEFINE_list(name, None, text)
    else:
      flags.DEFINE_string(name, None, text)
    if field.name in (earlier := entries.earlier_names(config_class)):
      flags.DEFINE_alias(prefix + earlier[field.name], name)


def given(
  config_class: Any, *, only: Collection[str] | None = None, prefix: str = ""
) -> dict[str, Any]:
  """The fields whose flags were given, converted to the defaults' types.

  Arguments are those of `define`.

  Raises:
    InputError: if a value cannot be converted.
  """
  return {
    field.name: _convert(prefix + field.name, text, field)
    for field in _fields(config_class, only)
    if (text := flags.FLAGS[prefix + field.name].value) is not None
  }


def define_methods() -> None:
  """Defines the options of all methods of the package.

  Those of fine-tuning are also defined without a prefix: they apply to every
  method that has the option.
  """
  _define_options(adapt.names())
  define(adapt.finetune.FinetuneConfig)


def define_outside_methods(argv: Sequence[str]) -> None:
  """Defines the options of methods named as "package.module:factory".

  Args:
    argv: of the command line, before it is parsed; `--methods` is read.

  Raises:
    InputError: if there is no such method.
  """
  for argument, following in zip(argv, [*argv[1:], ""], strict=True):
    flag, equals, names = argument.lstrip("-").partition("=")
    if flag == "methods":
      names = names if equals else following
      _define_options(
        name
        for name in names.split(",")
        if ":" in name and not _is_defined(name)
      )


def method_options(names: Sequence[str]) -> Mapping[str, dict[str, Any]]:
  """The options that were given, for each method.

  Raises:
    InputError: if a method is unknown or named twice, for a value that cannot
      be converted, or for an option that none of the methods has.
  """
  if len(set(names)) < len(names):
    raise types.InputError(f"--methods must differ, got {','.join(names)}")
  entries = {name: adapt.entry(name) for name in names}
  known = {name: entry.options for name, entry in entries.items()}
  shared = given(adapt.finetune.FinetuneConfig)
  for option in shared:
    if not any(option in options for options in known.values()):
      raise types.InputError(f"--{option} has no effect on {', '.join(names)}")
  for name in adapt.names():
    if name not in entries:
      for option in _given_options(name, adapt.entry(name)):
        raise types.InputError(
          f"--{name}.{option} has no effect on {', '.join(names)}"
        )
  return {
    name: {k: v for k, v in shared.items() if k in known[name]}
    | _given_options(name, entry)
    for name, entry in entries.items()
  }


def _define_options(names: Iterable[str]) -> None:
  for name in names:
    entry = adapt.entry(name)
    define(entry.config_class, only=entry.options, prefix=f"{name}.")


def _given_options(name: str, entry: Any) -> dict[str, Any]:
  return given(entry.config_class, only=entry.options, prefix=f"{name}.")


def _is_defined(name: str) -> bool:
  return any(flag.startswith(f"{name}.") for flag in flags.FLAGS)


def _fields(config_class: Any, only: Collection[str] | None) -> list[Any]:
  return [
    field
    for field in (dataclasses.fields(config_class) if config_class else ())
    if only is None or field.name in only
  ]


def _convert(name: str, text: Any, field: dataclasses.Field) -> Any:
  default: Any = field.default
  if isinstance(default, str) and float in typing.get_args(field.type):
    default = 0.0  # A named alternative of a number.
  if isinstance(default, bool | str):
    return text
  is_list = isinstance(default, tuple)
  kind = type(default[0] if is_list else default)
  try:
    return tuple(map(kind, text)) if is_list else kind(text)
  except ValueError:
    # A number with named alternatives, such as entropy_weight; the
    # configuration knows which.
    if any(
      typing.get_origin(part) is typing.Literal
      for part in typing.get_args(field.type)
    ):
      return text
    expected = "a whole number" if kind is int else "a number"
    wrong = ",".join(text) if is_list else text
    raise types.InputError(
      f"--{name} must be {expected}, got {wrong!r}"
    ) from None


def _show(value: Any) -> str:
  if isinstance(value, tuple):
    return ",".join(map(str, value))
  return str(value).lower() if isinstance(value, bool) else str(value)
