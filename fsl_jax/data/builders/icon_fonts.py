"""Glyphs with class names, and their pictures, out of ten icon-font packages.

The packages hold, per style, a font and a JSON map from glyph name to code
point. Both are read as files; no code of the packages is run. The pictures
are drawn on the user's machine and never shipped, because each icon set has
its own licence.

Everything here is deterministic: same packages, same Pillow, same pixels.
"""

import collections
import functools
import importlib.metadata
import importlib.util
import json
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fsl_jax import types
from fsl_jax.data.builders import icon_names

# The icons, and with them the classes, change from version to version.
PACKAGES = {
  "tkinter-icons-bs": "1.1.1",
  "tkinter-icons-eva": "1.1.1",
  "tkinter-icons-fa": "1.1.1",
  "tkinter-icons-fluent": "1.1.1",
  "tkinter-icons-gmi": "1.1.2",
  "tkinter-icons-ion": "1.1.1",
  "tkinter-icons-lucide": "1.1.1",
  "tkinter-icons-mat": "1.1.2",
  "tkinter-icons-remix": "1.1.1",
  "tkinter-icons-typicons": "1.1.1",
}

# Per pack, glyph maps and their fonts. Font Awesome's brands are left out:
# they are trade marks, of which other packs have few.
_FONTS = {
  "bs": {"assets/glyphmap.json": "assets/bootstrap.ttf"},
  "eva": {"glyphmap.json": "fonts/eva-icons.ttf"},
  "fa": {
    "glyphmap-regular.json": "fonts/fa-regular-400.ttf",
    "glyphmap-solid.json": "fonts/fa-solid-900.ttf",
  },
  "fluent": {
    "glyphmap-filled.json": "fonts/FluentSystemIcons-Filled.ttf",
    "glyphmap-light.json": "fonts/FluentSystemIcons-Light.ttf",
    "glyphmap-regular.json": "fonts/FluentSystemIcons-Regular.ttf",
  },
  "gmi": {
    "glyphmap-baseline.json": "fonts/MaterialIcons-Regular.ttf",
    "glyphmap-outlined.json": "fonts/MaterialIconsOutlined-Regular.otf",
    "glyphmap-round.json": "fonts/MaterialIconsRound-Regular.otf",
    "glyphmap-sharp.json": "fonts/MaterialIconsSharp-Regular.otf",
  },
  "ion": {"glyphmap.json": "fonts/ionicons.ttf"},
  "lucide": {"glyphmap.json": "fonts/lucide.ttf"},
  "mat": {"glyphmap.json": "fonts/materialdesignicons-webfont.ttf"},
  "remix": {"glyphmap.json": "fonts/remixicon.ttf"},
  "typicons": {"glyphmap.json": "fonts/typicons.ttf"},
}

IMAGE_SIZE_PX = 64
_INK_SIZE_PX = 52  # longer side of the drawing; leaves a margin of 6
_FONT_SIZE_PX = 160  # drawn about three times too big, then averaged down


class Glyph(NamedTuple):
  """Where a picture is to be found."""

  image_id: str  # "lucide/arrow-left"; with the style where fonts share names
  pack: str
  class_name: str
  font_path: pathlib.Path
  code_point: int


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


def package_folders() -> dict[str, pathlib.Path]:
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


def find_glyphs() -> list[Glyph]:
  """All glyphs that have a class name, sorted by `image_id`.

  Raises:
    InputError: if a package is missing, of another version or damaged.
  """
  glyphs = []
  for pack, folder in package_folders().items():
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
      glyphs += _glyphs_of_font(
        f"{pack}/{style}/" if shared else f"{pack}/",
        glyph_map,
        folder / font_name,
      )
  return sorted(glyphs)


def _glyphs_of_font(
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
    class_names = {icon_names.class_name(pack, name) for name in names}
    glyphs += [
      Glyph(image_id, pack, class_name, font_path, code_point)
      for class_name in class_names
      if class_name is not None
    ]
  return glyphs


@functools.lru_cache(maxsize=32)
def _font(path: pathlib.Path) -> ImageFont.FreeTypeFont:
  # The basic layout engine is in every Pillow; the other is optional and
  # would draw some glyphs differently.
  return ImageFont.truetype(
    path, _FONT_SIZE_PX, layout_engine=ImageFont.Layout.BASIC
  )


def draw(font_path: pathlib.Path, code_point: int) -> np.ndarray | None:
  """Draws a glyph with its ink centred and scaled to one size.

  White on black: what cropping and shifting pad with is then the background.
  The scale makes a pack's margins and optical sizes no part of the picture.

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
