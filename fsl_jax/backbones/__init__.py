"""Networks as pure functions; the only folder that imports flax."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import programs, types
from fsl_jax.backbones import conv64, resnet12, wide_resnet

_FACTORIES: dict[str, Any] = {
  "conv64": conv64.Conv64,
  "resnet12": resnet12.ResNet12,
  "wrn_16_4": lambda **kw: wide_resnet.WideResNet(
    **({"blocks_per_group": 2, "widen": 4} | kw)
  ),
  "wrn_28_10": wide_resnet.WideResNet,
}


def names() -> tuple[str, ...]:
  """Names that `create` knows."""
  return tuple(_FACTORIES)


def create(
  name: str,
  *,
  num_classes: int,
  image_size_px: int,
  dtype: Any = None,
  **options: Any,
) -> types.Backbone:
  """A network of the paper (section 4.1 and its code), untrained.

  Args:
    name: "conv64", "resnet12", "wrn_16_4" or "wrn_28_10".
    num_classes: P, classes of the last linear layer.
    image_size_px: H = W of the images, from 16 to 4096.
    dtype: of the computation, such as `jnp.bfloat16`; parameters, statistics
      and outputs stay float32. None computes in float32.
    **options: widths of the network, as named by its class; the defaults are
      the published ones.

  Raises:
    InputError: for an unknown name, or a size or count out of range.
  """
  if name not in _FACTORIES:
    raise types.unknown_name("backbone", name, _FACTORIES)
  # At least 16, for four halvings.
  types.check_size_px("image_size_px", image_size_px, at_least=16)
  if num_classes < 1:
    raise types.InputError(f"num_classes must be positive, got {num_classes}")
  # Lists, as JSON has them, would make no hashable module.
  options = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  try:
    kind = None if dtype is None else jnp.dtype(dtype)
    module = _FACTORIES[name](num_classes=num_classes, dtype=kind, **options)
  except TypeError as error:
    raise types.InputError(f"cannot make {name}: {error}") from error
  config = {
    "name": name,
    "num_classes": num_classes,
    "image_size_px": image_size_px,
    "dtype": None if kind is None else kind.name,
    **options,
  }
  return _from_module(module, config)


def _from_module(module: nn.Module, config: dict[str, Any]) -> types.Backbone:
  name, image_size_px = config["name"], config["image_size_px"]
  functions = _functions(module, name, image_size_px)
  return types.Backbone(
    *functions, name, config["num_classes"], image_size_px, config
  )


@programs.kept
def _functions(
  module: nn.Module, name: str, image_size_px: int
) -> tuple[Any, Any]:
  """`init` and `apply`; the same for equal modules, so that what is compiled
  for one network serves another with its weights."""

  def check(images):
    if images.ndim != 4 or images.shape[1:3] != (image_size_px, image_size_px):
      raise types.InputError(
        f"{name} was made for [M, {image_size_px}, {image_size_px}, C] images, "
        f"got {list(images.shape)}"
      )
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise types.InputError(
        f"{name} takes normalised float images, got {images.dtype}; see "
        "augment.prepare"
      )

  def init(key, images):
    check(images)
    variables = module.init(key, images, train=False)
    return {k: variables[k] for k in ("params", "batch_stats")}

  def apply(variables, images, *, train, mask=None, groups=1):
    check(images)
    if not train:
      return (
        module.apply(variables, images, train=False),
        variables["batch_stats"],
      )
    outputs, updated = module.apply(
      variables,
      images,
      train=True,
      mask=mask,
      groups=groups,
      mutable=["batch_stats"],
    )
    return outputs, updated["batch_stats"]

  return init, apply


@programs.kept
def identity(num_logits: int | None = None) -> types.Backbone:
  """Logits and features are the images, flattened: for cached features.

  A method on frozen features is the same adapter over this backbone.

  Args:
    num_logits: P, if the first P values of an image are its logits and the
      others its features, as `features.extract` makes them. None takes all of
      them for both.

  Raises:
    InputError: `apply`, unless images have more than P values.
  """

  def init(key, images):
    del key, images
    return {"params": {}, "batch_stats": {}}

  def apply(variables, images, *, train, mask=None):
    del train, mask
    flat = images.reshape(images.shape[0], math.prod(images.shape[1:]))
    width = flat.shape[1]
    if num_logits is not None and not 0 < num_logits < width:
      raise types.InputError(
        f"identity(num_logits={num_logits}) takes that many logits and then "
        f"features from each row, but rows have {width} values; without "
        "num_logits all of them are both"
      )
    outputs = types.Outputs(flat[:, :num_logits], flat[:, num_logits or 0 :])
    return outputs, variables["batch_stats"]

  return types.Backbone(init, apply, "identity", has_batch_stats=False)


def init_shapes(backbone: types.Backbone, channels: int = 3) -> types.Variables:
  """Shapes and dtypes of the variables, computed without any work."""
  size = backbone.image_size_px
  images = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
  return jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x), images)


def num_parameters(backbone: types.Backbone) -> int:
  """Trainable parameters, the last linear layer included."""
  params = init_shapes(backbone)["params"]
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
