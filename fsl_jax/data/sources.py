"""Prepared data on disk to images in memory.

Any data set whose builder stores the features "image", "label" and "id", and
class names and fingerprints by split in its metadata, is read by this.
"""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from fsl_jax import types
from fsl_jax.data import fingerprint, prepared

SPLITS = (*prepared.SPLITS, "base+val")

# Pillow widens its triangle filter by the factor of reduction, so that every
# pixel counts (antialiasing); the same rule as `jax.image.resize` "linear".
_RESIZE_RULE = Image.Resampling.BILINEAR


def read(
  name: str,
  split: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  image_size_px: int | None = None,
) -> types.ClassIndexed:
  """Reads a split into memory and checks its fingerprint.

  Args:
    name: one of `prepared.names()`.
    split: one of `SPLITS`. In "base+val" the classes of base come first.
    data_dir: as for `prepared.folder`.
    image_size_px: height and width to resize to (antialiased bilinear); None
      keeps the size of the prepared images.

  Returns:
    The images, sorted by (class, id).

  Raises:
    InputError: if the data set or split is unknown, not prepared, damaged, or
      if image_size_px is not positive.
  """
  if image_size_px is not None and image_size_px < 1:
    raise types.InputError(
      f"image_size_px must be at least 1, got {image_size_px}"
    )
  where = prepared.folder(name, data_dir)
  if split not in SPLITS:
    raise types.InputError(
      f"unknown split {split!r} of data set {name!r}; known: "
      f"{', '.join(SPLITS)}"
    )
  found = prepared.describe(name, data_dir)
  if found is None:
    raise types.InputError(
      f"data set {name!r} is not prepared in {where}; type: "
      f"{prepared.prepare_command(name, data_dir)}"
    )
  with prepared.refuse_damage(name, where, data_dir):
    parts = [_read_one(found, one, image_size_px) for one in split.split("+")]
  return _concatenate(parts, split)


def _read_one(
  found: prepared.Description, split: str, image_size_px: int | None
) -> types.ClassIndexed:
  import tensorflow_datasets as tfds

  # Decoded here and not by tfds, which uses whichever of two libraries is
  # installed; their JPEG decoders differ.
  source = tfds.builder_from_directory(found.folder).as_data_source(
    split, decoders={"image": tfds.decode.SkipDecoding()}
  )
  # One call for all reads three times as fast as one call per image.
  rows: list[dict[str, Any]] = source.__getitems__(list(range(len(source))))
  rows.sort(key=lambda row: (row["label"], row["id"].decode()))
  pictures = [
    Image.open(io.BytesIO(row["image"])).convert("RGB") for row in rows
  ]
  class_ids = np.asarray([row["label"] for row in rows], np.int32)
  class_names = found.class_names[split]

  # Cheap beside the decoding, and the only way to notice every damage.
  actual = fingerprint.of_split(
    map(np.asarray, pictures), class_ids, class_names
  )
  if actual != found.fingerprints[split]:
    raise ValueError(
      f"fingerprint of split {split} is {actual[:12]}, expected "
      f"{found.fingerprints[split][:12]}"
    )
  return types.ClassIndexed(
    images=_stack(pictures, image_size_px, found.name),
    class_ids=class_ids,
    class_names=class_names,
    image_ids=tuple(row["id"].decode() for row in rows),
    name=found.name,
    split=split,
    fingerprint=found.fingerprint,
  )


def _stack(
  pictures: Sequence[Image.Image], image_size_px: int | None, name: str
) -> np.ndarray:
  """RGB pictures as [n, H, W, 3] uint8 of one size."""
  if image_size_px is not None:
    size = (image_size_px, image_size_px)
    pictures = [
      picture if picture.size == size else picture.resize(size, _RESIZE_RULE)
      for picture in pictures
    ]
  elif len(sizes := {picture.size for picture in pictures}) > 1:
    raise types.InputError(
      f"the images of data set {name!r} have {len(sizes)} different sizes; "
      "give image_size_px"
    )
  return np.stack([np.asarray(picture) for picture in pictures])


def _concatenate(
  parts: Sequence[types.ClassIndexed], split: str
) -> types.ClassIndexed:
  """Parts of one data set, with disjoint classes, numbered one after other."""
  if len(parts) == 1:
    return parts[0]
  starts = np.cumsum([0] + [part.num_classes for part in parts[:-1]])
  return types.ClassIndexed(
    images=np.concatenate([part.images for part in parts]),
    class_ids=np.concatenate(
      [
        part.class_ids + np.int32(start)
        for part, start in zip(parts, starts, strict=True)
      ]
    ),
    class_names=tuple(name for part in parts for name in part.class_names),
    image_ids=tuple(i for part in parts for i in part.image_ids),
    name=parts[0].name,
    split=split,
    fingerprint=parts[0].fingerprint,
  )


def verify(
  name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> prepared.Description:
  """Decodes every image and compares the fingerprints with the stored ones.

  Args:
    name: one of `prepared.names()`.
    data_dir: as for `prepared.folder`.

  Returns:
    What the data set holds.

  Raises:
    InputError: if it is not prepared or not what it was when prepared.
  """
  for split in prepared.SPLITS:
    read(name, split, data_dir=data_dir)
  found = prepared.describe(name, data_dir)
  assert found is not None
  with prepared.refuse_damage(name, found.folder, data_dir):
    whole = fingerprint.of_splits(found.fingerprints)
    if whole != found.fingerprint:
      raise ValueError(
        f"fingerprint is {whole[:12]}, expected {found.fingerprint[:12]}"
      )
  return found
