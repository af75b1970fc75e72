"""The files of results, one JSON per finished cell, as text and as a list."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fsl_jax import files, json_files, pretrain, run_folder, types
from reproduction import cells, cost, outcome, programme, work

Json = dict[str, Any]

_PROTOCOL = "ways shots queries num_episodes"
_KEYS = {
  "rows": f"variant method options query_use {_PROTOCOL} num_non_finite mean "
  "std ci95 paper difference verdict reason",
  "paired": f"variant against {_PROTOCOL} mean ci95 paper verified verdict "
  "reason",
  "lines": "variant num_episodes slope intercept area paper_area protocols",
  "points": "variant ways shots hardness accuracy",
  "times": "what seconds_per_episode episodes_together paper",
}
_HEAD_KEYS = (
  "name target ablation dataset backbone split evaluated_on dtype "
  "whole_batch_norm hardness"
)
_BUDGET_KEYS = "name pretrain_factor episode_factor"
_PROVENANCE_KEYS = "command date commits versions devices networks hours"
_NOTE = (
  "PFLOP and hours are of all that a cell computes; pre-training and episodes "
  "that several cells share are counted in the first of them. Hours are "
  "estimated from the matmul throughput of this machine."
)


def file_name(result: Mapping[str, Any]) -> str:
  """Without its ending: the cell, and the budget if it is not the full one."""
  budget = result["budget"]["name"]
  return result["name"] + ("" if budget == "full" else f"-{budget}")


def path(
  cell: cells.Cell, budget: cells.Budget, results_dir: pathlib.Path
) -> pathlib.Path:
  """The file of a cell."""
  return results_dir / f"{cell.name}{budget.suffix}.json"


def read(
  cell: cells.Cell, budget: cells.Budget, results_dir: pathlib.Path
) -> Json | None:
  """The results of a cell, of any number of episodes; None if there are none.

  Those of other options, or of another recipe, are not the cell's.

  Raises:
    InputError: if the file is damaged.
  """
  file = path(cell, budget, results_dir)
  if not file.exists():
    return None
  result = load(file)
  wanted = {job.variant.name: dict(job.variant.options) for job in cell.jobs}
  found = {row["variant"]: row["options"] for row in result["rows"]}
  recipes = {
    network.name: _recipe(budget, network) for network in cell.networks
  }
  trained = {
    name: {"batch_norm_group": 0} | network["pretrain"]
    for name, network in result["provenance"].get("networks", {}).items()
  }
  return result if (found, trained) == (_plain(wanted), recipes) else None


def _recipe(budget: cells.Budget, network: cells.Network) -> Json:
  return _plain(dataclasses.asdict(budget.recipe(network)))


def _plain(value: Any) -> Any:
  """The value after a round trip through JSON."""
  return json.loads(json.dumps(value))


def is_done(result: Json, cell: cells.Cell) -> bool:
  """Whether results hold all the episodes that a cell asks for.

  For seconds per episode, whether they were measured on this device.
  """
  if not cell.jobs:
    here = outcome.here("")["devices"]
    return bool(result["times"]) and result["provenance"]["devices"] == here
  have = _num_episodes(result)
  return all(have.get(job.key, 0) >= job.num_episodes for job in cell.jobs)


def widened(cell: cells.Cell, result: Json) -> cells.Cell:
  """The cell with no fewer episodes than its results already have."""
  have = _num_episodes(result)
  return cell.with_episodes(
    {job.key: max(job.num_episodes, have.get(job.key, 0)) for job in cell.jobs}
  )


def _num_episodes(result: Json) -> dict[tuple[Any, ...], int]:
  """By `cells.Job.key`."""
  return {
    (row["variant"], row["ways"], row["shots"], row["queries"]): row[
      "num_episodes"
    ]
    for row in result["rows"]
  }


def load(path: pathlib.Path) -> Json:
  """One file of results; all that readers rely on is checked.

  Raises:
    InputError: naming the file and what it lacks.
  """
  try:
    result = json_files.parse(path.read_bytes())
  except (OSError, ValueError) as error:
    raise types.InputError(f"cannot read results {path}: {error}") from None
  _check(path, "the file", result, f"{_HEAD_KEYS} budget provenance")
  _check(path, "budget", result["budget"], _BUDGET_KEYS)
  _check(path, "provenance", result["provenance"], _PROVENANCE_KEYS)
  for name, keys in _KEYS.items():
    _check(path, "the file", result, name)
    for number, row in enumerate(result[name]):
      _check(path, f"{name}[{number}]", row, keys)
  if file_name(result) != path.stem:
    raise types.InputError(
      f"results {path} are those of {file_name(result)!r}; expected the file "
      f"{file_name(result)}.json"
    )
  return result


def _check(path: pathlib.Path, where: str, value: Any, keys: str) -> None:
  if not isinstance(value, dict):
    raise types.InputError(
      f"results {path}: {where} must be a JSON object, got {value!r:.40}"
    )
  missing = [key for key in keys.split() if key not in value]
  if missing:
    raise types.InputError(
      f"results {path}: {where} lacks {', '.join(missing)}"
    )


def write(result: Json, target: pathlib.Path) -> None:
  """Replaces the file in one step; each entry and each row has a line."""

  def value(x):
    if isinstance(x, list) and x and isinstance(x[0], dict):
      rows = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in x)
      return f"[\n{rows}\n ]"
    return json.dumps(x, allow_nan=False)

  entries = [f" {json.dumps(key)}: {value(x)}" for key, x in result.items()]
  target.parent.mkdir(parents=True, exist_ok=True)
  files.write(target, "{\n" + ",\n".join(entries) + "\n}\n")


class _Entry(NamedTuple):
  """A line of the list; the cost of what has no cell is unknown."""

  name: str
  state: str
  cell: cells.Cell | None
  place: work.Place


def status(
  wanted: Iterable[cells.Cell],
  place: work.Place,
  results_dir: pathlib.Path,
  is_wanted: Callable[[Json], bool] = lambda result: True,
) -> str:
  """Which cells are done, being computed or missing: a line of each.

  Args:
    wanted: cells that are listed in any case.
    place: of runs, and the budget of `wanted`.
    results_dir: its finished cells are listed first, of any budget.
    is_wanted: which of these are, by their content.
  """
  finished = list(_finished(place, results_dir, is_wanted))
  names = {entry.name for entry in finished}
  entries = finished + [
    _Entry(name, _unfinished(cell, place), cell, place)
    for cell in wanted
    if (name := path(cell, place.budget, results_dir).stem) not in names
  ]
  lines = [("cell", "state", "PFLOP", "hours here")]
  counted = cost.Counted()
  total_flop = total_hours = 0.0
  for entry in entries:
    costs = ("?", "?")  # Not prepared, and its size is not in the paper.
    try:
      if entry.cell is not None:
        of_parts = cost.of_cell(entry.cell, entry.place, counted)
        flop, hours = sum(of_parts.values()), cost.hours(entry.cell, of_parts)
        total_flop, total_hours = total_flop + flop, total_hours + hours
        costs = (_amount(flop / 1e15), _amount(hours))
    except types.InputError:
      pass
    lines.append((entry.name, entry.state, *costs))
  lines.append(("all", "", _amount(total_flop / 1e15), _amount(total_hours)))
  w = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    [
      f"{name:{w[0]}}  {state:{w[1]}}  {flop:>{w[2]}}  {hour:>{w[3]}}".rstrip()
      for name, state, flop, hour in lines
    ]
    + [_NOTE]
  )


def _amount(value: float) -> str:
  if not value:
    return ""
  return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _finished(
  place: work.Place,
  results_dir: pathlib.Path,
  is_wanted: Callable[[Json], bool],
) -> Iterator[_Entry]:
  """What has a file of results, of any target or budget."""
  for file in sorted(results_dir.glob("*.json")):
    try:
      result = load(file)
      if not is_wanted(result):
        continue
      own = dataclasses.replace(
        place, budget=cells.budget(result["budget"]["name"])
      )
      cell = programme.of_result(result).with_episodes(_num_episodes(result))
      state = _done(cell, own, result, results_dir)
    except types.InputError as error:
      yield _Entry(file.stem, f"damaged: {error}", None, place)
    else:
      yield _Entry(file.stem, state, cell, own)


def _done(
  cell: cells.Cell,
  place: work.Place,
  result: Json,
  results_dir: pathlib.Path,
) -> str:
  """ "done, n = 300 to 1,000", with what is unusual about it."""
  words = ["done"]
  if not place.budget.is_full:
    words.append(place.budget.name)
  counts = sorted({row["num_episodes"] for row in result["rows"]})
  if counts:
    ends = dict.fromkeys((counts[0], counts[-1]))
    words.append("n = " + " to ".join(f"{n:,}" for n in ends))
  else:
    words += result["provenance"]["devices"]
  if read(cell, place.budget, results_dir) is None:
    words.append("by another recipe or other options than today's")
  _, workers = _progress(cell, place)
  if workers:
    words.append(f"running ({'; '.join(workers)})")
  return ", ".join(words)


def _unfinished(cell: cells.Cell, place: work.Place) -> str:
  try:
    parts, workers = _progress(cell, place)
  except types.InputError as error:
    return f"damaged: {error}"
  text = ", ".join(parts) or "missing"
  return f"running ({'; '.join(workers)}): {text}" if workers else text


def _progress(
  cell: cells.Cell, place: work.Place
) -> tuple[list[str], list[str]]:
  """What is on disk of a cell, and which processes work on it."""
  parts, workers = [], []
  for network in cell.networks:
    folder = place.pretrain(network)
    workers.append(run_folder.worker(folder))
    stored = run_folder.Files(folder)
    epochs = len(stored.read(pretrain.LOG))
    recipe = _recipe(place.budget, network)
    num_epochs = place.budget.recipe(network).num_epochs
    # Folders from before batch_norm_group lack it.
    found = (
      {"batch_norm_group": 0} | stored.config()["pretrain"] if epochs else {}
    )
    if epochs and found != recipe:
      parts.append(f"{network.name}: another recipe")
    elif 0 < epochs < num_epochs:
      parts.append(f"{network.name}: epoch {epochs} of {num_epochs}")
    elif epochs:
      parts.append("pre-trained")
  done = wanted = 0
  for job in cell.jobs:
    folder = place.episodes(job, cell.evaluated_on)
    workers.append(run_folder.worker(folder))
    done += min(job.num_episodes, work.num_stored(folder, job))
    wanted += job.num_episodes
  if done:
    parts.append(f"{done:,} of {wanted:,} episodes")
  names = [worker for worker in dict.fromkeys(workers) if worker]
  return list(dict.fromkeys(parts)), names
