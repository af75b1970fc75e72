"""Which images make up episode i: a pure function of (seed, split, i).

No generator lives between episodes, so an episode does not depend on the
batch, worker or run in which it is drawn. Only the raw output of NumPy's
Philox is used, which its policy keeps the same across versions; the methods of
`numpy.random.Generator` may change.
"""

import dataclasses
import hashlib

import numpy as np

from fsl_jax import types


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What kind of episodes are drawn. Section 4.1: 5 ways, 1 or 5 shots.

  Attributes:
    ways: N, classes per episode, at least 1.
    shots: K, support images per class, at least 1.
    queries: Q, query images per class, at least 1.
  """

  ways: int = 5
  shots: int = 1
  queries: int = 15

  def __post_init__(self) -> None:
    for name in ("ways", "shots", "queries"):
      types.check_whole(name, getattr(self, name), at_least=1)


@dataclasses.dataclass(frozen=True)
class Rows:
  """An episode as rows of a `ClassIndexed`; NumPy, nothing on a device.

  Support and query come in random order, so that neither their order nor the
  micro-batch an image falls in says anything of its class.
  """

  class_ids: np.ndarray  # [N] int32, the class behind each label
  support: np.ndarray  # [S] int32 rows
  support_labels: np.ndarray  # [S] int32 in [0, N)
  query: np.ndarray  # [T] int32 rows
  query_labels: np.ndarray  # [T] int32 in [0, N)


def check(dataset: types.ClassIndexed, protocol: Protocol) -> None:
  """Raises InputError if the data set cannot serve the protocol."""
  where = f"{dataset.name}, split {dataset.split!r}"
  if protocol.ways > dataset.num_classes:
    raise types.InputError(
      f"{protocol.ways} ways were asked for, but {where} has only "
      f"{dataset.num_classes} classes"
    )
  sizes = np.diff(dataset.class_offsets())
  need = protocol.shots + protocol.queries
  smallest = int(sizes.argmin())
  if sizes[smallest] < need:
    raise types.InputError(
      f"{protocol.shots} shots and {protocol.queries} queries need {need} "
      f"images of a class, but class {dataset.class_names[smallest]!r} of "
      f"{where} has {sizes[smallest]} ({int((sizes < need).sum())} of "
      f"{dataset.num_classes} classes have too few)"
    )


def draw(
  dataset: types.ClassIndexed, protocol: Protocol, *, seed: int, index: int
) -> Rows:
  """Draws episode `index`: classes, then images, without replacement.

  Source: section 4.1. Classes are uniform over the split; the support and
  query images of a class are drawn together, so they are disjoint.

  Raises:
    InputError: if the split has too few classes or a class too few images.
  """
  check(dataset, protocol)
  words = _Words(seed, dataset.split, index)
  offsets = dataset.class_offsets()
  classes = words.choose(dataset.num_classes, protocol.ways)
  support, query = [], []
  for c in classes:
    start, stop = offsets[c : c + 2]
    rows = start + words.choose(
      int(stop - start), protocol.shots + protocol.queries
    )
    support.append(rows[: protocol.shots])
    query.append(rows[protocol.shots :])
  labels = np.arange(protocol.ways)
  support_labels = np.repeat(labels, protocol.shots)
  query_labels = np.repeat(labels, protocol.queries)
  support_order = words.choose(len(support_labels), len(support_labels))
  query_order = words.choose(len(query_labels), len(query_labels))
  return Rows(
    class_ids=classes.astype(np.int32),
    support=np.concatenate(support)[support_order].astype(np.int32),
    support_labels=support_labels[support_order].astype(np.int32),
    query=np.concatenate(query)[query_order].astype(np.int32),
    query_labels=query_labels[query_order].astype(np.int32),
  )


class _Words:
  """64-bit random words of one episode, and uniform choices made of them."""

  def __init__(self, seed: int, split: str, index: int):
    # 1 and 1.0 would be two streams that look like one; an episode keeps its
    # index as int32.
    types.check_whole("seed", seed)
    types.check_whole("index", index)
    digest = hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()
    self._philox = np.random.Philox(key=int.from_bytes(digest[:16], "little"))

  def choose(self, population: int, count: int) -> np.ndarray:
    """[count] distinct integers below `population`, in random order.

    The `count` smallest of `population` random words are a uniform subset in
    uniform order; two equal words in 2^64 do not matter.
    """
    keys = self._philox.random_raw(population)
    if count < population:
      chosen = np.argpartition(keys, count)[:count]
    else:
      chosen = np.arange(population)
    return chosen[np.argsort(keys[chosen], kind="stable")]
