"""Networks whose weights come from elsewhere and are only applied.

They judge how hard an episode is and are no backbones of a few-shot method,
hence in no table of `backbones.create`.
"""

import re
from collections.abc import Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import programs, types

MIN_SIZE_PX = 16
_TORCH_NAMES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
_SHOWN = 3  # tensors that a message names


@programs.kept
def backbone(module: nn.Module, name: str) -> types.Backbone:
  """A network with the 1000 classes of ImageNet, at any size from 16 px.

  Raises:
    InputError: `apply`, if `train` is set, or unless images are
      [M, H, W, 3] floats with H, W of at least 16.
  """

  def check(images):
    shape = list(images.shape)
    if (
      len(shape) != 4
      or shape[3] != 3
      or min(shape[1:3]) < MIN_SIZE_PX
      or not jnp.issubdtype(images.dtype, jnp.floating)
    ):
      raise types.InputError(
        f"{name} takes [M, H, W, 3] normalised float images of at least "
        f"{MIN_SIZE_PX} px, got {shape} {images.dtype}"
      )

  def init(key, images):
    check(images)
    return module.init(key, images)

  def apply(variables, images, *, train, mask=None):
    del mask
    if train:
      raise types.InputError(f"{name} is applied with train=False only")
    check(images)
    return module.apply(variables, images), variables["batch_stats"]

  return types.Backbone(
    init, apply, name, 1000, config={"name": name}, is_frozen=True
  )


def from_torch(
  network: types.Backbone,
  tensors: Mapping[str, np.ndarray],
  *,
  prefix: str = "",
  source: str,
) -> types.Variables:
  """The variables of a network, out of its state dict in PyTorch.

  The layer "blocks_0/bn1" is "blocks.0.bn1" there. Kernels [O, I, H, W] become
  [H, W, I, O], matrices [P, D] become [D, P], and all become float32; counters
  of batches are left out.

  Args:
    network: as made by `backbone`.
    tensors: by name, of any float dtype.
    prefix: what each word of a name begins with in PyTorch.
    source: what to call the tensors in messages.

  Raises:
    InputError: unless exactly the network's tensors are there, all finite.
  """

  def name_of(path):
    _, *modules, leaf = (entry.key for entry in path)
    words = [prefix + re.sub(r"_(\d+)$", r".\1", module) for module in modules]
    return ".".join([*words, _TORCH_NAMES[leaf]])

  images = jax.ShapeDtypeStruct((1, MIN_SIZE_PX, MIN_SIZE_PX, 3), np.float32)
  shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x), images)
  wanted = {
    name_of(path): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }
  given = {
    name: np.transpose(value, (2, 3, 1, 0)) if value.ndim == 4 else value.T
    for name, value in tensors.items()
    if not name.endswith(".num_batches_tracked")
  }
  _refuse(source, "lacks", wanted.keys() - given.keys())
  _refuse(source, "has what is not in it:", given.keys() - wanted.keys())
  _refuse(
    source,
    "has tensors of other shapes or types:",
    (
      f"{name} {list(tensors[name].shape)} {value.dtype}"
      for name, value in given.items()
      if value.shape != wanted[name]
      or not jnp.issubdtype(value.dtype, jnp.floating)
    ),
  )
  variables = jax.tree_util.tree_map_with_path(
    lambda path, _: np.ascontiguousarray(given[name_of(path)], np.float32),
    shapes,
  )
  _refuse(
    source,
    "has values that are not finite in",
    (
      name_of(path)
      for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
      if not np.isfinite(leaf).all()
    ),
  )
  return variables


def _refuse(source: str, what: str, names: Iterable[str]) -> None:
  """Raises InputError that names the first few, if there are any."""
  listed = sorted(names)
  more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
  if listed:
    raise types.InputError(
      f"{source} {what} {', '.join(listed[:_SHOWN])}{more}"
    )
