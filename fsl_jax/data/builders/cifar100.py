"""CIFAR-FS and FC-100: two splits of the classes of CIFAR-100."""

import collections
import pathlib
from collections.abc import Collection, Iterator
from typing import ClassVar

from fsl_jax import types
from fsl_jax.data import class_lists, download, listing, pictures
from fsl_jax.data.builders import cifar100_forms as forms
from fsl_jax.data.builders import from_source
from fsl_jax.data.containers import tree

# The archive that its authors publish.
_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
_SHA256 = "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
_SIZE_BYTES = 168_513_733

# How far below the source the files may be, and how wide its folders.
_DEPTH = 3
_MAX_FOLDERS = 100

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# Of a tree of image files, such as data/cifar100/train/vehicles_1/bus.
_TREE_DEPTH = 5

_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".zip")
# Files that people give instead of the folder that holds them.
_PARTS = (
  *("train.bin", "test.bin", "train", "test", "meta"),
  *("fine_label_names.txt", "coarse_label_names.txt"),
)
_FILES_OF_CIFAR10 = ("data_batch_1", "data_batch_1.bin")


def find(source: pathlib.Path, scratch: pathlib.Path) -> forms.Found:
  """Recognises CIFAR-100 in any form.

  Args:
    source: file or folder; or a folder that holds one, or a file of it.
    scratch: existing folder for decompressed files.

  Returns:
    Train and test joined; no image is decoded.

  Raises:
    InputError: if it is not CIFAR-100, or incomplete.
  """
  source = source.expanduser()
  if source.name in _PARTS and source.is_file():
    source = source.absolute().parent
  place = tree.open_tree(source, scratch)
  for folder in _folders(place):
    found = (
      forms.binary(place, folder, scratch)
      or forms.pickled(place, folder, scratch)
      or forms.prepared(place, folder)
    )
    if found is not None:
      return found
  found = _class_folders(place)
  if found is not None:
    return found
  files = [file for folder in _folders(place) for file in place.files(folder)]
  for file in files:
    if (
      place.kind == "folder"
      and file.base.endswith(_ARCHIVES)
      and "cifar100" in forms.key(file.base)
    ):
      return find(place.path / file.name, scratch)
  hint = ""
  if any(file.base in _FILES_OF_CIFAR10 for file in files):
    hint = "this is CIFAR-10, which has other classes; "
  raise types.InputError(
    f"no CIFAR-100 was found in {source}: {hint}expected the binary or the "
    "Python archive of its authors, its content, a folder that "
    "tensorflow-datasets prepared, or a tree of images in folders named by "
    "class (apple, aquarium_fish, ...)"
  )


def _folders(place: tree.Tree) -> Iterator[str]:
  """Folders where files of the data set may be, from the top down."""
  return place.top_down(
    _DEPTH, lambda names: names if len(names) < _MAX_FOLDERS else []
  )


def _class_folders(place: tree.Tree) -> forms.Found | None:
  """CIFAR-100 as folders of image files, named by class.

  Folders may be nested in others, such as train and test or the superclasses;
  images of the same class are joined.

  Returns:
    None if less than half of the folders with images are classes.

  Raises:
    InputError: if classes are missing, unknown or in a wrong superclass.
  """
  of_class: dict[str, list[str]] = {}
  num_images: dict[str, int] = collections.Counter()
  problems, num_unknown = [], 0
  for folder in _image_folders(place, "", _TREE_DEPTH):
    *above, base = folder.split("/")
    name = forms.canonical(base)
    if name not in forms.COARSE_OF:
      num_unknown += 1
      problems.append(f"{forms.unknown(base)} (folder {folder})")
      continue
    coarse = forms.canonical(above[-1]) if above else None
    if coarse in forms.COARSE and coarse != forms.COARSE_OF[name]:
      problems.append(
        f"{folder} lies below {coarse}, {name} is of {forms.COARSE_OF[name]}"
      )
    of_class.setdefault(name, []).append(folder)
    num_images[name] += sum(1 for _ in _images(place, folder))
  if len(of_class) <= num_unknown:
    return None
  missing = [name for name in forms.FINE if name not in of_class]
  if missing:
    problems.append(f"no folder of {', '.join(missing)}")
  form = f"class folders in a {place.kind}"
  forms.refuse(str(place.path), form, problems)

  def entries(wanted: Collection[str]) -> Iterator[listing.Entry]:
    for name in wanted:
      for folder in of_class[name]:
        for file in _images(place, folder):
          yield listing.Entry(
            name, file.name, file.where, forms.COARSE_OF[name]
          )

  return forms.Found(
    form, {name: num_images[name] for name in forms.FINE}, entries
  )


def _image_folders(place: tree.Tree, folder: str, depth: int) -> Iterator[str]:
  if folder and next(_images(place, folder), None):
    yield folder
  if depth:
    for name in place.folders(folder):
      yield from _image_folders(place, tree.join(folder, name), depth - 1)


def _images(place: tree.Tree, folder: str) -> Iterator[tree.File]:
  for file in place.files(folder):
    if file.base.lower().endswith(_SUFFIXES):
      yield file


class FromCifar100(from_source.FromSource):
  """Base of the two builders."""

  IMAGES_PER_CLASS = 600
  # All forms have this size already, so that no image is changed.
  RULE = pictures.Rule(size_px=forms.EDGE_PX)
  WHERE = (
    "CIFAR-100 is at https://www.cs.toronto.edu/~kriz/cifar.html; the binary "
    "or the Python archive (or its folder), a folder that tensorflow-datasets "
    "prepared, or a tree of images with a folder for each class"
  )

  def split_classes(self) -> dict[str, list[str]]:
    """Fine classes by split, in label order."""
    raise NotImplementedError

  def find(self) -> listing.Listing:
    """Lists the images of `self.source`; none is decoded.

    Raises:
      InputError: if it is not CIFAR-100, or incomplete.
    """
    assert self.source is not None
    found, classes = find(self.source, self.scratch), self.split_classes()
    num_images = {
      split: {name: found.num_images[name] for name in names}
      for split, names in classes.items()
    }
    return listing.Listing(
      found.form, num_images, lambda split: found.entries(classes[split])
    )

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


class CifarFs(FromCifar100):
  """Builder; see `from_source.FromSource`."""

  name = "cifar_fs"
  DESCRIPTION = """\
CIFAR-FS: the 100 classes of CIFAR-100, 600 images of 32x32 each, split at
random into 64 / 16 / 20 by Bertinetto et al. (ICLR 2019).
"""
  NUM_CLASSES: ClassVar = {"base": 64, "val": 16, "novel": 20}
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 38400, "val": 9600, "novel": 12000}
  REFERENCE_FINGERPRINT = (
    "aa4b8817bad2b9d130fdf3f560bf98db34a8a8150b00486977a7136067b40ca2"
  )

  def split_classes(self) -> dict[str, list[str]]:
    listed = class_lists.load("cifar_fs")
    return {split: listed[split] for split in listing.SPLITS}


class Fc100(FromCifar100):
  """Builder; see `from_source.FromSource`."""

  name = "fc100"
  DESCRIPTION = """\
FC-100: the 100 classes of CIFAR-100, 600 images of 32x32 each, split into
60 / 20 / 20 by Oreshkin et al. (NeurIPS 2018) so that no superclass is in two
splits.
"""
  NUM_CLASSES: ClassVar = {"base": 60, "val": 20, "novel": 20}
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 36000, "val": 12000, "novel": 12000}
  REFERENCE_FINGERPRINT = (
    "4c678c6e7fd2d380711716639a1628473be1d5522b6a837363b47bd5170b798c"
  )

  def split_classes(self) -> dict[str, list[str]]:
    listed = class_lists.load("fc100")
    return {
      split: [
        n for n, coarse in forms.COARSE_OF.items() if coarse in listed[split]
      ]
      for split in listing.SPLITS
    }
