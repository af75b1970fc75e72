"""Images of many classes: prepared on disk, loaded into memory.

    fsl_jax.data.prepare("icons")
    novel = fsl_jax.data.load("icons", "novel")  # -> types.ClassIndexed

A data set is prepared once, into a folder of tensorflow-datasets, and only read
afterwards. `synthetic.make` needs no preparation.
"""

from fsl_jax.data import (
  fingerprint,
  loading,
  near_copies,
  prepared,
  streamed,
  synthetic,
)
from fsl_jax.data.description import Description
from fsl_jax.data.loading import SPLITS, load, verify
from fsl_jax.data.prepared import describe, names, prepare, usual_size_px

__all__ = [
  "Description",
  "SPLITS",
  "describe",
  "fingerprint",
  "load",
  "loading",
  "names",
  "near_copies",
  "prepare",
  "prepared",
  "streamed",
  "synthetic",
  "usual_size_px",
  "verify",
]
