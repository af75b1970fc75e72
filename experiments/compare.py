"""Which of two runs is better, by how much, and whether it is significant.

  python experiments/compare.py runs/conv64_eval runs/resnet12_eval

Both are run folders of evaluate.py or reproduce.py on the same episodes: equal
data, split, seed and protocol, sampled or read from a file. Methods are
compared by name; --methods=A,B compares method A of the first run with B of the
second, which may be the same folder. Prints a table per protocol, and with
--run_dir writes `comparison.html`.
"""

import pathlib

import command_line
import stored_runs
from absl import flags

from fsl_jax import (
  adapt,
  episode_records,
  report,
  results,
  run_folder,
  types,
)

_METHODS = flags.DEFINE_list(
  "methods", None, "One of the first run and one of the second."
)
_RUN_DIR = command_line.define_path("run_dir", None, "Folder for the page.")


def main(argv: list[str]) -> None:
  paths = [pathlib.Path(argument) for argument in argv[1:]]
  if len(paths) != 2:
    raise types.InputError(
      f"two run folders are compared, got {len(paths)}: compare.py RUN_A RUN_B"
    )
  is_same = paths[0].resolve() == paths[1].resolve()
  if is_same and len(set(_METHODS.value or ())) != 2:
    raise types.InputError(
      f"{paths[0]} would be compared with itself; give two run folders, or "
      "--methods=A,B for two methods of one"
    )
  names = _names(paths, is_same)
  found = report.comparison.compare(_pairs(paths), names)
  page = None
  if _RUN_DIR.value is not None:
    first, second = (
      stored_runs.provenance(run_folder.Files(path)) for path in paths
    )
    *_, page = report.comparison.write(
      _RUN_DIR.value,
      found,
      title=f"{names[0]} against {names[1]}",
      provenance_a=first,
      provenance_b=second,
      subject=stored_runs.subject(*paths),
    )
  print(report.comparison.terminal(found))
  if page is not None:
    print(f"page: {page}")


def _names(paths: list[pathlib.Path], is_same: bool) -> tuple[str, str]:
  """What distinguishes the two: the runs, the methods, or both."""
  runs = _ends(paths)
  if _METHODS.value is None or len(set(_METHODS.value)) != 2:
    return runs
  first, second = map(adapt.label, _METHODS.value)
  if is_same:
    return first, second
  return f"{runs[0]}: {first}", f"{runs[1]}: {second}"


def _ends(paths: list[pathlib.Path]) -> tuple[str, str]:
  """The shortest ends of the paths that differ."""
  first, second = (path.resolve().parts for path in paths)
  for size in range(1, max(len(first), len(second)) + 1):
    short = "/".join(first[-size:]), "/".join(second[-size:])
    if short[0] != short[1]:
      return short
  return "A", "B"


def _pairs(paths: list[pathlib.Path]) -> list[stored_runs.Pair]:
  """The sections of both runs by protocol, on the episodes both have."""
  stored_runs.check_configs(*paths)
  first, second = (episode_records.load(path) for path in paths)
  pairs = []
  for a in first:
    b = stored_runs.counterpart(a, second)
    if b is not None:
      pairs.append(stored_runs.same_episodes(*_chosen(a, b, paths), paths))
  if not pairs:
    raise types.InputError(
      f"{paths[0]} and {paths[1]} share no protocol: {_headings(first)}; "
      f"{_headings(second)}"
    )
  return pairs


def _headings(sections: list[stored_runs.Section]) -> str:
  return ", ".join(
    f"{result.protocol_name} ({result.protocol_text})"
    for result in map(results.first, sections)
  )


def _chosen(
  a: stored_runs.Section, b: stored_runs.Section, paths: list[pathlib.Path]
) -> stored_runs.Pair:
  """The methods to compare, under equal names."""
  if _METHODS.value is None:
    names = [name for name in a if name in b]
    if not names:
      raise types.InputError(
        f"{paths[0]} and {paths[1]} share no method: {', '.join(a)}; "
        f"{', '.join(b)}. --methods=A,B compares different ones"
      )
    return {n: a[n] for n in names}, {n: b[n] for n in names}
  if len(_METHODS.value) != 2:
    raise types.InputError(
      f"--methods takes two names, got {len(_METHODS.value)}"
    )
  for name, section, path in zip(_METHODS.value, (a, b), paths, strict=True):
    if name not in section:
      raise types.unknown_name(f"method in {path}", name, section)
  first, second = _METHODS.value
  key = first if first == second else "the two methods"
  return {key: a[first]}, {key: b[second]}


if __name__ == "__main__":
  command_line.run(main, arguments=2)
