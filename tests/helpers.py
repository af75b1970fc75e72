"""What several test files share: a tiny network and hand-made tasks."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib.version
import numpy as np

from fsl_jax import augment, types
from fsl_jax.backbones import conv64, layers
from fsl_jax.data import synthetic

# Of XLA: nearly all of the time of tests is compilation, and half of that
# LLVM's optimiser, which is not what is tested. Numbers that must agree to the
# last bit need the same flags.
UNOPTIMISED = "--xla_backend_optimization_level=0"
# The older way to compile fused loops, in a quarter of the time; it rounds the
# same expression otherwise in another program. jaxlib 0.11.1 removed it, and an
# unknown flag ends the process.
_OLDER_LOOPS = (
  " --xla_cpu_use_fusion_emitters=false"
  if jaxlib.version.__version_info__ < (0, 11, 1)
  else ""
)
QUICKLY_COMPILED = f"{UNOPTIMISED}{_OLDER_LOOPS}"
# For scripts, which train a whole network for a while: code as fast as by
# default, compiled in less than half of the time.
HARDLY_OPTIMISED = f"--xla_backend_optimization_level=1{_OLDER_LOOPS}"


class _OneBlock(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, **batch_norm):
    x = conv64.ConvBlock(4, None, name="block0")(images, **batch_norm)
    return layers.Classifier(self.num_classes, name="classifier")(
      layers.global_average(x)
    )


@functools.cache
def tiny_backbone(num_classes: int = 6) -> types.Backbone:
  """One block of conv64: all that an adapter can meet, compiled in a third of
  the time of four blocks. The same object again, so that programs of its
  functions are compiled once."""
  module = _OneBlock(num_classes)

  def init(key, images):
    return dict(module.init(key, images, train=False))

  def apply(variables, images, **batch_norm):
    return module.apply(
      variables, images, **batch_norm, mutable=["batch_stats"]
    )

  return types.Backbone(init, apply, "tiny", num_classes)


@functools.cache
def plain_backbone() -> types.Backbone:
  """No batch norm, no logits, a preprocessing of its own: one matrix product
  of 8 px images."""

  def init(key, images):
    del images
    return {"params": {"kernel": jax.random.normal(key, (192, 6))}}

  def apply(variables, images, *, train, mask=None):
    del train, mask
    flat = images.reshape(len(images), -1)
    return types.Outputs(None, flat @ variables["params"]["kernel"]), {}

  return types.Backbone(
    init,
    apply,
    "plain",
    preprocess=types.Preprocess((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
    has_batch_stats=False,
  )


def tiny_variables(backbone: types.Backbone, seed: int = 0) -> types.Variables:
  """Variables whose batch norm is away from 0 and 1; the default precision."""
  images = jnp.zeros((1, 8, 8, 3))
  variables = jax.jit(backbone.init)(jax.random.key(seed), images)
  rng = np.random.default_rng(seed)
  # Multiplying keeps variances positive; kernels stay in their range.
  return jax.tree.map(
    lambda x: jnp.asarray(
      (x + 0.2 * rng.normal(size=x.shape)) * rng.uniform(0.7, 1.4, x.shape)
      if x.ndim == 1
      else x,
      float,
    ),
    variables,
  )


def make_task(
  shots: tuple[int, ...] = (1, 2, 3),
  num_queries: int = 7,
  *,
  seed: int = 0,
  image_size_px: int = 8,
  noise: float = 0.3,
) -> tuple[types.Task, np.ndarray]:
  """A task of uint8 images with unequal shots, in mixed order, and its query
  labels."""
  ways = len(shots)
  rng = np.random.default_rng(seed)
  dataset = synthetic.make(
    ways,
    max(shots) + num_queries,
    image_size_px=image_size_px,
    noise=noise,
    seed=seed,
  )
  per_class = max(shots) + num_queries
  support_labels = rng.permutation(np.repeat(np.arange(ways), shots))
  query_labels = rng.permutation(np.arange(num_queries) % ways)
  used = [0] * ways

  def take(labels):
    rows = []
    for label in labels:
      rows.append(label * per_class + used[label])
      used[label] += 1
    return dataset.images[np.asarray(rows, int)]

  task = types.Task(
    support_images=take(support_labels),
    support_labels=support_labels.astype(np.int32),
    support_mask=np.ones(len(support_labels), bool),
    query_images=take(query_labels),
    query_mask=np.ones(num_queries, bool),
    num_ways=ways,
  )
  return task, query_labels


def normalised(task: types.Task) -> types.Task:
  """The task with float images in the default precision, of NumPy's making."""
  dtype = jnp.zeros(()).dtype

  def normalise(images):
    return ((images / 255.0 - augment.MEAN) / augment.STD).astype(dtype)

  return dataclasses.replace(
    task,
    support_images=normalise(task.support_images),
    query_images=normalise(task.query_images),
  )
