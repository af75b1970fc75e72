"""PADDLE: soft k-means that favours few classes among the queries.

Source: Martin, Boudiaf, Chouzenoux, Pesquet and Ben Ayed (NeurIPS 2022).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, heads, micro_batches

LOG_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class PaddleConfig(frozen_features.Config):
  """75 is the number of queries of the published episodes."""

  # lambda, the factor of the term that favours few classes; it is divided by
  # the number of queries.
  class_weight: float = 75.0
  iterations: int = 100

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_positive("class_weight", self.class_weight)
    types.check_whole("iterations", self.iterations, at_least=1)


class State(NamedTuple):
  variables: types.Variables
  scale: jax.Array  # [D], multiplies features
  means: jax.Array  # [N, D]
  offset: jax.Array  # [N], lambda / T * v
  present: jax.Array  # [N] bool


def inverse_range(queries: jax.Array, mask: jax.Array) -> jax.Array:
  """[D], 1 / (max - min) over the queries [T, D]; 1 where they are equal.

  Scaling to [0, 1] also subtracts the minimum, which changes no distance.
  """
  inside = mask[:, None]
  high = jnp.max(jnp.where(inside, queries, -jnp.inf), 0, initial=-jnp.inf)
  low = jnp.min(jnp.where(inside, queries, jnp.inf), 0, initial=jnp.inf)
  is_constant = high - low <= 0
  return jnp.where(is_constant, 1, 1 / jnp.where(is_constant, 1, high - low))


def adapter(
  backbone: types.Backbone, config: PaddleConfig, *, name: str
) -> types.Adapter:
  """Assignments, class proportions and means in turn."""
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, "un", name
  )

  def logits(state, queries):
    scores = heads.nearest(queries, state.means, state.present)
    return scores / 2 + state.offset[None]

  def init(key, variables, task):
    del key  # Nothing here is random.
    support = extractor.support(variables, task)
    queries = extractor.queries(variables, task)
    scale = inverse_range(queries, task.query_mask)
    support = support._replace(x=support.x * scale[None])
    queries = queries * scale[None]
    count = jnp.maximum(task.query_mask.sum(), 1).astype(queries.dtype)

    def update(_, state):
      u = jax.nn.softmax(logits(state, queries))
      u = micro_batches.blank(u, task.query_mask)
      proportions = u.sum(0) / count
      v = jnp.log(proportions + LOG_EPSILON) + 1
      total = (support.y.sum(0) + u.sum(0))[:, None]
      means = support.y.T @ support.x + u.T @ queries
      means = means / jnp.where(total > 0, total, 1)
      return state._replace(
        means=means,
        offset=jnp.where(state.present, config.class_weight / count * v, 0),
      )

    start = State(
      variables,
      scale,
      support.means,
      jnp.zeros_like(support.y[0]),
      support.present,
    )
    # `predict` makes the last assignments.
    return jax.lax.fori_loop(0, config.iterations - 1, update, start)

  def predict(state, task):
    queries = extractor.queries(state.variables, task)
    return logits(state, queries * state.scale[None])

  return frozen_features.without_steps(
    init,
    predict,
    name,
    "all jointly: soft pseudo-labels; favours few classes",
  )


PADDLE = entries.Entry(
  "paddle", adapter, PaddleConfig, label="PADDLE", reads="features"
)
