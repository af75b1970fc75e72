"""Normalisation and random views, against NumPy and hand-worked numbers."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import augment, types

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])

STILL = augment.AugmentConfig(
  pad_px=0, flip=False, brightness=(0.5, 0.5), contrast=(1.0, 1.0)
)


@functools.cache
def compiled(config):
  return jax.jit(lambda key, images: augment.random_views(key, images, config))


def views(images, key=0, config=None):
  return np.asarray(compiled(config)(jax.random.key(key), images))


def pixels(views):
  """Undoes the normalisation: fractions in [0, 1]."""
  return views * STD + MEAN


def noise(number, height=6, width=6, seed=0):
  rng = np.random.default_rng(seed)
  # Away from black and white, which are clamped.
  return rng.integers(20, 236, (number, height, width, 3), dtype=np.uint8)


class TestPrepare:
  def test_by_hand(self):
    image = np.array([[[[0, 255, 51]]]], np.uint8)
    expected = [
      (0 - 0.485) / 0.229,
      (1 - 0.456) / 0.224,
      (0.2 - 0.406) / 0.225,
    ]
    out = augment.prepare(jnp.asarray(image))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0, 0, 0], expected, rtol=1e-6)

  def test_floats_pass(self):
    for shape in ((3, 5), (2, 4, 4, 1)):
      x = jnp.full(shape, 7.5)
      np.testing.assert_array_equal(augment.prepare(x), x)

  @pytest.mark.parametrize("dtype", [np.int32, np.int8, bool])
  def test_other_integers_are_refused(self, dtype):
    with pytest.raises(types.InputError, match=np.dtype(dtype).name):
      augment.prepare(jnp.zeros((2, 4, 4, 3), dtype))

  def test_grey_is_refused(self):
    with pytest.raises(types.InputError, match="3 channels, got 1"):
      augment.prepare(jnp.zeros((2, 4, 4, 1), jnp.uint8))


class TestWindow:
  @pytest.mark.parametrize(("size", "pad"), [(6, 0), (6, 2), (6, 5), (2, 1)])
  def test_as_numpy_reflects(self, size, pad):
    starts = range(2 * pad + 1)
    uniform = np.array([(s + 0.5) / (2 * pad + 1) for s in starts], np.float32)
    ours = np.asarray(augment._window(jnp.asarray(uniform), size, pad))
    padded = np.pad(np.arange(size), pad, mode="reflect")
    for start in starts:
      np.testing.assert_array_equal(ours[start], padded[start : start + size])

  def test_ends_of_the_draw_stay_inside(self):
    ends = jnp.array([0.0, np.nextafter(np.float32(1), np.float32(0))])
    for size, pad in ((32, 4), (84, 4), (500, 499)):
      window = np.asarray(augment._window(ends, size, pad))
      assert window.min() >= 0
      assert window.max() < size
      padded = np.pad(np.arange(size), pad, mode="reflect")
      np.testing.assert_array_equal(window[0], padded[:size])
      np.testing.assert_array_equal(window[1], padded[2 * pad :])

  def test_views_are_windows_of_the_padded_image(self):
    """Every view is found among all crops and flips NumPy can make."""
    pad, images = 2, noise(40, 5, 7)
    config = augment.AugmentConfig(
      pad_px=pad, brightness=(0.5, 0.5), contrast=(1.0, 1.0)
    )
    ours = pixels(views(images, config=config))
    seen = set()
    for image, view in zip(images / 255, ours, strict=True):
      padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
      found = []
      for flip in (False, True):
        source = padded[:, ::-1] if flip else padded
        for top in range(2 * pad + 1):
          for left in range(2 * pad + 1):
            crop = source[top : top + 5, left : left + 7]
            # Through logits and back in float32, images in steps of 1 / 255.
            if np.abs(crop - view).max() < 1e-5:
              found.append((flip, top, left))
      assert len(found) == 1
      seen.add(found[0])
    # 40 draws of 50 possibilities: 28 different ones are expected.
    assert len(seen) > 15


class TestColours:
  def test_one_pixel_by_hand(self):
    # x = 51 / 255 = 0.2, u = 0.75, c = 0.5:
    # logit x = ln(1/4), logit u = ln 3, half the sum = ln sqrt(3/4).
    odds = math.sqrt(3 / 4)
    config = augment.AugmentConfig(
      pad_px=0, flip=False, brightness=(0.75, 0.75), contrast=(0.5, 0.5)
    )
    image = np.full((1, 1, 1, 3), 51, np.uint8)
    out = pixels(views(image, config=config))
    np.testing.assert_allclose(out[0, 0, 0], odds / (1 + odds), rtol=1e-5)

  def test_still_view_is_the_image(self):
    images = noise(3)
    np.testing.assert_allclose(
      views(images, config=STILL), augment.prepare(jnp.asarray(images)),
      # Through logits and back in float32, divided by a deviation of 0.22.
      atol=1e-5,
    )  # fmt: skip

  def test_black_and_white_stay_finite(self):
    images = np.zeros((64, 6, 6, 3), np.uint8)
    images[:, :, 3:] = 255
    out = pixels(views(images))
    assert np.isfinite(out).all()
    # At the clamp's odds of 1e7, the strongest view leaves 5e-4 of grey.
    assert np.minimum(np.abs(out), np.abs(1 - out)).max() < 2e-3


class TestDraws:
  """4,000 images of one colour, whose views tell what was drawn."""

  NUMBER = 4000

  def draw(self, config):
    # Two colours that flip, brightness and contrast act on differently.
    images = np.full((self.NUMBER, 2, 2, 3), 102, np.uint8)
    images[:, :, 1] = 153
    out = pixels(views(images, 3, config)).astype(float)
    return np.log(out / (1 - out))[:, 0, :, 0]  # logits, [n, 2]

  def assert_uniform(self, values, low, high):
    fraction = (values - low) / (high - low)
    # Float32 logits of pixels are good to 1e-5.
    assert fraction.min() > -1e-4
    assert fraction.max() < 1 + 1e-4
    counts, _ = np.histogram(np.clip(fraction, 0, 1), 20, (0, 1))
    expected = self.NUMBER / 20
    # 19 degrees of freedom: above 43.8 in one of a thousand seeds, and the
    # seed is fixed. A gap of one bin in twenty gives 200 and more.
    assert ((counts - expected) ** 2 / expected).sum() < 43.8

  def test_flip_is_fair(self):
    logits = self.draw(augment.AugmentConfig(pad_px=0))
    flipped = (logits[:, 0] > logits[:, 1]).mean()
    # Five standard errors.
    assert abs(flipped - 0.5) < 5 * 0.5 / math.sqrt(self.NUMBER)
    still = self.draw(augment.AugmentConfig(pad_px=0, flip=False))
    assert (still[:, 0] < still[:, 1]).all()

  def test_brightness_is_uniform_before_the_logit(self):
    logits = self.draw(
      augment.AugmentConfig(pad_px=0, flip=False, contrast=(1.0, 1.0))
    )
    shift = logits[:, 0] - math.log(0.4 / 0.6)
    self.assert_uniform(1 / (1 + np.exp(-shift)), 0.1, 0.9)
    np.testing.assert_allclose(logits[:, 1] - shift, math.log(1.5), atol=1e-4)

  def test_contrast_is_uniform_in_the_logarithm(self):
    logits = self.draw(
      augment.AugmentConfig(pad_px=0, flip=False, brightness=(0.5, 0.5))
    )
    factor = logits[:, 1] / math.log(1.5)
    self.assert_uniform(np.log(factor), math.log(0.6), math.log(1.4))

  def test_brightness_comes_before_contrast(self):
    # c (logit x + logit u): both pixels are scaled, the shift too.
    logits = self.draw(augment.AugmentConfig(pad_px=0, flip=False))
    factor = (logits[:, 1] - logits[:, 0]) / (2 * math.log(1.5))
    shift = logits.mean(1) / factor
    self.assert_uniform(np.log(factor), math.log(0.6), math.log(1.4))
    self.assert_uniform(1 / (1 + np.exp(-shift)), 0.1, 0.9)
    # Drawn apart from each other.
    assert abs(np.corrcoef(factor, shift)[0, 1]) < 5 / math.sqrt(self.NUMBER)

  def test_crops_are_uniform_in_both_directions(self):
    # The view of a ramp tells its window by its corner.
    size, pad = 9, 4
    ramp = np.zeros((self.NUMBER, size, size, 3), np.uint8)
    ramp[..., 0] = 20 + 20 * np.arange(size)[:, None]
    ramp[..., 1] = 20 + 20 * np.arange(size)[None]
    config = augment.AugmentConfig(
      pad_px=pad, flip=False, brightness=(0.5, 0.5), contrast=(1.0, 1.0)
    )
    out = pixels(views(ramp, 5, config)) * 255
    # The middle pixel is never of the reflected border here.
    middle = np.rint((out[:, 4, 4, :2] - 20) / 20).astype(int)
    table = np.zeros((9, 9))
    np.add.at(table, tuple(middle.T), 1)
    expected = self.NUMBER / 81
    # 80 degrees of freedom: above 124.8 in one of a thousand seeds.
    assert ((table - expected) ** 2 / expected).sum() < 124.8


class TestIndependence:
  def test_of_what_follows(self):
    images = noise(9)
    alone = views(images[:4])
    np.testing.assert_array_equal(views(images)[:4], alone)
    np.testing.assert_array_equal(
      views(np.concatenate([images[:4], np.zeros_like(images[4:])]))[:4], alone
    )

  def test_every_position_and_key_draws_anew(self):
    same = np.repeat(noise(1), 20, axis=0)
    first, second = views(same, 0), views(same, 1)
    distinct = {view.tobytes() for view in (*first, *second)}
    assert len(distinct) == 40
    np.testing.assert_array_equal(views(same, 0), first)

  def test_vmap_over_episodes(self):
    images = np.stack([noise(3, seed=1), noise(3, seed=2)])
    keys = jax.random.split(jax.random.key(0), 2)
    batched = jax.vmap(augment.random_views)(keys, images)
    for b in range(2):
      np.testing.assert_allclose(
        batched[b],
        augment.random_views(keys[b], jnp.asarray(images[b])),
        rtol=1e-6,
        atol=1e-6,
      )


class TestErrors:
  @pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 6, 6, 3), np.float32), ((6, 6, 3), np.uint8), ((4, 8), np.float32)],
  )
  def test_images_only(self, shape, dtype):
    with pytest.raises(types.InputError, match=r"\[M, H, W, 3\] uint8"):
      augment.random_views(jax.random.key(0), jnp.zeros(shape, dtype))

  def test_pad_must_be_below_the_size(self):
    with pytest.raises(types.InputError, match="pad_px must be below"):
      augment.random_views(
        jax.random.key(0), jnp.zeros((1, 4, 9, 3), jnp.uint8)
      )

  @pytest.mark.parametrize(
    "options",
    [
      {"pad_px": -1},
      {"brightness": (-0.1, 0.9)},
      {"brightness": (0.1, 1.1)},
      {"contrast": (0.0, 1.4)},
    ],
    ids=str,
  )
  def test_ranges_that_make_no_sense(self, options):
    (name,) = options
    with pytest.raises(types.InputError, match=name):
      augment.AugmentConfig(**options)


def test_part_of_a_batch_has_the_views_of_the_whole():
  images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8)
  key = jax.random.key(5)
  whole = augment.random_views(key, images)
  rows = jnp.asarray([7, 2, 3])
  part = augment.random_views(key, images[np.asarray(rows)], positions=rows)
  np.testing.assert_array_equal(part, whole[rows])
