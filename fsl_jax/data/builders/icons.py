"""The data set `icons`: grey drawings of things and signs by ten designers.

A class is a name under which at least four designers drew something, with at
least eight drawings that differ visibly. Which of the glyphs of `icon_glyphs`
these are is deterministic. Nothing is downloaded beyond the packages of icons.
"""

import collections
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple, TypeVar

import numpy as np
import PIL
import tensorflow_datasets as tfds

from fsl_jax.data import listing, parallel
from fsl_jax.data.builders import from_source, icon_glyphs

MIN_PACKS = 4
MIN_IMAGES = 8
_NEAR_COPY = 6.0  # mean difference in [0, 255] below which two are one
_SAME = 2.0  # the same between classes, where small things matter ("+", "-")

SPLIT_SEED = 0
_SPLIT_FRACTIONS = {"base": 0.65, "val": 0.15}  # the rest is novel


class Icons(from_source.FromSource):
  """Builder; its source are the installed packages of the icons."""

  name = "icons"
  VERSION = tfds.core.Version("2.0.0")
  RELEASE_NOTES: ClassVar = {
    "2.0.0": "Images of a class are numbered by their pixels.",
  }
  DESCRIPTION = """\
Drawings of icons by ten designers, 64x64 grey, white on black. A class is a
name under which at least four of the designers drew something, such as
"umbrella"; splits share no class. The group of an image is its designer.
"""
  TAKES_SOURCE = False
  USUAL_SIZE_PX = 32
  # Another Pillow may draw a few edges differently: same classes, another
  # fingerprint.
  REFERENCE_NUM_IMAGES: ClassVar = {"base": 2736, "val": 572, "novel": 837}
  REFERENCE_FINGERPRINT = (
    "e44229d22ab5d3b319a2f9eb81124cf251353f12c3e744f000560b7af946de08"
  )
  REFERENCE_NOTE = "drawn with Pillow 13.0.0"

  def obtain(self) -> pathlib.Path | None:
    return None  # the packages

  def find(self) -> listing.Listing:
    drawings = build(self.progress)
    splits = split_classes(d.class_name for d in drawings)
    counts = collections.Counter(d.class_name for d in drawings)

    def entries(split: str) -> Iterator[listing.Entry]:
      names = set(splits[split])
      for d in drawings:
        if d.class_name in names:
          yield listing.Entry(d.class_name, d.image_id, d.pixels, d.pack)

    num_images = {
      split: {name: counts[name] for name in names}
      for split, names in splits.items()
    }
    return listing.Listing("icon fonts", num_images, entries)

  def made_with(self) -> dict[str, str]:
    return {**icon_glyphs.PACKAGES, "pillow": PIL.__version__}


class Drawing(NamedTuple):
  """An image; `pixels` are [64, 64] uint8, white on black."""

  image_id: str
  pack: str
  class_name: str
  pixels: np.ndarray


def build(progress: parallel.Progress | None = None) -> list[Drawing]:
  """Draws the data set.

  Args:
    progress: called with the glyphs to be drawn and their number; yields them.

  Returns:
    Drawings sorted by `image_id`, of classes with at least `MIN_PACKS` packs
    and `MIN_IMAGES` drawings.

  Raises:
    InputError: if a package is missing, of another version or damaged.
  """
  glyphs = _keep_wide_classes(_one_class_each(icon_glyphs.find()))
  drawings = []
  for glyph in progress(glyphs, len(glyphs)) if progress else glyphs:
    pixels = icon_glyphs.draw(glyph.font_path, glyph.code_point)
    if pixels is not None:
      drawings.append(
        Drawing(glyph.image_id, glyph.pack, glyph.class_name, pixels)
      )
  drawings = _keep_wide_classes(_drop_near_copies(drawings))
  return _keep_wide_classes(_drop_ambiguous(drawings))


def split_classes(class_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
  """Divides classes by a seeded permutation.

  The permutation is the order of the hashes of seed and name, so that one
  class more or less moves few others.

  Args:
    class_names: in any order; repetitions count once.

  Returns:
    "base", "val" and "novel" to their class names, sorted.
  """

  def rank(name: str) -> str:
    return hashlib.sha256(f"{SPLIT_SEED}/{name}".encode()).hexdigest()

  names = sorted(set(class_names), key=rank)
  num_base = round(_SPLIT_FRACTIONS["base"] * len(names))
  num_val = round(_SPLIT_FRACTIONS["val"] * len(names))
  return {
    "base": tuple(sorted(names[:num_base])),
    "val": tuple(sorted(names[num_base : num_base + num_val])),
    "novel": tuple(sorted(names[num_base + num_val :])),
  }


_Item = TypeVar("_Item", icon_glyphs.Glyph, Drawing)


def _packs_by_class(items: Iterable[_Item]) -> dict[str, set[str]]:
  packs = collections.defaultdict(set)
  for item in items:
    packs[item.class_name].add(item.pack)
  return packs


def _keep_wide_classes(items: Sequence[_Item]) -> list[_Item]:
  """Those in a class of enough packs and images, in the order given."""
  packs = _packs_by_class(items)
  sizes = collections.Counter(item.class_name for item in items)
  return [
    item
    for item in items
    if len(packs[item.class_name]) >= MIN_PACKS
    and sizes[item.class_name] >= MIN_IMAGES
  ]


def _one_class_each(
  glyphs: Sequence[icon_glyphs.Glyph],
) -> list[icon_glyphs.Glyph]:
  """Of the classes that a glyph may be in, the one that most packs have."""
  packs = _packs_by_class(glyphs)
  best: dict[str, icon_glyphs.Glyph] = {}
  for glyph in glyphs:
    other = best.setdefault(glyph.image_id, glyph)
    if len(packs[glyph.class_name]) > len(packs[other.class_name]):
      best[glyph.image_id] = glyph
  return list(best.values())


def _drop_near_copies(drawings: Sequence[Drawing]) -> list[Drawing]:
  """Of drawings of a class that look alike keeps the first."""
  pixels, blocks = _pixels_and_blocks(drawings)
  kept: dict[str, list[int]] = collections.defaultdict(list)
  for i, drawing in enumerate(drawings):
    others = np.asarray(kept[drawing.class_name], int)
    if not _are_near(pixels, blocks, i, others, _NEAR_COPY):
      kept[drawing.class_name].append(i)
  return [
    drawings[i] for i in sorted(i for rows in kept.values() for i in rows)
  ]


def _drop_ambiguous(drawings: Sequence[Drawing]) -> list[Drawing]:
  """Drops drawings that are the same in two classes, from both."""
  pixels, blocks = _pixels_and_blocks(drawings)
  _, classes = np.unique([d.class_name for d in drawings], return_inverse=True)
  return [
    drawing
    for i, drawing in enumerate(drawings)
    if not _are_near(
      pixels, blocks, i, np.flatnonzero(classes != classes[i]), _SAME
    )
  ]


def _pixels_and_blocks(
  drawings: Sequence[Drawing],
) -> tuple[np.ndarray, np.ndarray]:
  """[n, 64, 64] int16, and [n, 16] float32 means of their 16x16 blocks.

  The mean difference of blocks is a lower bound of that of pixels, and takes
  1/256 of the time.
  """
  pixels = np.stack([drawing.pixels for drawing in drawings]).astype(np.int16)
  split = pixels.reshape(-1, 4, 16, 4, 16)
  return pixels, split.mean((2, 4), dtype=np.float32).reshape(-1, 16)


def _are_near(
  pixels: np.ndarray,
  blocks: np.ndarray,
  i: int,
  others: np.ndarray,
  threshold: float,
) -> bool:
  """Whether image i is nearer than the threshold to any of the others."""
  bound = np.abs(blocks[others] - blocks[i]).mean(1)
  others = others[bound < threshold + 1e-3]  # room for rounding
  difference = np.abs(pixels[others] - pixels[i])
  return bool(np.any(difference.mean((1, 2)) < threshold))
