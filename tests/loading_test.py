"""Loading prepared data: arrays, streamed images, damage and wrong requests."""

import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import index, prepared, records, resident, streamed

_ROOT = pathlib.Path(__file__).parent.parent
_DAMAGED = r"is damaged .*overwrite=True\)$"


_registered = tiny_source.registered
source, found = tiny_source.source, tiny_source.found
data_dir, load = tiny_source.data_dir, tiny_source.load


def _mapping(array):
  """The memory-mapped file that an array is a view of."""
  while not isinstance(array, np.memmap):
    assert array.base is not None, "it is a copy"
    array = array.base
  return array


def _flip(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


class TestRequests:
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
  def test_wrong_ones_are_one_sentence(self, load, arguments, message):
    with pytest.raises(types.InputError, match=message) as caught:
      load(**arguments)
    assert "\n" not in str(caught.value)

  @pytest.mark.parametrize("name", ["tiny", "icons", "image_folder/mine"])
  def test_not_prepared_tells_what_to_call(self, tmp_path, name):
    command = prepared.prepare_call(name, tmp_path)
    assert f"prepare({name!r}" in command
    message = f"is not prepared in .*{re.escape(command)}$"
    for call in (
      lambda: data.load(name, "base", data_dir=tmp_path),
      lambda: data.verify(name, data_dir=tmp_path),
    ):
      with pytest.raises(types.InputError, match=message):
        call()
    assert data.describe(name, tmp_path) is None

  def test_images_that_are_not_square(self, tmp_path):
    source = tiny_source.write(tmp_path / "source", size=(4, 6))
    where = tiny_source.prepare(source, tmp_path / "data").folder.parents[1]
    with pytest.raises(types.InputError, match="not square; give image_size_p"):
      data.load("tiny", "base", data_dir=where)
    loaded = data.load("tiny", "base", data_dir=where, image_size_px=5)
    assert loaded.images.shape == (9, 5, 5, 3)

  @pytest.mark.parametrize(
    "name", ["mini_imagenet", "tiered_imagenet", "imagenet21k", "image_folder"]
  )
  def test_size_and_fit_are_options_where_images_are_resized(self, name):
    assert {"size_px", "fit"} <= set(prepared.builder_class(name).OPTIONS)

  def test_an_empty_val_adds_nothing(self, tmp_path):
    counts = {"base": {"a": 3}, "novel": {"b": 2}}
    source = tiny_source.write(tmp_path / "source", counts)
    where = tiny_source.prepare(source, tmp_path / "data").folder.parents[1]
    base = data.load("tiny", "base", data_dir=where)
    for here in (True, False):
      one = data.load("tiny", "base+val", data_dir=where, in_memory=here)
      assert one.split == "base+val"
      assert one.class_names == ("a",)
      assert one.class_ids.tolist() == [0, 0, 0]
      assert np.array_equal(one.images[:], base.images)
      assert list(one.image_ids) == list(base.image_ids)
      with pytest.raises(
        types.InputError, match=r"split 'val' .* is empty; it has base, novel$"
      ):
        data.load("tiny", "val", data_dir=where, in_memory=here)

  def test_importing_the_library_is_light(self):
    code = (
      "import sys, fsl_jax.data; print([m for m in ('tensorflow_datasets', "
      "'loky', 'orbax', 'matplotlib') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    assert output.stdout.strip() == "[]", output.stderr


@pytest.mark.parametrize("in_memory", [True, False])
def test_base_and_val_are_concatenated(found, load, in_memory):
  base, val, both = (
    load(split, in_memory=in_memory) for split in ("base", "val", "base+val")
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
  where = tiny_source.prepare(source, tmp_path / "data").folder.parents[1]
  large, small = (
    data.load("tiny", "val", data_dir=where, image_size_px=size_px)
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


class TestArray:
  def test_is_made_when_prepared_and_only_mapped_when_loaded(
    self, found, load, monkeypatch
  ):
    monkeypatch.setattr(resident, "decode", None)
    nodes = set()
    for split in data.SPLITS:
      images = load(split).images
      path = pathlib.Path(_mapping(images).filename)
      assert path == found.folder / "arrays" / "6px.npy"
      assert type(images) is np.ndarray
      assert not images.flags.writeable
      assert images.flags.c_contiguous
      nodes.add(os.stat(path).st_ino)
    assert len(nodes) == 1
    whole = np.load(path)
    assert len(whole) == 9 + 6 + 6
    assert np.array_equal(whole[:15], load("base+val").images)
    assert np.array_equal(whole[15:], load("novel").images)

  def test_rows_are_ordered_by_class_and_pixels(self, load, source):
    for split in tiny_source.COUNTS:
      loaded = load(split)
      assert np.all(np.diff(loaded.class_ids) >= 0)
      for i, name in enumerate(loaded.class_names):
        own = loaded.images[loaded.class_ids == i]
        expected = tiny_source.pixels_by_class(source, split)[name]
        assert {image.tobytes() for image in own} == expected
        digests = [data.fingerprint.of_image(image) for image in own]
        assert digests == sorted(digests)
      for image, image_id in zip(loaded.images, loaded.image_ids, strict=True):
        stored = np.asarray(Image.open(source / image_id))
        assert np.array_equal(image, stored)

  def test_other_sizes_are_made_once(self, found, load, monkeypatch):
    first = load("novel", image_size_px=3)
    assert first.images.shape == (6, 3, 3, 3)
    monkeypatch.setattr(resident, "make", None)
    again = load("novel", image_size_px=3)
    assert np.array_equal(first.images, again.images)
    # The size does not change which image is which.
    assert list(first.image_ids) == list(load("novel").image_ids)
    assert first.fingerprint == found.fingerprint

  def test_two_processes_at_once(self, found):
    code = f"""
import json, pathlib, sys
from fsl_jax.data import description, loading
found = description.read("tiny", pathlib.Path({str(found.folder)!r}))
print("ready", flush=True)
sys.stdin.readline()
sums = []
for size in range(7, 27):
  # As `load`, which does not know the name of a data set made by tests.
  array = loading._array(found, ["base", "val"], size)
  assert description.read("tiny", found.folder).fingerprint == found.fingerprint
  sums.append(int(array.sum()))
print(json.dumps(sums))
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [
      subprocess.Popen(
        [sys.executable, "-c", code], **pipes, text=True, cwd=_ROOT
      )
      for _ in range(2)
    ]
    for process in processes:
      assert process.stdout.readline() == "ready\n"
    for process in processes:
      process.stdin.write("\n")
      process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in outputs] == ["", ""]
    assert outputs[0][0] == outputs[1][0]
    assert len(json.loads(outputs[0][0])) == 20
    assert {path.name for path in (found.folder / "arrays").iterdir()} == {
      f"{size}px.{end}" for size in range(6, 27) for end in ("npy", "json")
    }


class TestDamagedArray:
  @pytest.mark.parametrize(
    ("name", "spoil"),
    [
      ("6px.npy", lambda path: _flip(path, -1)),
      ("6px.npy", lambda path: _flip(path, 400)),
      ("6px.npy", lambda path: path.write_bytes(path.read_bytes()[:-100])),
      ("6px.npy", lambda path: path.write_bytes(b"")),
      ("6px.npy", lambda path: np.save(path, np.zeros((21, 6, 6, 3)))),
      ("6px.npy", lambda path: path.unlink()),
      ("6px.json", lambda path: path.write_text("")),
      ("6px.json", lambda path: path.write_text("{}")),
      ("6px.json", lambda path: path.write_text("[]")),
      ("6px.json", lambda path: path.unlink()),
      ("6px.json", lambda path: path.write_text('{"fingerprint": "other"}')),
    ],
  )
  def test_it_is_made_again(self, found, load, data_dir, name, spoil):
    expected = {split: load(split).images.copy() for split in data.SPLITS}
    spoil(found.folder / "arrays" / name)
    for split, images in expected.items():
      assert np.array_equal(load(split).images, images)
    assert data.verify("tiny", data_dir=data_dir) == found

  def test_that_of_another_data_set_is_made_again(self, found, load, tmp_path):
    expected = load().images.copy()
    other = tiny_source.write(tmp_path / "other", seed=1)
    made = tiny_source.prepare(other, tmp_path / "more")
    for name in ("6px.npy", "6px.json"):
      shutil.copy(made.folder / "arrays" / name, found.folder / "arrays" / name)
    assert np.array_equal(load().images, expected)

  def test_verify_detects_it(self, found, data_dir):
    _flip(found.folder / "arrays" / "6px.npy", -1)
    with pytest.raises(types.InputError, match=r"6px.npy has changed"):
      data.verify("tiny", data_dir=data_dir)

  def test_the_folder_of_a_killed_process_is_removed(self, found, load):
    left = found.folder / "arrays" / ".unfinished-dead"
    left.mkdir()
    (left / "array.npy").write_bytes(b"half")
    load(image_size_px=4)
    assert not left.exists()

  def test_files_that_vanish_meanwhile_are_no_damage(
    self, found, data_dir, monkeypatch
  ):
    real = os.stat

    def vanish(path, *arguments, **options):
      if str(path).endswith("6px.json"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
      return real(path, *arguments, **options)

    size = (found.folder / "arrays" / "6px.json").stat().st_size
    monkeypatch.setattr(os, "stat", vanish)
    again = prepared.describe("tiny", data_dir)
    assert again == found._replace(size_bytes=found.size_bytes - size)


class TestNotWritable:
  @pytest.mark.parametrize("number", [13, 30, 28], ids=os.strerror)
  def test_it_is_decoded_into_memory(self, found, load, monkeypatch, number):
    expected = {
      split: load(split, image_size_px=5).images for split in data.SPLITS
    }
    for path in (found.folder / "arrays").iterdir():
      path.unlink()

    def refuse(*_):
      raise OSError(number, os.strerror(number))

    monkeypatch.setattr(resident.folder_lock, "working_folder", refuse)
    for split, images in expected.items():
      assert np.array_equal(load(split, image_size_px=5).images, images)
    assert not list((found.folder / "arrays").iterdir())

  @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
  def test_in_a_folder_that_is_read_only(self, found, load):
    arrays = found.folder / "arrays"
    expected = load().images.copy()
    (arrays / "6px.npy").unlink()
    arrays.chmod(0o555)
    found.folder.chmod(0o555)
    try:
      assert np.array_equal(load().images, expected)
    finally:
      found.folder.chmod(0o755)
      arrays.chmod(0o755)

  @pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="space cannot be reserved"
  )
  def test_a_full_disk_is_detected_before_decoding(
    self, found, load, monkeypatch
  ):
    """Writing to a mapping without a disk behind it ends the process."""
    sizes = []

    def full(handle, start, size):
      sizes.append((start, size))
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    on_disk, decoded = (
      load(image_size_px=5, in_memory=x) for x in (None, True)
    )
    assert set(sizes) == {(0, 128 + 21 * 5 * 5 * 3)}
    assert isinstance(on_disk.images, streamed.StreamedImages)
    assert isinstance(decoded.images, np.ndarray)
    np.testing.assert_array_equal(on_disk.images[:], decoded.images)
    with pytest.raises(OSError, match="No space left") as caught:
      resident.make(found, 400)
    assert "(10 MB are needed)" in caught.value.strerror
    assert caught.value.filename == str(found.folder / "arrays")


def test_arrays_up_to_a_size_unless_given(
  found, load, source, tmp_path, monkeypatch
):
  num_bytes = 21 * 6 * 6 * 3
  for limit, options, kind in (
    (num_bytes, {}, np.ndarray),
    # The size asked for counts, not the one prepared.
    (num_bytes, {"image_size_px": 7}, streamed.StreamedImages),
    (num_bytes - 1, {}, streamed.StreamedImages),
    (0, {"in_memory": True}, np.ndarray),
    (2**60, {"in_memory": False}, streamed.StreamedImages),
  ):
    monkeypatch.setattr(resident, "LIMIT_BYTES", limit)
    assert isinstance(load(**options).images, kind)
  monkeypatch.setattr(resident, "LIMIT_BYTES", 0)
  large = tiny_source.prepare(source, tmp_path / "large")
  assert not (large.folder / "arrays").exists()


class TestDamagedRecords:
  @pytest.fixture
  def refused(self, load, data_dir):
    """Both verifying and making an array refuse it in one sentence."""

    def refused(message):
      pattern = (
        rf"is damaged .*{message}.*; make it again with .*overwrite=True\)$"
      )
      with pytest.raises(types.InputError, match=pattern):
        data.verify("tiny", data_dir=data_dir)
      with pytest.raises(types.InputError, match=pattern):
        load(image_size_px=5)

    return refused

  @pytest.mark.parametrize(
    "name",
    [
      *("metadata.json", "features.json", "dataset_info.json"),
      *("base.class_ids.npy", "base.positions.npy", "*-base.array_record*"),
    ],
  )
  @pytest.mark.parametrize("keep", [None, 0, 0.5])
  def test_missing_and_cut_files(self, found, load, name, keep):
    (path,) = found.folder.glob(name)
    if keep is None:
      path.unlink()
    else:
      path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(types.InputError, match=_DAMAGED):
      load(image_size_px=5)

  def test_a_missing_array_record_is_named(self, found, data_dir):
    (path,) = found.folder.glob("tiny-val.array_record*")
    path.unlink()
    with pytest.raises(types.InputError, match=r"tiny-val.* is missing"):
      data.describe("tiny", data_dir)

  def test_bytes(self, found, refused):
    (path,) = found.folder.glob("tiny-base.array_record*")
    _flip(path, path.read_bytes().index(b"IDAT") + 20)
    refused("")

  def test_records_of_another_data_set(self, found, refused, tmp_path):
    other = tiny_source.write(tmp_path / "other", size=(7, 7))
    made = tiny_source.prepare(other, tmp_path / "more")
    (path,) = found.folder.glob("tiny-base.array_record*")
    (others,) = made.folder.glob("tiny-base.array_record*")
    path.write_bytes(others.read_bytes())
    refused("fingerprint of split base is")

  @pytest.mark.parametrize(
    "spoil",
    [
      lambda rows: rows[[1, 0, *range(2, 9)]],  # two images of a class
      lambda rows: rows[[8, *range(1, 8), 0]],  # of two classes
      lambda rows: rows[[0, 0, *range(2, 9)]],  # one twice
      lambda rows: rows + 1,
      lambda rows: rows[:-1],
    ],
  )
  def test_index(self, found, load, refused, spoil):
    path = found.folder / "base.positions.npy"
    np.save(path, spoil(np.load(path)))
    refused("index of base has changed")
    for in_memory in (True, False):
      with pytest.raises(types.InputError, match="index of base"):
        load(in_memory=in_memory)

  @pytest.mark.parametrize("which", ["val", None])
  def test_fingerprints(self, found, load, data_dir, which):
    path = found.folder / "metadata.json"
    digest = found.fingerprints[which] if which else found.fingerprint
    path.write_text(path.read_text().replace(digest, "0" * 64))
    with pytest.raises(types.InputError, match="expected 000000000000"):
      data.verify("tiny", data_dir=data_dir)
    if which:
      with pytest.raises(types.InputError, match=r"split val .* 000000000000"):
        load("val", image_size_px=5)


def test_index_of_equal_digests_is_whole(tmp_path):
  labels = np.asarray([1, 0, 1, 0, 1], np.int32)
  digests = np.asarray([5, 9, 5, 2**63 + 1, 4], np.uint64)
  digest = index.write(tmp_path, "base", labels, digests)
  source = records.Records(str(tmp_path), "base", 5, "", digest)
  found = index.read(source)
  assert found.class_ids.tolist() == [0, 0, 1, 1, 1]
  # 2^63 and more is larger than the rest, not negative.
  assert found.positions.tolist() == [1, 3, 4, 0, 2]
  with pytest.raises(ValueError, match="has changed"):
    index.read(source._replace(index_digest="0" * 64))
  assert len(index.read(source._replace(num_images=0)).positions) == 0
