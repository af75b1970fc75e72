"""Frozen networks: feature extraction, and prototypes of cached features."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from fsl_jax import adapt, backbones, data, episodes, evaluate, features, types
from fsl_jax.backbones import cost

_NUM_CLASSES = 64
_WAYS = 5
_PROTOCOL = episodes.Protocol(ways=_WAYS, shots=1, queries=15)


def extraction(
  backbone: str,
  image_size_px: int,
  *,
  num_images: int,
  dtype: str,
  torch_settings: Sequence[Any] = (),
) -> measure.Case:
  """`features.extract`, from uint8 images to outputs in host memory."""
  dataset = data.synthetic.make(
    16, num_images // 16, image_size_px=image_size_px, noise=0.5
  )
  network = backbones.create(
    backbone,
    num_classes=_NUM_CLASSES,
    image_size_px=image_size_px,
    dtype=None if dtype == "float32" else dtype,
  )
  variables = jax.jit(network.init)(
    jax.random.key(0), dataset.images[:1].astype(np.float32)
  )
  n = len(dataset.class_ids)

  def theirs(setting):
    import torch

    from benchmarks import torch_loops

    net = torch_loops.network(
      backbone,
      jax.device_get(variables),
      setting,
      num_classes=_NUM_CLASSES,
      image_size_px=image_size_px,
    )
    images = torch.from_numpy(dataset.images)

    def run():
      torch_loops.extract(net, images, setting, 256)
      torch_loops.synchronize(setting)

    return measure.Other(run, n)

  return measure.Case(
    name=f"features, {backbone} {image_size_px} px",
    unit="images",
    units=n,
    flop=float(cost.forward_flop(network)) * n,
    ours=lambda: features.extract(network, variables, dataset, progress=False),
    others={f"torch {s.name}": theirs(s) for s in torch_settings},
    dtype=dtype,
    note="compiling included",
  )


def prototypes(num_episodes: int, *, against_torch: bool) -> measure.Case:
  """`evaluate.run` over cached outputs: drawing, predicting, scoring.

  As many images and values as CIFAR-FS's novel split under conv64. The loop in
  PyTorch is given its episodes ready drawn; that is a tenth of ours.
  """
  rng = np.random.default_rng(0)
  num_classes, per_class, width = 20, 600, _NUM_CLASSES + 256
  cached = types.ClassIndexed(
    images=rng.normal(size=(num_classes * per_class, width)).astype(np.float32),
    class_ids=np.repeat(np.arange(num_classes, dtype=np.int32), per_class),
    class_names=tuple(f"class {c}" for c in range(num_classes)),
    image_ids=tuple(map(str, range(num_classes * per_class))),
    name="random",
    split="novel",
    fingerprint="random",
  )
  network = backbones.identity(num_logits=_NUM_CLASSES)
  method = adapt.create("prototype", network)
  variables = network.init(jax.random.key(0), jnp.asarray(cached.images[:1]))

  def ours():
    return evaluate.run(
      method,
      variables,
      cached,
      num_episodes=num_episodes,
      progress=False,
    )

  others = {}
  if against_torch:
    others = {"torch, cached features": _torch_prototypes(cached, num_episodes)}
  return measure.Case(
    name=f"prototype, cached features, {num_episodes:,} episodes",
    unit="episodes",
    units=num_episodes,
    flop=0.0,
    ours=ours,
    others=others,
  )


def _torch_prototypes(cached, num_episodes):
  import torch

  from benchmarks import torch_loops

  table = torch.from_numpy(cached.images[:, _NUM_CLASSES:].copy())
  drawn = []
  for index in range(num_episodes):
    rows = episodes.sampler.draw(cached, _PROTOCOL, seed=0, index=index)
    arrays = (rows.support, rows.support_labels, rows.query, rows.query_labels)
    drawn.append(tuple(torch.from_numpy(x).long() for x in arrays))
  return measure.Other(
    lambda: torch_loops.prototypes(table, drawn, _WAYS), len(drawn)
  )
