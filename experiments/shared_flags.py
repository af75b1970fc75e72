"""Flags that several scripts share: folders, data, network, extractor."""

import pathlib
from typing import Any, NamedTuple

import command_line
from absl import flags

from fsl_jax import checkpoint, data, evaluate, extractors, types
from fsl_jax.pretrain import loop

# They belong to the script that defines them, whose --help lists them.
flags.disclaim_key_flags()


def run_dir(default: str | None = None) -> Any:
  """Defines `--run_dir`."""
  return command_line.define_path(
    "run_dir", default, "Run folder, made if missing."
  )


def data_dir() -> Any:
  """Defines `--data_dir`."""
  return command_line.define_path(
    "data_dir", None, "Root folder of the prepared data sets."
  )


class DataFlags(NamedTuple):
  """`--dataset`, `--split` and `--data_dir`."""

  dataset: Any
  split: Any
  data_dir: Any

  def load(self) -> types.ClassIndexed:
    """The split; InputError if it is not named or not prepared."""
    return data.load(
      command_line.required(self.dataset),
      self.split.value,
      data_dir=self.data_dir.value,
    )


def define_data(note: str = "") -> DataFlags:
  """Defines them; `note` is added to the help of `--dataset`."""
  return DataFlags(
    flags.DEFINE_string(
      "dataset", None, f"Data set: {', '.join(data.names())}.{note}"
    ),
    flags.DEFINE_string("split", "novel", "Classes to sample from."),
    data_dir(),
  )


class SubjectFlags(NamedTuple):
  """`--checkpoint`, and the data on which it is evaluated."""

  checkpoint: Any
  data: DataFlags
  cross_domain: Any
  seen_classes: Any

  def restore(self) -> tuple[types.Variables, dict[str, Any]]:
    """The best weights of a run, or those of a checkpoint, and its metadata.

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
    """The split, at the input size of the network.

    Raises:
      InputError: as `data.load` and `evaluate.check_checkpoint`.
    """
    dataset = data.load(
      meta["data"]["name"]
      if self.data.dataset.value is None
      else self.data.dataset.value,
      self.data.split.value,
      data_dir=self.data.data_dir.value,
      image_size_px=meta["backbone"]["image_size_px"],
    )
    evaluate.check_checkpoint(
      meta,
      dataset,
      cross_domain=self.cross_domain.value,
      seen_classes=self.seen_classes.value,
    )
    return dataset


def define_subject() -> SubjectFlags:
  """Defines the flags."""
  return SubjectFlags(
    command_line.define_path(
      "checkpoint", None, "Run folder of pretrain.py, or a checkpoint in one."
    ),
    define_data(" Default: the checkpoint's."),
    flags.DEFINE_bool(
      "cross_domain",
      False,
      "The data set may differ from the checkpoint's.",
    ),
    flags.DEFINE_bool(
      "seen_classes",
      False,
      "Classes of another data set may have names that were trained on.",
    ),
  )


class ExtractorFlags(NamedTuple):
  """`--hardness`, the feature extractor of hardness, and its options."""

  name: Any
  weights: Any
  size_px: Any

  def of_plan(self) -> dict[str, Any]:
    """Fields of a `scoring.Plan`.

    Raises:
      InputError: for an option that has no effect on the extractor.
    """
    if self.name.value not in extractors.names():
      for flag in (self.weights, self.size_px):
        if flag.value is not None:
          raise types.InputError(
            f"--{flag.name} has no effect on --hardness={self.name.value}"
          )
    return {
      "hardness": self.name.value,
      "hardness_weights": self.weights.value,
      "hardness_size_px": self.size_px.value,
    }

  def load(self) -> extractors.Extractor:
    """Raises InputError for weights that are missing, or of another network."""
    return extractors.load(
      self.name.value,
      path=self.weights.value,
      image_size_px=self.size_px.value,
    )


def define_extractor(*others: str) -> ExtractorFlags:
  """Defines them; the first of `extractors.names` is the default.

  Args:
    others: "own", the evaluated network; "none", no hardness.
  """
  text = "Feature extractor by which hardness is computed"
  text += "; own is the checkpoint's network." if "own" in others else "."
  names = extractors.names()
  return ExtractorFlags(
    flags.DEFINE_enum("hardness", names[0], [*names, *others], text),
    command_line.define_path(
      "hardness_weights",
      None,
      "File of its weights, if no installed package has them.",
    ),
    flags.DEFINE_integer(
      "hardness_size_px",
      None,
      "Size to which images are enlarged for it. Default: unchanged.",
    ),
  )
