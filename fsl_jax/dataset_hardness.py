"""Hardness of the episodes and classes of a data set, without any method.

A fixed feature extractor gives the cosines that hardness is computed from; its
nearest class mean also gives a prediction for each query.
"""

import contextlib
import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from fsl_jax import diagnosis, types
from fsl_jax import hardness as hardness_lib
from fsl_jax.adapt import losses
from fsl_jax.episodes import feeder, sampler
from fsl_jax.episodes import source as source_lib

METHOD = "nearest class mean"
BATCH_SIZE = 64  # episodes; changes no result


@dataclasses.dataclass(frozen=True)
class EpisodeHardness:
  """Hardness of the episodes of one protocol, from fixed embeddings.

  Attributes:
    result: hardness of n episodes, and accuracy and predictions of the nearest
      class mean, which adapts nothing: the predictions are the initial ones,
      `support_accuracy` is NaN and there are no curves.
    log_odds: [n, T] float64 nats of each query; NaN beyond an episode's own.
      Their mean over an episode is its hardness.
  """

  result: types.EvalResult
  log_odds: np.ndarray


def check(source: source_lib.Source, num_episodes: int) -> None:
  """Raises InputError for whatever `of_source` would refuse."""
  types.check_whole("num_episodes", num_episodes, at_least=1)
  source.check(num_episodes)
  if source.min_ways < 2:
    raise types.InputError(
      f"hardness needs at least 2 ways, but {source.name} has episodes of one"
    )


def of_source(
  source: source_lib.Source,
  embeddings: np.ndarray,
  num_episodes: int,
  *,
  batch_size: int = BATCH_SIZE,
) -> EpisodeHardness:
  """Computes the hardness of episodes 0 to num_episodes - 1 of a source.

  Source: section 4.4, equation 9. No image is read. At most six programs are
  compiled, however much the episodes differ in size.

  Args:
    source: of the episodes.
    embeddings: [n, P] float32 of all images of its data set, see
      `extractors.embeddings`.
    num_episodes: how many.
    batch_size: episodes per call of the compiled program.

  Raises:
    InputError: if the source has not as many episodes, the embeddings are not
      of its images, or an episode has a single way, for which hardness is not
      defined.
  """
  types.check_whole("batch_size", batch_size, at_least=1)
  check(source, num_episodes)
  shapes = source.shapes
  _check_embeddings(embeddings, source.dataset)
  # The same episodes, of embeddings instead of images.
  over_embeddings: source_lib.Source = dataclasses.replace(
    source,  # type: ignore[type-var]
    dataset=source.dataset.with_features(embeddings),
  )
  class_ids = np.full((num_episodes, shapes[-1].ways), -1, np.int64)
  shape = (num_episodes, max(shape.query for shape in shapes))
  labels, predictions = np.full(shape, -1), np.full(shape, -1)
  log_odds = np.full(shape, np.nan)
  hardness = np.full(num_episodes, np.nan)
  digests: dict[int, str] = {}
  requests = feeder.requests(source, num_episodes, batch_size)
  stream = feeder.batches(over_embeddings, requests, batch_size=batch_size)
  with contextlib.closing(stream):
    for batch in stream:
      found = jax.device_get(_hardness(jax.device_put(batch.episodes)))
      # The rows after these are padding.
      episodes, (of_episodes, of_queries) = jax.tree.map(
        lambda x, mask=batch.mask: x[mask], (batch.episodes, found)
      )
      i, own = episodes.index, episodes.task.query_mask
      width = own.shape[1]
      class_ids[i] = episodes.class_ids
      digests.update(zip(i.tolist(), _digests(episodes), strict=True))
      hardness[i] = of_episodes
      labels[i, :width] = np.where(own, episodes.query_labels, -1)
      predictions[i, :width] = np.where(own, of_queries.predictions, -1)
      log_odds[i, :width] = np.where(own, of_queries.log_odds, np.nan)
  own = labels >= 0
  # There was room for more than the largest of these episodes may need.
  ways, width = (class_ids >= 0).sum(1).max(), own.sum(1).max()
  result = types.EvalResult(
    method=METHOD,
    query_use="nothing",
    protocol=source.values(),
    protocol_name=source.name,
    protocol_text=source.text,
    index=np.arange(num_episodes),
    digests=np.asarray([digests[i] for i in range(num_episodes)]),
    class_ids=class_ids[:, :ways],
    labels=labels[:, :width],
    accuracy=((predictions == labels) & own).sum(1) / own.sum(1),
    hardness=hardness,
    predictions=predictions[:, :width],
    initial_predictions=predictions[:, :width],
    support_accuracy=np.full(num_episodes, np.nan),
    curves={},
  )
  return EpisodeHardness(result, log_odds[:, :width])


def _check_embeddings(
  embeddings: np.ndarray, dataset: types.ClassIndexed
) -> None:
  num_images = len(dataset.class_ids)
  if embeddings.ndim != 2 or len(embeddings) != num_images:
    raise types.InputError(
      f"embeddings must be [{num_images}, P], one row per image of "
      f"{dataset.name}, split {dataset.split!r}, got {list(embeddings.shape)}"
    )


def _digests(episodes: types.Episode) -> list[str]:
  """Digests of the stacked episodes."""
  return [
    sampler.digest(classes[classes >= 0], support[support_mask], query[mask])
    for classes, support, support_mask, query, mask in zip(
      episodes.class_ids,
      episodes.support_rows,
      episodes.task.support_mask,
      episodes.query_rows,
      episodes.task.query_mask,
      strict=True,
    )
  ]


@jax.jit
def _hardness(
  episodes: types.Episode,
) -> tuple[jax.Array, hardness_lib.Queries]:
  """Hardness of episodes, [B], and values of their queries, [B, T] each; the
  images of the episodes are embeddings."""

  def of_one(episode):
    task = episode.task
    queries = hardness_lib.of_queries(
      task.support_images,
      task.support_labels,
      task.support_mask,
      task.query_images,
      episode.query_labels,
      task.num_ways,
    )
    return losses.masked_mean(queries.log_odds, task.query_mask), queries

  return jax.lax.map(of_one, episodes)


class Classes(NamedTuple):
  """Classes that have queries, the hardest first."""

  class_ids: np.ndarray  # [c] int64
  log_odds: np.ndarray  # [c] float64 nats, mean over the queries of the class
  accuracy: np.ndarray  # [c] float64 fraction of them, of the nearest mean
  num_queries: np.ndarray  # [c] int64, in all episodes


def by_class(found: EpisodeHardness) -> Classes:
  """Hardness by class: the mean log-odds of the queries of each."""
  true, predicted = diagnosis.query_classes(found.result)
  log_odds = found.log_odds[found.result.labels >= 0]
  class_ids, of_query = np.unique(true, return_inverse=True)
  count = np.bincount(of_query)
  mean = np.bincount(of_query, log_odds) / count
  right = np.bincount(of_query, true == predicted)
  order = np.argsort(-mean, stable=True)
  return Classes(
    class_ids[order], mean[order], (right / count)[order], count[order]
  )


class Pair(NamedTuple):
  """Two classes, and how often one was classified as the other."""

  first: int  # class id, below `second`
  second: int
  num_confused: int  # queries of either that were classified as the other
  num_queries: int  # of either, in episodes that hold both


def confused_pairs(found: EpisodeHardness, num_pairs: int) -> list[Pair]:
  """The pairs with the most confused queries, most first.

  Fewer than `num_pairs` where fewer were confused at all.
  """
  true, predicted = diagnosis.query_classes(found.result)
  wrong = np.sort(np.stack([true, predicted])[:, true != predicted], axis=0)
  pairs, counts = np.unique(wrong, axis=1, return_counts=True)
  order = np.argsort(-counts, stable=True)[:num_pairs]
  return [
    Pair(first, second, count, _num_queries(found.result, first, second))
    for first, second, count in np.vstack([pairs, counts])[:, order].T.tolist()
  ]


def _num_queries(result: types.EvalResult, first: int, second: int) -> int:
  """Queries of two classes in the episodes that hold both."""
  is_first, is_second = result.class_ids == first, result.class_ids == second
  both = is_first.any(1) & is_second.any(1)
  labels = result.labels[both]
  return sum(
    int((labels == label[both].argmax(1)[:, None]).sum())
    for label in (is_first, is_second)
  )
