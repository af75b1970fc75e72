"""Few-shot image classification: fine-tuning of the whole network.

The map, in the order in which data flows:

  data       prepared images, indexed by class      -> types.ClassIndexed
  episodes   episode i of a split                   -> types.Episode
  backbones  networks as pure functions             -> types.Backbone
  pretrain   base-class training                    -> variables
  adapt      few-shot methods                       -> types.Adapter
  evaluate   methods on the same episodes           -> types.EvalResult
  features   outputs of a frozen network, cached    -> types.ClassIndexed
  hardness   of an episode; dataset_hardness of a whole split
  extractors networks trained by others, for hardness
  statistics intervals, paired tests, pooling
  diagnosis  predictions before and after adaptation
  results    the summary of a run: every number of it
  report     tables, figures, one page
  checkpoint, run_folder   files on disk
  devices    one or many, of one host or many
"""

from fsl_jax import (
  adapt,
  augment,
  backbones,
  checkpoint,
  data,
  dataset_hardness,
  devices,
  diagnosis,
  episodes,
  evaluate,
  extractors,
  features,
  hardness,
  pretrain,
  report,
  results,
  run_folder,
  statistics,
  types,
)
from fsl_jax.types import InputError
from fsl_jax.version import __version__

__all__ = [
  "InputError",
  "__version__",
  "adapt",
  "augment",
  "backbones",
  "checkpoint",
  "data",
  "dataset_hardness",
  "devices",
  "diagnosis",
  "episodes",
  "evaluate",
  "extractors",
  "features",
  "hardness",
  "pretrain",
  "report",
  "results",
  "run_folder",
  "statistics",
  "types",
]
