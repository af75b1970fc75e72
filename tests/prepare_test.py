"""Making a data set: what is written, what is refused, what survives."""

import collections
import json
import shutil

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import (
  fingerprint,
  index,
  parallel,
  pictures,
  prepared,
  records,
)
from fsl_jax.data.builders import split_writer


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_source.register(monkeypatch)


@pytest.fixture
def source(tmp_path):
  return tiny_source.write(tmp_path / "source")


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / "data"


class TestWritten:
  def test_the_account_is_complete(self, source, data_dir):
    found = tiny_source.prepare(source, data_dir)
    assert found == data.describe("tiny", data_dir)
    counts = tiny_source.COUNTS
    for split, classes in counts.items():
      assert found.class_names[split] == tuple(classes)
      assert found.images_per_class[split] == tuple(classes.values())
      assert found.num_images[split] == sum(classes.values())
      assert found.num_classes[split] == len(classes)
      images, ids = [], []
      for i, name in enumerate(classes):
        for path in (source / split / name).iterdir():
          images.append(np.asarray(Image.open(path)))
          ids.append(i)
      expected = fingerprint.of_split(images, ids, tuple(classes))
      assert found.fingerprints[split] == expected
    assert found.fingerprint == fingerprint.of_splits(found.fingerprints)
    assert found.form == "folders"
    assert found.rule == pictures.Rule().describe()
    assert found.num_resized == 0
    assert found.size == (6, 6)
    assert found.square_size_px == 6
    assert found.skipped == ()
    assert found.repeated["num_pairs"] == 0
    assert set(found.made_with) == {"pillow"}
    on_disk = sum(
      path.stat().st_size for path in found.folder.rglob("*") if path.is_file()
    )
    assert found.size_bytes == on_disk
    assert found.folder == prepared.folder("tiny", data_dir)
    # Beside it there is nothing.
    assert list(found.folder.parent.iterdir()) == [found.folder]

  def test_records_tell_what_they_are(self, source, data_dir):
    found = tiny_source.prepare(source, data_dir)
    for split in tiny_source.COUNTS:
      some = records.of(found, split).read(range(found.num_images[split]))
      for record in some:
        name = found.class_names[split][record.label]
        picture_id = record.id
        assert picture_id.startswith(f"{split}/{name}/")
        assert record.group == f"group of {name}"
        # The source's own bytes: a PNG of the right size needs no change.
        assert record.encoded == (source / picture_id).read_bytes()

  def test_sizes_may_differ(self, source, data_dir):
    Image.new("RGB", (9, 5), (1, 2, 3)).save(source / "val" / "dog" / "w.png")
    found = tiny_source.prepare(source, data_dir)
    assert found.size is None
    assert found.num_resized == 0
    again = tiny_source.prepare(
      source, data_dir, overwrite=True, options={"size_px": 6, "fit": "crop"}
    )
    assert again.size == (6, 6)
    assert again.num_resized == 1
    assert again.rule == "centre square, resized to 6 px, antialiased bilinear"
    # Those that were not resized have the same pixels.
    assert again.fingerprints["base"] == found.fingerprints["base"]
    assert again.fingerprints["val"] != found.fingerprints["val"]

  def test_order_of_the_listing_does_not_matter(self, source, tmp_path):
    found = [
      tiny_source.prepare(
        source, tmp_path / str(seed), options={"shuffle": seed}
      )
      for seed in (1, 2)
    ]
    ids = [
      [r.id for r in records.of(one, "base").read(range(9))] for one in found
    ]
    assert ids[0] != ids[1], "the records lie in the order of the listing"
    assert found[0].fingerprints == found[1].fingerprints
    rows = [
      data.load("tiny", "base", data_dir=tmp_path / str(seed))
      for seed in (1, 2)
    ]
    assert np.array_equal(rows[0].images, rows[1].images)
    assert list(rows[0].image_ids) == list(rows[1].image_ids)

  def test_many_files_and_an_empty_split(self, tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(split_writer, "_IMAGES_PER_FILE", 2)
    counts = {"base": {"a": 5, "b": 2}, "novel": {"c": 4}}
    source = tiny_source.write(tmp_path / "source", counts)
    # An exact multiple of a file's images must leave no file unfinished.
    shutil.copy(source / "base/a/4.png", source / "novel/c/0.png")
    found = tiny_source.prepare(source, data_dir)
    files = sorted(path.name for path in found.folder.glob("*array_record*"))
    assert len(files) == 4 + 2
    assert found.num_images == {"base": 7, "val": 0, "novel": 4}
    assert found.fingerprints["val"] == fingerprint.of_split([], [], [])
    base = data.load("tiny", "base", data_dir=data_dir)
    assert {
      name: {image.tobytes() for image in base.images[base.class_ids == i]}
      for i, name in enumerate(base.class_names)
    } == tiny_source.pixels_by_class(source, "base")
    # Ids are read back from the right file.
    (pair,) = found.repeated["examples"]
    assert sorted(pair) == ["base: base/a/4.png", "novel: novel/c/0.png"]
    assert data.verify("tiny", data_dir=data_dir) == found

  def test_workers_write_the_same(self, source, tmp_path, monkeypatch):
    alone = tiny_source.prepare(source, tmp_path / "alone")
    monkeypatch.setattr(parallel, "num_workers", lambda n: 2)
    together = tiny_source.prepare(source, tmp_path / "together")
    assert together.fingerprints == alone.fingerprints
    files = [*alone.folder.glob("*array_record*"), *alone.folder.glob("*.npy")]
    files.append(alone.folder / "arrays" / "6px.npy")
    assert len(files) == 3 + 9 + 1
    for path in files:
      other = together.folder / path.relative_to(alone.folder)
      assert other.read_bytes() == path.read_bytes()


class TestRepeated:
  def test_between_classes_and_splits(self, source, data_dir):
    shutil.copy(source / "base/ant/0.png", source / "base/cat/copy.png")
    shutil.copy(source / "base/ant/1.png", source / "novel/fox/copy.png")
    # Within a class it is no contradiction.
    shutil.copy(source / "base/ant/2.png", source / "base/ant/copy.png")
    found = tiny_source.prepare(source, data_dir)
    assert found.repeated["num_pairs"] == 2
    assert found.repeated["num_across_splits"] == 1
    across, within = found.repeated["examples"]
    assert sorted(across) == [
      "base: base/ant/1.png",
      "novel: novel/fox/copy.png",
    ]
    assert sorted(within) == ["base: base/ant/0.png", "base: base/cat/copy.png"]
    # They count as images all the same.
    assert found.num_images["base"] == 9 + 2

  def test_of_arrays_by_hand(self):
    labels = {"base": np.asarray([0, 0, 1]), "novel": np.asarray([0, 1])}
    digests = {
      "base": np.asarray([7, 7, 9], np.uint64),
      "novel": np.asarray([9, 8], np.uint64),
    }
    found = index.repeated(labels, digests)
    assert found.num_pairs == found.num_across_splits == 1
    assert found.examples == [(("base", 2), ("novel", 0))]

  def test_examples_are_limited(self):
    labels = {"base": np.arange(50), "val": np.zeros(0, int)}
    digests = {
      "base": np.zeros(50, np.uint64),
      "val": np.zeros(0, np.uint64),
    }
    found = index.repeated(labels, digests, limit=3)
    assert (found.num_pairs, found.num_across_splits) == (49, 0)
    assert len(found.examples) == 3


def test_variants_lie_beside_each_other(source, data_dir, tmp_path):
  other = tiny_source.write(tmp_path / "other", {"novel": {"x": 2}})
  plain = tiny_source.prepare(source, data_dir)
  mine = data.prepare("tiny/mine", source=other, data_dir=data_dir)
  assert mine.name == "tiny/mine"
  assert mine.folder == data_dir / "tiny" / "mine" / "1.0.0"
  names = prepared.found_names(data_dir)
  assert [n for n in names if n.startswith("tiny")] == ["tiny", "tiny/mine"]
  loaded = data.load("tiny/mine", "novel", data_dir=data_dir)
  assert loaded.name == "tiny/mine"
  assert loaded.fingerprint == mine.fingerprint != plain.fingerprint
  assert data.describe("tiny", data_dir) == plain
  assert data.describe("tiny/yours", data_dir) is None


class TestAgain:
  def test_what_is_there_is_found(self, source, data_dir):
    first = tiny_source.prepare(source, data_dir)
    node = first.folder.stat().st_ino
    shutil.rmtree(source)
    assert data.prepare("tiny", data_dir=data_dir) == first
    assert first.folder.stat().st_ino == node

  def test_overwrite_replaces(self, source, data_dir):
    first = tiny_source.prepare(source, data_dir)
    (source / "base/ant/0.png").unlink()
    second = tiny_source.prepare(source, data_dir, overwrite=True)
    assert second.num_images["base"] == first.num_images["base"] - 1
    assert second.fingerprint != first.fingerprint
    assert list(first.folder.parent.iterdir()) == [second.folder]

  def test_overwrite_keeps_the_old_one_until_complete(self, source, data_dir):
    first = tiny_source.prepare(source, data_dir)
    seen = []

    def progress(items, total):
      seen.append((total, data.describe("tiny", data_dir)))
      yield from items

    (source / "novel/gnu/0.png").write_bytes(b"")
    with pytest.raises(types.InputError):
      tiny_source.prepare(source, data_dir, overwrite=True, progress=progress)
    assert seen == [(21, first)]
    assert data.verify("tiny", data_dir=data_dir) == first

  def test_overwrite_mends_what_is_damaged(self, source, data_dir):
    first = tiny_source.prepare(source, data_dir)
    (first.folder / "metadata.json").write_text("{")
    with pytest.raises(
      types.InputError, match=r"is damaged .*overwrite=True\)$"
    ):
      tiny_source.prepare(source, data_dir)
    again = tiny_source.prepare(source, data_dir, overwrite=True)
    assert again.fingerprint == first.fingerprint

  def test_two_processes_at_once(self, source, data_dir, tmp_path):
    def meanwhile(other):
      def progress(items, total):
        yield from items
        tiny_source.prepare(other, data_dir)

      return progress

    same = tmp_path / "same"
    shutil.copytree(source, same)
    found = tiny_source.prepare(source, data_dir, progress=meanwhile(same))
    assert found.source == str(same)
    assert list(found.folder.parent.iterdir()) == [found.folder]

    shutil.rmtree(found.folder)
    other = tiny_source.write(tmp_path / "other", {"novel": {"x": 1}})
    with pytest.raises(types.InputError, match="meanwhile, from other data"):
      tiny_source.prepare(source, data_dir, progress=meanwhile(other))

  def test_another_source_is_refused(self, source, data_dir, tmp_path):
    found = tiny_source.prepare(source, data_dir)
    # Nothing is read again, so the source may be gone.
    moved = source.rename(tmp_path / "moved")
    assert tiny_source.prepare(source, data_dir) == found
    with pytest.raises(
      types.InputError, match=f"source {source}, now {moved}; overwrite=True"
    ):
      tiny_source.prepare(moved, data_dir)

  def test_one_source_has_many_spellings(
    self, source, data_dir, tmp_path, monkeypatch
  ):
    found = tiny_source.prepare(source, data_dir)
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for spelling in ("link", f"{source}/../{source.name}/"):
      assert tiny_source.prepare(spelling, data_dir) == found

  def test_content_of_a_split_file_counts(self, source, data_dir, tmp_path):
    path = tmp_path / "split.json"
    classes = tiny_source.write(
      tmp_path / "flat", {"base": dict.fromkeys("abcd", 1)}
    )

    def prepare(novel):
      rest = [name for name in "abcd" if name not in novel]
      path.write_text(json.dumps({"base": rest, "novel": list(novel)}))
      return data.prepare(
        "image_folder/four",
        source=classes / "base",
        data_dir=data_dir,
        options={"split_file": str(path)},
      )

    assert prepare("ab") == prepare("ab")
    with pytest.raises(types.InputError, match="split_file with SHA-256"):
      prepare("abc")

  @pytest.mark.parametrize("size_px", [0, 4097, 10**6])
  def test_size_out_of_range(self, source, data_dir, size_px):
    with pytest.raises(types.InputError, match="size_px must be"):
      tiny_source.prepare(source, data_dir, options={"size_px": size_px})

  def test_other_options_are_refused(self, source, data_dir):
    options = {"size_px": 5}
    found = tiny_source.prepare(source, data_dir, options=options)
    assert tiny_source.prepare(source, data_dir, options=options) == found
    assert tiny_source.prepare(source, data_dir) == found
    with pytest.raises(
      types.InputError, match=r"size_px 5, now 6; fit by default, now crop"
    ):
      tiny_source.prepare(
        source, data_dir, options={"size_px": 6, "fit": "crop"}
      )


def test_memory_does_not_grow_with_the_pictures(tmp_path, data_dir):
  """No more images are held than a chunk, those waiting, and one."""
  import gc

  source = tiny_source.write(tmp_path / "source", {"novel": {"a": 400}})
  most = 0

  def progress(items, total):
    nonlocal most
    for i, item in enumerate(items):
      if i % 100 == 99:
        kinds = collections.Counter(map(type, gc.get_objects()))
        most = max(most, kinds[pictures.Examined])
      yield item

  tiny_source.prepare(source, data_dir, progress=progress)
  assert 0 < most <= 2 * 64
