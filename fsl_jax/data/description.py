"""The description that is recorded with a prepared data set."""

import contextlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from fsl_jax.data import listing


class Description(NamedTuple):
  """A prepared data set, as recorded when it was made."""

  name: str
  folder: pathlib.Path
  num_classes: Mapping[str, int]  # by split
  num_images: Mapping[str, int]  # by split
  class_names: Mapping[str, tuple[str, ...]]  # by split, in label order
  images_per_class: Mapping[str, tuple[int, ...]]  # by split, in label order
  fingerprints: Mapping[str, str]  # by split
  fingerprint: str  # of all splits
  form: str  # of the source, as it was recognised
  rule: str  # how the images were resized
  num_resized: int  # images whose size the rule changed
  size: tuple[int, int] | None  # height, width; None if images differ
  skipped: tuple[str, ...]  # images left out, and why
  repeated: Mapping[str, Any]  # copies of images, `index.Repeated.account`
  made_with: Mapping[str, str]  # package to version
  index_digests: Mapping[str, str]  # by split, of `index`
  source: str  # its path; empty if drawn or downloaded
  options: Mapping[str, Any]  # the choices given
  size_bytes: int  # on disk

  @property
  def square_size_px(self) -> int | None:
    """Height and width of the images, if all are squares of one size."""
    if self.size is None or self.size[0] != self.size[1]:
      return None
    return self.size[0]


def copies(found: Description, split: str | None = None) -> str:
  """A sentence on images that occur several times.

  Args:
    found: the data set.
    split: whose copies within a class are counted, "base+val" for two; None
      is the whole data set.
  """
  # Data sets that earlier versions prepared lack it.
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
  """Reads the description of the data set in a folder; no image is read.

  Raises:
    Exception: of any type, if the folder is damaged.
  """
  import tensorflow_datasets as tfds

  info = tfds.builder_from_directory(where).info
  recorded = info.metadata
  for split in info.splits.values():
    for path in split.filepaths:
      if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing")

  def by_split(values: Mapping[str, Any], empty: Any) -> dict[str, Any]:
    return {s: type(empty)(values.get(s, empty)) for s in listing.SPLITS}

  class_names = {s: tuple(recorded["class_names"][s]) for s in listing.SPLITS}
  counts = {name: split.num_examples for name, split in info.splits.items()}
  return Description(
    name=name,
    folder=where,
    num_classes={split: len(names) for split, names in class_names.items()},
    num_images=by_split(counts, 0),
    class_names=class_names,
    images_per_class=by_split(recorded["images_per_class"], ()),
    fingerprints={s: recorded["fingerprints"][s] for s in listing.SPLITS},
    fingerprint=recorded["fingerprint"],
    form=recorded["form"],
    rule=recorded["rule"],
    num_resized=recorded["num_resized"],
    size=recorded["size"] and tuple(recorded["size"]),
    skipped=tuple(recorded["skipped"]),
    repeated=recorded["repeated"],
    made_with=dict(recorded["made_with"]),
    index_digests=by_split(recorded["index_digests"], ""),
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
