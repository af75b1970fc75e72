"""The files of results: one small JSON per finished cell."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from fsl_jax import files, json_files, types
from reproduction import budgets, cells, provenance

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


def file_name(result: Mapping[str, Any]) -> str:
  """Without its ending: the cell, and the budget if it is not the full one."""
  budget = result["budget"]["name"]
  return result["name"] + ("" if budget == "full" else f"-{budget}")


def path(
  cell: cells.Cell, budget: budgets.Budget, results_dir: pathlib.Path
) -> pathlib.Path:
  """The file of a cell."""
  suffix = "" if budget.is_full else f"-{budget.name}"
  return results_dir / f"{cell.name}{suffix}.json"


def read(
  cell: cells.Cell, budget: budgets.Budget, results_dir: pathlib.Path
) -> Json | None:
  """The results of a cell, of however many episodes; None if there are none.

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
    network.name: _plain(dataclasses.asdict(budget.recipe(network)))
    for network in cell.networks
  }
  trained = {
    name: {"batch_norm_group": 0} | network["pretrain"]
    for name, network in result["provenance"].get("networks", {}).items()
  }
  return result if (found, trained) == (_plain(wanted), recipes) else None


def _plain(value: Any) -> Any:
  """As JSON gives it back."""
  return json.loads(json.dumps(value))


def is_done(result: Json, cell: cells.Cell) -> bool:
  """Whether results hold all the episodes that a cell asks for.

  Where it asks for seconds instead, whether they are of this device.
  """
  if not cell.jobs:
    here = provenance.here("")["devices"]
    return bool(result["times"]) and result["provenance"]["devices"] == here
  have = _num_episodes(result)
  return all(have.get(_key(job), 0) >= job.num_episodes for job in cell.jobs)


def widened(cell: cells.Cell, result: Json) -> cells.Cell:
  """The cell with no fewer episodes than its results have already."""
  jobs = zip(cell.jobs, as_computed(cell, result).jobs, strict=True)
  return dataclasses.replace(
    cell, jobs=tuple(max(job, key=_size) for job in jobs)
  )


def as_computed(cell: cells.Cell, result: Json) -> cells.Cell:
  """The cell with as many episodes as its results have."""
  have = _num_episodes(result)
  jobs = (
    dataclasses.replace(job, num_episodes=have.get(_key(job), 0))
    for job in cell.jobs
  )
  return dataclasses.replace(cell, jobs=tuple(jobs))


def _size(job: cells.Job) -> int:
  return job.num_episodes


def _key(job: cells.Job) -> tuple[Any, ...]:
  protocol = job.protocol
  return (job.variant.name, protocol.ways, protocol.shots, protocol.queries)


def _num_episodes(result: Json) -> dict[tuple[Any, ...], int]:
  return {
    (row["variant"], row["ways"], row["shots"], row["queries"]): row[
      "num_episodes"
    ]
    for row in result["rows"]
  }


def load(path: pathlib.Path) -> Json:
  """One file of results, all that readers rely on checked.

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
  """Replaces the file in one step."""
  target.parent.mkdir(parents=True, exist_ok=True)
  files.write(target, _text(result))


def _text(result: Json) -> str:
  """A line per entry and per row: short, and a change shows where it is."""

  def value(x):
    if isinstance(x, list) and x and isinstance(x[0], dict):
      rows = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in x)
      return f"[\n{rows}\n ]"
    return json.dumps(x, allow_nan=False)

  entries = [f" {json.dumps(key)}: {value(x)}" for key, x in result.items()]
  return "{\n" + ",\n".join(entries) + "\n}\n"
