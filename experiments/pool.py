"""Pools runs that differ only in the seed of their pre-training.

  python experiments/pool.py runs/seed0_eval runs/seed1_eval runs/seed2_eval

The interval over episodes does not cover another pre-training; this one does:
mean over the runs, standard deviation between them, and Student's t interval,
of accuracies and of differences to support-based initialisation. Run folders
are those of evaluate.py on equal data, split and protocol.
"""

import pathlib

import command_line
import stored_runs

from fsl_jax import episode_records, report, results, types

_MOST_RUNS = 1000


def main(argv: list[str]) -> None:
  paths = [pathlib.Path(argument) for argument in argv[1:]]
  if len(paths) < 2:
    raise types.InputError(
      f"at least two runs are pooled, got {len(paths)}: pool.py RUN RUN ..."
    )
  for path in paths[1:]:
    stored_runs.check_configs(paths[0], path)
  _check_alike(paths)
  print(report.pooling.terminal(_protocols(paths)))


def _protocols(
  paths: list[pathlib.Path],
) -> list[list[stored_runs.Section]]:
  """The sections of all runs, per protocol that all have."""
  loaded = [episode_records.load(path) for path in paths]
  protocols = []
  for first in loaded[0]:
    found = [stored_runs.counterpart(first, run) for run in loaded[1:]]
    sections = [first, *(s for s in found if s is not None)]
    if len(sections) == len(paths):
      _check_episodes(sections, paths)
      protocols.append(sections)
  if not protocols:
    raise types.InputError("the runs share no protocol")
  return protocols


def _check_episodes(
  sections: list[stored_runs.Section], paths: list[pathlib.Path]
) -> None:
  """Refuses runs on other episodes, or on a different number of them."""
  firsts = list(map(results.first, sections))
  counts = [result.num_episodes for result in firsts]
  if len(set(counts)) > 1:
    raise types.InputError(
      f"the runs have {', '.join(map(str, counts))} episodes of "
      f"{firsts[0].protocol_name}; pooled runs need equally many"
    )
  for path, section in zip(paths[1:], sections[1:], strict=True):
    stored_runs.same_episodes(sections[0], section, [paths[0], path])


def _check_alike(paths: list[pathlib.Path]) -> None:
  """Refuses runs that differ in more than the seed of the pre-training."""
  configs = list(map(stored_runs.config, paths))
  digests = {config["checkpoint"]["digest"] for config in configs}
  if len(digests) < len(paths):
    raise types.InputError(
      "two of the runs are of the same checkpoint, not of two pre-trainings"
    )
  for path, config in zip(paths[1:], configs[1:], strict=True):
    for name in ("backbone", "methods", "trained_on", "pretrain"):
      one, other = (
        {key: value for key, value in c[name].items() if key != "seed"}
        for c in (configs[0], config)
      )
      if one != other:
        raise types.InputError(
          f"{paths[0]} and {path} differ in more than their pre-training's "
          f"seed: {name} is {one} and {other}"
        )


if __name__ == "__main__":
  command_line.run(main, arguments=_MOST_RUNS)
