"""Seconds per episode, as in the paper's comparison of compute."""

from typing import Any

import jax
from benchmarks import adaptation, measure

from reproduction import cells, cost, outcome, provenance, published, work

_EPISODES = {"cpu": 1}  # of one run
_EPISODES_OF_ACCELERATOR = 8
_WHAT = (
  ("transductive_finetune", 15, "transductive fine-tuning, 15 queries a class"),
  ("transductive_finetune", 1, "transductive fine-tuning, 1 query a class"),
  ("support_init", 15, "support-based initialisation, 15 queries a class"),
  ("prototype", 15, "nearest prototype, 15 queries a class"),
)


def of_cell(
  cell: cells.Cell, place: work.Place, command: str
) -> dict[str, Any]:
  """Times 1-shot 5-way episodes, images through the network; no accuracy.

  Speed does not depend on what a network has learnt, so the weights are
  random and the pictures made on the fly. Compiling is not counted.
  """
  network = cell.network
  size_px = cost.size(network, place).image_size_px
  platform = jax.default_backend()
  rate = measure.product_rate(network.dtype)
  times = []
  for method, queries, what in _WHAT:
    setup = adaptation.Setup(
      network.backbone,
      size_px,
      method,
      queries=queries,
      epochs=place.budget.steps or adaptation.EPOCHS,
      episodes=_EPISODES.get(platform, _EPISODES_OF_ACCELERATOR),
      dtype=network.dtype,
    )
    row = measure.compare(adaptation.case(setup), repeats=3, product_rate=rate)
    # The paper's seconds are of its own network, at its usual size.
    known = (network.backbone, size_px) == ("wrn_28_10", 84)
    paper = published.seconds(method, queries) if known else None
    times.append(
      {
        "what": what,
        "method": method,
        "queries": queries,
        "image_size_px": size_px,
        "seconds_per_episode": row["seconds_per_unit"],
        "episodes_together": setup.episodes,  # of one call
        "paper": None if paper is None else paper.mean,
      }
    )
  return outcome.head(cell, place.budget) | {
    "rows": [],
    "paired": [],
    "lines": [],
    "points": [],
    "times": times,
    "provenance": provenance.here(command),
  }
