"""Prepared data sets loaded: into memory, or as images that stay on disk."""

import contextlib
import errno
import os

import numpy as np

from fsl_jax import types
from fsl_jax.data import (
  description,
  index,
  listing,
  prepared,
  records,
  resident,
  streamed,
)
from fsl_jax.data import fingerprint as fingerprint_lib

SPLITS = (*listing.SPLITS, "base+val")

_NOT_WRITABLE = (
  *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
  errno.ENOMEM,  # It cannot be mapped.
)


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
    in_memory: True gives one array, memory-mapped from a file that the first
      call makes, or decoded into memory if the file cannot be written; False
      images that are decoded when they are indexed; None the array if it can be
      written and that of all splits has at most 32 GiB.

  Returns:
    [n, H, W, 3] uint8 images in [0, 255], grey ones with three equal
    channels, sorted by class and within a class by their pixels.

  Raises:
    InputError: one sentence; if the data set or split is unknown, the data
      set not prepared, empty or damaged, or image_size_px not in [1, 4096].
  """
  if image_size_px is not None:
    types.check_size_px("image_size_px", image_size_px)
  where = prepared.folder(name, data_dir)
  if split not in SPLITS:
    raise types.InputError(
      f"unknown split {split!r} of data set {name!r}; known: "
      f"{', '.join(SPLITS)}"
    )
  found = prepared.require(name, data_dir)
  splits = split.split("+")
  if not found.num_images[splits[0]]:
    have = [s for s in listing.SPLITS if found.num_images[s]]
    raise types.InputError(
      f"split {splits[0]!r} of data set {name!r} is empty; it has "
      f"{', '.join(have)}"
    )
  size_px = image_size_px or _own_size(found)
  parts = [records.of(found, one) for one in splits]
  fits = resident.num_bytes(found, size_px) <= resident.LIMIT_BYTES
  images: types.Images | None = None
  with prepared.refuse_damage(name, where, data_dir):
    if in_memory or (in_memory is None and fits):
      images = _array(found, splits, size_px)
    if images is None and in_memory:
      images = _decoded(found, splits, size_px)
    if images is None:
      images = streamed.StreamedImages(parts, size_px)
    orders = [index.read(part) for part in parts]
    # Classes of several splits are numbered one after another.
    starts = np.cumsum([0, *(found.num_classes[one] for one in splits)])
    class_ids = [
      order.class_ids + np.int32(start)
      for order, start in zip(orders, starts[:-1], strict=True)
    ]
    digests = [order.digests for order in orders if order.digests is not None]
    return types.ClassIndexed(
      images=images,
      class_ids=np.concatenate(class_ids),
      class_names=tuple(n for one in splits for n in found.class_names[one]),
      image_ids=streamed.RecordIds(parts),
      name=name,
      split=split,
      fingerprint=found.fingerprint,
      digests=np.concatenate(digests) if len(digests) == len(parts) else None,
    )


def _own_size(found: description.Description) -> int:
  if found.square_size_px is None:
    what = "have different sizes" if found.size is None else "are not square"
    raise types.InputError(
      f"the images of data set {found.name!r} {what}; give image_size_px"
    )
  return found.square_size_px


def _array(
  found: description.Description, splits: list[str], size_px: int
) -> np.ndarray | None:
  """The array on disk, made if need be; None if it cannot be written there."""
  # A damaged array is made again, from the records.
  with contextlib.suppress(ValueError, LookupError, TypeError, EOFError):
    array = resident.open_array(found, splits, size_px)
    if array is not None:
      return array
  try:
    resident.make(found, size_px)
    array = resident.open_array(found, splits, size_px)
    assert array is not None
    return array
  except OSError as error:
    # A folder that is shared read-only, or full, or an array too large for it.
    if error.errno not in _NOT_WRITABLE:
      raise
    return None


def _decoded(
  found: description.Description, splits: list[str], size_px: int
) -> np.ndarray:
  """The same in the memory of this process."""
  counts = [found.num_images[split] for split in splits]
  images = np.empty((sum(counts), size_px, size_px, 3), np.uint8)
  for split, stop, count in zip(splits, np.cumsum(counts), counts, strict=True):
    resident.decode(found, split, size_px, images[stop - count : stop])
  return images


def verify(
  name: str, *, data_dir: str | os.PathLike[str] | None = None
) -> description.Description:
  """Decodes every image and compares the fingerprints with the stored ones.

  Copies of images are counted again.

  Args:
    name: as for `load`.
    data_dir: as for `load`.

  Returns:
    The description of the data set.

  Raises:
    InputError: if it is not prepared, or has changed since it was prepared.
  """
  found = prepared.require(name, data_dir)
  with prepared.refuse_damage(name, found.folder, data_dir):
    digests = resident.check(found)
    for size_px in resident.sizes(found):
      resident.open_array(found, list(listing.SPLITS), size_px)
    whole = fingerprint_lib.of_splits(found.fingerprints)
    if whole != found.fingerprint:
      raise ValueError(
        f"fingerprint is {whole[:12]}, expected {found.fingerprint[:12]}"
      )
    sources = {split: records.of(found, split) for split in digests}
    repeated = index.repeated(
      {split: index.read(sources[split]).labels() for split in digests}, digests
    )
    account = repeated.account(
      lambda split, record: sources[split].read([record])[0].id
    )
  return found._replace(repeated=account)
