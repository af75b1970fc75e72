"""Networks trained on ImageNet by others, for computing hardness.

The paper's measure of hardness (section 4.4) must not depend on the network
that is evaluated. These have seen ImageNet, and with it the novel classes of
Mini- and Tiered-ImageNet: they serve hardness, never accuracy. Images have the
size of the data set, as in the paper's code.
"""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import backbones, checkpoint, features, hardness, types


class Extractor(NamedTuple):
  """Computes hardness; `hardness.of_episode(extract, variables, episode)`.

  `features.extract(backbone, variables, dataset)` caches its outputs on disk.
  """

  extract: hardness.ExtractFn  # [M, H, W, 3] uint8 to [M, P] raw logits
  variables: types.Variables
  name: str
  digest: str  # hex, of the variables, whatever file they came from
  backbone: types.Backbone


def names() -> tuple[str, ...]:
  """Names that `load` knows; the first is the default."""
  return backbones.names(with_weights=True)


def load(
  name: str = "efficientnet_lite0",
  *,
  path: str | os.PathLike[str] | None = None,
  image_size_px: int | None = None,
) -> Extractor:
  """An extractor with its weights, trained on ImageNet-1k.

  Args:
    name: "efficientnet_lite0", the default, or "resnet152", the paper's.
    path: file of weights, as `torch_weights.read` takes it. If it is not given,
      those of EfficientNet-Lite0 are found in their package. For ResNet-152 it
      is torchvision's.
    image_size_px: to which images are enlarged, bilinearly, so that small ones
      carry more information. None takes them as they are, as in the paper's
      code.

  Raises:
    InputError: for an unknown name, or weights that are missing, damaged or of
      another network.
  """
  if name not in names():
    raise types.unknown_name("extractor", name, names())
  weights = "imagenet" if path is None else path
  backbone = backbones.create(
    name, weights=weights, image_size_px=image_size_px
  )
  size = image_size_px or backbones.MIN_SIZE_PX
  images = jnp.zeros((1, size, size, 3))
  return of_backbone(backbone, backbone.init(jax.random.key(0), images))


def of_backbone(
  backbone: types.Backbone, variables: types.Variables
) -> Extractor:
  """Any network as an extractor, by its base-class logits.

  If it is the network that is evaluated, hardness depends on it: methods on
  this network can be compared then, not networks.
  """
  return Extractor(
    hardness.extractor(backbone),
    variables,
    backbone.name,
    checkpoint.digest(variables),
    backbone,
  )


def embeddings(
  extractor: Extractor,
  dataset: types.ClassIndexed,
  *,
  cache_dir: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> np.ndarray:
  """[n, P] float32 raw logits of all images of a split, each computed once.

  Args:
    extractor: the network.
    dataset: split of images.
    cache_dir: where they are cached, see `features.extract`.
    progress: shows a bar.
  """
  outputs = features.extract(
    extractor.backbone,
    extractor.variables,
    dataset,
    cache_dir=cache_dir,
    progress=progress,
  )
  return np.asarray(outputs.images)[:, : extractor.backbone.num_classes]
