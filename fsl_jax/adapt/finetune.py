"""Support-based initialisation, fine-tuning, transductive fine-tuning.

One adapter implements all three: initialisation takes no step, fine-tuning has
no query update. `Method.step` is one epoch, with two of the published 50
updates. Source: section 3, and the paper's code for what the text leaves open
(alternating updates, augmentation, batch statistics, micro-batches).
"""

import dataclasses
import functools
import math
import numbers
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fsl_jax import augment, types
from fsl_jax.adapt import entries, heads, losses, micro_batches

EntropyWeight = float | Literal["inverse_log_ways"]


@entries.renamed(epochs="steps")
@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """Every choice of the method; the defaults are the published ones."""

  # Input of the head: base-class "logits", or "features" before them.
  input: Literal["logits", "features"] = "logits"
  # Whether negative values of it are set to 0 (not for ImageNet-21k).
  relu: bool = True
  # What the updates change: "all" weights, or W and b of the "head" alone.
  trainable: Literal["all", "head"] = "all"
  # Batch norm during updates: statistics of the "batch", which also update the
  # running ones that prediction uses (whatever is trainable), or "frozen" ones.
  bn: Literal["batch", "frozen"] = "batch"
  # Fresh random views of support and query at every update.
  augment: bool = True
  # "alternating": a support update, then a query update, one Adam state.
  # "joint": one update on the sum of both losses.
  updates: Literal["alternating", "joint"] = "alternating"
  # Weight of the query entropy; 0 leaves the query update out.
  # "inverse_log_ways" is 1 / log N (ImageNet-21k).
  entropy_weight: EntropyWeight = 1.0
  # Divides the head's logits, in training and in prediction.
  temperature: float = 1.0
  # Passes over the support set and over the query set. Each is one update, so
  # 25 epochs of the transductive method are 50 updates.
  epochs: int = 25
  learning_rate: float = 5e-5  # Adam's, constant
  micro_batch: int = 75  # images; each has batch statistics of its own

  def __post_init__(self) -> None:
    types.check_choice("input", self.input, ("logits", "features"))
    types.check_choice("trainable", self.trainable, ("all", "head"))
    types.check_choice("bn", self.bn, ("batch", "frozen"))
    types.check_choice("updates", self.updates, ("alternating", "joint"))
    for name in ("relu", "augment"):
      if not isinstance(getattr(self, name), bool):
        raise types.InputError(
          f"{name} must be True or False, got {getattr(self, name)!r}"
        )
    weight = self.entropy_weight
    if isinstance(weight, str):
      types.check_choice("entropy_weight", weight, ("inverse_log_ways",))
    elif not isinstance(weight, numbers.Real) or not 0 <= weight < math.inf:
      raise types.InputError(f"entropy_weight must be at least 0, got {weight}")
    types.check_whole("epochs", self.epochs)
    types.check_whole("micro_batch", self.micro_batch, at_least=1)
    for name in ("temperature", "learning_rate"):
      types.check_positive(name, getattr(self, name))

  @property
  def is_transductive(self) -> bool:
    """Whether the unlabelled queries take part in the updates."""
    return self.epochs > 0 and self.entropy_weight != 0


class AdaptState(NamedTuple):
  """What is carried from step to step, for one episode."""

  params: Any  # {"backbone": ..., "head": Head}
  collections: Any  # of the network, all but params, such as batch_stats
  optimizer_state: Any  # of the trainable part of params
  present: jax.Array  # [N] bool
  key: jax.Array
  step: jax.Array  # [] int32, epochs done


class _Batch(NamedTuple):
  images: jax.Array  # [M, ...]
  labels: jax.Array  # [M] int32; ignored for queries
  position: jax.Array  # [M] int32, of the image in its set
  mask: jax.Array  # [M] bool


def adapter(
  backbone: types.Backbone, config: FinetuneConfig, *, name: str
) -> types.Adapter:
  """The method over a network, as an `Adapter`."""
  method = Method(backbone, config)
  return types.Adapter(
    method.init,
    method.step,
    method.predict,
    config.epochs,
    name,
    _query_use(backbone, config),
    streamable=types.Streamable(
      method.embed, method.start, config.micro_batch, config.is_transductive
    ),
  )


@dataclasses.dataclass(frozen=True)
class Method:
  """The functions of the adapter, pure and of one episode.

  Attributes:
    backbone: the network.
    config: the options.
  """

  backbone: types.Backbone
  config: FinetuneConfig

  @functools.cached_property
  def optimizer(self) -> optax.GradientTransformation:
    return optax.adam(self.config.learning_rate)

  def _trainable(self, params):
    if self.config.trainable == "head":
      return {"head": params["head"]}
    return params

  def _head_logits(
    self, params, collections, images, present, *, train, mask=None
  ):
    outputs, collections = self.backbone.apply(
      {"params": params["backbone"], **collections},
      images,
      train=train,
      mask=mask,
    )
    embeddings = heads.embed(
      outputs, input=self.config.input, relu=self.config.relu
    )
    logits = heads.classify(
      params["head"], embeddings, present, temperature=self.config.temperature
    )
    return logits, collections

  def _prepare(self, images):
    return augment.prepare(images, self.backbone.preprocess)

  def embed(self, variables: types.Variables, images: types.Array) -> jax.Array:
    """Images [M, H, W, C] -> [M, P], input of the head; not augmented."""
    return heads.embed_images(
      self.backbone,
      variables,
      images,
      input=self.config.input,
      relu=self.config.relu,
      micro_batch=self.config.micro_batch,
    )

  def start(
    self,
    key: jax.Array,
    variables: types.Variables,
    means: jax.Array,
    present: jax.Array,
  ) -> AdaptState:
    """The state before the first step: w_k = mean_k / ||mean_k||, b_k = 0.

    Source: section 3.1, equation 6.

    Args:
      key: consumed.
      variables: of the pre-trained network.
      means: [N, P], of the embeddings of each class, un-normalised.
      present: [N] bool, whether a class has support images.
    """
    params = {"backbone": variables["params"], "head": heads.of_means(means)}
    return AdaptState(
      params=params,
      collections=types.collections(variables),
      optimizer_state=self.optimizer.init(self._trainable(params)),
      present=present,
      key=key,
      step=jnp.zeros((), jnp.int32),
    )

  def init(
    self, key: jax.Array, variables: types.Variables, task: types.Task
  ) -> AdaptState:
    """The state before the first step; the key is consumed."""
    embeddings = self.embed(variables, task.support_images)
    support = (task.support_labels, task.support_mask, task.num_ways)
    return self.start(
      key,
      variables,
      heads.class_means(embeddings, *support),
      heads.present_classes(*support),
    )

  def _views(self, key, batch):
    """Input of the network for a micro-batch; 0 where it is masked out."""
    if self.config.augment:
      views = augment.random_views(
        key,
        batch.images,
        positions=batch.position,
        preprocess=self.backbone.preprocess,
      )
    else:
      views = self._prepare(batch.images)
    return micro_batches.blank(views, batch.mask)

  def _gradients(self, state, key, images, labels, mask, example_loss):
    """Accumulates over the micro-batches of one update.

    Returns:
      The gradient of the mean of `example_loss` over the unmasked images, the
      collections with updated batch statistics, that mean [] and the fraction
      of images [] that are classified correctly.
    """
    total = jnp.maximum(mask.sum(), 1)
    trainable = self._trainable(state.params)

    def loss_fn(trainable, collections, views, chunk):
      logits, collections = self._head_logits(
        state.params | trainable,
        collections,
        views,
        state.present,
        train=self.config.bn == "batch",
        mask=chunk.mask,
      )
      # Summed over the micro-batch, divided by the whole batch: each
      # micro-batch weighs as much as its share of the images.
      values = jnp.where(chunk.mask, example_loss(logits, chunk.labels), 0)
      hits = (logits.argmax(-1) == chunk.labels) & chunk.mask
      loss = values.sum() / total.astype(values.dtype)
      return loss, (collections, hits.sum(dtype=jnp.int32))

    def body(carry, chunk):
      gradient, collections, loss, hits = carry
      # Made here, so that memory holds the views of one micro-batch only.
      views = self._views(key, chunk)
      (chunk_loss, (collections, chunk_hits)), chunk_gradient = (
        jax.value_and_grad(loss_fn, has_aux=True)(
          trainable, collections, views, chunk
        )
      )
      gradient = jax.tree.map(jnp.add, gradient, chunk_gradient)
      return gradient, collections, loss + chunk_loss, hits + chunk_hits

    chunks = _Batch(
      *micro_batches.split(
        self.config.micro_batch, images, labels, jnp.arange(len(mask)), mask
      )
    )
    dtype = state.params["head"].weight.dtype
    start = (
      jax.tree.map(jnp.zeros_like, trainable),
      state.collections,
      jnp.zeros((), dtype),
      jnp.zeros((), jnp.int32),
    )
    gradient, collections, loss, hits = micro_batches.accumulate(
      body, start, chunks, mask
    )
    return gradient, collections, loss, hits / total

  def _update(self, state, gradient):
    trainable = self._trainable(state.params)
    # Optax takes powers of an integer step, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
      updates, optimizer_state = self.optimizer.update(
        gradient, state.optimizer_state, trainable
      )
    return state._replace(
      params=state.params | optax.apply_updates(trainable, updates),
      optimizer_state=optimizer_state,
    )

  def _entropy_weight(self, present):
    if self.config.entropy_weight == "inverse_log_ways":
      ways = present.sum().astype(jnp.float32)
      # A single way has no entropy to weigh.
      return jnp.where(ways > 1, 1 / jnp.log(jnp.maximum(ways, 2)), 0.0)
    return self.config.entropy_weight

  def _query_pass(self, state, key, task):
    gradient, collections, loss, _ = self._gradients(
      state,
      key,
      task.query_images,
      jnp.zeros(task.query_mask.shape, jnp.int32),
      task.query_mask,
      lambda logits, _: losses.entropy(logits),
    )
    weight = self._entropy_weight(state.present)
    gradient = jax.tree.map(lambda g: (g * weight).astype(g.dtype), gradient)
    return gradient, state._replace(collections=collections), loss

  def step(
    self, state: AdaptState, task: types.Task
  ) -> tuple[AdaptState, types.AdaptInfo]:
    """One epoch: an update on the support set, then one on the queries.

    With the loss of equation 8, theta for all weights of network and head, and
    views v of the images that are drawn anew for each update,

        theta <- Adam(theta, grad mean_s -log p_theta(y_s | v_s))
        theta <- Adam(theta, weight grad mean_q H(p_theta(. | v_q)))

    with a single Adam state, so 25 epochs are 50 updates. Gradients are
    accumulated over micro-batches of 75 images, each normalised with its own
    batch statistics, which also update the running ones; neither depends on
    padding. Inductive fine-tuning makes the first update alone;
    `updates="joint"` makes one with the sum of both gradients.

    Source: section 3.2, equation 8; alternation, micro-batches and statistics
    are those of the paper's code.

    Args:
      state: of `init`, or of the step before.
      task: support [S, H, W, C] with labels [S] in [0, N), queries
        [T, H, W, C]; uint8 unless `augment` is off.

    Returns:
      The new state of the same shapes and dtypes, and infos, [] each, of the
      losses before their updates.
    """
    key = jax.random.fold_in(state.key, state.step)
    support_key, query_key = jax.random.split(key)
    gradient, collections, support_loss, support_accuracy = self._gradients(
      state,
      support_key,
      task.support_images,
      task.support_labels,
      task.support_mask,
      losses.cross_entropy,
    )
    state = state._replace(collections=collections)
    query_entropy = None
    if not self.config.is_transductive:
      state = self._update(state, gradient)
    elif self.config.updates == "alternating":
      state = self._update(state, gradient)
      gradient, state, query_entropy = self._query_pass(state, query_key, task)
      state = self._update(state, gradient)
    else:
      second, state, query_entropy = self._query_pass(state, query_key, task)
      state = self._update(state, jax.tree.map(jnp.add, gradient, second))
    finite = _all_finite(
      (state.params, state.collections, support_loss, query_entropy)
    )
    info = types.AdaptInfo(
      support_loss=support_loss,
      support_accuracy=support_accuracy,
      query_entropy=query_entropy,
      is_finite=finite,
    )
    return state._replace(step=state.step + 1), info

  def predict(self, state: AdaptState, task: types.Task) -> jax.Array:
    """[T, N] float32 logits, un-augmented and with running statistics."""

    def logits(images):
      return self._head_logits(
        state.params,
        state.collections,
        self._prepare(images),
        state.present,
        train=False,
      )[0]

    return micro_batches.apply(
      logits, self.config.micro_batch, task.query_images
    )


def _query_use(backbone: types.Backbone, config: FinetuneConfig) -> str:
  if not config.is_transductive:
    return "none"
  if config.bn == "batch" and backbone.has_batch_stats:
    return "all jointly: entropy and batch statistics"
  return "all jointly: entropy"


def _all_finite(tree: Any) -> jax.Array:
  leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
  return jnp.stack(leaves).all()


SUPPORT_INIT = entries.Entry(
  "support_init",
  adapter,
  FinetuneConfig,
  options=frozenset({"input", "relu", "temperature", "micro_batch"}),
  preset={"epochs": 0},
  label="support-based initialisation",
  short_label="initialisation",
  reads="features",
)
FINETUNE = entries.Entry(
  "finetune",
  adapter,
  FinetuneConfig,
  options=frozenset(
    field.name for field in dataclasses.fields(FinetuneConfig)
  ).difference({"entropy_weight", "updates"}),
  preset={"entropy_weight": 0.0},
  label="fine-tuning",
)
TRANSDUCTIVE_FINETUNE = entries.Entry(
  "transductive_finetune",
  adapter,
  FinetuneConfig,
  label="transductive fine-tuning",
  short_label="transductive",
)
