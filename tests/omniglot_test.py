"""Omniglot in the forms in which it is distributed."""

import collections
import functools
import os
import pathlib
import zipfile

import numpy as np
import pytest
import sources

from fsl_jax.data import class_lists, listing, pictures
from fsl_jax.data.builders import omniglot

_HALVES = {
  "images_background": ("Greek/character01", "Greek/character02"),
  "images_evaluation": ("N_Ko_(x)/character01", "N_Ko_(x)/character11"),
}
_SPLIT = {
  "base": ["Greek/character01", "N_Ko_(x)/character01"],
  "val": ["Greek/character02"],
  "novel": ["N_Ko_(x)/character11"],
}
_find = functools.partial(sources.find, omniglot.Omniglot)
_refusal = functools.partial(sources.refusal, omniglot.Omniglot)


def _drawing(seed):
  ink = np.random.default_rng(seed).integers(0, 2, (105, 105), np.uint8)
  return sources.png(ink.astype(bool))


@pytest.fixture(scope="module")
def files():
  names = [
    f"{half}/{name}/{i:02d}.png"
    for half, names in _HALVES.items()
    for name in names
    for i in range(1, 21)
  ]
  return {name: _drawing(seed) for seed, name in enumerate(names)}


@pytest.fixture(autouse=True)
def small_list(monkeypatch):
  monkeypatch.setattr(class_lists, "load", lambda name: _SPLIT)


def _zips(root, files):
  """The two zip files of the authors."""
  root.mkdir(parents=True, exist_ok=True)
  for half in _HALVES:
    some = {n: data for n, data in files.items() if n.startswith(half)}
    sources.zip_(root / f"{half}.zip", {f"{half}/": b""} | some)
  return root


def _half_tree_half_zip(root, files):
  _zips(sources.write(root, files), files)
  (root / "images_background.zip").unlink()
  return root


def _unpacked_one_deeper(root, files):
  deeper = {f"{n.partition('/')[0]}/{n}": data for n, data in files.items()}
  return sources.write(root, deeper)


def _zip_of_zips(root, files):
  _zips(root / "omniglot-master/python", files)
  return sources.zip_(root / "omniglot-master.zip", sources.contents(root))


_FORMS = {
  "zips": _zips,
  "zip of a half": lambda r, f: _zips(r, f) / "images_evaluation.zip",
  "zips in python": lambda r, f: _zips(r / "python", f).parent,
  "tree": sources.write,
  "folder of a half": lambda r, f: sources.write(r, f) / "images_background",
  "half tree, half zip": _half_tree_half_zip,
  "unpacked one deeper": _unpacked_one_deeper,
  "tar of a tree": lambda r, f: sources.tar(
    sources.write(r, {}) / "a.tar.gz",
    {f"omniglot/python/{name}": data for name, data in f.items()},
  ),
  "zip of zips": _zip_of_zips,
}


def _digest(picture):
  result = pictures.examine(picture, omniglot.Omniglot.RULE)
  assert isinstance(result, pictures.Examined)
  assert result.size == (105, 105)
  return result.digest


class TestForms:
  @pytest.mark.parametrize("form", _FORMS)
  def test_every_form_gives_the_same(self, form, files, tmp_path):
    found = _find(_FORMS[form](tmp_path / "omniglot", files), tmp_path)
    assert found.class_names == {s: tuple(n) for s, n in _SPLIT.items()}
    expected = collections.defaultdict(list)
    for name, data in files.items():
      class_name = name.split("/", 1)[1].rpartition("/")[0]
      expected[class_name].append(_digest(data))
    for split in listing.SPLITS:
      digests = collections.defaultdict(list)
      for entry in found.entries(split):
        digests[entry.class_name].append(_digest(entry.picture))
      assert set(digests) == set(_SPLIT[split])
      for class_name, some in digests.items():
        assert sorted(some) == sorted(expected[class_name])
        assert found.num_images[split][class_name] == len(some) == 20

  def test_entries(self, files, tmp_path):
    found = _find(_zips(tmp_path / "a", files), tmp_path)
    entries = list(found.entries("novel"))
    assert {entry.id for entry in entries} == {
      name for name in files if "character11" in name
    }
    assert {entry.group for entry in entries} == {"N_Ko_(x)"}
    assert entries == list(found.entries("novel"))

  def test_other_folders_do_not_count(self, files, tmp_path):
    small = {"images_background_small1/Greek/character01/1.png": _drawing(0)}
    source = sources.write(tmp_path / "a", files | small)
    assert _find(source, tmp_path).num_pictures == len(files)


class TestRefused:
  def test_all_that_is_wrong_is_named(self, files, tmp_path):
    source = sources.write(tmp_path / "a", files)
    (source / "images_background/Greek/character01/07.png").unlink()
    evaluation = source / "images_evaluation/N_Ko_(x)"
    os.rename(evaluation / "character11", evaluation / "character12")
    message = _refusal(source, tmp_path)
    for part in (
      "Greek/character01 has 19 drawings, expected 20",
      "N_Ko_(x)/character11 has 0 drawings, expected 20",
      "N_Ko_(x)/character12 is not a class of Omniglot",
    ):
      assert part in message

  def test_a_missing_half(self, files, tmp_path):
    source = _zips(tmp_path / "a", files)
    (source / "images_evaluation.zip").unlink()
    for given in (source, source / "images_background.zip"):
      assert "but not images_evaluation" in _refusal(given, tmp_path)

  def test_something_else(self, tmp_path):
    source = sources.write(tmp_path / "a", {"cats/1.png": b""})
    assert "is not Omniglot; expected" in _refusal(source, tmp_path)

  def test_a_cut_zip(self, files, tmp_path):
    cut = _zips(tmp_path / "a", files) / "images_evaluation.zip"
    cut.write_bytes(cut.read_bytes()[:-100])
    message = _refusal(cut.parent, tmp_path)
    assert f"{cut} is damaged or cut short" in message


def test_both_zips_are_downloaded(tmp_path, monkeypatch):
  fetched = {}

  def fetch(url, *, sha256, size_bytes, folder):
    name = url.rpartition("/")[2]
    fetched[name] = (len(sha256), size_bytes)
    return folder / name

  monkeypatch.setattr(omniglot.download, "fetch", fetch)
  builder = omniglot.Omniglot(data_dir=tmp_path)
  builder.downloads = tmp_path / "downloads"
  assert builder.obtain() == tmp_path / "downloads"
  assert fetched == {
    "images_background.zip": (64, 9464212),
    "images_evaluation.zip": (64, 6462886),
  }


def test_the_published_split(monkeypatch):
  monkeypatch.undo()
  known = class_lists.load("omniglot")
  assert "Vinyals" in known["origin"]
  known = {split: known[split] for split in listing.SPLITS}
  sizes = {split: len(names) for split, names in known.items()}
  assert sizes == dict(omniglot.Omniglot.NUM_CLASSES)
  names = [name for split in known.values() for name in split]
  assert len(set(names)) == len(names) == 1623
  assert all(split == sorted(split) for split in known.values())
  alphabets = {
    split: {name.partition("/")[0] for name in names}
    for split, names in known.items()
  }
  assert len(set.union(*alphabets.values())) == 50
  # The only alphabet that is divided.
  assert alphabets["base"] & alphabets["novel"] == {"Gurmukhi"}
  assert not alphabets["val"] & (alphabets["base"] | alphabets["novel"])


def test_the_real_data(tmp_path, monkeypatch):
  shared = os.environ.get("FSL_JAX_SHARED_DATA")
  if not shared:
    pytest.skip("FSL_JAX_SHARED_DATA is not set")
  monkeypatch.undo()
  for half in _HALVES:
    packed = np.load(pathlib.Path(shared) / "omniglot" / f"{half}.npz")
    data = packed["data"].tobytes()
    offsets, names = packed["offsets"], packed["names"][packed["y"]]
    with zipfile.ZipFile(tmp_path / f"{half}.zip", "w") as archive:
      for i, base in enumerate(packed["filename"]):
        picture = data[offsets[i] : offsets[i + 1]]
        archive.writestr(f"{half}/{names[i]}/{base}", picture)
  found = _find(tmp_path, tmp_path)
  assert {s: sum(c.values()) for s, c in found.num_images.items()} == dict(
    omniglot.Omniglot.REFERENCE_NUM_IMAGES
  )
