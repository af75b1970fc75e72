"""A cell of a table or figure: networks, and what is done with them.

A cell is one network (or two to compare) with the jobs that its numbers come
from. Jobs of several cells may be the same; they are done once.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from fsl_jax import adapt

SPLITS = {"train": "base", "train+val": "base+val"}  # the paper's words
NUM_EPISODES = 1000
SEED = 0  # of pre-training, episodes and adaptation


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
    """Names what is computed, whatever it is called in a cell."""
    changed = [f"{k}={v}" for k, v in sorted(self.options.items())]
    return ",".join([self.method, *changed])

  @property
  def is_transductive(self) -> bool:
    return self.method == "transductive_finetune"


class Protocol(NamedTuple):
  """Episodes as the paper has them, all alike."""

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


@dataclasses.dataclass(frozen=True)
class Cell:
  """What one file of results holds."""

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
    """All that its jobs need, each once."""
    return list(dict.fromkeys(job.network for job in self.jobs))

  @property
  def command(self) -> str:
    """What computes it."""
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


def options(variant: Variant, steps: int | None) -> dict[str, Any]:
  """What `adapt.create` is given.

  Args:
    variant: as the cell has it.
    steps: of a toy; None is as published.
  """
  given = dict(variant.options)
  if steps is not None and "epochs" in adapt.option_names(variant.method):
    given["epochs"] = steps
  return given
