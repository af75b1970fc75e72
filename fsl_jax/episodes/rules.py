"""Rules for the number of images per class, where it varies.

A rule draws the counts of each class. It also bounds them, which determines
array shapes and the required size of a data set before any episode is drawn.
"""

import dataclasses
from typing import Any

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import words as words_lib


@dataclasses.dataclass(frozen=True)
class Rule:
  """Base class; the fields are the values of the rule's text, in order."""

  @classmethod
  def usage(cls, name: str) -> str:
    """The syntax of the rule, such as "range:LOW:HIGH"."""
    fields = [field.name.upper() for field in dataclasses.fields(cls)]
    return ":".join([name, *fields])

  @classmethod
  def parse(cls, arguments: list[str], text: str) -> Any:
    """Parses the values after the name; missing ones take their defaults."""
    fields = dataclasses.fields(cls)
    required = sum(f.default is dataclasses.MISSING for f in fields)
    name = text.split(":")[0]
    if not required <= len(arguments) <= len(fields):
      raise types.InputError(f"{text!r} must be {cls.usage(name)}")
    try:
      values = [
        field.type(argument)  # type: ignore[operator]
        for field, argument in zip(fields, arguments, strict=False)
      ]
    except ValueError:
      raise types.InputError(
        f"{text!r} must be {cls.usage(name)}, with numbers"
      ) from None
    return cls(*values)

  def text(self) -> str:
    """The text from which `parse` makes this rule."""
    name = next(n for (_, n), kind in _BY_NAME.items() if kind is type(self))
    values = [getattr(self, field.name) for field in dataclasses.fields(self)]
    return ":".join(
      [name, *(str(value).removesuffix(".0") for value in values)]
    )

  def describe(self, what: str) -> str:
    """A description for reports; `what` is "shot" or "query"."""
    raise NotImplementedError

  def counts(
    self, words: words_lib.Words, available: np.ndarray, sizes: np.ndarray
  ) -> np.ndarray:
    """[N] int64, the number of images of each class.

    Args:
      words: consumed.
      available: [N] number of images of each class that are not taken yet.
      sizes: [N] number of images of each class in the data set.
    """
    raise NotImplementedError

  def bounds(self, ways: int) -> tuple[int, int]:
    """Minimum and maximum number of images over all classes together."""
    raise NotImplementedError

  def most_of_a_class(self) -> int:
    """The largest number of images that the rule may ask of one class."""
    raise NotImplementedError


def _check_range(low: int, high: int, name: str) -> None:
  types.check_whole(f"low of {name}", low, at_least=1)
  types.check_whole(f"high of {name}", high, at_least=low)


def _plural(what: str) -> str:
  return "queries" if what == "query" else "shots"


@dataclasses.dataclass(frozen=True)
class Range(Rule):
  """One number per episode, uniform in [low, high]."""

  low: int
  high: int

  def __post_init__(self) -> None:
    _check_range(self.low, self.high, "range")

  def describe(self, what):
    return f"{self.low} to {self.high} {_plural(what)} per class"

  def counts(self, words, available, sizes):
    return np.repeat(words.whole(self.low, self.high, 1), len(available))

  def bounds(self, ways):
    return self.low * ways, self.high * ways

  def most_of_a_class(self):
    return self.high


@dataclasses.dataclass(frozen=True)
class Uneven(Rule):
  """One number per class, uniform in [low, high]."""

  low: int
  high: int

  def __post_init__(self) -> None:
    _check_range(self.low, self.high, "uneven")

  def describe(self, what):
    return f"{self.low} to {self.high} {_plural(what)}, drawn for each class"

  def counts(self, words, available, sizes):
    return words.whole(self.low, self.high, len(available))

  def bounds(self, ways):
    return self.low * ways, self.high * ways

  def most_of_a_class(self):
    return self.high


@dataclasses.dataclass(frozen=True)
class LongTail(Rule):
  """Exponentially decreasing counts, from `most` in one class to `least`.

  Class j of N in a random order has most (least / most)^(j / (N - 1)), rounded:
  the profile of long-tailed CIFAR (Cui et al., Class-Balanced Loss, CVPR 2019).
  """

  most: int
  least: int

  def __post_init__(self) -> None:
    _check_range(self.least, self.most, "long_tail, least and most,")

  def describe(self, what):
    return f"{self.most} down to {self.least} {_plural(what)}, long-tailed"

  def _profile(self, ways: int) -> np.ndarray:
    place = np.arange(ways) / max(ways - 1, 1)
    profile = self.most * (self.least / self.most) ** place
    return np.floor(profile + 0.5).astype(int)

  def counts(self, words, available, sizes):
    ways = len(available)
    return self._profile(ways)[words.choose(ways, ways)]

  def bounds(self, ways):
    total = int(self._profile(ways).sum())
    return total, total

  def most_of_a_class(self):
    return self.most


@dataclasses.dataclass(frozen=True)
class MetaDatasetShots(Rule):
  """Unbalanced support: its size is drawn, then divided among the classes.

  With beta uniform in (0, 1], the size is the sum over classes of ceil(beta
  min(per_class, images of the class that are not queries)), at most `total`.
  Each class gets one image; the rest is divided in proportion to the images of
  class c times exp(alpha_c), alpha_c uniform in [log 0.5, log 2), rounded down.
  Source: Triantafillou et al., Meta-Dataset (ICLR 2020), section 3.2.
  """

  total: int = 500
  per_class: int = 100

  def __post_init__(self) -> None:
    types.check_whole("total of meta_dataset", self.total, at_least=1)
    types.check_whole("per_class of meta_dataset", self.per_class, at_least=1)

  def describe(self, what):
    return f"Meta-Dataset's {_plural(what)}, at most {self.total}"

  def counts(self, words, available, sizes):
    ways = len(available)
    beta, *alphas = words.uniform(1 + ways)
    parts = np.ceil(beta * np.minimum(self.per_class, available))
    size = max(min(int(parts.sum()), self.total), ways)
    low, high = np.log([0.5, 2.0])
    weights = sizes * np.exp(low + (high - low) * np.asarray(alphas))
    share = np.floor(weights / weights.sum() * (size - ways)).astype(int)
    return np.minimum(share + 1, available)

  def bounds(self, ways):
    return ways, max(min(self.total, self.per_class * ways), ways)

  def most_of_a_class(self):
    return 1


@dataclasses.dataclass(frozen=True)
class MetaDatasetQueries(Rule):
  """Balanced queries: `most` per class, or half of the smallest class if that
  is fewer, and no more than the support leaves.

  Source: Triantafillou et al., Meta-Dataset (ICLR 2020), section 3.2.
  """

  most: int = 10

  def __post_init__(self) -> None:
    types.check_whole("most of meta_dataset", self.most, at_least=1)

  def describe(self, what):
    return f"up to {self.most} {_plural(what)} per class"

  def counts(self, words, available, sizes):
    half = int(sizes.min()) // 2
    return np.full(len(sizes), min(self.most, half, int(available.min())))

  def bounds(self, ways):
    return ways, self.most * ways

  def most_of_a_class(self):
    return 1


@dataclasses.dataclass(frozen=True)
class Dirichlet(Rule):
  """A fixed number of queries with Dirichlet class proportions.

  All parameters of the distribution equal `concentration`: 1 is uniform over
  the simplex, infinity is balanced. Proportions become counts by the largest
  remainder method. Source of the protocol: Veilleux et al., Realistic
  Evaluation of Transductive Few-Shot Learning (NeurIPS 2021), with 75 queries
  and concentration 2.
  """

  total: int = 75
  concentration: float = 2.0

  def __post_init__(self) -> None:
    types.check_whole("total of dirichlet", self.total, at_least=1)
    if not 0 < self.concentration < float("inf"):
      raise types.InputError(
        f"concentration of dirichlet must be positive, got {self.concentration}"
      )

  def describe(self, what):
    return (
      f"{self.total} {_plural(what)}, Dirichlet({self.concentration:g}) "
      "over the classes"
    )

  def counts(self, words, available, sizes):
    # Normalised gamma variates by inverse transform sampling. A Gamma(a)
    # variate is a Gamma(a + 1) variate times u^(1 / a); the computation is in
    # logarithms, because for small a all variates may underflow.
    from scipy import special

    ways = len(available)
    larger = special.gammaincinv(self.concentration + 1, words.uniform(ways))
    log_gamma = (
      np.log(larger) + np.log(words.uniform(ways)) / self.concentration
    )
    gamma = np.exp(log_gamma - log_gamma.max())
    exact = self.total * gamma / gamma.sum()
    result = np.floor(exact).astype(int)
    order = np.argsort(result - exact, kind="stable")
    result[order[: self.total - result.sum()]] += 1
    return result

  def bounds(self, ways):
    return self.total, self.total

  def most_of_a_class(self):
    return self.total


@dataclasses.dataclass(frozen=True)
class Scattered(Rule):
  """A fixed number of queries, the class of each drawn uniformly."""

  total: int

  def __post_init__(self) -> None:
    types.check_whole("total of scattered", self.total, at_least=1)

  def describe(self, what):
    if self.total == 1:
      return f"a single {what} of any class"
    return f"{self.total} {_plural(what)} of any classes"

  def counts(self, words, available, sizes):
    ways = len(available)
    return np.bincount(words.whole(0, ways - 1, self.total), minlength=ways)

  def bounds(self, ways):
    return self.total, self.total

  def most_of_a_class(self):
    return self.total


@dataclasses.dataclass(frozen=True)
class SomeClasses(Rule):
  """Queries of some classes only; the others have support images only."""

  queries: int
  classes: int

  def __post_init__(self) -> None:
    types.check_whole("queries of some_classes", self.queries, at_least=1)
    types.check_whole("classes of some_classes", self.classes, at_least=1)

  def describe(self, what):
    return f"{self.queries} {_plural(what)} of each of {self.classes} classes"

  def counts(self, words, available, sizes):
    result = np.zeros(len(available), int)
    chosen = words.choose(len(result), min(self.classes, len(result)))
    result[chosen] = self.queries
    return result

  def bounds(self, ways):
    total = self.queries * min(self.classes, ways)
    return total, total

  def most_of_a_class(self):
    return self.queries


@dataclasses.dataclass(frozen=True)
class Rest(Rule):
  """All images of a class that are not in its support."""

  def describe(self, what):
    return f"all other images as {_plural(what)}"

  def counts(self, words, available, sizes):
    return np.asarray(available)

  def bounds(self, ways):
    raise NotImplementedError("depends on the data set, see `sampler.bounds`")

  def most_of_a_class(self):
    return 1


_BY_NAME: dict[tuple[str, str], type[Rule]] = {
  ("", "range"): Range,
  ("", "uneven"): Uneven,
  ("", "long_tail"): LongTail,
  ("", "dirichlet"): Dirichlet,
  ("", "scattered"): Scattered,
  ("", "some_classes"): SomeClasses,
  ("", "rest"): Rest,
  ("shots", "meta_dataset"): MetaDatasetShots,
  ("queries", "meta_dataset"): MetaDatasetQueries,
}


def by_name(role: str, name: str) -> type[Rule]:
  """The rule with this name, which may differ between shots and queries."""
  return _BY_NAME.get((role, name)) or _BY_NAME["", name]
