"""Nearest class mean, the simplest baseline."""

import dataclasses
from typing import Literal

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, heads


@dataclasses.dataclass(frozen=True)
class PrototypeConfig:
  """Source: Snell et al., Prototypical Networks (NeurIPS 2017), section 2.

  Only the classification rule is theirs; the network is not trained with it.
  """

  input: Literal["features", "logits"] = "features"
  # "euclidean" is the negative squared distance, theirs; "cosine" the cosine.
  distance: Literal["euclidean", "cosine"] = "euclidean"
  micro_batch: int = 75  # images; bounds memory, changes no result

  def __post_init__(self) -> None:
    types.check_choice("input", self.input, ("features", "logits"))
    types.check_choice("distance", self.distance, ("euclidean", "cosine"))
    types.check_whole("micro_batch", self.micro_batch, at_least=1)


def adapter(
  backbone: types.Backbone, config: PrototypeConfig, *, name: str
) -> types.Adapter:
  """Mean support embedding of each class; the nearest one is predicted."""

  def embed(variables, images):
    return heads.embed_images(
      backbone,
      variables,
      images,
      input=config.input,
      micro_batch=config.micro_batch,
    )

  def init(key, variables, task):
    support = (task.support_labels, task.support_mask, task.num_ways)
    embeddings = embed(variables, task.support_images)
    return start(
      key,
      variables,
      heads.class_means(embeddings, *support),
      heads.present_classes(*support),
    )

  def start(key, variables, means, present):
    del key  # Nothing here is random.
    return frozen_features.ClassMeans(variables, means, present)

  def predict(state, task):
    queries = embed(state.variables, task.query_images)
    classify = heads.cosines if config.distance == "cosine" else heads.nearest
    return classify(queries, state.means, state.present)

  streamable = types.Streamable(embed, start, config.micro_batch, False)
  return frozen_features.without_steps(
    init, predict, name, "none", streamable=streamable
  )


PROTOTYPE = entries.Entry(
  "prototype",
  adapter,
  PrototypeConfig,
  label="nearest prototype",
  short_label="prototype",
  reads="features",
)
