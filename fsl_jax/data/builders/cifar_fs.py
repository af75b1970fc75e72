"""CIFAR-FS: the classes of CIFAR-100, split at random."""

from typing import ClassVar

from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import cifar100


class CifarFs(cifar100.FromCifar100):
  """Builder; see `from_source.FromSource`."""

  name = "cifar_fs"
  DESCRIPTION = """\
CIFAR-FS: the 100 classes of CIFAR-100, 600 images of 32x32 each, split at
random into 64 / 16 / 20 by Bertinetto et al. (ICLR 2019).
"""
  NUM_CLASSES: ClassVar = {"base": 64, "val": 16, "novel": 20}
  REFERENCE_NUM_IMAGES: ClassVar = {
    "base": 38_400,
    "val": 9_600,
    "novel": 12_000,
  }
  REFERENCE_FINGERPRINT = (
    "aa4b8817bad2b9d130fdf3f560bf98db34a8a8150b00486977a7136067b40ca2"
  )

  def split_classes(self) -> dict[str, list[str]]:
    """Fine classes by split, in label order."""
    listed = class_lists.load("cifar_fs")
    return {split: listed[split] for split in listing.SPLITS}
