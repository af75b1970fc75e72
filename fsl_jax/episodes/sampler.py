"""Which images make up episode i: a pure function of (seed, split, i).

No generator lives between episodes, so an episode does not depend on the
batch, worker or run in which it is drawn.
"""

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.episodes import groups, pools, rules
from fsl_jax.episodes import words as words_lib
from fsl_jax.episodes.protocols import Protocol


@dataclasses.dataclass(frozen=True)
class Rows:
  """An episode as rows of a `ClassIndexed`; NumPy, nothing on a device.

  Support and queries are in random order, so that neither the order nor the
  micro-batch of an image carries information about its class.
  """

  class_ids: np.ndarray  # [N] int32, the class behind each label
  support: np.ndarray  # [S] int32 rows
  support_labels: np.ndarray  # [S] int32 in [0, N)
  query: np.ndarray  # [T] int32 rows
  query_labels: np.ndarray  # [T] int32 in [0, N)


def digest(
  class_ids: types.Array, support: types.Array, query: types.Array
) -> str:
  """Hex digest of the rows of one episode without padding; as in `Rows`.

  Labels need not enter it: rows and the order of the classes determine them.
  """
  sha = hashlib.sha256()
  for part in (class_ids, support, query):
    sha.update(np.asarray([len(part), *part], "<i8").tobytes())
  return sha.hexdigest()[:16]


class Composition(NamedTuple):
  """The classes of an episode and the number of images of each."""

  class_ids: np.ndarray  # [N] int64
  support: np.ndarray  # [N] int64, at least 1
  query: np.ndarray  # [N] int64, at least one of them positive


def check(
  dataset: types.ClassIndexed,
  protocol: Protocol,
  *,
  num_episodes: int | None = None,
) -> None:
  """Raises InputError if the data set cannot serve the protocol.

  Args:
    dataset: split to draw from.
    protocol: of the episodes.
    num_episodes: number of episodes to be drawn, which matters only if the
      protocol does not reuse images.
  """
  where = f"{dataset.name}, split {dataset.split!r}"
  classes = eligible_classes(dataset, protocol)
  needed = (
    2
    if protocol.ways == "all"
    else protocol.ways.low
    if isinstance(protocol.ways, rules.Range)
    else protocol.ways
  )
  if needed > dataset.num_classes:
    raise types.InputError(
      f"{needed} ways were asked for, but {where} has only "
      f"{dataset.num_classes} classes"
    )
  few = dataset.num_classes - len(classes)
  if (few and protocol.small_classes == "refuse") or needed > len(classes):
    raise types.InputError(_too_few_images(dataset, protocol, needed, where))
  if num_episodes is not None and not protocol.reuse:
    most = _num_apart(dataset, protocol)
    if num_episodes > most:
      raise types.InputError(
        f"{num_episodes} episodes were asked for, but {where} has images for "
        f"{most} episodes that share none"
      )


def _too_few_images(dataset, protocol, needed, where) -> str:
  drawn = pools.of(dataset, protocol)
  sizes = drawn.support.sizes
  out = np.setdiff1d(np.arange(dataset.num_classes), drawn.class_ids)
  worst = int(out[sizes[out].argmin()])
  class_name = dataset.class_names[worst]
  what = f"{protocol.name} and {protocol.text}"
  if protocol.groups == "apart":
    what += (
      ": whichever group the support of a class comes from, enough images of "
      f"other groups must be left, but class {class_name!r} of {where} has too "
      "few"
    )
  elif not drawn.together:
    names = protocol.group_names
    queries = drawn.query.sizes
    worst = int(out[np.minimum(sizes, queries)[out].argmin()])
    what += (
      f": class {dataset.class_names[worst]!r} of {where} has "
      f"{sizes[worst]} images in {names[0]} and {queries[worst]} in {names[1]}"
    )
  else:
    different = " different" if protocol.copies == "apart" else ""
    what += (
      f" need {_need(protocol)}{different} images of a class, but class "
      f"{class_name!r} of {where} has {sizes[worst]}"
    )
  what += f" ({len(out)} of {dataset.num_classes} classes have too few"
  left = len(drawn.class_ids)
  if left >= needed:
    return what + "; small_classes=skip leaves them out)"
  what += f", which leaves {left}; "
  enough = np.sort(sizes)[-needed]
  if drawn.together and protocol.groups == "any" and enough:
    return what + f"the {needed} largest have at least {enough} each)"
  return what + "ask for fewer shots or queries)"


def _need(protocol: Protocol) -> int:
  """The number of images with which a class serves any episode."""
  return sum(
    value if isinstance(value, int) else value.most_of_a_class()
    for value in (protocol.shots, protocol.queries)
  )


def eligible_classes(
  dataset: types.ClassIndexed, protocol: Protocol
) -> np.ndarray:
  """[c] int64, the classes with enough images for any episode."""
  return pools.of(dataset, protocol).class_ids


def _num_apart(dataset: types.ClassIndexed, protocol: Protocol) -> int:
  """The number of episodes that share no image."""
  assert isinstance(protocol.ways, int)
  classes = eligible_classes(dataset, protocol)
  smallest = int(pools.of(dataset, protocol).support.sizes[classes].min())
  return len(classes) // protocol.ways * (smallest // _need(protocol))


def composition(
  dataset: types.ClassIndexed, protocol: Protocol, *, seed: int, index: int
) -> Composition:
  """The classes of episode `index` and the number of images of each.

  Raises:
    InputError: if the split has too few classes or a class too few images.
  """
  check(dataset, protocol, num_episodes=index + 1)
  words = words_lib.Words(seed, dataset.split, index)
  return _composition(dataset, protocol, words, seed, index)


def _composition(dataset, protocol, words, seed, index) -> Composition:
  # A stream of its own: classes and images do not depend on the rules.
  numbers = words_lib.Words(seed, dataset.split, index, "numbers")
  eligible = eligible_classes(dataset, protocol)
  if protocol.ways == "all":
    ways = len(eligible)
  elif isinstance(protocol.ways, rules.Range):
    high = min(protocol.ways.high, len(eligible))
    (ways,) = numbers.whole(protocol.ways.low, high, 1)
  else:
    ways = protocol.ways
  if protocol.reuse:
    class_ids = eligible[words.choose(len(eligible), ways)]
  else:
    each = len(eligible) // ways
    order = words_lib.Words(seed, dataset.split, index // each, "classes")
    shuffled = eligible[order.choose(len(eligible), len(eligible))]
    class_ids = shuffled[index % each * ways :][:ways]
  drawn = pools.of(dataset, protocol)
  of_support = drawn.support.sizes[class_ids]
  of_query = drawn.query.sizes[class_ids]

  def counts(rule, sizes, taken):
    if isinstance(rule, int):
      return np.full(ways, rule)
    left = sizes - taken if drawn.together else sizes
    return rule.counts(numbers, left, sizes)

  # Meta-Dataset draws the queries first and the support from the remaining
  # images; under every other rule the support comes first.
  if isinstance(protocol.shots, rules.MetaDatasetShots):
    query = counts(protocol.queries, of_query, 0)
    return Composition(
      class_ids, counts(protocol.shots, of_support, query), query
    )
  support = counts(protocol.shots, of_support, 0)
  return Composition(
    class_ids, support, counts(protocol.queries, of_query, support)
  )


def draw(
  dataset: types.ClassIndexed, protocol: Protocol, *, seed: int, index: int
) -> Rows:
  """Draws episode `index`: classes, then images, without replacement.

  Source: section 4.1. Classes are uniform over the split; the support and
  query images of a class are drawn together, or from pools that share none, so
  they are disjoint.

  Raises:
    InputError: if the split has too few classes or a class too few images.
  """
  check(dataset, protocol, num_episodes=index + 1)
  words = words_lib.Words(seed, dataset.split, index)
  made = _composition(dataset, protocol, words, seed, index)
  of_support, of_query, _ = pools.of(dataset, protocol)
  support, query = [], []
  for c, shots, queries in zip(*made, strict=True):
    rows = of_support.of_class(c)
    if protocol.groups == "apart":
      parts = groups.draw(dataset, words, rows, shots, queries)
    elif of_query is not of_support:
      others = of_query.of_class(c)
      parts = (
        rows[words.choose(len(rows), shots)],
        others[words.choose(len(others), queries)],
      )
    elif protocol.reuse:
      drawn = rows[words.choose(len(rows), shots + queries)]
      parts = drawn[:shots], drawn[shots:]
    else:
      # Consecutive images of one shuffle of the class, one part per round.
      order = words_lib.Words(seed, dataset.split, int(c), "images")
      turn = index // (
        len(eligible_classes(dataset, protocol)) // len(made.class_ids)
      )
      first = turn * (shots + queries)
      drawn = rows[order.choose(len(rows), len(rows))[first:]]
      parts = drawn[:shots], drawn[shots : shots + queries]
    support.append(parts[0])
    query.append(parts[1])
  labels = np.arange(len(made.class_ids))
  support_labels = np.repeat(labels, made.support)
  query_labels = np.repeat(labels, made.query)
  support_order = words.choose(len(support_labels), len(support_labels))
  query_order = words.choose(len(query_labels), len(query_labels))
  return Rows(
    class_ids=made.class_ids.astype(np.int32),
    support=np.concatenate(support)[support_order].astype(np.int32),
    support_labels=support_labels[support_order].astype(np.int32),
    query=np.concatenate(query)[query_order].astype(np.int32),
    query_labels=query_labels[query_order].astype(np.int32),
  )


class Bounds(NamedTuple):
  """Largest number of ways, and (minimum, maximum) sizes of support and
  queries, over all episodes of a protocol on a data set."""

  ways: int
  support: tuple[int, int]
  query: tuple[int, int]


def bounds(dataset: types.ClassIndexed, protocol: Protocol) -> Bounds:
  """Bounds on the sizes of episodes, found without drawing any."""
  classes = eligible_classes(dataset, protocol)
  if protocol.ways == "all":
    low = high = len(classes)
  elif isinstance(protocol.ways, rules.Range):
    low, high = protocol.ways.low, min(protocol.ways.high, len(classes))
  else:
    low = high = protocol.ways
  drawn = pools.of(dataset, protocol)

  def of(rule: int | rules.Rule, pool: pools.Pool) -> tuple[int, int]:
    if isinstance(rule, int):
      return rule * low, rule * high
    if isinstance(rule, rules.Rest):
      return pools.left(drawn, protocol.shots, low, high)
    return rule.bounds(low)[0], min(rule.bounds(high)[1], int(pool.offsets[-1]))

  return Bounds(
    high,
    of(protocol.shots, drawn.support),
    of(protocol.queries, drawn.query),
  )
