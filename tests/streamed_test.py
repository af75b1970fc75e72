"""Streamed images: those of the array, decoded when they are indexed."""

import pickle
import pickletools

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import records, streamed

_registered = tiny_source.registered
source, found = tiny_source.source, tiny_source.found
data_dir, load = tiny_source.data_dir, tiny_source.load


@pytest.fixture(scope="module")
def kept_dir(tmp_path_factory):
  """A prepared "tiny", and "tiny/wide", whose images differ in size."""
  folder = tmp_path_factory.mktemp("streamed")
  source = tiny_source.write(folder / "source")
  wide = tiny_source.write(folder / "wide", {"novel": {"x": 4}}, (8, 5))
  Image.new("RGB", (3, 9), (1, 2, 3)).save(wide / "novel/x/tall.png")
  with pytest.MonkeyPatch.context() as patch:
    tiny_source.register(patch)
    tiny_source.prepare(source, folder / "data")
    data.prepare("tiny/wide", source=wide, data_dir=folder / "data")
  return folder / "data"


@pytest.fixture
def both(kept_dir):
  """A split as an array and on disk."""

  def both(split, size_px=None, name="tiny"):
    array, on_disk = (
      data.load(
        name, split, data_dir=kept_dir, image_size_px=size_px, in_memory=here
      )
      for here in (True, False)
    )
    assert isinstance(array.images, np.ndarray)
    assert isinstance(on_disk.images, streamed.StreamedImages)
    return array, on_disk

  return both


class TestStreamed:
  """Images on disk are those of the array."""

  @pytest.mark.parametrize("split", data.SPLITS)
  @pytest.mark.parametrize("size_px", [None, 3, 11])
  def test_every_split_and_size(self, both, split, size_px):
    array, on_disk = both(split, size_px)
    assert np.array_equal(array.images, on_disk.images[:])
    for field in ("shape", "dtype", "ndim"):
      assert getattr(array.images, field) == getattr(on_disk.images, field)
    assert len(array.images) == len(on_disk.images)
    assert np.array_equal(np.stack(list(on_disk.images)), array.images)
    assert np.array_equal(array.class_ids, on_disk.class_ids)
    assert list(array.image_ids) == list(on_disk.image_ids)
    for field in ("class_names", "name", "split", "fingerprint"):
      assert getattr(array, field) == getattr(on_disk, field)

  def test_images_of_different_sizes(self, both, kept_dir):
    array, on_disk = both("novel", 6, "tiny/wide")
    assert array.images.shape == (5, 6, 6, 3)
    assert np.array_equal(array.images, on_disk.images[:])
    with pytest.raises(types.InputError, match="different sizes; give image_s"):
      data.load("tiny/wide", "novel", data_dir=kept_dir)

  @pytest.mark.parametrize(
    "rows",
    [
      *(0, -1, 14, -15, np.int32(3), np.uint8(3)),
      *(slice(None), slice(3, 12, 2), slice(None, None, -1), slice(20, 30)),
      *([5], [], [2, 14, 2, -1, 8, 9], np.asarray([0, 9, 14], np.int32)),
      np.asarray([200, 8], np.uint8) % 15,
      np.asarray([[1, 12], [-3, 0], [9, 9]]),
      *(np.zeros((0, 4), int), np.arange(15) % 4 == 1, np.zeros(15, bool)),
    ],
    ids=repr,
  )
  def test_every_kind_of_index(self, both, rows):
    # Of two splits, so that rows lie on both sides of the border.
    array, on_disk = both("base+val")
    expected, found = array.images[rows], on_disk.images[rows]
    assert type(found) is np.ndarray
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    assert np.array_equal(found, expected)

  @pytest.mark.parametrize(
    "rows",
    [
      *(15, -16, [0, 15], [-16], 1.0, [0.5], "0", None, ..., True),
      *(np.ones(14, bool), (slice(None), 0)),
    ],
    ids=repr,
  )
  def test_wrong_indices(self, both, rows):
    with pytest.raises(IndexError):
      both("base+val")[1].images[rows]

  def test_ids(self, both):
    array, on_disk = both("base+val")
    ids = on_disk.image_ids
    assert len(ids) == 15
    assert ids[-1] == ids[14]
    assert ids[8].startswith("base/cat/")
    assert ids[9].startswith("val/dog/")
    assert ids[7:11] == tuple(ids)[7:11] == array.image_ids[7:11]
    for row in (15, -16):
      with pytest.raises(IndexError):
        ids[row]

  def test_it_pickles_as_the_names_of_its_files(self, both, kept_dir):
    images = both("base+val")[1].images
    images[[0, 10]]  # Open files are not pickled.
    content = pickle.dumps(images)
    assert len(content) < 1000 + 2 * len(str(kept_dir))
    longest = max(
      len(argument)
      for _, argument, _ in pickletools.genops(content)
      if isinstance(argument, bytes | bytearray)
    )
    assert longest <= 3 * 8  # the starts of the splits
    assert np.array_equal(pickle.loads(content)[:], images[:])

  def test_nothing_is_read_before_it_is_indexed(self, both, monkeypatch):
    read = []
    real = records.Records.read

    def count(self, positions):
      read.extend(positions)
      return real(self, positions)

    monkeypatch.setattr(records.Records, "read", count)
    _, on_disk = both("base+val")
    assert on_disk.images.shape == (15, 6, 6, 3)
    assert not read
    on_disk.images[[3, 12]]
    assert len(read) == 2


class TestBatches:
  @pytest.mark.parametrize("workers", [0, 2])
  def test_they_come_in_order_with_their_labels(self, both, workers):
    array, on_disk = both("base+val")
    rows = np.random.default_rng(0).integers(0, 15, (12, 4)).astype(np.int32)
    found = list(streamed.batches(on_disk, rows, workers=workers))
    for (images, labels), chosen in zip(found, rows, strict=True):
      assert np.array_equal(images, array.images[chosen])
      assert np.array_equal(labels, array.class_ids[chosen])
      assert (images.dtype, labels.dtype) == (np.uint8, np.int32)

  def test_the_rest_of_an_epoch_is_the_rest(self, both):
    _, on_disk = both("base+val")
    rows = np.arange(15).reshape(5, 3)
    whole = list(streamed.batches(on_disk, rows, workers=0))
    rest = list(streamed.batches(on_disk, rows[2:], workers=0))
    for one, other in zip(whole[2:], rest, strict=True):
      assert all(map(np.array_equal, one, other))
    assert list(streamed.batches(on_disk, rows[5:], workers=0)) == []

  def test_an_array_needs_no_process(self, both, monkeypatch):
    array, _ = both("base+val")
    asked = []

    def ordered(function, items, *, workers):
      asked.append(workers)
      return ((item, function(item)) for item in items)

    monkeypatch.setattr(streamed.parallel, "ordered", ordered)
    rows = np.asarray([[0, 14], [3, 3]])
    for workers in (None, 2):
      found = list(streamed.batches(array, rows, workers=workers))
      assert np.array_equal(found[0][0], array.images[rows[0]])
    assert asked == [0, 0]


class TestChangedOnDisk:
  """Loaded images are never mixed with files that were written later."""

  @pytest.fixture
  def loaded(self, load):
    return load(in_memory=False)

  @staticmethod
  def _forget():
    """As in a new worker process."""
    records._open.cache_clear()
    streamed._order.cache_clear()

  def test_made_again_from_other_data(self, loaded, tmp_path):
    before = loaded.images[3]
    other = tiny_source.write(tmp_path / "two", size=(9, 9))
    tiny_source.prepare(other, tmp_path / "data", overwrite=True)
    # Open files keep their content.
    np.testing.assert_array_equal(loaded.images[3], before)
    self._forget()
    for read in (lambda: loaded.images[3], lambda: loaded.image_ids[3]):
      with pytest.raises(types.InputError, match="was made again since"):
        read()

  def test_made_again_from_the_same_data(self, loaded, source, tmp_path):
    before = loaded.images[:]
    tiny_source.prepare(source, tmp_path / "data", overwrite=True)
    self._forget()
    np.testing.assert_array_equal(loaded.images[:], before)

  def test_damage_is_cured_in_the_same_process(
    self, loaded, load, source, data_dir
  ):
    before = loaded.images[:]
    (path,) = data_dir.glob("tiny/*/tiny-base.array_record*")
    whole = path.read_bytes()
    path.unlink()
    path.write_bytes(whole[:100])
    with pytest.raises(types.InputError, match="is damaged"):
      data.verify("tiny", data_dir=data_dir)
    tiny_source.prepare(source, data_dir, overwrite=True)
    data.verify("tiny", data_dir=data_dir)
    np.testing.assert_array_equal(load(in_memory=False).images[:], before)

  @pytest.mark.parametrize("size", [0, 100])
  def test_cut_records_are_one_sentence(self, loaded, data_dir, size):
    (path,) = data_dir.glob("tiny/*/tiny-base.array_record*")
    path.write_bytes(path.read_bytes()[:size])
    for read in (lambda: loaded.images[3], lambda: loaded.image_ids[3]):
      with pytest.raises(types.InputError, match=r"split base .* is damaged"):
        read()
