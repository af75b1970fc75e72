"""SHA-256 of the part of a data set that a learner gets, and nothing else.

It covers the decoded pixels, the class of each image and the class names of
each split. It does not depend on the order of the images, on the file format
or its compression, on ids, paths or dates. Two results are comparable only if
their data sets have the same fingerprint.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_MODULUS = 2**256


def of_image(pixels: np.ndarray) -> bytes:
  """[32] bytes: digest of one image, [H, W, 3] uint8 in [0, 255]."""
  # The shape first, so that no two different images give the same bytes.
  digest = hashlib.sha256(f"{pixels.shape}\n".encode())
  digest.update(np.ascontiguousarray(pixels, np.uint8).data)
  return digest.digest()


class Accumulator:
  """Fingerprint of a split, image by image, in constant memory.

  The digests of (class name, image) are added modulo 2^256, so that any order
  gives the same sum. This detects mistakes but not forgery, since one image
  could be balanced by others.
  """

  def __init__(self) -> None:
    self._sum = 0

  def add(self, class_name: str, image_digest: bytes) -> None:
    """Adds an image, given its `of_image`."""
    term = hashlib.sha256(f"{class_name}\n".encode() + image_digest).digest()
    self._sum = (self._sum + int.from_bytes(term, "big")) % _MODULUS

  def hexdigest(self, class_names: Iterable[str]) -> str:
    """64 hexadecimal digits.

    Args:
      class_names: of all classes of the split, including empty ones.
    """
    whole = hashlib.sha256("\n".join(sorted(class_names)).encode())
    whole.update(b"\0" + self._sum.to_bytes(32, "big"))
    return whole.hexdigest()


def of_split(
  images: Iterable[np.ndarray],
  class_ids: Iterable[int],
  class_names: Sequence[str],
) -> str:
  """Fingerprint of one split.

  Args:
    images: each [H, W, 3] uint8 in [0, 255]; sizes may differ.
    class_ids: as many, each in [0, len(class_names)).
    class_names: of all classes, including empty ones.

  Returns:
    64 hexadecimal digits, the same for any order of images and classes.
  """
  accumulator = Accumulator()
  for image, class_id in zip(images, class_ids, strict=True):
    accumulator.add(class_names[class_id], of_image(image))
  return accumulator.hexdigest(class_names)


def of_splits(fingerprints: Mapping[str, str]) -> str:
  """Fingerprint of a data set from those of its splits, in any order."""
  lines = [f"{split} {fingerprints[split]}" for split in sorted(fingerprints)]
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()
