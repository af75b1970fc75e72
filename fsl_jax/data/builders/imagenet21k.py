"""ImageNet-21k: classes are split by their number of images."""

import re
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from fsl_jax import types
from fsl_jax.data import listing, pictures
from fsl_jax.data.builders import from_source, image_folder
from fsl_jax.data.containers import tree

_SYNSET = re.compile(r"n\d{8}")

# How far below the source the folders of synsets may be.
_DEPTH = 2

_PAPER = {"base": 7491, "novel": 13007, "unused": 1343}


class Imagenet21k(from_source.FromSource):
  """A class is a synset, such as "n01440764".

  As in the paper, classes with more than 1,000 images are for pre-training
  (base), the others with at least 10 are few-shot classes (novel), and val is
  empty.
  """

  name = "imagenet21k"
  DESCRIPTION = """\
ImageNet with all its classes: those with more than 1,000 images are base, the
others with at least 10 are novel, the rest is left out; val is empty.
"""
  RULE = pictures.Rule(size_px=84, fit="squash")
  OPTIONS = ("size_px", "fit")
  WHERE = (
    "Get it from https://image-net.org (for researchers, after signing in); "
    "expected is a folder of one tar per synset (n01440764.tar, ...), a tar of "
    "these, or a tree of one folder of images per synset."
  )

  BASE_MORE_THAN: ClassVar[int] = 1000  # images
  NOVEL_AT_LEAST: ClassVar[int] = 10

  def find(self) -> listing.Listing:
    assert self.source is not None
    place = tree.open_tree(self.source, self.scratch)
    synsets = _synsets(place)
    if not synsets and (archive := image_folder.only_archive(place)):
      place = tree.open_tree(archive.where.path, self.scratch)
      synsets = _synsets(place)
    if not synsets:
      raise types.InputError(
        f"{self.source} holds no synset of ImageNet; expected one tar per "
        "synset (n01440764.tar, ...), a tar of these, or one folder of "
        "pictures per synset"
      )
    counts = self._counts(place, synsets)
    num_images: dict[str, dict[str, int]] = {s: {} for s in listing.SPLITS}
    for name, count in counts.items():
      if count > self.BASE_MORE_THAN:
        num_images["base"][name] = count
      elif count >= self.NOVEL_AT_LEAST:
        num_images["novel"][name] = count
    self._check_splits(counts, num_images)

    def entries(split: str) -> Iterator[listing.Entry]:
      for name in num_images[split]:
        for file in _pictures(place, synsets[name]):
          yield listing.Entry(name, f"{name}/{file.name}", file.where)

    form = f"{_forms(place, synsets)}; {_compared(counts, num_images)}"
    return listing.Listing(form, num_images, entries)

  def _counts(
    self, place: tree.Tree, synsets: dict[str, "_Synset"]
  ) -> dict[str, int]:
    """Images by class, sorted; naming all tars that are damaged."""
    counts, problems = {}, []
    for name in sorted(synsets):
      try:
        counts[name] = sum(1 for _ in _pictures(place, synsets[name]))
      except types.InputError as error:
        problems.append(str(error))
    if problems:
      raise types.InputError(listing.shorten(problems))
    return counts

  def _check_splits(
    self, counts: dict[str, int], num_images: dict[str, dict[str, int]]
  ) -> None:
    if num_images["base"] and num_images["novel"]:
      return
    least, most = min(counts.values()), max(counts.values())
    raise types.InputError(
      f"{self.source} has {len(num_images['base'])} classes with more than "
      f"{self.BASE_MORE_THAN:,} images (base) and {len(num_images['novel'])} "
      f"others with at least {self.NOVEL_AT_LEAST} (novel), expected some of "
      f"both; its {len(counts)} classes have {least:,} to {most:,} images"
    )


class _Synset(NamedTuple):
  """The place of the images of a class."""

  folder: str  # in the tree; of the tar if there is one
  tar: tree.File | None


def _synsets(place: tree.Tree) -> dict[str, _Synset]:
  """By name.

  Raises:
    InputError: if a synset is there twice, or is a compressed tar.
  """
  found: dict[str, _Synset] = {}
  problems = []

  def add(name: str, synset: _Synset) -> None:
    if name in found:
      problems.append(
        f"{name} is there twice: {_path(found[name])} and {_path(synset)}"
      )
    found[name] = synset

  for folder in place.top_down(_DEPTH, _no_synsets):
    for file in place.files(folder):
      name, _, ending = file.base.partition(".")
      if _SYNSET.fullmatch(name) and ending.startswith(("tar", "tgz")):
        if ending != "tar" or isinstance(file.where, listing.ZipMember):
          problems.append(f"{file.name} is compressed, expected a plain tar")
        add(name, _Synset(folder, file))
    for name in filter(_SYNSET.fullmatch, place.folders(folder)):
      add(name, _Synset(tree.join(folder, name), None))
  if problems:
    raise types.InputError(
      f"{place.path} cannot be used: {listing.shorten(problems)}"
    )
  return found


def _no_synsets(names: list[str]) -> list[str]:
  return [name for name in names if not _SYNSET.fullmatch(name)]


def _path(synset: _Synset) -> str:
  return synset.tar.name if synset.tar else synset.folder


def _pictures(place: tree.Tree, synset: _Synset) -> Iterator[tree.File]:
  """Named within the synset."""
  if synset.tar is None:
    for file in place.walk(synset.folder):
      if image_folder.is_picture(file.base):
        yield file._replace(name=file.name[len(synset.folder) + 1 :])
    return
  where = synset.tar.where
  assert isinstance(where, listing.FileRange)
  shown = where.path
  if place.kind != "folder":
    shown = f"{place.path}/{synset.tar.name}"
  for file in tree.tar_files(where, shown=shown):
    if image_folder.is_picture(file.base):
      yield file


def _forms(place: tree.Tree, synsets: dict[str, _Synset]) -> str:
  tars = sum(synset.tar is not None for synset in synsets.values())
  forms = []
  if tars:
    forms.append(f"one tar per synset in a {place.kind}")
  if tars < len(synsets):
    forms.append(f"one folder per synset in a {place.kind}")
  return " and ".join(forms)


def _compared(
  counts: dict[str, int], num_images: dict[str, dict[str, int]]
) -> str:
  """The numbers of classes, compared with the paper's."""
  found = {split: len(num_images[split]) for split in ("base", "novel")}
  found["unused"] = len(counts) - sum(found.values())
  here = ", ".join(f"{number:,} {kind}" for kind, number in found.items())
  if found == _PAPER:
    return f"{here} classes, as in the paper"
  paper = ", ".join(f"{number:,} {kind}" for kind, number in _PAPER.items())
  return f"{here} classes where the paper counts {paper}"
