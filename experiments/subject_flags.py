"""Flags that say which network is evaluated, and on which data."""

import pathlib
from typing import Any, NamedTuple

import command_line
from absl import flags

from fsl_jax import checkpoint, data, evaluate, types
from fsl_jax.pretrain import loop


class SubjectFlags(NamedTuple):
  """`--checkpoint`, `--dataset` and what belongs to them."""

  checkpoint: Any
  dataset: Any
  split: Any
  data_dir: Any
  cross_domain: Any
  seen_classes: Any

  def restore(self) -> tuple[types.Variables, dict[str, Any]]:
    """The best weights of a run, or those of a checkpoint, and what they are.

    Raises:
      InputError: if there are none to evaluate.
    """
    path = pathlib.Path(command_line.required(self.checkpoint))
    if checkpoint.exists(path / loop.BEST):
      path = path / loop.BEST
    variables, meta = checkpoint.restore(path)
    if not {"backbone", "data", "pretrain"} <= set(meta):
      raise types.InputError(
        f"the checkpoint at {path} is one to continue training from; expected "
        f"the run folder of pretrain.py, or {loop.BEST} in it"
      )
    return variables, meta

  def load(self, meta: dict[str, Any]) -> types.ClassIndexed:
    """The split, at the size of the network; as `evaluate.check_checkpoint`."""
    dataset = data.load(
      meta["data"]["name"]
      if self.dataset.value is None
      else self.dataset.value,
      self.split.value,
      data_dir=self.data_dir.value,
      image_size_px=meta["backbone"]["image_size_px"],
    )
    evaluate.check_checkpoint(
      meta,
      dataset,
      cross_domain=self.cross_domain.value,
      seen_classes=self.seen_classes.value,
    )
    return dataset


def define() -> SubjectFlags:
  """Defines them."""
  return SubjectFlags(
    command_line.define_path(
      "checkpoint", None, "Run folder of pretrain.py, or a checkpoint in one."
    ),
    flags.DEFINE_string(
      "dataset",
      None,
      f"Data set: {', '.join(data.names())}. Default: the checkpoint's.",
    ),
    flags.DEFINE_string("split", "novel", "Classes to draw from."),
    command_line.define_path(
      "data_dir", None, "Root folder of the prepared data sets."
    ),
    flags.DEFINE_bool(
      "cross_domain",
      False,
      "The data set may be another than the checkpoint's.",
    ),
    flags.DEFINE_bool(
      "seen_classes",
      False,
      "Classes of another data set may have names that were trained on.",
    ),
  )
