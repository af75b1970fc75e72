"""The array of decoded images: shared, checked, and made again."""

import errno
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import index, prepared, records, resident

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_source.register(monkeypatch)


@pytest.fixture
def source(tmp_path):
  return tiny_source.write(tmp_path / "source")


@pytest.fixture
def found(source, tmp_path):
  return tiny_source.prepare(source, tmp_path / "data")


def _load(found, split="base", **options):
  data_dir = found.folder.parents[1]
  return data.load("tiny", split, data_dir=data_dir, **options)


def _mapping(array):
  """The memory-mapped file that an array is a view of."""
  base = array
  while not isinstance(base, np.memmap):
    assert base.base is not None, "it is a copy"
    base = base.base
  return base


def _flip(path, place):
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


class TestArray:
  def test_is_made_when_prepared_and_only_mapped_when_loaded(
    self, found, monkeypatch
  ):
    def refuse(*_):
      raise AssertionError("it was decoded again")

    monkeypatch.setattr(resident, "decode", refuse)
    for split in data.SPLITS:
      images = _load(found, split).images
      path = pathlib.Path(_mapping(images).filename)
      assert path == found.folder / "arrays" / "6px.npy"
      assert type(images) is np.ndarray
      assert not images.flags.writeable
      assert images.flags.c_contiguous

  def test_loads_share_the_file(self, found):
    loaded = {split: _load(found, split).images for split in data.SPLITS}
    nodes = {os.stat(_mapping(x).filename).st_ino for x in loaded.values()}
    assert len(nodes) == 1
    whole = np.load(found.folder / "arrays" / "6px.npy")
    assert len(whole) == 9 + 6 + 6
    assert np.array_equal(whole[:15], loaded["base+val"])
    assert np.array_equal(whole[15:], loaded["novel"])

  def test_rows_are_ordered_by_class_and_pixels(self, found, source):
    for split in tiny_source.COUNTS:
      loaded = _load(found, split)
      assert np.all(np.diff(loaded.class_ids) >= 0)
      for i, name in enumerate(loaded.class_names):
        own = loaded.images[loaded.class_ids == i]
        expected = tiny_source.pixels_by_class(source, split)[name]
        assert {image.tobytes() for image in own} == expected
        digests = [data.fingerprint.of_image(image) for image in own]
        assert digests == sorted(digests)

  def test_ids_are_those_of_the_pictures(self, found, source):
    for split in data.SPLITS:
      loaded = _load(found, split)
      for image, picture_id in zip(
        loaded.images, loaded.image_ids, strict=True
      ):
        picture = np.asarray(Image.open(source / picture_id))
        assert np.array_equal(image, picture)

  def test_other_sizes_are_made_once(self, found, monkeypatch):
    first = _load(found, "novel", image_size_px=3)
    assert first.images.shape == (6, 3, 3, 3)
    monkeypatch.setattr(resident, "make", None)
    again = _load(found, "novel", image_size_px=3)
    assert np.array_equal(first.images, again.images)
    # The size takes no part in which image is which.
    assert list(first.image_ids) == list(_load(found, "novel").image_ids)
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
  # What loading does, but for the name of a data set made by tests.
  array = loading._array(found, ["base", "val"], size)
  assert description.read("tiny", found.folder).fingerprint == found.fingerprint
  sums.append(int(array.sum()))
print(json.dumps(sums))
"""
    processes = [
      subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
      )
      for _ in range(2)
    ]
    for process in processes:
      assert process.stdout is not None
      assert process.stdout.readline() == "ready\n"
    for process in processes:
      assert process.stdin is not None
      process.stdin.write("\n")
      process.stdin.flush()
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in outputs] == ["", ""]
    assert outputs[0][0] == outputs[1][0]
    assert len(json.loads(outputs[0][0])) == 20
    left = {path.name for path in (found.folder / "arrays").iterdir()}
    assert left == {
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
  def test_it_is_made_again(self, found, name, spoil):
    expected = {
      split: _load(found, split).images.copy() for split in data.SPLITS
    }
    spoil(found.folder / "arrays" / name)
    for split, images in expected.items():
      assert np.array_equal(_load(found, split).images, images)
    assert data.verify("tiny", data_dir=found.folder.parents[1]) == found

  def test_that_of_another_data_set_is_made_again(self, found, tmp_path):
    expected = _load(found).images.copy()
    other = tiny_source.write(tmp_path / "other", seed=1)
    made = tiny_source.prepare(other, tmp_path / "more")
    for name in ("6px.npy", "6px.json"):
      shutil.copy(made.folder / "arrays" / name, found.folder / "arrays" / name)
    assert np.array_equal(_load(found).images, expected)

  def test_a_killed_maker_leaves_nothing_for_good(self, found):
    left = found.folder / "arrays" / ".unfinished-dead"
    left.mkdir()
    (left / "array.npy").write_bytes(b"half")
    _load(found, image_size_px=4)
    assert not left.exists()

  def test_files_that_vanish_meanwhile_are_no_damage(self, found, monkeypatch):
    real = os.stat

    def vanish(path, *arguments, **options):
      if str(path).endswith("6px.json"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
      return real(path, *arguments, **options)

    size = (found.folder / "arrays" / "6px.json").stat().st_size
    monkeypatch.setattr(os, "stat", vanish)
    again = prepared.describe("tiny", found.folder.parents[1])
    assert again == found._replace(size_bytes=found.size_bytes - size)


class TestNotWritable:
  @pytest.mark.parametrize("number", [13, 30, 28], ids=os.strerror)
  def test_it_is_decoded_into_memory(self, found, monkeypatch, number):
    expected = {
      split: _load(found, split, image_size_px=5).images
      for split in data.SPLITS
    }
    for path in (found.folder / "arrays").iterdir():
      path.unlink()

    def refuse(*_):
      raise OSError(number, os.strerror(number))

    monkeypatch.setattr(resident.folder_lock, "working_folder", refuse)
    for split, images in expected.items():
      again = _load(found, split, image_size_px=5).images
      assert np.array_equal(again, images)
    assert not list((found.folder / "arrays").iterdir())

  @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
  def test_in_a_folder_that_is_read_only(self, found):
    arrays = found.folder / "arrays"
    expected = _load(found).images.copy()
    (arrays / "6px.npy").unlink()
    arrays.chmod(0o555)
    found.folder.chmod(0o555)
    try:
      assert np.array_equal(_load(found).images, expected)
    finally:
      found.folder.chmod(0o755)
      arrays.chmod(0o755)

  @pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="space cannot be reserved"
  )
  def test_a_full_disk_is_met_before_the_mapping_is_written(
    self, found, monkeypatch
  ):
    """Writing to a mapping without a disk behind it ends the process."""
    sizes = []

    def full(handle, start, size):
      sizes.append((start, size))
      raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    images = _load(found, image_size_px=5).images
    assert images.shape == (9, 5, 5, 3)
    assert sizes == [(0, 128 + 21 * 5 * 5 * 3)]


class TestChoice:
  def test_none_decides_by_size(self, found, monkeypatch):
    num_bytes = 21 * 6 * 6 * 3
    monkeypatch.setattr(resident, "LIMIT_BYTES", num_bytes)
    assert isinstance(_load(found).images, np.ndarray)
    # The size asked for counts, not the one prepared.
    larger = _load(found, image_size_px=7).images
    assert isinstance(larger, data.streamed.StreamedImages)
    monkeypatch.setattr(resident, "LIMIT_BYTES", num_bytes - 1)
    assert isinstance(_load(found).images, data.streamed.StreamedImages)

  def test_given_it_is_obeyed(self, found, monkeypatch):
    monkeypatch.setattr(resident, "LIMIT_BYTES", 0)
    assert isinstance(_load(found, in_memory=True).images, np.ndarray)
    monkeypatch.setattr(resident, "LIMIT_BYTES", 2**60)
    streamed = _load(found, in_memory=False).images
    assert isinstance(streamed, data.streamed.StreamedImages)

  def test_what_exceeds_the_limit_gets_no_array(
    self, source, tmp_path, monkeypatch
  ):
    monkeypatch.setattr(resident, "LIMIT_BYTES", 0)
    found = tiny_source.prepare(source, tmp_path / "large")
    assert not (found.folder / "arrays").exists()
    assert len(_load(found, "base+val").images[:]) == 15


class TestDamagedRecords:
  def _refused(self, found, message):
    """Both to verify and to make an array is one sentence."""
    data_dir = found.folder.parents[1]
    pattern = (
      rf"is damaged .*{message}.*; make it again with .*overwrite=True\)$"
    )
    with pytest.raises(types.InputError, match=pattern):
      data.verify("tiny", data_dir=data_dir)
    with pytest.raises(types.InputError, match=pattern):
      data.load("tiny", "base", data_dir=data_dir, image_size_px=5)

  def test_bytes(self, found):
    (path,) = found.folder.glob("tiny-base.array_record*")
    _flip(path, path.read_bytes().index(b"IDAT") + 20)
    self._refused(found, "")

  def test_half_a_file(self, found):
    (path,) = found.folder.glob("tiny-base.array_record*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    self._refused(found, "")

  def test_records_of_another_data_set(self, found, tmp_path):
    other = tiny_source.write(tmp_path / "other", size=(7, 7))
    made = tiny_source.prepare(other, tmp_path / "more")
    (path,) = found.folder.glob("tiny-base.array_record*")
    (others,) = made.folder.glob("tiny-base.array_record*")
    path.write_bytes(others.read_bytes())
    self._refused(found, "fingerprint of split base is")

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
  @pytest.mark.parametrize("in_memory", [True, False])
  def test_index(self, found, spoil, in_memory):
    path = found.folder / "base.positions.npy"
    rows = np.load(path)
    np.save(path, spoil(rows))
    self._refused(found, "index of base has changed since it was made")
    data_dir = found.folder.parents[1]
    with pytest.raises(types.InputError, match="index of base"):
      data.load("tiny", "base", data_dir=data_dir, in_memory=in_memory)

  def test_fingerprint_of_the_whole(self, found):
    path = found.folder / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["fingerprint"] = "0" * 64
    path.write_text(json.dumps(metadata))
    with pytest.raises(types.InputError, match="expected 000000000000"):
      data.verify("tiny", data_dir=found.folder.parents[1])

  def test_array_that_was_changed_is_met_by_verify(self, found):
    _flip(found.folder / "arrays" / "6px.npy", -1)
    with pytest.raises(types.InputError, match="has changed since it was made"):
      data.verify("tiny", data_dir=found.folder.parents[1])


def test_index_of_equal_digests_is_whole(tmp_path):
  labels = np.asarray([1, 0, 1, 0, 1], np.int32)
  digests = np.asarray([5, 9, 5, 2**63 + 1, 4], np.uint64)
  digest = index.write(tmp_path, "base", labels, digests)
  source = records.Records(str(tmp_path), "base", 5, "", digest)
  found = index.read(source)
  assert found.class_ids.tolist() == [0, 0, 1, 1, 1]
  # 2^63 and more is larger than the rest, not negative.
  assert found.positions.tolist() == [1, 3, 4, 0, 2]
  with pytest.raises(ValueError, match="has changed since it was made"):
    index.read(source._replace(index_digest="0" * 64))
  assert len(index.read(source._replace(num_images=0)).positions) == 0


class TestNoRoom:
  """A data set in a folder where no array can be written."""

  @pytest.fixture(autouse=True)
  def _full(self, found, monkeypatch):
    def refuse(*arguments):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)

  def test_message_says_where_and_how_much(self, found):
    with pytest.raises(OSError, match="No space left") as caught:
      resident.make(found, 400)
    assert "(10 MB are needed)" in caught.value.strerror
    assert caught.value.filename == str(found.folder / "arrays")

  def test_images_are_streamed_or_decoded(self, found):
    def load(in_memory):
      return data.load(
        "tiny",
        "base",
        data_dir=found.folder.parents[1],
        image_size_px=5,
        in_memory=in_memory,
      ).images

    streamed, decoded = load(None), load(True)
    assert isinstance(streamed, data.streamed.StreamedImages)
    assert isinstance(decoded, np.ndarray)
    np.testing.assert_array_equal(streamed[:], decoded)
