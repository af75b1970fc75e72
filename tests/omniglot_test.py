"""Omniglot: recognised in the forms in which people have it."""

import collections
import io
import os
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fsl_jax import types
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


def _drawing(seed):
  ink = np.random.default_rng(seed).integers(0, 2, (105, 105), np.uint8) * 255
  encoded = io.BytesIO()
  Image.fromarray(ink).convert("1").save(encoded, "PNG")
  return encoded.getvalue()


@pytest.fixture(scope="module")
def files():
  found = {}
  for half, names in _HALVES.items():
    for name in names:
      for i in range(1, 21):
        found[f"{half}/{name}/0{len(found) // 20}_{i:02d}.png"] = _drawing(
          len(found)
        )
  return found


@pytest.fixture(autouse=True)
def small_list(monkeypatch):
  monkeypatch.setattr(class_lists, "load", lambda name: _SPLIT)


def _tree(root, files):
  for name, data in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return root


def _zips(root, files):
  root.mkdir(parents=True, exist_ok=True)
  for half in _HALVES:
    with zipfile.ZipFile(root / f"{half}.zip", "w") as archive:
      archive.writestr(f"{half}/", "")
      for name, data in files.items():
        if name.startswith(half):
          archive.writestr(name, data)
  return root


def _find(source, tmp_path):
  builder = omniglot.Omniglot(data_dir=tmp_path / "made")
  builder.source = source
  builder.scratch = tmp_path / "scratch"
  builder.scratch.mkdir(exist_ok=True)
  return builder.find()


def _digest(picture):
  result = pictures.examine(picture, omniglot.Omniglot.RULE)
  assert isinstance(result, pictures.Examined)
  assert result.size == (105, 105)
  return result.digest


def _digests(found):
  """Pixels by split and class, in no order."""
  by_split: dict[str, dict[str, list[bytes]]] = {}
  for split in listing.SPLITS:
    of_class = by_split[split] = collections.defaultdict(list)
    for entry in found.entries(split):
      of_class[entry.class_name].append(_digest(entry.picture))
    for digests in of_class.values():
      digests.sort()
  return by_split


def _sources(kind, files, tmp_path):
  root = tmp_path / "omniglot"
  match kind:
    case "zips":
      return _zips(root, files)
    case "zip of a half":
      return _zips(root, files) / "images_evaluation.zip"
    case "zips in python":
      _zips(root / "python", files)
      return root
    case "tree":
      return _tree(root, files)
    case "folder of a half":
      return _tree(root, files) / "images_background"
    case "half tree, half zip":
      _tree(root, files)
      _zips(root, files)
      (root / "images_background.zip").unlink()
      return root
    case "unpacked one deeper":
      for half in _HALVES:
        some = {n: data for n, data in files.items() if n.startswith(half)}
        _tree(root / half, some)
      return root
    case "tar of a tree":
      with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(_tree(root, files), "omniglot/python")
      return tmp_path / "a.tar.gz"
    case "zip of zips":
      _zips(root, files)
      with zipfile.ZipFile(tmp_path / "omniglot-master.zip", "w") as archive:
        for half in _HALVES:
          archive.write(
            root / f"{half}.zip", f"omniglot-master/python/{half}.zip"
          )
      return tmp_path / "omniglot-master.zip"
  raise ValueError(kind)


class TestForms:
  @pytest.mark.parametrize(
    "kind",
    [
      "zips",
      "zip of a half",
      "zips in python",
      "tree",
      "folder of a half",
      "half tree, half zip",
      "unpacked one deeper",
      "tar of a tree",
      "zip of zips",
    ],
  )
  def test_every_form_gives_the_same(self, kind, files, tmp_path):
    found = _find(_sources(kind, files, tmp_path), tmp_path)
    assert found.class_names == {s: tuple(n) for s, n in _SPLIT.items()}
    expected: dict[str, list[bytes]] = collections.defaultdict(list)
    for name, data in files.items():
      class_name = name.split("/", 1)[1].rpartition("/")[0]
      expected[class_name].append(_digest(data))
    digests = _digests(found)
    for split, of_class in digests.items():
      assert set(of_class) == set(_SPLIT[split])
      for class_name, some in of_class.items():
        assert some == sorted(expected[class_name])
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
    source = _tree(tmp_path / "a", files)
    _tree(
      source / "images_background_small1",
      {"Greek/character01/0001_01.png": _drawing(0)},
    )
    assert _find(source, tmp_path).num_pictures == len(files)


class TestRefused:
  def test_all_that_is_wrong_is_named(self, files, tmp_path):
    source = _tree(tmp_path / "a", files)
    (source / "images_background/Greek/character01/00_07.png").unlink()
    evaluation = source / "images_evaluation/N_Ko_(x)"
    os.rename(evaluation / "character11", evaluation / "character12")
    with pytest.raises(types.InputError) as caught:
      _find(source, tmp_path)
    for part in (
      "Greek/character01 has 19 drawings, expected 20",
      "N_Ko_(x)/character11 has 0 drawings, expected 20",
      "N_Ko_(x)/character12 is no class of Omniglot",
    ):
      assert part in str(caught.value)

  def test_a_missing_half(self, files, tmp_path):
    source = _zips(tmp_path / "a", files)
    (source / "images_evaluation.zip").unlink()
    for given in (source, source / "images_background.zip"):
      with pytest.raises(types.InputError, match="but not images_evaluation"):
        _find(given, tmp_path)

  def test_something_else(self, tmp_path):
    source = _tree(tmp_path / "a", {"cats/1.png": b""})
    with pytest.raises(types.InputError, match="is not Omniglot; expected"):
      _find(source, tmp_path)

  def test_a_cut_zip(self, files, tmp_path):
    source = _zips(tmp_path / "a", files)
    cut = source / "images_evaluation.zip"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(types.InputError, match="damaged or cut short") as e:
      _find(source, tmp_path)
    assert str(cut) in str(e.value)


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
  assert {s: len(known[s]) for s in listing.SPLITS} == dict(
    omniglot.Omniglot.NUM_CLASSES
  )
  names = [name for split in listing.SPLITS for name in known[split]]
  assert len(set(names)) == len(names) == 1623
  assert all(known[split] == sorted(known[split]) for split in listing.SPLITS)
  alphabets = {
    split: {name.partition("/")[0] for name in known[split]}
    for split in listing.SPLITS
  }
  assert len(set.union(*alphabets.values())) == 50
  # The only alphabet that is cut.
  assert alphabets["base"] & alphabets["novel"] == {"Gurmukhi"}
  assert not alphabets["val"] & (alphabets["base"] | alphabets["novel"])
  assert "Vinyals" in known["origin"]


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
