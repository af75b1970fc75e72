"""Making a data set: what is refused, and what is left of a run that ended."""

import concurrent.futures
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tiny_source

from fsl_jax import data, folder_lock, types
from fsl_jax.data import prepared

_ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_source.register(monkeypatch)


@pytest.fixture
def source(tmp_path):
  return tiny_source.write(tmp_path / "source")


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / "data"


def _nothing_is_left(data_dir, name="tiny"):
  return data.describe(name, data_dir) is None and not list(
    (data_dir / name).glob("*")
  )


class TestBadPictures:
  @pytest.fixture
  def spoilt(self, source):
    (source / "base/ant/1.png").write_bytes(b"")
    (source / "base/cat/0.png").write_text("404 not found")
    half = (source / "novel/gnu/2.png").read_bytes()[:60]
    (source / "novel/gnu/2.png").write_bytes(half)
    return source

  def test_all_are_named_at_once(self, spoilt, data_dir):
    with pytest.raises(types.InputError) as caught:
      tiny_source.prepare(spoilt, data_dir)
    message = str(caught.value)
    assert message.startswith("3 of 21 images in")
    for name in ("base/ant/1.png", "base/cat/0.png", "novel/gnu/2.png"):
      assert f"{name}: " in message
    assert "skip_bad=True" in message
    assert message.count("\n") == 3
    assert _nothing_is_left(data_dir)

  def test_they_may_be_left_out(self, spoilt, data_dir):
    found = tiny_source.prepare(spoilt, data_dir, skip_bad=True)
    assert [text.split(":")[0] for text in found.skipped] == [
      "base/ant/1.png",
      "base/cat/0.png",
      "novel/gnu/2.png",
    ]
    assert found.images_per_class["base"] == (4, 1, 2)
    assert data.verify("tiny", data_dir=data_dir) == found
    for path in found.skipped:
      (spoilt / path.split(":")[0]).unlink()
    without = tiny_source.prepare(spoilt, data_dir, overwrite=True)
    assert without.fingerprints == found.fingerprints

  def test_a_class_must_keep_a_picture(self, source, data_dir):
    (source / "base/bee/0.png").write_bytes(b"")
    for path in (source / "val/dog").iterdir():
      path.write_bytes(b"")
    with pytest.raises(
      types.InputError, match=r"class 'bee' of base; class 'dog' of val$"
    ):
      tiny_source.prepare(source, data_dir, skip_bad=True)
    assert _nothing_is_left(data_dir)

  def test_nothing_usable_at_all(self, source, data_dir):
    for path in source.glob("*/*/*"):
      path.write_bytes(b"")
    with pytest.raises(types.InputError, match="no usable image is left"):
      tiny_source.prepare(source, data_dir, skip_bad=True)


class TestRefused:
  @pytest.fixture
  def untouched(self, monkeypatch):
    def find(self):
      raise AssertionError("it looked at the source")

    monkeypatch.setattr(tiny_source.Tiny, "find", find)

  def test_unknown_options_before_any_work(self, untouched, source, data_dir):
    with pytest.raises(
      types.InputError,
      match=r"option of tiny 'size_pix'; did you mean 'size_px'\?",
    ):
      tiny_source.prepare(source, data_dir, options={"size_pix": 3})
    assert not data_dir.exists()

  def test_no_source(self, untouched, data_dir):
    with pytest.raises(
      types.InputError,
      match=r"^tiny needs source=PATH. It is made by tests.$",
    ):
      data.prepare("tiny", data_dir=data_dir)

  def test_a_source_that_is_not_there(self, untouched, tmp_path, data_dir):
    with pytest.raises(types.InputError, match=r"source .* does not exist"):
      tiny_source.prepare(tmp_path / "none", data_dir)
    assert _nothing_is_left(data_dir)

  def test_wrong_counts_are_named_together(self, source, data_dir, monkeypatch):
    monkeypatch.setattr(tiny_source.Tiny, "NUM_CLASSES", {"base": 4, "val": 2})
    monkeypatch.setattr(tiny_source.Tiny, "IMAGES_PER_CLASS", 4)
    with pytest.raises(types.InputError) as caught:
      tiny_source.prepare(source, data_dir)
    message = str(caught.value)
    assert "is not complete: base has 3 classes, expected 4" in message
    for name, count in {"ant": 5, "bee": 1, "cat": 3, "dog": 2}.items():
      assert f"class '{name}' has {count} images, expected 4" in message
    assert "eel" not in message

  @pytest.mark.parametrize("name", ["tiny/", "tiny/a b", "tiny/../x", "tiny/1"])
  def test_names_of_variants(self, source, data_dir, name):
    with pytest.raises(types.InputError, match="own name must be letters"):
      data.prepare(name, source=source, data_dir=data_dir)

  def test_variants_of_what_has_none(self, source, data_dir):
    with pytest.raises(types.InputError, match="there is only one icons"):
      data.prepare("icons/mine", source=source, data_dir=data_dir)


class TestInterrupted:
  def test_an_interrupt_leaves_nothing(self, source, data_dir):
    def interrupt(items, total):
      yield next(iter(items))
      raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
      tiny_source.prepare(source, data_dir, progress=interrupt)
    assert _nothing_is_left(data_dir)
    assert tiny_source.prepare(source, data_dir).num_images["base"] == 9

  def test_a_killed_run(self, source, data_dir):
    command = f"""
import os, signal
import fsl_jax
def progress(items, total):
  for i, item in enumerate(items):
    if i == 7:
      os.kill(os.getpid(), signal.SIGKILL)
    yield item
fsl_jax.data.prepare(
  "image_folder/mine", source={str(source)!r}, data_dir={str(data_dir)!r},
  progress=progress,
)
"""
    killed = subprocess.run([sys.executable, "-c", command], cwd=_ROOT)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (data_dir / "image_folder/mine").iterdir()
    assert list(left.rglob("*array_record*")), "it was killed before it wrote"
    assert data.describe("image_folder/mine", data_dir) is None
    assert "image_folder/mine" not in prepared.found_names(data_dir)
    with pytest.raises(types.InputError, match="is not prepared in"):
      data.load("image_folder/mine", "base", data_dir=data_dir)

    found = data.prepare("image_folder/mine", source=source, data_dir=data_dir)
    assert found.num_images["base"] == 9
    assert list(found.folder.parent.iterdir()) == [found.folder]
    assert data.verify("image_folder/mine", data_dir=data_dir) == found

  def test_leftovers_of_killed_runs_are_removed(self, tmp_path):
    dead, alive = tmp_path / ".unfinished-dead", tmp_path / ".unfinished-alive"
    dead.mkdir()
    (dead / "file").touch()
    alive.mkdir()
    with folder_lock.held(alive), folder_lock.working_folder(tmp_path) as place:
      assert sorted(tmp_path.iterdir()) == sorted([alive, place])
    assert list(tmp_path.iterdir()) == [alive]

  def test_runs_that_begin_at_once_leave_each_other_alone(self, tmp_path):
    def work(_):
      for _ in range(40):
        with folder_lock.working_folder(tmp_path) as place:
          (place / "file").write_text("mine")
          time.sleep(0.001)
          assert (place / "file").read_text() == "mine"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      list(pool.map(work, range(8)))
    assert list(tmp_path.iterdir()) == []

  def test_leftovers_of_other_users_are_none_of_ours(
    self, tmp_path, monkeypatch
  ):
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

  def test_a_full_disk_is_an_os_error(self, source, data_dir):
    import resource

    # Writing beyond the limit fails as on a full disk; the signal is ignored.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
      with pytest.raises(OSError, match="File too large"):
        tiny_source.prepare(source, data_dir)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _nothing_is_left(data_dir)
