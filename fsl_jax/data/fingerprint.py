"""SHA-256 of what a learner sees of a data set, and of nothing else.

It covers the decoded pixels, the class of each image and the class names of
each split. It does not depend on the order of the images, on the file format
or its compression, on ids, paths or dates. Two results are comparable only if
their data sets have the same fingerprint.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def of_split(
  images: Iterable[np.ndarray],
  class_ids: Iterable[int],
  class_names: Sequence[str],
) -> str:
  """Fingerprint of one split.

  Args:
    images: each [H, W, 3] uint8 in [0, 255]; sizes may differ.
    class_ids: as many, each in [0, len(class_names)).
    class_names: of all classes, those without an image too.

  Returns:
    64 hexadecimal digits, the same for any order of images and classes.
  """
  digests = []
  for image, class_id in zip(images, class_ids, strict=True):
    # Lengths first: no two different images may give the same bytes.
    head = f"{image.shape} {class_names[class_id]}\n".encode()
    digest = hashlib.sha256(head)
    digest.update(np.ascontiguousarray(image, np.uint8).data)
    digests.append(digest.digest())
  whole = hashlib.sha256("\n".join(sorted(class_names)).encode())
  whole.update(b"\0")
  for one in sorted(digests):
    whole.update(one)
  return whole.hexdigest()


def of_splits(fingerprints: Mapping[str, str]) -> str:
  """Fingerprint of a data set from those of its splits, in any order."""
  lines = [f"{split} {fingerprints[split]}" for split in sorted(fingerprints)]
  return hashlib.sha256("\n".join(lines).encode()).hexdigest()
