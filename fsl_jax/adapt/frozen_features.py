"""What methods over frozen features share: support and queries, transforms.

Images that are masked out are zeros here, whatever their pixels, so that sums
over a set need no further mask.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fsl_jax import types
from fsl_jax.adapt import heads, micro_batches

Transform = Literal["cl2n", "l2n", "un"]


@dataclasses.dataclass(frozen=True)
class Config:
  """Options that every method over frozen features has."""

  micro_batch: int = 75  # images; bounds memory, changes no result

  def __post_init__(self) -> None:
    types.check_whole("micro_batch", self.micro_batch, at_least=1)


@dataclasses.dataclass(frozen=True)
class TransformedConfig(Config):
  """Options of methods that SimpleShot's transforms come before."""

  # "un": x. "l2n": x / ||x||. "cl2n": x - mean of the base classes, then
  # normalised; it needs variables["base_statistics"]["mean"].
  transform: Transform = "cl2n"

  def __post_init__(self) -> None:
    super().__post_init__()
    types.check_choice("transform", self.transform, ("cl2n", "l2n", "un"))


def needs_base_mean(config: TransformedConfig) -> bool:
  return config.transform == "cl2n"


class Support(NamedTuple):
  """The labelled images of an episode, transformed."""

  x: jax.Array  # [S, D], 0 where masked out
  y: jax.Array  # [S, N] one-hot in the dtype of x, 0 where masked out
  mask: jax.Array  # [S] bool
  present: jax.Array  # [N] bool: whether a class has an image

  @property
  def means(self) -> jax.Array:
    """[N, D] mean of each class; 0 where it is absent."""
    return (self.y.T @ self.x) / jnp.maximum(self.y.sum(0), 1)[:, None]


@dataclasses.dataclass(frozen=True)
class Extractor:
  """Features of a frozen network, transformed.

  Attributes:
    backbone: the network, or the identity over cached features.
    micro_batch: images that go through it at once.
    transform: as in `TransformedConfig`.
    name: of the method, for messages.
  """

  backbone: types.Backbone
  micro_batch: int
  transform: Transform = "un"
  name: str = ""

  def support(self, variables: types.Variables, task: types.Task) -> Support:
    """The support of a task.

    Raises:
      InputError: as `base_mean`, if the transform needs it.
    """
    x = self._features(variables, task.support_images, task.support_mask)
    labels = (task.support_labels, task.support_mask, task.num_ways)
    y = heads.membership(*labels, x.dtype)
    return Support(x, y, jnp.asarray(task.support_mask), y.sum(0) > 0)

  def queries(self, variables: types.Variables, task: types.Task) -> jax.Array:
    """[T, D] features of the queries, 0 where masked out."""
    return self._features(variables, task.query_images, task.query_mask)

  def _features(self, variables, images, mask):
    x = heads.embed_images(
      self.backbone,
      variables,
      images,
      input="features",
      micro_batch=self.micro_batch,
    )
    x = micro_batches.blank(x, mask)
    if self.transform == "cl2n":
      x = x - base_mean(variables, self.name, x.shape[1])[None].astype(x.dtype)
    if self.transform != "un":
      x = heads.l2_normalise(x)
    return micro_batches.blank(x, mask)


def base_mean(variables: types.Variables, method: str, width: int) -> jax.Array:
  """[D], the mean feature of the base classes.

  Raises:
    InputError: if the variables do not hold it in this width.
  """
  statistics = variables.get("base_statistics", {})
  if "mean" not in statistics:
    raise types.InputError(
      f'{method} with transform="cl2n" needs the mean feature of the base '
      'classes in variables["base_statistics"]["mean"], which these variables '
      "do not hold; features.base_statistics computes it, and "
      'transform="l2n" does without it'
    )
  mean = jnp.asarray(statistics["mean"])
  if mean.shape != (width,):
    raise types.InputError(
      f'variables["base_statistics"]["mean"] must be [{width}], as the '
      f"features of {method}, got {list(mean.shape)}"
    )
  return mean


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
  """[D], the mean row of `x` [M, D], zeros where `mask` [M] is False; 0 if
  there is none."""
  return x.sum(0) / jnp.maximum(mask.sum(), 1).astype(x.dtype)


class ClassMeans(NamedTuple):
  """The state of methods that compare queries with one vector per class."""

  variables: types.Variables
  means: jax.Array  # [N, D]
  present: jax.Array  # [N] bool


def without_steps(
  init: Callable[..., Any],
  predict: Callable[..., jax.Array],
  name: str,
  query_use: str,
  **others: Any,
) -> types.Adapter:
  """The adapter of a method that is complete after `init`.

  Arguments are fields of `types.Adapter`.
  """

  def step(state, task):
    del state, task
    raise ValueError(f"{name} has no steps")

  return types.Adapter(init, step, predict, 0, name, query_use, **others)
