"""Ridge regression on one-hot labels, by the rule of R2D2 or of big_vision.

Sources: Bertinetto et al. (ICLR 2019), with the constant of MetaOptNet's code;
the few-shot probe of google-research/big_vision.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.linalg

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, losses, micro_batches

_L2 = {"r2d2": 50.0, "big_vision": 1024.0}
STD_EPSILON = 1e-5
BIAS_FEATURE = 100.0


@dataclasses.dataclass(frozen=True)
class RidgeConfig(frozen_features.Config):
  """Features are taken as they are, not normalised to length 1."""

  # "r2d2": one-hot targets, no intercept. "big_vision": features standardised
  # by mean and deviation of the support, one more feature of value 100, targets
  # 1 and -1.
  rule: Literal["r2d2", "big_vision"] = "r2d2"
  # lambda; "by_rule" is 50 by R2D2's rule and 1024 by big_vision's.
  l2: float | Literal["by_rule"] = "by_rule"

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_choice("rule", self.rule, tuple(_L2))
    if self.l2 != "by_rule":
      types.check_positive("l2", self.l2)


class State(NamedTuple):
  variables: types.Variables
  centre: jax.Array  # [D], subtracted from features
  deviation: jax.Array  # [D], divides them
  weight: jax.Array  # [N, D]
  bias: jax.Array  # [N]
  present: jax.Array  # [N] bool


def solve(x: jax.Array, y: jax.Array, l2: float) -> jax.Array:
  """(X'X + l2 I)^-1 X'Y, computed as X'(XX' + l2 I)^-1 Y.

  Args:
    x: [S, D], zeros where masked.
    y: [S, N], zeros where masked.
    l2: positive.

  Returns:
    [D, N].
  """
  gram = x @ x.T + l2 * jnp.eye(x.shape[0], dtype=x.dtype)
  return x.T @ jax.scipy.linalg.solve(gram, y, assume_a="pos")


def adapter(
  backbone: types.Backbone, config: RidgeConfig, *, name: str
) -> types.Adapter:
  """A linear classifier in closed form; the queries are not used."""
  l2 = _L2[config.rule] if config.l2 == "by_rule" else config.l2
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, "un", name
  )

  def init(key, variables, task):
    del key  # Nothing here is random.
    x, y, mask, present = extractor.support(variables, task)
    if config.rule == "r2d2":
      zero = jnp.zeros_like(x[0])
      weight = solve(x, y, l2).T
      bias = jnp.zeros_like(y[0])
      return State(variables, zero, zero + 1, weight, bias, present)
    centre = frozen_features.masked_mean(x, mask)
    x = micro_batches.blank(x - centre[None], mask)
    variance = frozen_features.masked_mean(jnp.square(x), mask)
    deviation = jnp.sqrt(variance) + STD_EPSILON
    last = BIAS_FEATURE * mask[:, None].astype(x.dtype)
    x = jnp.concatenate([x / deviation[None], last], 1)
    weight = solve(x, micro_batches.blank(2 * y - 1, mask), l2).T
    return State(
      variables,
      centre,
      deviation,
      weight[:, :-1],
      BIAS_FEATURE * weight[:, -1],
      present,
    )

  def predict(state, task):
    queries = extractor.queries(state.variables, task)
    queries = (queries - state.centre[None]) / state.deviation[None]
    logits = queries @ state.weight.T + state.bias[None]
    return jnp.where(state.present[None], logits, losses.ABSENT_LOGIT)

  return frozen_features.without_steps(init, predict, name, "none")


RIDGE = entries.Entry(
  "ridge", adapter, RidgeConfig, label="ridge regression", reads="features"
)
