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
  for other in paths[1:]:
    stored_runs.check_configs(paths[0], other)
  loaded = [episode_records.load(path) for path in paths]
  digests = {
    str(stored_runs.read(path / "config.json")["checkpoint"]["digest"])
    for path in paths
  }
  if len(digests) < len(paths):
    raise types.InputError(
      "two of the runs are of the same checkpoint; they are no two "
      "pre-trainings"
    )
  shared = 0
  for section in loaded[0]:
    protocol = next(iter(section.values())).protocol
    others = [
      next((s for s in run if _protocol(s) == protocol), {})
      for run in loaded[1:]
    ]
    for name, result in section.items():
      if not all(name in other for other in others):
        continue
      shared += 1
      results = [result, *(other[name] for other in others)]
      pooled = statistics.pool([one.mean for one in results])
      numbers = ", ".join(f"{100 * one.mean:.2f}" for one in results)
      print(
        f"{result.protocol_name}, {result.protocol_text}, "
        f"{report.rows.label(name)}: {100 * pooled.mean:.2f} ± "
        f"{100 * pooled.half_width:.2f} (Student's t, {pooled.num_seeds} runs: "
        f"{numbers}; std between runs {100 * pooled.std:.2f})"
      )
  if not shared:
    raise types.InputError("the runs share no method on a protocol")


def _protocol(section: stored_runs.Section) -> object:
  return next(iter(section.values())).protocol


if __name__ == "__main__":
  command_line.run(main, arguments=_MOST_RUNS)
