"""What a prepared data set says of itself."""

import contextlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fsl_jax.data import listing


class Description(NamedTuple):
  """What a prepared data set holds, by its own account."""

  name: str
  folder: pathlib.Path
  num_classes: Mapping[str, int]  # by split
  num_images: Mapping[str, int]  # by split
  class_names: Mapping[str, tuple[str, ...]]  # by split, in label order
  images_per_class: Mapping[str, tuple[int, ...]]  # by split, in label order
  fingerprints: Mapping[str, str]  # by split
  fingerprint: str  # of all splits
  form: str  # what the source was recognised as
  rule: str  # how pictures became images
  num_resized: int  # images whose size the rule changed
  size: tuple[int, int] | None  # height, width; None if images differ
  skipped: tuple[str, ...]  # pictures left out, and why
  repeated: Mapping[str, Any]  # copies of images, `index.Repeated.account`
  made_with: Mapping[str, str]  # package to version
  index_digests: Mapping[str, str]  # by split, of `index`
  source: str  # where it was, empty if drawn or downloaded
  options: Mapping[str, Any]  # the choices given
  size_bytes: int  # on disk

  @property
  def square_size_px(self) -> int | None:
    """Height and width of the images, if all are squares of one size."""
    if self.size is None or self.size[0] != self.size[1]:
      return None
    return self.size[0]


def copies(found: Description, split: str | None = None) -> str:
  """A sentence on images that are there several times.

  Args:
    found: the data set.
    split: whose copies within a class are counted, "base+val" for two; None
      is the whole data set.
  """
  # Data sets of before this was counted lack it.
  within = found.repeated.get("num_within")
  if within is None:
    first = "not counted within classes, which data.verify does"
  else:
    of = listing.SPLITS if split is None else split.split("+")
    count = sum(within.get(one, 0) for one in of)
    total = sum(found.num_images[one] for one in of)
    first = f"{count:,} of {total:,} images repeat one of their class"
  return (
    f"{first}; in two classes: {found.repeated['num_pairs']:,}, in two splits: "
    f"{found.repeated['num_across_splits']:,}"
  )


def read(name: str, where: pathlib.Path) -> Description:
  """Reads the account of the data set in a folder; no image is read.

  Raises:
    Exception: whatever the readers raise, if the folder is damaged.
  """
  import tensorflow_datasets as tfds

  info = tfds.builder_from_directory(where).info
  recorded = info.metadata
  for split in info.splits.values():
    for path in split.filepaths:
      if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")
  class_names = {s: tuple(recorded["class_names"][s]) for s in listing.SPLITS}
  return Description(
    name=name,
    folder=where,
    num_classes={split: len(class_names[split]) for split in listing.SPLITS},
    num_images={
      split: info.splits[split].num_examples if split in info.splits else 0
      for split in listing.SPLITS
    },
    class_names=class_names,
    images_per_class={
      split: tuple(recorded["images_per_class"].get(split, ()))
      for split in listing.SPLITS
    },
    fingerprints={s: recorded["fingerprints"][s] for s in listing.SPLITS},
    fingerprint=recorded["fingerprint"],
    form=recorded["form"],
    rule=recorded["rule"],
    num_resized=recorded["num_resized"],
    size=recorded["size"] and tuple(recorded["size"]),
    skipped=tuple(recorded["skipped"]),
    repeated=recorded["repeated"],
    made_with=dict(recorded["made_with"]),
    index_digests={
      split: recorded["index_digests"].get(split, "")
      for split in listing.SPLITS
    },
    source=recorded["source"],
    options=recorded["options"],
    size_bytes=_size_bytes(where),
  )


def _size_bytes(where: pathlib.Path) -> int:
  total = 0
  for folder, _, names in os.walk(where):
    for name in names:
      # Another process may be making an array, in files that come and go.
      with contextlib.suppress(FileNotFoundError):
        total += os.stat(os.path.join(folder, name)).st_size
  return total
