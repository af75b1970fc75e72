"""Which cells are done, which are being computed, and what is missing."""

import pathlib
from collections.abc import Iterable

from fsl_jax import pretrain, run_folder, types
from reproduction import cells, cost, store, work

_HEADINGS = ("cell", "state", "PFLOP", "hours here")


def table(
  wanted: Iterable[cells.Cell], place: work.Place, results_dir: pathlib.Path
) -> str:
  """One line per cell, for a terminal.

  Hours are an estimate for all of the cell, from the rate of matrix products
  of this device.
  """
  lines = [_HEADINGS]
  for cell in wanted:
    try:
      flop = cost.of_cell(cell, place)
      hours = cost.hours(cell, flop)
      costs = (_number(sum(flop.values()) / 1e15), _number(hours))
    except types.InputError:
      costs = ("?", "?")  # Not prepared, and of no size known to the paper.
    lines.append((cell.name, _state(cell, place, results_dir), *costs))
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  return "\n".join(
    "  ".join(
      text.ljust(width) if number < 2 else text.rjust(width)
      for number, (text, width) in enumerate(zip(line, widths, strict=True))
    ).rstrip()
    for line in lines
  )


def _number(value: float) -> str:
  if not value:
    return ""
  return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _state(
  cell: cells.Cell, place: work.Place, results_dir: pathlib.Path
) -> str:
  try:
    result = store.read(cell, place.budget, results_dir)
    if result is not None and store.is_done(result, cell):
      return "done"
    parts, workers = _progress(cell, place)
  except types.InputError as error:
    return f"damaged: {error}"
  if result is not None and result["rows"]:
    counts = {row["num_episodes"] for row in result["rows"]}
    ends = " to ".join(f"{n:,}" for n in sorted({min(counts), max(counts)}))
    parts = [f"done with {ends} episodes of each protocol"]
  elif result is not None:
    parts = ["done on another device"]
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
    recipe = place.budget.recipe(network.dataset, mixup=network.mixup)
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
