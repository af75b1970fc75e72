"""What a network says of each image of a split, computed once.

Methods that leave the network as it is need no more of an image than its
logits and features. Kept for the whole split, they make thousands of episodes
cost what a few cost otherwise.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import augment, checkpoint, devices, types

_BATCH_SIZE = 256
_FORMAT = 1  # of the files; a new one makes old files nobody's


def extract(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  *,
  cache_dir: str | pathlib.Path | None = None,
  progress: bool = True,
) -> types.ClassIndexed:
  """The split with each image replaced by the network's outputs.

  Images are not augmented, and batch norm uses its running statistics: what
  initialisation and prediction see. The result serves episodes like the split
  itself, over `backbones.identity(num_logits=P)`:

      cached = fsl.features.extract(net, variables, novel)
      net = fsl.backbones.identity(num_logits=net.num_classes)
      method = fsl.adapt.create("prototype", net)
      fsl.evaluate.run(method, net.init(key, cached.images[:1]), cached)

  Args:
    backbone: the network.
    variables: its weights.
    dataset: split of images.
    cache_dir: folder where the outputs are kept, as one file whose name is a
      digest of the weights, the network and its precision, the preprocessing,
      the pixels of the data set and the platform; another weight or pixel
      means another file. None keeps nothing.
    progress: shows a bar.

  Returns:
    The split, `images` [n, P + D] float32: logits, then features. Its
    fingerprint is the digest.

  Raises:
    InputError: if the outputs are not finite, or a kept file is damaged.
  """
  key = _key(backbone, variables, dataset)
  path = None if cache_dir is None else pathlib.Path(cache_dir) / f"{key}.npy"
  if path is not None and path.exists():
    outputs = _read(path, len(dataset.class_ids))
  else:
    outputs = _compute(backbone, variables, dataset, progress)
    if not np.isfinite(outputs).all():
      raise types.InputError(
        f"{backbone.name} gives outputs on {dataset.name}, split "
        f"{dataset.split!r}, that are not finite"
      )
    if path is not None:
      _write(path, outputs)
  return types.ClassIndexed(
    images=outputs,
    class_ids=dataset.class_ids,
    class_names=dataset.class_names,
    image_ids=dataset.image_ids,
    name=dataset.name,
    split=dataset.split,
    fingerprint=key,
  )


def _compute(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  progress: bool,
) -> np.ndarray:
  import tqdm

  def of_batch(variables, images):
    outputs, _ = backbone.apply(variables, augment.prepare(images), train=False)
    return jnp.concatenate([outputs.logits, outputs.features], axis=1)

  # Of this process alone: each has all of the split, and keeps all of it.
  mesh = devices.mesh(jax.local_devices())
  program = jax.jit(devices.apart(of_batch, mesh, devices.SAME, devices.ROWS))
  variables = devices.place(mesh, devices.SAME, variables)
  batch_size = -(-_BATCH_SIZE // mesh.size) * mesh.size
  n = len(dataset.class_ids)
  parts: list[Any] = []
  with tqdm.tqdm(
    total=n, desc="features", unit="image", disable=not progress
  ) as bar:
    for start in range(0, n, batch_size):
      # The last batch is filled up, so that there is one program.
      rows = np.minimum(np.arange(start, start + batch_size), n - 1)
      images = devices.place(mesh, devices.ROWS, dataset.images[rows])
      parts.append(program(variables, images))
      # One batch behind, so that the device has work while this one waits.
      if len(parts) > 1:
        parts[-2] = jax.device_get(parts[-2])
      bar.update(min(batch_size, n - start))
  return np.concatenate(jax.device_get(parts))[:n]


def _key(
  backbone: types.Backbone,
  variables: types.Variables,
  dataset: types.ClassIndexed,
) -> str:
  """Hex digest of everything that the outputs depend on."""
  value = {
    "format": _FORMAT,
    "variables": checkpoint.digest(variables),
    "backbone": {**(backbone.config or {"name": backbone.name})},
    "mean": augment.MEAN.tolist(),
    "std": augment.STD.tolist(),
    "pixels": pixels_digest(dataset),
    "classes": hashlib.sha256(dataset.class_ids.tobytes()).hexdigest(),
    "platform": jax.default_backend(),
  }
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def pixels_digest(dataset: types.ClassIndexed) -> str:
  """What tells the images of two splits apart: [] str."""
  if dataset.fingerprint:
    return f"{dataset.fingerprint} {dataset.split} {dataset.images.shape[1:]}"
  # Made on the fly, and so in memory.
  return hashlib.sha256(np.asarray(dataset.images).tobytes()).hexdigest()


def _read(path: pathlib.Path, n: int) -> np.ndarray:
  try:
    outputs = np.load(path, mmap_mode="r", allow_pickle=False)
  except (ValueError, OSError) as error:
    raise types.InputError(
      f"{path} is damaged ({error}); remove it and it is made again"
    ) from error
  if outputs.ndim != 2 or len(outputs) != n or outputs.dtype != np.float32:
    raise types.InputError(
      f"{path} is damaged: it has {list(outputs.shape)} {outputs.dtype}, "
      f"expected [{n}, P + D] float32; remove it and it is made again"
    )
  return outputs


def _write(path: pathlib.Path, outputs: np.ndarray) -> None:
  """In one step, so that nobody reads half a file."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix(f".{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      np.save(file, outputs)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
