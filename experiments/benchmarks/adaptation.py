"""Adaptation to episodes: any method, network, image size, number of shots."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure
from fsl_jax import adapt, backbones, data, episodes, types
from fsl_jax.backbones import cost

EPOCHS = 25  # the published number
NUM_CLASSES = 64


def network(backbone: str, image_size_px: int, dtype: str) -> types.Backbone:
  return backbones.create(
    backbone,
    num_classes=NUM_CLASSES,
    image_size_px=image_size_px,
    dtype=None if dtype == "float32" else dtype,
  )


def torch_network(
  backbone: str, image_size_px: int, variables: Any, setting: Any
) -> Any:
  """The same network in PyTorch, with these variables."""
  from benchmarks import torch_loops

  return torch_loops.network(
    backbone,
    variables,
    setting,
    num_classes=NUM_CLASSES,
    image_size_px=image_size_px,
  )


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is adapted to what."""

  backbone: str
  image_size_px: int
  method: str = "transductive_finetune"
  ways: int = 5
  shots: int = 1
  queries: int = 15
  epochs: int = EPOCHS
  episodes: int = 1  # of one run
  dtype: str = "float32"

  @property
  def name(self) -> str:
    return (
      f"{self.method}, {self.backbone} {self.image_size_px} px, "
      f"{self.ways} ways, {self.shots} shot{'s' * (self.shots > 1)}"
    )

  @property
  def is_transductive(self) -> bool:
    return self.method == "transductive_finetune"

  @property
  def steps(self) -> int:
    steps = self.method in ("finetune", "transductive_finetune")
    return self.epochs if steps else 0

  def network(self) -> types.Backbone:
    return network(self.backbone, self.image_size_px, self.dtype)

  def adapter(self, **options: Any) -> types.Adapter:
    if self.steps:
      options = {"epochs": self.epochs} | options
    return adapt.create(self.method, self.network(), **options)

  def flop(self) -> float:
    """Useful operations of one run: 3 forward passes per image and update."""
    support = self.ways * self.shots
    query = self.ways * self.queries
    trained = support + query * self.is_transductive
    passes = 3 * self.steps * trained + support + query
    return float(cost.forward_flop(self.network()) * passes * self.episodes)


def variables(setup: Setup) -> types.Variables:
  """Random weights, on which speed does not depend."""
  shape = (1, setup.image_size_px, setup.image_size_px, 3)
  return setup.network().init(jax.random.key(0), jnp.zeros(shape))


def tasks(setup: Setup) -> types.Task:
  """Episodes of synthetic images, with a leading B."""
  dataset = data.synthetic.make(
    setup.ways + 3,
    setup.shots + setup.queries,
    image_size_px=setup.image_size_px,
    noise=0.5,
  )
  made = [
    episodes.sample(
      dataset,
      seed=0,
      index=index,
      ways=setup.ways,
      shots=setup.shots,
      queries=setup.queries,
    ).task
    for index in range(setup.episodes)
  ]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *made)


def case(
  setup: Setup,
  torch_settings: Sequence[Any] = (),
  *,
  torch_episodes: int | None = None,
) -> measure.Case:
  """The published method on both sides, random views included.

  PyTorch's loop may run fewer episodes, each of which costs the same.
  """
  weights, made = variables(setup), tasks(setup)
  arguments = jax.device_put(
    (jax.random.key(0), weights, made, np.arange(setup.episodes))
  )
  adapter = setup.adapter()
  first = jax.tree.map(lambda x: x[0], made)
  chunk = adapt.chunking.choose(adapter, weights, first, largest=setup.episodes)
  program, compile_s, memory_bytes = measure.compiled(
    adapt.batched.compile(adapter, chunk=chunk), *arguments
  )
  notes = []
  if setup.steps not in (0, EPOCHS):
    notes.append(f"{setup.steps} of {EPOCHS} epochs")
  if chunk > 1:
    notes.append(f"{chunk} episodes together")
  return measure.Case(
    name=setup.name,
    unit="episodes",
    units=setup.episodes,
    flop=setup.flop(),
    ours=lambda: jax.block_until_ready(program(*arguments)),
    compile_s=compile_s,
    memory_bytes=memory_bytes,
    others={
      f"torch {setting.name}": _torch_run(
        dataclasses.replace(setup, episodes=torch_episodes or setup.episodes),
        weights,
        setting,
      )
      for setting in torch_settings
    },
    dtype=setup.dtype,
    note=", ".join(notes),
  )


def _torch_run(setup, variables, setting) -> measure.Other:
  from benchmarks import torch_loops

  check(setup, setting)
  net = torch_network(setup.backbone, setup.image_size_px, variables, setting)
  loaded = torch_loops.Episodes(tasks(setup), setting)

  def run():
    torch_loops.adapt(
      net,
      loaded,
      setting,
      steps=setup.steps,
      transductive=setup.is_transductive,
      views=True,
    )
    torch_loops.synchronize(setting)

  return measure.Other(run, setup.episodes)


def check(setup: Setup, setting: Any) -> float:
  """The greatest difference of our logits from PyTorch's, in float32.

  One epoch without random views, which the two sample differently. Adam takes
  full steps along gradients that are mere rounding errors, so two correct
  programs diverge with the epochs.

  Raises:
    InputError: above 1e-3; logits are cosines, in [-1, 1].
  """
  from benchmarks import torch_loops

  setup = dataclasses.replace(setup, epochs=1, episodes=2, dtype="float32")
  plain = dataclasses.replace(setting, bfloat16=False)
  options = {"augment": False} if setup.steps else {}
  weights, made = variables(setup), tasks(setup)
  with jax.default_matmul_precision("highest"):
    ours, _ = adapt.batched.compile(setup.adapter(**options))(
      jax.random.key(0), weights, made, np.arange(2)
    )
  theirs = torch_loops.adapt(
    torch_network(setup.backbone, setup.image_size_px, weights, plain),
    torch_loops.Episodes(made, plain),
    plain,
    steps=setup.steps,
    transductive=setup.is_transductive,
    views=False,
  )
  difference = max(
    float(np.abs(np.asarray(a) - b.cpu().numpy()).max())
    for a, b in zip(ours, theirs, strict=True)
  )
  if not difference < 1e-3:
    raise types.InputError(
      f"{setup.name}: our logits differ from PyTorch's by {difference:.1e}, so "
      "their times cannot be compared"
    )
  return difference
