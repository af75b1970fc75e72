"""A cell of a table or figure: networks, and the jobs of its numbers.

A cell is one network (or two to compare) with the jobs that its numbers come
from. Jobs of several cells may be the same; they are done once. A budget says
how much of the published programme is done.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from fsl_jax import adapt, pretrain, types

SPLITS = {"train": "base", "train+val": "base+val"}  # the paper's words
NUM_EPISODES = 1000
SEED = 0  # of pre-training, episodes and adaptation
_NUM_DEVICES = 8  # of the paper, each of which normalised its part of a batch
# 24 epochs and batches of 1,024 for ImageNet-21k are from the appendix, not
# checked against the paper.
_RECIPES = {
  "imagenet21k": pretrain.PretrainConfig(cycles=(8, 16), batch_size=1024)
}


@dataclasses.dataclass(frozen=True)
class Network:
  """What is pre-trained."""

  dataset: str
  backbone: str
  split: str  # a key of SPLITS
  dtype: str = "float32"
  mixup: bool = True
  # Published: the parts of a batch on eight devices are normalised separately.
  whole_batch_norm: bool = False

  @property
  def name(self) -> str:
    """Names a folder; no two networks share one."""
    parts = [self.dataset.replace("/", "_"), self.backbone, self.split]
    parts += [] if self.dtype == "float32" else [self.dtype]
    parts += [] if self.mixup else ["no_mixup"]
    parts += ["whole_batch_norm"] if self.whole_batch_norm else []
    return "-".join(parts)


@dataclasses.dataclass(frozen=True)
class Variant:
  """A method with those of its options that differ from the defaults."""

  name: str  # unique in the cell
  method: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def folder(self) -> str:
    """Names what is computed, whatever its name in a cell."""
    changed = [f"{k}={v}" for k, v in sorted(self.options.items())]
    return ",".join([self.method, *changed])

  @property
  def is_transductive(self) -> bool:
    return self.method == "transductive_finetune"


class Protocol(NamedTuple):
  """Episodes of the paper, with one number each."""

  ways: int
  shots: int
  queries: int


@dataclasses.dataclass(frozen=True)
class Job:
  """A variant on episodes 0 to num_episodes - 1 of one protocol."""

  network: Network
  variant: Variant
  protocol: Protocol
  num_episodes: int = NUM_EPISODES

  @property
  def key(self) -> tuple[Any, ...]:
    """Which row of the results it is."""
    return (self.variant.name, *self.protocol)


@dataclasses.dataclass(frozen=True)
class Cell:
  """The content of one file of results."""

  target: str
  network: Network
  jobs: tuple[Job, ...]
  evaluated_on: str = "novel"
  ablation: str | None = None

  @property
  def name(self) -> str:
    parts = [self.target, self.ablation, self.network.name]
    return "-".join(part for part in parts if part)

  @property
  def networks(self) -> list[Network]:
    """All networks of its jobs, each once."""
    return list(dict.fromkeys(job.network for job in self.jobs))

  @property
  def command(self) -> str:
    """The command that computes it."""
    kind, number = self.target[:-1], self.target[-1]
    target = f"--{kind}={number}" if number.isdigit() else f"--{self.target}"
    if self.ablation:
      target = f"--ablation={self.ablation}"
    options = [
      target,
      f"--dataset={self.network.dataset}",
      f"--backbone={self.network.backbone}",
      f"--split={self.network.split}",
    ]
    if self.network.dtype != "float32":
      options.append(f"--dtype={self.network.dtype}")
    if self.network.whole_batch_norm:
      options.append("--whole_batch_norm")
    return " ".join(["python experiments/reproduce.py", *options])

  def with_episodes(self, counts: Mapping[tuple[Any, ...], int]) -> "Cell":
    """The cell with as many episodes of each job as `counts` has by its key."""
    return dataclasses.replace(
      self,
      jobs=tuple(
        dataclasses.replace(job, num_episodes=counts.get(job.key, 0))
        for job in self.jobs
      ),
    )


@dataclasses.dataclass(frozen=True)
class Budget:
  """The factors by which pre-training and evaluation are shortened.

  Attributes:
    name: "full", "third", "quick" or "toy".
    pretrain_factor: epochs of every cycle are divided by it, at least one.
    episode_factor: numbers of episodes are divided by it, at least two.
    images_per_class: the number of base images per class; None is all.
    epochs: of adaptation; None is the published 25.
  """

  name: str
  pretrain_factor: int = 1
  episode_factor: int = 1
  images_per_class: int | None = None
  epochs: int | None = None

  @property
  def is_full(self) -> bool:
    return self.name == "full"

  @property
  def suffix(self) -> str:
    """Of the name of a file of results."""
    return "" if self.is_full else f"-{self.name}"

  def shorten(
    self,
    cell: Cell,
    most: int | None = None,
    most_transductive: int | None = None,
  ) -> Cell:
    """The same cell with fewer episodes.

    Args:
      cell: as published.
      most: episodes of each job at most; None sets no limit.
      most_transductive: of those of transductive methods, which cost most.
    """
    counts = {}
    for job in cell.jobs:
      limits = [max(2, job.num_episodes // self.episode_factor), most]
      limits += [most_transductive] * job.variant.is_transductive
      counts[job.key] = min(limit for limit in limits if limit is not None)
    return cell.with_episodes(counts)

  def options(self, variant: Variant) -> dict[str, Any]:
    """Options of `adapt.create`."""
    given = dict(variant.options)
    if self.epochs is not None and "epochs" in adapt.option_names(
      variant.method
    ):
      given["epochs"] = self.epochs
    return given

  def recipe(self, network: Network) -> pretrain.PretrainConfig:
    """The published recipe for a network's data, its cycles shortened.

    A shortened run keeps its last weights: selecting the best ones after every
    epoch would take a large part of its time.
    """
    config = _RECIPES.get(network.dataset, pretrain.PretrainConfig())
    config = dataclasses.replace(config, seed=SEED)
    if not network.mixup:
      config = dataclasses.replace(config, mixup_alpha=0.0)
    if not network.whole_batch_norm:
      group = config.batch_size // _NUM_DEVICES
      config = dataclasses.replace(config, batch_norm_group=group)
    if self.pretrain_factor == 1:
      return config
    factor = self.pretrain_factor
    cycles = tuple(max(1, round(n / factor)) for n in config.cycles)
    return dataclasses.replace(
      config, cycles=cycles, validate_every_epochs=sum(cycles)
    )


BUDGETS = {
  budget.name: budget
  for budget in (
    Budget("full"),
    Budget("third", pretrain_factor=3),
    Budget("quick", pretrain_factor=20, episode_factor=20),
    # For trying a command; it writes no result.
    Budget(
      "toy",
      pretrain_factor=80,
      episode_factor=1000,
      images_per_class=5,
      epochs=1,
    ),
  )
}


def budget(name: str) -> Budget:
  """Raises InputError for an unknown name."""
  if name not in BUDGETS:
    raise types.unknown_name("budget", name, BUDGETS)
  return BUDGETS[name]
