"""CIFAR-FS and FC-100 from every form of a small CIFAR-100."""

import collections
import gzip
import io
import itertools
import os
import pathlib
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from fsl_jax import types
from fsl_jax.data import class_lists, listing, pictures
from fsl_jax.data.builders import (
  cifar100,
  cifar100_forms,
)
from fsl_jax.data.containers import tree

_PER_CLASS = {"train": 2, "test": 1}  # instead of 500 and 100
_FINE = cifar100_forms.FINE
_COARSE = cifar100_forms.COARSE
_BUILDERS = (cifar100.CifarFs, cifar100.Fc100)

Counts = collections.Counter[tuple[str, str, bytes]]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
  sizes = {part: 100 * num for part, num in _PER_CLASS.items()}
  monkeypatch.setattr(cifar100_forms, "NUM_IMAGES", sizes)


def _rows(part):
  """[n, 3074] uint8 in the official layout, in no order of classes."""
  rng = np.random.default_rng(len(part))
  fine = rng.permutation(np.repeat(np.arange(100), _PER_CLASS[part]))
  coarse = [_COARSE.index(cifar100_forms.COARSE_OF[_FINE[i]]) for i in fine]
  pixels = rng.integers(0, 256, (len(fine), 3072), dtype=np.uint8)
  labels = np.stack([coarse, fine], 1).astype(np.uint8)
  return np.concatenate([labels, pixels], 1)


def _image(row):
  """[32, 32, 3] of a row, from its three planes."""
  red, green, blue = row[2:].reshape(3, 1024)
  return np.stack([red, green, blue], 1).reshape(32, 32, 3)


def _truth():
  rows = [row for part in _PER_CLASS for row in _rows(part)]
  return collections.Counter(
    (_FINE[row[1]], _COARSE[row[0]], _image(row).tobytes()) for row in rows
  )


def _write_binary(folder):
  folder.mkdir(parents=True)
  for part in _PER_CLASS:
    (folder / f"{part}.bin").write_bytes(_rows(part).tobytes())
  for name, known in (("fine", _FINE), ("coarse", _COARSE)):
    text = "\n".join(known) + "\n"
    (folder / f"{name}_label_names.txt").write_text(text)
  return folder


class _Python2Pickler(pickle._Pickler):
  """Writes text and bytes as the one kind of string that Python 2 has."""

  dispatch: ClassVar = dict(pickle._Pickler.dispatch)

  def _save_string(self, value):
    if isinstance(value, str):
      value = value.encode("latin1")
    self.write(pickle.BINSTRING + len(value).to_bytes(4, "little") + value)
    self.memoize(value)

  dispatch[str] = dispatch[bytes] = _save_string


def _dump_as_python2(value):
  file = io.BytesIO()
  _Python2Pickler(file, 2).dump(value)
  return file.getvalue()


def _with_bytes(value):
  """As people get who load with encoding="bytes" and store it again."""
  if isinstance(value, dict):
    return {k.encode(): _with_bytes(v) for k, v in value.items()}
  if isinstance(value, list):
    return [v.encode() if isinstance(v, str) else v for v in value]
  return value


def _python_content(part):
  rows = _rows(part)
  return {
    "filenames": [f"{part}_{i}.png" for i in range(len(rows))],
    "batch_label": f"{part} batch",
    "fine_labels": rows[:, 1].tolist(),
    "coarse_labels": rows[:, 0].tolist(),
    "data": rows[:, 2:].copy(),
  }


def _write_python(folder, dump=_dump_as_python2):
  folder.mkdir(parents=True)
  for part in _PER_CLASS:
    (folder / part).write_bytes(dump(_python_content(part)))
  meta = {"fine_label_names": [*_FINE], "coarse_label_names": [*_COARSE]}
  (folder / "meta").write_bytes(dump(meta))
  return folder


def _write_tree(root, name):
  """Pictures in the folder that `name` makes of a part and a class."""
  for part in _PER_CLASS:
    for i, row in enumerate(_rows(part)):
      path = root / name(part, _FINE[row[1]]) / f"{part}_{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(_image(row)).save(path, compress_level=0)
  return root


class _Tfds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes what the builder of tensorflow-datasets writes."""

  name = "cifar100"
  VERSION = tfds.core.Version("3.0.2")

  def _info(self):
    features = {
      "id": tfds.features.Text(),
      "image": tfds.features.Image(shape=(32, 32, 3)),
      "label": tfds.features.ClassLabel(names=_FINE),
      "coarse_label": tfds.features.ClassLabel(names=_COARSE),
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    return {part: self._generate_examples(part) for part in _PER_CLASS}

  def _generate_examples(self, part):
    for i, row in enumerate(_rows(part)):
      encoded = io.BytesIO()
      Image.fromarray(_image(row)).save(encoded, "PNG", compress_level=0)
      yield (
        i,
        {
          "id": f"{part}_{i}",
          "image": encoded.getvalue(),
          "label": int(row[1]),
          "coarse_label": int(row[0]),
        },
      )


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("tfds")
  tfds.display_progress_bar(False)
  _Tfds(data_dir=root, file_format="array_record").download_and_prepare()
  tfds.display_progress_bar(True)
  return root


def _tar(folder, path):
  with tarfile.open(path, "w:gz", compresslevel=1) as archive:
    archive.add(folder, folder.name)
  return path


def _zip(folder, path):
  with zipfile.ZipFile(path, "w") as archive:
    for file in sorted(folder.rglob("*")):
      archive.write(file, file.relative_to(folder.parent))
  return path


def _find(source, scratch, builder_class=_BUILDERS[0]):
  builder = builder_class(data_dir=scratch / "data")
  builder.source = source
  builder.scratch = scratch / "scratch"
  builder.scratch.mkdir(exist_ok=True)
  return builder.find()


def _contents(found):
  """What is in each split."""
  contents = {}
  for split in listing.SPLITS:
    counts: Counts = collections.Counter()
    num_images: Mapping[str, int] = collections.Counter()
    for entry in found.entries(split):
      picture = entry.picture
      if isinstance(picture, bytes):
        picture = np.asarray(pictures.decode(picture))
      elif not isinstance(picture, np.ndarray):
        picture = np.asarray(pictures.decode(tree.read(picture)))
      assert type(picture) is np.ndarray
      assert picture.shape == (32, 32, 3)
      assert picture.dtype == np.uint8
      counts[entry.class_name, entry.group, picture.tobytes()] += 1
      num_images[entry.class_name] += 1
    assert num_images == found.num_images[split]
    contents[split] = counts
  return contents


def _refusal(source, scratch):
  with pytest.raises(types.InputError) as caught:
    _find(source, scratch)
  assert "\n" not in str(caught.value)
  return str(caught.value)


class TestClassLists:
  def test_cifar100(self):
    assert len(_FINE) == 100
    assert list(_FINE) == sorted(_FINE)
    sizes = collections.Counter(cifar100_forms.COARSE_OF.values())
    assert set(sizes.values()) == {5}
    assert set(sizes) == set(_COARSE)

  @pytest.mark.parametrize("builder_class", _BUILDERS)
  def test_splits_share_no_class(self, builder_class, tmp_path):
    splits = builder_class(data_dir=tmp_path).split_classes()
    sizes = {split: len(names) for split, names in splits.items()}
    assert sizes == builder_class.NUM_CLASSES
    assert sorted(itertools.chain(*splits.values())) == sorted(_FINE)

  def test_fc100_shares_no_super_class(self, tmp_path):
    splits = cifar100.Fc100(data_dir=tmp_path).split_classes()
    coarse = [
      {cifar100_forms.COARSE_OF[name] for name in names}
      for names in splits.values()
    ]
    assert [len(names) for names in coarse] == [12, 4, 4]
    assert len(set().union(*coarse)) == 20

  @pytest.mark.parametrize("name", ["cifar100", "cifar_fs", "fc100"])
  def test_they_tell_their_origin(self, name):
    assert len(class_lists.load(name)["origin"]) > 50


class TestForms:
  def test_binary_folder(self, tmp_path):
    folder = _write_binary(tmp_path / "a" / "b" / "cifar-100-binary")
    truth = _truth()
    for builder_class in _BUILDERS:
      found = _find(folder, tmp_path, builder_class)
      contents = _contents(found)
      assert sum(contents.values(), collections.Counter()) == truth
      sizes = {split: len(names) for split, names in found.class_names.items()}
      assert sizes == builder_class.NUM_CLASSES
      listing.check_counts(
        found,
        source="",
        num_classes=builder_class.NUM_CLASSES,
        images_per_class=3,
      )
      # A second look gives the same again, and so does one from above.
      assert _contents(found) == contents
      assert _contents(_find(tmp_path / "a", tmp_path)) == _contents(
        _find(folder, tmp_path)
      )

  def test_archives_and_python_and_prepared(self, tmp_path, tfds_dir):
    binary = _write_binary(tmp_path / "cifar-100-binary")
    python = _write_python(tmp_path / "cifar-100-python")
    expected = _contents(_find(binary, tmp_path))
    assert sum(expected.values(), collections.Counter()) == _truth()
    # Names are of the user's choice; inside a folder they must tell.
    alone = tmp_path / "alone"
    alone.mkdir()
    _tar(python, alone / "cifar-100-python.tar.gz")
    sources = {
      _tar(binary, tmp_path / "renamed"): "binary files in a tar archive",
      _zip(binary, tmp_path / "binary.zip"): "binary files in a zip archive",
      python: "Python pickles in a folder",
      _zip(python, tmp_path / "p.zip"): "Python pickles in a zip archive",
      alone: "Python pickles in a tar archive",
      tfds_dir: "prepared by tensorflow-datasets",
      tfds_dir / "cifar100" / "3.0.2": "prepared by tensorflow-datasets",
    }
    for source, form in sources.items():
      found = _find(source, tmp_path)
      assert found.form.endswith(form), source
      assert _contents(found) == expected, source

  def test_pickles_stored_again(self, tmp_path):
    expected = _contents(_find(_write_binary(tmp_path / "b"), tmp_path))

    def dump_bytes(value):
      return pickle.dumps(_with_bytes(value), 2)

    for i, dump in enumerate((pickle.dumps, dump_bytes)):
      folder = _write_python(tmp_path / f"python-{i}", dump)
      assert _contents(_find(folder, tmp_path)) == expected

  def test_trees_however_folders_are_nested_and_spelt(self, tmp_path):
    expected = _contents(_find(_write_binary(tmp_path / "b"), tmp_path))
    coarse_of = cifar100_forms.COARSE_OF
    names: list[Callable[[str, str], str]] = [
      lambda part, fine: f"{part}/{fine}",
      lambda part, fine: f"data/{fine.replace('_', ' ').title()}",
      lambda part, fine: f"CIFAR/{part}/{coarse_of[fine]}/{fine}",
    ]
    for i, name in enumerate(names):
      root = _write_tree(tmp_path / f"tree-{i}", name)
      found = _find(root, tmp_path)
      assert found.form == "class folders in a folder"
      assert _contents(found) == expected
    found = _find(_zip(root, tmp_path / "tree.zip"), tmp_path)
    assert _contents(found) == expected

  def test_a_file_of_it(self, tmp_path, monkeypatch):
    binary = _write_binary(tmp_path / "binary")
    python = _write_python(tmp_path / "python")
    expected = _find(binary, tmp_path).num_images
    monkeypatch.chdir(binary)
    for source in (
      *(binary / "train.bin", binary / "test.bin"),
      *(python / "train", python / "test", python / "meta"),
      pathlib.Path("train.bin"),
    ):
      assert _find(source, tmp_path).num_images == expected

  def test_labels_may_be_in_another_order(self, tmp_path):
    folder = _write_binary(tmp_path / "cifar")
    expected = _contents(_find(folder, tmp_path))
    for part in _PER_CLASS:
      rows = _rows(part)
      rows[:, 1] = 99 - rows[:, 1]
      (folder / f"{part}.bin").write_bytes(rows.tobytes())
    assert "labels disagree" in _refusal(folder, tmp_path)
    (folder / "fine_label_names.txt").write_text("\n".join(reversed(_FINE)))
    assert _contents(_find(folder, tmp_path)) == expected


class TestRefusals:
  def test_all_that_is_wrong_with_binary_files_is_told(self, tmp_path):
    folder = _write_binary(tmp_path / "cifar")
    (folder / "train.bin").write_bytes(_rows("train").tobytes()[:-5])
    (folder / "test.bin").unlink()
    (folder / "fine_label_names.txt").write_text(
      "\n".join(("appel", *_FINE[1:]))
    )
    message = _refusal(tmp_path, tmp_path)
    assert str(folder) in message
    assert "'appel' (did you mean 'apple'?)" in message
    assert "lacks apple" in message
    assert "614,795 bytes, expected 614,800" in message
    assert "test.bin is missing" in message

  def test_labels_out_of_range(self, tmp_path):
    folder = _write_binary(tmp_path / "cifar")
    rows = _rows("test")
    rows[7, :2] = 20, 100
    (folder / "test.bin").write_bytes(rows.tobytes())
    message = _refusal(folder, tmp_path)
    assert "test: 1 coarse labels are beyond 19, such as 20 of image 7" in (
      message
    )
    assert "test: 1 fine labels are beyond 99, such as 100 of image 7" in (
      message
    )

  def test_too_many_of_a_class(self, tmp_path):
    folder = _write_binary(tmp_path / "cifar")
    rows = _rows("test")
    rows[3, :2] = rows[4, :2]
    (folder / "test.bin").write_bytes(rows.tobytes())
    found = _find(folder, tmp_path)
    with pytest.raises(types.InputError, match=r"has [24] images.* has [24] "):
      listing.check_counts(
        found,
        source="",
        num_classes=cifar100.CifarFs.NUM_CLASSES,
        images_per_class=3,
      )

  def test_truncated_archives(self, tmp_path):
    path = _tar(_write_binary(tmp_path / "cifar"), tmp_path / "cifar100.tgz")
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 20):
      path.write_bytes(whole[:size])
      assert "cut short" in _refusal(path, tmp_path)
    # Cut before it was compressed: its last member lacks bytes.
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:100_000], 1))
    assert "cut short" in _refusal(path, tmp_path)

  def test_malicious_and_truncated_pickles(self, tmp_path):
    folder = _write_python(tmp_path / "cifar-100-python")
    whole = (folder / "train").read_bytes()
    (folder / "train").write_bytes(whole[: len(whole) // 2])
    assert str(folder / "train") in _refusal(folder, tmp_path)

    class Evil:
      def __reduce__(self):
        return os.mkdir, (str(tmp_path / "evil"),)

    (folder / "train").write_bytes(pickle.dumps({"data": Evil()}, 2))
    assert "mkdir" in _refusal(folder, tmp_path)
    assert not (tmp_path / "evil").exists()

  def test_all_that_is_wrong_with_pickles_is_told(self, tmp_path):
    folder = _write_python(tmp_path / "cifar-100-python")
    content = _python_content("train")
    content["data"] = content["data"][1:]
    content["fine_labels"][0] = 300
    (folder / "train").write_bytes(pickle.dumps(content))
    (folder / "test").write_bytes(pickle.dumps({"data": 1, "labels": []}))
    message = _refusal(folder, tmp_path)
    assert "data is [199, 3072] uint8, expected [200, 3072]" in message
    assert "fine_labels are not 200" in message
    assert "test: it holds no coarse_labels, fine_labels (CIFAR-10" in message

  def test_trees_with_other_folders(self, tmp_path):
    root = _write_tree(tmp_path / "tree", lambda part, fine: f"{part}/{fine}")
    shutil.rmtree(root / "train" / "apple")
    shutil.rmtree(root / "test" / "apple")
    (root / "test" / "wolf").rename(root / "test" / "wolfs")
    message = _refusal(root, tmp_path)
    assert "'wolfs' (did you mean 'wolf'?) (folder test/wolfs)" in message
    assert "no folder of apple" in message
    (root / "test" / "wolfs").rename(root / "test" / "apple")
    (root / "train" / "fish").mkdir()
    (root / "train" / "seal").rename(root / "train" / "fish" / "seal")
    message = _refusal(root, tmp_path)
    assert "lies below fish, seal is of aquatic_mammals" in message

  def test_prepared_files_that_are_not_whole(self, tmp_path, tfds_dir):
    where = tmp_path / "copy"
    shutil.copytree(tfds_dir / "cifar100" / "3.0.2", where)
    info = (where / "dataset_info.json").read_text()
    (where / "label.labels.txt").write_text("\n".join(reversed(_FINE)))
    assert "labels disagree" in _refusal(where, tmp_path)
    (where / "label.labels.txt").unlink()
    _find(where, tmp_path)
    (where / "dataset_info.json").write_text(
      info.replace("array_record", "tfrecord")
    )
    assert "--file_format=array_record" in _refusal(where, tmp_path)
    (where / "dataset_info.json").write_text(info)
    for file in where.glob("*test.array_record*"):
      file.write_bytes(b"")
    assert "is damaged" in _refusal(where, tmp_path)
    assert "inside an archive" in _refusal(
      _tar(where, tmp_path / "tfds.tar"), tmp_path
    )

  def test_names_that_are_no_text(self, tmp_path):
    """A few bytes that would take gigabytes to write out."""
    folder = _write_python(tmp_path / "cifar-100-python")
    names: Any = ("a",)
    for _ in range(40):
      names = (names, names)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [names]}))
    message = _refusal(folder, tmp_path)
    assert "fine_label_names of" in message
    assert "got a tuple" in message
    assert len(message) < 500
    content = _python_content("train") | {"data": names}
    (folder / "train").write_bytes(pickle.dumps(content))
    (folder / "meta").unlink()
    assert "data is a tuple, expected [200, 3072]" in _refusal(folder, tmp_path)

  def test_something_else(self, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").touch()
    assert "this is CIFAR-10" in _refusal(folder, tmp_path)
    (folder / "data_batch_1").unlink()
    assert "no CIFAR-100 was found" in _refusal(folder, tmp_path)


@pytest.mark.skipif(
  "FSL_JAX_SHARED_DATA" not in os.environ, reason="needs the real CIFAR-100"
)
def test_real(tmp_path, monkeypatch):
  monkeypatch.undo()
  folder = pathlib.Path(os.environ["FSL_JAX_SHARED_DATA"]) / "cifar100"
  _write_real(folder, tmp_path / "cifar")
  for builder_class in _BUILDERS:
    found = _find(tmp_path / "cifar", tmp_path, builder_class)
    listing.check_counts(
      found,
      source="",
      num_classes=builder_class.NUM_CLASSES,
      images_per_class=600,
    )
    total = {s: sum(of.values()) for s, of in found.num_images.items()}
    assert total == builder_class.REFERENCE_NUM_IMAGES
  num, sums, squares = 0, np.zeros(3), np.zeros(3)
  for split in listing.SPLITS:
    for entry in found.entries(split):
      if entry.id.startswith("train/"):
        pixels = entry.picture.reshape(-1, 3) / 255
        num += len(pixels)
        sums += pixels.sum(0)
        squares += (pixels**2).sum(0)
  assert num == 50_000 * 1024
  mean = sums / num
  std = np.sqrt(squares / num - mean**2)
  assert mean == pytest.approx([0.5071, 0.4865, 0.4409], abs=6e-5)
  assert std == pytest.approx([0.2673, 0.2564, 0.2762], abs=6e-5)


def _write_real(folder, target):
  """Rows of the real images, whose labels are numbered by other names."""
  target.mkdir()
  for part in _PER_CLASS:
    with open(target / f"{part}.bin", "wb") as out:
      for path in sorted(folder.glob(f"{part}*.npz")):
        with np.load(path) as arrays:
          data, offsets = arrays["data"], arrays["offsets"]
          labels = arrays["fine_label"]
          names = [str(name) for name in arrays["fine_names"]]
        for i, label in enumerate(labels):
          encoded = data[offsets[i] : offsets[i + 1]].tobytes()
          image = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
          fine = _FINE.index(names[label])
          coarse = _COARSE.index(cifar100_forms.COARSE_OF[_FINE[fine]])
          out.write(bytes([coarse, fine]) + image.transpose(2, 0, 1).tobytes())
