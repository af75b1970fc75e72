"""Progress bar and TensorBoard log of pre-training."""

import pathlib
from typing import Any

from fsl_jax import devices


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
