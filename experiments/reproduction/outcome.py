"""A finished cell as one small JSON: numbers, verdicts, provenance.

Accuracies are in percent, hardness in nats.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import hardness, types
from reproduction import (
  budgets,
  cells,
  programme,
  provenance,
  published,
  verdicts,
  work,
)

Json = dict[str, Any]


def of_cell(
  cell: cells.Cell,
  trained: Mapping[cells.Network, work.Trained],
  measured: Sequence[work.Measured],
  place: work.Place,
  command: str,
) -> Json:
  """The content of the cell's file of results."""
  facts = Facts(cell, place.budget)
  return head(cell, place.budget) | {
    "rows": [facts.row(m) for m in measured],
    "paired": list(facts.paired(measured)),
    "lines": facts.lines(measured) if cell.target == "figure3" else [],
    "points": _points(measured) if cell.target == "figure3" else [],
    "times": [],
    "provenance": provenance.of_cell(cell, trained, measured, place, command),
  }


def head(cell: cells.Cell, budget: budgets.Budget) -> Json:
  """What the cell is of."""
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
  }


_OTHER_CLASSES = verdicts.Verdict("none", "the paper's is of novel classes")


class Facts:
  """Numbers of one cell beside those of the paper."""

  def __init__(self, cell: cells.Cell, budget: budgets.Budget):
    self._cell = cell
    self._rule: Any = {
      "full": budget.is_full,
      "episodes_required": 80 if cell.target == "table2" else 1000,
    }

  def _where(self, job: cells.Job) -> Json:
    network = self._cell.network
    return {
      "dataset": network.dataset,
      "backbone": network.backbone,
      "split": network.split,
      "ways": job.protocol.ways,
      "shots": job.protocol.shots,
      "queries": job.protocol.queries,
    }

  def row(self, measured: work.Measured) -> Json:
    job, result = measured.job, measured.result
    # What the paper has of novel classes says nothing of others.
    paper = None
    if self._cell.evaluated_on == "novel":
      paper = published.accuracy(
        self._cell.target,
        method=job.variant.method,
        ablation=self._cell.ablation,
        **self._where(job),
      )
    mean = 100 * result.mean
    num_finite = result.num_episodes - result.num_non_finite
    verdict = verdicts.of_value(mean, num_finite, paper, **self._rule)
    if self._cell.evaluated_on != "novel":
      verdict = _OTHER_CLASSES
    return {
      "variant": job.variant.name,
      "network": job.network.name,
      "method": job.variant.method,
      "options": dict(job.variant.options),
      "query_use": result.query_use,
      **_protocol(job),
      "num_episodes": result.num_episodes,
      "num_non_finite": result.num_non_finite,
      "mean": _rounded(mean),
      "std": _percent(result.std),
      "ci95": _percent(result.ci95),
      "hardness": _rounded(np.nanmean(result.hardness)),
      "paper": None if paper is None else paper._asdict(),
      "difference": None if paper is None else _rounded(mean - paper.mean),
      "verdict": verdict.word,
      "reason": verdict.reason,
    }

  def paired(self, measured: Sequence[work.Measured]) -> Any:
    by_name = {(m.job.variant.name, m.job.protocol): m for m in measured}
    for later, former in programme.pairs(self._cell):
      for (name, protocol), one in by_name.items():
        other = by_name.get((former, protocol))
        if name == later and other is not None:
          yield self._pair(one, other)

  def _pair(self, one: work.Measured, other: work.Measured) -> Json:
    a, b = _same_episodes([one, other])
    pairs = 100 * (a.accuracy - b.accuracy)
    pairs = pairs[np.isfinite(pairs)]
    mean, ci95 = float(pairs.mean()), types.half_width(pairs)
    paper = None
    if self._cell.evaluated_on == "novel":
      paper = published.difference(
        self._cell.target,
        method=one.job.variant.method,
        against=other.job.variant.method,
        **self._where(one.job),
      )
    verdict = verdicts.of_difference(
      mean, ci95, len(pairs), paper, **self._rule
    )
    if self._cell.evaluated_on != "novel":
      verdict = _OTHER_CLASSES
    return {
      "variant": one.job.variant.name,
      "against": other.job.variant.name,
      **_protocol(one.job),
      "num_episodes": len(pairs),
      "mean": _rounded(mean),
      "std": _rounded(pairs.std()),
      "ci95": _rounded(ci95),
      "paper": None if paper is None else _rounded(paper.mean),
      "verified": paper is not None and paper.verified,
      "verdict": verdict.word,
      "reason": verdict.reason,
    }

  def lines(self, measured: Sequence[work.Measured]) -> list[Json]:
    """A line per variant through the episodes of all protocols (Figure 3)."""
    network = self._cell.network
    lines = []
    for variant, results in _comparable(measured).items():
      pooled = hardness.fit_line(
        np.concatenate([r.hardness for r in results]),
        np.concatenate([r.accuracy for r in results]),
      )
      method = results[0].method
      paper = published.area(
        network.dataset, network.backbone, network.split, method
      )
      lines.append(
        {"variant": variant}
        | _line(pooled)
        | {
          "paper_area": None if paper is None else paper.mean,
          "protocols": [
            dict(r.protocol) | _line(hardness.fit_line(r.hardness, r.accuracy))
            for r in results
          ],
        }
      )
    return lines


def _comparable(
  measured: Sequence[work.Measured],
) -> dict[str, list[types.EvalResult]]:
  """Results by variant, of each protocol the episodes that all have.

  A variant that met more episodes of one protocol would have another mixture
  of protocols under its line.
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
  """The episodes that all have met; each has met the first so many."""
  n = min(m.result.num_episodes for m in group)
  return [m.result.at(np.arange(n)) for m in group]


def _points(measured: Sequence[work.Measured]) -> list[Json]:
  return [
    {
      "variant": variant,
      "ways": result.protocol["ways"],
      "shots": result.protocol["shots"],
      "hardness": [_rounded(x) for x in result.hardness],
      "accuracy": [_rounded(100 * x, 2) for x in result.accuracy],
    }
    for variant, results in _comparable(measured).items()
    for result in results
  ]


def _line(line: hardness.Line | None) -> Json:
  if line is None:
    return dict.fromkeys(("num_episodes", "slope", "intercept", "area"))
  return {
    "num_episodes": line.num_episodes,
    "slope": _percent(line.slope),
    "intercept": _percent(line.intercept),
    "area": _rounded(line.area),
  }


def _protocol(job: cells.Job) -> Json:
  protocol = job.protocol
  return {
    "ways": protocol.ways,
    "shots": protocol.shots,
    "queries": protocol.queries,
  }


def _percent(fraction: float) -> float | None:
  return _rounded(100 * fraction)


def _rounded(value: float, digits: int = 4) -> float | None:
  """JSON has no NaN."""
  return round(float(value), digits) if np.isfinite(value) else None
