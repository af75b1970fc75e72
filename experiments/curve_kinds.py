"""What `curves.py` varies: names, axes, values."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from fsl_jax import types


class Curve(NamedTuple):
  """What is varied."""

  title: str
  axis: str
  name: str  # of the field of the protocol
  values: tuple[str, ...]  # by default
  logarithmic: bool  # a number, on a logarithmic axis; else categories
  varied: tuple[str, ...]  # flags that have no effect

  def places(self, labels: Sequence[str]) -> list[float]:
    """Along the axis.

    Raises:
      InputError: for what is not a number where it has to be one.
    """
    if self.logarithmic:
      return [math.log2(_number(label)) for label in labels]
    return list(map(float, range(len(labels))))


CURVES = {
  "ways": Curve(
    "Accuracy by ways", "Ways", "ways", ("2", "5", "10", "20"), True, ("ways",)
  ),
  "shots": Curve(
    "Accuracy by shots",
    "Shots",
    "shots",
    ("1", "2", "5", "10", "20"),
    True,
    ("shots",),
  ),
  "queries": Curve(
    "Accuracy by number of queries",
    "Queries per class",
    "queries",
    ("1", "5", "15", "30"),
    True,
    ("queries",),
  ),
  "dirichlet": Curve(
    "Accuracy by imbalance of the queries",
    "Concentration a of the queries' classes, Dirichlet(a)",
    "queries",
    ("balanced", "5", "2", "1"),
    False,
    (),
  ),
  "hardness": Curve(
    "Accuracy against hardness",
    "Hardness (nats)",
    "ways",
    ("5", "10", "20"),
    False,
    ("ways", "shots"),
  ),
}


def _number(label: str) -> float:
  try:
    number = float(label)
  except ValueError:
    number = 0.0
  if number <= 0:
    raise types.InputError(f"--values must be numbers, got {label!r}")
  return number
