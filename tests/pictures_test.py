"""Pictures of every kind become the RGB that a person would expect."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from fsl_jax.data import fingerprint, kinds, listing, pictures

_NATIVE = pictures.Rule()
_RED, _WHITE = (200, 30, 60), (255, 255, 255)


def _encode(picture, kind="PNG", **options):
  buffer = io.BytesIO()
  picture.save(buffer, kind, **options)
  return buffer.getvalue()


def _noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _pixels(encoded):
  return np.asarray(pictures.decode(encoded))


def _examined(source, rule=_NATIVE):
  """What `examine` gives, which must be of what can be decoded again."""
  found = pictures.examine(source, rule)
  assert isinstance(found, pictures.Examined), found
  again = _pixels(found.encoded)
  assert found.digest == fingerprint.of_image(again)
  assert found.size == again.shape[:2]
  assert again.shape[2:] == (3,)
  assert again.dtype == np.uint8
  return found


def _reason(source, rule=_NATIVE):
  """Why an image cannot be used."""
  found = pictures.examine(source, rule)
  assert isinstance(found, pictures.Bad), found
  assert found.reason
  assert "\n" not in found.reason
  # It is recorded, so it must not hold an address, which differs in every run.
  assert " at 0x" not in found.reason
  return found.reason


class TestModes:
  @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
  def test_opaque_png_keeps_its_colours(self, mode):
    grey = np.asarray([[0, 255], [255, 0]], np.uint8)
    picture = Image.fromarray(grey).convert("RGB").convert(mode)
    encoded = _encode(picture)
    assert Image.open(io.BytesIO(encoded)).mode == mode
    assert np.array_equal(_pixels(encoded), np.stack([grey] * 3, -1))
    assert _examined(encoded).encoded == encoded

  def test_palette_gives_its_colours(self):
    picture = Image.new("P", (2, 1))
    picture.putpalette([*_RED, 1, 2, 3])
    picture.putdata([0, 1])
    assert _pixels(_encode(picture)).tolist() == [[list(_RED), [1, 2, 3]]]

  def test_what_is_transparent_lies_on_white(self):
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(*_RED, 255), (*_RED, 0), (100, 0, 200, 51)])
    shown = _pixels(_encode(rgba))[0]
    # 51 / 255 is one fifth: 0.2 * 100 + 0.8 * 255 = 224, 204, 244.
    expected = [_RED, _WHITE, (224, 204, 244)]
    assert np.abs(shown.astype(int) - expected).max() <= 1
    assert shown[1].tolist() == list(_WHITE)

    grey = Image.new("LA", (2, 1))
    grey.putdata([(0, 0), (10, 255)])
    assert _pixels(_encode(grey))[0, :, 0].tolist() == [255, 10]

    palette = Image.new("P", (2, 1))
    palette.putpalette([*_RED, 1, 2, 3])
    palette.putdata([0, 1])
    for transparency in (0, b"\0\xff"):  # one entry, or one alpha an entry
      encoded = _encode(palette, transparency=transparency)
      assert _pixels(encoded).tolist() == [[list(_WHITE), [1, 2, 3]]]

  @pytest.mark.parametrize(
    ("mode", "colour"), [("RGB", _RED), ("L", 40), ("1", 0)]
  )
  def test_one_colour_may_be_the_transparent_one(self, mode, colour):
    encoded = _encode(Image.new(mode, (2, 2), colour), transparency=colour)
    assert (_pixels(encoded) == 255).all()

  def test_colours_of_jpeg(self):
    rgb = Image.new("RGB", (16, 16), _RED)
    for picture in (rgb, rgb.convert("YCbCr"), rgb.convert("CMYK")):
      encoded = _encode(picture, "JPEG", quality=95)
      mode = Image.open(io.BytesIO(encoded)).mode
      assert mode == ("CMYK" if picture.mode == "CMYK" else "RGB")
      assert np.abs(_pixels(encoded).astype(int) - _RED).max() <= 4
      assert _examined(encoded).encoded == encoded

  @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
  def test_16_bits_are_scaled_not_cut_off(self, kind):
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    encoded = _encode(Image.fromarray(values), kind)
    # 65535 / 255 = 257: values / 257, rounded.
    expected = np.round(values / 257).astype(np.uint8)
    for channel in range(3):
      assert np.array_equal(_pixels(encoded)[..., channel], expected)

  def test_32_bits_count_as_16_where_they_fit(self):
    values = np.asarray([[0, 65_535]], np.int32)
    shown = _pixels(_encode(Image.fromarray(values), "TIFF"))
    assert shown[0, :, 0].tolist() == [0, 255]

  def test_16_bit_ppm(self):
    # Pillow decodes it to 32 bits.
    values = np.asarray([[0, 257, 65535]], ">u2")
    encoded = b"P5 3 1 65535\n" + values.tobytes()
    assert _pixels(_examined(encoded).encoded)[..., 0].tolist() == [[0, 1, 255]]

  @pytest.mark.parametrize(
    "values",
    [
      np.arange(64, dtype=np.int32).reshape(8, 8),
      np.asarray([[0, 70_000]], np.int32),
      np.asarray([[-1, 5]], np.int32),
      np.asarray([[0.5, 1.0]], np.float32),
    ],
  )
  def test_values_without_a_known_range_are_bad(self, values):
    encoded = _encode(Image.fromarray(values), "TIFF")
    assert "no known range" in _reason(encoded)

  def test_first_frame_of_an_animation(self):
    frames = [Image.new("RGB", (4, 4), c) for c in (_RED, _WHITE)]
    for kind in ("GIF", "PNG", "WEBP"):
      options = {"lossless": True} if kind == "WEBP" else {}
      encoded = _encode(
        frames[0], kind, save_all=True, append_images=frames[1:], **options
      )
      found = _examined(encoded)
      assert (_pixels(found.encoded) == _RED).all()


# Values of the tag, and what turns the stored pixels as they were seen.
_SEEN = {
  1: lambda a: a,
  2: lambda a: a[:, ::-1],
  3: lambda a: a[::-1, ::-1],
  4: lambda a: a[::-1],
  5: lambda a: a.swapaxes(0, 1),
  6: lambda a: np.rot90(a, -1),
  7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
  8: lambda a: np.rot90(a),
}


class TestOrientation:
  def _stored(self, picture, value, kind="PNG"):
    exif = Image.Exif()
    exif[0x0112] = value
    return _encode(picture, kind, exif=exif)

  @pytest.mark.parametrize("value", range(1, 9))
  def test_upright_turns(self, value):
    pixels = _noise(3, 5, 3)
    encoded = self._stored(Image.fromarray(pixels), value)
    found = _examined(encoded, pictures.Rule(upright=True))
    assert np.array_equal(_pixels(found.encoded), _SEEN[value](pixels))
    assert (found.encoded == encoded) == (value == 1)
    # Nothing was scaled.
    assert not found.resized

  @pytest.mark.parametrize("value", range(1, 9))
  def test_without_it_the_tag_is_ignored(self, value):
    encoded = self._stored(Image.fromarray(_noise(3, 5, 3)), value)
    found = _examined(encoded)
    assert found.encoded == encoded
    assert found.size == (3, 5)

  @pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
  def test_pictures_of_all_modes_are_turned(self, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    if mode == "I;16":
      picture = Image.fromarray(np.zeros((4, 8), np.uint16))
    else:
      picture = Image.new("RGB", (8, 4), _RED).convert(mode)
    encoded = self._stored(picture, 6, kind)
    assert _examined(encoded, pictures.Rule(upright=True)).size == (8, 4)

  def test_a_turned_palette_stays_transparent(self):
    palette = Image.new("P", (2, 1))
    palette.putpalette([*_RED, 1, 2, 3])
    palette.putdata([0, 1])
    palette.info["transparency"] = 0
    encoded = self._stored(palette, 3)
    found = _examined(encoded, pictures.Rule(upright=True))
    assert _pixels(found.encoded).tolist() == [[[1, 2, 3], list(_WHITE)]]

  @pytest.mark.parametrize("value", [0, 9, 65_535])
  def test_unknown_values_are_ignored(self, value):
    encoded = self._stored(Image.fromarray(_noise(3, 5, 3)), value)
    found = _examined(encoded, pictures.Rule(upright=True))
    assert found.encoded == encoded

  @pytest.mark.parametrize(
    "exif",
    [
      b"Exif\0\0no tags",
      b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\xff\xff\0\0\x06\0\0\0ju",
    ],
  )
  def test_damaged_tags_do_not_make_the_picture_bad(self, exif):
    encoded = _encode(Image.new("RGB", (8, 4), _RED), "JPEG", exif=exif)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      found = _examined(encoded, pictures.Rule(upright=True))
      # What is stored is read without a warning ever after.
      stored = np.asarray(pictures.decode(found.encoded))
    with warnings.catch_warnings(action="ignore"):
      np.testing.assert_array_equal(stored, pictures.decode(encoded))


class TestBad:
  _PNG = _encode(Image.fromarray(_noise(40, 40, 3)))
  _JPEG = _encode(Image.fromarray(_noise(40, 40, 3)), "JPEG")

  @pytest.mark.parametrize(
    ("encoded", "reason"),
    [
      (b"", "the file is empty"),
      (b"not found\n" * 20, "no image of a known format"),
      (_PNG[:10], "no image of a known format"),
      (_PNG[: len(_PNG) // 2], "truncated"),
      (_JPEG[: len(_JPEG) // 2], "truncated"),
      (_PNG[:3000] + b"\0" * 200 + _PNG[3200:], ""),
    ],
    ids=["empty", "text", "begin", "half png", "half jpeg", "hole in png"],
  )
  def test_damaged_bytes_have_a_reason(self, encoded, reason):
    assert reason in _reason(encoded)

  def test_decompression_bomb(self, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    expected = "it has more pixels than max_megapixels=179 admits"
    assert _reason(self._PNG) == expected

  def test_the_limit_may_be_raised(self, monkeypatch):
    """40 x 40 pixels count as 179 megapixels and more."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    rule = pictures.Rule(size_px=8, fit="crop", max_megapixels=250)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      assert _examined(self._PNG, rule).size == (8, 8)
      assert Image.MAX_IMAGE_PIXELS == 100
      # Between the limit and twice the limit Pillow would only warn.
      monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
      assert _examined(self._PNG, pictures.Rule(size_px=8)).size == (8, 8)
    assert rule.max_bytes >= 250e6 * 3
    assert pictures.Rule().max_bytes == 256 * 2**20

  def test_a_huge_jpeg_is_decoded_smaller(self, monkeypatch):
    """Whole, its pixels would take many times the memory."""
    sizes = []
    fit = pictures.fit
    monkeypatch.setattr(
      pictures,
      "fit",
      lambda picture, rule: sizes.append(picture.size) or fit(picture, rule),
    )
    gradient = np.broadcast_to(np.arange(256, dtype=np.uint8), (128, 256))
    encoded = _encode(Image.fromarray(gradient).convert("RGB"), "JPEG")
    whole = _examined(encoded, pictures.Rule(size_px=8))
    monkeypatch.setattr(pictures, "MAX_MEGAPIXELS", 0.01)
    small = _examined(encoded, pictures.Rule(size_px=8))
    assert sizes == [(256, 128), (32, 16)]
    assert small.resized
    difference = _pixels(small.encoded).astype(int) - _pixels(whole.encoded)
    assert np.abs(difference).max() <= 2

  def test_what_it_is_instead(self):
    for encoded, reason in (
      (b"\0\0\0\x18ftypisom\0\0\0\0", "video; save its frames"),
      (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
      (b"%PDF-1.7\n", "PDF document"),
      (b"\n<!DOCTYPE html><p>404", "HTML page"),
    ):
      assert reason in _reason(encoded)

  def test_heic(self, monkeypatch):
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    with monkeypatch.context() as patch:
      patch.setattr(kinds, "has_heif", lambda: False)
      assert "install pillow-heif" in _reason(heic)
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    pixels = np.broadcast_to(np.asarray(_RED, np.uint8), (64, 64, 3))
    encoded = _encode(Image.fromarray(pixels), "HEIF", quality=-1)
    found = _examined(encoded, pictures.Rule(size_px=8, upright=True))
    assert np.abs(_pixels(found.encoded).astype(int) - _RED).max() <= 3

  @pytest.mark.parametrize(
    "pixels",
    [
      np.zeros((4, 4, 3), np.float32),
      np.zeros((4, 4, 3), np.int64),
      np.zeros((4, 4, 4), np.uint8),
      np.zeros((4, 4, 2), np.uint8),
      np.zeros((4, 4, 1), np.uint8),
      np.zeros((16,), np.uint8),
      np.zeros((0, 4, 3), np.uint8),
      np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.shape} {pixels.dtype}",
  )
  def test_pixels_of_another_kind(self, pixels):
    assert _reason(pixels)

  def test_a_file_that_is_not_there(self, tmp_path):
    where = listing.FileRange(str(tmp_path / "none.png"))
    assert "none.png" in _reason(where)


class TestStored:
  @pytest.mark.parametrize("kind", ["PNG", "JPEG"])
  def test_own_bytes_are_kept_where_nothing_changed(self, kind):
    encoded = _encode(Image.fromarray(_noise(8, 8, 3)), kind)
    for rule in (_NATIVE, pictures.Rule(8), pictures.Rule(8, "crop", True)):
      assert _examined(encoded, rule).encoded == encoded
    resized = _examined(encoded, pictures.Rule(4))
    assert resized.encoded != encoded
    assert resized.resized

  @pytest.mark.parametrize("kind", ["BMP", "GIF", "PPM", "TIFF", "WEBP"])
  def test_other_formats_become_png_of_the_same_pixels(self, kind):
    encoded = _encode(Image.fromarray(_noise(8, 8, 3)), kind)
    found = _examined(encoded)
    assert Image.open(io.BytesIO(found.encoded)).format == "PNG"
    assert np.array_equal(_pixels(found.encoded), _pixels(encoded))
    assert not found.resized

  def test_a_picture_is_the_same_from_everywhere(self, tmp_path):
    pixels = _noise(8, 6, 3)
    encoded = _encode(Image.fromarray(pixels))
    path = tmp_path / "shard"
    path.write_bytes(b"before" + encoded + b"after")
    sources = [
      pixels,
      np.asfortranarray(pixels),
      encoded,
      listing.FileRange(str(path), 6, len(encoded)),
    ]
    assert len({_examined(source).digest for source in sources}) == 1

  def test_grey_pixels_are_stored_grey(self):
    grey = _noise(8, 6)
    found = _examined(grey)
    assert Image.open(io.BytesIO(found.encoded)).mode == "L"
    rgb = np.stack([grey] * 3, -1)
    assert found.digest == _examined(rgb).digest
    small = pictures.Rule(4)
    assert _examined(grey, small).digest == _examined(rgb, small).digest


class TestFit:
  def _stripes(self, height, width):
    """Three equal parts along the longer edge: red, green, blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    along = pixels if height > width else pixels.swapaxes(0, 1)
    third = len(along) // 3
    for i in range(3):
      along[i * third : (i + 1) * third, :, i] = 255
    return Image.fromarray(pixels)

  @pytest.mark.parametrize(("height", "width"), [(30, 90), (90, 30)])
  def test_crop_keeps_the_middle_and_squash_all(self, height, width):
    picture = self._stripes(height, width)
    cropped = np.asarray(pictures.fit(picture, pictures.Rule(10, "crop")))
    assert cropped.shape == (10, 10, 3)
    assert (cropped == (0, 255, 0)).all()

    squashed = np.asarray(pictures.fit(picture, pictures.Rule(30, "squash")))
    assert squashed.shape == (30, 30, 3)
    along = squashed if height > width else squashed.swapaxes(0, 1)
    for i in range(3):
      middle = along[10 * i + 5]
      assert (middle == np.eye(3, dtype=np.uint8)[i] * 255).all()

  def test_crop_of_an_odd_rest_is_a_whole_pixel(self):
    pixels = _noise(4, 7, 3)
    picture = Image.fromarray(pixels)
    cropped = np.asarray(pictures.fit(picture, pictures.Rule(4, "crop")))
    # (7 - 4) // 2 = 1 pixel is left out before the square.
    assert np.array_equal(cropped, pixels[:, 1:5])

  def test_reduction_is_antialiased(self):
    # Black and white columns in turn: their mean, not one of the two.
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, ::2] = 255
    small = pictures.fit(Image.fromarray(pixels), pictures.Rule(8))
    inner = np.asarray(small)[:, 1:-1].astype(int)
    assert np.abs(inner - 127.5).max() < 12
    noise = _noise(64, 64, 3)
    small, cropped = (
      np.asarray(pictures.fit(Image.fromarray(noise), pictures.Rule(8, how)))
      for how in pictures.FITS
    )
    assert abs(small.mean() - noise.mean()) < 2
    assert np.array_equal(small, cropped)

  def test_the_rule_is_that_of_jax(self):
    import jax

    pixels = _noise(24, 36, 3)
    small = np.asarray(pictures.fit(Image.fromarray(pixels), pictures.Rule(9)))
    expected = jax.image.resize(
      pixels.astype(np.float32), (9, 9, 3), "linear", antialias=True
    )
    # Pillow rounds after each of the two directions.
    assert np.abs(small - np.asarray(expected)).max() < 1.6

  def test_very_wide_pictures(self):
    picture = Image.fromarray(_noise(1, 3000, 3))
    for how in pictures.FITS:
      found = _examined(_encode(picture), pictures.Rule(5, how))
      assert found.size == (5, 5)
      assert found.resized

  def test_without_a_size_nothing_changes(self):
    for how in pictures.FITS:
      picture = Image.fromarray(_noise(3, 9, 3))
      assert pictures.fit(picture, pictures.Rule(None, how)) is picture
