"""The configuration of a run folder of episodes, and run folders compared."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import adapt, extractors, report, results, run_folder, types

Section = dict[str, types.EvalResult]
Pair = tuple[Section, Section]


def configuration(
  meta: Mapping[str, Any],
  dataset: types.ClassIndexed,
  methods: Mapping[str, Mapping[str, Any]],
  *,
  seed: int,
  hardness: str,
  extractor: extractors.Extractor | None,
  extractor_size_px: int | None = None,
) -> dict[str, Any]:
  """All that determines the results of an episode, as JSON values.

  The number of episodes may grow later and the batch size changes no result,
  so neither is part of it.

  Args:
    meta: of the checkpoint.
    dataset: the split that episodes are sampled from.
    methods: options by name.
    seed: of the episodes and the adaptation.
    hardness: name of the feature extractor, or "own".
    extractor: the extractor itself; None where no hardness is computed.
    extractor_size_px: to which images are enlarged for it; None: unchanged.
  """
  return {
    "seed": seed,
    "data": _data(dataset),
    "backbone": meta["backbone"],
    "checkpoint": {"digest": meta["digest"], "epoch": meta["epoch"]},
    "trained_on": {
      name: meta["data"][name] for name in ("name", "split", "fingerprint")
    },
    "pretrain": meta["pretrain"],
    "methods": {
      name: adapt.config(name, **options) for name, options in methods.items()
    },
    "hardness": extractor
    and _hardness(hardness, extractor, extractor_size_px, dataset),
  }


def hardness_configuration(
  dataset: types.ClassIndexed,
  *,
  seed: int,
  hardness: str,
  extractor: extractors.Extractor,
  extractor_size_px: int | None,
) -> dict[str, Any]:
  """The same for episodes of which only the hardness is computed."""
  return {
    "seed": seed,
    "data": _data(dataset),
    "hardness": _hardness(hardness, extractor, extractor_size_px, dataset),
  }


def _data(dataset: types.ClassIndexed) -> dict[str, Any]:
  names = ("name", "split", "image_size_px", "fingerprint")
  return {name: getattr(dataset, name) for name in names}


def _hardness(
  name: str,
  extractor: extractors.Extractor,
  size_px: int | None,
  dataset: types.ClassIndexed,
) -> dict[str, Any]:
  return {
    "extractor": name,
    "digest": extractor.digest,
    "image_size_px": size_px or dataset.image_size_px,
  }


_KEYS = {
  *("seed", "data", "backbone", "checkpoint", "trained_on", "pretrain"),
  "methods",
}


def config(path: pathlib.Path) -> Any:
  """The configuration of a run of evaluate.py, curves.py or reproduce.py.

  Raises:
    InputError: if it is damaged, or that of something else.
  """
  found = run_folder.Files(path).config()
  if not set(found) >= _KEYS or not set(found["data"]) >= {
    *("name", "split", "fingerprint")
  }:
    raise types.InputError(
      f"{path} is not a run folder of evaluate.py, curves.py or reproduce.py, "
      "or one of another version"
    )
  return found


def check_configs(*paths: pathlib.Path) -> None:
  """Refuses two runs that sample episodes from different images.

  Raises:
    InputError: naming what differs.
  """
  first, second = (config(path)["data"] for path in paths)
  for key, what in (
    ("name", "data set"),
    ("split", "split"),
    ("fingerprint", "data fingerprint"),
  ):
    if first[key] != second[key]:
      raise types.InputError(
        f"the runs were evaluated on different episodes: {what} "
        f"{first[key]!r} in {paths[0]}, {second[key]!r} in {paths[1]}"
      )


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
  """The section of another run on the same episodes, or else of the same
  protocol. A run may hold sampled episodes and others from a file."""
  rule = report.comparison.rule
  alike = [s for s in sections if rule(s) == rule(section)]
  digests = results.first(section).digests

  def num_shared(other: Section) -> int:
    return len(np.intersect1d(digests, results.first(other).digests))

  return max(alike, key=num_shared, default=None)


def same_episodes(
  a: Section, b: Section, paths: Sequence[pathlib.Path]
) -> Pair:
  """Both sections, restricted to the episodes that both runs have.

  Raises:
    InputError: if there are none, or their images differ.
  """
  one, other = map(results.first, (a, b))
  _, in_a, in_b = np.intersect1d(one.index, other.index, return_indices=True)
  if not len(in_a):
    raise types.InputError(f"{paths[0]} and {paths[1]} share no episode")
  if not np.array_equal(one.digests[in_a], other.digests[in_b]):
    seeds = [config(path)["seed"] for path in paths]
    raise types.InputError(
      f"the runs were evaluated on different episodes of {one.protocol_name}: "
      f"seed {seeds[0]} in {paths[0]}, {seeds[1]} in {paths[1]}, or other files"
    )
  return (
    {name: result.at(in_a) for name, result in a.items()},
    {name: result.at(in_b) for name, result in b.items()},
  )


def provenance(folder: run_folder.Files) -> dict[str, Any]:
  """For the foot of a page."""
  return {"config": folder.config(), "starts": folder.starts()}
