"""ImageNet-21k: tars by synset or trees, split by the number of images."""

import functools
import tracemalloc

import pytest
import sources

from fsl_jax.data.builders import imagenet21k
from fsl_jax.data.containers import tree

# More than 6 are base, at least 3 novel.
_COUNTS = {
  **{"n00000001": 7, "n00000002": 6, "n00000005": 3, "n00000003": 2},
  "n00000004": 12,
}
_BASE = ("n00000001", "n00000004")
_NOVEL = ("n00000002", "n00000005")


class _Small(imagenet21k.Imagenet21k, skip_registration=True):
  BASE_MORE_THAN = 6
  NOVEL_AT_LEAST = 3


_find = functools.partial(sources.find, _Small)
_refusal = functools.partial(sources.refusal, _Small)


def _images(name, count):
  # No image is decoded while listing, so any bytes will do.
  return {f"{name}_{i}.JPEG": f"{name}-{i}".encode() * 50 for i in range(count)}


def _tars(counts=_COUNTS):
  return {
    f"{name}.tar": sources.tar_bytes(_images(name, n))
    for name, n in counts.items()
  }


def _folders(counts=_COUNTS):
  return {
    f"{name}/{base}": data
    for name, n in counts.items()
    for base, data in _images(name, n).items()
  }


_BELOW = {f"winter21/{name}": data for name, data in _tars().items()}
_BOTH = {n: d for n, d in _folders().items() if "00002" not in n}
_BOTH["n00000002.tar"] = _tars()["n00000002.tar"]
# Files of a source, of which "a.tar" alone is the source.
_FORMS = {
  "tars": _tars(),
  "folders": {**_folders(), "readme.txt": b"", "n00000006/x": b""},
  "both": _BOTH,
  "tars below": _BELOW,
  "tar of tars": {"a.tar": sources.tar_bytes(_tars())},
  "compressed tar of tars below, in a folder": {
    "whole.tar.gz": sources.tar_bytes(_BELOW, "w:gz")
  },
  "tar of folders": {"a.tar": sources.tar_bytes(_folders())},
}


@pytest.fixture
def write(tmp_path):
  """Writes the files of a source; returns its path."""

  def write(files):
    root = sources.write(tmp_path / "source", files)
    return root / "a.tar" if "a.tar" in files else root

  return write


class TestForms:
  @pytest.mark.parametrize("form", _FORMS)
  def test_every_form_gives_the_same(self, form, write, tmp_path):
    found = _find(write(_FORMS[form]), tmp_path)
    assert found.class_names == {"base": _BASE, "val": (), "novel": _NOVEL}
    for split, counts in found.num_images.items():
      entries = list(found.entries(split))
      assert {
        entry.id: (entry.class_name, tree.read(entry.picture))
        for entry in entries
      } == {
        f"{name}/{base}": (name, data)
        for name in counts
        for base, data in _images(name, _COUNTS[name]).items()
      }
      assert len(entries) == sum(counts.values())
      assert counts == {name: _COUNTS[name] for name in counts}

  def test_the_form_names_other_counts(self, write, tmp_path):
    assert _find(write(_tars()), tmp_path).form == (
      "one tar per synset in a folder; 2 base, 2 novel, "
      f"{len(_COUNTS) - 4} unused classes where the paper counts 7,491 base, "
      "13,007 novel, 1,343 unused"
    )

  def test_listing_keeps_only_counts(self, write, tmp_path):
    source = write(_tars({"n00000001": 3000, "n00000002": 5}))
    tracemalloc.start()
    try:
      found = _find(source, tmp_path)
      tracemalloc.reset_peak()
      assert sum(1 for _ in found.entries("base")) == 3000
      kept, most = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
    assert most - kept < 100_000  # bytes

  def test_the_thresholds_of_the_paper(self, write, tmp_path):
    counts = {"n00000001": 1000, "n00000002": 1001, "n00000003": 10}
    counts["n00000004"] = 9
    tars = {
      f"{name}.tar": sources.tar_bytes(dict.fromkeys(_images(name, n), b""))
      for name, n in counts.items()
    }
    found = sources.find(imagenet21k.Imagenet21k, write(tars), tmp_path)
    assert found.class_names == {
      "base": ("n00000002",),
      "val": (),
      "novel": ("n00000001", "n00000003"),
    }


class TestRefused:
  def test_all_damaged_tars_are_named(self, write, tmp_path):
    cut = {name: data[:3000] for name, data in _tars().items()}
    cut = {f"{name}.tar": cut[f"{name}.tar"] for name in _BASE}
    source = write(_tars() | cut)
    message = _refusal(source, tmp_path)
    assert all(str(source / name) in message for name in cut)
    assert "n00000002" not in message

  def test_a_damaged_tar_in_a_tar(self, write, tmp_path):
    tars = _tars()
    tars["n00000004.tar"] = tars["n00000004.tar"][:3000]
    message = _refusal(write({"a.tar": sources.tar_bytes(tars)}), tmp_path)
    assert "a.tar/n00000004.tar is" in message
    assert "cut" in message

  def test_synsets_that_are_there_twice(self, write, tmp_path):
    message = _refusal(write({**_tars(), **_folders()}), tmp_path)
    assert "n00000001 is there twice: " in message
    assert "n00000004 is there twice: " in message

  @pytest.mark.parametrize("count", [4, 8])
  def test_no_base_or_no_novel_class(self, count, write, tmp_path):
    base = 2 if count == 8 else 0
    counts = dict.fromkeys(("n00000001", "n00000002"), count)
    assert (
      f"has {base} classes with more than 6 images (base) and {2 - base} "
      "others with at least 3 (novel), expected some of both"
    ) in _refusal(write(_tars(counts)), tmp_path)

  @pytest.mark.parametrize(
    ("files", "said"),
    [
      (
        {"n00000001.tar.gz": sources.tar_bytes({"1.JPEG": b""}, "w:gz")},
        "n00000001.tar.gz is compressed, expected a",
      ),
      ({"cats/1.png": b""}, "holds no synset of ImageNet"),
    ],
  )
  def test_something_else(self, files, said, write, tmp_path):
    assert said in _refusal(write(files), tmp_path)
