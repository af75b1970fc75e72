"""Where episodes come from: drawn by a protocol, or read from a file."""

import dataclasses
import functools
from typing import Any, Protocol

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import padding, protocols, rules, sampler


class Source(Protocol):
  """Episodes of one data set by their index; each a pure function of it."""

  @property
  def dataset(self) -> types.ClassIndexed: ...

  @property
  def seed(self) -> int:
    """Of the episodes."""

  @property
  def name(self) -> str:
    """For headings: "5-way 1-shot"."""

  @property
  def text(self) -> str:
    """The rest of it: "15 queries a class"."""

  @property
  def shapes(self) -> list[padding.Shape]:
    """What episodes are filled up to, growing; at most six."""

  @property
  def min_ways(self) -> int:
    """Classes of the smallest episode there may be."""

  def values(self) -> dict[str, Any]:
    """JSON values that tell these episodes from others of data and seed."""

  def check(self, num_episodes: int) -> None:
    """Raises InputError unless there are episodes 0 to num_episodes - 1."""

  def rows(self, index: int) -> sampler.Rows:
    """Episode `index`."""

  def sizes(self, index: int) -> tuple[int, int]:
    """Its numbers of support and query images."""


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Episodes of a protocol, drawn when they are asked for."""

  dataset: types.ClassIndexed
  protocol: protocols.Protocol
  seed: int

  @property
  def name(self) -> str:
    return self.protocol.name

  @property
  def text(self) -> str:
    return self.protocol.text

  @functools.cached_property
  def shapes(self) -> list[padding.Shape]:
    return padding.shapes(sampler.bounds(self.dataset, self.protocol))

  @property
  def min_ways(self) -> int:
    ways = self.protocol.ways
    return ways.low if isinstance(ways, rules.Range) else self.shapes[-1].ways

  def values(self) -> dict[str, Any]:
    return self.protocol.values()

  def check(self, num_episodes: int) -> None:
    types.check_whole("seed", self.seed)
    sampler.check(self.dataset, self.protocol, num_episodes=num_episodes)

  def rows(self, index: int) -> sampler.Rows:
    return sampler.draw(
      self.dataset, self.protocol, seed=self.seed, index=index
    )

  def sizes(self, index: int) -> tuple[int, int]:
    made = sampler.composition(
      self.dataset, self.protocol, seed=self.seed, index=index
    )
    return int(np.sum(made.support)), int(np.sum(made.query))
