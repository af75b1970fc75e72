"""Flags of the episodes: a protocol with its options, or a file."""

import pathlib
from typing import Any

import command_line
from absl import flags

from fsl_jax import episodes, types
from fsl_jax.episodes import files, protocols, source

_RULES = "a number or a rule, see docs/evaluation.md"
_PRESETS = {"meta_dataset": protocols.META_DATASET}

_PROTOCOL = flags.DEFINE_enum(
  "protocol",
  None,
  sorted(_PRESETS),
  "Values of --ways, --shots and --queries by one name.",
)
_SHOTS = flags.DEFINE_list(
  "shots", ["1"], f"Support images per class: {_RULES}; a list of them."
)
_FIELDS: dict[str, Any] = {
  "ways": flags.DEFINE_string(
    "ways", "5", f"Classes per episode: {_RULES}; all."
  ),
  "queries": flags.DEFINE_string(
    "queries", "15", f"Query images per class: {_RULES}."
  ),
  "small_classes": flags.DEFINE_enum(
    "small_classes",
    "refuse",
    ["refuse", "skip"],
    "What happens to classes with too few images for an episode.",
  ),
  "groups": flags.DEFINE_string(
    "groups",
    "any",
    "Groups of images, such as packs, that support and queries come from: any; "
    "apart, different ones; or SUPPORT:QUERY, names of two, such as "
    "train:test.",
  ),
  "copies": flags.DEFINE_enum(
    "copies",
    "any",
    ["any", "apart"],
    "Whether an episode has at most one of several equal images of a class.",
  ),
  "reuse": flags.DEFINE_bool(
    "reuse", True, "Whether an image may occur in several episodes."
  ),
}
_EPISODES = command_line.define_path(
  "episodes", None, "File of episodes, as experiments/episodes.py writes it."
)


def given() -> list[episodes.Protocol]:
  """The protocols that the flags describe, one for each of --shots.

  Raises:
    InputError: for a value that is neither number nor rule, or flags that
      contradict --protocol.
  """
  values: dict[str, Any] = {name: flag.value for name, flag in _FIELDS.items()}
  shots = _SHOTS.value
  if _PROTOCOL.value is not None:
    for name in ("ways", "shots", "queries"):
      if flags.FLAGS[name].present:
        raise types.InputError(
          f"--{name} and --protocol={_PROTOCOL.value} say the same thing twice"
        )
    preset = _PRESETS[_PROTOCOL.value]
    values |= preset
    shots = [preset["shots"]]
  made = [protocols.make(**values | {"shots": text}) for text in shots]
  if any(made.count(protocol) > 1 for protocol in made):
    raise types.InputError(f"--shots must differ, got {','.join(shots)}")
  return made


def check() -> None:
  """Raises InputError for flags that are wrong for any data."""
  if _EPISODES.value is None:
    given()
    return
  for name in ("protocol", "shots", *_FIELDS):
    if flags.FLAGS[name].present:
      raise types.InputError(
        f"--{name} has no effect on episodes from a file, --episodes"
      )


def sources(dataset: types.ClassIndexed, *, seed: int) -> list[source.Source]:
  """The episodes that the flags ask for, over a data set.

  Raises:
    InputError: as `check`, and for a file that is not of this data.
  """
  check()
  if _EPISODES.value is None:
    return [source.Drawn(dataset, protocol, seed) for protocol in given()]
  return [files.read(pathlib.Path(_EPISODES.value), dataset)]
