"""Networks as pure functions; the only folder that imports flax."""

import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import programs, types
from fsl_jax.backbones import (
  conv64,
  efficientnet_lite0,
  pretrained,
  resnet12,
  resnet152,
  wide_resnet,
)

MIN_SIZE_PX = 16  # for four halvings


class Network(NamedTuple):
  """How a name becomes a network; a line of the table below."""

  module: Callable[..., nn.Module]  # of num_classes, dtype and its own options
  preprocess: types.Preprocess = types.Preprocess()
  # Of published weights; such a network has ImageNet's 1000 classes by default,
  # and takes images of any size.
  source: pretrained.Source | None = None
  has_batch_stats: bool = True


_NETWORKS = {
  "conv64": Network(conv64.Conv64),
  "resnet12": Network(resnet12.ResNet12),
  "wrn_16_4": Network(
    lambda **kw: wide_resnet.WideResNet(
      **({"blocks_per_group": 2, "widen": 4} | kw)
    )
  ),
  "wrn_28_10": Network(wide_resnet.WideResNet),
  "efficientnet_lite0": Network(
    efficientnet_lite0.EfficientNetLite0,
    efficientnet_lite0.PREPROCESS,
    efficientnet_lite0.SOURCE,
  ),
  "resnet152": Network(resnet152.ResNet152, source=resnet152.SOURCE),
}


def names(*, with_weights: bool | None = None) -> tuple[str, ...]:
  """Names that `create` knows.

  Args:
    with_weights: True for the networks that others trained, False for those of
      the paper, None for all.
  """
  return tuple(
    name
    for name, network in _NETWORKS.items()
    if with_weights in (None, network.source is not None)
  )


def create(
  name: str,
  *,
  num_classes: int | None = None,
  image_size_px: int | None = None,
  dtype: Any = None,
  weights: str | os.PathLike[str] | None = None,
  **options: Any,
) -> types.Backbone:
  """A network: `conv64`, `resnet12`, `wrn_16_4` and `wrn_28_10` of the paper
  (section 4.1 and its code), `efficientnet_lite0` and `resnet152`.

  Args:
    name: one of `names`.
    num_classes: P, classes of the last linear layer. None is 1000, ImageNet's,
      for the networks that have published weights.
    image_size_px: H = W of the images, from 16 to 4096. Those that have
      published weights resize images to it, bilinearly; None takes images as
      they are.
    dtype: of the computation, such as `jnp.bfloat16`; parameters, statistics
      and outputs stay float32. None computes in float32.
    weights: which `Backbone.init` returns: "imagenet" for those in the Python
      package of the network, the path of a file as `torch_weights.read` takes
      it, or None for random ones. They are read by `init`.
    **options: widths of the network, as named by its class; the defaults are
      the published ones.

  Raises:
    InputError: for an unknown name, or a size or count out of range. `init`
      raises it for weights that are missing, damaged or of another network.
  """
  if name not in _NETWORKS:
    raise types.unknown_name("backbone", name, _NETWORKS)
  network = _NETWORKS[name]
  if network.source is None:
    _check_without_weights(name, num_classes, image_size_px, weights)
  num_classes = 1000 if num_classes is None else num_classes
  if image_size_px is not None:
    types.check_size_px("image_size_px", image_size_px, at_least=MIN_SIZE_PX)
  if num_classes < 1:
    raise types.InputError(f"num_classes must be positive, got {num_classes}")
  # Lists, as JSON has them, would make no hashable module.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  try:
    kind = None if dtype is None else jnp.dtype(dtype)
    module = network.module(num_classes=num_classes, dtype=kind, **options)
  except TypeError as error:
    raise types.InputError(f"cannot make {name}: {error}") from error
  config = {
    "name": name,
    "num_classes": num_classes,
    "image_size_px": image_size_px,
    "dtype": None if kind is None else kind.name,
    **({} if weights is None else {"weights": os.fspath(weights)}),
    **options,
  }
  init, apply = _functions(module, name, image_size_px)
  preprocess = network.preprocess
  if network.source is not None:
    preprocess = preprocess._replace(size_px=image_size_px)
    if weights is not None:
      init = _trained(init, name, network.source, os.fspath(weights))
  return types.Backbone(
    init,
    apply,
    name,
    num_classes,
    image_size_px,
    config,
    preprocess,
    network.has_batch_stats,
  )


def _check_without_weights(name, num_classes, image_size_px, weights) -> None:
  """Raises InputError for what only published weights make optional."""
  if num_classes is None or image_size_px is None:
    missing = "num_classes" if num_classes is None else "image_size_px"
    raise types.InputError(f"{name} needs {missing}")
  if weights is not None:
    raise types.InputError(
      f"{name} has no published weights; expected weights=None, got {weights!r}"
    )


@programs.kept
def _functions(
  module: nn.Module, name: str, image_size_px: int | None
) -> tuple[Any, Any]:
  """`init` and `apply`; the same for equal modules, so that what is compiled
  for one network serves another with its weights."""

  def check(images):
    shape = list(images.shape)
    if image_size_px is None:
      expected = f"[M, H, W, 3] images of at least {MIN_SIZE_PX} px"
      fits = shape[3:] == [3] and min(shape[1:3]) >= MIN_SIZE_PX
    else:
      expected = f"[M, {image_size_px}, {image_size_px}, C] images"
      fits = len(shape) == 4 and shape[1:3] == [image_size_px] * 2
    if not fits:
      raise types.InputError(f"{name} takes {expected}, got {shape}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise types.InputError(
        f"{name} takes normalised float images, got {images.dtype}; see "
        "augment.prepare"
      )

  def init(key, images):
    check(images)
    return dict(module.init(key, images, train=False))

  def apply(variables, images, *, train, mask=None, groups=1):
    check(images)
    others = types.collections(variables)
    if not train:
      return module.apply(variables, images, train=False), others
    return module.apply(
      variables,
      images,
      train=True,
      mask=mask,
      groups=groups,
      mutable=list(others),
    )

  return init, apply


@programs.kept
def _trained(
  init: Any, name: str, source: pretrained.Source, weights: str
) -> Any:
  """`init` that returns weights from a file."""

  def from_file(key, images):
    shapes = jax.eval_shape(init, key, images)
    return pretrained.load(name, source, weights, shapes)

  return from_file


@programs.kept
def identity(
  num_logits: int | None = None, width: int | None = None
) -> types.Backbone:
  """Logits and features are the images, flattened: for cached features.

  A method on frozen features is the same adapter over this backbone.

  Args:
    num_logits: P, if the first P values of an image are its logits and the
      others its features, as `features.extract` makes them. None takes all of
      them for both.
    width: of the rows [M, width] that are accepted; None accepts images of any
      shape.

  Raises:
    InputError: `apply`, for images of another width, or unless they have more
      than P values.
  """

  def init(key, images):
    del key, images
    return {"params": {}}

  def apply(variables, images, *, train, mask=None):
    del train, mask
    if width is not None and images.shape[1:] != (width,):
      raise types.InputError(
        f"cached features must be [M, {width}], got {list(images.shape)}; "
        "features.extract makes them of images"
      )
    flat = images.reshape(images.shape[0], math.prod(images.shape[1:]))
    size = flat.shape[1]
    if num_logits is not None and not 0 < num_logits < size:
      raise types.InputError(
        f"identity(num_logits={num_logits}) takes that many logits and then "
        f"features from each row, but rows have {size} values; without "
        "num_logits all of them are both"
      )
    outputs = types.Outputs(flat[:, :num_logits], flat[:, num_logits or 0 :])
    return outputs, types.collections(variables)

  return types.Backbone(init, apply, "identity", has_batch_stats=False)


def init_shapes(backbone: types.Backbone, channels: int = 3) -> types.Variables:
  """Shapes and dtypes of the variables, computed without any work."""
  size = backbone.image_size_px or MIN_SIZE_PX
  images = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
  return jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x), images)


def num_parameters(backbone: types.Backbone) -> int:
  """Trainable parameters, the last linear layer included."""
  params = init_shapes(backbone)["params"]
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
