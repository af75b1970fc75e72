"""Sums over the steps of an epoch, which a checkpoint in its middle keeps."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax.pretrain import recipe


class Sums(NamedTuple):
  """Over the steps so far; JSON values."""

  num_steps: int
  loss: float
  accuracy: float
  learning_rate: float  # of the first step, no sum


NOTHING = Sums(0, 0.0, 0.0, 0.0)


# Calls that may be queued on the device. Each holds a batch of images; without
# a limit a fast decoder would fill the device's memory.
_MAX_QUEUED = 8


class Tally:
  """Sums the infos of steps, without waiting for those just dispatched."""

  def __init__(self, sums: Sums = NOTHING):
    self._sums = sums
    self._pending: list[recipe.TrainInfo] = []
    self.num_steps = sums.num_steps  # those pending included

  def add(self, infos: recipe.TrainInfo) -> None:
    """Takes the infos of some steps, [steps] each, on the device."""
    if len(self._pending) >= _MAX_QUEUED:
      jax.block_until_ready(self._pending[-_MAX_QUEUED])
    self._pending.append(infos)
    self.num_steps += infos.loss.shape[0]

  def read(self) -> Sums:
    """The sums; waits for the device."""
    for infos in jax.device_get(self._pending):
      values: Any = [np.asarray(x, np.float64) for x in infos]
      loss, accuracy, rate = values
      # One by one: the same sum however the steps were grouped.
      sums = self._sums
      for i in range(len(loss)):
        sums = Sums(
          sums.num_steps + 1,
          sums.loss + float(loss[i]),
          sums.accuracy + float(accuracy[i]),
          sums.learning_rate if sums.num_steps else float(rate[i]),
        )
      self._sums = sums
    self._pending = []
    return self._sums

  def means(self) -> dict[str, float]:
    """The values of an epoch for the log."""
    sums = self.read()
    return {
      "loss": sums.loss / sums.num_steps,
      "accuracy": sums.accuracy / sums.num_steps,
      "learning_rate": sums.learning_rate,
    }
