"""Sources of episodes: drawn by a protocol, or read from a file."""

import dataclasses
import functools
from typing import Any, Protocol

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import padding, protocols, rules, sampler


class Source(Protocol):
  """Episodes of one data set, each a pure function of its index."""

  @property
  def dataset(self) -> types.ClassIndexed: ...

  @property
  def seed(self) -> int:
    """The seed of the episodes."""

  @property
  def name(self) -> str:
    """A short name for headings, such as "5-way 1-shot"."""

  @property
  def text(self) -> str:
    """The remaining description, such as "15 queries per class"."""

  @property
  def shapes(self) -> list[padding.Shape]:
    """The shapes that episodes are padded to, ascending; at most six."""

  @property
  def min_ways(self) -> int:
    """The smallest number of ways that an episode may have."""

  def values(self) -> dict[str, Any]:
    """JSON values that identify the episodes, given data and seed."""

  def check(self, num_episodes: int) -> None:
    """Raises InputError unless there are episodes 0 to num_episodes - 1."""

  def rows(self, index: int) -> sampler.Rows:
    """Episode `index`."""

  def sizes(self, index: int) -> tuple[int, int]:
    """Its number of support images and of query images."""


@dataclasses.dataclass(frozen=True)
class Drawn:
  """Episodes of a protocol, drawn on demand."""

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
