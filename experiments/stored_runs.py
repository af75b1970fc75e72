"""Run folders beside each other: whether they met the same episodes."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fsl_jax import types

Section = dict[str, types.EvalResult]
Pair = tuple[Section, Section]


def check_configs(*paths: pathlib.Path) -> None:
  """Refuses two runs whose episodes are not the same pictures.

  Raises:
    InputError: naming what differs.
  """
  configs = [_config(path) for path in paths]
  for name, of in (
    ("data set", lambda c: c["data"]["name"]),
    ("split", lambda c: c["data"]["split"]),
    ("data fingerprint", lambda c: c["data"]["fingerprint"]),
  ):
    a, b = map(of, configs)
    if a != b:
      raise types.InputError(
        f"the runs met different episodes: {name} {a!r} in {paths[0]}, {b!r} "
        f"in {paths[1]}"
      )


def _config(path: pathlib.Path) -> Any:
  """The configuration of a run of evaluate.py or curves.py."""
  config = read(path / "config.json")
  if not {"seed", "data", "methods", "checkpoint"} <= set(config):
    raise types.InputError(f"{path} is no run folder of evaluate.py")
  return config


def same_episodes(
  a: Section, b: Section, paths: Sequence[pathlib.Path]
) -> Pair:
  """Both on the episodes that both runs have reached.

  Raises:
    InputError: if there are none, or they are not the same pictures.
  """
  one, other = next(iter(a.values())), next(iter(b.values()))
  # Those of a file are the same whatever the seed of the adaptation.
  if "file" not in one.protocol:
    seeds = [_config(path)["seed"] for path in paths]
    if seeds[0] != seeds[1]:
      raise types.InputError(
        f"the runs met different episodes: seed {seeds[0]} in {paths[0]}, "
        f"{seeds[1]} in {paths[1]}"
      )
  _, in_a, in_b = np.intersect1d(one.index, other.index, return_indices=True)
  if not len(in_a):
    raise types.InputError(f"{paths[0]} and {paths[1]} share no episode")
  for name in ("class_ids", "labels"):
    if not _equal(getattr(one, name)[in_a], getattr(other, name)[in_b]):
      raise types.InputError(
        f"episodes of the same number differ between {paths[0]} and {paths[1]}"
      )
  return (
    {name: result.at(in_a) for name, result in a.items()},
    {name: result.at(in_b) for name, result in b.items()},
  )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
  """Whether rows are equal but for how far -1 fills them up."""
  width = max(a.shape[1], b.shape[1])
  a, b = (
    np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=-1)
    for x in (a, b)
  )
  return bool(np.array_equal(a, b))


def provenance(path: pathlib.Path) -> dict[str, Any]:
  """For the foot of a page."""
  return {
    "config": read(path / "config.json"),
    "starts": read(path / "provenance.json"),
  }


def read(path: pathlib.Path) -> Any:
  """A JSON file of a run folder."""
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise types.InputError(
      f"{path.parent} is no run folder: no {path.name}"
    ) from error
  except ValueError as error:
    raise types.InputError(f"{path} is damaged ({error})") from error
