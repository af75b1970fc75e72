"""A folder of class folders: which classes there are, and their split."""

import json
import pathlib
import tarfile
import unicodedata
import zipfile
from typing import Any

import pytest

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.builders import class_split, image_folder
from fsl_jax.data.containers import tree

_NAMES = [f"class {i:02d}" for i in range(20)]


def _write(root: pathlib.Path, names: list[str]) -> pathlib.Path:
  """Files whose bytes are their names; no picture is decoded here."""
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
  return root


def _classes(names: list[str], count: int = 2) -> list[str]:
  return [f"{name}/{i}.jpg" for name in names for i in range(count)]


def _find(
  source: pathlib.Path, tmp_path: pathlib.Path, **options: Any
) -> listing.Listing:
  builder = image_folder.ImageFolder(data_dir=tmp_path / "made")
  builder.source = source
  builder.options = options
  builder.scratch = tmp_path / "scratch"
  builder.scratch.mkdir(exist_ok=True)
  return builder.find()


def _refusal(source: pathlib.Path, tmp_path: pathlib.Path, **options) -> str:
  with pytest.raises(types.InputError) as caught:
    _find(source, tmp_path, **options)
  assert "\n" not in str(caught.value)
  return str(caught.value)


class TestClasses:
  def test_pictures_at_any_depth_and_of_any_spelling(
    self, tmp_path: pathlib.Path
  ) -> None:
    pictures = ["a/1.jpg", "a/x/y/2.JPEG", "a/1.png", "b/é ü.WebP", "b/z.tif"]
    others = ["a/notes.txt", "a/Thumbs.db", "b/LICENSE", "b/.hidden.png"]
    others += ["readme.md", "labels.csv", "unknown.xyz"]
    found = _find(_write(tmp_path / "source", pictures + others), tmp_path)
    assert found.num_images["novel"] == {"a": 3, "b": 2}
    entries = list(found.entries("novel"))
    assert sorted(entry.id for entry in entries) == sorted(pictures)
    for entry in entries:
      assert tree.read(entry.picture).decode() == entry.id
      assert entry.id.startswith(f"{entry.class_name}/")
    assert list(found.entries("novel")) == entries

  @pytest.mark.parametrize("wrapped", ["", "flowers/", "data/flowers/"])
  @pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar inside"])
  def test_archives_and_single_folders_are_gone_into(
    self, kind: str, wrapped: str, tmp_path: pathlib.Path
  ) -> None:
    files = _classes(["cat", "dog", "owl"])
    source = tmp_path / "source"
    _write(source, [wrapped + name for name in files])
    expected = _find(source, tmp_path)
    if kind == "zip":
      with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in files:
          archive.write(source / (wrapped + name), wrapped + name)
      source = tmp_path / "a.zip"
    elif kind.startswith("tar"):
      (tmp_path / "outer").mkdir()
      with tarfile.open(tmp_path / "outer" / "a.tgz", "w:gz") as tar:
        tar.add(source, ".")
      source = tmp_path / "outer"
      source = source if "inside" in kind else source / "a.tgz"
    found = _find(source, tmp_path)
    assert found.num_images == expected.num_images
    assert found.num_pictures == len(files)
    assert set().union(*found.num_images.values()) == {"cat", "dog", "owl"}

  def test_names_are_composed(self, tmp_path: pathlib.Path) -> None:
    apart = unicodedata.normalize("NFD", "Käfer")
    found = _find(_write(tmp_path / "source", _classes([apart, "b"])), tmp_path)
    assert list(found.num_images["novel"]) == ["Käfer", "b"]
    assert len(list(found.entries("novel"))) == 4

  def test_clashes_of_names(self, tmp_path: pathlib.Path) -> None:
    names = ["Käfer", unicodedata.normalize("NFD", "Käfer"), "Cat", "cat"]
    source = _write(tmp_path / "source", _classes(names))
    if len(list(source.iterdir())) < len(names):
      pytest.skip("the file system takes some of the names for the same")
    message = _refusal(source, tmp_path)
    assert "'Cat' and 'cat' differ only in case" in message
    assert r"'Ka\u0308fer' and 'K\xe4fer' differ only in case" in message

  def test_all_that_is_wrong_is_named(self, tmp_path: pathlib.Path) -> None:
    files = [*_classes(["a", "b"]), "c/notes.txt", "a/x.heic", "b/x/without"]
    message = _refusal(_write(tmp_path / "source", files), tmp_path)
    assert "the class folder c has no picture" in message
    assert "a/x.heic may or may not be a picture" in message
    assert "b/x/without may or may not be a picture" in message

  def test_pictures_without_class_folders(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", ["1.jpg", "2.jpg"])
    message = _refusal(source, tmp_path)
    assert "has no class folders" in message
    assert "expected one folder per class" in message

  def test_pictures_beside_class_folders_are_told(
    self, tmp_path: pathlib.Path
  ) -> None:
    source = _write(tmp_path / "source", [*_classes(["a", "b"]), "1.jpg"])
    assert "1 pictures beside" in _find(source, tmp_path).form

  def test_a_single_class(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", _classes(["a"]))
    assert "has 1 class (a), expected at least 2" in _refusal(source, tmp_path)

  def test_an_endless_link(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", ["a.txt"])
    (source / "self").symlink_to(source)
    assert "no picture" in _refusal(source, tmp_path)


class TestSplitFolders:
  @pytest.mark.parametrize(
    "folders",
    [
      ("base", "val", "novel"),
      ("train", "val", "test"),
      ("Training", "validation", "Testing"),
      ("meta-train", "meta-val", "meta-test"),
      ("metatrain", "meta_valid", "metatest"),
    ],
  )
  def test_are_the_splits(
    self, folders: tuple[str, str, str], tmp_path: pathlib.Path
  ) -> None:
    files = [
      f"{folder}/{split}{i}/1.jpg"
      for folder, split in zip(folders, listing.SPLITS, strict=True)
      for i in range(2)
    ]
    found = _find(_write(tmp_path / "source", files), tmp_path)
    assert found.class_names == {s: (f"{s}0", f"{s}1") for s in listing.SPLITS}
    ids = {e.id for split in listing.SPLITS for e in found.entries(split)}
    assert ids == set(files)

  def test_base_or_val_may_be_missing(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", ["train/a/1.jpg", "test/b/1.jpg"])
    assert _find(source, tmp_path).class_names == {
      "base": ("a",),
      "val": (),
      "novel": ("b",),
    }

  def test_one_alone_is_a_class(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", _classes(["train", "bus"]))
    assert _find(source, tmp_path).class_names["novel"] == ("bus", "train")

  @pytest.mark.parametrize(
    ("files", "message"),
    [
      (
        ["train/a/1.jpg", "val/a/1.jpg", "test/b/1.jpg"],
        r"the class of train/a is also in val/a",
      ),
      (["train/a/1.jpg", "test/1.jpg"], r"test has no class folders"),
      (["train/a/1.jpg", "val/b/1.jpg"], r"no novel (test) classes"),
      (["train/a/1.jpg", "base/b/1.jpg"], r"stand for the same split"),
      (["train/a/1.jpg", "test/b/1.jpg", "x/1.jpg"], r"beside others (x)"),
    ],
  )
  def test_wrong_ones(
    self, files: list[str], message: str, tmp_path: pathlib.Path
  ) -> None:
    assert message in _refusal(_write(tmp_path / "source", files), tmp_path)

  def test_admit_no_other_choice(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", ["train/a/1.jpg", "test/b/1.jpg"])
    assert "so seed cannot be given" in _refusal(source, tmp_path, seed=1)


class TestSeededSplit:
  def test_does_not_change(self) -> None:
    # Prepared data sets of users rest on it.
    assert class_split.seeded([f"c{i}" for i in range(10)]) == {
      "base": ["c0", "c1", "c3", "c6", "c7", "c8"],
      "val": ["c4", "c5"],
      "novel": ["c2", "c9"],
    }

  @pytest.mark.parametrize("n", range(3, 40))
  @pytest.mark.parametrize(("val", "novel"), [(0.15, 0.2), (0.01, 0.98)])
  def test_every_split_has_classes(
    self, n: int, val: float, novel: float
  ) -> None:
    names = [f"c{i:02d}" for i in range(n)]
    split = class_split.seeded(names, val_share=val, novel_share=novel)
    joined = [name for members in split.values() for name in members]
    assert sorted(joined) == names
    assert all(members == sorted(members) for members in split.values())
    assert all(split.values())
    assert n < 4 or len(split["novel"]) >= 2

  def test_sizes_are_the_shares(self) -> None:
    names = [f"c{i:03d}" for i in range(200)]
    split = class_split.seeded(names)
    assert {s: len(m) for s, m in split.items()} == {
      "base": 130,
      "val": 30,
      "novel": 40,
    }

  def test_depends_on_the_seed_and_not_on_the_order(self) -> None:
    splits = [class_split.seeded(_NAMES, seed=seed) for seed in range(5)]
    assert len({str(split) for split in splits}) == 5
    assert class_split.seeded(_NAMES[::-1]) == splits[0]

  def test_a_class_less_moves_few(self) -> None:
    names = [f"c{i:03d}" for i in range(200)]
    novel = set(class_split.seeded(names)["novel"])
    fewer = set(class_split.seeded(names[1:])["novel"])
    assert len(novel ^ fewer) <= 2

  @pytest.mark.parametrize("n", [2, 3, 5])
  def test_all_classes_may_be_novel(self, n: int) -> None:
    expected = {"base": [], "val": [], "novel": _NAMES[:n]}
    assert class_split.seeded(_NAMES[:n], novel_share=1) == expected

  def test_two_classes_are_novel(self) -> None:
    assert class_split.seeded(["a", "b"])["novel"] == ["a", "b"]

  def test_val_shrinks_as_novel_grows(self) -> None:
    split = class_split.seeded(_NAMES, novel_share=0.6)
    assert [len(split[s]) for s in listing.SPLITS] == [6, 2, 12]

  def test_val_may_be_empty(self) -> None:
    split = class_split.seeded(_NAMES, val_share=0)
    assert not split["val"]
    assert len(split["novel"]) == 4
    assert not class_split.seeded(_NAMES, val_share=0.5, novel_share=0.5)[
      "base"
    ]

  @pytest.mark.parametrize(
    ("options", "message"),
    [
      ({"novel_share": 0}, "novel_share must be above 0"),
      ({"novel_share": 1.5}, "novel_share must be above 0"),
      ({"novel_share": float("nan")}, "novel_share must be above 0"),
      ({"novel_share": "0.2"}, "novel_share must be a number, got '0.2'"),
      ({"val_share": -0.1}, "val_share must be at least 0"),
      ({"val_share": 0.5, "novel_share": 0.6}, "with novel_share, at most 1"),
      ({"seed": -1}, "seed must be at least 0"),
      ({"seed": True}, "seed must be at least 0"),
    ],
  )
  def test_wrong_choices(self, options: dict[str, Any], message: str) -> None:
    with pytest.raises(types.InputError, match=message):
      class_split.split(_NAMES, options, "the source")

  def test_choices_reach_it(self, tmp_path: pathlib.Path) -> None:
    source = _write(tmp_path / "source", _classes(_NAMES))
    found = _find(source, tmp_path, seed=3, val_share=0.3, novel_share=0.4)
    expected = class_split.seeded(
      _NAMES, seed=3, val_share=0.3, novel_share=0.4
    )
    assert {s: list(c) for s, c in found.num_images.items()} == expected
    assert [len(c) for c in expected.values()] == [6, 6, 8]


class TestSplitFile:
  @pytest.fixture
  def source(self, tmp_path: pathlib.Path) -> pathlib.Path:
    return _write(tmp_path / "source", _classes(["a", "b", "Käfer", "d"]))

  def _write_split(self, tmp_path: pathlib.Path, split: Any) -> str:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split), encoding="utf-8")
    return str(path)

  def test_is_followed(
    self, source: pathlib.Path, tmp_path: pathlib.Path
  ) -> None:
    apart = unicodedata.normalize("NFD", "Käfer")
    path = self._write_split(
      tmp_path, {"novel": ["d", apart], "base": ["b", "a"]}
    )
    found = _find(source, tmp_path, split_file=path)
    assert found.class_names == {
      "base": ("a", "b"),
      "val": (),
      "novel": ("Käfer", "d"),
    }

  def test_all_that_is_wrong_is_named(
    self, source: pathlib.Path, tmp_path: pathlib.Path
  ) -> None:
    split = {"base": ["a", "kafer"], "val": ["a"], "test": ["d"]}
    path = self._write_split(tmp_path, split)
    message = _refusal(source, tmp_path, split_file=path)
    for part in (
      path,
      str(source),
      "'test' is no split",
      "unknown class 'kafer'; did you mean 'Käfer'?",
      "'a' is in base and again in val",
      "it lacks 'Käfer'; 'b'; 'd'",
      "it has no novel class",
    ):
      assert part in message

  @pytest.mark.parametrize("split", [[], {"novel": "a"}, {"novel": [1]}])
  def test_other_content(
    self, split: Any, source: pathlib.Path, tmp_path: pathlib.Path
  ) -> None:
    path = self._write_split(tmp_path, split)
    assert "must hold" in _refusal(source, tmp_path, split_file=path)

  def test_unreadable_and_with_other_choices(
    self, source: pathlib.Path, tmp_path: pathlib.Path
  ) -> None:
    path = tmp_path / "split.json"
    for content in (None, b"{", b"\xff"):
      if content is not None:
        path.write_bytes(content)
      assert f"cannot read the split file {path}" in _refusal(
        source, tmp_path, split_file=str(path)
      )
    assert "so novel_share, seed cannot be given with it" in _refusal(
      source, tmp_path, split_file=str(path), seed=1, novel_share=0.5
    )
