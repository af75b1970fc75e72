"""Runs the recipe over a data set: progress, logs, checkpoints, resume."""

import contextlib
import dataclasses
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax import checkpoint, types
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.pretrain import recipe as recipe_lib

LOG = "epochs.jsonl"
LAST = "checkpoints/last"
BEST = "checkpoints/best"


class PretrainResult(NamedTuple):
  variables: types.Variables  # of the best validation accuracy
  meta: dict[str, Any]  # of their checkpoint
  epochs: list[dict[str, Any]]  # one record per epoch
  path: pathlib.Path  # the checkpoint


def run(
  backbone: types.Backbone,
  dataset: types.ClassIndexed,
  config: recipe_lib.PretrainConfig,
  *,
  run_dir: str | pathlib.Path,
  progress: bool = True,
) -> PretrainResult:
  """Trains a network on base classes, or continues where a run was killed.

  The weights kept are those of the best accuracy on the un-augmented training
  images, as in the paper's code for CIFAR-FS, FC-100 and Tiered-ImageNet.

  Args:
    backbone: the network; its `num_classes` must be the data set's.
    dataset: base classes, held on the device as uint8.
    config: the recipe.
    run_dir: run folder; holds configuration, logs (TensorBoard's too) and
      checkpoints. Given again, the run continues and ends with the same
      weights as if it had never stopped.
    progress: shows a bar.

  Raises:
    InputError: if network and data do not fit, or `run_dir` is of another run.
  """
  if backbone.num_classes != dataset.num_classes:
    raise types.InputError(
      f"{backbone.name} has {backbone.num_classes} classes, but "
      f"{dataset.name}, split {dataset.split!r}, has {dataset.num_classes}"
    )
  identity = _identity(backbone, dataset, config)
  recipe = recipe_lib.make(backbone, config, num_images=len(dataset.class_ids))
  folder = run_folder_lib.RunFolder(run_dir, identity)
  images = jax.device_put(dataset.images)
  labels = jax.device_put(dataset.class_ids)

  state = jax.jit(recipe.init)(jax.random.key(config.seed), images)
  best, done = -1.0, 0
  records = folder.read(LOG)
  if checkpoint.exists(folder.path / LAST):
    restored, meta = checkpoint.restore(folder.path / LAST, like=state)
    state = jax.device_put(restored)
    done, best = meta["epoch"], meta["best"]
    if len(records) < done:
      raise types.InputError(
        f"{folder.path / LOG} has {len(records)} lines, but the checkpoint is "
        f"of epoch {done}; restore the file, or choose another run folder"
      )
    # A kill between a log line and its checkpoint repeats that epoch.
    folder.rewrite(LOG, records := records[:done])
  else:
    folder.rewrite(LOG, records := [])

  run_epoch = jax.jit(recipe.epoch, donate_argnums=0)
  accuracy = jax.jit(recipe.accuracy)
  with (
    contextlib.closing(_TensorBoard(folder.path / "tensorboard", done)) as log,
    contextlib.closing(_Bar(config.num_epochs, done, progress)) as bar,
  ):
    for epoch in range(done, config.num_epochs):
      start = time.perf_counter()
      state, infos = run_epoch(state, images, labels)
      infos = jax.device_get(infos)
      seconds = time.perf_counter() - start
      record = {
        "epoch": epoch + 1,
        "loss": float(np.mean(infos.loss, dtype=np.float64)),
        "accuracy": float(np.mean(infos.accuracy, dtype=np.float64)),
        "learning_rate": float(infos.learning_rate[0]),
        "train_accuracy": None,
        "images_per_s": recipe.steps_per_epoch * config.batch_size / seconds,
      }
      if not np.isfinite(infos.loss).all():
        raise types.InputError(
          f"the loss of epoch {epoch + 1} is not finite; try a learning_rate "
          f"below {config.learning_rate}"
        )
      last_epoch = epoch + 1 == config.num_epochs
      if (epoch + 1) % config.validate_every_epochs == 0 or last_epoch:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        value = float(accuracy(variables, images, labels))
        record["train_accuracy"] = value
        if value > best:
          best = value
          meta = identity | {"epoch": epoch + 1, "train_accuracy": value}
          meta["provenance"] = run_folder_lib.provenance()
          checkpoint.save_step(folder.path / BEST, epoch + 1, variables, meta)
      # First the log: a line too many is dropped when the run continues.
      folder.append(LOG, [record])
      records.append(record)
      checkpoint.save_step(
        folder.path / LAST, epoch + 1, state, {"epoch": epoch + 1, "best": best}
      )
      log.write(record)
      bar.update(record)
  path = folder.path / BEST
  variables, meta = checkpoint.restore(path)
  folder.write_json(
    "result.json",
    {
      "best_epoch": meta["epoch"],
      "train_accuracy": meta["train_accuracy"],
      "checkpoint_digest": meta["digest"],
      "last_epoch": records[-1],
    },
  )
  return PretrainResult(variables, meta, records, path)


def _identity(backbone, dataset, config) -> dict[str, Any]:
  """What makes two runs the same run; stored with every checkpoint."""
  return {
    "backbone": backbone.config or {"name": backbone.name},
    "data": {
      "name": dataset.name,
      "split": dataset.split,
      "fingerprint": dataset.fingerprint,
      "image_size_px": dataset.image_size_px,
      "num_images": len(dataset.class_ids),
      "class_names": list(dataset.class_names),
    },
    "pretrain": dataclasses.asdict(config),
  }


class _Bar:
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


class _TensorBoard:
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
