"""Base-class training, the stage before any episode."""

from fsl_jax.pretrain import recipe
from fsl_jax.pretrain.loop import LOG, PretrainResult, finished, run
from fsl_jax.pretrain.recipe import PretrainConfig

__all__ = [
  "LOG",
  "PretrainConfig",
  "PretrainResult",
  "finished",
  "recipe",
  "run",
]
