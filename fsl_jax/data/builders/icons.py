"""The data set `icons` as a tensorflow-datasets builder, without TensorFlow.

Grey drawings of things and signs by ten independent designers, see
`icon_classes`. Nothing is downloaded beyond the packages of the icons.
"""

import io
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import PIL
import tensorflow_datasets as tfds
from PIL import Image

from fsl_jax.data import fingerprint
from fsl_jax.data.builders import icon_classes, icon_fonts

_DESCRIPTION = """\
Drawings of icons by ten designers, 64x64 grey, white on black. A class is a
name under which at least four of the designers drew something, such as
"umbrella"; splits share no class.
"""


class Icons(tfds.core.GeneratorBasedBuilder):
  """Builder; `info.metadata` has class names and fingerprints by split."""

  # Raise the major number whenever pixels, classes or splits change.
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}

  # Of the build that the project's published numbers were made with. Another
  # Pillow may draw a few edges otherwise: same classes, other fingerprint.
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 2736, "val": 572, "novel": 837}
  REFERENCE_FINGERPRINT = (
    "282a0bd20151001b897479c7a8a606869fddb83625ed23bbd29eb69dc151ef82"
  )
  REFERENCE_NOTE = "drawn with Pillow 13.0.0"

  # May be set before preparing: reports how far the drawing got.
  progress: icon_classes.Progress | None = None

  def __init__(self, *, file_format: str = "array_record", **kwargs: Any):
    # The default format of tfds cannot be written without TensorFlow.
    super().__init__(file_format=file_format, **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    size = icon_fonts.IMAGE_SIZE_PX
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(
            shape=(size, size, 1), encoding_format="png"
          ),
          # Index into the class names of the split. No ClassLabel: one
          # feature serves all splits, and their classes differ.
          "label": tfds.features.Scalar(np.int32),
          "id": tfds.features.Text(),
          # Who drew it: "bs", "eva", "fa", ...
          "pack": tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    del dl_manager
    drawings = icon_classes.build(self.progress)
    class_names = icon_classes.split_classes(d.class_name for d in drawings)
    of_class = {
      name: split for split, names in class_names.items() for name in names
    }
    splits: dict[str, list[icon_classes.Drawing]] = {s: [] for s in class_names}
    for drawing in drawings:
      splits[of_class[drawing.class_name]].append(drawing)
    fingerprints = {
      split: fingerprint.of_split(
        (np.stack([d.pixels] * 3, -1) for d in splits[split]),
        (names.index(d.class_name) for d in splits[split]),
        names,
      )
      for split, names in class_names.items()
    }
    self.info.metadata.update(
      class_names={split: list(names) for split, names in class_names.items()},
      fingerprints=fingerprints,
      fingerprint=fingerprint.of_splits(fingerprints),
      made_with={**icon_fonts.PACKAGES, "pillow": PIL.__version__},
    )
    return {
      split: self._generate_examples(splits[split], names)
      for split, names in class_names.items()
    }

  def _generate_examples(
    self, drawings: Sequence[icon_classes.Drawing], class_names: Sequence[str]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for drawing in drawings:
      encoded = io.BytesIO()
      Image.fromarray(drawing.pixels).save(encoded, "PNG")
      yield (
        drawing.image_id,
        {
          "image": encoded.getvalue(),
          "label": class_names.index(drawing.class_name),
          "id": drawing.image_id,
          "pack": drawing.pack,
        },
      )
