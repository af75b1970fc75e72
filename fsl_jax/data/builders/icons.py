"""The data set `icons`: drawings by ten independent designers.

Grey drawings of things and signs, see `icon_classes`. Nothing is downloaded
beyond the packages of the icons.
"""

import pathlib
from collections.abc import Iterator
from typing import ClassVar

import PIL
import tensorflow_datasets as tfds

from fsl_jax.data import listing
from fsl_jax.data.builders import from_source, icon_classes, icon_fonts


class Icons(from_source.FromSource):
  """Builder; its source are the installed packages of the icons."""

  name = "icons"
  VERSION = tfds.core.Version("2.0.0")
  RELEASE_NOTES: ClassVar = {
    "2.0.0": "Images of a class are numbered by their pixels.",
  }
  DESCRIPTION = """\
Drawings of icons by ten designers, 64x64 grey, white on black. A class is a
name under which at least four of the designers drew something, such as
"umbrella"; splits share no class. The group of an image is its designer.
"""
  TAKES_SOURCE = False
  USUAL_SIZE_PX = 32
  # Another Pillow may draw a few edges otherwise: same classes, other
  # fingerprint.
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 2736, "val": 572, "novel": 837}
  REFERENCE_FINGERPRINT = (
    "e44229d22ab5d3b319a2f9eb81124cf251353f12c3e744f000560b7af946de08"
  )
  REFERENCE_NOTE = "drawn with Pillow 13.0.0"

  def obtain(self) -> pathlib.Path | None:
    return None  # the packages

  def find(self) -> listing.Listing:
    drawings = icon_classes.build(self.progress)
    splits = icon_classes.split_classes(d.class_name for d in drawings)
    num_images = {
      split: dict.fromkeys(names, 0) for split, names in splits.items()
    }
    split_of = {n: split for split, names in splits.items() for n in names}
    for drawing in drawings:
      num_images[split_of[drawing.class_name]][drawing.class_name] += 1

    def entries(split: str) -> Iterator[listing.Entry]:
      for d in drawings:
        if split_of[d.class_name] == split:
          yield listing.Entry(d.class_name, d.image_id, d.pixels, d.pack)

    return listing.Listing("icon fonts", num_images, entries)

  def made_with(self) -> dict[str, str]:
    return {**icon_fonts.PACKAGES, "pillow": PIL.__version__}
