"""What people look at while a network trains."""

import pathlib
from typing import Any


class Bar:
  """Epochs done, with loss, accuracy, images/s and the time left."""

  def __init__(self, total: int, done: int, enabled: bool):
    import tqdm

    self._bar = tqdm.tqdm(
      total=total,
      initial=done,
      desc="pre-training",
      unit="epoch",
      disable=not enabled,
      smoothing=0.1,
    )

  def update(self, record: dict[str, Any]) -> None:
    values = {"loss": f"{record['loss']:.3f}"}
    if record["train_accuracy"] is not None:
      values["train acc"] = f"{record['train_accuracy']:.1%}"
    values["images/s"] = f"{record['images_per_s']:.0f}"
    self._bar.set_postfix(values, refresh=False)
    self._bar.update()

  def close(self) -> None:
    self._bar.close()


class TensorBoard:
  """Scalars that TensorBoard reads; a resumed run overwrites its tail."""

  def __init__(self, folder: pathlib.Path, done: int):
    import tensorboardX

    self._writer = tensorboardX.SummaryWriter(str(folder), purge_step=done + 1)

  def write(self, record: dict[str, Any]) -> None:
    for name, value in record.items():
      if name != "epoch" and value is not None:
        self._writer.add_scalar(name, value, record["epoch"])

  def close(self) -> None:
    self._writer.close()
