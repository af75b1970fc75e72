"""Images of many classes: prepared on disk, loaded into memory.

    python experiments/prepare_data.py --dataset=icons

    novel = fsl_jax.data.load("icons", "novel")  # -> types.ClassIndexed

A data set is prepared once, into a folder of tensorflow-datasets, and then
only read. `synthetic.make` needs no preparation.
"""

import os

from fsl_jax import types
from fsl_jax.data import fingerprint, prepared, sources, synthetic
from fsl_jax.data.prepared import describe, names, prepare
from fsl_jax.data.sources import SPLITS, verify

__all__ = [
  "SPLITS",
  "describe",
  "fingerprint",
  "load",
  "names",
  "prepare",
  "prepared",
  "sources",
  "synthetic",
  "verify",
]


def load(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  image_size_px: int | None = None,
) -> types.ClassIndexed:
  """Loads one split of a prepared data set.

  Args:
    name: one of `names()`, such as "icons".
    split: "base", "val", "novel", or "base+val" (classes of base first).
    data_dir: root of all prepared data sets; None is the default of
      tensorflow-datasets: $TFDS_DATA_DIR, or a folder in the home directory.
    image_size_px: height and width to resize to, antialiased bilinear; None
      keeps the prepared size.

  Returns:
    [n, H, W, 3] uint8 images in [0, 255], grey ones with three equal
    channels, sorted by (class, id).

  Raises:
    InputError: one sentence; if the data set or split is unknown, the data
      set not prepared or damaged, or image_size_px not positive.
  """
  return sources.read(
    name, split, data_dir=data_dir, image_size_px=image_size_px
  )
