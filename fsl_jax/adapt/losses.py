"""The two objectives of the paper, per example, and their masked mean."""

import functools

import jax
import jax.numpy as jnp

from fsl_jax import types

ABSENT_LOGIT = -1e30
"""Logit of a class that has no support image. Finite, so that 0 * log 0 of an
absent class is 0 and its gradient too."""


def cross_entropy(logits: types.Array, labels: types.Array) -> jax.Array:
  """-log p(y | x) in nats, of each example.

  Source: section 3.1, the first term of equation 8.

  Args:
    logits: [M, N], unnormalised.
    labels: [M] int32 in [0, N).

  Returns:
    [M], at least 0.
  """
  # optax's rounds differently, which 50 updates of Adam would amplify.
  log_p = jax.nn.log_softmax(logits)
  return -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]


def entropy(logits: types.Array) -> jax.Array:
  """Shannon entropy of softmax(logits) in nats, of each example.

  Source: section 3.2, the second term of equation 8.

  Args:
    logits: [M, N], unnormalised; `ABSENT_LOGIT` where a class is absent.

  Returns:
    [M] in [0, log N].
  """
  log_p = jax.nn.log_softmax(logits)
  return -(jnp.exp(log_p) * log_p).sum(-1)


@functools.partial(jax.jit, inline=True)
def masked_mean(values: types.Array, mask: types.Array) -> jax.Array:
  """Mean of `values` [M] where `mask` [M] is True; 0 if it is all False."""
  total = jnp.where(mask, values, 0).sum()
  return total / jnp.maximum(mask.sum(), 1).astype(values.dtype)
