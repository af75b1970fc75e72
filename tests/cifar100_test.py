"""CIFAR-FS and FC-100 from every form of a small CIFAR-100."""

import collections
import functools
import gzip
import io
import itertools
import os
import pathlib
import pickle
import shutil
from typing import Any, ClassVar

import numpy as np
import pytest
import sources
import tensorflow_datasets as tfds
from PIL import Image

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.builders import cifar100, cifar100_forms

_PER_CLASS = {"train": 2, "test": 1}  # instead of 500 and 100
_FINE, _COARSE = cifar100_forms.FINE, cifar100_forms.COARSE
_COARSE_OF = cifar100_forms.COARSE_OF
_BUILDERS = (cifar100.CifarFs, cifar100.Fc100)
_find = functools.partial(sources.find, cifar100.CifarFs)
_refusal = functools.partial(sources.refusal, cifar100.CifarFs)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
  sizes = {part: 100 * num for part, num in _PER_CLASS.items()}
  monkeypatch.setattr(cifar100_forms, "NUM_IMAGES", sizes)


def _rows(part):
  """[n, 3074] uint8 in the official layout, in no order of classes."""
  rng = np.random.default_rng(len(part))
  fine = rng.permutation(np.repeat(np.arange(100), _PER_CLASS[part]))
  coarse = [_COARSE.index(_COARSE_OF[_FINE[i]]) for i in fine]
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
  files = {f"{part}.bin": _rows(part).tobytes() for part in _PER_CLASS}
  for name, known in (("fine", _FINE), ("coarse", _COARSE)):
    files[f"{name}_label_names.txt"] = "\n".join(known) + "\n"
  return sources.write(folder, files)


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
  """As loaded with encoding="bytes" and stored again."""
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
  meta = {"fine_label_names": [*_FINE], "coarse_label_names": [*_COARSE]}
  files = {part: dump(_python_content(part)) for part in _PER_CLASS}
  return sources.write(folder, files | {"meta": dump(meta)})


def _write_tree(root, name):
  """Images in the folder that `name` makes of a part and a class."""
  files = {
    f"{name(part, _FINE[row[1]])}/{part}_{i}.png": sources.png(_image(row))
    for part in _PER_CLASS
    for i, row in enumerate(_rows(part))
  }
  return sources.write(root, files)


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
      example = {
        "id": f"{part}_{i}",
        "image": sources.png(_image(row)),
        "label": int(row[1]),
        "coarse_label": int(row[0]),
      }
      yield i, example


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("tfds")
  tfds.display_progress_bar(False)
  _Tfds(data_dir=root, file_format="array_record").download_and_prepare()
  tfds.display_progress_bar(True)
  return root


@pytest.fixture
def binary(tmp_path):
  return _write_binary(tmp_path / "a" / "b" / "cifar-100-binary")


@pytest.fixture
def python(tmp_path):
  return _write_python(tmp_path / "cifar-100-python")


@pytest.fixture
def expected(tmp_path):
  """Images by split."""
  binary = _write_binary(tmp_path / "expected")
  return _contents(_find(binary, tmp_path))


def _contents(found):
  """What is in each split."""
  contents = {}
  for split in listing.SPLITS:
    counts: Any = collections.Counter()
    num_images: Any = collections.Counter()
    for entry in found.entries(split):
      pixels = sources.pixels(entry.picture)
      assert type(pixels) is np.ndarray
      assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
      counts[entry.class_name, entry.group, pixels.tobytes()] += 1
      num_images[entry.class_name] += 1
    assert num_images == found.num_images[split]
    contents[split] = counts
  return contents


class TestClassLists:
  def test_cifar100(self):
    assert len(_FINE) == 100
    assert list(_FINE) == sorted(_FINE)
    sizes = collections.Counter(_COARSE_OF.values())
    assert set(sizes.values()) == {5}
    assert set(sizes) == set(_COARSE)

  @pytest.mark.parametrize("builder_class", _BUILDERS)
  def test_splits_share_no_class(self, builder_class, tmp_path):
    splits = builder_class(data_dir=tmp_path).split_classes()
    sizes = {split: len(names) for split, names in splits.items()}
    assert sizes == builder_class.NUM_CLASSES
    assert sorted(itertools.chain(*splits.values())) == sorted(_FINE)

  def test_fc100_shares_no_superclass(self, tmp_path):
    splits = cifar100.Fc100(data_dir=tmp_path).split_classes()
    coarse = [{_COARSE_OF[n] for n in names} for names in splits.values()]
    assert [len(names) for names in coarse] == [12, 4, 4]
    assert len(set().union(*coarse)) == 20

  @pytest.mark.parametrize("name", ["cifar100", "cifar_fs", "fc100"])
  def test_they_name_their_origin(self, name):
    assert len(class_lists.load(name)["origin"]) > 50


class TestForms:
  @pytest.mark.parametrize("builder_class", _BUILDERS)
  def test_binary_folder(self, builder_class, binary, tmp_path):
    found = sources.find(builder_class, binary, tmp_path)
    contents = _contents(found)
    assert sum(contents.values(), collections.Counter()) == _truth()
    listing.check_counts(
      found,
      source="",
      num_classes=builder_class.NUM_CLASSES,
      images_per_class=3,
    )
    # A second pass gives the same, and so does a folder above.
    assert _contents(found) == contents
    above = sources.find(builder_class, tmp_path / "a", tmp_path)
    assert _contents(above) == contents

  def test_archives_and_python_and_prepared(
    self, binary, python, expected, tmp_path, tfds_dir
  ):
    in_binary = sources.contents(binary, "cifar-100-binary/")
    in_python = sources.contents(python, "cifar-100-python/")
    # Names are of the user's choice, except within a folder.
    alone = sources.write(tmp_path / "alone", {})
    sources.tar(alone / "cifar-100-python.tar.gz", in_python)
    renamed = sources.tar(tmp_path / "x.tgz", in_binary).rename(tmp_path / "x")
    for source, form in {
      renamed: "binary files in a tar archive",
      sources.zip_(tmp_path / "b.zip", in_binary): (
        "binary files in a zip archive"
      ),
      python: "Python pickles in a folder",
      sources.zip_(tmp_path / "p.zip", in_python): (
        "Python pickles in a zip archive"
      ),
      alone: "Python pickles in a tar archive",
      tfds_dir: "prepared by tensorflow-datasets",
      tfds_dir / "cifar100" / "3.0.2": "prepared by tensorflow-datasets",
    }.items():
      found = _find(source, tmp_path)
      assert found.form.endswith(form), source
      assert _contents(found) == expected, source

  @pytest.mark.parametrize(
    "dump", [pickle.dumps, lambda value: pickle.dumps(_with_bytes(value), 2)]
  )
  def test_pickles_stored_again(self, dump, expected, tmp_path):
    folder = _write_python(tmp_path / "python", dump)
    assert _contents(_find(folder, tmp_path)) == expected

  @pytest.mark.parametrize(
    "name",
    [
      lambda part, fine: f"{part}/{fine}",
      lambda part, fine: f"data/{fine.replace('_', ' ').title()}",
      lambda part, fine: f"CIFAR/{part}/{_COARSE_OF[fine]}/{fine}",
    ],
  )
  def test_trees_however_folders_are_nested_and_spelt(
    self, name, expected, tmp_path
  ):
    root = _write_tree(tmp_path / "tree", name)
    archive = sources.zip_(tmp_path / "tree.zip", sources.contents(root))
    for source, kind in ((root, "folder"), (archive, "zip archive")):
      found = _find(source, tmp_path)
      assert found.form == f"class folders in a {kind}"
      assert _contents(found) == expected

  def test_a_file_of_it(self, binary, python, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(binary)
    for source in (
      *(binary / "train.bin", binary / "test.bin"),
      *(python / "train", python / "test", python / "meta"),
      pathlib.Path("train.bin"),
    ):
      assert _contents(_find(source, tmp_path)) == expected

  def test_labels_may_be_in_another_order(self, binary, expected, tmp_path):
    for part in _PER_CLASS:
      rows = _rows(part)
      rows[:, 1] = 99 - rows[:, 1]
      (binary / f"{part}.bin").write_bytes(rows.tobytes())
    assert "labels disagree" in _refusal(binary, tmp_path)
    (binary / "fine_label_names.txt").write_text("\n".join(reversed(_FINE)))
    assert _contents(_find(binary, tmp_path)) == expected


class TestRefusals:
  def test_all_that_is_wrong_with_binary_files_is_named(self, binary, tmp_path):
    (binary / "train.bin").write_bytes(_rows("train").tobytes()[:-5])
    (binary / "test.bin").unlink()
    names = binary / "fine_label_names.txt"
    names.write_text("\n".join(("appel", *_FINE[1:])))
    message = _refusal(tmp_path, tmp_path)
    assert str(binary) in message
    assert "'appel' (did you mean 'apple'?)" in message
    assert "lacks apple" in message
    assert "614,795 bytes, expected 614,800" in message
    assert "test.bin is missing" in message

  def test_labels_out_of_range(self, binary, tmp_path):
    rows = _rows("test")
    rows[7, :2] = 20, 100
    (binary / "test.bin").write_bytes(rows.tobytes())
    message = _refusal(binary, tmp_path)
    for kind, most in (("coarse", 19), ("fine", 99)):
      assert (
        f"test: 1 {kind} labels are beyond {most}, such as {most + 1} of "
        "image 7"
      ) in message

  def test_too_many_of_a_class(self, binary, tmp_path):
    rows = _rows("test")
    rows[3, :2] = rows[4, :2]
    (binary / "test.bin").write_bytes(rows.tobytes())
    found = _find(binary, tmp_path)
    with pytest.raises(types.InputError, match=r"has [24] images.* has [24] "):
      listing.check_counts(
        found,
        source="",
        num_classes=cifar100.CifarFs.NUM_CLASSES,
        images_per_class=3,
      )

  def test_truncated_archives(self, binary, tmp_path):
    path = sources.tar(tmp_path / "cifar100.tgz", sources.contents(binary))
    whole = path.read_bytes()
    for size in (len(whole) // 2, len(whole) - 20):
      path.write_bytes(whole[:size])
      assert "cut short" in _refusal(path, tmp_path)
    # Cut before it was compressed: its last member lacks bytes.
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:100_000], 1))
    assert "cut short" in _refusal(path, tmp_path)

  def test_malicious_and_truncated_pickles(self, python, tmp_path):
    whole = (python / "train").read_bytes()
    (python / "train").write_bytes(whole[: len(whole) // 2])
    assert str(python / "train") in _refusal(python, tmp_path)

    class Evil:
      def __reduce__(self):
        return os.mkdir, (str(tmp_path / "evil"),)

    sources.dump(python / "train", {"data": Evil()})
    assert "mkdir" in _refusal(python, tmp_path)
    assert not (tmp_path / "evil").exists()

  def test_all_that_is_wrong_with_pickles_is_named(self, python, tmp_path):
    content = _python_content("train")
    content["data"] = content["data"][1:]
    content["fine_labels"][0] = 300
    sources.dump(python / "train", content)
    sources.dump(python / "test", {"data": 1, "labels": []})
    message = _refusal(python, tmp_path)
    assert "data is [199, 3072] uint8, expected [200, 3072]" in message
    assert "fine_labels are not 200" in message
    assert "test: it holds no coarse_labels, fine_labels (CIFAR-10" in message

  def test_names_that_are_no_text(self, python, tmp_path):
    """A few bytes that would take gigabytes to write out."""
    names = sources.doubled(40)
    sources.dump(python / "meta", {"fine_label_names": [names]})
    message = _refusal(python, tmp_path)
    assert "fine_label_names of" in message
    assert "got a tuple" in message
    assert len(message) < 500
    sources.dump(python / "train", _python_content("train") | {"data": names})
    (python / "meta").unlink()
    assert "data is a tuple, expected [200, 3072]" in _refusal(python, tmp_path)

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

  def test_prepared_files_that_are_incomplete(self, tmp_path, tfds_dir):
    where = tmp_path / "copy"
    shutil.copytree(tfds_dir / "cifar100" / "3.0.2", where)
    info = where / "dataset_info.json"
    text = info.read_text()
    (where / "label.labels.txt").write_text("\n".join(reversed(_FINE)))
    assert "labels disagree" in _refusal(where, tmp_path)
    (where / "label.labels.txt").unlink()
    _find(where, tmp_path)
    info.write_text(text.replace("array_record", "tfrecord"))
    assert "--file_format=array_record" in _refusal(where, tmp_path)
    info.write_text(text)
    for file in where.glob("*test.array_record*"):
      file.write_bytes(b"")
    assert "is damaged" in _refusal(where, tmp_path)
    archive = sources.tar(tmp_path / "tfds.tar", sources.contents(where))
    assert "inside an archive" in _refusal(archive, tmp_path)

  def test_something_else(self, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    sources.write(folder, {"data_batch_1": b""})
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
    found = sources.find(builder_class, tmp_path / "cifar", tmp_path)
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
          coarse = _COARSE.index(_COARSE_OF[_FINE[fine]])
          out.write(bytes([coarse, fine]) + image.transpose(2, 0, 1).tobytes())
