"""Run folders beside each other: whether they met the same episodes."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from fsl_jax import report, results, run_folder, types

_KEYS = {
  *("seed", "data", "methods", "checkpoint"),
  *("backbone", "trained_on", "pretrain"),
}
_OF_DATA = {"name", "split", "fingerprint"}

Section = dict[str, types.EvalResult]
Pair = tuple[Section, Section]


def check_configs(*paths: pathlib.Path) -> None:
  """Refuses two runs whose episodes are not the same pictures.

  Raises:
    InputError: naming what differs.
  """
  configs = [config(path) for path in paths]
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


def config(path: pathlib.Path) -> Any:
  """The configuration of a run of evaluate.py or curves.py.

  Raises:
    InputError: if it is damaged, or that of something else.
  """
  found = run_folder.Files(path).config()
  if not set(found) >= _KEYS or not set(found["data"]) >= _OF_DATA:
    raise types.InputError(
      f"{path} is no run folder of evaluate.py, or one of another version"
    )
  return found


def subject(*paths: pathlib.Path) -> str:
  """ "the novel classes of icons, with conv64": data and networks."""
  configs = [config(path) for path in paths]
  data = configs[0]["data"]
  networks = dict.fromkeys(each["backbone"]["name"] for each in configs)
  return (
    f"the same episodes of the {data['split']} classes of {data['name']}, with "
    + " and ".join(networks)
  )


def counterpart(
  section: Section, sections: Sequence[Section]
) -> Section | None:
  """Of another run, the section on the same episodes, or else of the same
  protocol. A run may hold episodes that were drawn and others from a file."""
  rule = report.comparison.rule
  alike = [s for s in sections if rule(s) == rule(section)]
  digests = results.first(section).digests

  def num_shared(other: Section) -> int:
    return len(np.intersect1d(digests, results.first(other).digests))

  return max(alike, key=num_shared, default=None)


def same_episodes(
  a: Section, b: Section, paths: Sequence[pathlib.Path]
) -> Pair:
  """Both on the episodes that both runs have reached.

  Raises:
    InputError: if there are none, or they are not the same pictures.
  """
  one, other = map(results.first, (a, b))
  _, in_a, in_b = np.intersect1d(one.index, other.index, return_indices=True)
  if not len(in_a):
    raise types.InputError(f"{paths[0]} and {paths[1]} share no episode")
  if not np.array_equal(one.digests[in_a], other.digests[in_b]):
    seeds = [config(path)["seed"] for path in paths]
    raise types.InputError(
      f"the runs met different episodes of {one.protocol_name}: seed "
      f"{seeds[0]} in {paths[0]}, {seeds[1]} in {paths[1]}, or other files"
    )
  return (
    {name: result.at(in_a) for name, result in a.items()},
    {name: result.at(in_b) for name, result in b.items()},
  )


def provenance(path: pathlib.Path) -> dict[str, Any]:
  """For the foot of a page."""
  folder = run_folder.Files(path)
  return {
    "config": folder.config(),
    "starts": folder.starts(),
  }
