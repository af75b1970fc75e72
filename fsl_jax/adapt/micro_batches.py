"""Splits a masked batch into micro-batches of a fixed size."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fsl_jax import types


def blank(values: types.Array, mask: types.Array) -> jax.Array:
  """`values` [M, ...] with zeros where `mask` [M] is False.

  Multiplying by a mask of 0 is not enough: padding may be NaN.
  """
  return jnp.where(mask.reshape(-1, *[1] * (values.ndim - 1)), values, 0)


def split(size: int, *arrays: types.Array) -> tuple[jax.Array, ...]:
  """[M, ...] -> [ceil(M / size), size, ...], the end padded with zeros.

  A batch of at most `size` stays one micro-batch of its own length. The last
  array must be the mask, so that the padding is masked out.
  """
  total = arrays[0].shape[0]
  size = max(min(size, total), 1)
  count = -(-total // size)

  def cut(x):
    pad = [(0, count * size - total)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, pad).reshape(count, size, *x.shape[1:])

  return tuple(cut(x) for x in arrays)


def accumulate(
  body: Callable[[Any, Any], Any], carry: Any, chunks: Any, mask: jax.Array
) -> Any:
  """`body(carry, chunk)` over the micro-batches that hold an image.

  Padding comes last, so the loop ends early, after a number of iterations that
  is known only when the program runs: the cost of an episode does not depend on
  its padding. The loop cannot be differentiated; take gradients inside `body`.

  Args:
    body: a function of the carry and one micro-batch, to the next carry.
    carry: at the start.
    chunks: as made by `split`.
    mask: [M] bool, of the images before they were split.
  """
  count, size = jax.tree.leaves(chunks)[0].shape[:2]
  if count == 0:
    return carry
  if count == 1:
    return body(carry, jax.tree.map(lambda x: x[0], chunks))
  used = -(-mask.sum() // size)

  def turn(i, carry):
    chunk = jax.tree.map(
      lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), chunks
    )
    return body(carry, chunk)

  return jax.lax.fori_loop(0, used, turn, carry)


def apply(
  function: Callable[[jax.Array], jax.Array], size: int, images: types.Array
) -> jax.Array:
  """`function` over micro-batches of `images` [M, ...], results rejoined.

  For functions that treat images independently; bounds the memory.
  """
  if images.shape[0] == 0:
    return function(jnp.asarray(images))
  (chunks,) = split(size, images)
  if len(chunks) == 1:
    return function(chunks[0])
  results = jax.lax.map(function, chunks)
  flat = results.reshape(-1, *results.shape[2:])
  return flat[: images.shape[0]]
