"""Flags that say which network judges hardness."""

from typing import Any, NamedTuple

import command_line
from absl import flags

from fsl_jax import extractors, types


class JudgeFlags(NamedTuple):
  """`--hardness` and what belongs to it."""

  name: Any
  weights: Any
  size_px: Any

  def of_plan(self) -> dict[str, Any]:
    """Fields of a `scoring.Plan`.

    Raises:
      InputError: for what has no effect on the judge.
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


def define(*others: str) -> JudgeFlags:
  """Defines them; the first of `extractors.names` is the default.

  Args:
    others: "own", the network that is evaluated; "none", no hardness.
  """
  text = "Network that judges hardness."
  if "own" in others:
    text = "Network that judges hardness; own is the checkpoint's."
  names = extractors.names()
  return JudgeFlags(
    flags.DEFINE_enum("hardness", names[0], [*names, *others], text),
    command_line.define_path(
      "hardness_weights",
      None,
      "Its file of weights, where no package has them.",
    ),
    flags.DEFINE_integer(
      "hardness_size_px",
      None,
      "Enlarges images for it. Default: as they are.",
    ),
  )
