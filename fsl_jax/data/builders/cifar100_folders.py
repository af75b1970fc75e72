"""CIFAR-100 as folders of picture files, named by class."""

import collections
import functools
from collections.abc import Collection, Iterator

from fsl_jax.data import listing
from fsl_jax.data.builders import cifar100_classes as classes
from fsl_jax.data.containers import tree

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

# Such as data/cifar100/train/vehicles_1/bus.
_DEPTH = 5

_Folders = dict[str, list[str]]


def find(place: tree.Tree) -> classes.Found | None:
  """CIFAR-100 as folders of pictures named by class.

  Folders may lie below others, such as train and test or the super-classes;
  pictures of the same class are joined.

  Returns:
    None if less than half of the folders with pictures are classes.

  Raises:
    InputError: if classes are missing, unknown or below a wrong super-class.
  """
  of_class: _Folders = {}
  num_images: dict[str, int] = collections.Counter()
  problems, num_unknown = [], 0
  for folder in _folders_with_pictures(place, "", _DEPTH):
    *above, base = folder.split("/")
    name = classes.canonical(base)
    if name is None or name not in classes.COARSE_OF:
      num_unknown += 1
      problems.append(f"{classes.unknown(base)} (folder {folder})")
      continue
    coarse = classes.canonical(above[-1]) if above else None
    if coarse in classes.COARSE and coarse != classes.COARSE_OF[name]:
      problems.append(
        f"{folder} lies below {coarse}, {name} is of {classes.COARSE_OF[name]}"
      )
    of_class.setdefault(name, []).append(folder)
    num_images[name] += sum(1 for _ in _pictures(place, folder))
  if len(of_class) <= num_unknown:
    return None
  missing = [name for name in classes.FINE if name not in of_class]
  if missing:
    problems.append(f"no folder of {', '.join(missing)}")
  form = f"class folders in a {place.kind}"
  classes.refuse(str(place.path), form, problems)
  return classes.Found(
    form,
    {name: num_images[name] for name in classes.FINE},
    functools.partial(_entries_of_folders, place, of_class),
  )


def _folders_with_pictures(
  place: tree.Tree, folder: str, depth: int
) -> Iterator[str]:
  if folder and next(_pictures(place, folder), None):
    yield folder
  if depth:
    for name in place.folders(folder):
      below = tree.join(folder, name)
      yield from _folders_with_pictures(place, below, depth - 1)


def _pictures(place: tree.Tree, folder: str) -> Iterator[tree.File]:
  for file in place.files(folder):
    if file.base.lower().endswith(_SUFFIXES):
      yield file


def _entries_of_folders(
  place: tree.Tree, of_class: _Folders, wanted: Collection[str]
) -> Iterator[listing.Entry]:
  for name in wanted:
    for folder in of_class[name]:
      for file in _pictures(place, folder):
        yield listing.Entry(
          name, file.name, file.where, classes.COARSE_OF[name]
        )
