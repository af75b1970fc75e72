"""Few-shot methods, and the programs that run them on many episodes."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from fsl_jax import programs, types
from fsl_jax.adapt import (
  batched,
  chunking,
  finetune,
  host_task,
  prototypes,
  run,
  streamed,
)


class _Entry(NamedTuple):
  factory: Callable[..., types.Adapter]
  config_class: Any
  options: frozenset[str]  # those that change anything
  preset: dict[str, Any]


def _fields(config_class: Any, *without: str) -> frozenset[str]:
  names = {field.name for field in dataclasses.fields(config_class)}
  return frozenset(names.difference(without))


_METHODS = {
  "prototype": _Entry(
    prototypes.adapter,
    prototypes.PrototypeConfig,
    _fields(prototypes.PrototypeConfig),
    {},
  ),
  "support_init": _Entry(
    finetune.adapter,
    finetune.FinetuneConfig,
    frozenset({"input", "relu", "temperature", "micro_batch"}),
    {"steps": 0},
  ),
  "finetune": _Entry(
    finetune.adapter,
    finetune.FinetuneConfig,
    _fields(finetune.FinetuneConfig, "entropy_weight", "updates"),
    {"entropy_weight": 0.0},
  ),
  "transductive_finetune": _Entry(
    finetune.adapter,
    finetune.FinetuneConfig,
    _fields(finetune.FinetuneConfig),
    {},
  ),
}


def names() -> tuple[str, ...]:
  """Names that `create` knows, from the floor upwards."""
  return tuple(_METHODS)


def create(
  name: str, backbone: types.Backbone, **options: Any
) -> types.Adapter:
  """A method of the paper over a backbone.

  Args:
    name: "support_init" (section 3.1), "finetune", "transductive_finetune"
      (section 3.2, equation 8) or "prototype".
    backbone: the network; `backbones.identity()` for cached features.
    **options: fields of `finetune.FinetuneConfig`, or of
      `prototypes.PrototypeConfig`; the defaults are the published ones.

  Raises:
    InputError: for an unknown name or option, or a value out of range.
  """
  config = _config(name, options)
  # 10 and 10.0 are equal, but not as records of a run.
  return _compiled(_entry(name).factory, backbone, config, name, repr(config))


@programs.kept
def _compiled(
  factory: Callable[..., types.Adapter],
  backbone: types.Backbone,
  config: Any,
  name: str,
  text: str,
) -> types.Adapter:
  """The same adapter for the same choices, its functions quick by hand too."""
  del text

  def check(*arguments, **named):
    run.check(named["task"] if "task" in named else arguments[-1])

  def compiled(function, check=lambda *arguments, **named: None):
    return programs.Checked(function, check, inline=True)

  adapter = factory(backbone, config, name=name)
  return adapter._replace(
    # The check waits for the images, which a step must not.
    init=compiled(adapter.init, check),
    step=compiled(adapter.step),
    predict=compiled(adapter.predict),
  )


def config(name: str, **options: Any) -> dict[str, Any]:
  """The options that shape a method, defaults filled in, for records."""
  entry = _entry(name)
  values = dataclasses.asdict(_config(name, options))
  used = entry.options | set(entry.preset)
  return {key: value for key, value in values.items() if key in used}


def option_names(name: str) -> frozenset[str]:
  """The options that `create` takes for a method."""
  return _entry(name).options


def _entry(name: str) -> _Entry:
  if name not in _METHODS:
    raise types.unknown_name("method", name, _METHODS)
  return _METHODS[name]


def _config(name: str, options: dict[str, Any]) -> Any:
  entry = _entry(name)
  for option in options:
    if option not in entry.options:
      raise types.unknown_name(f"option of {name}", option, entry.options)
  return entry.config_class(**(entry.preset | options))


__all__ = [
  "batched",
  "chunking",
  "config",
  "create",
  "finetune",
  "host_task",
  "names",
  "prototypes",
  "run",
  "streamed",
]
