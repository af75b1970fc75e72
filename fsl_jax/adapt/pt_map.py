"""PT+NCM and PT-MAP: power transform, then nearest class means or optimal
transport.

Source: Hu, Gripon and Pateux (arXiv 2006.03806). Their reduction of the feature
width by a QR decomposition keeps all distances and is left out. Their Sinkhorn
loop stops when all episodes of a batch have converged; here each episode stops
by itself.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, heads, losses, micro_batches

POWER_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class PtNcmConfig(frozen_features.Config):
  """The power transform has exponent 1/2."""

  # sqrt(x + 1e-6) is not defined for negative features: "refuse" raises for
  # cached ones, and makes the logits NaN where a network computes them, which
  # counts as diverged; "signed" is sign(x) sqrt(|x|), as in the code of iLPC.
  negative: Literal["refuse", "signed"] = "refuse"

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_choice("negative", self.negative, ("refuse", "signed"))


@dataclasses.dataclass(frozen=True)
class PtMapConfig(PtNcmConfig):
  """The defaults are the published ones."""

  # "told": every class has T / N queries, which is the truth of a balanced
  # episode and a leak of the protocol. "unknown": no constraint on the classes,
  # so that assignments are a softmax of the distances.
  balance: Literal["told", "unknown"] = "told"
  iterations: int = 20  # moves of the class means
  rate: float = 0.2  # of a move, the share of the new mean
  scale: float = 10.0  # multiplies squared distances, 1 / the regularisation
  tolerance: float = 1e-6  # of the row sums, Sinkhorn's stopping rule
  max_sinkhorn: int = 1000

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_choice("balance", self.balance, ("told", "unknown"))
    types.check_whole("iterations", self.iterations)
    types.check_whole("max_sinkhorn", self.max_sinkhorn, at_least=1)
    for name in ("rate", "scale", "tolerance"):
      types.check_positive(name, getattr(self, name))


def power_transform(x: jax.Array, negative: str) -> jax.Array:
  """[M, D]; NaN for a negative value that is not to be signed."""
  if negative == "signed":
    return jnp.sign(x) * jnp.sqrt(jnp.abs(x))
  return jnp.where(x < 0, jnp.nan, jnp.sqrt(jnp.maximum(x, 0) + POWER_EPSILON))


def centred(x: jax.Array, mask: jax.Array, negative: str) -> jax.Array:
  """Power transform, unit norm, minus the mean of this set, unit norm.

  Args:
    x: [M, D], support or queries.
    mask: [M] bool.
    negative: as in `PtNcmConfig`.

  Returns:
    [M, D], zeros where masked.
  """
  x = micro_batches.blank(
    heads.l2_normalise(power_transform(x, negative)), mask
  )
  x = x - frozen_features.masked_mean(x, mask)[None]
  return micro_batches.blank(heads.l2_normalise(x), mask)


def sinkhorn(
  kernel: jax.Array,
  rows: jax.Array,
  columns: jax.Array,
  *,
  tolerance: float,
  max_iterations: int,
) -> jax.Array:
  """Scales rows, then columns, until the sums of the rows hardly change.

  Args:
    kernel: [T, N], at least 0.
    rows: [T], the sums that rows are to have; 0 leaves a row at 0.
    columns: [N], those of the columns.
    tolerance: of the largest change of a row sum in one iteration.
    max_iterations: after which it ends in any case.

  Returns:
    [T, N], with these column sums and nearly these row sums.
  """

  def divide(a, b):
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

  def is_unfinished(carry):
    plan, before, done = carry
    change = jnp.abs(plan.sum(1) - before)
    return (done < max_iterations) & (change > tolerance).any()

  def scale(carry):
    plan, _, done = carry
    before = plan.sum(1)
    plan = plan * divide(rows, before)[:, None]
    plan = plan * divide(columns, plan.sum(0))[None]
    return plan, before, done + 1

  plan = kernel / jnp.maximum(kernel.sum(), jnp.finfo(kernel.dtype).tiny)
  start = (plan, jnp.zeros_like(rows), jnp.zeros((), jnp.int32))
  return jax.lax.while_loop(is_unfinished, scale, start)[0]


def _plan(config, queries, mask, means, present):
  """[T, N], share of each class in each query."""
  logits = config.scale * heads.nearest(queries, means, present)
  if config.balance == "unknown":
    return jnp.where(mask[:, None], jax.nn.softmax(logits), 0)
  rows = mask.astype(queries.dtype)
  columns = present.astype(queries.dtype)
  columns = columns * rows.sum() / jnp.maximum(columns.sum(), 1)
  return sinkhorn(
    jnp.where(mask[:, None], jnp.exp(logits), 0),
    rows,
    columns,
    tolerance=config.tolerance,
    max_iterations=config.max_sinkhorn,
  )


def _check(backbone, config, name):
  """The `check` of an adapter: whether cached features are at least 0."""

  def check(tasks):
    for part in ("support", "query"):
      images = getattr(tasks, f"{part}_images")
      mask = getattr(tasks, f"{part}_mask")
      if not types.is_concrete(images, mask):
        continue
      images, mask = jax.device_get((images, mask))
      outputs, _ = backbone.apply({"params": {}}, images[mask], train=False)
      lowest = outputs.features.min(initial=0)
      if lowest < 0:
        raise types.InputError(
          f"{name} takes the square root of features, and the {part} features "
          f'go down to {lowest:.3g}; expected at least 0, or negative="signed"'
        )

  is_cached = backbone.name == "identity"
  return check if is_cached and config.negative == "refuse" else None


def _extractor(backbone, config, name):
  return frozen_features.Extractor(backbone, config.micro_batch, "un", name)


def _support(extractor, config, variables, task):
  support = extractor.support(variables, task)
  return support._replace(x=centred(support.x, support.mask, config.negative))


def _queries(extractor, config, variables, task):
  queries = extractor.queries(variables, task)
  return centred(queries, task.query_mask, config.negative)


def nearest_mean(
  backbone: types.Backbone, config: PtNcmConfig, *, name: str
) -> types.Adapter:
  """PT+NCM: inductive but for the mean of the queries, which centres them."""
  extractor = _extractor(backbone, config, name)

  def init(key, variables, task):
    del key  # Nothing here is random.
    support = _support(extractor, config, variables, task)
    return frozen_features.ClassMeans(variables, support.means, support.present)

  def predict(state, task):
    queries = _queries(extractor, config, state.variables, task)
    return heads.nearest(queries, state.means, state.present)

  return frozen_features.without_steps(
    init,
    predict,
    name,
    "all jointly: mean of the queries",
    check=_check(backbone, config, name),
  )


def optimal_transport(
  backbone: types.Backbone, config: PtMapConfig, *, name: str
) -> types.Adapter:
  """PT-MAP: class means moved towards those of a transport plan."""
  extractor = _extractor(backbone, config, name)

  def init(key, variables, task):
    del key  # Nothing here is random.
    support = _support(extractor, config, variables, task)
    queries = _queries(extractor, config, variables, task)

    def move(_, means):
      plan = _plan(config, queries, task.query_mask, means, support.present)
      total = (support.y.sum(0) + plan.sum(0))[:, None]
      new = (support.y.T @ support.x + plan.T @ queries) / jnp.where(
        total > 0, total, 1
      )
      return means + config.rate * (new - means)

    means = jax.lax.fori_loop(0, config.iterations, move, support.means)
    return frozen_features.ClassMeans(variables, means, support.present)

  def predict(state, task):
    queries = _queries(extractor, config, state.variables, task)
    plan = _plan(config, queries, task.query_mask, state.means, state.present)
    logits = jnp.log(jnp.maximum(plan, jnp.finfo(plan.dtype).tiny))
    return jnp.where(state.present[None], logits, losses.ABSENT_LOGIT)

  used = "soft pseudo-labels"
  if config.balance == "told":
    used = "optimal transport; told the number of queries per class"
  return frozen_features.without_steps(
    init,
    predict,
    name,
    f"all jointly: {used}",
    check=_check(backbone, config, name),
  )


PT_NCM = entries.Entry(
  "pt_ncm", nearest_mean, PtNcmConfig, label="PT+NCM", reads="features"
)
PT_MAP = entries.Entry(
  "pt_map", optimal_transport, PtMapConfig, label="PT-MAP", reads="features"
)
