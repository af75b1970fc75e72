"""A folder of class folders: its classes, and their split."""

import json
import unicodedata

import pytest
import sources

from fsl_jax import types
from fsl_jax.data import kinds, listing
from fsl_jax.data.builders import class_split, image_folder
from fsl_jax.data.containers import tree

_NAMES = [f"class {i:02d}" for i in range(20)]


def _write(root, names):
  """Files whose content is their name; no image is decoded here."""
  return sources.write(root, {name: name for name in names})


def _classes(names, count=2):
  return [f"{name}/{i}.jpg" for name in names for i in range(count)]


def _archive(root, kind):
  """The source itself, or an archive of it."""
  if kind == "folder":
    return root
  make = sources.zip_ if kind == "zip" else sources.tar
  return make(root.parent / f"a.{kind}", sources.contents(root))


def _attributes(options):
  return {"skip_bad": options.pop("skip_bad", False), "options": options}


def _find(source, tmp_path, **options):
  kind = image_folder.ImageFolder
  return sources.find(kind, source, tmp_path, **_attributes(options))


def _refusal(source, tmp_path, **options):
  kind = image_folder.ImageFolder
  return sources.refusal(kind, source, tmp_path, **_attributes(options))


class TestClasses:
  def test_pictures_at_any_depth_and_of_any_spelling(self, tmp_path):
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
  @pytest.mark.parametrize("kind", ["folder", "zip", "tgz", "tgz inside"])
  def test_archives_and_single_folders_are_opened(
    self, kind, wrapped, tmp_path
  ):
    files = _classes(["cat", "dog", "owl"])
    root = tmp_path / "outer" / "source"
    _write(root, [wrapped + name for name in files])
    expected = _find(root, tmp_path)
    source = _archive(root, kind.removesuffix(" inside"))
    if "inside" in kind:
      source = source.rename(
        sources.write(tmp_path / "in", {}) / "a.tgz"
      ).parent
    found = _find(source, tmp_path)
    assert found.num_images == expected.num_images
    assert found.num_pictures == len(files)
    assert set().union(*found.num_images.values()) == {"cat", "dog", "owl"}

  def test_names_are_composed(self, tmp_path):
    apart = unicodedata.normalize("NFD", "Käfer")
    found = _find(_write(tmp_path / "source", _classes([apart, "b"])), tmp_path)
    assert list(found.num_images["novel"]) == ["Käfer", "b"]
    assert len(list(found.entries("novel"))) == 4

  def test_clashes_of_names(self, tmp_path):
    names = ["Käfer", unicodedata.normalize("NFD", "Käfer"), "Cat", "cat"]
    source = _write(tmp_path / "source", _classes(names))
    if len(list(source.iterdir())) < len(names):
      pytest.skip("the file system takes some of the names for the same")
    message = _refusal(source, tmp_path)
    assert "'Cat' and 'cat' differ only in case" in message
    assert r"'Ka\u0308fer' and 'K\xe4fer' differ only in case" in message

  def test_all_that_is_wrong_is_named(self, tmp_path):
    files = [*_classes(["a", "b"]), "c/notes.txt", "a/x.heic", "b/x/without"]
    message = _refusal(_write(tmp_path / "source", files), tmp_path)
    assert "1 class folder has no image (c)" in message
    assert "2 of its files: no image of a known format" in message
    assert "(a/x.heic, b/x/without)" in message
    assert "skip_bad=True" in message

  def test_pictures_without_class_folders(self, tmp_path):
    source = _write(tmp_path / "source", ["1.jpg", "2.jpg"])
    message = _refusal(source, tmp_path)
    assert "has no class folders" in message
    assert "expected one folder per class" in message

  def test_pictures_beside_class_folders_are_told(self, tmp_path):
    source = _write(tmp_path / "source", [*_classes(["a", "b"]), "1.jpg"])
    assert "1 images beside" in _find(source, tmp_path).form

  def test_pictures_a_level_too_deep(self, tmp_path):
    """Neither animals and things nor images and masks are classes."""
    for names in (
      ["animals/cat", "animals/horse", "things/car", "things/ship"],
      ["images/cat", "images/horse", "masks/cat", "masks/horse"],
    ):
      root = tmp_path / names[0].split("/")[0]
      above = sorted({name.split("/")[0] for name in names})
      source = _write(root / "plain", _classes(names))
      message = _refusal(source, tmp_path)
      assert message.startswith(f"{source} cannot be used: images lie deeper")
      at = ", ".join(str(source / name) for name in above)
      assert f"point source at the folder that holds the classes ({at})" in (
        message
      )
      # A preview beside the classes, or one folder without any, prove nothing.
      preview = _write(
        root / "preview", [*_classes(names), f"{above[0]}/preview.jpg"]
      )
      assert "images lie deeper" in _refusal(preview, tmp_path)
      mixed = [name for name in names if name.startswith(above[1])]
      mixed = _classes([*mixed, "dog", "owl"])
      message = _refusal(_write(root / "mixed", mixed), tmp_path)
      assert f"({above[1]} has" in message
      assert "dog" not in message
      # The same in the folders of splits, and where nobody can point.
      files = [f"train/{name}" for name in _classes(names)]
      files += _classes(["test/dog", "test/owl"])
      source = _write(root / "split", files)
      assert "(train/" in _refusal(source, tmp_path)
      source = _archive(source, "zip")
      assert "unpack the zip archive and point" in _refusal(source, tmp_path)

  def test_a_folder_of_pictures_in_each_class_folder(self, tmp_path):
    files = ["a/images/1.jpg", "b/images/1.jpg", "b/images/x/2.jpg"]
    files += ["b/images/3.jpg", "b/boxes.txt", "c/1.jpg", "c/x/2.jpg"]
    files += ["d/1.jpg", "d/2.jpg", "d/x/1.jpg", "d/y/1.jpg"]
    message = _refusal(_write(tmp_path / "two", files), tmp_path)
    assert "(b has images, x)" in message
    files.remove("b/images/x/2.jpg")
    found = _find(_write(tmp_path / "one", files), tmp_path)
    counts = {k: v for of in found.num_images.values() for k, v in of.items()}
    assert counts == {"a": 1, "b": 2, "c": 2, "d": 4}

  @pytest.mark.parametrize("kind", ["folder", "zip", "tgz"])
  @pytest.mark.parametrize(
    "others",
    [
      # Layouts of CUB-200-2011 and of Food-101.
      ["attributes.txt", "C/attributes/a.txt", "C/parts/b.txt", "C/README"],
      ["C/meta/classes.txt", "C/meta/train.json", "C/license_agreement.txt"],
    ],
  )
  def test_one_folder_of_pictures_beside_others(self, others, kind, tmp_path):
    files = _classes([f"C/images/{n:03d}.bird" for n in range(9)]) + others
    source = _archive(_write(tmp_path / "source", files), kind)
    found = _find(source, tmp_path)
    names = {name for of in found.num_images.values() for name in of}
    assert names == {f"{n:03d}.bird" for n in range(9)}
    assert found.num_pictures == 18

  def test_a_folder_that_may_hold_pictures_is_not_passed_over(self, tmp_path):
    files = [*_classes(["animals/cat", "animals/dog"]), "things/car/1.heic"]
    message = _refusal(_write(tmp_path / "source", files), tmp_path)
    assert "no image of a known format (things/car/1.heic)" in message

  def test_the_only_folder_with_pictures_is_a_class(self, tmp_path):
    source = _write(tmp_path / "source", ["a/1.jpg", "b/notes.txt"])
    assert "no image (b)" in _refusal(source, tmp_path)

  def test_a_single_class(self, tmp_path):
    source = _write(tmp_path / "source", _classes(["a"]))
    assert "has 1 class (a), expected at least 2" in _refusal(source, tmp_path)

  def test_an_endless_link(self, tmp_path):
    source = _write(tmp_path / "source", ["a.txt"])
    (source / "self").symlink_to(source)
    assert "no image" in _refusal(source, tmp_path)


_JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
_HEIC = b"\0\0\0\x18ftypheic" + bytes(20)


class TestBytes:
  """Names that are no names of images: the bytes count."""

  def test_pictures_by_other_names(self, tmp_path):
    names = ["a/1", "a/2.jpg_large", "b/img.001", "b/page.html", "b/x"]
    source = sources.write(tmp_path / "source", dict.fromkeys(names, _JPEG))
    (source / "b/notes.txt").write_text("P1 is the first patient")
    (source / "b/1.thm").write_bytes(_JPEG)
    found = _find(source, tmp_path)
    assert found.num_images["novel"] == {"a": 2, "b": 3}
    assert [e.id for e in found.entries("novel")] == sorted(names)

  def test_what_is_no_picture_is_named_as_what_it_is(
    self, tmp_path, monkeypatch
  ):
    monkeypatch.setattr(kinds, "has_heif", lambda: False)
    files = {
      "a/1.heic": _HEIC,
      "a/2.mov": b"\0\0\0\x14ftypqt  ",
      "a/3.nef": b"MM\0*",
      "a/4.svg": b"<?xml version='1.0'?><svg/>",
      "a/5": b"",
      "a/5.xmp": b"<x:xmpmeta/>",
      "c/notes.txt": b"",
    }
    source = sources.write(tmp_path / "source", files)
    _write(source, _classes(["a", "b"]))
    message = _refusal(source, tmp_path)
    for part in (
      "1 of its files: HEIC image; install pillow-heif, or convert",
      "(a/1.heic)",
      "video; save its frames",
      "(a/2.mov)",
      "RAW photograph; develop it",
      "(a/3.nef)",
      "SVG drawing",
      "empty file (a/5)",
      "1 class folder has no image (c)",
      "skip_bad=True",
    ):
      assert part in message
    assert "xmp" not in message

  def test_they_may_be_left_out(self, tmp_path):
    files = [*_classes(["a", "b"]), "a/film.mkv", "c/notes.txt"]
    found = _find(_write(tmp_path / "source", files), tmp_path, skip_bad=True)
    assert found.num_images["novel"] == {"a": 2, "b": 2}
    assert [line.partition(":")[0] for line in found.left_out] == [
      "a/film.mkv",
      "c",
    ]
    assert len(list(found.entries("novel"))) == 4

  def test_heic_counts_where_it_can_be_read(self, tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "has_heif", lambda: True)
    source = sources.write(
      tmp_path / "source", dict.fromkeys(["a/1.heic", "b/1.HEIF"], _HEIC)
    )
    assert _find(source, tmp_path).num_pictures == 2


class TestLabels:
  """A table of file names and labels."""

  @pytest.mark.parametrize("where", ["", "images/", "data/images/"])
  @pytest.mark.parametrize(
    ("table", "lines"),
    [
      ("labels.csv", "filename,label\n{0},owl\n{1},cat\n{2},owl\n"),
      (
        "labels.csv",
        "\ufeffid;file_name;label\n1;{0};owl\n2;{1};cat\n3;{2};owl",
      ),
      ("metadata.tsv", "Path\tClass\r\n{0}\towl\r\n{1}\tcat\r\n{2}\towl\r\n"),
      (
        "metadata.jsonl",
        '{{"file_name": "{0}", "label": "owl"}}\n\n'
        '{{"file_name": "{1}", "label": "cat"}}\n'
        '{{"file_name": "./{2}", "label": "owl", "box": [1, 2]}}\n',
      ),
    ],
  )
  def test_are_the_classes(self, where, table, lines, tmp_path):
    files = ["1.jpg", "2.jpg", "3"]
    source = sources.write(
      tmp_path / "source", {f"{where}{name}": _JPEG for name in files}
    )
    place = (source / where).parent if where else source
    (place / table).write_text(lines.format(*files), encoding="utf-8")
    found = _find(source, tmp_path)
    assert found.num_images["novel"] == {"cat": 1, "owl": 2}
    entries = [(e.class_name, e.id) for e in found.entries("novel")]
    assert entries == [("cat", "2.jpg"), ("owl", "1.jpg"), ("owl", "3")]
    assert table in found.form

  def test_class_folders_come_first(self, tmp_path):
    source = _write(tmp_path / "source", _classes(["a", "b"]))
    (source / "labels.csv").write_text("filename,label\na/0.jpg,x\nb/0.jpg,y\n")
    assert list(_find(source, tmp_path).num_images["novel"]) == ["a", "b"]
    found = _find(source, tmp_path, labels="labels.csv")
    assert found.num_images["novel"] == {"x": 1, "y": 1}
    message = _refusal(source, tmp_path, labels="x.csv")
    assert "no table 'x.csv'" in message

  def test_folders_of_a_table_are_groups(self, tmp_path):
    files = [f"{part}/{n}.jpg" for part in ("train", "test") for n in range(4)]
    source = _write(tmp_path / "source", files)
    rows = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(files)]
    (source / "all.csv").write_text("\n".join(["file,class", *rows]))
    found = _find(source, tmp_path, labels="all.csv")
    assert sorted(e.id for e in found.entries("novel")) == sorted(files)

  @pytest.mark.parametrize(
    ("text", "message"),
    [
      ("filename,label\n1.jpg,a\n9.jpg,b\n", "not there (9.jpg)"),
      ("filename,label\n1.jpg,a\n1.jpg,b\n", "'b' here and 'a' before"),
      ("filename,label\n1.jpg,\n", "line 2 lacks a label"),
      ("filename,label\n../1.jpg,a\n", "leads outside"),
      ("filename,label\n/1.jpg,a\n", "leads outside"),
      ("filename,label\n1.jpg\n", "no file or no label"),
      ("name,kind\n1.jpg,a\n", "a column filename, file_name"),
      ("filename,label\n1.jpg,Cat\n2.jpg,cat\n", "differ only in case"),
      ("filename,label\n1.jpg,cat\n2.jpg,cat\n", "has 1 class"),
    ],
  )
  def test_wrong_tables(self, text, message, tmp_path):
    source = _write(tmp_path / "source", ["1.jpg", "2.jpg"])
    (source / "labels.csv").write_text(text)
    assert message in _refusal(source, tmp_path, labels="labels.csv")

  def test_several_tables(self, tmp_path):
    source = _write(tmp_path / "source", ["1.jpg", "2.jpg"])
    for name in ("a.csv", "b.csv"):
      (source / name).write_text("filename,label\n1.jpg,a\n2.jpg,b\n")
    assert "several tables of labels (a.csv, b.csv)" in _refusal(
      source, tmp_path
    )


class TestSameClasses:
  """Folders that hold the same classes are groups of images."""

  @pytest.mark.parametrize("wrapped", ["", "birds/"])
  def test_are_joined(self, wrapped, tmp_path):
    files = _classes(["train/a", "train/b", "test/a", "test/b", "test/c"])
    files.append("test/notes.txt")
    source = _write(tmp_path / "source", [wrapped + name for name in files])
    found = _find(source, tmp_path, same_classes=True)
    assert found.num_images["novel"] == {"a": 4, "b": 4, "c": 2}
    ids = sorted(entry.id for entry in found.entries("novel"))
    assert ids == sorted(files[:-1])

  def test_each_with_a_table(self, tmp_path):
    source = _write(tmp_path / "source", _classes(["train", "test"]))
    for part in ("train", "test"):
      text = "file_name,label\n0.jpg,a\n1.jpg,b\n"
      (source / part / "metadata.csv").write_text(text)
    assert "same_classes=True" in _refusal(source, tmp_path)
    found = _find(source, tmp_path, same_classes=True)
    assert found.num_images["novel"] == {"a": 2, "b": 2}
    assert {entry.id for entry in found.entries("novel")} == set(
      _classes(["train", "test"])
    )

  def test_names_that_differ_only_in_case_are_refused(self, tmp_path):
    """They would be two classes, each of one folder alone."""
    source = _write(
      tmp_path / "source",
      _classes(["photo/Cat", "photo/Dog", "sketch/cat", "sketch/Dog"]),
    )
    assert "sketch/cat" in _refusal(source, tmp_path, same_classes=True)


class TestFewClasses:
  def test_are_not_split_unless_asked(self, tmp_path):
    source = _write(tmp_path / "source", _classes(_NAMES[:19]))
    found = _find(source, tmp_path)
    assert list(found.num_images["novel"]) == _NAMES[:19]
    assert "not split because 19 classes are few" in found.form
    found = _find(source, tmp_path, seed=0)
    assert len(found.num_images["base"]) == 12
    assert "split by a seed" in found.form
    _write(source, _classes(_NAMES[19:]))
    assert len(_find(source, tmp_path).num_images["base"]) == 13


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
  def test_are_the_splits(self, folders, tmp_path):
    files = [
      f"{folder}/{split}{i}/1.jpg"
      for folder, split in zip(folders, listing.SPLITS, strict=True)
      for i in range(2)
    ]
    found = _find(_write(tmp_path / "source", files), tmp_path)
    assert found.class_names == {s: (f"{s}0", f"{s}1") for s in listing.SPLITS}
    ids = {e.id for split in listing.SPLITS for e in found.entries(split)}
    assert ids == set(files)

  def test_base_or_val_may_be_missing(self, tmp_path):
    files = ["train/a/1.jpg", "test/b/1.jpg", "test/c/1.jpg"]
    source = _write(tmp_path / "source", files)
    assert _find(source, tmp_path).class_names == {
      "base": ("a",),
      "val": (),
      "novel": ("b", "c"),
    }

  def test_one_novel_class(self, tmp_path):
    source = _write(tmp_path / "source", ["train/a/1.jpg", "test/b/1.jpg"])
    message = _refusal(source, tmp_path)
    assert "has 1 novel class ('b'), expected at least 2" in message

  @pytest.mark.parametrize("kind", ["folder", "zip"])
  def test_of_the_same_classes(self, kind, tmp_path):
    names = [f"c{i:03d}" for i in range(100)]
    files = _classes([f"{s}/{n}" for s in ("train", "test") for n in names])
    source = _archive(_write(tmp_path / "source", files), kind)
    message = _refusal(source, tmp_path)
    unpack = "" if kind == "folder" else "unpack the zip archive and "
    assert message == (
      f"{source} cannot be used: 100 classes are in more than one of the "
      "folders test, train (c000, c001, c002, c003, c004, and 95 more); "
      f"few-shot splits share no class: {unpack}point source at one of them, "
      "or give same_classes=True to draw support and queries from different "
      "ones"
    )

  def test_with_an_empty_one(self, tmp_path):
    """The only one with images is not taken for the data."""
    files = [*_classes(["train/a", "train/b", "train/c"]), "test/readme"]
    assert "test has no class" in _refusal(
      _write(tmp_path / "source", files), tmp_path
    )

  def test_one_alone_is_a_class(self, tmp_path):
    source = _write(tmp_path / "source", _classes(["train", "bus"]))
    assert _find(source, tmp_path).class_names["novel"] == ("bus", "train")

  @pytest.mark.parametrize(
    ("files", "message"),
    [
      (
        ["train/a/1.jpg", "val/a/1.jpg", "test/b/1.jpg"],
        r"1 class is in more than one of the folders train, val (a)",
      ),
      (["train/a/1.jpg", "test/1.jpg"], r"test has no class folders"),
      (["train/a/1.jpg", "val/b/1.jpg"], r"no novel (test) classes"),
      (["train/a/1.jpg", "base/b/1.jpg"], r"stand for the same split"),
      (["train/a/1.jpg", "test/b/1.jpg", "x/1.jpg"], r"beside others (x)"),
    ],
  )
  def test_wrong_ones(self, files, message, tmp_path):
    assert message in _refusal(_write(tmp_path / "source", files), tmp_path)

  def test_admit_no_other_choice(self, tmp_path):
    files = _classes(["train/a", "test/b", "test/c"])
    source = _write(tmp_path / "source", files)
    assert "so seed cannot be given" in _refusal(source, tmp_path, seed=1)


class TestSeededSplit:
  def test_does_not_change(self):
    # Prepared data sets of users rest on it.
    assert class_split.seeded([f"c{i}" for i in range(10)]) == {
      "base": ["c0", "c1", "c3", "c6", "c7", "c8"],
      "val": ["c4", "c5"],
      "novel": ["c2", "c9"],
    }

  @pytest.mark.parametrize("n", range(2, 40))
  @pytest.mark.parametrize(("val", "novel"), [(0.15, 0.2), (0.01, 0.98)])
  def test_every_split_has_classes(self, n, val, novel):
    names = [f"c{i:02d}" for i in range(n)]
    split = class_split.seeded(names, val_share=val, novel_share=novel)
    joined = [name for members in split.values() for name in members]
    assert sorted(joined) == names
    assert all(members == sorted(members) for members in split.values())
    assert len(split["novel"]) >= 2
    assert split["base"] or n < 3
    assert split["val"] or n < 4

  @pytest.mark.parametrize("n", [4, 20, 60])
  def test_novel_has_two_classes_however_small_its_share(self, n):
    names = [f"c{i:02d}" for i in range(n)]
    split = class_split.seeded(names, val_share=0.99, novel_share=0.01)
    assert len(split["novel"]) == 2
    assert not split["base"]

  def test_sizes_are_the_shares(self):
    names = [f"c{i:03d}" for i in range(200)]
    split = class_split.seeded(names)
    assert {s: len(m) for s, m in split.items()} == {
      "base": 130,
      "val": 30,
      "novel": 40,
    }

  def test_depends_on_the_seed_and_not_on_the_order(self):
    splits = [class_split.seeded(_NAMES, seed=seed) for seed in range(5)]
    assert len({str(split) for split in splits}) == 5
    assert class_split.seeded(_NAMES[::-1]) == splits[0]

  def test_a_class_less_moves_few(self):
    names = [f"c{i:03d}" for i in range(200)]
    novel = set(class_split.seeded(names)["novel"])
    fewer = set(class_split.seeded(names[1:])["novel"])
    assert len(novel ^ fewer) <= 2

  @pytest.mark.parametrize("n", [2, 3, 5])
  def test_all_classes_may_be_novel(self, n):
    expected = {"base": [], "val": [], "novel": _NAMES[:n]}
    assert class_split.seeded(_NAMES[:n], novel_share=1) == expected

  def test_two_classes_are_novel(self):
    assert class_split.seeded(["a", "b"])["novel"] == ["a", "b"]

  def test_val_shrinks_as_novel_grows(self):
    split = class_split.seeded(_NAMES, novel_share=0.6)
    assert [len(split[s]) for s in listing.SPLITS] == [6, 2, 12]

  def test_val_may_be_empty(self):
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
  def test_wrong_choices(self, options, message):
    with pytest.raises(types.InputError, match=message):
      class_split.split(_NAMES, options, "the source")

  def test_choices_reach_it(self, tmp_path):
    source = _write(tmp_path / "source", _classes(_NAMES))
    found = _find(source, tmp_path, seed=3, val_share=0.3, novel_share=0.4)
    expected = class_split.seeded(
      _NAMES, seed=3, val_share=0.3, novel_share=0.4
    )
    assert {s: list(c) for s, c in found.num_images.items()} == expected
    assert [len(c) for c in expected.values()] == [6, 6, 8]


class TestSplitFile:
  @pytest.fixture
  def source(self, tmp_path):
    return _write(tmp_path / "source", _classes(["a", "b", "Käfer", "d"]))

  def _write_split(self, tmp_path, split):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(split), encoding="utf-8")
    return str(path)

  def test_is_followed(self, source, tmp_path):
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

  def test_all_that_is_wrong_is_named(self, source, tmp_path):
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
  def test_other_content(self, split, source, tmp_path):
    path = self._write_split(tmp_path, split)
    assert "must hold" in _refusal(source, tmp_path, split_file=path)

  def test_begins_with_a_byte_order_mark(self, source, tmp_path):
    path = tmp_path / "split.json"
    text = json.dumps({"novel": ["d", "Käfer"], "base": ["a", "b"]})
    path.write_text(text, encoding="utf-8-sig")
    found = _find(source, tmp_path, split_file=str(path))
    assert found.class_names["novel"] == ("Käfer", "d")

  def test_a_split_twice(self, source, tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"novel": ["a", "b"], "base": ["x"], "base": ["d"]}')
    message = _refusal(source, tmp_path, split_file=str(path))
    assert "it has 'base' more than once" in message

  def test_one_novel_class(self, source, tmp_path):
    split = {"novel": ["d"], "base": ["a", "b", "Käfer"]}
    path = self._write_split(tmp_path, split)
    message = _refusal(source, tmp_path, split_file=path)
    assert "it has 1 novel class ('d'), expected at least 2" in message

  def test_unreadable_and_with_other_choices(self, source, tmp_path):
    path = tmp_path / "split.json"
    for content in (None, b"{", b"\xff", b"[" * 100_000):
      if content is not None:
        path.write_bytes(content)
      assert f"cannot read the split file {path}" in _refusal(
        source, tmp_path, split_file=str(path)
      )
    assert "so novel_share, seed cannot be given with it" in _refusal(
      source, tmp_path, split_file=str(path), seed=1, novel_share=0.5
    )
