"""Pre-training, random views and mixup included."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from fsl_jax import backbones, data, devices, pretrain
from fsl_jax.backbones import cost
from fsl_jax.pretrain import recipe as recipe_lib

_BATCH_SIZE = 256
_NUM_CLASSES = 64
_IMAGES_PER_CLASS = 32


def case(
  backbone: str,
  image_size_px: int,
  *,
  steps: int,
  dtype: str,
  torch_settings: Sequence[Any] = (),
) -> measure.Case:
  """Some steps with the published batch of 256, from images in memory."""
  dataset = data.synthetic.make(
    _NUM_CLASSES, _IMAGES_PER_CLASS, image_size_px=image_size_px, noise=0.5
  )
  network = backbones.create(
    backbone,
    num_classes=_NUM_CLASSES,
    image_size_px=image_size_px,
    dtype=None if dtype == "float32" else dtype,
  )
  config = pretrain.PretrainConfig(batch_size=_BATCH_SIZE)
  recipe = recipe_lib.make(
    network,
    config,
    num_images=len(dataset.class_ids),
    mesh=devices.mesh(jax.devices()[:1]),
  )
  images, labels = jax.device_put((dataset.images, dataset.class_ids))
  state = jax.jit(recipe.init)(jax.random.key(0), images)
  variables = jax.device_get(state.variables)
  epochs = (
    pretrain.order.of_epoch(
      0, epoch, num_images=len(images), batch_size=_BATCH_SIZE
    )
    for epoch in itertools.count()
  )
  batches = itertools.chain.from_iterable(epochs)

  def rows():
    return np.stack([next(batches) for _ in range(steps)])

  program, compile_s, memory_bytes = measure.compiled(
    jax.jit(recipe.steps, donate_argnums=0), state, images, labels, rows()
  )

  def run():
    nonlocal state
    state, infos = program(state, images, labels, rows())
    jax.block_until_ready(infos)

  return measure.Case(
    name=f"pre-training, {backbone} {image_size_px} px, batch {_BATCH_SIZE}",
    unit="images",
    units=steps * _BATCH_SIZE,
    flop=3.0 * cost.forward_flop(network) * steps * _BATCH_SIZE,
    ours=run,
    compile_s=compile_s,
    memory_bytes=memory_bytes,
    others={
      f"torch {setting.name}": _torch_run(
        backbone, image_size_px, variables, dataset, steps, setting
      )
      for setting in torch_settings
    },
    dtype=dtype,
  )


def _torch_run(
  backbone, image_size_px, variables, dataset, steps, setting
) -> measure.Other:
  from benchmarks import torch_loops

  training = torch_loops.Pretraining(
    torch_loops.network(
      backbone,
      variables,
      setting,
      num_classes=_NUM_CLASSES,
      image_size_px=image_size_px,
    ),
    dataset.images,
    dataset.class_ids,
    _BATCH_SIZE,
    setting,
  )

  def run():
    training.run(steps)
    torch_loops.synchronize(setting)

  return measure.Other(run, steps * _BATCH_SIZE)
