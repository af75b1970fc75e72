"""The files of results: one small JSON per finished cell."""

import json
import pathlib
from typing import Any

from fsl_jax import types
from reproduction import budgets, cells

Json = dict[str, Any]


def path(
  cell: cells.Cell, budget: budgets.Budget, results_dir: pathlib.Path
) -> pathlib.Path:
  """The file of a cell."""
  suffix = "" if budget.is_full else f"-{budget.name}"
  return results_dir / f"{cell.name}{suffix}.json"


def read(
  cell: cells.Cell, budget: budgets.Budget, results_dir: pathlib.Path
) -> Json | None:
  """A cell's results if they hold at least the episodes it asks for.

  Raises:
    InputError: if the file is damaged.
  """
  file = path(cell, budget, results_dir)
  try:
    result = json.loads(file.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return None
  except ValueError as error:
    raise types.InputError(f"{file} is damaged ({error})") from error
  have = {
    (row["variant"], row["ways"], row["shots"], row["queries"]): row[
      "num_episodes"
    ]
    for row in result["rows"]
  }
  for job in cell.jobs:
    protocol = job.protocol
    key = (job.variant.name, protocol.ways, protocol.shots, protocol.queries)
    if have.get(key, 0) < job.num_episodes:
      return None
  return result


def write(result: Json, target: pathlib.Path) -> None:
  """Replaces the file in one step."""
  target.parent.mkdir(parents=True, exist_ok=True)
  temporary = target.with_name(target.name + ".tmp")
  temporary.write_text(_text(result), encoding="utf-8")
  temporary.replace(target)


def _text(result: Json) -> str:
  """A line per entry and per row: short, and a change shows where it is."""

  def value(x):
    if isinstance(x, list) and x and isinstance(x[0], dict):
      rows = ",\n".join(f"  {json.dumps(row, allow_nan=False)}" for row in x)
      return f"[\n{rows}\n ]"
    return json.dumps(x, allow_nan=False)

  entries = [f" {json.dumps(key)}: {value(x)}" for key, x in result.items()]
  return "{\n" + ",\n".join(entries) + "\n}\n"
