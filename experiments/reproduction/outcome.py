"""A finished cell as JSON values: numbers, verdicts, provenance.

Accuracies are in percent, hardness in nats.
"""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import results, run_folder, statistics, types
from reproduction import cells, cost, programme, published, work

Json = dict[str, Any]
_OTHER_CLASSES = published.Verdict("none", "the paper's is of novel classes")
_LISTS = ("rows", "paired", "lines", "points", "times")


def of_cell(
  cell: cells.Cell,
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
  place: work.Place,
  command: str,
) -> Json:
  """The content of the cell's file of results."""
  comparable = _comparable(measured) if cell.target == "figure3" else {}
  return head(cell, place.budget) | {
    "rows": [row(cell, place.budget, m) for m in measured],
    "paired": list(paired(cell, place.budget, measured)),
    "lines": lines(cell, comparable),
    "points": _points(comparable),
    "provenance": _provenance(cell, trained, measured, place, command),
  }


def of_compute(cell: cells.Cell, place: work.Place, command: str) -> Json:
  """The same for seconds per episode."""
  return head(cell, place.budget) | {
    "times": cost.times(cell, place),
    "provenance": here(command),
  }


def head(cell: cells.Cell, budget: cells.Budget) -> Json:
  """What the cell is of, without any result."""
  return {
    "name": cell.name,
    "target": cell.target,
    "ablation": cell.ablation,
    "dataset": cell.network.dataset,
    "backbone": cell.network.backbone,
    "split": cell.network.split,
    "evaluated_on": cell.evaluated_on,
    "dtype": cell.network.dtype,
    "whole_batch_norm": cell.network.whole_batch_norm,
    "hardness": work.HARDNESS,
    "budget": {
      "name": budget.name,
      "pretrain_factor": budget.pretrain_factor,
      "episode_factor": budget.episode_factor,
    },
  } | {name: [] for name in _LISTS}


def _rule(cell: cells.Cell, budget: cells.Budget) -> published.Rule:
  return published.Rule(budget.is_full, 80 if cell.target == "table2" else 1000)


def _where(cell: cells.Cell, job: cells.Job) -> Json:
  """Arguments by which a published figure is found."""
  network = cell.network
  return {
    "target": cell.target,
    "dataset": network.dataset,
    "backbone": network.backbone,
    "split": network.split,
    **job.protocol._asdict(),
  }


def row(
  cell: cells.Cell, budget: cells.Budget, measured: work.Measured
) -> Json:
  """A variant on one protocol beside the paper's."""
  job, result = measured.job, measured.result
  mean, paper, verdict = 100 * result.mean, None, _OTHER_CLASSES
  # The paper's numbers are of novel classes and apply to no others.
  if cell.evaluated_on == "novel":
    paper = published.accuracy(
      method=job.variant.method, ablation=cell.ablation, **_where(cell, job)
    )
    num_finite = result.num_episodes - result.num_non_finite
    verdict = _rule(cell, budget).of_value(mean, num_finite, paper)
  return {
    "variant": job.variant.name,
    "network": job.network.name,
    "method": job.variant.method,
    "options": dict(job.variant.options),
    "query_use": result.query_use,
    **job.protocol._asdict(),
    "num_episodes": result.num_episodes,
    "num_non_finite": result.num_non_finite,
    "mean": _rounded(mean),
    "std": _percent(result.std),
    "ci95": _percent(result.ci95),
    "hardness": _rounded(np.nanmean(result.hardness)),
    "paper": paper and paper._asdict(),
    "difference": paper and _rounded(mean - paper.mean),
    "verdict": verdict.word,
    "reason": verdict.reason,
  }


def paired(
  cell: cells.Cell, budget: cells.Budget, measured: Sequence[work.Measured]
) -> Iterator[Json]:
  """Differences of variants on the same episodes beside the paper's."""
  by_name = {(m.job.variant.name, m.job.protocol): m for m in measured}
  for first, second in programme.pairs(cell):
    for (name, protocol), one in by_name.items():
      other = by_name.get((second, protocol))
      if name == first and other is not None:
        yield _pair(cell, budget, one, other)


def _pair(
  cell: cells.Cell,
  budget: cells.Budget,
  one: work.Measured,
  other: work.Measured,
) -> Json:
  a, b = _same_episodes([one, other])
  found = statistics.summary(a.accuracy - b.accuracy)
  mean, ci95 = 100 * found.mean, 100 * found.ci95
  paper, verdict = None, _OTHER_CLASSES
  if cell.evaluated_on == "novel":
    paper = published.difference(
      method=one.job.variant.method,
      against=other.job.variant.method,
      **_where(cell, one.job),
    )
    verdict = _rule(cell, budget).of_difference(mean, ci95, found.num, paper)
  return {
    "variant": one.job.variant.name,
    "against": other.job.variant.name,
    **one.job.protocol._asdict(),
    "num_episodes": found.num,
    "mean": _rounded(mean),
    "std": _percent(found.std),
    "ci95": _rounded(ci95),
    "paper": paper and _rounded(paper.mean),
    "verified": paper is not None and paper.verified,
    "verdict": verdict.word,
    "reason": verdict.reason,
  }


def lines(
  cell: cells.Cell, comparable: Mapping[str, Sequence[types.EvalResult]]
) -> list[Json]:
  """A line per variant through the episodes of all protocols (Figure 3)."""
  network, found = cell.network, []
  for variant, of_variant in comparable.items():
    paper = published.area(
      network.dataset, network.backbone, network.split, of_variant[0].method
    )
    found.append(
      {"variant": variant}
      | _line(of_variant)
      | {
        "paper_area": paper and paper.mean,
        "protocols": [dict(r.protocol) | _line([r]) for r in of_variant],
      }
    )
  return found


def _comparable(
  measured: Sequence[work.Measured],
) -> dict[str, list[types.EvalResult]]:
  """Results by variant: of each protocol the episodes that all variants have.

  A variant with more episodes of one protocol would otherwise have another
  mixture of protocols under its line.
  """
  groups: dict[Any, list[work.Measured]] = {}
  for m in measured:
    groups.setdefault(m.job.protocol, []).append(m)
  comparable: dict[str, list[types.EvalResult]] = {}
  for group in groups.values():
    for m, result in zip(group, _same_episodes(group), strict=True):
      comparable.setdefault(m.job.variant.name, []).append(result)
  return comparable


def _same_episodes(
  group: Sequence[work.Measured],
) -> list[types.EvalResult]:
  """The episodes that all have; each has the first so many."""
  n = min(m.result.num_episodes for m in group)
  return [m.result.at(np.arange(n)) for m in group]


def _points(
  comparable: Mapping[str, Sequence[types.EvalResult]],
) -> list[Json]:
  return [
    {
      "variant": variant,
      "ways": result.protocol["ways"],
      "shots": result.protocol["shots"],
      "hardness": [_rounded(x) for x in result.hardness],
      "accuracy": [_rounded(100 * x, 2) for x in result.accuracy],
    }
    for variant, of_variant in comparable.items()
    for result in of_variant
  ]


def _line(of_variant: Sequence[types.EvalResult]) -> Json:
  found = results.HardnessLine.of(of_variant)
  if found is None:
    return dict.fromkeys(("num_episodes", "slope", "intercept", "area"))
  return {
    "num_episodes": found.line.num_episodes,
    "slope": _percent(found.line.slope),
    "intercept": _percent(found.line.intercept),
    "area": _rounded(found.line.area),
  }


def _percent(fraction: float) -> float | None:
  return _rounded(100 * fraction)


def _rounded(value: float, digits: int = 4) -> float | None:
  """JSON has no NaN."""
  return round(float(value), digits) if np.isfinite(value) else None


def _provenance(
  cell: cells.Cell,
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
  place: work.Place,
  command: str,
) -> Json:
  """Commits and devices are those of the starts that computed.

  Hours are of the steps of pre-training, of all networks of the cell, and of
  the episodes, compilation included; None where every start was killed.
  """
  folders = {m.folder: run_folder.Files(m.folder) for m in measured}
  starts = [
    start
    for network in trained.values()
    for start in run_folder.Files(network.path).starts()
  ]
  for _, files in sorted(folders.items()):
    # Those that computed episodes, unless all of them were killed.
    timed = [line["start"] for line in files.read(work.TIMES)]
    starts += timed or files.starts()
  hours = _hours(trained, measured)
  data = trained[cell.network].meta["data"]
  return here(command) | {
    "commits": _distinct(start["commit"] for start in starts),
    "devices": _distinct(map(device, starts)),
    "data": {key: data[key] for key in ("name", "fingerprint")},
    "networks": {
      network.name: {
        key: t.meta[key]
        for key in ("digest", "epoch", "train_accuracy", "pretrain")
      }
      for network, t in trained.items()
    },
    "methods": {
      m.job.variant.name: next(
        iter(folders[m.folder].config()["methods"].values())
      )
      for m in measured
    },
    "seed": cells.SEED,
    "flop": cost.of_cell(cell, place),
    "hours": {k: None if v is None else round(v, 4) for k, v in hours.items()},
  }


def here(command: str) -> Json:
  """Provenance of this process alone."""
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


def _hours(
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
) -> dict[str, float | None]:
  seconds: dict[str, float | None] = {
    "pretrain": sum(map(work.pretrain_seconds, trained.values()))
  }
  for m in measured:
    name = m.job.variant.name
    each, before = work.seconds_per_episode(m), seconds.get(name, 0.0)
    seconds[name] = (
      None
      if each is None or before is None
      else before + each * m.result.num_episodes
    )
  return {k: None if v is None else v / 3600 for k, v in seconds.items()}


def _distinct(values: Iterable[Any]) -> list[Any]:
  return list(dict.fromkeys(value for value in values if value is not None))
