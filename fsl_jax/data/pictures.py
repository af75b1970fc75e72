"""Decoding images of any format to uint8 RGB, and resizing by one rule."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from fsl_jax import types
from fsl_jax.data import fingerprint, kinds, listing
from fsl_jax.data.containers import tree

FITS = ("squash", "crop")

# Pillow widens its triangle filter by the factor of reduction (antialiasing),
# as `jax.image.resize` "linear" does.
_FILTER = Image.Resampling.BILINEAR

# Not all that Pillow knows: opening an EPS file, for example, runs a program.
_FORMATS = (
  *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM"),
  *("TGA", "TIFF", "WEBP"),
)

# Formats whose own bytes are kept when an image needs no change.
_KEPT_FORMATS = ("PNG", "JPEG", "MPO")

MAX_MEGAPIXELS = 179
"""Default limit, since a few bytes may decode to an image of any size."""

_MAX_BYTES = 256 * 2**20
_BYTES_PER_PIXEL = 8  # 16 bits in four channels, not compressed

_ORIENTATION = 0x0112  # the EXIF tag

# The transposition that makes an image upright, by the value of the tag.
# ImageOps.exif_transpose also rewrites the tags, which fails if another one is
# damaged.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}

_WHITE = (255, 255, 255, 255)


class Rule(NamedTuple):
  """How source images are resized for a data set.

  Attributes:
    size_px: height and width of the result; None keeps those of the source.
    fit: "squash" stretches the image to a square, "crop" takes the largest
      square at its centre first.
    upright: True rotates photographs by their EXIF orientation.
    max_megapixels: of an image; larger ones are refused. One above
      `MAX_MEGAPIXELS` is first reduced by a whole factor that leaves twice
      `size_px` or more; a JPEG already by its decoder, at 1/2, 1/4 or 1/8 of
      its size, so that it is never whole in memory.
  """

  size_px: int | None = None
  fit: str = "squash"
  upright: bool = False
  max_megapixels: int = MAX_MEGAPIXELS

  @property
  def max_bytes(self) -> int:
    """Largest size of an encoded image."""
    if self.max_megapixels <= MAX_MEGAPIXELS:
      return _MAX_BYTES
    return max(_MAX_BYTES, self.max_megapixels * 10**6 * _BYTES_PER_PIXEL)

  def describe(self) -> str:
    """The rule in words, as it is recorded with the data set."""
    if self.size_px is None:
      return "as they were"
    how = "" if self.fit == "squash" else "centre square, "
    return f"{how}resized to {self.size_px} px, antialiased bilinear"


class Examined(NamedTuple):
  """An image that is ready to be stored."""

  encoded: bytes  # PNG or JPEG; `decode` of it gives the image
  digest: bytes  # [32], `fingerprint.of_image` of the image
  size: tuple[int, int]  # height, width of the image
  resized: bool  # whether the rule changed the image's size


class Bad(NamedTuple):
  """An image that cannot be used."""

  reason: str


def decode(encoded: bytes) -> Image.Image:
  """Decodes an image of any mode to 8-bit RGB.

  Grey becomes three equal channels, palettes and CMYK are converted to RGB,
  16-bit grey is scaled to 8 bits, and transparency is blended with white.

  Raises:
    Exception: of any type, if the bytes are no complete image.
  """
  # Threads decode, and share the filters of warnings, which are not changed.
  return _to_rgb(_open(encoded))


def fit(picture: Image.Image, rule: Rule) -> Image.Image:
  """Applies the size and the fit of a rule to an RGB image."""
  if rule.size_px is None:
    return picture
  size = (rule.size_px, rule.size_px)
  if picture.size == size:
    return picture
  if rule.fit == "crop":
    width, height = picture.size
    edge = min(width, height)
    left, top = (width - edge) // 2, (height - edge) // 2
    # With the `box` of resize the filter would use the pixels around it.
    picture = picture.crop((left, top, left + edge, top + edge))
  return picture.resize(size, _FILTER)


def examine(source: listing.Picture, rule: Rule) -> Examined | Bad:
  """Decodes an image, applies the rule, and encodes the result.

  Threads must not use different values of `rule.max_megapixels` at once, since
  Pillow has one global limit.
  """
  try:
    with (
      _pixel_limit(rule.max_megapixels),
      warnings.catch_warnings(
        action="ignore", category=Image.DecompressionBombWarning
      ),
    ):
      return _examine(source, rule)
  except Image.DecompressionBombError:
    return Bad(
      f"it has more pixels than max_megapixels={rule.max_megapixels} admits"
    )


def _examine(source: listing.Picture, rule: Rule) -> Examined | Bad:
  try:
    if isinstance(source, np.ndarray):
      return _examine_pixels(source, rule)
    if not isinstance(source, bytes):
      source = tree.read(source, limit=rule.max_bytes)
    return _examine_encoded(source, rule)
  except UnidentifiedImageError:
    assert isinstance(source, bytes)
    kind = kinds.of("", source[: kinds.NUM_BYTES])
    return Bad(kinds.remedy(kinds.NONE if kind == kinds.PICTURE else kind))
  except Image.DecompressionBombError:
    raise
  except types.InputError as error:
    return Bad(str(error))
  # Decoders of damaged images raise exceptions of almost any type.
  except Exception as error:
    return Bad(f"{type(error).__name__}: {error}")


def _examine_pixels(pixels: np.ndarray, rule: Rule) -> Examined | Bad:
  channels = pixels.shape[2:]
  if pixels.dtype != np.uint8 or pixels.ndim < 2 or channels not in ((), (3,)):
    return Bad(
      f"pixels are {list(pixels.shape)} {pixels.dtype}, not [H, W, 3] or "
      "[H, W] uint8"
    )
  stored = Image.fromarray(pixels)
  picture = fit(stored.convert("RGB"), rule)
  resized = picture.size != stored.size
  # Grey is stored as grey; three equal channels take three times as long.
  return _examined(picture, _png(picture if resized else stored), resized)


def _examine_encoded(encoded: bytes, rule: Rule) -> Examined | Bad:
  if not encoded:
    return Bad("the file is empty")
  with warnings.catch_warnings(record=True) as complaints:
    warnings.simplefilter("always")
    opened = _open(encoded, rule)
  # Files with a damaged EXIF tag, for example, are encoded again without it.
  kept = opened.format in _KEPT_FORMATS and not complaints
  # Pillow decodes 16-bit grey of this format to 32 bits.
  wide = opened.format == "PPM"
  if rule.upright:
    with warnings.catch_warnings(action="ignore"):
      turn = _TURNS.get(opened.getexif().get(_ORIENTATION, 1))
    if turn is not None:
      kept, opened = False, opened.transpose(turn)
  if opened.mode == "I" and not wide:
    return Bad("32-bit pixels have no known range")
  original = _reduced(_to_rgb(opened), rule)
  del opened  # Large images are in memory once, not twice.
  picture = fit(original, rule)
  resized = picture.size != original.size
  if not kept or resized:
    encoded = _png(picture)
  return _examined(picture, encoded, resized)


def _reduced(picture: Image.Image, rule: Rule) -> Image.Image:
  """A very large image reduced by a whole factor."""
  width, height = picture.size
  if width * height <= MAX_MEGAPIXELS * 10**6 or rule.size_px is None:
    return picture
  return picture.reduce(max(1, min(width, height) // (2 * rule.size_px)))


def _examined(picture: Image.Image, encoded: bytes, resized: bool) -> Examined:
  pixels = np.asarray(picture)
  return Examined(
    encoded, fingerprint.of_image(pixels), pixels.shape[:2], resized
  )


def _png(picture: Image.Image) -> bytes:
  buffer = io.BytesIO()
  picture.save(buffer, "PNG", compress_level=1)
  return buffer.getvalue()


@contextlib.contextmanager
def _pixel_limit(megapixels: int) -> Iterator[None]:
  """Sets the largest image that Pillow decodes."""
  before = Image.MAX_IMAGE_PIXELS
  if megapixels != MAX_MEGAPIXELS:
    Image.MAX_IMAGE_PIXELS = megapixels * 10**6 // 2  # it refuses twice as many
  try:
    yield
  finally:
    Image.MAX_IMAGE_PIXELS = before


def _open(encoded: bytes, rule: Rule | None = None) -> Image.Image:
  formats: tuple[str, ...] = _FORMATS
  if kinds.of("", encoded[: kinds.NUM_BYTES]) == kinds.HEIC:
    kinds.register_heif()
    formats = ("HEIF",)
  picture = Image.open(io.BytesIO(encoded), formats=formats)
  width, height = picture.size
  # Smaller ones are decoded at full size, on which fingerprints depend.
  is_huge = width * height > MAX_MEGAPIXELS * 10**6
  if is_huge and rule is not None and rule.size_px is not None:
    picture.draft(None, (2 * rule.size_px, 2 * rule.size_px))
  picture.load()
  return picture


def _to_rgb(picture: Image.Image) -> Image.Image:
  if picture.mode.startswith("I") or picture.mode == "F":
    return _from_16_bit(picture).convert("RGB")
  if picture.has_transparency_data:
    ground = Image.new("RGBA", picture.size, _WHITE)
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")
  return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_16_bit(picture: Image.Image) -> Image.Image:
  """8-bit grey of an image with more bits, which Pillow would clip."""
  values = np.asarray(picture)
  if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
    raise types.InputError(f"pixels of mode {picture.mode} have no known range")
  return Image.fromarray(
    ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
  )
