"""Support-based initialisation, and the cosine classifier that it initialises.

Source: section 3.1, equations 6 and 7, and the paper's code.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fsl_jax import augment, types
from fsl_jax.adapt import losses, micro_batches

NORM_EPSILON = 1e-12


class Head(NamedTuple):
  """A linear classifier of normalised embeddings."""

  weight: jax.Array  # [N, P]
  bias: jax.Array  # [N]


def embed(outputs: types.Outputs, *, input: str, relu: bool) -> jax.Array:
  """Input of the head, before normalisation: ReLU(logits) by default.

  Args:
    outputs: of a backbone, [M, P] logits and [M, D] features.
    input: "logits" or "features".
    relu: whether negative values are set to 0.

  Returns:
    [M, P] or [M, D].

  Raises:
    InputError: for the logits of a network that has none.
  """
  x = types.logits_of(outputs) if input == "logits" else outputs.features
  chex.assert_rank(x, 2)
  return jax.nn.relu(x) if relu else x


def embed_images(
  backbone: types.Backbone,
  variables: types.Variables,
  images: types.Array,
  *,
  input: str = "features",
  relu: bool = False,
  micro_batch: int = 75,
) -> jax.Array:
  """`embed` of un-augmented images, with running statistics.

  Args:
    backbone: the network.
    variables: its variables.
    images: [M, H, W, C], as in `types.Task`.
    input, relu: as for `embed`.
    micro_batch: images at a time; bounds memory, changes no result.

  Returns:
    [M, P] or [M, D].
  """

  def of_chunk(images):
    prepared = augment.prepare(images, backbone.preprocess)
    outputs, _ = backbone.apply(variables, prepared, train=False)
    return embed(outputs, input=input, relu=relu)

  return micro_batches.apply(of_chunk, micro_batch, images)


def l2_normalise(x: types.Array) -> jax.Array:
  """x / max(||x||, 1e-12) over the last axis."""
  x = jnp.asarray(x)
  square = jnp.square(x).sum(-1, keepdims=True)
  return x / jnp.sqrt(jnp.maximum(square, NORM_EPSILON**2))


def class_means(
  embeddings: types.Array, labels: types.Array, mask: types.Array, num_ways: int
) -> jax.Array:
  """Mean embedding of each class; 0 for a class without support.

  Args:
    embeddings: [S, P].
    labels: [S] int32 in [0, num_ways).
    mask: [S] bool.
    num_ways: N.

  Returns:
    [N, P].
  """
  member = membership(labels, mask, num_ways, embeddings.dtype)
  count = jnp.maximum(member.sum(0), 1)
  embeddings = micro_batches.blank(embeddings, mask)
  return (member.T @ embeddings) / count[:, None]


def present_classes(
  labels: types.Array, mask: types.Array, num_ways: int
) -> jax.Array:
  """[N] bool: whether a class has an unmasked support image."""
  return membership(labels, mask, num_ways, jnp.float32).sum(0) > 0


def support_init(
  embeddings: types.Array, labels: types.Array, mask: types.Array, num_ways: int
) -> Head:
  """w_k = mean of the class's embeddings, then normalised; b_k = 0.

  The mean is of un-normalised embeddings; normalisation comes after (eq. 6).
  Arguments as for `class_means`.
  """
  return of_means(class_means(embeddings, labels, mask, num_ways))


def of_means(means: jax.Array) -> Head:
  """The head of class means [N, P]: weights of length 1, biases 0."""
  return Head(l2_normalise(means), jnp.zeros(means.shape[0], means.dtype))


def classify(
  head: Head,
  embeddings: types.Array,
  present: types.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """(W normalise(x) + b) / temperature (eq. 7); at the start, cosines.

  Args:
    head: of N classes; its weight is not re-normalised.
    embeddings: [M, P], un-normalised.
    present: [N] bool; other classes get `losses.ABSENT_LOGIT`.
    temperature: of the softmax, in training and in prediction.

  Returns:
    [M, N] logits.
  """
  logits = l2_normalise(embeddings) @ head.weight.T + head.bias[None]
  return jnp.where(present[None], logits / temperature, losses.ABSENT_LOGIT)


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
  """[M, D], [N, D] -> [M, N] of ||x - y||^2, expanded into products."""
  cross = x @ y.T
  return (
    jnp.square(x).sum(-1)[:, None] - 2 * cross + jnp.square(y).sum(-1)[None]
  )


def nearest(
  queries: jax.Array, means: jax.Array, present: jax.Array
) -> jax.Array:
  """Negative squared distances to the means, as logits.

  Args:
    queries: [T, D].
    means: [N, D], 0 where a class is absent.
    present: [N] bool; other classes get `losses.ABSENT_LOGIT`.

  Returns:
    [T, N].
  """
  # Around a common centre: with an offset the squares would cancel badly.
  count = jnp.maximum(present.sum(), 1).astype(queries.dtype)
  centre = means.sum(0, keepdims=True) / count
  scores = -squared_distances(queries - centre, means - centre)
  return jnp.where(present[None], scores, losses.ABSENT_LOGIT)


def cosines(
  queries: jax.Array, means: jax.Array, present: jax.Array
) -> jax.Array:
  """Cosines with the means, as logits; arguments as for `nearest`."""
  scores = l2_normalise(queries) @ l2_normalise(means).T
  return jnp.where(present[None], scores, losses.ABSENT_LOGIT)


def membership(
  labels: types.Array, mask: types.Array, num_ways: int, dtype: Any
) -> jax.Array:
  """[S, N] one-hot labels in `dtype`, zeros where `mask` is False."""
  types.check_labels("labels", labels, mask, num_ways)
  return jax.nn.one_hot(labels, num_ways, dtype=dtype) * mask[:, None].astype(
    dtype
  )
