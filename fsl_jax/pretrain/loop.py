"""Runs the recipe over a data set: progress, logs, checkpoints, resume."""

import contextlib
import dataclasses
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import checkpoint, devices, types
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.pretrain import feed as feed_lib
from fsl_jax.pretrain import order
from fsl_jax.pretrain import progress as progress_lib
from fsl_jax.pretrain import recipe as recipe_lib

LOG = "epochs.jsonl"
LAST = "checkpoints/last"
BEST = "checkpoints/best"
RESULT = "result.json"


class PretrainResult(NamedTuple):
  variables: types.Variables  # of the best accuracy on the training images
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
  checkpoint_every_s: float = 600.0,
) -> PretrainResult:
  """Trains a network on base classes, or continues where a run was killed.

  The weights kept are those of the best accuracy on the un-augmented training
  images, as in the paper's code for CIFAR-FS, FC-100 and Tiered-ImageNet.

  Batches are divided over all devices of all processes. Mixup and loss are
  those of the whole batch, and batch statistics those of the whole batch or of
  each `batch_norm_group` images of it, so that the weights are those of one
  device up to rounding. Of several processes, all call this, and see the same
  `run_dir`.

  Args:
    backbone: the network; its `num_classes` must be the data set's.
    dataset: base classes. An array is held on the device; images that stay on
      disk are decoded by worker processes as training goes on, and the
      accuracy is that of 50,000 of them, evenly spaced.
    config: the recipe.
    run_dir: run folder; holds configuration, logs (TensorBoard's too) and
      checkpoints. Given again, the run continues and ends with the same
      weights as if it had never stopped.
    progress: shows a bar.
    checkpoint_every_s: seconds between checkpoints within an epoch of images
      that stay on disk; there is one after each epoch in any case.

  Raises:
    InputError: if network and data do not fit, the batch size is not a multiple
      of the number of devices, or `run_dir` is of another run.
  """
  _check_fit(backbone, dataset)
  identity = _identity(backbone, dataset, config)
  mesh = devices.mesh()
  num_images = len(dataset.class_ids)
  recipe = recipe_lib.make(backbone, config, num_images=num_images, mesh=mesh)
  folder = run_folder_lib.RunFolder(run_dir, identity)
  training = _Training(
    recipe, dataset, folder, identity, mesh, checkpoint_every_s
  )
  begun = training.done.tally.num_steps / recipe.steps_per_epoch
  first = training.done.epoch
  with (
    contextlib.closing(
      progress_lib.TensorBoard(folder.path / "tensorboard", first)
    ) as board,
    contextlib.closing(
      progress_lib.Bar(
        config.num_epochs, recipe.steps_per_epoch, first + begun, progress
      )
    ) as bar,
  ):
    for epoch in range(first, config.num_epochs):
      record = training.epoch(epoch, bar)
      board.write(record)
      bar.show(record)
  path = folder.path / BEST
  variables, meta = checkpoint.restore(path)
  records = folder.read(LOG)
  folder.write_json(
    RESULT,
    {
      "best_epoch": meta["epoch"],
      "train_accuracy": meta["train_accuracy"],
      "checkpoint_digest": meta["digest"],
      "last_epoch": records[-1],
    },
  )
  folder.release()
  return PretrainResult(variables, meta, records, path)


def finished(
  backbone: types.Backbone,
  dataset: types.ClassIndexed,
  config: recipe_lib.PretrainConfig,
  *,
  run_dir: str | pathlib.Path,
) -> PretrainResult | None:
  """What `run` returned where it has come to its end; nothing is written.

  Arguments as for `run`.

  Returns:
    None if there is no such run folder, or it is of another run, or the run
    has not ended.

  Raises:
    InputError: if the checkpoint is damaged.
  """
  folder = run_folder_lib.Files(run_dir)
  if not (folder.path / RESULT).exists():
    return None
  variables, meta = checkpoint.restore(folder.path / BEST)
  identity = json.loads(json.dumps(_identity(backbone, dataset, config)))
  if {key: meta.get(key) for key in identity} != identity:
    return None
  return PretrainResult(variables, meta, folder.read(LOG), folder.path / BEST)


def _check_fit(backbone: types.Backbone, dataset: types.ClassIndexed) -> None:
  """Raises InputError unless the network can be trained on the classes."""
  if backbone.num_classes != dataset.num_classes:
    raise types.InputError(
      f"{backbone.name} has {backbone.num_classes} classes, but "
      f"{dataset.name}, split {dataset.split!r}, has {dataset.num_classes}"
    )
  if dataset.num_classes < 2:
    raise types.InputError(
      f"{dataset.name}, split {dataset.split!r}, has one class "
      f"({dataset.class_names[0]!r}), from which a network learns nothing; "
      "expected at least 2"
    )
  resizes = backbone.preprocess.size_px is not None
  if not resizes and backbone.image_size_px not in (
    None,
    dataset.image_size_px,
  ):
    raise types.InputError(
      f"{backbone.name} was made for {backbone.image_size_px} px, but the "
      f"images of {dataset.name} have {dataset.image_size_px}; load them with "
      f"image_size_px={backbone.image_size_px}"
    )


class _Done(NamedTuple):
  """How far a run has come."""

  epoch: int  # whole epochs
  best: float  # accuracy of the weights kept
  tally: progress_lib.Sums  # of the epoch that was begun


class _Training:
  """The state of a run, and one epoch of it after the other.

  `done` is how far the run had come when it was opened, and then has come.
  """

  def __init__(
    self,
    recipe: recipe_lib.Recipe,
    dataset: types.ClassIndexed,
    folder: run_folder_lib.RunFolder,
    identity: dict[str, Any],
    mesh: jax.sharding.Mesh,
    checkpoint_every_s: float,
  ):
    self._recipe = recipe
    self._config = recipe.config
    self._feed = feed_lib.of(dataset, mesh)
    self._folder = folder
    self._identity = identity
    self._num_images = len(dataset.class_ids)
    self._checkpoint_every_s = checkpoint_every_s
    same = devices.sharding(mesh, devices.SAME)

    def init():
      sample = jnp.zeros((1, *dataset.images.shape[1:]), jnp.uint8)
      return recipe.init(jax.random.key(self._config.seed), sample)

    state = jax.jit(init, out_shardings=same)()
    self._state, self.done = _restore(folder, state, mesh)
    self._steps = jax.jit(recipe.steps, donate_argnums=0, out_shardings=same)
    self._hits = jax.jit(recipe.hits, out_shardings=same)
    self._guard = "allow"  # Compiling moves constants.

  def epoch(self, epoch: int, bar: progress_lib.Bar) -> dict[str, Any]:
    """Trains to the end of an epoch, and keeps its record and checkpoint."""
    config = self._config
    rows = order.of_epoch(
      config.seed,
      epoch,
      num_images=self._num_images,
      batch_size=config.batch_size,
    )
    tally = progress_lib.Tally(self.done.tally)
    first = tally.num_steps
    start = time.perf_counter()
    self._train(epoch, rows, tally, bar)
    seconds = time.perf_counter() - start
    record = {"epoch": epoch + 1, **tally.means(), "train_accuracy": None}
    record["images_per_s"] = (len(rows) - first) * config.batch_size / seconds
    is_last = epoch + 1 == config.num_epochs
    if (epoch + 1) % config.validate_every_epochs == 0 or is_last:
      record["train_accuracy"] = self._keep_best(epoch)
    # First the log: a line too many is dropped when the run continues.
    self._folder.append(LOG, [record])
    self.done = _Done(epoch + 1, self.done.best, progress_lib.NOTHING)
    _save_last(self._folder, self._state, self.done)
    return record

  def _train(
    self,
    epoch: int,
    rows: np.ndarray,
    tally: progress_lib.Tally,
    bar: progress_lib.Bar,
  ) -> None:
    """The steps of an epoch that `tally` has not had, with checkpoints."""
    saves = progress_lib.SaveTimes(self._checkpoint_every_s)
    for span in self._feed.spans(rows[tally.num_steps :]):
      with jax.transfer_guard(self._guard):
        self._state, infos = self._steps(self._state, *span)
      self._guard = "disallow"
      tally.add(infos)
      bar.advance(len(span.rows))
      if tally.num_steps < len(rows) and saves.due():
        _refuse_divergence(tally, epoch, self._config)
        self.done = _Done(epoch, self.done.best, tally.read())
        _save_last(self._folder, self._state, self.done)
        saves.saved()
    _refuse_divergence(tally, epoch, self._config)

  def _keep_best(self, epoch: int) -> float:
    """Accuracy on the training images; saves the weights if it is the best."""
    variables = self._state.variables
    counts = [
      self._hits(variables, *span, real)
      for span, real in self._feed.validation(self._config.batch_size)
    ]
    hits = sum(int(count) for count in jax.device_get(counts))
    value = hits / self._feed.num_validated
    if value > self.done.best:
      self.done = self.done._replace(best=value)
      meta = self._identity | {"epoch": epoch + 1, "train_accuracy": value}
      meta["provenance"] = run_folder_lib.provenance()
      checkpoint.save_step(self._folder.path / BEST, epoch + 1, variables, meta)
    return value


def _saved(state: recipe_lib.TrainState) -> dict[str, Any]:
  """A state as checkpoints hold it: the collections beside the rest."""
  return {
    **state.variables,
    "optimizer_state": state.optimizer_state,
    "step": state.step,
  }


def _restore(
  folder: run_folder_lib.RunFolder,
  state: recipe_lib.TrainState,
  mesh: jax.sharding.Mesh,
) -> tuple[recipe_lib.TrainState, _Done]:
  """The state to continue from: `state` itself in a new run folder."""
  if not checkpoint.exists(folder.path / LAST):
    folder.rewrite(LOG, [])
    return state, _Done(0, -1.0, progress_lib.NOTHING)
  restored, meta = checkpoint.restore(folder.path / LAST, like=_saved(state))
  records = folder.read(LOG)
  if len(records) < meta["epoch"]:
    raise types.InputError(
      f"{folder.path / LOG} has {len(records)} lines, but the checkpoint is "
      f"of epoch {meta['epoch']}; restore the file, or choose another run "
      "folder"
    )
  # A kill between a log line and its checkpoint repeats that epoch.
  folder.rewrite(LOG, records[: meta["epoch"]])
  tally = progress_lib.Sums(**meta["tally"])
  placed = devices.place(mesh, devices.SAME, restored)
  state = recipe_lib.TrainState(
    optimizer_state=placed.pop("optimizer_state"),
    step=placed.pop("step"),
    variables=placed,
  )
  return state, _Done(meta["epoch"], meta["best"], tally)


def _save_last(
  folder: run_folder_lib.RunFolder, state: recipe_lib.TrainState, done: _Done
) -> None:
  meta = done._asdict() | {"tally": done.tally._asdict()}
  step = int(jax.device_get(state.step))
  checkpoint.save_step(folder.path / LAST, step, _saved(state), meta)


def _refuse_divergence(
  tally: progress_lib.Tally, epoch: int, config: recipe_lib.PretrainConfig
) -> None:
  if not np.isfinite(tally.read().loss):
    raise types.InputError(
      f"the loss of epoch {epoch + 1} is not finite; try a learning_rate "
      f"below {config.learning_rate}"
    )


def _identity(backbone, dataset, config) -> dict[str, Any]:
  """What makes two runs the same run; stored with every checkpoint."""
  recipe = dataclasses.asdict(config)
  if not recipe["batch_norm_group"]:
    del recipe["batch_norm_group"]  # Runs from before it are continued.
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
    "pretrain": recipe,
  }
