r"""Computes one cell of the paper's tables and figures, with a verdict.

  python experiments/reproduce.py --table=1 --dataset=cifar_fs \
      --backbone=wrn_28_10 --split=train

A cell pre-trains its network, unless that was done, evaluates the methods on
the same episodes, and writes `results/NAME.json`: our numbers and the paper's,
intervals, the difference, a verdict and the provenance. The same command
continues an interrupted run and leaves a finished cell as it is. Without
--dataset, --backbone or --split all of the paper's are computed in turn. --list
shows what is done and what the rest costs; --report generates the README's
table, docs/reproduction.md and the figures from `results/`.
"""

import pathlib
import sys

import command_line
import shared_flags
from absl import flags
from reproduction import cells, outcome, page, programme, store, tables, work

from fsl_jax import backbones, data, devices, types

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_TABLE = flags.DEFINE_enum("table", None, ["1", "2"], "Table of the paper.")
_FIGURE = flags.DEFINE_enum("figure", None, ["2", "3"], "Figure of the paper.")
_COMPUTE = flags.DEFINE_bool("compute", False, "Seconds per episode.")
_ABLATION = flags.DEFINE_string(
  "ablation", None, f"all, or one of {', '.join(programme.ABLATIONS)}."
)
_DATASET = flags.DEFINE_string(
  "dataset", None, f"Data set, prepared: {', '.join(data.names())}."
)
_BACKBONE = flags.DEFINE_string(
  "backbone", None, f"Network: {', '.join(backbones.names())}."
)
_SPLIT = flags.DEFINE_enum(
  "split", None, list(cells.SPLITS), "Classes that the network is trained on."
)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ["float32", "bfloat16"], "Of the computation."
)
_WHOLE_BATCH_NORM = flags.DEFINE_bool(
  "whole_batch_norm",
  False,
  "Pre-train with the batch statistics of the whole batch; published are those "
  "of an eighth of it, for eight devices.",
)
_BUDGET = flags.DEFINE_enum(
  "budget",
  "full",
  list(cells.BUDGETS),
  "third divides the epochs by 3, quick epochs and episodes by 20; both are "
  "labelled so and get no verdict. toy tests the command and writes no result.",
)
_EPISODES = flags.DEFINE_integer(
  "episodes", None, "At most so many of each protocol."
)
_TRANSDUCTIVE_EPISODES = flags.DEFINE_integer(
  "transductive_episodes",
  None,
  "At most so many for transductive fine-tuning, which costs most.",
)
_RUN_DIR = command_line.define_path(
  "run_dir", "runs/reproduce", "Folder of checkpoints and episodes."
)
_RESULTS_DIR = command_line.define_path(
  "results_dir", str(_ROOT / "results"), "Folder of the cells' results."
)
_DATA_DIR = shared_flags.data_dir()
_LIST = flags.DEFINE_bool("list", False, "Shows the cells, computes nothing.")
_REPORT = flags.DEFINE_bool(
  "report", False, "Makes tables and figures from the results, no more."
)


def main(argv: list[str]) -> None:
  del argv
  for flag in (_EPISODES, _TRANSDUCTIVE_EPISODES):
    if flag.value is not None:
      types.check_whole(flag.name, flag.value, at_least=1)
  results_dir = pathlib.Path(command_line.required(_RESULTS_DIR))
  if _REPORT.value:
    if not results_dir.is_dir():
      raise types.InputError(f"--results_dir={results_dir} is not a folder")
    for path in page.update(results_dir, _ROOT):
      print(f"written: {path}")
    return
  place = work.Place(
    pathlib.Path(command_line.required(_RUN_DIR)),
    cells.budget(_BUDGET.value),
    _DATA_DIR.value,
  )
  wanted = _wanted()
  if _LIST.value:
    print(store.status(wanted, place, results_dir, _is_listed))
    return
  failed = [
    cell for cell in wanted if not _do(cell, place, results_dir, wanted)
  ]
  if failed:
    raise types.InputError(
      f"{len(failed)} of {len(wanted)} cells could not be computed: "
      + ", ".join(cell.name for cell in failed)
    )


def _do(
  cell: cells.Cell,
  place: work.Place,
  results_dir: pathlib.Path,
  wanted: list[cells.Cell],
) -> bool:
  """Computes a cell unless it is done; False if it cannot be, and why.

  Raises:
    InputError: why it cannot be computed, where it is the only one wanted.
  """
  path = store.path(cell, place.budget, results_dir)
  command = _command(cell)
  try:
    before = store.read(cell, place.budget, results_dir)
    # Several processes may not see the same folder of results.
    if devices.first_of(before is not None and store.is_done(before, cell)):
      print(f"{cell.name}: done, see {path}")
      return True
    if devices.first_of(before is None and path.exists()):
      raise types.InputError(
        f"{path} holds results of another recipe or other options; move it "
        "away, or name another --results_dir"
      )
    print(f"{cell.name}", file=sys.stderr)
    if before is not None:
      cell = store.widened(cell, before)
    if cell.jobs:
      trained, measured = work.run(cell, place)
      result = outcome.of_cell(cell, trained, measured, place, command)
    else:
      result = outcome.of_compute(cell, place, command)
  except types.InputError as error:
    if len(wanted) == 1:
      raise
    print(f"{cell.name}: {error}", file=sys.stderr)
    return False
  is_kept = place.budget.name != "toy"
  if is_kept:
    devices.on_first_process(lambda: store.write(result, path))
  print(tables.of_cell(result))
  if is_kept:
    print(f"result: {path}")
  return True


def _targets() -> list[str]:
  """The targets that the flags name."""
  targets = {
    f"table{_TABLE.value}": _TABLE.value,
    f"figure{_FIGURE.value}": _FIGURE.value,
    "compute": _COMPUTE.value,
    "ablation": _ABLATION.value,
  }
  return [target for target, given in targets.items() if given]


def _is_listed(result: store.Json) -> bool:
  """Whether a file of results is of what the flags name."""
  flags_of = (_DATASET, _BACKBONE, _SPLIT, _ABLATION)
  given = {flag.name: flag.value for flag in flags_of if flag.value}
  if given.get("ablation") == "all":
    del given["ablation"]
  if _DTYPE.present:
    given["dtype"] = _DTYPE.value
  return result["target"] in (_targets() or programme.TARGETS) and all(
    result[name] == value for name, value in given.items()
  )


def _wanted() -> list[cells.Cell]:
  """The cells that the flags name."""
  named = _targets()
  if not named:
    if not _LIST.value:
      raise types.InputError(
        "nothing to compute was named: --table, --figure, --compute, "
        "--ablation; --list shows all"
      )
    named = list(programme.TARGETS)
  budget = cells.budget(_BUDGET.value)
  return [
    budget.shorten(cell, _EPISODES.value, _TRANSDUCTIVE_EPISODES.value)
    for target in named
    for cell in _of_target(target)
  ]


def _of_target(target: str) -> list[cells.Cell]:
  one = _ABLATION.value if _ABLATION.value != "all" else None
  networks = programme.networks(
    target,
    dataset=_DATASET.value,
    backbone=_BACKBONE.value,
    split=_SPLIT.value,
    dtype=_DTYPE.value,
    whole_batch_norm=_WHOLE_BATCH_NORM.value,
  )
  if not any(f.value for f in (_TABLE, _FIGURE, _COMPUTE, _ABLATION)):
    # All targets are to be listed, as far as they have these networks.
    networks = [n for n in networks if not programme.objection(target, n)]
  return [
    cell
    for network in networks
    for cell in programme.of_target(target, network, ablation=one)
  ]


def _command(cell: cells.Cell) -> str:
  """What computes a cell again."""
  parts = [cell.command]
  for flag in (_BUDGET, _EPISODES, _TRANSDUCTIVE_EPISODES):
    if flag.value not in (None, "full"):
      parts.append(f"--{flag.name}={flag.value}")
  return " ".join(parts)


if __name__ == "__main__":
  command_line.run(main)
