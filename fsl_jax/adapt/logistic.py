"""Multinomial logistic regression on normalised features, to convergence.

Source: Tian et al., Rethinking Few-Shot Image Classification (ECCV 2020), whose
code fits scikit-learn's LogisticRegression with C = 1.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, losses

MAX_NEWTON = 100  # Steps; usually three to seven are taken.
# Lengths of a Newton step, of which the one of least objective is taken.
_LENGTHS = tuple(0.5**i for i in range(12))


@dataclasses.dataclass(frozen=True)
class LogisticConfig(frozen_features.Config):
  """The default is scikit-learn's."""

  c: float = 1.0  # C, the factor of the summed cross-entropy

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_positive("c", self.c)


class Linear(NamedTuple):
  weight: jax.Array  # [N, D]
  bias: jax.Array  # [N]

  def __call__(self, x: jax.Array) -> jax.Array:
    """[M, D] -> [M, N]."""
    return x @ self.weight.T + self.bias[None]


class State(NamedTuple):
  variables: types.Variables
  head: Linear
  present: jax.Array  # [N] bool


def fit(support: frozen_features.Support, c: float) -> Linear:
  """Minimises c * sum of the cross-entropies + ||W||^2 / 2, b unpenalised.

  By Newton's method, each step solved by conjugate gradients and shortened
  where that lowers the objective, until no component of the gradient exceeds
  16 machine epsilons times the number of images.
  """
  x, y, mask, present = support
  # The optimum lies in the span of the support: at most S coordinates.
  basis, coordinates = jnp.linalg.qr(x.T)
  x = coordinates.T  # [S, min(S, D)]

  def masked(logits):
    return jnp.where(present[None], logits, losses.ABSENT_LOGIT)

  def probabilities(head):
    return jnp.where(mask[:, None], jax.nn.softmax(masked(head(x))), 0)

  # The same bias for all classes changes no probability; without a second
  # penalty on the sum of the biases, which is 0 at the optimum, rounding would
  # decide on it.
  def adjoint(residual, head):
    """Of the linear map of a head to its logits, plus those of the penalties,
    whose Hessian is the same map."""
    tie = jnp.where(present, head.bias, 0).sum()
    bias = c * residual.sum(0) + jnp.where(present, tie, 0)
    return Linear(c * residual.T @ x + head.weight, bias)

  def gradient(head):
    return adjoint(probabilities(head) - y, head)

  def objective(head):
    values = losses.cross_entropy(masked(head(x)), y.argmax(-1))
    loss = jnp.where(mask, values, 0).sum()
    tie = jnp.where(present, head.bias, 0).sum()
    return c * loss + (jnp.square(head.weight).sum() + tie**2) / 2

  def largest(tree):
    leaves = jax.tree.leaves(tree)
    return jnp.stack([jnp.abs(leaf).max() for leaf in leaves]).max()

  count = jnp.maximum(mask.sum(), 1).astype(x.dtype)
  tolerance = 16 * jnp.finfo(x.dtype).eps * c * count

  def is_unfinished(carry):
    head, done = carry
    return (done < MAX_NEWTON) & (largest(gradient(head)) > tolerance)

  def newton(carry):
    head, done = carry
    p = probabilities(head)

    def hessian(direction):
      change = p * direction(x)
      change = change - p * change.sum(-1, keepdims=True)
      return adjoint(change, direction)

    direction, _ = jax.scipy.sparse.linalg.cg(
      hessian, gradient(head), tol=1e-6, maxiter=200
    )
    lengths = jnp.asarray(_LENGTHS, x.dtype)

    def moved(length):
      return jax.tree.map(lambda a, b: a - length * b, head, direction)

    values = jax.vmap(lambda length: objective(moved(length)))(lengths)
    # The longest of those that are equal up to rounding.
    rounding = 16 * jnp.finfo(x.dtype).eps * jnp.abs(values.min())
    best = lengths[(values <= values.min() + rounding).argmax()]
    return moved(best), done + 1

  start = Linear(
    jnp.zeros((y.shape[1], x.shape[1]), x.dtype), jnp.zeros_like(y[0])
  )
  head, _ = jax.lax.while_loop(
    is_unfinished, newton, (start, jnp.zeros((), jnp.int32))
  )
  return Linear(head.weight @ basis.T, head.bias)


def adapter(
  backbone: types.Backbone, config: LogisticConfig, *, name: str
) -> types.Adapter:
  """A linear classifier of x / ||x||; the queries are not used."""
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, "l2n", name
  )

  def init(key, variables, task):
    del key  # Nothing here is random.
    support = extractor.support(variables, task)
    return State(variables, fit(support, config.c), support.present)

  def predict(state, task):
    logits = state.head(extractor.queries(state.variables, task))
    return jnp.where(state.present[None], logits, losses.ABSENT_LOGIT)

  return frozen_features.without_steps(init, predict, name, "none")


LOGISTIC = entries.Entry(
  "logistic",
  adapter,
  LogisticConfig,
  label="logistic regression",
  reads="features",
)
