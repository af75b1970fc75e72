"""Loading by name: what users ask for, and what they get wrong."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import prepared

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_source.register(monkeypatch)


@pytest.fixture
def found(tmp_path):
  source = tiny_source.write(tmp_path / "source")
  return tiny_source.prepare(source, tmp_path / "data")


@pytest.fixture
def data_dir(found):
  return found.folder.parents[1]


@pytest.mark.parametrize("in_memory", [True, False])
def test_base_and_val_are_concatenated(found, data_dir, in_memory):
  base, val, both = (
    data.load("tiny", split, data_dir=data_dir, in_memory=in_memory)
    for split in ("base", "val", "base+val")
  )
  n = found.num_images["base"]
  assert both.split == "base+val"
  assert both.class_names == base.class_names + val.class_names
  assert np.array_equal(both.images[:n], base.images[:])
  assert np.array_equal(both.images[n:], val.images[:])
  assert both.image_ids[n:] == tuple(val.image_ids)
  assert np.array_equal(both.class_ids[:n], base.class_ids)
  assert np.array_equal(both.class_ids[n:] - 3, val.class_ids)
  assert both.class_ids.dtype == np.int32
  assert both.fingerprint == val.fingerprint == found.fingerprint
  assert np.diff(both.class_offsets()).tolist() == [5, 1, 3, 2, 4]


def test_resizes_with_antialiasing(tmp_path):
  source = tiny_source.write(tmp_path / "source", size=(64, 64))
  tiny_source.prepare(source, tmp_path / "data")
  large, small = (
    data.load("tiny", "val", data_dir=tmp_path / "data", image_size_px=size_px)
    for size_px in (None, 16)
  )
  assert small.images.shape[1:] == (16, 16, 3)
  assert small.fingerprint == large.fingerprint
  expected = Image.fromarray(large.images[3]).resize(
    (16, 16), Image.Resampling.BILINEAR
  )
  assert np.array_equal(small.images[3], np.asarray(expected))
  # Antialiasing keeps the mean; picking pixels does not.
  means = large.images.mean((1, 2, 3)), small.images.mean((1, 2, 3))
  assert np.abs(means[0] - means[1]).max() < 3


class TestWrongRequests:
  def _load(self, data_dir, name="tiny", split="base", **options):
    return data.load(name, split, data_dir=data_dir, **options)

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      ({"name": "icns"}, r"unknown data set 'icns'; did you mean 'icons'\?"),
      ({"split": "train"}, r"base, val, novel, base\+val$"),
      ({"split": "val+base"}, "unknown split"),
      ({"image_size_px": 0}, "image_size_px must be at least 1"),
      ({"image_size_px": 8.0}, "image_size_px must be .*whole"),
      ({"image_size_px": 10**6}, "image_size_px must be .*below 4097"),
    ],
  )
  def test_one_sentence_each(self, data_dir, arguments, message):
    with pytest.raises(types.InputError, match=message) as caught:
      self._load(data_dir, **arguments)
    assert "\n" not in str(caught.value)

  @pytest.mark.parametrize("name", ["tiny", "icons", "image_folder/mine"])
  def test_not_prepared_tells_what_to_call(self, tmp_path, name):
    command = prepared.prepare_call(name, tmp_path)
    assert f"prepare({name!r}" in command
    for call in (
      lambda: self._load(tmp_path, name),
      lambda: data.verify(name, data_dir=tmp_path),
    ):
      with pytest.raises(
        types.InputError, match=f"is not prepared in .*{re.escape(command)}$"
      ):
        call()
    assert data.describe(name, tmp_path) is None

  def test_images_of_no_square(self, tmp_path):
    source = tiny_source.write(tmp_path / "source", size=(4, 6))
    tiny_source.prepare(source, tmp_path / "data")
    with pytest.raises(
      types.InputError, match="not square; give image_size_px"
    ):
      self._load(tmp_path / "data")
    images = self._load(tmp_path / "data", image_size_px=5).images
    assert images.shape == (9, 5, 5, 3)


class TestDamage:
  @pytest.mark.parametrize(
    "name",
    [
      "metadata.json",
      "features.json",
      "dataset_info.json",
      "base.class_ids.npy",
      "base.positions.npy",
    ],
  )
  @pytest.mark.parametrize("keep", [0, 0.5])
  def test_cut_files_are_noticed(self, found, data_dir, name, keep):
    path = found.folder / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(
      types.InputError, match=r"is damaged .*overwrite=True\)$"
    ):
      data.load("tiny", "base", data_dir=data_dir, image_size_px=5)

  @pytest.mark.parametrize(
    "pattern", ["tiny-val.array_record*", "metadata.json", "val.positions.npy"]
  )
  def test_missing_files_are_noticed(self, found, data_dir, pattern):
    (path,) = found.folder.glob(pattern)
    path.unlink()
    with pytest.raises(
      types.InputError, match=r"is damaged .*overwrite=True\)$"
    ):
      data.load("tiny", "val", data_dir=data_dir, image_size_px=5)

  def test_a_missing_array_record_is_named(self, found, data_dir):
    (path,) = found.folder.glob("tiny-val.array_record*")
    path.unlink()
    with pytest.raises(types.InputError, match=r"tiny-val.* is missing"):
      data.describe("tiny", data_dir)

  def test_other_pixels_are_noticed(self, found, data_dir):
    path = found.folder / "metadata.json"
    digest = found.fingerprints["val"]
    path.write_text(path.read_text().replace(digest, "0" * 64))
    message = "fingerprint of split val is .*, expected 000000000000"
    with pytest.raises(types.InputError, match=message):
      data.load("tiny", "val", data_dir=data_dir, image_size_px=5)
    with pytest.raises(types.InputError, match=message):
      data.verify("tiny", data_dir=data_dir)


def test_verify_tells_what_was_verified(found, data_dir):
  assert data.verify("tiny", data_dir=data_dir) == found


@pytest.mark.parametrize(
  "name", ["mini_imagenet", "tiered_imagenet", "imagenet21k", "image_folder"]
)
def test_size_and_fit_may_be_chosen_where_pictures_are_resized(name):
  assert {"size_px", "fit"} <= set(prepared.builder_class(name).OPTIONS)


def test_importing_the_library_is_light():
  code = (
    "import sys, fsl_jax.data; print([m for m in ('tensorflow_datasets', "
    "'loky', 'orbax', 'matplotlib') if m in sys.modules])"
  )
  command = [sys.executable, "-c", code]
  output = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
  assert output.stdout.strip() == "[]", output.stderr
