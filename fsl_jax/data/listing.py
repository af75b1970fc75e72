"""The classes and images of a source, before any image is decoded.

A builder lists them (`builders`); everything after that is common to all data
sets.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from fsl_jax import types

SPLITS = ("base", "val", "novel")


class FileRange(NamedTuple):
  """An encoded image in a file; picklable, read where it is decoded."""

  path: str
  offset: int = 0
  size: int = -1  # bytes; -1 is up to the end of the file


class ZipMember(NamedTuple):
  """An encoded image in a zip archive."""

  path: str
  name: str


Picture = FileRange | ZipMember | bytes | np.ndarray
"""Where an image is, its encoded bytes, or its pixels: uint8, [H, W, 3] RGB or
[H, W] grey, in [0, 255]."""


class Entry(NamedTuple):
  """One image of a source."""

  class_name: str
  id: str  # such as its path within the source
  picture: Picture
  group: str = ""  # shared by images of several classes: designer, alphabet


class Listing(NamedTuple):
  """All images of a source.

  Attributes:
    form: of the source, such as "official binary archive".
    num_images: by split ("base", "val", "novel"), then by class name, in label
      order.
    entries: all images of a split; a new iterator at every call. Images of
      a class need not be together.
    left_out: files that are not images or cannot be read, and why; only where
      they may be left out.
  """

  form: str
  num_images: Mapping[str, Mapping[str, int]]
  entries: Callable[[str], Iterator[Entry]]
  left_out: tuple[str, ...] = ()

  @property
  def class_names(self) -> dict[str, tuple[str, ...]]:
    """By split, in label order."""
    return {split: tuple(counts) for split, counts in self.num_images.items()}

  @property
  def num_pictures(self) -> int:
    return sum(sum(counts.values()) for counts in self.num_images.values())


def check_counts(
  listing: Listing,
  *,
  source: str,
  num_classes: Mapping[str, int],
  images_per_class: int | None = None,
) -> None:
  """Raises InputError, naming all problems, unless the counts are as expected.

  Args:
    listing: of the source.
    source: its path, for the message.
    num_classes: expected, by split.
    images_per_class: expected of every class; None admits any number above 0.
  """
  wrong = []
  for split, expected in num_classes.items():
    counts = listing.num_images.get(split, {})
    if len(counts) != expected:
      wrong.append(f"{split} has {len(counts)} classes, expected {expected}")
    for name, count in counts.items():
      if images_per_class is not None and count != images_per_class:
        wrong.append(
          f"class {name!r} has {count} images, expected {images_per_class}"
        )
      elif count == 0:
        wrong.append(f"class {name!r} has no image")
  if wrong:
    raise types.InputError(
      f"{source} ({listing.form}) is not complete: {shorten(wrong)}"
    )


def shorten(items: list[str], limit: int = 20) -> str:
  """Up to `limit` items in one line, and how many more there are."""
  more = len(items) - limit
  return "; ".join(items[:limit]) + (f"; and {more} more" if more > 0 else "")
