"""Where the numbers of a cell come from, and what they took."""

import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fsl_jax import run_folder
from reproduction import cells, cost, work

Json = dict[str, Any]


def of_cell(
  cell: cells.Cell,
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
  place: work.Place,
  command: str,
) -> Json:
  """JSON values; commits and devices are those of every start that took part.

  Hours are of the steps of pre-training and of the episodes, compiling
  included; None where every start was killed.
  """
  own = trained[cell.network]
  folders = {m.folder for m in measured} | {t.path for t in trained.values()}
  starts = [start for folder in sorted(folders) for start in _starts(folder)]
  return here(command) | {
    "commits": _distinct(start["commit"] for start in starts),
    "devices": _distinct(map(device, starts)),
    "data": {key: own.meta["data"][key] for key in ("name", "fingerprint")},
    "checkpoint": {
      key: own.meta[key] for key in ("digest", "epoch", "train_accuracy")
    },
    "pretrain": own.meta["pretrain"],
    "methods": _methods(measured),
    "seed": cells.SEED,
    "flop": cost.of_cell(cell, place),
    "hours": _hours(own, measured),
  }


def here(command: str) -> Json:
  """Of this process alone."""
  start = run_folder.provenance()
  return {
    "command": command,
    "date": datetime.date.today().isoformat(),
    "commits": _distinct([start["commit"]]),
    "versions": start["versions"],
    "python": start["python"],
    "devices": [device(start)],
  }


def device(start: Mapping[str, Any]) -> str:
  if start["platform"] == "cpu":
    return f"{start['num_cpus']} {start['machine']} CPU cores"
  return f"{start['num_devices']} {start['device']}"


def _starts(folder: pathlib.Path) -> list[Json]:
  return json.loads((folder / "provenance.json").read_text())


def _methods(measured: Sequence[work.Measured]) -> Json:
  configs = {}
  for m in measured:
    config = json.loads((m.folder / "config.json").read_text())
    (configs[m.job.variant.name],) = config["methods"].values()
  return configs


def _hours(own: work.Trained, measured: Sequence[work.Measured]) -> Json:
  hours: Json = {"pretrain": work.pretrain_seconds(own) / 3600}
  for m in measured:
    name = m.job.variant.name
    each = work.seconds_per_episode(m.folder, m.job)
    before = hours.get(name, 0.0)
    hours[name] = (
      None
      if each is None or before is None
      else before + each * m.result.num_episodes / 3600
    )
  return {k: None if v is None else round(v, 4) for k, v in hours.items()}


def _distinct(values: Iterable[Any]) -> list[Any]:
  return list(dict.fromkeys(value for value in values if value is not None))
