"""BD-CSPN: prototypes rectified by shifted, pseudo-labelled queries.

Source: Liu, Song and Qin (ECCV 2020, arXiv 1911.10713). There is no code of the
authors; the re-implementations differ, and each difference is an option.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, heads, losses


@dataclasses.dataclass(frozen=True)
class BdCspnConfig(frozen_features.TransformedConfig):
  """The defaults are those of LaplacianShot's code."""

  # Which queries are classified at the end: "shifted" by the difference of
  # support mean and query mean, or as they are, "unshifted".
  classify: Literal["shifted", "unshifted"] = "shifted"
  # What divides the weighted sum of a class: the "count" of its members, whose
  # weights are softmax probabilities, or the sum of the weights, "weight",
  # which are then exp(scale * cosine), as in the paper.
  mean: Literal["count", "weight"] = "count"
  # Of the last comparison with the rectified prototypes.
  distance: Literal["euclidean", "cosine"] = "euclidean"
  scale: float = 10.0  # multiplies the cosines; "temperature" in other codes

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_choice("classify", self.classify, ("shifted", "unshifted"))
    types.check_choice("mean", self.mean, ("count", "weight"))
    types.check_choice("distance", self.distance, ("euclidean", "cosine"))
    types.check_positive("scale", self.scale)


class State(NamedTuple):
  variables: types.Variables
  shift: jax.Array  # [D], added to queries
  prototypes: jax.Array  # [N, D]
  present: jax.Array  # [N] bool


def shifted(x: jax.Array, mask: jax.Array, shift: jax.Array) -> jax.Array:
  """`x` [M, D] + `shift` [D], zeros where `mask` [M] is False."""
  return jnp.where(mask[:, None], x + shift[None], 0)


def rectified(
  support: frozen_features.Support,
  queries: jax.Array,
  query_mask: jax.Array,
  *,
  scale: float,
  mean: str,
) -> jax.Array:
  """Prototypes from all images, each in the class of the nearest prototype.

  c_i = argmax_k cos(x_i, P_k), w_i = softmax_k(scale cos(x_i, P_k)) at c_i;
  P'_k = mean of w_i x_i over the i with c_i = k, support and queries alike. A
  class without any such image keeps its mean of the support.

  Args:
    support: S images of N classes.
    queries: [T, D], shifted.
    query_mask: [T] bool.
    scale: of the cosines.
    mean: as in `BdCspnConfig`.

  Returns:
    [N, D].
  """
  means = support.means
  x = jnp.concatenate([support.x, queries])
  mask = jnp.concatenate([support.mask, query_mask])
  cosines = heads.l2_normalise(x) @ heads.l2_normalise(means).T
  logits = jnp.where(
    support.present[None], scale * cosines, losses.ABSENT_LOGIT
  )
  member = jax.nn.one_hot(logits.argmax(-1), means.shape[0], dtype=x.dtype)
  member = jnp.where(mask[:, None], member, 0)
  # The largest exponent of exp(scale * cosine) cancels in the quotient.
  weights = (
    jax.nn.softmax(logits)
    if mean == "count"
    else jnp.exp(jnp.minimum(logits - scale, 0))
  )
  weights = jnp.where(member > 0, weights, 0)
  total = (member if mean == "count" else weights).sum(0)[:, None]
  # Compared with 0, so that a NaN stays one.
  rectified = (weights.T @ x) / jnp.where(total == 0, 1, total)
  return jnp.where(total == 0, means, rectified)


def adapter(
  backbone: types.Backbone, config: BdCspnConfig, *, name: str
) -> types.Adapter:
  """Bias diminishing (the shift), then cosine-similarity prototypes."""
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, config.transform, name
  )

  def init(key, variables, task):
    del key  # Nothing here is random.
    return start(
      extractor, variables, task, scale=config.scale, mean=config.mean
    )

  def predict(state, task):
    queries = extractor.queries(state.variables, task)
    if config.classify == "shifted":
      queries = shifted(queries, task.query_mask, state.shift)
    if config.distance == "euclidean":
      return heads.nearest(queries, state.prototypes, state.present)
    return heads.cosines(queries, state.prototypes, state.present)

  return frozen_features.without_steps(
    init,
    predict,
    name,
    "all jointly: mean shift and pseudo-labels; assumes balanced classes",
  )


def start(
  extractor: frozen_features.Extractor,
  variables: types.Variables,
  task: types.Task,
  *,
  scale: float,
  mean: str,
  rectify: bool = True,
) -> State:
  """The shift of a task, and its prototypes.

  Args:
    extractor: of the features.
    variables: of the network.
    task: support and queries.
    scale, mean: as for `rectified`.
    rectify: whether prototypes are rectified, or means of the support.
  """
  support = extractor.support(variables, task)
  queries = extractor.queries(variables, task)
  query_mask = jnp.asarray(task.query_mask)
  shift = mean_shift(support, queries, query_mask)
  prototypes = support.means
  if rectify:
    prototypes = rectified(
      support,
      shifted(queries, query_mask, shift),
      query_mask,
      scale=scale,
      mean=mean,
    )
  return State(variables, shift, prototypes, support.present)


def mean_shift(
  support: frozen_features.Support, queries: jax.Array, query_mask: jax.Array
) -> jax.Array:
  """[D], mean of the support minus mean of the queries; 0 without queries."""
  shift = frozen_features.masked_mean(
    support.x, support.mask
  ) - frozen_features.masked_mean(queries, query_mask)
  return jnp.where(query_mask.any(), shift, 0)


BD_CSPN = entries.Entry(
  "bd_cspn",
  adapter,
  BdCspnConfig,
  label="BD-CSPN",
  reads="features",
  needs_base_statistics=frozen_features.needs_base_mean,
)
