"""Preparing a data set: what is written, refused, and left after a kill."""

import collections
import concurrent.futures
import errno
import gc
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, folder_lock, types
from fsl_jax.data import (
  fingerprint,
  index,
  parallel,
  pictures,
  prepared,
  records,
)
from fsl_jax.data.builders import split_writer

_ROOT = pathlib.Path(__file__).parent.parent


_registered, source = tiny_source.registered, tiny_source.source


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / "data"


@pytest.fixture
def prepare(source, data_dir):
  """Prepares "tiny", by default from `source`."""

  def prepare(source=source, **options):
    return tiny_source.prepare(source, data_dir, **options)

  return prepare


def _nothing_is_left(data_dir):
  return data.describe("tiny", data_dir) is None and not list(
    (data_dir / "tiny").glob("*")
  )


class TestWritten:
  def test_the_description_is_complete(self, prepare, source, data_dir):
    found = prepare()
    assert found == data.describe("tiny", data_dir)
    for split, classes in tiny_source.COUNTS.items():
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
    files = [path for path in found.folder.rglob("*") if path.is_file()]
    assert found.size_bytes == sum(path.stat().st_size for path in files)
    assert found.folder == prepared.folder("tiny", data_dir)
    assert list(found.folder.parent.iterdir()) == [found.folder]
    assert data.verify("tiny", data_dir=data_dir) == found

  def test_records_tell_what_they_are(self, prepare, source):
    found = prepare()
    for split in tiny_source.COUNTS:
      for record in records.of(found, split).read(
        range(found.num_images[split])
      ):
        name = found.class_names[split][record.label]
        assert record.id.startswith(f"{split}/{name}/")
        assert record.group == f"group of {name}"
        # The source's own bytes: a PNG of the right size needs no change.
        assert record.encoded == (source / record.id).read_bytes()

  def test_sizes_may_differ(self, prepare, source):
    Image.new("RGB", (9, 5), (1, 2, 3)).save(source / "val" / "dog" / "w.png")
    found = prepare()
    assert found.size is None
    assert found.num_resized == 0
    again = prepare(overwrite=True, options={"size_px": 6, "fit": "crop"})
    assert again.size == (6, 6)
    assert again.num_resized == 1
    assert again.rule == "centre square, resized to 6 px, antialiased bilinear"
    # Those that were not resized have the same pixels.
    assert again.fingerprints["base"] == found.fingerprints["base"]
    assert again.fingerprints["val"] != found.fingerprints["val"]

  def test_order_of_the_listing_does_not_matter(self, source, tmp_path):
    found, ids, loaded = [], [], []
    for seed in (1, 2):
      where, options = tmp_path / str(seed), {"shuffle": seed}
      found.append(tiny_source.prepare(source, where, options=options))
      read = records.of(found[-1], "base").read(range(9))
      ids.append([record.id for record in read])
      loaded.append(data.load("tiny", "base", data_dir=where))
    assert ids[0] != ids[1], "the records are in the order of the listing"
    assert found[0].fingerprints == found[1].fingerprints
    assert np.array_equal(loaded[0].images, loaded[1].images)
    assert list(loaded[0].image_ids) == list(loaded[1].image_ids)

  def test_many_files_and_an_empty_split(
    self, prepare, tmp_path, data_dir, monkeypatch
  ):
    monkeypatch.setattr(split_writer, "_IMAGES_PER_FILE", 2)
    counts = {"base": {"a": 5, "b": 2}, "novel": {"c": 4}}
    source = tiny_source.write(tmp_path / "many", counts)
    # An exact multiple of a file's images must leave no file unfinished.
    shutil.copy(source / "base/a/4.png", source / "novel/c/0.png")
    found = prepare(source)
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

  def test_workers_write_the_same(self, prepare, source, tmp_path, monkeypatch):
    alone = prepare()
    monkeypatch.setattr(parallel, "num_workers", lambda n: 2)
    together = tiny_source.prepare(source, tmp_path / "together")
    assert together.fingerprints == alone.fingerprints
    files = [*alone.folder.glob("*array_record*"), *alone.folder.glob("*.npy")]
    files.append(alone.folder / "arrays" / "6px.npy")
    assert len(files) == 3 + 9 + 1
    for path in files:
      other = together.folder / path.relative_to(alone.folder)
      assert other.read_bytes() == path.read_bytes()

  def test_memory_does_not_grow_with_the_images(self, prepare, tmp_path):
    """No more images are held than a chunk, those waiting, and one."""
    source = tiny_source.write(tmp_path / "large", {"novel": {"a": 400}})
    most = 0

    def progress(items, total):
      nonlocal most
      for i, item in enumerate(items):
        if i % 100 == 99:
          kinds = collections.Counter(map(type, gc.get_objects()))
          most = max(most, kinds[pictures.Examined])
        yield item

    prepare(source, progress=progress)
    assert 0 < most <= 2 * 64


class TestRepeated:
  def test_between_classes_and_splits(self, prepare, source):
    shutil.copy(source / "base/ant/0.png", source / "base/cat/copy.png")
    shutil.copy(source / "base/ant/1.png", source / "novel/fox/copy.png")
    # Within a class it is no contradiction.
    shutil.copy(source / "base/ant/2.png", source / "base/ant/copy.png")
    found = prepare()
    assert found.repeated["num_pairs"] == 2
    assert found.repeated["num_across_splits"] == 1
    across, within = map(sorted, found.repeated["examples"])
    assert across == ["base: base/ant/1.png", "novel: novel/fox/copy.png"]
    assert within == ["base: base/ant/0.png", "base: base/cat/copy.png"]
    # They count as images nevertheless.
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
    # The number of examples is limited.
    labels = {"base": np.arange(50), "val": np.zeros(0, int)}
    digests = {s: np.zeros(len(of), np.uint64) for s, of in labels.items()}
    found = index.repeated(labels, digests, limit=3)
    assert (found.num_pairs, found.num_across_splits) == (49, 0)
    assert len(found.examples) == 3


def test_variants_lie_beside_each_other(prepare, data_dir, tmp_path):
  other = tiny_source.write(tmp_path / "other", {"novel": {"x": 2}})
  plain = prepare()
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
  def test_what_is_there_is_found(self, prepare, source, data_dir):
    first = prepare()
    node = first.folder.stat().st_ino
    # Nothing is read again, so the source may be gone.
    shutil.rmtree(source)
    assert data.prepare("tiny", data_dir=data_dir) == prepare() == first
    assert first.folder.stat().st_ino == node

  def test_overwrite_replaces_when_complete(self, prepare, source, data_dir):
    first = prepare()
    seen = []

    def progress(items, total):
      seen.append((total, data.describe("tiny", data_dir)))
      yield from items

    bad = source / "novel/gnu/0.png"
    bad.write_bytes(b"")
    with pytest.raises(types.InputError):
      prepare(overwrite=True, progress=progress)
    assert seen == [(21, first)]
    assert data.verify("tiny", data_dir=data_dir) == first
    bad.unlink()
    second = prepare(overwrite=True)
    assert second.num_images["novel"] == first.num_images["novel"] - 1
    assert second.fingerprint != first.fingerprint
    assert list(first.folder.parent.iterdir()) == [second.folder]

  def test_overwrite_mends_what_is_damaged(self, prepare):
    first = prepare()
    (first.folder / "metadata.json").write_text("{")
    with pytest.raises(
      types.InputError, match=r"is damaged .*overwrite=True\)$"
    ):
      prepare()
    assert prepare(overwrite=True).fingerprint == first.fingerprint

  def test_two_processes_at_once(self, prepare, source, tmp_path):
    def meanwhile(other):
      def progress(items, total):
        yield from items
        prepare(other)

      return progress

    same = shutil.copytree(source, tmp_path / "same")
    found = prepare(progress=meanwhile(same))
    assert found.source == str(same)
    assert list(found.folder.parent.iterdir()) == [found.folder]

    shutil.rmtree(found.folder)
    other = tiny_source.write(tmp_path / "other", {"novel": {"x": 1}})
    with pytest.raises(types.InputError, match="meanwhile, from other data"):
      prepare(progress=meanwhile(other))

  def test_another_source_is_refused(
    self, prepare, source, tmp_path, monkeypatch
  ):
    found = prepare()
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for spelling in ("link", f"{source}/../{source.name}/"):
      assert prepare(spelling) == found
    moved = source.rename(tmp_path / "moved")
    with pytest.raises(
      types.InputError, match=f"source {source}, now {moved}; overwrite=True"
    ):
      prepare(moved)

  def test_content_of_a_split_file_counts(self, data_dir, tmp_path):
    path = tmp_path / "split.json"
    counts = {"base": dict.fromkeys("abcd", 1)}
    classes = tiny_source.write(tmp_path / "flat", counts)

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

  def test_other_options_are_refused(self, prepare):
    options = {"size_px": 5}
    found = prepare(options=options)
    assert prepare(options=options) == prepare() == found
    with pytest.raises(
      types.InputError, match=r"size_px 5, now 6; fit by default, now crop"
    ):
      prepare(options={"size_px": 6, "fit": "crop"})


class TestBadImages:
  @pytest.fixture
  def spoilt(self, source):
    (source / "base/ant/1.png").write_bytes(b"")
    (source / "base/cat/0.png").write_text("404 not found")
    half = (source / "novel/gnu/2.png").read_bytes()[:60]
    (source / "novel/gnu/2.png").write_bytes(half)
    return ["base/ant/1.png", "base/cat/0.png", "novel/gnu/2.png"]

  def test_all_are_named_at_once(self, prepare, spoilt, data_dir):
    with pytest.raises(types.InputError, match=r"^3 of 21 images in") as caught:
      prepare()
    for name in spoilt:
      assert f"{name}: " in str(caught.value)
    assert _nothing_is_left(data_dir)

  def test_they_may_be_left_out(self, prepare, spoilt, source, data_dir):
    found = prepare(skip_bad=True)
    assert [text.split(":")[0] for text in found.skipped] == spoilt
    assert found.images_per_class["base"] == (4, 1, 2)
    assert data.verify("tiny", data_dir=data_dir) == found
    for name in spoilt:
      (source / name).unlink()
    assert prepare(overwrite=True).fingerprints == found.fingerprints

  @pytest.mark.parametrize(
    ("pattern", "message"),
    [
      ("*/[bd][eo][eg]/*", r"class 'bee' of base; class 'dog' of val$"),
      ("*/*/*", "no usable image is left"),
    ],
  )
  def test_a_class_must_keep_an_image(
    self, prepare, source, data_dir, pattern, message
  ):
    for path in source.glob(pattern):
      path.write_bytes(b"")
    with pytest.raises(types.InputError, match=message):
      prepare(skip_bad=True)
    assert _nothing_is_left(data_dir)


class TestRefused:
  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      (
        {"options": {"size_pix": 3}},
        r"option of tiny 'size_pix'; did you mean 'size_px'\?",
      ),
      ({"source": None}, r"^tiny needs source=PATH. It is made by tests.$"),
      ({"source": "/none"}, r"source .* does not exist"),
      ({"name": "tiny/"}, "own name must be letters"),
      ({"name": "tiny/a b"}, "own name must be letters"),
      ({"name": "tiny/../x"}, "own name must be letters"),
      ({"name": "tiny/1"}, "own name must be letters"),
      ({"name": "icons/mine"}, "there is only one icons"),
      ({"options": {"size_px": 0}}, "size_px must be"),
      ({"options": {"size_px": 4097}}, "size_px must be"),
    ],
  )
  def test_before_any_work(
    self, source, data_dir, monkeypatch, arguments, message
  ):
    monkeypatch.setattr(tiny_source.Tiny, "find", None)
    arguments = {"name": "tiny", "source": source} | arguments
    with pytest.raises(types.InputError, match=message):
      data.prepare(**arguments, data_dir=data_dir)
    assert _nothing_is_left(data_dir)

  def test_wrong_counts_are_named_together(self, prepare, monkeypatch):
    monkeypatch.setattr(tiny_source.Tiny, "NUM_CLASSES", {"base": 4, "val": 2})
    monkeypatch.setattr(tiny_source.Tiny, "IMAGES_PER_CLASS", 4)
    with pytest.raises(types.InputError) as caught:
      prepare()
    message = str(caught.value)
    assert "is not complete: base has 3 classes, expected 4" in message
    for name, count in {"ant": 5, "bee": 1, "cat": 3, "dog": 2}.items():
      assert f"class '{name}' has {count} images, expected 4" in message
    assert "eel" not in message


class TestInterrupted:
  def test_an_interrupt_leaves_nothing(self, prepare, data_dir):
    def interrupt(items, total):
      yield next(iter(items))
      raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
      prepare(progress=interrupt)
    assert _nothing_is_left(data_dir)
    assert prepare().num_images["base"] == 9

  def test_a_killed_process(self, source, data_dir):
    name = "image_folder/mine"
    command = f"""
import os, signal
import fsl_jax
def progress(items, total):
  for i, item in enumerate(items):
    if i == 7:
      os.kill(os.getpid(), signal.SIGKILL)
    yield item
fsl_jax.data.prepare(
  {name!r}, source={str(source)!r}, data_dir={str(data_dir)!r},
  progress=progress,
)
"""
    killed = subprocess.run([sys.executable, "-c", command], cwd=_ROOT)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (data_dir / name).iterdir()
    assert list(left.rglob("*array_record*")), "it was killed before it wrote"
    assert data.describe(name, data_dir) is None
    assert name not in prepared.found_names(data_dir)
    with pytest.raises(types.InputError, match="is not prepared in"):
      data.load(name, "base", data_dir=data_dir)

    found = data.prepare(name, source=source, data_dir=data_dir)
    assert found.num_images["base"] == 9
    assert list(found.folder.parent.iterdir()) == [found.folder]
    assert data.verify(name, data_dir=data_dir) == found

  def test_a_full_disk_is_an_os_error(self, prepare, data_dir):
    import resource

    # Writing beyond the limit fails as on a full disk; the signal is ignored.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
      with pytest.raises(OSError, match="File too large"):
        prepare()
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _nothing_is_left(data_dir)


class TestWorkingFolder:
  def test_leftovers_of_killed_processes_are_removed(self, tmp_path):
    dead, alive = tmp_path / ".unfinished-dead", tmp_path / ".unfinished-alive"
    dead.mkdir()
    (dead / "file").touch()
    alive.mkdir()
    with folder_lock.held(alive), folder_lock.working_folder(tmp_path) as place:
      assert sorted(tmp_path.iterdir()) == sorted([alive, place])
    assert list(tmp_path.iterdir()) == [alive]

  def test_those_of_other_users_are_left(self, tmp_path, monkeypatch):
    (tmp_path / ".unfinished-other").mkdir()
    real = os.open

    def refuse(path, *arguments, **options):
      if str(path).endswith("other"):
        raise PermissionError(13, "Permission denied", str(path))
      return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with folder_lock.working_folder(tmp_path) as place:
      assert place.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".unfinished-other"]

  def test_without_locks_all_are_left(self, tmp_path, monkeypatch):
    """As on some network file systems."""

    def unsupported(*_, **__):
      raise OSError(errno.ENOLCK, "no locks available")

    (tmp_path / ".unfinished-other").mkdir()
    monkeypatch.setattr(folder_lock.filelock, "lock_descriptor", unsupported)
    with folder_lock.working_folder(tmp_path) as place:
      assert place.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".unfinished-other"]

  def test_those_that_begin_at_once_are_separate(self, tmp_path):
    def work(_):
      for _ in range(40):
        with folder_lock.working_folder(tmp_path) as place:
          (place / "file").write_text("mine")
          time.sleep(0.001)
          assert (place / "file").read_text() == "mine"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      list(pool.map(work, range(8)))
    assert list(tmp_path.iterdir()) == []


class TestScript:
  def _run(self, *arguments):
    script = str(_ROOT / "experiments" / "prepare_data.py")
    return subprocess.run(
      [sys.executable, script, *arguments],
      capture_output=True,
      text=True,
      timeout=120,
    )

  def test_from_the_source_to_the_description(self, source, data_dir):
    shutil.copy(source / "base/ant/0.png", source / "novel/fox/copy.png")
    (source / "val/eel/0.png").write_bytes(b"")
    name, where = "--dataset=image_folder/mine", f"--data_dir={data_dir}"
    start = f"--source={source}"
    refused = self._run(name, where, start)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 2
    assert "error: 1 of 22 images in" in refused.stderr
    assert "val/eel/0.png: the file is empty" in refused.stderr

    done = self._run(name, where, start, "--skip_bad", "--size_px=12")
    assert done.returncode == 0, done.stderr
    found = data.describe("image_folder/mine", data_dir)
    assert found.size == (12, 12)
    text = " ".join(done.stdout.split())
    for part in (
      found.fingerprint,
      str(found.folder),
      "left out 1: val/eel/0.png: the file is empty",
      "copies 0 of 21 images repeat one of their class; in two classes: 1,",
      "12 x 12; centre square, resized to 12 px, antialiased bilinear; 21",
      "base 3 9 1 to 5",
    ):
      assert part in text

    listed = self._run("--list", where)
    assert "image_folder/mine" in listed.stdout
    assert found.fingerprint[:12] in listed.stdout
    verified = self._run("--verify=image_folder/mine", where)
    assert "all 21 images are as they were" in verified.stdout
    again = self._run(name, where, start)
    assert "already prepared" in again.stdout
    assert not again.stderr

  @pytest.mark.parametrize(
    ("arguments", "message"),
    [
      ((), "error: give one of --dataset=NAME, "),
      (("--dataset=icons", "--seed=3"), "error: --seed has no effect on icons"),
    ],
  )
  def test_wrong_arguments_are_one_sentence(self, arguments, message, data_dir):
    result = self._run(*arguments, f"--data_dir={data_dir}")
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout
