"""Mini-ImageNet in every form in which it is distributed, at toy size."""

import functools
import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest
import sources

from fsl_jax.data import class_lists
from fsl_jax.data.builders import mini_imagenet

_PER_CLASS = 3
_CLASSES = mini_imagenet.classes()
_NAMES = sources.SPLIT_NAMES
_ALL = [name for names in _CLASSES.values() for name in names]
_find = functools.partial(sources.find, mini_imagenet.MiniImagenet)
_message = functools.partial(sources.refusal, mini_imagenet.MiniImagenet)


def _pixels(wnid, number):
  """[4, 4, 3] uint8 that no other image has."""
  image = np.zeros((4, 4, 3), np.uint8)
  image[0, 0] = [_ALL.index(wnid), number, 200]
  return image


def _files(split, folder):
  """PNG files of a split, in the folder given for each class."""
  return {
    f"{folder(wnid)}/{wnid}{number:08}.png": sources.png(_pixels(wnid, number))
    for wnid in _CLASSES[split]
    for number in range(_PER_CLASS)
  }


def _class_folders(root):
  for split, base in _NAMES.items():
    sources.write(root, _files(split, lambda wnid, base=base: f"{base}/{wnid}"))
    others = (f"{base}/.DS_Store", f"{base}/{_CLASSES[split][0]}/notes.txt")
    sources.write(root, dict.fromkeys(others, b"x"))


def _flat_class_folders(root):
  for split in _NAMES:
    sources.write(root, _files(split, lambda wnid: wnid))


def _csv_files(root, folder=lambda wnid: "images"):
  for split, base in _NAMES.items():
    files = _files(split, folder)
    names = [name.rpartition("/")[2] for name in files]
    rows = [f"{name},{name[:9]}" for name in names]
    sources.write(root, files)
    sources.write(
      root, {f"{base}.csv": "\r\n".join(["filename,label", *rows, ""])}
    )


def _csv_with_other_images(root):
  _csv_files(root)
  others = [f"images/{wnid}00000999.png" for wnid in _ALL]
  sources.write(root, dict.fromkeys(others, b""))


def _csv_with_class_folders(root):
  _csv_files(root, lambda wnid: f"images/{wnid}")


def _split_arrays(split):
  names = [name for name in _CLASSES[split] for _ in range(_PER_CLASS)]
  images = [_pixels(n, i % _PER_CLASS) for i, n in enumerate(names)]
  # Rows of a class need not be adjacent.
  order = np.random.default_rng(0).permutation(len(names))
  return np.stack(images)[order], [names[i] for i in order]


def _cache(root):
  root.mkdir(exist_ok=True)
  for split, base in _NAMES.items():
    images, names = _split_arrays(split)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
      rows.setdefault(name, []).append(row)
    content = {"image_data": images, "class_dict": rows}
    sources.dump(root / f"mini-imagenet-cache-{base}.pkl", content)
  sources.dump(root / "mini-imagenet-labelsplit-train-22.pkl", rows)


def _category_split(root, *, keys=str):
  root.mkdir(exist_ok=True)
  start = 0
  for split, names in _CLASSES.items():
    images, labels = _split_arrays(split)
    label_of = {name: start + i for i, name in enumerate(names)}
    start += len(names)
    content = {
      "data": images,
      "labels": [label_of[name] for name in labels],
      "catname2label": label_of,
      "label2catname": {label: name for name, label in label_of.items()},
    }
    if keys is bytes:
      content = {key.encode(): value for key, value in content.items()}
    phases = [_NAMES[split]]
    if split == "base":  # val and test: other images of the same classes.
      phases = [f"train_phase_{phase}" for phase in ("train", "val", "test")]
    for phase in phases:
      name = f"miniImageNet_category_split_{phase}.pickle"
      sources.dump(root / name, content)


_FORMS = {
  "class folders below splits": _class_folders,
  "class folders": _flat_class_folders,
  "CSV files": _csv_with_other_images,
  "CSV files with class folders": _csv_with_class_folders,
  "cache": _cache,
  "category split": _category_split,
  "category split, keys in bytes": lambda root: _category_split(
    root, keys=bytes
  ),
}


def _check(found):
  images = {
    split: {n: [_pixels(n, i) for i in range(_PER_CLASS)] for n in names}
    for split, names in _CLASSES.items()
  }
  sources.check_images(found, images)


@pytest.fixture(scope="module", params=_FORMS)
def source(request, tmp_path_factory):
  root = tmp_path_factory.mktemp("source") / "mini-imagenet"
  _FORMS[request.param](root)
  return root


@pytest.fixture
def root(tmp_path):
  return tmp_path / "mini"


class TestForms:
  def test_folder_and_parent(self, source, tmp_path):
    found = _find(source, tmp_path)
    _check(found)
    # Each call begins anew.
    assert next(found.entries("val")).id == next(found.entries("val")).id
    _check(_find(source.parent, tmp_path))

  @pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
  def test_archive(self, source, kind, tmp_path):
    place = tmp_path / "downloads"
    path = shutil.make_archive(
      str(place / "mini"), kind, source.parent, source.name
    )
    _check(_find(path, tmp_path))
    _check(_find(place, tmp_path))

  def test_part(self, source, tmp_path):
    parts = [*source.glob("images"), *source.glob("t*"), *source.glob("*.pkl")]
    for part in parts:
      if part.is_dir() or part.suffix in (".pkl", ".csv"):
        _check(_find(part, tmp_path))

  def test_images_in_a_list(self, root, tmp_path):
    _cache(root)
    for path in root.glob("*cache*"):
      content = pickle.loads(path.read_bytes())
      content["image_data"] = list(content["image_data"])
      sources.dump(path, content)
    _check(_find(root, tmp_path))


class TestListDecides:
  def test_exchanged_splits(self, root, tmp_path):
    """There are copies with val in test and the reverse."""
    _cache(root)
    one, two = (root / f"mini-imagenet-cache-{x}.pkl" for x in ("val", "test"))
    other = one.rename(root / "other")
    two.rename(one)
    other.rename(two)
    _check(_find(root, tmp_path))

  def test_other_content_is_ignored(self, root, tmp_path):
    _class_folders(root)
    image = sources.png(_pixels(_ALL[0], 0))
    sources.write(root, {"train/n00000001/a.png": image})
    sources.dump(root / "model.pkl", os.system)
    _check(_find(root, tmp_path))

  def test_both_kinds_of_pickles(self, root, tmp_path):
    _cache(root)
    _category_split(root)
    _check(_find(root, tmp_path))

  def test_lists(self):
    sizes = {split: len(names) for split, names in _CLASSES.items()}
    assert sizes == mini_imagenet.MiniImagenet.NUM_CLASSES
    assert len(set(_ALL)) == 100

  def test_lists_are_those_published(self):
    shared = os.environ.get("FSL_JAX_SHARED_DATA")
    if not shared:
      pytest.skip("FSL_JAX_SHARED_DATA is not set")
    ours = class_lists.load("mini_imagenet")
    for name, lists in (("ravi", ours), ("vinyals", ours["vinyals"])):
      path = pathlib.Path(shared) / "splits" / f"mini_imagenet_{name}.json"
      theirs = json.loads(path.read_text())
      assert {s: theirs[n] for s, n in _NAMES.items()} == {
        split: lists[split] for split in _NAMES
      }


class TestMessages:
  def test_nothing(self, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert "nothing of Mini-ImageNet" in _message(tmp_path, tmp_path)
    assert "does not exist" in _message(tmp_path / "none", tmp_path)

  def test_missing_classes(self, root, tmp_path):
    _class_folders(root)
    missing = [_ALL[0], _ALL[70], _ALL[99]]
    for wnid in missing:
      for folder in root.glob(f"*/{wnid}"):
        shutil.rmtree(folder)
    message = _message(root, tmp_path)
    assert "97 of the 100 classes" in message
    assert all(wnid in message for wnid in missing)

  def test_one_split(self, root, tmp_path):
    _class_folders(root)
    for split in ("val", "test"):
      shutil.rmtree(root / split)
    assert "only classes of base" in _message(root / "train", tmp_path)

  def test_list_of_vinyals(self, root, tmp_path):
    lists = class_lists.load("mini_imagenet")["vinyals"]
    for split, base in _NAMES.items():
      names = [f"{base}/{wnid}/a.png" for wnid in lists[split]]
      sources.write(root, dict.fromkeys(names, b"x"))
    assert "Vinyals" in _message(root, tmp_path)

  def test_all_of_imagenet(self, root, tmp_path):
    _class_folders(root)
    names = [f"train/{_ALL[0]}/{number}.JPEG" for number in range(1300)]
    sources.write(root, dict.fromkeys(names, b"x"))
    assert "all of ImageNet" in _message(root, tmp_path)

  def test_missing_images_of_csv_files(self, root, tmp_path):
    _csv_files(root)
    gone = [f"{_ALL[3]}00000001.png", f"{_ALL[90]}00000002.png"]
    for name in gone:
      (root / "images" / name).unlink()
    message = _message(root, tmp_path)
    assert "2 are not there" in message
    assert all(name in message for name in gone)

  def test_labels_without_names(self, root, tmp_path):
    """Their classes are unknown, and so are their splits."""
    _category_split(root)
    for path in root.iterdir():
      content = pickle.loads(path.read_bytes())
      del content["catname2label"]
      sources.dump(path, content)
    message = _message(root, tmp_path)
    assert message.count("catname2label") == 3  # One for each file.

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      ({"image_data": np.zeros((9, 3, 84, 84), np.uint8)}, "[9, 3, 84, 84]"),
      ({"image_data": np.zeros((9, 84, 84, 3))}, "float64"),
      ({"image_data": None}, "not an array"),
      ({"class_dict": {_ALL[0]: [0, 99999]}}, "99999"),
      ({"class_dict": {_ALL[0]: [-1]}}, "-1"),
      ({"class_dict": {_ALL[0]: ["a"]}}, "whole numbers"),
      ({"class_dict": [1]}, "not a dict"),
      ({"class_dict": os.system}, "system"),
      ({"class_dict": {(_ALL[0],): [0]}}, "got a tuple"),
      ({"class_dict": {10**5000: [0]}}, "got a int"),
      ({"class_dict": {_ALL[0]: sources.doubled()}}, "whole numbers"),
      ({"class_dict": {n: [*range(40)] for n in _ALL}}, "more rows than"),
      ({"image_data": [sources.doubled()]}, "not an array"),
      ({"image_data": [np.zeros((9, 9, 3), np.uint8)] * 9}, "not an array"),
      ({"labels": sources.doubled()}, "labels of"),
      ({"catname2label": {_ALL[0]: sources.doubled()}}, "in catname2label"),
      ({"catname2label": {(_ALL[0],): 0}}, "got a tuple"),
      ({"catname2label": {_ALL[0]: 0}}, "each label once"),
    ],
  )
  def test_malformed_pickles(self, change, said, root, tmp_path):
    if {"image_data", "class_dict"} & set(change):
      _cache(root)
      path = root / "mini-imagenet-cache-val.pkl"
    else:
      _category_split(root)
      path = root / "miniImageNet_category_split_val.pickle"
    sources.dump(path, pickle.loads(path.read_bytes()) | change)
    message = _message(root, tmp_path)
    assert said in message
    assert path.name in message

  def test_damage(self, root, tmp_path):
    _cache(root)
    path = root / "mini-imagenet-cache-test.pkl"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in _message(root, tmp_path)

    _class_folders(tmp_path / "tree")
    cut = sources.zip_(
      tmp_path / "cut.zip", sources.contents(tmp_path / "tree")
    )
    cut.write_bytes(cut.read_bytes()[:-1000])
    assert "damaged or cut short" in _message(cut, tmp_path)
