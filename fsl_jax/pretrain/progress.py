"""The course of pre-training: sums of an epoch, logs, times to save."""

import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax import devices
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


class Bar:
  """Epochs done, with loss, accuracy, images/s and the time left.

  Within an epoch it advances by the steps that were dispatched.
  """

  def __init__(
    self, num_epochs: int, steps_per_epoch: int, done: float, enabled: bool
  ):
    self._steps_per_epoch = steps_per_epoch
    self._bar = devices.bar(
      total=num_epochs,
      initial=done,
      desc="pre-training",
      unit="epoch",
      enabled=enabled,
      smoothing=0.1,
      bar_format="{l_bar}{bar}| {n:.4g}/{total} "
      "[{elapsed}<{remaining}{postfix}]",
    )

  def advance(self, num_steps: int) -> None:
    """Advances by some steps."""
    self._bar.update(num_steps / self._steps_per_epoch)

  def show(self, record: dict[str, Any]) -> None:
    """Shows the record of an epoch."""
    values = {"loss": f"{record['loss']:.3f}"}
    if record["train_accuracy"] is not None:
      values["train acc"] = f"{record['train_accuracy']:.1%}"
    values["images/s"] = f"{record['images_per_s']:.0f}"
    # Sums of fractions are not exact.
    self._bar.n = record["epoch"]
    self._bar.set_postfix(values)

  def close(self) -> None:
    self._bar.close()


class TensorBoard:
  """Scalars that TensorBoard reads; a resumed run overwrites its tail."""

  def __init__(self, folder: pathlib.Path, done: int):
    import tensorboardX

    self._writer = tensorboardX.SummaryWriter(
      str(folder),
      purge_step=done + 1,
      write_to_disk=devices.is_first_process(),
    )

  def write(self, record: dict[str, Any]) -> None:
    for name, value in record.items():
      if name != "epoch" and value is not None:
        self._writer.add_scalar(name, value, record["epoch"])

  def close(self) -> None:
    self._writer.close()


class SaveTimes:
  """Asks the clock of process 0, rarely, since that waits for the devices.

  Args:
    every_s: seconds from one save to the next.
    now: the clock.
  """

  def __init__(
    self, every_s: float, now: Callable[[], float] = time.perf_counter
  ):
    self._every_s = every_s
    self._now = now
    self.saved()

  def saved(self) -> None:
    """Restarts the clock."""
    self._start = self._now()
    self._steps = 0
    self._ask_at = 1

  def due(self) -> bool:
    """Called once a step; whether to save after it."""
    self._steps += 1
    if self._steps < self._ask_at:
      return False
    wait = _steps_to_wait(self._steps, self._now() - self._start, self._every_s)
    wait = devices.first_of(wait)
    self._ask_at = self._steps + wait
    return wait == 0


def _steps_to_wait(steps: int, elapsed_s: float, every_s: float) -> int:
  """Steps until a save may be due, at the speed so far; 0 if it is due.

  At most the number of steps so far, since the first ones include compilation.
  """
  if elapsed_s >= every_s:
    return 0
  left = int((every_s - elapsed_s) * steps / max(elapsed_s, 1e-9))
  return max(1, min(left, steps))
