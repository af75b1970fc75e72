"""The paper's base-class training as pure functions: loss, schedule, steps.

Source: section 4.1 and the paper's code (fastai v1) for what the text leaves
open: per-sample mixup, decoupled weight decay, the cycles' lengths.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from fsl_jax import augment, devices, types


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
  """The recipe; the defaults are the published ones unless stated otherwise."""

  cycles: tuple[int, ...] = (40, 80)  # epochs of each cosine cycle
  learning_rate: float = 0.1  # start of the first cycle; each ends at 0
  cycle_decay: float = 0.1  # start of each further cycle, of the one before
  momentum: float = 0.9  # Nesterov's
  weight_decay: float = 1e-4  # decoupled; neither batch norm nor biases
  batch_size: int = 256  # the last partial batch of an epoch is dropped
  # Images that are normalised together; 0 is the whole batch. Published: 32,
  # since each of eight GPUs normalised its own part of the batch, and the
  # running statistics were those of the first.
  batch_norm_group: int = 0
  label_smoothing: float = 0.1  # spread over all classes
  mixup_alpha: float = 0.25  # 0 switches mixup off
  augment: bool = True
  validate_every_epochs: int = 1  # keeps the weights of the best one
  seed: int = 0

  def __post_init__(self) -> None:
    if not self.cycles:
      raise types.InputError("cycles must name at least one number of epochs")
    for epochs in self.cycles:
      types.check_whole("epochs of a cycle", epochs, at_least=1)
    for name in ("batch_size", "validate_every_epochs"):
      types.check_whole(name, getattr(self, name), at_least=1)
    for name in ("seed", "batch_norm_group"):
      types.check_whole(name, getattr(self, name))
    if self.batch_norm_group and self.batch_size % self.batch_norm_group:
      raise types.InputError(
        f"batch_size {self.batch_size} must be a multiple of batch_norm_group "
        f"{self.batch_norm_group}"
      )
    for name, high in (
      ("learning_rate", math.inf),
      ("cycle_decay", math.inf),
      ("weight_decay", math.inf),
      ("mixup_alpha", math.inf),
      ("momentum", 1.0),
      ("label_smoothing", 1.0),
    ):
      if not 0 <= getattr(self, name) < high:
        raise types.InputError(
          f"{name} must lie in [0, {high}), got {getattr(self, name)}"
        )

  @property
  def num_epochs(self) -> int:
    return sum(self.cycles)


class TrainState(NamedTuple):
  """What is carried from step to step."""

  variables: types.Variables
  optimizer_state: Any  # of the parameters
  step: jax.Array  # [] int32


class TrainInfo(NamedTuple):
  """Measurements of one step; [] float32."""

  loss: jax.Array  # smoothed and mixed cross-entropy, nats
  accuracy: jax.Array  # of the mixed images, for the label of the larger weight
  learning_rate: jax.Array


def learning_rate(
  config: PretrainConfig, steps_per_epoch: int
) -> optax.Schedule:
  """Cosine cycles, annealed to 0 at every step: [] int32 -> [] float32."""
  lengths = np.asarray(config.cycles) * steps_per_epoch
  return optax.join_schedules(
    [
      optax.cosine_decay_schedule(
        config.learning_rate * config.cycle_decay**cycle, int(length)
      )
      for cycle, length in enumerate(lengths)
    ],
    np.cumsum(lengths)[:-1].tolist(),
  )


def smoothed_cross_entropy(
  logits: jax.Array, labels: jax.Array, smoothing: float
) -> jax.Array:
  """(1 - e) * -log p_y + e * mean over classes of -log p, nats.

  Args:
    logits: [M, P].
    labels: [M] int32.
    smoothing: e in [0, 1).

  Returns:
    [M].
  """
  targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
  return optax.losses.softmax_cross_entropy(
    logits, optax.losses.smooth_labels(targets, smoothing)
  )


class Mixup(NamedTuple):
  """Image i becomes weight[i] of itself and the rest of permutation[i]."""

  weight: jax.Array  # [M] float32 in [0.5, 1], lambda of the mixup paper
  permutation: jax.Array  # [M] int32


def draw_mixup(key: jax.Array, size: int, alpha: float) -> Mixup:
  """One weight per sample, max(b, 1 - b) with b ~ Beta(alpha, alpha)."""
  weight_key, permutation_key = jax.random.split(key)
  permutation = jax.random.permutation(permutation_key, size)
  if alpha == 0:
    return Mixup(jnp.ones((size,)), permutation)
  weight = jax.random.beta(weight_key, alpha, alpha, (size,))
  return Mixup(jnp.maximum(weight, 1 - weight), permutation)


def mix(mixup: Mixup, values: jax.Array) -> jax.Array:
  """Blends `values` [M, ...] with their permutation."""
  weight = mixup.weight.reshape(-1, *[1] * (values.ndim - 1))
  weight = weight.astype(values.dtype)
  return weight * values + (1 - weight) * values[mixup.permutation]


def optimizer(
  config: PretrainConfig, steps_per_epoch: int
) -> optax.GradientTransformation:
  """SGD with Nesterov momentum and weight decay outside of it."""

  def decayed(params):
    # Only the kernels of convolutions and linear layers are decayed.
    return jax.tree_util.tree_map_with_path(
      lambda path, _: path[-1].key == "kernel", params
    )

  return optax.chain(
    optax.trace(decay=config.momentum, nesterov=True),
    optax.add_decayed_weights(config.weight_decay, mask=decayed),
    optax.scale_by_learning_rate(learning_rate(config, steps_per_epoch)),
  )


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Training as pure functions of uint8 images that live on the devices.

  Batches may be divided over devices; means and statistics are those of the
  whole batch all the same.

  Attributes:
    backbone: the network.
    config: the recipe.
    steps_per_epoch: number of whole batches of the data set.
    mesh: the devices.
  """

  backbone: types.Backbone
  config: PretrainConfig
  steps_per_epoch: int
  mesh: jax.sharding.Mesh

  @functools.cached_property
  def _sgd(self) -> optax.GradientTransformation:
    return optimizer(self.config, self.steps_per_epoch)

  def _prepare(self, images: jax.Array) -> jax.Array:
    return augment.prepare(images, self.backbone.preprocess)

  def init(self, key: jax.Array, images: jax.Array) -> TrainState:
    """The state before the first step.

    Args:
      key: consumed.
      images: [m, H, W, 3] uint8, of which only the shape is used.
    """
    variables = self.backbone.init(key, self._prepare(images[:1]))
    return TrainState(
      variables,
      self._sgd.init(variables["params"]),
      jnp.zeros((), jnp.int32),
    )

  def steps(
    self,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    rows: jax.Array,
  ) -> tuple[TrainState, TrainInfo]:
    """One step for each batch.

    Args:
      state: to continue from.
      images: [m, H, W, 3] uint8.
      labels: [m] int32.
      rows: [steps, B] int32, the images of each batch.

    Returns:
      The new state, and the infos, [steps] each.
    """

    def body(state, rows):
      # Derived from the step, not threaded: a resumed run draws the same.
      key = jax.random.fold_in(jax.random.key(self.config.seed), state.step)
      return self._step(state, images[rows], labels[rows], key)

    return jax.lax.scan(body, state, rows)

  def hits(
    self,
    variables: types.Variables,
    images: jax.Array,
    labels: jax.Array,
    rows: jax.Array,
    real: jax.Array,
  ) -> jax.Array:
    """[] int32: images that are classified correctly, not augmented.

    Arguments as for `steps`; `real` [steps, B] is False where a row is padding.
    """

    def of_batch(arguments):
      rows, real = arguments
      outputs, _ = self.backbone.apply(
        variables, self._prepare(images[rows]), train=False
      )
      predicted = types.logits_of(outputs).argmax(-1)
      return ((predicted == labels[rows]) & real).sum()

    return jax.lax.map(of_batch, (rows, real)).sum()

  def _step(self, state, images, labels, key):
    view_key, mixup_key = jax.random.split(key)
    if self.config.augment:
      views = augment.random_views(
        view_key, images, preprocess=self.backbone.preprocess
      )
    else:
      views = self._prepare(images)
    mixup = draw_mixup(mixup_key, labels.shape[0], self.config.mixup_alpha)
    # Divided over devices, its rejection sampler would synchronise them in
    # every round; drawing all of it everywhere costs nothing.
    same = devices.sharding(self.mesh, devices.SAME)
    mixup = jax.lax.with_sharding_constraint(mixup, same)
    views = mix(mixup, views)
    variables = {**state.variables}
    params = variables.pop("params")
    (loss, (logits, collections)), gradient = jax.value_and_grad(
      self._loss, has_aux=True
    )(params, variables, views, labels, mixup)
    updates, optimizer_state = self._sgd.update(
      gradient, state.optimizer_state, params
    )
    schedule = learning_rate(self.config, self.steps_per_epoch)
    info = TrainInfo(
      loss=loss,
      accuracy=(logits.argmax(-1) == labels).mean(),
      learning_rate=jnp.asarray(schedule(state.step), jnp.float32),
    )
    params = optax.apply_updates(params, updates)
    variables = {**variables, **collections, "params": params}
    return TrainState(variables, optimizer_state, state.step + 1), info

  def _loss(self, params, collections, views, labels, mixup):
    """Mean loss, and what the network returned."""
    grouping: dict[str, Any] = {}
    size = self.config.batch_size
    groups = size // (self.config.batch_norm_group or size)
    # With one group the network need not know of groups.
    if groups > 1 and self.backbone.has_batch_stats:
      grouping["groups"] = groups
    outputs, collections = self.backbone.apply(
      {"params": params, **collections}, views, train=True, **grouping
    )
    logits = types.logits_of(outputs)
    chex.assert_shape(logits, (*labels.shape, self.backbone.num_classes))

    def loss(y):
      return smoothed_cross_entropy(logits, y, self.config.label_smoothing)

    # The loss is mixed, not the labels; the same by linearity.
    values = mixup.weight * loss(labels)
    values += (1 - mixup.weight) * loss(labels[mixup.permutation])
    return values.mean(), (logits, collections)


def make(
  backbone: types.Backbone,
  config: PretrainConfig,
  *,
  num_images: int,
  mesh: jax.sharding.Mesh,
) -> Recipe:
  """The recipe for a network, the size of its data and the devices.

  Raises:
    InputError: if there are fewer images than a batch needs, or the devices
      cannot share a batch evenly.
  """
  if config.batch_size % mesh.size:
    raise types.InputError(
      f"batch_size {config.batch_size} is not a multiple of the {mesh.size} "
      "devices"
    )
  steps_per_epoch = num_images // config.batch_size
  if steps_per_epoch == 0:
    raise types.InputError(
      f"batch_size {config.batch_size} exceeds the {num_images} training images"
    )
  return Recipe(backbone, config, steps_per_epoch, mesh)
