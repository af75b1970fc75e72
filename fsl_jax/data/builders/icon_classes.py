"""Which pictures make up the data set `icons`, in which classes and splits.

A class is a name under which at least four designers drew something, with at
least eight drawings that differ visibly. What `icon_fonts` finds is thinned
out here; everything is deterministic.
"""

import collections
import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from fsl_jax.data import parallel
from fsl_jax.data.builders import icon_fonts

MIN_PACKS = 4
MIN_IMAGES = 8
_NEAR_COPY = 6.0  # mean difference in [0, 255] below which two are one
_SAME = 2.0  # the same between classes, where small things matter ("+", "-")

SPLIT_SEED = 0
_SPLIT_FRACTIONS = {"base": 0.65, "val": 0.15}  # the rest is novel


class Drawing(NamedTuple):
  """A picture; `pixels` are [64, 64] uint8, white on black."""

  image_id: str
  pack: str
  class_name: str
  pixels: np.ndarray


_Item = TypeVar("_Item", icon_fonts.Glyph, Drawing)


def _keep_wide_classes(items: Iterable[_Item]) -> list[_Item]:
  """Those in a class of enough packs and images, in the order given."""
  items = list(items)
  packs = collections.defaultdict(set)
  for item in items:
    packs[item.class_name].add(item.pack)
  sizes = collections.Counter(item.class_name for item in items)
  return [
    item
    for item in items
    if len(packs[item.class_name]) >= MIN_PACKS
    and sizes[item.class_name] >= MIN_IMAGES
  ]


def _one_class_each(
  glyphs: Iterable[icon_fonts.Glyph],
) -> list[icon_fonts.Glyph]:
  """Of the classes that a glyph may be in, the one that most packs have."""
  packs = collections.defaultdict(set)
  glyphs = list(glyphs)
  for glyph in glyphs:
    packs[glyph.class_name].add(glyph.pack)
  best: dict[str, icon_fonts.Glyph] = {}
  for glyph in glyphs:
    other = best.setdefault(glyph.image_id, glyph)
    if len(packs[glyph.class_name]) > len(packs[other.class_name]):
      best[glyph.image_id] = glyph
  return list(best.values())


def _blocks(pixels: np.ndarray) -> np.ndarray:
  """[..., 64, 64] to means of 16x16 blocks, [..., 16] float32.

  The mean difference of blocks is a lower bound of that of pixels, and takes
  1/256 of the time.
  """
  split = pixels.reshape(*pixels.shape[:-2], 4, 16, 4, 16)
  return split.mean((-3, -1), dtype=np.float32).reshape(*split.shape[:-4], 16)


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


def _drop_near_copies(drawings: Sequence[Drawing]) -> list[Drawing]:
  """Of drawings of a class that look alike keeps the first."""
  pixels = np.stack([drawing.pixels for drawing in drawings]).astype(np.int16)
  blocks = _blocks(pixels)
  kept: dict[str, list[int]] = collections.defaultdict(list)
  for i, drawing in enumerate(drawings):
    others = np.asarray(kept[drawing.class_name], int)
    if not _are_near(pixels, blocks, i, others, _NEAR_COPY):
      kept[drawing.class_name].append(i)
  return [
    drawings[i] for i in sorted(i for rows in kept.values() for i in rows)
  ]


def _drop_ambiguous(drawings: Sequence[Drawing]) -> list[Drawing]:
  """Drops pictures that stand, the same, in two classes: from both."""
  pixels = np.stack([drawing.pixels for drawing in drawings]).astype(np.int16)
  blocks = _blocks(pixels)
  _, classes = np.unique([d.class_name for d in drawings], return_inverse=True)
  return [
    drawing
    for i, drawing in enumerate(drawings)
    if not _are_near(
      pixels, blocks, i, np.flatnonzero(classes != classes[i]), _SAME
    )
  ]


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
  glyphs = _keep_wide_classes(_one_class_each(icon_fonts.find_glyphs()))
  drawings = []
  for glyph in progress(glyphs, len(glyphs)) if progress else glyphs:
    pixels = icon_fonts.draw(glyph.font_path, glyph.code_point)
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
