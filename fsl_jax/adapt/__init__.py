"""Few-shot methods, and the programs that run them on many episodes."""

import dataclasses
from typing import Any

from fsl_jax import types
from fsl_jax.adapt import batched, finetune, prototypes, run

_FACTORIES: dict[str, Any] = {
  "prototype": (prototypes.adapter, prototypes.PrototypeConfig, {}),
  "support_init": (finetune.adapter, finetune.FinetuneConfig, {"steps": 0}),
  "finetune": (
    finetune.adapter,
    finetune.FinetuneConfig,
    {"entropy_weight": 0.0},
  ),
  "transductive_finetune": (finetune.adapter, finetune.FinetuneConfig, {}),
}


def names() -> tuple[str, ...]:
  """Names that `create` knows, from the floor upwards."""
  return tuple(_FACTORIES)


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
  factory, config = _resolve(name, options)
  return factory(backbone, config, name=name)


def config(name: str, **options: Any) -> dict[str, Any]:
  """The options of a method with every default filled in, for records."""
  return dataclasses.asdict(_resolve(name, options)[1])


def option_names(name: str) -> set[str]:
  """The options that `create` takes for a method."""
  if name not in _FACTORIES:
    raise types.unknown_name("method", name, _FACTORIES)
  _, config_class, preset = _FACTORIES[name]
  return {f.name for f in dataclasses.fields(config_class)} - set(preset)


def _resolve(name, options):
  known = option_names(name)
  for option in options:
    if option not in known:
      raise types.unknown_name(f"option of {name}", option, known)
  factory, config_class, preset = _FACTORIES[name]
  return factory, config_class(**(preset | options))


__all__ = [
  "batched",
  "config",
  "create",
  "finetune",
  "names",
  "prototypes",
  "run",
]
