"""Pools runs that differ in their pre-training alone, such as by its seed.

  python experiments/pool.py runs/seed0_eval runs/seed1_eval runs/seed2_eval

The interval over episodes says nothing of another pre-training; this one does:
mean over the runs, standard deviation between them, and Student's t interval.
Run folders are those of evaluate.py on equal data, split and protocol.
"""

import pathlib

import command_line
import stored_runs

from fsl_jax import episode_records, report, statistics, types

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
  loaded = [episode_records.load(path) for path in paths]
  rule = report.comparison.rule
  shared = 0
  for section in loaded[0]:
    others = [
      next((s for s in run if rule(s) == rule(section)), {})
      for run in loaded[1:]
    ]
    for name, result in section.items():
      if not all(name in other for other in others):
        continue
      shared += 1
      results = [result]
      for path, other in zip(paths[1:], others, strict=True):
        pair = ({name: result}, {name: other[name]})
        stored_runs.same_episodes(*pair, [paths[0], path])
        results.append(other[name])
      print(_line(results))
  if not shared:
    raise types.InputError("the runs share no method on a protocol")


def _check_alike(paths: list[pathlib.Path]) -> None:
  """Refuses runs that differ in more than the seed of the pre-training."""
  configs = [stored_runs.read(path / "config.json") for path in paths]
  digests = {config["checkpoint"]["digest"] for config in configs}
  if len(digests) < len(paths):
    raise types.InputError(
      "two of the runs are of the same checkpoint; they are no two "
      "pre-trainings"
    )
  for path, config in zip(paths[1:], configs[1:], strict=True):
    for name in ("backbone", "methods", "pretrain"):
      one, other = (
        {key: value for key, value in c[name].items() if key != "seed"}
        for c in (configs[0], config)
      )
      if one != other:
        raise types.InputError(
          f"{paths[0]} and {path} differ in more than their pre-training's "
          f"seed: {name} is {one} and {other}"
        )


def _line(results: list[types.EvalResult]) -> str:
  """What is printed of one method on one protocol."""
  first = results[0]
  counts = {result.num_episodes for result in results}
  if len(counts) > 1:
    raise types.InputError(
      f"the runs have {sorted(counts)} episodes of {first.protocol_name}; "
      "pooled runs need equally many"
    )
  pooled = statistics.pool([result.mean for result in results])
  numbers = ", ".join(f"{100 * result.mean:.2f}" for result in results)
  return (
    f"{first.protocol_name}, {first.protocol_text}, "
    f"{report.rows.label(first.method)}: {100 * pooled.mean:.2f} ± "
    f"{100 * pooled.half_width:.2f} (Student's t, {pooled.num_seeds} runs of "
    f"{first.num_episodes} episodes: {numbers}; std between runs "
    f"{100 * pooled.std:.2f}; queries used: {first.query_use})"
  )


if __name__ == "__main__":
  command_line.run(main, arguments=_MOST_RUNS)
