"""How hard an episode is, whatever method is used on it.

Source: section 4.4, equation 9, and the paper's code: the extractor's logits
are normalised without a ReLU, and the softmax of cosines has temperature 1.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import augment, types
from fsl_jax.adapt import heads, losses, micro_batches

MICRO_BATCH = 75  # images; bounds memory, changes no result

ExtractFn = Callable[[types.Variables, types.Array], jax.Array]


def log_odds(
  support: types.Array,
  support_labels: types.Array,
  support_mask: types.Array,
  query: types.Array,
  query_labels: types.Array,
  query_mask: types.Array,
  num_ways: int,
) -> jax.Array:
  """Mean over queries of log((1 - p) / p), p of the true class (eq. 9).

  p is the softmax over cosines between a query and the class weights, which
  are the normalised means of raw support embeddings. Uniform p gives
  log(N - 1); a single way, where p = 1, gives -inf.

  Args:
    support: [S, P] embeddings, un-normalised.
    support_labels: [S] int32 in [0, N).
    support_mask: [S] bool.
    query: [T, P] embeddings.
    query_labels: [T] int32 in [0, N).
    query_mask: [T] bool.
    num_ways: N.

  Returns:
    [] float32, nats (unbatched).
  """
  head = heads.support_init(support, support_labels, support_mask, num_ways)
  present = heads.present_classes(support_labels, support_mask, num_ways)
  cosines = heads.classify(head, query, present)
  true = jax.nn.one_hot(query_labels, num_ways, dtype=bool)
  # log((1 - p) / p) without forming p: sum over the others, minus the own.
  others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, cosines), axis=-1)
  own = jnp.where(true, cosines, 0).sum(-1)
  return losses.masked_mean(others - own, query_mask)


def extractor(backbone: types.Backbone) -> ExtractFn:
  """A network's base-class logits, un-augmented, running statistics."""

  def extract(variables, images):
    def logits(chunk):
      prepared = augment.prepare(chunk)
      return backbone.apply(variables, prepared, train=False)[0].logits

    return micro_batches.apply(logits, MICRO_BATCH, images)

  return extract


def of_episode(
  extract: ExtractFn, variables: types.Variables, episode: types.Episode
) -> jax.Array:
  """Hardness of an episode by an extractor: [] float32 (unbatched)."""
  task = episode.task
  return log_odds(
    extract(variables, task.support_images),
    task.support_labels,
    task.support_mask,
    extract(variables, task.query_images),
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
  if len(x) < 2 or spread <= 1e-12:
    return None
  slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
  intercept = float(y.mean() - slope * x.mean())
  area = float("nan")
  if slope < 0 < intercept:
    area = 100 * intercept**2 / (-2 * slope)
  return Line(slope, intercept, area, len(x))


class LineInterval(NamedTuple):
  """95 % bootstrap intervals, (low, high), of a line's numbers."""

  slope: tuple[float, float]
  intercept: tuple[float, float]
  area: tuple[float, float]


def line_interval(
  hardness: Sequence[np.ndarray], accuracy: Sequence[np.ndarray]
) -> LineInterval | None:
  """Of the line through all of them; protocols are resampled apart."""
  if fit_line(np.concatenate(hardness), np.concatenate(accuracy)) is None:
    return None
  rng = np.random.default_rng(0)
  lines = []
  for _ in range(200):
    rows = [rng.integers(0, len(x), len(x)) for x in hardness]
    line = fit_line(
      np.concatenate([x[r] for x, r in zip(hardness, rows, strict=True)]),
      np.concatenate([y[r] for y, r in zip(accuracy, rows, strict=True)]),
    )
    if line is not None:
      lines.append(line[:3])
  low, high = np.quantile(np.array(lines), [0.025, 0.975], axis=0)
  return LineInterval(*zip(low.tolist(), high.tolist(), strict=True))
