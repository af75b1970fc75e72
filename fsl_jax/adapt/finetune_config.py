"""The choices of the fine-tuning methods, with the published defaults."""

import dataclasses
import math
from typing import Literal

from fsl_jax import types

EntropyWeight = float | Literal["inverse_log_ways"]


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """Every choice of the method; the defaults are the published ones."""

  # What the head is fed: base-class "logits", or "features" before them.
  input: Literal["logits", "features"] = "logits"
  # Whether negative values of it are cut (off for ImageNet-21k).
  relu: bool = True
  # What the updates move: "all" weights, or W and b of the "head" alone.
  trainable: Literal["all", "head"] = "all"
  # Batch norm during updates: statistics of the "batch", which also move the
  # running ones that scoring uses (whatever is trainable), or "frozen" ones.
  bn: Literal["batch", "frozen"] = "batch"
  # Fresh random views of support and query at every update.
  augment: bool = True
  # "alternating": a support update, then a query update, one Adam state.
  # "joint": one update on the sum of both losses.
  updates: Literal["alternating", "joint"] = "alternating"
  # Weight of the query entropy; 0 leaves the query pass out altogether.
  # "inverse_log_ways" is 1 / log N (ImageNet-21k).
  entropy_weight: EntropyWeight = 1.0
  # Divides the head's logits, in training and in prediction.
  temperature: float = 1.0
  # Epochs: passes over the support set, and over the query set.
  steps: int = 25
  learning_rate: float = 5e-5  # Adam's, constant
  micro_batch: int = 75  # images; each has batch statistics of its own

  def __post_init__(self) -> None:
    for name, allowed in (
      ("input", ("logits", "features")),
      ("trainable", ("all", "head")),
      ("bn", ("batch", "frozen")),
      ("updates", ("alternating", "joint")),
    ):
      if getattr(self, name) not in allowed:
        raise types.unknown_name(name, str(getattr(self, name)), allowed)
    weight = self.entropy_weight
    if isinstance(weight, str):
      if weight != "inverse_log_ways":
        raise types.unknown_name("entropy_weight", weight, ["inverse_log_ways"])
    elif not 0 <= weight < math.inf:
      raise types.InputError(f"entropy_weight must be at least 0, got {weight}")
    types.check_whole("steps", self.steps)
    types.check_whole("micro_batch", self.micro_batch, at_least=1)
    for name in ("temperature", "learning_rate"):
      if not 0 < getattr(self, name) < math.inf:
        raise types.InputError(
          f"{name} must be positive, got {getattr(self, name)}"
        )

  @property
  def is_transductive(self) -> bool:
    """Whether the unlabelled queries take part in the updates."""
    return self.steps > 0 and self.entropy_weight != 0
