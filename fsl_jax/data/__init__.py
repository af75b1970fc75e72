"""Images of many classes: prepared on disk, loaded into memory.

    python experiments/prepare_data.py --dataset=icons

    novel = fsl_jax.data.load("icons", "novel")  # -> types.ClassIndexed

A data set is prepared once, into a folder of tensorflow-datasets, and then
only read. `synthetic.make` needs no preparation.
"""

import os

from fsl_jax import types
from fsl_jax.data import fingerprint, loading, prepared, streamed, synthetic
from fsl_jax.data.description import Description
from fsl_jax.data.loading import SPLITS, verify
from fsl_jax.data.prepared import describe, names, prepare, usual_size_px

__all__ = [
  "Description",
  "SPLITS",
  "describe",
  "fingerprint",
  "load",
  "loading",
  "names",
  "prepare",
  "prepared",
  "streamed",
  "synthetic",
  "usual_size_px",
  "verify",
]


def load(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  image_size_px: int | None = None,
  in_memory: bool | None = None,
) -> types.ClassIndexed:
  """Loads one split of a prepared data set.

  Args:
    name: one of `names()`, such as "cifar_fs", or image_folder/NAME.
    split: "base", "val", "novel", or "base+val" (classes of base first).
    data_dir: root of all prepared data sets; None is the default of
      tensorflow-datasets: $TFDS_DATA_DIR, or a folder in the home directory.
    image_size_px: height and width to resize to, antialiased bilinear; None
      keeps the prepared size.
    in_memory: True gives one array, memory-mapped from a file that is made at
      the first time, or decoded into memory if it cannot be written; False
      images that are decoded when asked for; None takes the array where it can
      be written and that of all splits has at most 32 GiB.

  Returns:
    [n, H, W, 3] uint8 images in [0, 255], grey ones with three equal
    channels, sorted by class and within a class by their pixels.

  Raises:
    InputError: one sentence; if the data set or split is unknown, the data
      set not prepared, empty or damaged, or image_size_px not positive.
  """
  return loading.read(
    name,
    split,
    data_dir=data_dir,
    image_size_px=image_size_px,
    in_memory=in_memory,
  )
