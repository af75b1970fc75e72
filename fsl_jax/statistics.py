"""Summary statistics and confidence intervals of values per episode.

Values are fractions (accuracies, or differences of them) unless stated
otherwise; an episode whose value is not finite is left out and counted. NaN
stands for what too few values do not define.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # Its subpackages load when first used; `stats` takes a second.

from fsl_jax import types

WORST_ONE_IN = 20  # episodes: the worst 5 %
# Grid of log-odds of the share in `class_interval`. With twenty times as many
# points an interval changes by less than a thousandth of its width.
_LOG_ODDS = np.linspace(-10, 30, 501)


class Summary(NamedTuple):
  """One method on n episodes."""

  mean: float  # NaN without an episode
  std: float  # of the population; NaN below two episodes
  ci95: float  # half-width, 1.96 std / sqrt(n) (section 4.1); NaN as `std`
  median: float  # NaN as `mean`
  worst: float  # mean of the ceil(n / 20) lowest values; NaN as `mean`
  num: int  # n, the episodes that are finite
  num_left_out: int  # the others


def summary(values: np.ndarray) -> Summary:
  """Summarises one value per episode.

  `worst` is the mean of the worst 5 % of the episodes, known as expected
  shortfall: unlike the minimum it has a limit as episodes are added.

  Args:
    values: [n] float.
  """
  values = _vector("values", values)
  finite = np.sort(values[np.isfinite(values)])
  n = len(finite)
  if n == 0:
    nan = math.nan
    return Summary(nan, nan, nan, nan, nan, 0, len(values))
  return Summary(
    mean=float(finite.mean()),
    std=float(finite.std()) if n > 1 else math.nan,
    ci95=types.half_width(finite),
    median=float(np.median(finite)),
    # A product with 0.05 would round up at 140 episodes.
    worst=float(finite[: math.ceil(n / WORST_ONE_IN)].mean()),
    num=n,
    num_left_out=len(values) - n,
  )


class Paired(NamedTuple):
  """One method minus another on the same n episodes."""

  mean: float  # NaN without an episode finite in both
  ci95: float  # half-width, 1.96 std / sqrt(n); NaN below two episodes
  p_t: float  # two-sided, paired t test
  p_wilcoxon: float  # two-sided, signed ranks, without zero differences
  num_episodes: int  # n, finite in both
  wins: int  # episodes where the first is better
  ties: int
  losses: int


def paired(a: np.ndarray, b: np.ndarray) -> Paired:
  """Compares two methods on the same episodes, as a - b.

  Both p are NaN below two episodes and 1 where all differences are 0. Where
  they are all equal but not 0, the t test is not defined: `p_t` is NaN.

  Args:
    a: [n] float, one value per episode.
    b: [n] float, of the same episodes.

  Raises:
    InputError: if a and b are not vectors of one length.
  """
  a, b = _vector("a", a), _vector("b", b)
  if len(a) != len(b):
    raise types.InputError(
      "a and b must be values of the same episodes, got "
      f"{len(a)} and {len(b)} of them"
    )
  both = np.isfinite(a) & np.isfinite(b)
  # Equal differences must be ties to the ranks, and 3/5 - 2/5 and 4/5 - 3/5 are
  # not equal in the last bit.
  differences = np.round(a[both] - b[both], 12)
  n = len(differences)
  p_t = p_wilcoxon = math.nan
  if n > 1 and not differences.any():
    p_t = p_wilcoxon = 1.0
  elif n > 1:
    p_wilcoxon = float(scipy.stats.wilcoxon(differences).pvalue)
    if np.ptp(differences) > 0:
      p_t = float(scipy.stats.ttest_1samp(differences, 0).pvalue)
  return Paired(
    mean=float(differences.mean()) if n else math.nan,
    ci95=types.half_width(differences),
    p_t=p_t,
    p_wilcoxon=p_wilcoxon,
    num_episodes=n,
    wins=int((differences > 0).sum()),
    ties=int((differences == 0).sum()),
    losses=int((differences < 0).sum()),
  )


class Pooled(NamedTuple):
  """One number of k independent pre-trainings."""

  mean: float
  std: float  # of the sample, k - 1 below; NaN for one seed
  half_width: float  # 95 %, Student's t of k - 1 degrees; NaN for one seed
  num_seeds: int  # k


def pool(means: Sequence[float] | np.ndarray) -> Pooled:
  """Pools one mean per seed; their spread is that of pre-training.

  Args:
    means: [k] float. One that is not finite makes the pooled numbers NaN: a
      failed pre-training is a result and is not left out.

  Raises:
    InputError: if there is no mean.
  """
  means = _vector("means", means)
  k = len(means)
  if k == 0:
    raise types.InputError("means must hold at least one seed, got none")
  if k == 1 or not np.isfinite(means).all():
    mean = float(means[0]) if k == 1 else math.nan
    return Pooled(mean, math.nan, math.nan, k)
  std = float(means.std(ddof=1))
  t = float(scipy.special.stdtrit(k - 1, 0.975))
  return Pooled(float(means.mean()), std, t * std / math.sqrt(k), k)


class Interval(NamedTuple):
  """95 % interval of the mean over episodes of other classes."""

  low: float
  high: float
  num_classes: int  # that any of the episodes holds


def class_interval(values: np.ndarray, class_ids: np.ndarray) -> Interval:
  """The interval of the mean that also covers the sampling of classes.

  A thousand episodes of 20 classes are not a thousand samples of new classes.
  `Summary.ci95` is conditional on the classes: it covers the mean of unlimited
  episodes of these same classes; this interval covers that of episodes of
  classes that were never drawn.

  A value is modelled as the mean of normal effects of the episode's classes,
  plus normal noise. Given the ratio of the two variances the error of the mean
  is Student's t with n - 1 degrees. The ratio is integrated out, with a uniform
  prior on the share of an episode's variance that its classes cause (Daniels,
  "A prior for the variance in hierarchical models", Canadian Journal of
  Statistics, 1999). It has no parameters and is deterministic.

  Coverage of the mean over all classes in 2,000 simulations of 5 ways, effects
  of std 0.1 and noise of 0.08; that of `Summary.ci95` in brackets:

    classes   300 episodes     1,000 episodes
    20        95.3 % (31.9)    96.4 % (20.0)
    55        94.9 % (51.3)    95.5 % (32.9)

  Where classes matter little (effects of 0.02), or pairs of classes have
  effects of their own, coverage is 98 % or more. Resampling classes, with
  products of their counts as an episode's weight (Owen, "The pigeonhole
  bootstrap", 2007), leaves most episodes without weight: its intervals of 300
  episodes are 1.3 (20 classes) to 1.9 times (55) as wide.

  Low and high are NaN below two finite episodes, and where all of them have
  the same classes, whose effects are then not identifiable.

  Args:
    values: [n] float, one per episode.
    class_ids: [n, N] int, the episode's classes; -1 beyond its own.

  Raises:
    InputError: if the shapes do not fit, or a finite episode has no class.
  """
  values, class_ids = _vector("values", values), np.asarray(class_ids)
  if class_ids.ndim != 2 or len(class_ids) != len(values):
    raise types.InputError(
      f"class_ids must be [{len(values)}, N], one row per value, got "
      f"{list(class_ids.shape)}"
    )
  finite = np.isfinite(values)
  values, class_ids = values[finite], class_ids[finite]
  n = len(values)
  shares, squared, directions = _decomposed(
    np.ascontiguousarray(class_ids, np.int64).tobytes(), class_ids.shape
  )
  num_classes = shares.shape[1]
  # Without differences, of classes or of values, the model is not identifiable.
  if n < 2 or not len(squared) or np.ptp(values) == 0:
    return Interval(math.nan, math.nan, num_classes)
  mean = float(values.mean())

  # Along the principal directions the values are independent, of variance
  # noise + effect * squared; what these do not span is noise alone. Without any
  # noise the density would have no end.
  total = np.square(values - mean).sum()
  along = (shares.T @ (values - mean)) @ directions
  projected = np.square(along) / squared
  rest = max(total - projected.sum(), 1e-9 * total)
  ratio = np.exp(_LOG_ODDS) / np.square(shares).sum(1).mean()
  relative = 1 + ratio[:, None] * squared  # variances over noise
  squares = (projected / relative).sum(1) + rest
  log_prior = -np.logaddexp(0, _LOG_ODDS) - np.logaddexp(0, -_LOG_ODDS)
  log_likelihood = -(np.log(relative).sum(1) + (n - 1) * np.log(squares)) / 2
  log_density = log_prior + log_likelihood
  density = np.exp(log_density - log_density.max())
  density /= density.sum()
  of_mean = ratio * np.square(shares.mean(0)).sum() + 1 / n
  scale = np.sqrt(squares / (n - 1) * of_mean)

  def excess(half_width: float) -> float:
    return density @ scipy.special.stdtr(n - 1, -half_width / scale) - 0.025

  widest = 2 * scipy.special.stdtrit(n - 1, 0.975) * scale.max()
  half_width = scipy.optimize.brentq(excess, 0, widest)
  return Interval(mean - half_width, mean + half_width, num_classes)


class _Decomposed(NamedTuple):
  """The classes of episodes, c in all, decomposed by principal directions."""

  shares: np.ndarray  # [n, c], see `_class_shares`
  squared: np.ndarray  # [r], singular values of the centred shares, squared
  directions: np.ndarray  # [c, r], of these


# The methods of a report have the same episodes, and each has several numbers.
@functools.lru_cache(maxsize=2)
def _decomposed(class_ids: bytes, shape: tuple[int, int]) -> _Decomposed:
  shares = _class_shares(np.frombuffer(class_ids, np.int64).reshape(shape))
  if not len(shares):
    return _Decomposed(shares, np.zeros(0), np.zeros((shares.shape[1], 0)))
  centred = shares - shares.mean(0)
  # Of the smaller matrix: mostly there are more episodes than classes, by far.
  is_tall = len(shares) >= shares.shape[1]
  squared, directions = np.linalg.eigh(
    centred.T @ centred if is_tall else centred @ centred.T
  )
  kept = squared > max(1e-18, 1e-12 * squared.max(initial=0.0))
  squared, directions = squared[kept], directions[:, kept]
  if not is_tall:
    directions = centred.T @ directions / np.sqrt(squared)
  return _Decomposed(shares, squared, directions)


def _class_shares(class_ids: np.ndarray) -> np.ndarray:
  """[n, num_classes] float64: 1 / ways at each class of an episode, or 0."""
  own = class_ids >= 0
  if not own.any(1).all():
    raise types.InputError(
      f"class_ids of episode {int(own.any(1).argmin())} of the finite ones "
      "must hold at least one class, got -1 only"
    )
  classes, columns = np.unique(class_ids[own], return_inverse=True)
  shares = np.zeros((len(class_ids), len(classes)))
  shares[np.nonzero(own)[0], columns] = 1
  return shares / shares.sum(1, keepdims=True)


def _vector(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
  values = np.asarray(values, np.float64)
  if values.ndim != 1:
    raise types.InputError(
      f"{name} must be a vector, got the shape {list(values.shape)}"
    )
  return values
