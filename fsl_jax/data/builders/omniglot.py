"""Omniglot: 1,623 handwritten characters, drawn by twenty people each."""

import collections
import pathlib
import re
from collections.abc import Iterator
from typing import ClassVar

from fsl_jax import types
from fsl_jax.data import class_lists, download, listing, pictures
from fsl_jax.data.builders import from_source
from fsl_jax.data.containers import tree

_HALVES = ("images_background", "images_evaluation")

_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
_SHA256 = {
  "images_background": (
    "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640"
  ),
  "images_evaluation": (
    "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee"
  ),
}
_SIZE_BYTES = {"images_background": 9464212, "images_evaluation": 6462886}

# How far below the source the halves may be, as in
# omniglot/python/images_background.
_DEPTH = 2

# With any folders above the alphabets: unpacking often adds one.
_DRAWING = re.compile(r"(?:.*/)?([^/]+)/(character\d+)/([^/]+\.png)")


class Omniglot(from_source.FromSource):
  """A class is a character, such as "Greek/character01"; group: alphabet."""

  name = "omniglot"
  DESCRIPTION = """\
Handwritten characters of 50 alphabets, 20 drawings each, black on white, with
the split of Vinyals et al. by character: 1,028 base, 172 val, 423 novel.
"""
  USUAL_SIZE_PX = 28
  NUM_CLASSES: ClassVar = {"base": 1028, "val": 172, "novel": 423}
  IMAGES_PER_CLASS = 20
  RULE = pictures.Rule()
  OPTIONS = ("size_px", "fit")
  WHERE = (
    "It is downloaded from https://github.com/brendenlake/omniglot (16 MB); a "
    "folder with images_background.zip and images_evaluation.zip, or with both "
    "unpacked, serves as well."
  )
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 20560, "val": 3440, "novel": 8460}
  REFERENCE_FINGERPRINT = (
    "3e8b0fd1d5b18e6ee3dc1c31c881d3e5c1557ed484a92874be082a225811d73d"
  )

  def obtain(self) -> pathlib.Path:
    """Downloads both halves; a folder that holds them."""
    for half in _HALVES:
      fetched = download.fetch(
        f"{_URL}{half}.zip",
        sha256=_SHA256[half],
        size_bytes=_SIZE_BYTES[half],
        folder=self.downloads,
      )
    return pathlib.Path(fetched).parent

  def find(self) -> listing.Listing:
    assert self.source is not None
    known = class_lists.load("omniglot")
    by_class: dict[str, list[listing.Entry]] = collections.defaultdict(list)
    forms = []
    for top, above, half in self._places():
      form, place, folder = self._opened(top, tree.join(above, half))
      forms.append(form)
      for file in place.walk(folder):
        if match := _DRAWING.fullmatch(file.name):
          alphabet, character, base = match.groups()
          name = f"{alphabet}/{character}"
          by_class[name].append(
            listing.Entry(name, f"{half}/{name}/{base}", file.where, alphabet)
          )
    num_images = {
      split: {name: len(by_class[name]) for name in known[split]}
      for split in listing.SPLITS
    }
    expected = {name for names in num_images.values() for name in names}
    problems = [
      f"class {name} has {len(by_class[name])} drawings, expected "
      f"{self.IMAGES_PER_CLASS}"
      for name in sorted(expected)
      if len(by_class[name]) != self.IMAGES_PER_CLASS
    ]
    problems += [
      f"class {name} is not a class of Omniglot"
      for name in by_class
      if name not in expected
    ]
    if problems:
      raise types.InputError(
        f"{self.source} is not the whole of Omniglot: "
        f"{listing.shorten(problems)}"
      )

    def entries(split: str) -> Iterator[listing.Entry]:
      for name in num_images[split]:
        yield from by_class[name]

    return listing.Listing(
      " and ".join(dict.fromkeys(forms)), num_images, entries
    )

  def _places(self) -> list[tuple[tree.Tree, str, str]]:
    """The places of the halves: tree, folder in it, half.

    Raises:
      InputError: if one is missing.
    """
    assert self.source is not None
    source = pathlib.Path(self.source).expanduser().absolute()
    if _half_of(source.name):
      source = source.parent  # The other half lies beside it.
    top = tree.open_tree(source, self.scratch)
    for folder in top.top_down(_DEPTH):
      found = {_half_of(name) for name in _names(top, folder)} & {*_HALVES}
      if len(found) == len(_HALVES):
        return [(top, folder, half) for half in _HALVES]
      if found:
        (missing,) = {*_HALVES} - found
        raise types.InputError(
          f"{top.path / folder} holds {found.pop()} but not {missing}; "
          "expected both, as folders or zips"
        )
    raise types.InputError(
      f"{self.source} is not Omniglot; expected {_HALVES[0]} and {_HALVES[1]}, "
      "as folders or zips, in it"
    )

  def _opened(self, top: tree.Tree, inside: str) -> tuple[str, tree.Tree, str]:
    """Form, tree and folder of a half, which is a folder or a zip file."""
    archive = top.get(f"{inside}.zip")
    # A zip file is preferred, since an unpacked folder may be incomplete.
    if archive is None:
      return f"folders in a {top.kind}", top, inside
    path = pathlib.Path(archive.where.path)
    if top.kind != "folder":
      path = self.scratch / archive.base
      path.write_bytes(tree.read(archive.where))
    return "official zips", tree.open_tree(path, self.scratch), ""


def _names(place: tree.Tree, folder: str) -> list[str]:
  return [
    *place.folders(folder),
    *(f.base for f in place.files(folder) if f.base.endswith(".zip")),
  ]


def _half_of(name: str) -> str | None:
  name = name.removesuffix(".zip")
  return name if name in _HALVES else None
