"""Linear heads over frozen features that are trained by gradient descent.

One loop for all of them: the weight of each class starts as the mean of its
support and follows Adam on the gradient of a loss of support and queries.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, losses


@dataclasses.dataclass(frozen=True)
class Config(frozen_features.Config):
  """Options of every head that Adam trains."""

  iterations: int = 100
  learning_rate: float = 1e-3  # Adam's, constant
  scale: float = 15.0  # multiplies cosines or distances in the logits

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_whole("iterations", self.iterations)
    types.check_positive("learning_rate", self.learning_rate)
    types.check_positive("scale", self.scale)


class HeadState(NamedTuple):
  """What one episode carries from step to step."""

  variables: types.Variables
  support: frozen_features.Support
  queries: jax.Array | None  # [T, D]; None where the method is inductive
  weight: jax.Array  # [N, D]
  optimizer_state: Any


class LogitsFn(Protocol):
  def __call__(
    self, weight: jax.Array, x: jax.Array, present: jax.Array
  ) -> jax.Array:
    """[N, D], [M, D], [N] bool -> [M, N] logits."""


class LossFn(Protocol):
  def __call__(
    self,
    support: frozen_features.Support,
    support_logits: jax.Array,
    query_logits: jax.Array | None,
    query_mask: jax.Array,
  ) -> jax.Array:
    """[S, N] and [T, N] logits -> [], what is minimised."""


@dataclasses.dataclass(frozen=True)
class Trainer:
  """`init`, `step` and `predict` of an `Adapter`, made of logits and loss."""

  extractor: frozen_features.Extractor
  config: Config
  logits: LogitsFn
  loss: LossFn
  query_use: str

  @property
  def _optimizer(self) -> optax.GradientTransformation:
    return optax.adam(self.config.learning_rate)

  def adapter(self) -> types.Adapter:
    return types.Adapter(
      self.init,
      self.step,
      self.predict,
      self.config.iterations,
      self.extractor.name,
      self.query_use,
    )

  def init(self, key, variables, task):
    del key  # Nothing here is random.
    is_transductive = self.query_use != "none"
    state = start(self.extractor, variables, task, is_transductive)
    return state._replace(optimizer_state=self._optimizer.init(state.weight))

  def step(self, state, task):
    def loss_fn(weight):
      support_logits, query_logits = set_logits(state, weight, self.logits)
      loss = self.loss(
        state.support, support_logits, query_logits, task.query_mask
      )
      return loss, (support_logits, query_logits)

    (loss, logits), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
      state.weight
    )
    # Optax takes powers of an integer step, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
      updates, optimizer_state = self._optimizer.update(
        gradient, state.optimizer_state, state.weight
      )
    state = state._replace(
      weight=optax.apply_updates(state.weight, updates),
      optimizer_state=optimizer_state,
    )
    is_finite = jnp.isfinite(loss) & jnp.isfinite(state.weight).all()
    return state, info(state.support, logits, task.query_mask, is_finite)

  def predict(self, state, task):
    queries = self.extractor.queries(state.variables, task)
    return self.logits(state.weight, queries, state.support.present)


def start(
  extractor: frozen_features.Extractor,
  variables: types.Variables,
  task: types.Task,
  is_transductive: bool,
) -> HeadState:
  """The state of class means; its optimizer has no state yet."""
  support = extractor.support(variables, task)
  queries = extractor.queries(variables, task) if is_transductive else None
  return HeadState(variables, support, queries, support.means, None)


def set_logits(
  state: HeadState, weight: jax.Array, logits: LogitsFn
) -> tuple[jax.Array, jax.Array | None]:
  """[S, N] logits of the support, and [T, N] of the queries if used."""
  present = state.support.present
  return (
    logits(weight, state.support.x, present),
    None if state.queries is None else logits(weight, state.queries, present),
  )


def info(
  support: frozen_features.Support,
  logits: tuple[jax.Array, jax.Array | None],
  query_mask: jax.Array,
  is_finite: jax.Array,
) -> types.AdaptInfo:
  """The step's info, from the logits before its update, see `set_logits`."""
  support_logits, query_logits = logits
  labels = support.y.argmax(-1)
  hits = support_logits.argmax(-1) == labels
  return types.AdaptInfo(
    support_loss=losses.masked_mean(
      losses.cross_entropy(support_logits, labels), support.mask
    ),
    support_accuracy=losses.masked_mean(
      hits.astype(support_logits.dtype), support.mask
    ),
    query_entropy=None
    if query_logits is None
    else losses.masked_mean(losses.entropy(query_logits), query_mask),
    is_finite=is_finite,
  )


def entry(
  name: str,
  factory: Any,
  config_class: Any,
  label: str,
  short_label: str = "",
  **preset: float,
) -> entries.Entry:
  """The entry of a method whose steps change only its head."""
  return entries.Entry(
    name,
    factory,
    config_class,
    preset=preset,
    label=label,
    short_label=short_label,
    reads="features",
  )
