"""What the library and the scripts have to know of a few-shot method."""

import dataclasses
import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from fsl_jax import types

_Config = TypeVar("_Config")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One method: how it is made, what it is called, what it needs.

  Whether it uses the queries depends on its options, and is therefore a field
  of the adapter (`types.Adapter.query_use`).

  Attributes:
    name: by which `adapt.create` knows it.
    factory: `(backbone, config, *, name) -> types.Adapter`.
    config_class: a frozen dataclass whose defaults are the published values;
      None for a method without options.
    options: frozenset of the fields of `config_class` that a user may set; None
      becomes all of them that are not in `preset`.
    preset: values of the fields that define the method.
    label: for people, such as "transductive fine-tuning"; "" is `name`.
    short_label: where space is short, such as "transductive"; "" is `label`.
    reads: "images", or "features" if no step changes the network, so that
      features may be computed once and cached.
    needs_base_statistics: whether, with a given configuration, `variables` must
      hold the collection "base_statistics" of the base classes.
  """

  name: str
  factory: Callable[..., types.Adapter]
  config_class: Any = None
  options: Any = None
  preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  label: str = ""
  short_label: str = ""
  reads: Literal["images", "features"] = "images"
  needs_base_statistics: Callable[[Any], bool] = lambda config: False

  def __post_init__(self) -> None:
    if self.options is None:
      names = set()
      if self.config_class is not None:
        names = {field.name for field in dataclasses.fields(self.config_class)}
      object.__setattr__(self, "options", frozenset(names - set(self.preset)))

  def make_config(self, options: Mapping[str, Any]) -> Any:
    """The configuration with these options, defaults and preset filled in.

    Raises:
      InputError: for an unknown option, or a value out of range.
    """
    earlier = earlier_names(self.config_class)
    aliases = {old for new, old in earlier.items() if new in self.options}
    for option in options:
      if option not in self.options | aliases:
        raise types.unknown_name(f"option of {self.name}", option, self.options)
    if self.config_class is None:
      return None
    # Of the caller of `adapt.create` or `adapt.config`.
    options = _current(earlier, options, stacklevel=3)
    return self.config_class(**{**self.preset, **options})

  def record(self, config: Any) -> dict[str, Any]:
    """The values of a configuration that shape the method, as JSON values."""
    earlier = earlier_names(self.config_class)
    used = {earlier.get(k, k) for k in self.options | set(self.preset)}
    return {k: v for k, v in recorded(config).items() if k in used}


def recorded(config: Any) -> dict[str, Any]:
  """All values of a configuration, as run folders keep them.

  A renamed field keeps its earlier name there, so that runs which were begun
  under it can be continued.
  """
  if config is None:
    return {}
  earlier = earlier_names(type(config))
  values = dataclasses.asdict(config)
  return {earlier.get(name, name): value for name, value in values.items()}


def renamed(**earlier: str) -> Callable[[type[_Config]], type[_Config]]:
  """Decorates a dataclass: fields may be given by their earlier names too.

  A use of an earlier name warns, once for each place in the source.

  Args:
    **earlier: the earlier name of each renamed field, `epochs="steps"`.
  """

  def decorate(config_class: type[_Config]) -> type[_Config]:
    init: Any = config_class.__init__

    @functools.wraps(init)
    def with_earlier_names(self, *arguments, **values):
      init(self, *arguments, **_current(earlier, values, stacklevel=2))

    def attribute(new, old):
      def get(self):
        _warn(new, old, stacklevel=2)
        return getattr(self, new)

      return property(get)

    for new, old in earlier.items():
      setattr(config_class, old, attribute(new, old))
    setattr(config_class, "__init__", with_earlier_names)  # noqa: B010
    setattr(config_class, "EARLIER_NAMES", earlier)  # noqa: B010
    return config_class

  return decorate


def load(name: str) -> Entry:
  """The method "package.module:attribute" of another package.

  The attribute is an `Entry`, or a factory `(backbone, config=None, *, name)`
  of a method without options. The module is imported, which runs its code.

  Raises:
    InputError: if there is no such module or attribute, or it is neither.
  """
  module_name, _, attribute = name.partition(":")
  try:
    module = importlib.import_module(module_name)
  except (ImportError, ValueError) as error:
    raise types.InputError(
      f"the method {name!r} cannot be imported ({error}); expected "
      "package.module:attribute of an installed package, or of one in "
      "PYTHONPATH"
    ) from error
  found = getattr(module, attribute, None)
  if isinstance(found, Entry):
    return dataclasses.replace(found, name=name, label=found.label or attribute)
  if not callable(found) or isinstance(found, type):
    what = "nothing" if found is None else f"a {type(found).__name__}"
    what = "a class" if isinstance(found, type) else what
    raise types.InputError(
      f"{module_name} has {what} under the name {attribute!r}; expected an "
      "adapt.Entry, or a function (backbone, config=None, *, name)"
    )
  return Entry(name, found, label=attribute)


def earlier_names(config_class: Any) -> Mapping[str, str]:
  """The earlier name of each renamed field, see `renamed`."""
  return getattr(config_class, "EARLIER_NAMES", {})


def _current(
  earlier: Mapping[str, str], values: Mapping[str, Any], *, stacklevel: int
) -> dict[str, Any]:
  """The values by the present names of their fields."""
  values = dict(values)
  for new, old in earlier.items():
    if old in values:
      if new in values:
        raise types.InputError(
          f"{new} and {old}, its earlier name, were both given"
        )
      _warn(new, old, stacklevel=stacklevel + 1)
      values[new] = values.pop(old)
  return values


def _warn(new: str, old: str, *, stacklevel: int) -> None:
  warnings.warn(
    f"{old} is now named {new}", DeprecationWarning, stacklevel=stacklevel + 1
  )
