"""Hardness of an episode, independent of the method that is evaluated.

Source: section 4.4, equation 9, and the paper's code: the extractor's logits
are normalised without a ReLU, and the softmax of cosines has temperature 1.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import augment, programs, types
from fsl_jax.adapt import heads, losses

_MIN_SPREAD = 1e-12  # nats^2; hardness that varies less defines no line

ExtractFn = Callable[[types.Variables, types.Array], jax.Array]


class Queries(NamedTuple):
  """Hardness of each query of an episode, from fixed embeddings."""

  log_odds: jax.Array  # [T] float32, nats
  predictions: jax.Array  # [T] int32 in [0, N), the nearest class mean


def of_queries(
  support: types.Array,
  support_labels: types.Array,
  support_mask: types.Array,
  query: types.Array,
  query_labels: types.Array,
  num_ways: int,
) -> Queries:
  """log((1 - p) / p) of each query, p of the true class (eq. 9).

  p is the softmax over cosines between a query and the class weights, which
  are the normalised means of raw support embeddings. Uniform p gives
  log(N - 1); a single way, where p = 1, gives -inf.

  Args:
    support: [S, P] embeddings, un-normalised.
    support_labels: [S] int32 in [0, N).
    support_mask: [S] bool.
    query: [T, P] embeddings.
    query_labels: [T] int32 in [0, N).
    num_ways: N.
  """
  types.check_labels("support_labels", support_labels, support_mask, num_ways)
  mask = np.ones(query_labels.shape, bool)
  types.check_labels("query_labels", query_labels, mask, num_ways)
  return _of_queries(
    support, support_labels, support_mask, query, query_labels, num_ways
  )


# Compiled, since `jax.debug_infs` would otherwise check intermediate results.
@functools.partial(jax.jit, static_argnums=5, inline=True)
def _of_queries(
  support, support_labels, support_mask, query, query_labels, num_ways
):
  head = heads.support_init(support, support_labels, support_mask, num_ways)
  present = heads.present_classes(support_labels, support_mask, num_ways)
  cosines = heads.classify(head, query, present)
  true = jax.nn.one_hot(query_labels, num_ways, dtype=bool)
  # log((1 - p) / p) without forming p: sum over the others, minus the own.
  others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, cosines), axis=-1)
  own = jnp.where(true, cosines, 0).sum(-1)
  return Queries(others - own, cosines.argmax(-1))


def log_odds(
  support: types.Array,
  support_labels: types.Array,
  support_mask: types.Array,
  query: types.Array,
  query_labels: types.Array,
  query_mask: types.Array,
  num_ways: int,
) -> jax.Array:
  """Hardness of an episode: [] float32, nats (unbatched).

  The mean of `of_queries` over the queries where `query_mask` [T] is True;
  the other arguments are those of `of_queries`.
  """
  queries = of_queries(
    support, support_labels, support_mask, query, query_labels, num_ways
  )
  return losses.masked_mean(queries.log_odds, query_mask)


@programs.kept
def extractor(backbone: types.Backbone) -> ExtractFn:
  """A network's base-class logits, un-augmented, running statistics."""

  def extract(variables, images):
    return heads.embed_images(backbone, variables, images, input="logits")

  return programs.Checked(
    extract,
    lambda variables, images: augment.check_normalised("images", images),
    inline=True,
  )


def of_episode(
  extract: ExtractFn, variables: types.Variables, episode: types.Episode
) -> jax.Array:
  """Hardness of an episode by an extractor: [] float32 (unbatched)."""
  task = episode.task
  embeddings = (
    extract(variables, task.support_images),
    extract(variables, task.query_images),
  )
  return of_embeddings(episode, embeddings)


def of_embeddings(
  episode: types.Episode, embeddings: tuple[types.Array, types.Array]
) -> jax.Array:
  """Hardness by embeddings [S, P] and [T, P]: [] float32 (unbatched)."""
  task = episode.task
  support, query = embeddings
  return log_odds(
    support,
    task.support_labels,
    task.support_mask,
    query,
    episode.query_labels,
    task.query_mask,
    task.num_ways,
  )


class Line(NamedTuple):
  """Least-squares line of accuracy over hardness."""

  slope: float  # accuracy fraction per nat
  intercept: float  # accuracy fraction at hardness 0
  area: float  # under the line in the first quadrant, percent x nats
  num_episodes: int


def fit_line(hardness: np.ndarray, accuracy: np.ndarray) -> Line | None:
  """Fits the line of Figure 3; None where no line is defined.

  Area = intercept^2 / (-2 slope), accuracy in percent as the paper quotes it.
  It is NaN unless the line falls and starts above 0.

  Args:
    hardness: [n], nats.
    accuracy: [n] fractions in [0, 1]; episodes where either is not finite are
      left out.
  """
  good = np.isfinite(hardness) & np.isfinite(accuracy)
  x = np.asarray(hardness, np.float64)[good]
  y = np.asarray(accuracy, np.float64)[good]
  spread = np.square(x - x.mean()).sum() if len(x) else 0.0
  if len(x) < 2 or spread <= _MIN_SPREAD:
    return None
  slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
  intercept = float(y.mean() - slope * x.mean())
  area = float("nan")
  if slope < 0 < intercept:
    area = 100 * intercept**2 / (-2 * slope)
  return Line(slope, intercept, area, len(x))


class LineInterval(NamedTuple):
  """95 % intervals (low, high) of a line; units as in `Line`."""

  slope: tuple[float, float]
  intercept: tuple[float, float]
  area: tuple[float, float]


def line_interval(
  hardness: Sequence[np.ndarray],
  accuracy: Sequence[np.ndarray],
  *,
  num_resamples: int = 1000,
  seed: int = 0,
) -> LineInterval | None:
  """Percentile bootstrap of `fit_line` through the episodes of all protocols.

  The episodes of each protocol are resampled among themselves, so the numbers
  of episodes stay as they are; the interval is conditional on the classes. None
  where `fit_line` gives None. Slope and intercept are NaN if a resample has no
  line, which happens with a handful of episodes only; area is NaN also if the
  line of a resample encloses none.

  Args:
    hardness: one [n_p] per protocol p, nats.
    accuracy: one [n_p] per protocol, fractions in [0, 1]; episodes where
      either is not finite are left out.
    num_resamples: how many lines the percentiles are of.
    seed: of the resamples; the same one gives the same intervals.

  Raises:
    InputError: if hardness and accuracy are not of the same episodes.
  """
  lines = _resampled(hardness, accuracy, num_resamples, seed)
  return None if lines is None else LineInterval(*map(_percentiles, lines))


class AreaDifference(NamedTuple):
  """The area of one method minus that of another, on the same episodes."""

  area: float  # percent times nats
  interval: tuple[float, float]  # 95 %
  num_episodes: int  # finite in both


def area_difference(
  hardness: Sequence[np.ndarray],
  accuracy: Sequence[np.ndarray],
  other: Sequence[np.ndarray],
  *,
  num_resamples: int = 1000,
  seed: int = 0,
) -> AreaDifference | None:
  """Area of `accuracy` minus that of `other`, with a paired bootstrap.

  Each resample draws the same episodes for both, so that variation between
  episodes cancels and the interval is often much narrower than those of the two
  areas. None if either has no line or no area.

  Args:
    hardness: one [n_p] per protocol p, nats, of the episodes of both.
    accuracy: one [n_p] per protocol, fractions in [0, 1]; episodes where one
      of the three is not finite are left out.
    other: likewise.
    num_resamples: as for `line_interval`.
    seed: of the resamples.

  Raises:
    InputError: as `line_interval`.
  """
  _check_same(hardness, accuracy)
  _check_same(hardness, other)
  # NaN where the other is, so that both resample the same episodes.
  one, two = (
    [np.where(np.isfinite(b), a, np.nan) for a, b in zip(x, y, strict=True)]
    for x, y in ((accuracy, other), (other, accuracy))
  )
  x = np.concatenate(hardness)
  lines = [fit_line(x, np.concatenate(y)) for y in (one, two)]
  if lines[0] is None or lines[1] is None:
    return None
  if math.isnan(lines[0].area) or math.isnan(lines[1].area):
    return None
  resampled = [_resampled(hardness, y, num_resamples, seed) for y in (one, two)]
  areas = [found[-1] for found in resampled if found is not None]
  return AreaDifference(
    lines[0].area - lines[1].area,
    _percentiles(areas[0] - areas[1]),
    lines[0].num_episodes,
  )


def _resampled(
  hardness: Sequence[np.ndarray],
  accuracy: Sequence[np.ndarray],
  num_resamples: int,
  seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
  """Slope, intercept and area of each resample, [num_resamples] each.

  With equal numbers of episodes and one seed, the same episodes are resampled.
  """
  types.check_whole("num_resamples", num_resamples, at_least=1)
  _check_same(hardness, accuracy)
  whole = np.concatenate(hardness), np.concatenate(accuracy)
  line = fit_line(*whole)
  if line is None:
    return None
  good = np.isfinite(whole[0]) & np.isfinite(whole[1])
  x_mean, y_mean = (np.asarray(v, np.float64)[good].mean() for v in whole)
  rng = np.random.default_rng(seed)
  sums = np.zeros((num_resamples, 4))
  for x, y in zip(hardness, accuracy, strict=True):
    good = np.isfinite(x) & np.isfinite(y)
    n = int(good.sum())
    if n == 0:
      continue
    # Around the means, so that the differences of sums below lose no digits.
    x = np.asarray(x, np.float64)[good] - x_mean
    y = np.asarray(y, np.float64)[good] - y_mean
    counts = rng.multinomial(n, np.full(n, 1 / n), num_resamples)
    sums += counts @ np.stack([x, y, x * x, x * y], axis=1)
  dx, dy, xx, xy = sums.T / line.num_episodes
  spread = xx - dx**2
  has_line = line.num_episodes * spread > _MIN_SPREAD
  slope = (xy - dx * dy) / np.where(has_line, spread, np.nan)
  intercept = y_mean + dy - slope * (x_mean + dx)
  encloses = (slope < 0) & (intercept > 0)
  area = 100 * intercept**2 / (-2 * np.where(encloses, slope, np.nan))
  return slope, intercept, area


def _check_same(
  hardness: Sequence[np.ndarray], accuracy: Sequence[np.ndarray]
) -> None:
  sizes = [np.shape(x) for x in hardness], [np.shape(y) for y in accuracy]
  if sizes[0] != sizes[1] or not sizes[0]:
    raise types.InputError(
      "hardness and accuracy must be of the same episodes of at least one "
      f"protocol, got the shapes {sizes[0]} and {sizes[1]}"
    )


def _percentiles(values: np.ndarray) -> tuple[float, float]:
  low, high = np.percentile(values, [2.5, 97.5])
  return float(low), float(high)
