"""The lines of the table, on a CPU and on an accelerator.

Besides adaptation: pre-training, features of a frozen network, prototypes of
cached features, and the start of a process.
"""

import functools
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import adaptation, measure
from fsl_jax import (
  adapt,
  backbones,
  data,
  devices,
  episodes,
  evaluate,
  features,
  pretrain,
  types,
)
from fsl_jax.backbones import cost
from fsl_jax.pretrain import recipe as recipe_lib

Make = Callable[[], measure.Case]

_DTYPES = ("float32", "bfloat16")
_BATCH_SIZE = 256
_WAYS = 5
# What a script of a user does, in a process of its own.
_SCRIPT = """
import jax, numpy as np
import command_line
command_line.keep_compiled_programs()
import fsl_jax as fsl
size = {size}
novel = fsl.data.synthetic.make(8, 20, image_size_px=size, split="novel")
net = fsl.backbones.create("conv64", num_classes=64, image_size_px=size)
variables = jax.jit(net.init)(
  jax.random.key(0), np.zeros((1, size, size, 3), np.float32)
)
method = fsl.adapt.create("transductive_finetune", net)
result = fsl.evaluate.run(
  method, variables, novel, num_episodes=1, progress=False
)
assert result.num_non_finite == 0
"""


def of_platform(platform: str, *, against_torch: bool) -> Mapping[str, Make]:
  """The lines worth timing on a platform, by a descriptive name."""
  settings = _settings(platform) if against_torch else []
  return (_of_cpu if platform == "cpu" else _of_accelerator)(settings)


def toy(platform: str, *, against_torch: bool) -> Mapping[str, Make]:
  """Each kind of line in seconds, to test whether it runs."""
  settings = _settings(platform) if against_torch else []
  dtype = _DTYPES[-1]
  return {
    f"adapt {net} {each}": _adapting(
      adaptation.Setup(net, 16, epochs=1, episodes=2, dtype=each),
      settings if each == dtype else [],
    )
    for net in ("conv64", "resnet12")
    for each in _DTYPES
  } | {
    "pre-train conv64": functools.partial(
      pretraining, "conv64", 16, 1, dtype, settings
    ),
    "features conv64": functools.partial(
      extraction, "conv64", 16, 512, dtype, settings
    ),
    "prototype": functools.partial(prototypes, 100, settings),
    "first result": functools.partial(first_result, 16),
  }


def _of_cpu(settings: Sequence[Any]) -> dict[str, Make]:
  lines: dict[str, Make] = {"first result": functools.partial(first_result, 32)}
  for method, shots in (
    ("support_init", 1),
    ("finetune", 1),
    ("transductive_finetune", 1),
    ("transductive_finetune", 5),
  ):
    lines[f"adapt conv64 {method} {shots}"] = _adapting(
      adaptation.Setup("conv64", 32, method, shots=shots), settings
    )
  # Twenty-five epochs take five times as long, ten minutes of this table.
  lines["adapt resnet12"] = _adapting(
    adaptation.Setup("resnet12", 32, epochs=5), settings
  )
  for net, steps in (("conv64", 8), ("resnet12", 3)):
    lines[f"pre-train {net}"] = functools.partial(
      pretraining, net, 32, steps, "float32", settings
    )
  for net, images in (("conv64", 4096), ("resnet12", 512)):
    lines[f"features {net}"] = functools.partial(
      extraction, net, 32, images, "float32", settings
    )
  lines["prototype"] = functools.partial(prototypes, 10_000, settings)
  # How cost grows, in one epoch of small images.
  for ways, shots in (
    *((5, 1), (20, 1), (80, 1), (160, 1)),
    *((5, 10), (5, 100), (5, 1000)),
  ):
    lines[f"growth {ways} ways {shots} shots"] = _adapting(
      adaptation.Setup("conv64", 16, ways=ways, shots=shots, epochs=1), []
    )
  return lines


def _of_accelerator(settings: Sequence[Any]) -> dict[str, Make]:
  lines: dict[str, Make] = {}
  # Episodes of one run, and of PyTorch's.
  for net, size, count, torch_count in (
    ("conv64", 32, 64, 2),
    ("resnet12", 32, 64, 2),
    ("wrn_28_10", 32, 8, 1),
    ("wrn_28_10", 84, 2, 1),
  ):
    for dtype in _DTYPES:
      lines[f"adapt {net} {size} {dtype}"] = _adapting(
        adaptation.Setup(net, size, episodes=count, dtype=dtype),
        settings if dtype == "bfloat16" else [],
        torch_count,
      )
  for net in ("conv64", "resnet12", "wrn_28_10"):
    lines[f"pre-train {net}"] = functools.partial(
      pretraining, net, 32, 20, "bfloat16", settings
    )
  lines["features wrn_28_10"] = functools.partial(
    extraction, "wrn_28_10", 32, 12_000, "bfloat16"
  )
  lines["prototype"] = functools.partial(prototypes, 10_000)
  return lines


def _adapting(setup, settings, torch_episodes=None) -> Make:
  return functools.partial(
    adaptation.case, setup, settings, torch_episodes=torch_episodes
  )


def _settings(platform: str) -> list[Any]:
  from benchmarks import torch_loops

  if platform == "cpu":
    return [torch_loops.Setting()]
  return [
    torch_loops.Setting("cuda", channels_last=False),
    torch_loops.Setting("cuda", bfloat16=True),
  ]


def pretraining(
  backbone: str,
  image_size_px: int,
  steps: int,
  dtype: str,
  torch_settings: Sequence[Any] = (),
) -> measure.Case:
  """Steps of the published recipe with batches of 256, from images in memory,
  random views and mixup included."""
  dataset = data.synthetic.make(
    adaptation.NUM_CLASSES, 32, image_size_px=image_size_px, noise=0.5
  )
  network = adaptation.network(backbone, image_size_px, dtype)
  recipe = recipe_lib.make(
    network,
    pretrain.PretrainConfig(batch_size=_BATCH_SIZE),
    num_images=len(dataset.class_ids),
    mesh=devices.mesh(jax.devices()[:1]),
  )
  images, labels = jax.device_put((dataset.images, dataset.class_ids))
  state = jax.jit(recipe.init)(jax.random.key(0), images)
  variables = jax.device_get(state.variables)
  batches = itertools.chain.from_iterable(
    pretrain.order.of_epoch(
      0, epoch, num_images=len(images), batch_size=_BATCH_SIZE
    )
    for epoch in itertools.count()
  )

  def rows():
    return np.stack([next(batches) for _ in range(steps)])

  program, compile_s, memory_bytes = measure.compiled(
    jax.jit(recipe.steps, donate_argnums=0), state, images, labels, rows()
  )

  def run():
    nonlocal state
    state, infos = program(state, images, labels, rows())
    jax.block_until_ready(infos)

  def theirs(setting):
    from benchmarks import torch_loops

    net = adaptation.torch_network(backbone, image_size_px, variables, setting)
    training = torch_loops.Pretraining(
      net, np.asarray(dataset.images), dataset.class_ids, _BATCH_SIZE, setting
    )

    def run():
      training.run(steps)
      torch_loops.synchronize(setting)

    return measure.Other(run, steps * _BATCH_SIZE)

  return measure.Case(
    name=f"pre-training, {backbone} {image_size_px} px, batch {_BATCH_SIZE}",
    unit="images",
    units=steps * _BATCH_SIZE,
    flop=3.0 * cost.forward_flop(network) * steps * _BATCH_SIZE,
    ours=run,
    compile_s=compile_s,
    memory_bytes=memory_bytes,
    others={f"torch {s.name}": theirs(s) for s in torch_settings},
    dtype=dtype,
  )


def extraction(
  backbone: str,
  image_size_px: int,
  num_images: int,
  dtype: str,
  torch_settings: Sequence[Any] = (),
) -> measure.Case:
  """`features.extract`, from uint8 images to outputs in host memory."""
  dataset = data.synthetic.make(
    16, num_images // 16, image_size_px=image_size_px, noise=0.5
  )
  network = adaptation.network(backbone, image_size_px, dtype)
  variables = jax.jit(network.init)(
    jax.random.key(0), dataset.images[:1].astype(np.float32)
  )
  n = len(dataset.class_ids)

  def theirs(setting):
    import torch

    from benchmarks import torch_loops

    host = jax.device_get(variables)
    net = adaptation.torch_network(backbone, image_size_px, host, setting)
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
    note="compilation included",
  )


def prototypes(
  num_episodes: int, torch_settings: Sequence[Any] = ()
) -> measure.Case:
  """`evaluate.run` over cached outputs: sampling, predicting, scoring.

  As many images and values as CIFAR-FS's novel split under conv64. The loop in
  PyTorch receives sampled episodes; that is a tenth of ours.
  """
  rng = np.random.default_rng(0)
  num_classes, per_class, num_logits = 20, 600, adaptation.NUM_CLASSES
  size = (num_classes * per_class, num_logits + 256)
  cached = types.ClassIndexed(
    images=rng.normal(size=size).astype(np.float32),
    class_ids=np.repeat(np.arange(num_classes, dtype=np.int32), per_class),
    class_names=tuple(f"class {c}" for c in range(num_classes)),
    image_ids=tuple(map(str, range(num_classes * per_class))),
    name="random",
    split="novel",
    fingerprint="random",
  )
  network = backbones.identity(num_logits=num_logits)
  method = adapt.create("prototype", network)
  variables = network.init(jax.random.key(0), jnp.asarray(cached.images[:1]))

  def theirs():
    import torch

    from benchmarks import torch_loops

    table = torch.from_numpy(cached.images[:, num_logits:].copy())
    protocol = episodes.Protocol(ways=_WAYS, shots=1, queries=15)
    sampled = []
    for index in range(num_episodes):
      rows = episodes.sampler.draw(cached, protocol, seed=0, index=index)
      names = ("support", "support_labels", "query", "query_labels")
      arrays = (getattr(rows, name) for name in names)
      sampled.append(tuple(torch.from_numpy(x).long() for x in arrays))
    return measure.Other(
      lambda: torch_loops.prototypes(table, sampled, _WAYS), num_episodes
    )

  return measure.Case(
    name=f"prototype, cached features, {num_episodes:,} episodes",
    unit="episodes",
    units=num_episodes,
    flop=0.0,
    ours=lambda: evaluate.run(
      method, variables, cached, num_episodes=num_episodes, progress=False
    ),
    others={"torch, cached features": theirs()} if torch_settings else {},
  )


def first_result(image_size_px: int) -> measure.Case:
  """A process from the shell to the first episode of transductive fine-tuning
  of conv64; its programs are compiled by a first run."""
  folder = tempfile.TemporaryDirectory()
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder.name}
  environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))

  def run():
    assert folder.name  # It exists until the last run.
    subprocess.run(
      [sys.executable, "-c", _SCRIPT.format(size=image_size_px)],
      env=environment,
      check=True,
    )

  return measure.Case(
    name=f"first result of a new process, conv64 {image_size_px} px",
    unit="starts",
    units=1,
    flop=0.0,
    ours=run,
    note="compiled before; imports, one episode and its 25 epochs included",
  )
