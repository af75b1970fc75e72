"""CIFAR-100 in any form; what CIFAR-FS and FC-100 have in common."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

from fsl_jax import types
from fsl_jax.data import download, listing, pictures
from fsl_jax.data.builders import (
  cifar100_classes,
  cifar100_folders,
  cifar100_rows,
  cifar100_tfds,
  from_source,
)
from fsl_jax.data.containers import tree

# Of the archive that its authors publish.
_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
_SHA256 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
_SIZE_BYTES = 168_513_733

_WHERE = (
  "CIFAR-100 is at https://www.cs.toronto.edu/~kriz/cifar.html; the binary or "
  "the Python archive (or its folder), a folder that tensorflow-datasets "
  "prepared, or a tree of pictures with a folder for each class"
)

# How far below the source the files may be, and how wide its folders.
_DEPTH = 3
_MAX_FOLDERS = 100

_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".zip")
# What people point at instead of the folder above it.
_PARTS = (
  *("train.bin", "test.bin", "train", "test", "meta"),
  *("fine_label_names.txt", "coarse_label_names.txt"),
)
_FILES_OF_CIFAR10 = ("data_batch_1", "data_batch_1.bin")


def find(source: pathlib.Path, scratch: pathlib.Path) -> cifar100_classes.Found:
  """Recognises CIFAR-100 in any form.

  Args:
    source: file or folder; or a folder that holds one, or a file of it.
    scratch: existing folder for what must be decompressed.

  Returns:
    Train and test joined; no picture is decoded.

  Raises:
    InputError: if it is not CIFAR-100, or not whole.
  """
  source = source.expanduser()
  if source.name in _PARTS and source.is_file():
    source = source.absolute().parent
  place = tree.open_tree(source, scratch)
  found = _find_files(place, scratch) or cifar100_folders.find(place)
  if found is not None:
    return found
  archives = _archives(place)
  if archives:
    return find(archives[0], scratch)
  hint = ""
  if any(
    file.base in _FILES_OF_CIFAR10
    for folder in _folders(place)
    for file in place.files(folder)
  ):
    hint = "this is CIFAR-10, which has other classes; "
  raise types.InputError(
    f"no CIFAR-100 was found in {source}: {hint}expected the binary or the "
    "Python archive of its authors, what such an archive holds, a folder that "
    "tensorflow-datasets prepared, or a tree of pictures with folders named "
    "by class (apple, aquarium_fish, ...)"
  )


def select(
  found: cifar100_classes.Found, split_classes: Mapping[str, Sequence[str]]
) -> listing.Listing:
  """Splits CIFAR-100 by class.

  Args:
    found: all of it.
    split_classes: fine classes by split, in label order.
  """

  def entries(split: str) -> Iterator[listing.Entry]:
    return found.entries(split_classes[split])

  num_images = {
    split: {name: found.num_images[name] for name in names}
    for split, names in split_classes.items()
  }
  return listing.Listing(found.form, num_images, entries)


def _find_files(
  place: tree.Tree, scratch: pathlib.Path
) -> cifar100_classes.Found | None:
  for folder in _folders(place):
    found = (
      cifar100_rows.binary(place, folder, scratch)
      or cifar100_rows.pickled(place, folder, scratch)
      or cifar100_tfds.find(place, folder)
    )
    if found is not None:
      return found
  return None


def _folders(place: tree.Tree) -> Iterator[str]:
  """Folders where files of the set may be, from the top down."""
  level = [""]
  for _ in range(_DEPTH + 1):
    below = []
    for folder in level:
      yield folder
      names = place.folders(folder)
      if len(names) < _MAX_FOLDERS:
        below += [tree.join(folder, name) for name in names]
    level = below


def _archives(place: tree.Tree) -> list[pathlib.Path]:
  """Archives of CIFAR-100 in a folder, going by their names."""
  if place.kind != "folder":
    return []
  return [
    place.path / file.name
    for folder in _folders(place)
    for file in place.files(folder)
    if file.base.endswith(_ARCHIVES)
    and "cifar100" in cifar100_classes.key(file.base)
  ]


class FromCifar100(from_source.FromSource):
  """Base of the builders of CIFAR-FS and FC-100."""

  IMAGES_PER_CLASS = 600
  # All forms have this size already, and then nothing is changed.
  RULE = pictures.Rule(size_px=cifar100_classes.EDGE_PX)
  WHERE = _WHERE

  def split_classes(self) -> dict[str, list[str]]:
    """Fine classes by split, in label order."""
    raise NotImplementedError

  def find(self) -> listing.Listing:
    """Looks at `self.source` and lists what is there, no picture decoded.

    Raises:
      InputError: if it is not CIFAR-100, or not whole.
    """
    assert self.source is not None
    return select(find(self.source, self.scratch), self.split_classes())

  def obtain(self) -> pathlib.Path:
    """Downloads the binary archive, 169 MB, unless it is there.

    Raises:
      InputError: if that fails.
    """
    return download.fetch(
      _URL,
      sha256=_SHA256,
      size_bytes=_SIZE_BYTES,
      folder=self.downloads,
      progress=self.progress,
    )
