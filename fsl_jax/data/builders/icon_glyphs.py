"""Glyphs of ten icon-font packages: their class names and their images.

The packages hold, per style, a font and a JSON map from glyph name to code
point. Both are read as files; no code of the packages is run. The images are
drawn on the user's machine and never distributed, because each icon set has its
own licence. The same packages and the same Pillow give the same pixels.

A class name is what a glyph shows, without how it is drawn: designers write
"ic-fluent-home-20-filled", "icon-house", "ion-ios-home-outline" and
"home-4-line" for "home". Words of equal meaning are joined, because otherwise
one image ("print" and "printer") would be in two classes, in two splits or even
in one episode. The tables, in `class_lists/icons.json`, were made by looking at
all images:

  packages: pinned versions; icons, and so classes, change between versions.
  fonts: by pack, glyph maps and their fonts. Font Awesome's brands are left
    out: they are trade marks, of which other packs have few.
  styles: words for a style of drawing or an optical size in px, which come last
    in a name; "" is of all packs. Elsewhere "alarm-light" is a lamp and
    "forward-30" half a minute.
  same_word, same_name: one word or whole name for others.
  shows: what glyphs of one pack show where the name means something else in
    most packs.
  left_out: glyphs that are alone with their meaning, or spoilt in the font.
  mixed: names under which every pack draws something different.
"""

import collections
import functools
import importlib.metadata
import importlib.util
import json
import pathlib
import re
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fsl_jax import types
from fsl_jax.data import class_lists

_TABLES = class_lists.load("icons")
PACKAGES: dict[str, str] = _TABLES["packages"]
_FONTS: dict[str, dict[str, str]] = _TABLES["fonts"]
_STYLES = {k: set(words.split()) for k, words in _TABLES["styles"].items()}
_SAME_WORD, _SAME_NAME = (
  {other: to for to, others in table.items() for other in others.split()}
  for table in (_TABLES["same_word"], _TABLES["same_name"])
)
_SHOWS: dict[str, str] = _TABLES["shows"]
_LEFT_OUT, _MIXED = set(_TABLES["left_out"]), set(_TABLES["mixed"])

# What a pack, a font or a platform puts before a name.
_PREFIX = re.compile(
  r"^(ic-fluent|icon|mdi|md|eva|ion|typcn|ios|android|logo|social)-(?=.)"
)
# Remix numbers its variants of one thing: user-2, user-3. In other packs a
# final number is usually a part of what is shown: dice-3, filter-2.
_NUMBERED_PACK = "remix"

IMAGE_SIZE_PX = 64
_INK_SIZE_PX = 52  # longer side of the drawing; leaves a margin of 6
_FONT_SIZE_PX = 160  # drawn about three times too large, then averaged down


class Glyph(NamedTuple):
  """Where a drawing is found."""

  image_id: str  # "lucide/arrow-left"; with the style where fonts share names
  pack: str
  class_name: str
  font_path: pathlib.Path
  code_point: int


def find() -> list[Glyph]:
  """All glyphs that have a class name, sorted by `image_id`.

  Raises:
    InputError: if a package is missing, of another version or damaged.
  """
  glyphs = []
  for pack, folder in _package_folders().items():
    for map_name, font_name in _FONTS[pack].items():
      try:
        glyph_map = json.loads((folder / map_name).read_text())
        ImageFont.truetype(folder / font_name)
      except (OSError, ValueError) as error:
        package = f"tkinter-icons-{pack}"
        raise types.InputError(
          f"the installed package {package} is damaged ({map_name} or "
          f"{font_name}); type: pip install --force-reinstall --no-deps "
          f"{package}=={PACKAGES[package]}"
        ) from error
      style = map_name.removeprefix("glyphmap-").removesuffix(".json")
      # Fluent's names already end in their style.
      shared = len(_FONTS[pack]) > 1 and pack != "fluent"
      id_prefix = f"{pack}/{style}/" if shared else f"{pack}/"
      glyphs += _of_font(id_prefix, glyph_map, folder / font_name)
  return sorted(glyphs)


def _of_font(
  id_prefix: str, glyph_map: dict[str, int | str], font_path: pathlib.Path
) -> list[Glyph]:
  """One glyph per code point and class name: a glyph may have many names."""
  pack = id_prefix.split("/")[0]
  aliases = collections.defaultdict(list)
  for name, code in glyph_map.items():
    code_point = int(code, 16) if isinstance(code, str) else code
    aliases[code_point].append(name)
  glyphs = []
  for code_point, names in aliases.items():
    # The shortest name: "home" rather than "mdi-home".
    shortest = min(names, key=lambda name: (len(name), name))
    shortest = shortest.removeprefix("ic-fluent-").removeprefix("icon-")
    image_id = id_prefix + shortest.lower().replace("_", "-")
    glyphs += [
      Glyph(image_id, pack, shown, font_path, code_point)
      for shown in {class_name(pack, name) for name in names}
      if shown is not None
    ]
  return glyphs


def _package_folders() -> dict[str, pathlib.Path]:
  """Pack name, such as "lucide", to the folder of its package.

  Raises:
    InputError: if a package is missing or has another version.
  """
  folders = {package: _package_folder(package) for package in PACKAGES}
  wrong = [package for package, folder in folders.items() if folder is None]
  if wrong:
    wanted = " ".join(f"{package}=={PACKAGES[package]}" for package in wrong)
    raise types.InputError(
      f"the data set icons is drawn from {len(PACKAGES)} icon packages of "
      f"fixed versions, and {len(wrong)} of them are missing or of another "
      f"version; type: pip install {wanted}"
    )
  return {
    package.removeprefix("tkinter-icons-"): folder
    for package, folder in folders.items()
    if folder is not None
  }


def _package_folder(package: str) -> pathlib.Path | None:
  """The installed folder, or None if missing or of another version."""
  try:
    if importlib.metadata.version(package) != PACKAGES[package]:
      return None
  except importlib.metadata.PackageNotFoundError:
    return None
  # Finding the spec of a top-level package does not import it.
  spec = importlib.util.find_spec(package.replace("-", "_"))
  if spec is None or not spec.submodule_search_locations:
    return None
  return pathlib.Path(spec.submodule_search_locations[0])


def class_name(pack: str, raw_name: str) -> str | None:
  """What a glyph shows, in the words of the data set.

  Args:
    pack: such as "lucide".
    raw_name: the name in the glyph map of the pack, such as "icon-arrow-left".

  Returns:
    Such as "arrow-left" or "home"; None if the glyph is left out.
  """
  plain = raw_name.lower().replace("_", "-")
  while (shorter := _PREFIX.sub("", plain)) != plain:
    plain = shorter
  words = plain.split("-")
  styles = _STYLES[""] | _STYLES.get(pack, set())
  while len(words) > 1 and words[-1] in styles:
    words.pop()
  if pack == _NUMBERED_PACK and len(words) > 1 and words[-1].isdigit():
    words.pop()
  own = f"{pack}/{'-'.join(words)}"
  if own in _LEFT_OUT or f"{pack}/{plain}" in _LEFT_OUT:
    return None
  if own in _SHOWS:
    return _SHOWS[own]

  words = [_SAME_WORD.get(word, word) for word in words]
  # "circle-check", "check-circle": packs differ in the order only.
  words.sort(key=lambda word: word in ("circle", "square"))
  if len(words) > 1 and words[-1] == "slash":
    words[-1] = "off"
  name = "-".join(words)
  name = _SAME_NAME.get(name, name)
  return None if name in _MIXED else name


@functools.lru_cache(maxsize=32)
def _font(path: pathlib.Path) -> ImageFont.FreeTypeFont:
  # The basic layout engine is in every Pillow; the other is optional and
  # would draw some glyphs differently.
  return ImageFont.truetype(
    path, _FONT_SIZE_PX, layout_engine=ImageFont.Layout.BASIC
  )


def draw(font_path: pathlib.Path, code_point: int) -> np.ndarray | None:
  """Draws a glyph with its ink centred and scaled to one size.

  White on black, so that padding by cropping and shifting is background.
  Scaling removes the margins and optical sizes of a pack.

  Args:
    font_path: a TrueType or OpenType font.
    code_point: of the glyph.

  Returns:
    [64, 64] uint8 in [0, 255], longer side of the ink 52 px; None if the
    glyph has no ink.
  """
  font, text = _font(font_path), chr(code_point)
  left, top, right, bottom = map(round, font.getbbox(text))
  if right <= left or bottom <= top:
    return None
  image = Image.new("L", (right - left, bottom - top))
  ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
  box = image.getbbox()
  if box is None:
    return None
  image = image.crop(box)
  scale = _INK_SIZE_PX / max(image.size)
  width, height = (max(1, round(side * scale)) for side in image.size)
  canvas = Image.new("L", (IMAGE_SIZE_PX, IMAGE_SIZE_PX))
  canvas.paste(
    image.resize((width, height), Image.Resampling.BOX),
    ((IMAGE_SIZE_PX - width) // 2, (IMAGE_SIZE_PX - height) // 2),
  )
  return np.asarray(canvas)
