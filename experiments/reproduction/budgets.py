"""How much of the published programme a run does."""

import dataclasses

from fsl_jax import pretrain, types
from reproduction import cells

# 24 epochs and batches of 1,024 for ImageNet-21k are from the appendix, not
# checked against the paper.
_RECIPES = {
  "imagenet21k": pretrain.PretrainConfig(cycles=(8, 16), batch_size=1024)
}
_NUM_DEVICES = 8  # of the paper, each of which normalised its part of a batch


@dataclasses.dataclass(frozen=True)
class Budget:
  """The factors by which pre-training and evaluation are shortened.

  Attributes:
    name: "full", "third", "quick" or "toy".
    pretrain_factor: epochs of every cycle are divided by it, at least one.
    episode_factor: numbers of episodes are divided by it, at least two.
    images_per_class: of these many base images alone is learnt; None is all.
    steps: epochs of adaptation; None is the published 25.
  """

  name: str
  pretrain_factor: int = 1
  episode_factor: int = 1
  images_per_class: int | None = None
  steps: int | None = None

  @property
  def is_full(self) -> bool:
    return self.name == "full"

  def shorten(
    self,
    cell: cells.Cell,
    most: int | None = None,
    most_transductive: int | None = None,
  ) -> cells.Cell:
    """The same cell with fewer episodes.

    Args:
      cell: as published.
      most: episodes of each job at most; None sets no limit.
      most_transductive: of those of transductive methods, which cost most.
    """

    def of_job(job):
      limits = [max(2, job.num_episodes // self.episode_factor), most]
      limits += [most_transductive] * job.variant.is_transductive
      fewest = min(limit for limit in limits if limit is not None)
      return dataclasses.replace(job, num_episodes=fewest)

    return dataclasses.replace(cell, jobs=tuple(map(of_job, cell.jobs)))

  def recipe(self, network: cells.Network) -> pretrain.PretrainConfig:
    """The published recipe for a network's data, its cycles shortened.

    A shortened run keeps its last weights: looking for the best ones after
    every epoch would take a good part of it.
    """
    config = _RECIPES.get(network.dataset, pretrain.PretrainConfig())
    config = dataclasses.replace(config, seed=cells.SEED)
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
    # Tries a command; what it gives is no result.
    Budget(
      "toy",
      pretrain_factor=80,
      episode_factor=1000,
      images_per_class=5,
      steps=1,
    ),
  )
}


def named(name: str) -> Budget:
  """Raises InputError for an unknown name."""
  if name not in BUDGETS:
    raise types.unknown_name("budget", name, BUDGETS)
  return BUDGETS[name]
