"""The outputs of a frozen network for all images of a split, computed once.

Methods that do not change the network need only the logits and features of an
image. With these cached, the network is run once per image and not once per
episode.
"""

import functools
import hashlib
import json
import os
import pathlib
import warnings
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import (
  augment,
  backbones,
  checkpoint,
  devices,
  files,
  paths,
  programs,
  types,
  version,
)

_BATCH_SIZE = 256
_FORMAT = 1  # of the files; another one invalidates old cache entries


def extract(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  *,
  cache_dir: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> types.ClassIndexed:
  """The split with each image replaced by the network's outputs.

  Images are not augmented, and batch norm uses its running statistics: what
  initialisation and prediction see. The result serves episodes like the split
  itself, over `backbones.identity(num_logits=P)`:

      cached = fsl.features.extract(net, variables, novel)
      net = fsl.features.network(net, variables, novel)
      method = fsl.adapt.create("prototype", net)
      fsl.evaluate.run(method, net.init(key, cached.images[:1]), cached)

  Args:
    backbone: the network.
    variables: its weights.
    dataset: split of images.
    cache_dir: folder where the outputs are cached, as one file whose name is a
      digest of the weights, the network and its precision, the preprocessing,
      data, platform and versions. If it cannot be written, there is a warning.
      None caches nothing.
    progress: shows a bar.

  Returns:
    The split, `images` [n, P + D] float32: logits, then features. Its
    fingerprint is the digest.

  Raises:
    InputError: if the outputs are not finite, a cached file is damaged, or
      `cache_dir` is given for a network without a `config`.
  """
  if cache_dir is not None and backbone.config is None:
    raise types.InputError(
      f"outputs of {backbone.name} cannot be cached: its config is None, so "
      "they could not be distinguished from those of another network"
    )
  folder = None if cache_dir is None else paths.local(cache_dir, "cache_dir")
  key = _key(backbone, variables, dataset)
  path = None if folder is None else folder / f"{key}.npy"
  shape = (len(dataset.class_ids), sum(_widths(backbone, variables, dataset)))
  if path is not None and path.exists():
    outputs = _read(path, shape)
  else:
    outputs = _compute(backbone, variables, dataset, progress)
    if not np.isfinite(outputs).all():
      raise types.InputError(
        f"{backbone.name} gives outputs on {dataset.name}, split "
        f"{dataset.split!r}, that are not finite"
      )
    if path is not None:
      try:
        _write(path, outputs)
        # Mapped, as in the next run: the digest of a run folder depends on it.
        outputs = _read(path, shape)
      except OSError as error:
        warnings.warn(f"features are not cached: {error}", stacklevel=2)
  return dataset.with_features(outputs, fingerprint=key)


def _compute(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  progress: bool,
) -> np.ndarray:
  # Devices of this process alone: each process computes the whole split.
  mesh = devices.mesh(jax.local_devices())
  program = _program(backbone, mesh)
  variables = devices.place(mesh, devices.SAME, variables)
  batch_size = -(-_BATCH_SIZE // mesh.size) * mesh.size
  n = len(dataset.class_ids)

  def of_batch(start):
    # The last batch is padded, so that there is one program.
    rows = np.minimum(np.arange(start, start + batch_size), n - 1)
    images = devices.place(mesh, devices.ROWS, dataset.images[rows])
    return program(variables, images)

  parts = []
  with devices.bar(
    total=n, desc="features", unit="image", enabled=progress
  ) as bar:
    for part in devices.pipelined(of_batch, range(0, n, batch_size)):
      parts.append(part)
      bar.update(min(batch_size, n - bar.n))
  return np.concatenate(parts)[:n]


@programs.kept
def _program(backbone: types.Backbone, mesh: jax.sharding.Mesh) -> Any:
  def of_batch(variables, images):
    return _rows(backbone, variables, images)

  return jax.jit(devices.apart(of_batch, mesh, devices.SAME, devices.ROWS))


def _rows(backbone, variables, images):
  return jnp.concatenate(_parts(backbone, variables, images), axis=1)


def _parts(backbone, variables, images):
  """Logits, if there are any, and features."""
  prepared = augment.prepare(images, backbone.preprocess)
  outputs, _ = backbone.apply(variables, prepared, train=False)
  parts = [x for x in outputs if x is not None]
  chex.assert_shape(parts, (len(images), None))
  return parts


def network(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
) -> types.Backbone:
  """The identity over the outputs that `extract` makes of a network.

  Its logits and features are those of the network, if that has logits. It
  refuses images. Arguments as for `extract`.
  """
  num_logits, num_features = _widths(backbone, variables, dataset)
  return backbones.identity(
    num_logits=num_logits or None, width=num_logits + num_features
  )


def base_statistics(
  backbone: types.Backbone,
  variables: types.Variables,
  base: types.ClassIndexed,
  *,
  cache_dir: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> dict[str, np.ndarray]:
  """The collection "base_statistics", for methods that need it.

  Args:
    backbone: the network.
    variables: its weights.
    base: the images that the network was trained on; not augmented.
    cache_dir: as for `extract`.
    progress: shows a bar.

  Returns:
    "mean": [D] float32, the mean feature over all images.
  """
  cached = extract(
    backbone, variables, base, cache_dir=cache_dir, progress=progress
  )
  num_logits, _ = _widths(backbone, variables, base)
  features = np.asarray(cached.images)[:, num_logits:]
  mean = features.mean(0, dtype=np.float64)
  return {"mean": mean.astype(np.float32)}


def _key(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
) -> str:
  """Hex digest of everything that the outputs depend on."""
  value = {
    "format": _FORMAT,
    "variables": checkpoint.digest(variables),
    # Wherever the weights come from: their digest is above.
    "backbone": backbone.config
    and {k: v for k, v in backbone.config.items() if k != "weights"},
    # In float32, as files of earlier versions have them.
    "mean": np.asarray(backbone.preprocess.mean, np.float32).tolist(),
    "std": np.asarray(backbone.preprocess.std, np.float32).tolist(),
    "data": data_digest(dataset),
    "platform": jax.default_backend(),
    "products": jax.config.jax_default_matmul_precision,  # type: ignore[attr-defined]
    "versions": [version.__version__, jax.__version__],
  }
  if backbone.preprocess.size_px is not None:
    value["size_px"] = backbone.preprocess.size_px
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def data_digest(dataset: types.ClassIndexed) -> str:
  """Hex digest of the images and classes of a split.

  The fingerprint identifies pixels that are memory-mapped or streamed from a
  prepared data set; the content of other arrays is hashed, and of features the
  content alone, since their fingerprint names the versions that made them.
  """
  images = dataset.images
  of_features = images.ndim == 2
  known = [
    "" if of_features else dataset.fingerprint,
    dataset.name,
    dataset.split,
    dataset.class_names,
    list(images.shape),
  ]
  sha = hashlib.sha256(json.dumps(known).encode())
  sha.update(dataset.class_ids.tobytes())
  is_prepared = isinstance(images, np.memmap) and dataset.fingerprint
  if isinstance(images, np.ndarray) and (of_features or not is_prepared):
    sha.update(np.ascontiguousarray(images).data)
  return sha.hexdigest()


def _widths(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
) -> tuple[int, int]:
  """P and D of the outputs, without computing them; P is 0 without logits."""
  images = jax.ShapeDtypeStruct(
    (1, *dataset.images.shape[1:]), dataset.images.dtype
  )
  *logits, features = jax.eval_shape(
    functools.partial(_parts, backbone), variables, images
  )
  return sum(x.shape[1] for x in logits), features.shape[1]


def _read(path: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
  try:
    outputs = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, OSError, EOFError) as error:
    raise types.InputError(
      f"{path} is damaged ({error}); remove it, and it is computed again"
    ) from error
  if outputs.shape != shape or outputs.dtype != np.float32:
    raise types.InputError(
      f"{path} is damaged: it has {list(outputs.shape)} {outputs.dtype}, "
      f"expected {list(shape)} float32; remove it, and it is computed again"
    )
  return outputs


def _write(path: pathlib.Path, outputs: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  with files.replacing(path) as file:
    np.save(file, outputs)
