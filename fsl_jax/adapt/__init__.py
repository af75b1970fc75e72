"""Few-shot methods, and the programs that run them on many episodes.

A method is one file of this folder: its configuration, its three functions
and its `Entry`, which the table below lists (`finetune`, `prototypes`). The
engine runs any of them: `run` one episode, `batched` many, over devices,
`chunking` chooses how many at once, `streamed` support sets of any size.
"""

from collections.abc import Callable
from typing import Any

from fsl_jax import programs, types
from fsl_jax.adapt import (
  batched,
  bd_cspn,
  chunking,
  cosine_head,
  finetune,
  laplacian_shot,
  logistic,
  paddle,
  prototypes,
  pt_map,
  ridge,
  run,
  simpleshot,
  streamed,
  tim,
)
from fsl_jax.adapt.entries import Entry, load, recorded

_ENTRIES = {
  entry.name: entry
  for entry in (
    prototypes.PROTOTYPE,
    finetune.SUPPORT_INIT,
    finetune.FINETUNE,
    finetune.TRANSDUCTIVE_FINETUNE,
    simpleshot.SIMPLESHOT,
    ridge.RIDGE,
    logistic.LOGISTIC,
    cosine_head.COSINE_HEAD,
    bd_cspn.BD_CSPN,
    laplacian_shot.LAPLACIAN_SHOT,
    tim.TIM_GD,
    tim.TIM_ADM,
    tim.ALPHA_TIM,
    tim.ENTROPY_HEAD,
    pt_map.PT_NCM,
    pt_map.PT_MAP,
    paddle.PADDLE,
  )
}
_DEFAULT = (
  prototypes.PROTOTYPE.name,
  finetune.SUPPORT_INIT.name,
  finetune.FINETUNE.name,
  finetune.TRANSDUCTIVE_FINETUNE.name,
)
_LOADED: dict[str, Entry] = {}  # those of other packages that were asked for


def names() -> tuple[str, ...]:
  """Names of the methods of this package: the default ones, then others that
  they are compared with."""
  return tuple(_ENTRIES)


def default_names() -> tuple[str, ...]:
  """The methods of the paper and the nearest prototype, from the simplest
  upwards: what scripts evaluate if no method is named."""
  return _DEFAULT


def entry(name: str) -> Entry:
  """The entry of a method.

  Args:
    name: one of `names`, or "package.module:attribute" for a method of another
      package, as `entries.load` takes it.

  Raises:
    InputError: if there is none.
  """
  if ":" in name:
    if name not in _LOADED:
      _LOADED[name] = load(name)
    return _LOADED[name]
  if name not in _ENTRIES:
    raise types.unknown_name("method", name, _ENTRIES)
  return _ENTRIES[name]


def label(name: str) -> str:
  """A method's name for people; of an unknown method the name itself.

  Nothing is imported: a method of another package has a label once `entry`
  was called.
  """
  found = _ENTRIES.get(name) or _LOADED.get(name)
  return found.label or name if found else name


def short_label(name: str) -> str:
  """A short `label`, for axes and narrow columns."""
  found = _ENTRIES.get(name) or _LOADED.get(name)
  return found.short_label if found and found.short_label else label(name)


def create(
  name: str, backbone: types.Backbone, **options: Any
) -> types.Adapter:
  """A method over a backbone.

  Args:
    name: "support_init" (section 3.1), "finetune", "transductive_finetune"
      (section 3.2, equation 8), "prototype", one of the compared methods, as
      `names` lists them, or as for `entry`.
    backbone: the network; `features.network` for cached features.
    **options: fields of the method's configuration, such as
      `finetune.FinetuneConfig` or `prototypes.PrototypeConfig`; the defaults
      are the published values.

  Raises:
    InputError: for an unknown name or option, or a value out of range.
  """
  method = entry(name)
  config = method.make_config(options)
  # 10 and 10.0 are equal, but not as records of a run.
  return _compiled(method.factory, backbone, config, name, repr(config))


@programs.kept
def _compiled(
  factory: Callable[..., types.Adapter],
  backbone: types.Backbone,
  config: Any,
  name: str,
  text: str,
) -> types.Adapter:
  """The adapter, the same one for equal arguments, with compiled functions."""
  del text

  def check(*arguments, **named):
    run.check(named["task"] if "task" in named else arguments[-1], adapter)

  def compiled(function, check=lambda *arguments, **named: None):
    return programs.Checked(function, check, inline=True)

  adapter = factory(backbone, config, name=name)
  if not isinstance(adapter, types.Adapter):
    raise types.InputError(
      f"the factory of {name} returned a {type(adapter).__name__}, expected "
      "types.Adapter"
    )
  return adapter._replace(
    # The check reads the images, for which a step must not wait.
    init=compiled(adapter.init, check),
    step=compiled(adapter.step),
    predict=compiled(adapter.predict),
    config=recorded(config) if adapter.config is None else adapter.config,
  )


def config(name: str, **options: Any) -> dict[str, Any]:
  """The options that shape a method, defaults filled in, for records.

  A renamed option has its earlier name here: `epochs` is "steps".
  """
  method = entry(name)
  return method.record(method.make_config(options))


def needs_base_statistics(name: str, **options: Any) -> bool:
  """Whether `variables` must hold the collection "base_statistics", see
  `features.base_statistics`; arguments as for `create`."""
  method = entry(name)
  return method.needs_base_statistics(method.make_config(options))


def option_names(name: str) -> frozenset[str]:
  """The options that `create` takes for a method."""
  return entry(name).options


__all__ = [
  "Entry",
  "batched",
  "chunking",
  "config",
  "create",
  "default_names",
  "entry",
  "finetune",
  "label",
  "names",
  "needs_base_statistics",
  "option_names",
  "prototypes",
  "recorded",
  "run",
  "short_label",
  "streamed",
]
