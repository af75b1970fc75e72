"""Which cells are done, which are being computed, and what is missing."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fsl_jax import pretrain, run_folder, types
from reproduction import budgets, cells, cost, programme, store, work

_NOTE = (
  "PFLOP and hours are of all that a cell computes; pre-training and episodes "
  "that several cells share are counted in the first of them. Hours are an "
  "estimate from the rate of matrix products here."
)


class _Entry(NamedTuple):
  """A line of the table; without a cell nothing is known of its cost."""

  name: str
  state: str
  cell: cells.Cell | None
  place: work.Place


def table(
  wanted: Iterable[cells.Cell],
  place: work.Place,
  results_dir: pathlib.Path,
  is_wanted: Callable[[store.Json], bool] = lambda result: True,
) -> str:
  """One line per cell, for a terminal: the finished ones, then the others.

  Args:
    wanted: cells that are listed whether there is anything of them or not.
    place: of runs, and the budget of `wanted`.
    results_dir: its finished cells are listed first, of any budget.
    is_wanted: which of these are, by their content.
  """
  finished = list(_finished(place, results_dir, is_wanted))
  names = {entry.name for entry in finished}
  entries = finished + [
    _Entry(name, _unfinished(cell, place), cell, place)
    for cell in wanted
    if (name := store.path(cell, place.budget, results_dir).stem) not in names
  ]
  lines = [("cell", "state", "PFLOP", "hours here")]
  counted = cost.Counted()
  total_flop = total_hours = 0.0
  for entry in entries:
    costs = ("?", "?")  # Not prepared, and of no size known to the paper.
    try:
      if entry.cell is not None:
        flop = cost.of_cell(entry.cell, entry.place, counted)
        hours = cost.hours(entry.cell, flop)
        total_flop += sum(flop.values())
        total_hours += hours
        costs = (_number(sum(flop.values()) / 1e15), _number(hours))
    except types.InputError:
      pass
    lines.append((entry.name, entry.state, *costs))
  lines.append(("all", "", _number(total_flop / 1e15), _number(total_hours)))
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    [
      "  ".join(
        text.ljust(width) if number < 2 else text.rjust(width)
        for number, (text, width) in enumerate(zip(line, widths, strict=True))
      ).rstrip()
      for line in lines
    ]
    + [_NOTE]
  )


def _number(value: float) -> str:
  if not value:
    return ""
  return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _finished(
  place: work.Place,
  results_dir: pathlib.Path,
  is_wanted: Callable[[store.Json], bool],
) -> Iterator[_Entry]:
  """What has a file of results, whichever target or budget it is of."""
  for path in sorted(results_dir.glob("*.json")):
    try:
      result = store.load(path)
      if not is_wanted(result):
        continue
      own = dataclasses.replace(
        place, budget=budgets.named(result["budget"]["name"])
      )
      cell = store.as_computed(programme.of_result(result), result)
      state = _done(cell, own, result, results_dir)
    except types.InputError as error:
      yield _Entry(path.stem, f"damaged: {error}", None, place)
    else:
      yield _Entry(path.stem, state, cell, own)


def _done(
  cell: cells.Cell,
  place: work.Place,
  result: store.Json,
  results_dir: pathlib.Path,
) -> str:
  """ "done, n = 300 to 1,000", with what sets it apart."""
  words = ["done"]
  if not place.budget.is_full:
    words.append(place.budget.name)
  counts = sorted({row["num_episodes"] for row in result["rows"]})
  if counts:
    ends = dict.fromkeys((counts[0], counts[-1]))
    words.append("n = " + " to ".join(f"{n:,}" for n in ends))
  else:
    words += result["provenance"]["devices"]
  if store.read(cell, place.budget, results_dir) is None:
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
  """What is on disk of a cell, and who works on it."""
  parts, workers = [], []
  for network in cell.networks:
    folder = place.pretrain(network)
    workers.append(run_folder.worker(folder))
    epochs = len(run_folder.Files(folder).read(pretrain.LOG))
    recipe = place.budget.recipe(network)
    if 0 < epochs < recipe.num_epochs:
      parts.append(f"{network.name}: epoch {epochs} of {recipe.num_epochs}")
    elif epochs:
      parts.append("pre-trained")
  done = wanted = 0
  for job in cell.jobs:
    folder = place.episodes(job.network, cell.evaluated_on, job.variant)
    workers.append(run_folder.worker(folder))
    done += min(job.num_episodes, work.num_stored(folder, job))
    wanted += job.num_episodes
  if done:
    parts.append(f"{done:,} of {wanted:,} episodes")
  names = [worker for worker in dict.fromkeys(workers) if worker]
  return list(dict.fromkeys(parts)), names
