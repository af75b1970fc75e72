"""Where the numbers of a cell come from, and what they took."""

import datetime
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
  """JSON values; commits and devices are those of the starts that computed.

  Hours are of the steps of pre-training, of all networks of the cell, and of
  the episodes, compiling included; None where every start was killed.
  """
  own = trained[cell.network]
  starts = [start for t in trained.values() for start in _pretraining(t.path)]
  for folder in sorted({m.folder for m in measured}):
    starts += _evaluation(folder)
  hours = _hours(trained, measured)
  return here(command) | {
    "commits": _distinct(start["commit"] for start in starts),
    "devices": _distinct(map(device, starts)),
    "data": {key: own.meta["data"][key] for key in ("name", "fingerprint")},
    "networks": {
      network.name: {
        key: t.meta[key]
        for key in ("digest", "epoch", "train_accuracy", "pretrain")
      }
      for network, t in trained.items()
    },
    "methods": _methods(measured),
    "seed": cells.SEED,
    "flop": cost.of_cell(cell, place),
    "hours": {k: None if v is None else round(v, 4) for k, v in hours.items()},
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
    "networks": {},
    "hours": {},
  }


def device(start: Mapping[str, Any]) -> str:
  if start["platform"] == "cpu":
    return f"{start['num_cpus']} {start['machine']} CPU cores"
  return f"{start['num_devices']} {start['device']}"


def _pretraining(folder: pathlib.Path) -> list[Json]:
  return run_folder.Files(folder).starts()


def _evaluation(folder: pathlib.Path) -> list[Json]:
  """The starts that computed episodes, as far as they were not killed."""
  files = run_folder.Files(folder)
  return [line["start"] for line in files.read(work.TIMES)] or files.starts()


def _methods(measured: Sequence[work.Measured]) -> Json:
  configs = {}
  for m in measured:
    methods = run_folder.Files(m.folder).config()["methods"]
    (configs[m.job.variant.name],) = methods.values()
  return configs


def _hours(
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
) -> dict[str, float | None]:
  seconds: dict[str, float | None] = {
    "pretrain": sum(map(work.pretrain_seconds, trained.values()))
  }
  for m in measured:
    name = m.job.variant.name
    each = work.seconds_per_episode(m.folder, m.job)
    before = seconds.get(name, 0.0)
    seconds[name] = (
      None
      if each is None or before is None
      else before + each * m.result.num_episodes
    )
  return {k: None if v is None else v / 3600 for k, v in seconds.items()}


def _distinct(values: Iterable[Any]) -> list[Any]:
  return list(dict.fromkeys(value for value in values if value is not None))
