"""Which cells are done, which are being computed, and what is missing."""

import pathlib
from collections.abc import Iterable

from fsl_jax import pretrain, run_folder, types
from reproduction import cells, cost, journal, store, work

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
  if store.read(cell, place.budget, results_dir) is not None:
    return "done"
  if not cell.jobs:
    return "missing"
  parts, workers = [], []
  for network in cell.networks:
    folder = place.pretrain(network)
    workers.append(run_folder.worker(folder))
    epochs = len(journal.lines(folder / pretrain.LOG))
    total = place.budget.recipe(network.dataset, mixup=network.mixup).num_epochs
    if 0 < epochs < total:
      parts.append(f"{network.name}: epoch {epochs} of {total}")
    elif epochs:
      parts.append("pre-trained")
  done = wanted = 0
  for job in cell.jobs:
    folder = place.episodes(job.network, cell.evaluated_on, job.variant)
    workers.append(run_folder.worker(folder))
    done += min(job.num_episodes, work.num_stored(folder, job))
    wanted += job.num_episodes
  if done:
    parts.append(f"{done} of {wanted} episodes")
  text = ", ".join(dict.fromkeys(parts)) or "missing"
  running = list(dict.fromkeys(worker for worker in workers if worker))
  return f"running ({'; '.join(running)}): {text}" if running else text
