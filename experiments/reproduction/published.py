"""What the paper prints, by cell, from `published.json`.

Source: "A Baseline for Few-Shot Image Classification", arXiv 1909.02729. Data
sets, backbones and methods go by the names of this library, splits by the
paper's: "train" or "train+val". Whatever is not in the file is None, whatever
its name, because most of what can be run was never published.
"""

import functools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_FILE = pathlib.Path(__file__).with_name("published.json")


class Value(NamedTuple):
  """A published figure.

  Attributes:
    mean: percent; areas are percent times nats, times are seconds.
    ci95: half-width of the 95 % interval, in the unit of `mean`; None where
      none is known.
    source: where it stands, such as "Table 1".
    verified: whether it was checked against the paper; others never decide
      anything.
  """

  mean: float
  ci95: float | None
  source: str
  verified: bool


def accuracy(
  target: str,
  *,
  dataset: str,
  backbone: str,
  split: str,
  method: str,
  ways: int,
  shots: int,
  queries: int = 15,
  ablation: str | None = None,
) -> Value | None:
  """Accuracy on novel classes, percent.

  Args:
    target: "table1" (with the appendix's other nets), "table2", "figure2",
      "figure3" or "ablation". A protocol that a figure shares with a table
      has the table's value.
    dataset: "mini_imagenet", "tiered_imagenet", "cifar_fs", "fc100" or
      "imagenet21k".
    backbone: "wrn_28_10", "resnet12" or "conv64"; of an ablation, the network
      that the change is made to.
    split: "train" or "train+val"; of imagenet21k "train".
    method: "support_init", "finetune" or "transductive_finetune".
    ways: classes of an episode.
    shots: support images per class.
    queries: per class.
    ablation: "features", "frozen_backbone", "no_mixup", "wrn_16_4" or
      "10000_episodes", with the target "ablation"; else None.
  """
  cell = _Accuracy(
    target, dataset, backbone, split, method, ways, shots, queries, ablation
  )
  return _read().accuracy.get(cell)


def difference(
  target: str,
  *,
  dataset: str,
  backbone: str,
  split: str,
  method: str,
  against: str,
  ways: int,
  shots: int,
  queries: int = 15,
) -> Value | None:
  """Accuracy of `method` minus that of `against`, points of a percent.

  It has no interval: the two printed ones are not of paired episodes. It is
  verified if both are, and None unless both are published. Arguments are
  those of `accuracy`.
  """
  ours, theirs = (
    accuracy(
      target,
      dataset=dataset,
      backbone=backbone,
      split=split,
      method=name,
      ways=ways,
      shots=shots,
      queries=queries,
    )
    for name in (method, against)
  )
  if ours is None or theirs is None:
    return None
  # To the hundredths that both are printed in.
  mean = round(ours.mean - theirs.mean, 2)
  return Value(mean, None, ours.source, ours.verified and theirs.verified)


def area(dataset: str, backbone: str, split: str, method: str) -> Value | None:
  """Area under the line of accuracy over hardness, percent times nats."""
  return _read().area.get(_Line(dataset, backbone, split, method))


def seconds(method: str, queries: int) -> Value | None:
  """Seconds that an episode takes: wrn_28_10, 5 ways, 1 shot.

  Args:
    method: "transductive_finetune" or "prototype".
    queries: per class, 15 or 1.
  """
  return _read().seconds.get((method, queries))


class _Accuracy(NamedTuple):
  target: str
  dataset: str
  backbone: str
  split: str
  method: str
  ways: int
  shots: int
  queries: int
  ablation: str | None = None


class _Line(NamedTuple):
  dataset: str
  backbone: str
  split: str
  method: str


class _Published(NamedTuple):
  accuracy: dict[_Accuracy, Value]
  area: dict[_Line, Value]
  seconds: dict[tuple[str, int], Value]


@functools.cache
def _read() -> _Published:
  content = json.loads(_FILE.read_text("utf-8"))
  return _Published(
    accuracy={
      _Accuracy(target, **cell): value
      for group in content["accuracy"]
      for cell, value in _values(group)
      for target in group["targets"]
    },
    area={
      _Line(**cell): value
      for group in content["area"]
      for cell, value in _values(group)
    },
    seconds={
      (cell["method"], cell["queries"]): value
      for group in content["seconds"]
      for cell, value in _values(group)
    },
  )


def _values(group: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Value]]:
  """The figures of a group, each with all that says which one it is."""
  for head, *figures in group["rows"]:
    for column, figure in zip(group["columns"], figures, strict=True):
      if figure is not None:
        mean, ci95 = _pair(figure)
        value = Value(mean, ci95, group["source"], group["verified"])
        yield group["common"] | column | head, value


def _pair(figure: Sequence[float]) -> tuple[float, float | None]:
  mean, *ci95 = figure
  return mean, ci95[0] if ci95 else None
