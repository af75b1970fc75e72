"""ImageNet-21k: tars by synset or trees, split by the number of images."""

import io
import tarfile
import tracemalloc

import pytest

from fsl_jax import types
from fsl_jax.data.builders import imagenet21k
from fsl_jax.data.containers import tree

# More than 6 are base, at least 3 novel.
_COUNTS = {
  "n00000001": 7,
  "n00000002": 6,
  "n00000005": 3,
  "n00000003": 2,
  "n00000004": 12,
}
_BASE = ("n00000001", "n00000004")
_NOVEL = ("n00000002", "n00000005")


class _Small(imagenet21k.Imagenet21k, skip_registration=True):
  BASE_MORE_THAN = 6
  NOVEL_AT_LEAST = 3


def _pictures(name, count):
  # No image is decoded while listing, so any bytes do.
  return {f"{name}_{i}.JPEG": f"{name}-{i}".encode() * 50 for i in range(count)}


def _tar(files, mode="w"):
  target = io.BytesIO()
  with tarfile.open(fileobj=target, mode=mode) as tar:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return target.getvalue()


def _write(root, files):
  for name, data in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return root


def _tars(counts=_COUNTS):
  return {f"{name}.tar": _tar(_pictures(name, n)) for name, n in counts.items()}


def _folders(counts=_COUNTS):
  return {
    f"{name}/{base}": data
    for name, n in counts.items()
    for base, data in _pictures(name, n).items()
  }


def _source(kind, root):
  root.mkdir()
  below = {f"winter21/{name}": data for name, data in _tars().items()}
  match kind:
    case "tars":
      return _write(root, _tars())
    case "folders":
      return _write(root, {**_folders(), "readme.txt": b"", "n00000006/x": b""})
    case "both":
      mixed = {n: d for n, d in _folders().items() if "00002" not in n}
      mixed["n00000002.tar"] = _tars()["n00000002.tar"]
      return _write(root, mixed)
    case "tars below":
      return _write(root, below)
    case "tar of tars":
      return _write(root, {"a.tar": _tar(_tars())}) / "a.tar"
    case "compressed tar of tars below, in a folder":
      return _write(root, {"whole.tar.gz": _tar(below, "w:gz")})
    case "tar of folders":
      return _write(root, {"a.tar": _tar(_folders())}) / "a.tar"
  raise ValueError(kind)


def _find(source, tmp_path, builder_class=_Small):
  builder = builder_class(data_dir=tmp_path / "made")
  builder.source = source
  builder.scratch = tmp_path / "scratch"
  builder.scratch.mkdir(exist_ok=True)
  return builder.find()


class TestForms:
  @pytest.mark.parametrize(
    "kind",
    [
      "tars",
      "folders",
      "both",
      "tars below",
      "tar of tars",
      "compressed tar of tars below, in a folder",
      "tar of folders",
    ],
  )
  def test_every_form_gives_the_same(self, kind, tmp_path):
    found = _find(_source(kind, tmp_path / "source"), tmp_path)
    assert found.class_names == {"base": _BASE, "val": (), "novel": _NOVEL}
    for split, counts in found.num_images.items():
      entries = list(found.entries(split))
      assert {
        entry.id: (entry.class_name, tree.read(entry.picture))
        for entry in entries
      } == {
        f"{name}/{base}": (name, data)
        for name in counts
        for base, data in _pictures(name, _COUNTS[name]).items()
      }
      assert len(entries) == sum(counts.values())
      assert counts == {name: _COUNTS[name] for name in counts}

  def test_the_form_tells_of_other_counts(self, tmp_path):
    found = _find(_source("tars", tmp_path / "source"), tmp_path)
    assert found.form == (
      "one tar per synset in a folder; 2 base, 2 novel, "
      f"{len(_COUNTS) - 4} unused classes where the paper counts 7,491 base, "
      "13,007 novel, 1,343 unused"
    )


def test_listing_keeps_counts_only(tmp_path):
  source = _write(
    tmp_path / "source", _tars({"n00000001": 3000, "n00000002": 5})
  )
  tracemalloc.start()
  try:
    found = _find(source, tmp_path)
    tracemalloc.reset_peak()
    entries = found.entries("base")
    assert sum(1 for _ in entries) == 3000
    kept, most = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert most - kept < 100_000  # bytes


class TestRefused:
  def test_all_damaged_tars_are_named(self, tmp_path):
    tars = _tars()
    for name in ("n00000001.tar", "n00000004.tar"):
      tars[name] = tars[name][:3000]
    source = _write(tmp_path / "source", tars)
    with pytest.raises(types.InputError) as caught:
      _find(source, tmp_path)
    assert str(source / "n00000001.tar") in str(caught.value)
    assert str(source / "n00000004.tar") in str(caught.value)
    assert "n00000002" not in str(caught.value)

  def test_a_damaged_tar_in_a_tar(self, tmp_path):
    tars = _tars()
    tars["n00000004.tar"] = tars["n00000004.tar"][:3000]
    source = _write(tmp_path, {"a.tar": _tar(tars)}) / "a.tar"
    with pytest.raises(types.InputError, match=r"a.tar/n00000004.tar is .*cut"):
      _find(source, tmp_path)

  def test_synsets_that_are_there_twice(self, tmp_path):
    source = _write(tmp_path / "source", {**_tars(), **_folders()})
    with pytest.raises(
      types.InputError, match=r"n00000001 is there twice: .*n00000004 is there"
    ):
      _find(source, tmp_path)

  def test_compressed_synsets(self, tmp_path):
    source = _write(
      tmp_path / "source",
      {"n00000001.tar.gz": _tar(_pictures("n00000001", 3), "w:gz")},
    )
    with pytest.raises(
      types.InputError, match=r"n00000001.tar.gz is compressed, expected a"
    ):
      _find(source, tmp_path)

  @pytest.mark.parametrize("count", [4, 8])
  def test_no_base_or_no_novel_class(self, count, tmp_path):
    source = _write(
      tmp_path / "source", _tars({"n00000001": count, "n00000002": count})
    )
    base = 2 if count == 8 else 0
    with pytest.raises(
      types.InputError,
      match=rf"has {base} classes with more than 6 images \(base\) and "
      rf"{2 - base} others with at least 3 \(novel\), expected some of both",
    ):
      _find(source, tmp_path)

  def test_the_thresholds_of_the_paper(self, tmp_path):
    counts = {"n00000001": 1000, "n00000002": 1001, "n00000003": 10}
    counts["n00000004"] = 9
    source = _write(
      tmp_path / "source",
      {
        f"{name}.tar": _tar(dict.fromkeys(_pictures(name, n), b""))
        for name, n in counts.items()
      },
    )
    found = _find(source, tmp_path, imagenet21k.Imagenet21k)
    assert found.class_names == {
      "base": ("n00000002",),
      "val": (),
      "novel": ("n00000001", "n00000003"),
    }

  def test_something_else(self, tmp_path):
    source = _write(tmp_path / "source", {"cats/1.png": b""})
    with pytest.raises(types.InputError, match="holds no synset of ImageNet"):
      _find(source, tmp_path)
