"""LaplacianShot: prototypes and a Laplacian over neighbouring queries.

Source: Ziko, Dolz, Granger and Ben Ayed (ICML 2020).
"""

import dataclasses

import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.adapt import bd_cspn, entries, frozen_features, heads, losses

# Of the bound updates, and of the relative change of the energy.
MAX_ITERATIONS = 20
TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class LaplacianShotConfig(frozen_features.TransformedConfig):
  """The defaults are those of one shot on mini-ImageNet with balanced queries;
  the authors choose `laplacian_weight` on the validation classes."""

  laplacian_weight: float = 0.7  # lambda
  neighbours: int = 3  # of a query, itself among them, as the code counts
  # Whether prototypes are rectified as in BD-CSPN, or means of the support.
  rectify: bool = True

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_whole("neighbours", self.neighbours, at_least=1)
    types.check_positive("laplacian_weight", self.laplacian_weight)


def nearest_queries(
  queries: jax.Array, mask: jax.Array, count: int
) -> jax.Array:
  """[T, T], 1 in a row for the `count` nearest other queries of it.

  Not symmetric. Masked queries [T] are nobody's neighbours.
  """
  size = queries.shape[0]
  distances = heads.squared_distances(queries, queries)
  excluded = jnp.eye(size, dtype=bool) | ~mask[None]
  values, columns = jax.lax.top_k(
    jnp.where(excluded, -jnp.inf, -distances), max(min(count, size - 1), 0)
  )
  chosen = jax.nn.one_hot(columns, size, dtype=queries.dtype)
  return jnp.where(jnp.isneginf(values)[..., None], 0, chosen).sum(1)


def assign(
  distances: jax.Array, affinity: jax.Array, mask: jax.Array, weight: float
) -> jax.Array:
  """Logits of the assignments that minimise the bound of the energy.

  Y <- softmax(-a + weight W Y), until the energy sum(Y log Y + a Y - weight Y
  W Y) changes by less than 1e-6 of it, after at least 3 and at most 20 updates.

  Args:
    distances: [T, N], a, with -`losses.ABSENT_LOGIT` for absent classes.
    affinity: [T, T], W.
    mask: [T] bool.
    weight: lambda.

  Returns:
    [T, N].
  """

  def assignments(logits):
    return jnp.where(mask[:, None], jax.nn.softmax(logits), 0)

  def energy(y):
    log_y = jnp.log(jnp.maximum(y, 1e-20))
    return (y * (log_y + distances - weight * (affinity @ y))).sum()

  def is_unfinished(carry):
    _, energy_before, energy_now, done = carry
    change = jnp.abs(energy_now - energy_before)
    is_converged = change <= TOLERANCE * jnp.abs(energy_before)
    return (done < MAX_ITERATIONS) & ~((done > 2) & is_converged)

  def update(carry):
    logits, _, energy_now, done = carry
    logits = weight * (affinity @ assignments(logits)) - distances
    return logits, energy_now, energy(assignments(logits)), done + 1

  zero = jnp.zeros((), distances.dtype)
  start = (-distances, zero, zero, jnp.zeros((), jnp.int32))
  return jax.lax.while_loop(is_unfinished, update, start)[0]


def adapter(
  backbone: types.Backbone, config: LaplacianShotConfig, *, name: str
) -> types.Adapter:
  """Prototypes in `init`; assignments of the queries in `predict`."""
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, config.transform, name
  )

  def init(key, variables, task):
    del key  # Nothing here is random.
    return bd_cspn.start(
      extractor,
      variables,
      task,
      scale=bd_cspn.BdCspnConfig.scale,
      mean="count",
      rectify=config.rectify,
    )

  def predict(state, task):
    queries = extractor.queries(state.variables, task)
    queries = bd_cspn.shifted(queries, task.query_mask, state.shift)
    distances = -heads.nearest(queries, state.prototypes, state.present)
    affinity = nearest_queries(queries, task.query_mask, config.neighbours - 1)
    logits = assign(
      distances, affinity, task.query_mask, config.laplacian_weight
    )
    return jnp.where(state.present[None], logits, losses.ABSENT_LOGIT)

  used = "mean shift, pseudo-labels and neighbours"
  if not config.rectify:
    used = "mean shift and neighbours"
  return frozen_features.without_steps(
    init,
    predict,
    name,
    f"all jointly: {used}; assumes balanced classes",
  )


LAPLACIAN_SHOT = entries.Entry(
  "laplacian_shot",
  adapter,
  LaplacianShotConfig,
  label="LaplacianShot",
  reads="features",
  needs_base_statistics=frozen_features.needs_base_mean,
)
