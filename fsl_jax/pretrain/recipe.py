"""The paper's base-class training as pure functions: loss, schedule, steps.

Source: section 4.1 and the paper's code (fastai v1) for what the text leaves
open: per-sample mixup, decoupled weight decay, the cycles' lengths.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fsl_jax import augment, devices, types


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
  """The recipe; the defaults are the published ones, if not said otherwise."""

  cycles: tuple[int, ...] = (40, 80)  # epochs of each cosine cycle
  learning_rate: float = 0.1  # start of the first cycle; each ends at 0
  cycle_decay: float = 0.1  # start of each further cycle, of the one before
  momentum: float = 0.9  # Nesterov's
  weight_decay: float = 1e-4  # decoupled; neither batch norm nor biases
  batch_size: int = 256  # the last partial batch of an epoch is dropped
  # Images that batch norm normalises together; 0 is the whole batch. Published:
  # 32, for each of eight GPUs normalised its own part of the batch, and the
  # running statistics kept were those of the first.
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
  """What training carries on."""

  params: Any
  batch_stats: Any
  optimizer_state: Any
  step: jax.Array  # [] int32


class TrainInfo(NamedTuple):
  """Of one step; [] float32."""

  loss: jax.Array  # smoothed and mixed cross-entropy, nats
  accuracy: jax.Array  # of the mixed images against the heavier label
  learning_rate: jax.Array


def learning_rate(
  config: PretrainConfig, steps_per_epoch: int, step: jax.Array
) -> jax.Array:
  """Cosine cycles, annealed to 0 at every step: [] int32 -> [] float32."""
  lengths = np.asarray(config.cycles) * steps_per_epoch
  starts = jnp.asarray(np.cumsum(lengths) - lengths)
  cycle = jnp.clip(
    jnp.searchsorted(starts, step, side="right") - 1, 0, len(config.cycles) - 1
  )
  peak = config.learning_rate * config.cycle_decay ** cycle.astype(jnp.float32)
  progress = (step - starts[cycle]) / jnp.asarray(lengths)[cycle]
  return 0.5 * peak * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))


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
  log_p = jax.nn.log_softmax(logits)
  hit = jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
  return -(1 - smoothing) * hit - smoothing * log_p.mean(-1)


class Mixup(NamedTuple):
  """Image i becomes share[i] of itself and the rest of partner[i]."""

  share: jax.Array  # [M] float32 in [0.5, 1]
  partner: jax.Array  # [M] int32, a permutation


def draw_mixup(key: jax.Array, size: int, alpha: float) -> Mixup:
  """One share per sample, max(b, 1 - b) with b ~ Beta(alpha, alpha)."""
  share_key, partner_key = jax.random.split(key)
  partner = jax.random.permutation(partner_key, size)
  if alpha == 0:
    return Mixup(jnp.ones((size,)), partner)
  share = jax.random.beta(share_key, alpha, alpha, (size,))
  return Mixup(jnp.maximum(share, 1 - share), partner)


def mix(mixup: Mixup, values: jax.Array) -> jax.Array:
  """Blends `values` [M, ...] with their partners'."""
  share = mixup.share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
  return share * values + (1 - share) * values[mixup.partner]


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
    optax.scale_by_learning_rate(
      lambda step: learning_rate(config, steps_per_epoch, step)
    ),
  )


class Recipe(NamedTuple):
  """Training as pure functions of uint8 images that live on the devices.

  Batches may be divided over devices; means and statistics are those of the
  whole batch all the same.
  """

  init: Any  # (key, images) -> TrainState; key consumed
  # (state, images [m, ...], labels [m], rows [steps, B]) -> (TrainState,
  # TrainInfo [steps]): one step for each line of `rows`, which are of `images`
  steps: Any
  # (variables, images, labels, rows [steps, B], real [steps, B]) -> [] int32:
  # images classified rightly, of the rows that are real
  hits: Any
  steps_per_epoch: int


def make(
  backbone: types.Backbone,
  config: PretrainConfig,
  *,
  num_images: int,
  mesh: jax.sharding.Mesh,
) -> Recipe:
  """Closes the recipe over a network, the size of its data and the devices.

  Raises:
    InputError: if there are fewer images than a batch needs, or the devices
      cannot share a batch evenly.
  """
  if backbone.is_frozen:
    raise types.InputError(
      f"{backbone.name} is frozen: it cannot be pre-trained here"
    )
  if config.batch_size % mesh.size:
    raise types.InputError(
      f"batch_size {config.batch_size} is no multiple of the {mesh.size} "
      "devices"
    )
  steps_per_epoch = num_images // config.batch_size
  if steps_per_epoch == 0:
    raise types.InputError(
      f"batch_size {config.batch_size} exceeds the {num_images} training images"
    )
  sgd = optimizer(config, steps_per_epoch)
  same = devices.sharding(mesh, devices.SAME)
  grouping: dict[str, Any] = {}
  groups = config.batch_size // (config.batch_norm_group or config.batch_size)
  # One group needs no network that knows of groups.
  if groups > 1 and backbone.has_batch_stats:
    grouping["groups"] = groups

  def init(key, images):
    sample = augment.prepare(images[:1])
    variables = backbone.init(key, sample)
    return TrainState(
      variables["params"],
      variables["batch_stats"],
      sgd.init(variables["params"]),
      jnp.zeros((), jnp.int32),
    )

  def train_step(state, images, labels, key):
    view_key, mixup_key = jax.random.split(key)
    if config.augment:
      views = augment.random_views(view_key, images)
    else:
      views = augment.prepare(images)
    mixup = draw_mixup(mixup_key, labels.shape[0], config.mixup_alpha)
    # Divided too, its rejection sampler would have the devices meet in every
    # round; it costs nothing to draw all of it everywhere.
    mixup = jax.lax.with_sharding_constraint(mixup, same)
    views = mix(mixup, views)

    def loss_fn(params):
      outputs, batch_stats = backbone.apply(
        {"params": params, "batch_stats": state.batch_stats},
        views,
        train=True,
        **grouping,
      )

      def loss(y):
        return smoothed_cross_entropy(outputs.logits, y, config.label_smoothing)

      # The loss is mixed, not the labels; the same by linearity.
      values = mixup.share * loss(labels)
      values += (1 - mixup.share) * loss(labels[mixup.partner])
      return values.mean(), (outputs.logits, batch_stats)

    (loss, (logits, batch_stats)), gradient = jax.value_and_grad(
      loss_fn, has_aux=True
    )(state.params)
    updates, optimizer_state = sgd.update(
      gradient, state.optimizer_state, state.params
    )
    info = TrainInfo(
      loss=loss,
      accuracy=(logits.argmax(-1) == labels).mean(),
      learning_rate=learning_rate(config, steps_per_epoch, state.step),
    )
    params = optax.apply_updates(state.params, updates)
    return TrainState(
      params, batch_stats, optimizer_state, state.step + 1
    ), info

  def steps(state, images, labels, rows):
    def body(state, rows):
      # Derived from the step, not threaded: a resumed run draws the same.
      key = jax.random.fold_in(jax.random.key(config.seed), state.step)
      return train_step(state, images[rows], labels[rows], key)

    return jax.lax.scan(body, state, rows)

  def hits(variables, images, labels, rows, real):
    def of_batch(arguments):
      rows, real = arguments
      outputs, _ = backbone.apply(
        variables, augment.prepare(images[rows]), train=False
      )
      return ((outputs.logits.argmax(-1) == labels[rows]) & real).sum()

    return jax.lax.map(of_batch, (rows, real)).sum()

  return Recipe(init, steps, hits, steps_per_epoch)
