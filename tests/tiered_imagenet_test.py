"""Tiered-ImageNet in every form in which it is distributed, at toy size."""

import functools
import json
import os
import pathlib
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import sources

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.builders import tiered_imagenet

_CLASSES = tiered_imagenet.classes()
_BY_SPLIT = tiered_imagenet.by_split()
_ALL = [entry.wnid for entry in _CLASSES]
_NAMES = sources.SPLIT_NAMES
_find = functools.partial(sources.find, tiered_imagenet.TieredImagenet)
_message = functools.partial(sources.refusal, tiered_imagenet.TieredImagenet)


def _num_images(wnid):
  """Classes differ in size."""
  return 1 + _ALL.index(wnid) % 2


def _pixels(wnid, number):
  """[4, 4, 3] uint8 that no other image has; red is above blue."""
  index = _ALL.index(wnid)
  image = np.zeros((4, 4, 3), np.uint8)
  image[0, 0] = [200 + number, index // 256, index % 256]
  return image


def _png(pixels):
  return np.frombuffer(sources.png(pixels), np.uint8)


def _split(split):
  """Images and labels, in the order and with the names of the authors."""
  entries = [entry for entry in _CLASSES if entry.split == split]
  order = np.random.default_rng(0).permutation(len(entries))
  images, labels = [], []
  for label, index in enumerate(order):
    wnid = entries[index].wnid
    for number in range(_num_images(wnid)):
      images.append(_pixels(wnid, number))
      labels.append(label)
  return images, {
    "label_specific": np.array(labels, np.int32),
    "label_general": np.zeros(len(labels), np.int32),
    "label_specific_str": [entries[index].words for index in order],
    "label_general_str": ["things"],
  }


def _pngs(root, *, ndim=1, keys=str):
  root.mkdir()
  for split, stem in _NAMES.items():
    images, labels = _split(split)
    encoded = [_png(image) for image in images]
    if ndim == 2:
      encoded = [data[:, None] for data in encoded]
    if keys is bytes:
      labels = {key.encode(): value for key, value in labels.items()}
    sources.dump(root / f"{stem}_images_png.pkl", encoded)
    sources.dump(root / f"{stem}_labels.pkl", labels)


def _npz(root, save=np.savez):
  root.mkdir()
  for split, stem in _NAMES.items():
    images, labels = _split(split)
    # As OpenCV orders the channels.
    save(root / f"{stem}_images.npz", images=np.stack(images)[..., ::-1])
    sources.dump(root / f"{stem}_labels.pkl", labels)


def _folders(root):
  for split, names in _BY_SPLIT.items():
    for wnid in names:
      folder = root / _NAMES[split] / wnid
      folder.mkdir(parents=True)
      for number in range(_num_images(wnid)):
        data = _png(_pixels(wnid, number)).tobytes()
        (folder / f"{wnid}_{number}.png").write_bytes(data)


def _imagenet(root):
  """All classes below train; a few images of each below val."""
  _folders(root / "train")
  for wnid in _ALL[1::2]:  # those with two images
    folder = root / "val" / wnid
    folder.mkdir(parents=True)
    (folder / "ILSVRC2012_val_0.png").write_bytes(b"x")
  (root / "train" / "n00000001").mkdir()


_FORMS = {
  "PNG pickles": _pngs,
  "PNG pickles of columns": lambda root: _pngs(root, ndim=2),
  "PNG pickles, keys in bytes": lambda root: _pngs(root, keys=bytes),
  "npz": _npz,
  "npz, compressed": lambda root: _npz(root, np.savez_compressed),
  "class folders": _folders,
  "ImageNet": _imagenet,
}


def _check(found):
  images = {
    split: {n: [_pixels(n, i) for i in range(_num_images(n))] for n in names}
    for split, names in _BY_SPLIT.items()
  }
  groups = {entry.wnid: entry.group for entry in _CLASSES}
  sources.check_images(found, images, groups)


@pytest.fixture(scope="module", params=_FORMS)
def source(request, tmp_path_factory):
  root = tmp_path_factory.mktemp("source") / "tiered-imagenet"
  _FORMS[request.param](root)
  return root


@pytest.fixture
def root(tmp_path):
  return tmp_path / "tiered"


class TestForms:
  def test_folder_and_parent(self, source, tmp_path):
    _check(_find(source, tmp_path))
    _check(_find(source.parent, tmp_path))

  @pytest.mark.parametrize("kind", ["tar", "zip"])
  def test_archive(self, source, kind, tmp_path):
    place = tmp_path / "downloads"
    path = shutil.make_archive(
      str(place / "tiered-imagenet"), kind, source.parent, source.name
    )
    _check(_find(path, tmp_path))
    _check(_find(place, tmp_path))

  def test_a_file_of_it(self, tmp_path):
    _pngs(tmp_path / "tiered")
    _check(_find(tmp_path / "tiered" / "val_labels.pkl", tmp_path))

  def test_npz_beside_the_pickles_it_was_made_of(self, tmp_path):
    _pngs(tmp_path / "tiered")
    path = tmp_path / "tiered" / "val_images.npz"
    np.savez(path, images=np.zeros((1, 4, 4, 3), np.uint8))
    found = _find(tmp_path / "tiered", tmp_path)
    assert "PNG" in found.form
    _check(found)

  def test_npz_is_read_one_by_one(self, root, tmp_path):
    _npz(root)
    num_images = len(_split("val")[0])
    images = np.zeros((num_images, 256, 256, 3), np.uint8)
    np.savez(root / "val_images.npz", images=images)
    found = _find(root, tmp_path)
    tracemalloc.start()
    num_read = sum(1 for _ in found.entries("val"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_read == num_images
    assert peak < images.nbytes / 8


class TestList:
  def test_sizes(self):
    sizes = {split: len(names) for split, names in _BY_SPLIT.items()}
    assert sizes == tiered_imagenet.TieredImagenet.NUM_CLASSES
    assert len(set(_ALL)) == 608
    assert len({entry.words for entry in _CLASSES}) == 608

  def test_splits_share_no_super_class(self):
    groups = {
      split: {entry.group for entry in _CLASSES if entry.split == split}
      for split in _NAMES
    }
    assert [len(groups[split]) for split in _NAMES] == [20, 6, 8]
    assert len(set.union(*groups.values())) == 34

  def test_published(self):
    shared = os.environ.get("FSL_JAX_SHARED_DATA")
    if not shared:
      pytest.skip("FSL_JAX_SHARED_DATA is not set")
    path = pathlib.Path(shared) / "splits" / "tiered_imagenet.json"
    theirs = json.loads(path.read_text())
    for split, name in _NAMES.items():
      assert theirs[name] == [
        [entry.wnid, entry.group] for entry in _CLASSES if entry.split == split
      ]


class TestMessages:
  def test_nothing(self, tmp_path):
    assert "nothing of Tiered-ImageNet" in _message(tmp_path, tmp_path)

  def test_missing_split(self, root, tmp_path):
    _pngs(root)
    (root / "val_images_png.pkl").unlink()
    assert "only classes of base and novel" in _message(root, tmp_path)

  def test_missing_labels_of_all(self, root, tmp_path):
    _npz(root)
    for stem in ("val", "test"):
      (root / f"{stem}_labels.pkl").unlink()
    message = _message(root, tmp_path)
    assert "val_labels.pkl" in message
    assert "test_labels.pkl" in message

  def test_labels_only(self, root, tmp_path):
    _npz(root)
    for path in root.glob("*.npz"):
      path.unlink()
    assert "no images" in _message(root, tmp_path)

  def test_missing_classes(self, root, tmp_path):
    _folders(root)
    shutil.rmtree(root / "val" / _BY_SPLIT["val"][5])
    message = _message(root, tmp_path)
    assert _BY_SPLIT["val"][5] in message
    assert "607 of the 608" in message

  def test_empty_class(self, root, tmp_path):
    _folders(root)
    for path in (root / "val" / _BY_SPLIT["val"][5]).iterdir():
      path.unlink()
    found = _find(root, tmp_path)
    with pytest.raises(types.InputError, match=_BY_SPLIT["val"][5]):
      listing.check_counts(
        found,
        source="x",
        num_classes=tiered_imagenet.TieredImagenet.NUM_CLASSES,
      )

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      ({"label_specific": np.arange(3)}, "3 labels"),
      ({"label_specific": np.array([0, 97])}, "0 to 97"),
      ({"label_specific": ["a"]}, "whole numbers"),
      ({"label_specific_str": ["tench", "dog"]}, "'dog'"),
      ({"label_specific_str": os.system}, "system"),
      ({"label_specific_str": [sources.doubled()]}, "got a tuple"),
      ({"label_specific": sources.doubled()}, "whole numbers"),
    ],
  )
  def test_malformed_labels(self, change, said, root, tmp_path):
    _pngs(root)
    path = root / "val_labels.pkl"
    sources.dump(path, pickle.loads(path.read_bytes()) | change)
    message = _message(root, tmp_path)
    assert said in message
    assert path.name in message

  @pytest.mark.parametrize(
    ("arrays", "said"),
    [
      ({"images": np.zeros((146, 4, 4, 3))}, "float64"),
      ({"images": np.zeros((146, 3, 4, 4), np.uint8)}, "[146, 3, 4, 4]"),
      ({"pictures": np.zeros(3)}, "no array called images"),
      ({"images": np.array([None])}, "object"),
    ],
  )
  def test_malformed_npz(self, arrays, said, root, tmp_path):
    _npz(root)
    np.savez(root / "val_images.npz", **arrays)
    assert said in _message(root, tmp_path)

  @pytest.mark.parametrize("make", [_pngs, _npz])
  def test_damage(self, make, root, tmp_path):
    make(root)
    path = next(root.glob("val_images*"))
    path.write_bytes(path.read_bytes()[:-500])
    assert "cut short" in _message(root, tmp_path)
