"""Mini-ImageNet in every form that people have, at toy size."""

import csv
import io
import os
import pathlib
import pickle
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import mini_imagenet
from fsl_jax.data.containers import archives

_PER_CLASS = 3
_CLASSES = mini_imagenet.classes()
_NAMES = {"base": "train", "val": "val", "novel": "test"}
_ALL = [name for names in _CLASSES.values() for name in names]

Maker = Callable[[pathlib.Path], None]


def _pixels(wnid, number):
  """[4, 4, 3] uint8 that no other image has."""
  image = np.zeros((4, 4, 3), np.uint8)
  image[0, 0] = [_ALL.index(wnid), number, 200]
  return image


def _png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  return file.getvalue()


def _write(path, data):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(data)


def _class_folders(root):
  for split, names in _CLASSES.items():
    for wnid in names:
      for number in range(_PER_CLASS):
        path = root / _NAMES[split] / wnid / f"{wnid}{number:08}.png"
        _write(path, _png(_pixels(wnid, number)))
    (root / _NAMES[split] / ".DS_Store").write_bytes(b"x")
    (root / _NAMES[split] / names[0] / "notes.txt").write_bytes(b"x")


def _flat_class_folders(root):
  _class_folders(root)
  for split in _NAMES.values():
    for folder in (root / split).glob("n*"):
      folder.rename(root / folder.name)
    shutil.rmtree(root / split)


def _csv_files(root):
  for split, names in _CLASSES.items():
    with open(root / f"{_NAMES[split]}.csv", "w", newline="") as file:
      writer = csv.writer(file)
      writer.writerow(["filename", "label"])
      for wnid in names:
        for number in range(_PER_CLASS):
          writer.writerow([f"{wnid}{number:08}.png", wnid])
          path = root / "images" / f"{wnid}{number:08}.png"
          _write(path, _png(_pixels(wnid, number)))
        # One that the files do not name.
        _write(root / "images" / f"{wnid}00000999.png", b"")


def _csv_with_class_folders(root):
  _csv_files(root)
  for path in list((root / "images").iterdir()):
    # By itself the folder is complete, and then has no others.
    if path.stat().st_size:
      _write(root / "images" / path.name[:9] / path.name, path.read_bytes())
    path.unlink()


def _split_arrays(split):
  names = [name for name in _CLASSES[split] for _ in range(_PER_CLASS)]
  images = [_pixels(n, i % _PER_CLASS) for i, n in enumerate(names)]
  # Rows of a class need not lie together.
  order = np.random.default_rng(0).permutation(len(names))
  return np.stack(images)[order], [names[i] for i in order]


def _cache(root):
  for split, base in _NAMES.items():
    images, names = _split_arrays(split)
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
      rows.setdefault(name, []).append(row)
    content = {"image_data": images, "class_dict": rows}
    _write(root / f"mini-imagenet-cache-{base}.pkl", pickle.dumps(content))
  _write(root / "mini-imagenet-labelsplit-train-22.pkl", pickle.dumps(rows))


def _category_split(root, *, keys=str):
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
    phase = "train_phase_train" if split == "base" else split
    phase = {"novel": "test"}.get(phase, phase)
    data = pickle.dumps(content, 2)
    _write(root / f"miniImageNet_category_split_{phase}.pickle", data)
    if split == "base":  # Other images of the same classes.
      for other in ("val", "test"):
        name = f"miniImageNet_category_split_train_phase_{other}.pickle"
        _write(root / name, data)


def _doubled():
  """A few bytes in a pickle, gigabytes when written out."""
  value: tuple = (0,)
  for _ in range(60):
    value = (value, value)
  return value


_FORMS: dict[str, Maker] = {
  "class folders below splits": _class_folders,
  "class folders": _flat_class_folders,
  "CSV files": _csv_files,
  "CSV files with class folders": _csv_with_class_folders,
  "cache": _cache,
  "category split": _category_split,
  "category split, keys in bytes": lambda root: _category_split(
    root, keys=bytes
  ),
}


def _find(source, tmp_path):
  scratch = tmp_path / "scratch"
  scratch.mkdir(exist_ok=True)
  builder = mini_imagenet.MiniImagenet(data_dir=tmp_path / "data")
  builder.source, builder.scratch = source, scratch
  return builder.find()


def _message(source, tmp_path):
  with pytest.raises(types.InputError) as caught:
    _find(source, tmp_path)
  return str(caught.value)


def _check(found):
  """Every image is there, once, as its own class, whatever the form."""
  assert found.class_names == _CLASSES
  listing.check_counts(
    found,
    source="",
    num_classes=mini_imagenet.MiniImagenet.NUM_CLASSES,
    images_per_class=_PER_CLASS,
  )
  for split, names in _CLASSES.items():
    expected = {(n, i) for n in names for i in range(_PER_CLASS)}
    ids = set()
    for entry in found.entries(split):
      picture = entry.picture
      if isinstance(picture, listing.FileRange | listing.ZipMember):
        picture = np.asarray(Image.open(io.BytesIO(archives.read(picture))))
      index, number, _ = picture[0, 0]
      assert _ALL[index] == entry.class_name
      expected.remove((entry.class_name, number))
      ids.add(entry.id)
    assert not expected
    assert len(ids) == len(names) * _PER_CLASS


@pytest.fixture(scope="module", params=_FORMS)
def source(request, tmp_path_factory):
  root = tmp_path_factory.mktemp("source") / "mini-imagenet"
  root.mkdir()
  _FORMS[request.param](root)
  return root


class TestForms:
  def test_folder(self, source, tmp_path):
    found = _find(source, tmp_path)
    _check(found)
    # Each call begins anew.
    assert next(found.entries("val")).id == next(found.entries("val")).id

  def test_parent(self, source, tmp_path):
    _check(_find(source.parent, tmp_path))

  @pytest.mark.parametrize("kind", ["tar", "gztar", "zip"])
  def test_archive(self, source, kind, tmp_path):
    path = shutil.make_archive(
      str(tmp_path / "mini"), kind, source.parent, source.name
    )
    _check(_find(pathlib.Path(path), tmp_path))

  def test_folder_with_the_archive(self, source, tmp_path):
    place = tmp_path / "downloads"
    shutil.make_archive(str(place / "mini-imagenet"), "tar", source)
    _check(_find(place, tmp_path))

  def test_part(self, source, tmp_path):
    parts = [*source.glob("images"), *source.glob("t*"), *source.glob("*.pkl")]
    for part in parts:
      if part.is_dir() or part.suffix in (".pkl", ".csv"):
        _check(_find(part, tmp_path))


class TestListDecides:
  def test_exchanged_splits(self, tmp_path):
    """A program by others wrote val into test and the reverse."""
    root = tmp_path / "mini"
    root.mkdir()
    _cache(root)
    names = [
      root / f"mini-imagenet-cache-{x}.pkl" for x in ("val", "test", "x")
    ]
    names[0].rename(names[2])
    names[1].rename(names[0])
    names[2].rename(names[1])
    _check(_find(root, tmp_path))

  def test_other_classes_are_left_out(self, tmp_path):
    root = tmp_path / "mini"
    _class_folders(root)
    _write(root / "train" / "n00000001" / "a.png", _png(_pixels(_ALL[0], 0)))
    _check(_find(root, tmp_path))

  def test_both_kinds_of_pickles(self, tmp_path):
    root = tmp_path / "mini"
    _cache(root)
    _category_split(root)
    _check(_find(root, tmp_path))

  def test_foreign_pickle_beside_folders(self, tmp_path):
    root = tmp_path / "mini"
    _class_folders(root)
    _write(root / "model.pkl", pickle.dumps(os.system))
    _check(_find(root, tmp_path))

  def test_lists(self):
    sizes = {split: len(names) for split, names in _CLASSES.items()}
    assert sizes == mini_imagenet.MiniImagenet.NUM_CLASSES
    assert len(set(_ALL)) == 100

  def test_lists_are_those_published(self):
    shared = os.environ.get("FSL_JAX_SHARED_DATA")
    if not shared:
      pytest.skip("FSL_JAX_SHARED_DATA is not set")
    import json

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

  def test_missing_classes(self, tmp_path):
    _class_folders(tmp_path / "mini")
    missing = [_ALL[0], _ALL[70], _ALL[99]]
    for wnid in missing:
      for folder in (tmp_path / "mini").glob(f"*/{wnid}"):
        shutil.rmtree(folder)
    message = _message(tmp_path / "mini", tmp_path)
    assert "97 of the 100 classes" in message
    assert all(wnid in message for wnid in missing)

  def test_one_split(self, tmp_path):
    _class_folders(tmp_path / "mini")
    for split in ("val", "test"):
      shutil.rmtree(tmp_path / "mini" / split)
    message = _message(tmp_path / "mini" / "train", tmp_path)
    assert "only classes of base" in message

  def test_list_of_vinyals(self, tmp_path):
    lists = class_lists.load("mini_imagenet")["vinyals"]
    for split, base in _NAMES.items():
      for wnid in lists[split]:
        _write(tmp_path / "mini" / base / wnid / "a.png", b"x")
    assert "Vinyals" in _message(tmp_path / "mini", tmp_path)

  def test_all_of_imagenet(self, tmp_path):
    _class_folders(tmp_path / "mini")
    for number in range(1300):
      _write(tmp_path / "mini" / "train" / _ALL[0] / f"{number}.JPEG", b"x")
    assert "all of ImageNet" in _message(tmp_path / "mini", tmp_path)

  def test_pictures_that_csv_files_name(self, tmp_path):
    root = tmp_path / "mini"
    root.mkdir()
    _csv_files(root)
    gone = [f"{_ALL[3]}00000001.png", f"{_ALL[90]}00000002.png"]
    for name in gone:
      (root / "images" / name).unlink()
    message = _message(root, tmp_path)
    assert "2 are not there" in message
    assert all(name in message for name in gone)

  def test_labels_without_names(self, tmp_path):
    """Then the classes cannot be known, and so not their splits either."""
    root = tmp_path / "mini"
    _category_split(root)
    for path in root.iterdir():
      content = pickle.loads(path.read_bytes())
      del content["catname2label"]
      path.write_bytes(pickle.dumps(content))
    message = _message(root, tmp_path)
    assert message.count("catname2label") == 3  # One for each file.

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      ({"image_data": np.zeros((9, 3, 84, 84), np.uint8)}, "[9, 3, 84, 84]"),
      ({"image_data": np.zeros((9, 84, 84, 3))}, "float64"),
      ({"image_data": None}, "no array"),
      ({"class_dict": {_ALL[0]: [0, 99999]}}, "99999"),
      ({"class_dict": {_ALL[0]: [-1]}}, "-1"),
      ({"class_dict": {_ALL[0]: ["a"]}}, "whole numbers"),
      ({"class_dict": [1]}, "no dict"),
      ({"class_dict": os.system}, "system"),
      ({"class_dict": {(_ALL[0],): [0]}}, "got a tuple"),
      ({"class_dict": {10**5000: [0]}}, "got a int"),
      ({"class_dict": {_ALL[0]: _doubled()}}, "whole numbers"),
      ({"class_dict": {n: [*range(40)] for n in _ALL}}, "more rows than"),
      ({"image_data": [_doubled()]}, "no array"),
      ({"image_data": [np.zeros((9, 9, 3), np.uint8)] * 9}, "no array"),
    ],
  )
  def test_malformed_pickles(self, change, said, tmp_path):
    root = tmp_path / "mini"
    _cache(root)
    path = root / "mini-imagenet-cache-val.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | change))
    message = _message(root, tmp_path)
    assert said in message
    assert path.name in message

  @pytest.mark.parametrize(
    ("change", "said"),
    [
      ({"labels": _doubled()}, "labels of"),
      ({"catname2label": {_ALL[0]: _doubled()}}, "labels in catname2label"),
      ({"catname2label": {(_ALL[0],): 0}}, "got a tuple"),
      ({"catname2label": {_ALL[0]: 0}}, "each label once"),
    ],
  )
  def test_malformed_labels(self, change, said, tmp_path):
    root = tmp_path / "mini"
    _category_split(root)
    path = root / "miniImageNet_category_split_val.pickle"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | change))
    message = _message(root, tmp_path)
    assert said in message
    assert path.name in message

  def test_images_in_a_list(self, tmp_path):
    root = tmp_path / "mini"
    _cache(root)
    for path in root.glob("*cache*"):
      content = pickle.loads(path.read_bytes())
      content["image_data"] = list(content["image_data"])
      path.write_bytes(pickle.dumps(content))
    _check(_find(root, tmp_path))

  def test_damage(self, tmp_path):
    root = tmp_path / "mini"
    _cache(root)
    path = root / "mini-imagenet-cache-test.pkl"
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in _message(root, tmp_path)

    _class_folders(tmp_path / "tree")
    whole = shutil.make_archive(
      str(tmp_path / "mini"), "zip", tmp_path / "tree"
    )
    cut = tmp_path / "cut.zip"
    cut.write_bytes(pathlib.Path(whole).read_bytes()[:-1000])
    assert "damaged or cut short" in _message(cut, tmp_path)
