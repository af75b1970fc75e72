"""FC-100: the classes of CIFAR-100, split by super-class."""

from typing import ClassVar

from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import cifar100, cifar100_classes


class Fc100(cifar100.FromCifar100):
  """Builder; see `from_source.FromSource`."""

  name = "fc100"
  DESCRIPTION = """\
FC-100: the 100 classes of CIFAR-100, 600 images of 32x32 each, split into
60 / 20 / 20 by Oreshkin et al. (NeurIPS 2018) so that no super-class is in two
splits.
"""
  NUM_CLASSES: ClassVar = {"base": 60, "val": 20, "novel": 20}
  REFERENCE_NUM_IMAGES: ClassVar = {
    "base": 36_000,
    "val": 12_000,
    "novel": 12_000,
  }
  REFERENCE_FINGERPRINT = (
    "4c678c6e7fd2d380711716639a1628473be1d5522b6a837363b47bd5170b798c"
  )

  def split_classes(self) -> dict[str, list[str]]:
    """Fine classes by split, in label order."""
    listed = class_lists.load("fc100")
    return {
      split: [
        name
        for name, coarse in cifar100_classes.COARSE_OF.items()
        if coarse in listed[split]
      ]
      for split in listing.SPLITS
    }
