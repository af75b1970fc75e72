"""A folder of class folders: its classes, and their split."""

import json
import pathlib
import unicodedata

import pytest
import sources

from fsl_jax import types
from fsl_jax.data import kinds, listing
from fsl_jax.data.builders import class_split, image_folder
from fsl_jax.data.containers import tree

_NAMES = [f"class {i:02d}" for i in range(20)]
_DECOMPOSED = unicodedata.normalize("NFD", "Käfer")
_JPEG = b"\xff\xd8\xff\xe0" + bytes(20)
_HEIC = b"\0\0\0\x18ftypheic" + bytes(20)


def _classes(names, count=2):
  return [f"{name}/{i}.jpg" for name in names for i in range(count)]


def _archive(root, kind):
  """The source itself, or an archive of it."""
  if kind == "folder":
    return root
  make = sources.zip_ if kind == "zip" else sources.tar
  return make(root.parent / f"a.{kind}", sources.contents(root))


@pytest.fixture
def write(tmp_path):
  """Writes files by name; without content, the content is the name."""

  def write(files):
    if not isinstance(files, dict):
      files = {name: name for name in files}
    return sources.write(tmp_path / "source", files)

  return write


@pytest.fixture
def find(tmp_path, write):
  """The listing of a source, or of files that are written first."""

  def find(source, look=sources.find, skip_bad=False, **options):
    if not isinstance(source, pathlib.Path):
      source = write(source)
    return look(
      image_folder.ImageFolder,
      source,
      tmp_path,
      skip_bad=skip_bad,
      options=options,
    )

  return find


@pytest.fixture
def refusal(find):
  return lambda source, **options: find(source, sources.refusal, **options)


class TestClasses:
  def test_images_at_any_depth_and_of_any_spelling(self, find):
    images = ["a/1.jpg", "a/x/y/2.JPEG", "a/1.png", "b/é ü.WebP", "b/z.tif"]
    others = ["a/notes.txt", "a/Thumbs.db", "b/LICENSE", "b/.hidden.png"]
    others += ["readme.md", "labels.csv", "unknown.xyz"]
    found = find(images + others)
    assert found.num_images["novel"] == {"a": 3, "b": 2}
    entries = list(found.entries("novel"))
    assert sorted(entry.id for entry in entries) == sorted(images)
    for entry in entries:
      assert tree.read(entry.picture).decode() == entry.id
      assert entry.id.startswith(f"{entry.class_name}/")
    assert list(found.entries("novel")) == entries

  @pytest.mark.parametrize("wrapped", ["", "flowers/", "data/flowers/"])
  @pytest.mark.parametrize("kind", ["folder", "zip", "tgz", "tgz inside"])
  def test_archives_and_nested_folders(
    self, kind, wrapped, find, write, tmp_path
  ):
    files = _classes(["cat", "dog", "owl"])
    root = write([wrapped + name for name in files])
    expected = find(root)
    source = _archive(root, kind.removesuffix(" inside"))
    if "inside" in kind:
      folder = sources.write(tmp_path / "in", {})
      source = source.rename(folder / "a.tgz").parent
    found = find(source)
    assert found.num_images == expected.num_images
    assert found.num_pictures == len(files)
    assert set().union(*found.num_images.values()) == {"cat", "dog", "owl"}

  def test_names_are_composed(self, find):
    found = find(_classes([_DECOMPOSED, "b"]))
    assert list(found.num_images["novel"]) == ["Käfer", "b"]
    assert len(list(found.entries("novel"))) == 4

  def test_clashes_of_names(self, write, refusal):
    names = ["Käfer", _DECOMPOSED, "Cat", "cat"]
    source = write(_classes(names))
    if len(list(source.iterdir())) < len(names):
      pytest.skip("the file system does not distinguish the names")
    message = refusal(source)
    assert "'Cat' and 'cat' differ only in case" in message
    assert r"'Ka\u0308fer' and 'K\xe4fer' differ only in case" in message

  def test_images_beside_class_folders_are_counted(self, find):
    assert "1 images beside" in find([*_classes(["a", "b"]), "1.jpg"]).form

  @pytest.mark.parametrize(
    "names",
    [
      ["animals/cat", "animals/horse", "things/car", "things/ship"],
      ["images/cat", "images/horse", "masks/cat", "masks/horse"],
    ],
  )
  def test_images_a_level_too_deep(self, names, refusal, tmp_path):
    """Neither animals and things nor images and masks are classes."""

    def write(name, files):
      return sources.write(tmp_path / name, dict.fromkeys(files, "x"))

    first, second = sorted({name.split("/")[0] for name in names})
    source = write("plain", _classes(names))
    message = refusal(source)
    assert message.startswith(f"{source} cannot be used: images lie deeper")
    at = f"{source / first}, {source / second}"
    assert f"point source at the folder that holds the classes ({at})" in (
      message
    )
    # A preview beside the classes, or one folder without any, prove nothing.
    source = write("preview", [*_classes(names), f"{first}/preview.jpg"])
    assert "images lie deeper" in refusal(source)
    mixed = [name for name in names if name.startswith(second)]
    message = refusal(write("mixed", _classes([*mixed, "dog", "owl"])))
    assert f"({second} has" in message
    assert "dog" not in message
    # The same in split folders, and in an archive, which has no folders.
    files = [f"train/{name}" for name in _classes(names)]
    source = write("split", files + _classes(["test/dog", "test/owl"]))
    assert "(train/" in refusal(source)
    source = _archive(source, "zip")
    assert "unpack the zip archive and point" in refusal(source)

  def test_a_folder_of_images_in_each_class_folder(
    self, find, refusal, tmp_path
  ):
    files = ["a/images/1.jpg", "b/images/1.jpg", "b/images/x/2.jpg"]
    files += ["b/images/3.jpg", "b/boxes.txt", "c/1.jpg", "c/x/2.jpg"]
    files += ["d/1.jpg", "d/2.jpg", "d/x/1.jpg", "d/y/1.jpg"]
    two = sources.write(tmp_path / "two", dict.fromkeys(files, "x"))
    assert "(b has images, x)" in refusal(two)
    files.remove("b/images/x/2.jpg")
    found = find(files)
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
  def test_one_folder_of_images_beside_others(self, others, kind, find, write):
    files = _classes([f"C/images/{n:03d}.bird" for n in range(9)]) + others
    found = find(_archive(write(files), kind))
    names = {name for of in found.num_images.values() for name in of}
    assert names == {f"{n:03d}.bird" for n in range(9)}
    assert found.num_pictures == 18

  @pytest.mark.parametrize(
    ("files", "said"),
    [
      (["1.jpg", "2.jpg"], ["has no class folders", "expected one folder per"]),
      (
        [*_classes(["a", "b"]), "c/notes.txt", "a/x.heic", "b/x/without"],
        [
          "1 class folder has no image (c)",
          "2 of its files: no image of a known format",
          "(a/x.heic, b/x/without)",
          "skip_bad=True",
        ],
      ),
      # A folder that may hold images is not taken for annotations.
      (
        [*_classes(["animals/cat", "animals/dog"]), "things/car/1.heic"],
        ["no image of a known format (things/car/1.heic)"],
      ),
      # The only folder with images is a class.
      (["a/1.jpg", "b/notes.txt"], ["no image (b)"]),
      (_classes(["a"]), ["has 1 class (a), expected at least 2"]),
    ],
  )
  def test_all_that_is_wrong_is_named(self, files, said, refusal):
    message = refusal(files)
    for part in said:
      assert part in message

  def test_an_endless_link(self, write, refusal):
    source = write(["a.txt"])
    (source / "self").symlink_to(source)
    assert "no image" in refusal(source)


class TestBytes:
  """Files whose names do not end like those of images."""

  def test_images_by_other_names(self, find):
    names = ["a/1", "a/2.jpg_large", "b/img.001", "b/page.html", "b/x"]
    files = dict.fromkeys([*names, "b/1.thm"], _JPEG)
    found = find({**files, "b/notes.txt": "P1 is the first patient"})
    assert found.num_images["novel"] == {"a": 2, "b": 3}
    assert [e.id for e in found.entries("novel")] == sorted(names)

  def test_other_files_are_named_by_kind(self, refusal, monkeypatch):
    monkeypatch.setattr(kinds, "has_heif", lambda: False)
    message = refusal(
      {
        "a/1.heic": _HEIC,
        "a/2.mov": b"\0\0\0\x14ftypqt  ",
        "a/3.nef": b"MM\0*",
        "a/4.svg": b"<?xml version='1.0'?><svg/>",
        "a/5": b"",
        "a/5.xmp": b"<x:xmpmeta/>",
        "c/notes.txt": b"",
        **dict.fromkeys(_classes(["a", "b"]), b""),
      }
    )
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

  def test_they_may_be_left_out(self, find):
    files = [*_classes(["a", "b"]), "a/film.mkv", "c/notes.txt"]
    found = find(files, skip_bad=True)
    assert found.num_images["novel"] == {"a": 2, "b": 2}
    left_out = [line.partition(":")[0] for line in found.left_out]
    assert left_out == ["a/film.mkv", "c"]
    assert len(list(found.entries("novel"))) == 4

  def test_heic_counts_where_it_can_be_read(self, find, monkeypatch):
    monkeypatch.setattr(kinds, "has_heif", lambda: True)
    files = dict.fromkeys(["a/1.heic", "b/1.HEIF"], _HEIC)
    assert find(files).num_pictures == 2


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
  def test_are_the_classes(self, where, table, lines, find):
    names = ["1.jpg", "2.jpg", "3"]
    files = dict.fromkeys([f"{where}{name}" for name in names], _JPEG)
    above = where.rpartition("images/")[0]
    found = find({**files, f"{above}{table}": lines.format(*names)})
    assert found.num_images["novel"] == {"cat": 1, "owl": 2}
    entries = [(e.class_name, e.id) for e in found.entries("novel")]
    assert entries == [("cat", "2.jpg"), ("owl", "1.jpg"), ("owl", "3")]
    assert table in found.form

  def test_class_folders_come_first(self, find, refusal):
    files = dict.fromkeys(_classes(["a", "b"]), b"")
    files["labels.csv"] = "filename,label\na/0.jpg,x\nb/0.jpg,y\n"
    assert list(find(files).num_images["novel"]) == ["a", "b"]
    found = find(files, labels="labels.csv")
    assert found.num_images["novel"] == {"x": 1, "y": 1}
    assert "no table 'x.csv'" in refusal(files, labels="x.csv")

  def test_folders_of_a_table_are_groups(self, find):
    names = [f"{part}/{n}.jpg" for part in ("train", "test") for n in range(4)]
    rows = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)]
    files = dict.fromkeys(names, b"")
    files["all.csv"] = "\n".join(["file,class", *rows])
    found = find(files, labels="all.csv")
    assert sorted(e.id for e in found.entries("novel")) == sorted(names)

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
  def test_wrong_tables(self, text, message, refusal):
    files = {"1.jpg": b"", "2.jpg": b"", "labels.csv": text}
    assert message in refusal(files, labels="labels.csv")

  def test_several_tables(self, refusal):
    text = "filename,label\n1.jpg,a\n2.jpg,b\n"
    files = {"1.jpg": b"", "2.jpg": b"", "a.csv": text, "b.csv": text}
    assert "several tables of labels (a.csv, b.csv)" in refusal(files)


class TestSameClasses:
  """Folders that hold the same classes are groups of images."""

  @pytest.mark.parametrize("wrapped", ["", "birds/"])
  def test_are_joined(self, wrapped, find):
    files = _classes(["train/a", "train/b", "test/a", "test/b", "test/c"])
    files.append("test/notes.txt")
    found = find([wrapped + name for name in files], same_classes=True)
    assert found.num_images["novel"] == {"a": 4, "b": 4, "c": 2}
    ids = sorted(entry.id for entry in found.entries("novel"))
    assert ids == sorted(files[:-1])

  def test_each_with_a_table(self, find, refusal):
    names = _classes(["train", "test"])
    files = dict.fromkeys(names, b"")
    for part in ("train", "test"):
      files[f"{part}/metadata.csv"] = "file_name,label\n0.jpg,a\n1.jpg,b\n"
    assert "same_classes=True" in refusal(files)
    found = find(files, same_classes=True)
    assert found.num_images["novel"] == {"a": 2, "b": 2}
    assert {entry.id for entry in found.entries("novel")} == set(names)

  def test_names_that_differ_only_in_case_are_refused(self, refusal):
    """They would be two classes, each of one folder alone."""
    names = ["photo/Cat", "photo/Dog", "sketch/cat", "sketch/Dog"]
    assert "sketch/cat" in refusal(_classes(names), same_classes=True)


def test_few_classes_are_not_split_unless_asked(find):
  found = find(_classes(_NAMES[:19]))
  assert list(found.num_images["novel"]) == _NAMES[:19]
  assert "not split because 19 classes are few" in found.form
  found = find(_classes(_NAMES[:19]), seed=0)
  assert len(found.num_images["base"]) == 12
  assert "split by a seed" in found.form
  assert len(find(_classes(_NAMES)).num_images["base"]) == 13


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
  def test_are_the_splits(self, folders, find):
    files = [
      f"{folder}/{split}{i}/1.jpg"
      for folder, split in zip(folders, listing.SPLITS, strict=True)
      for i in range(2)
    ]
    found = find(files)
    assert found.class_names == {s: (f"{s}0", f"{s}1") for s in listing.SPLITS}
    ids = {e.id for split in listing.SPLITS for e in found.entries(split)}
    assert ids == set(files)

  def test_base_or_val_may_be_missing(self, find):
    found = find(["train/a/1.jpg", "test/b/1.jpg", "test/c/1.jpg"])
    expected = {"base": ("a",), "val": (), "novel": ("b", "c")}
    assert found.class_names == expected

  @pytest.mark.parametrize("kind", ["folder", "zip"])
  def test_of_the_same_classes(self, kind, write, refusal):
    names = [f"c{i:03d}" for i in range(100)]
    files = _classes([f"{s}/{n}" for s in ("train", "test") for n in names])
    source = _archive(write(files), kind)
    unpack = "" if kind == "folder" else "unpack the zip archive and "
    assert refusal(source) == (
      f"{source} cannot be used: 100 classes are in more than one of the "
      "folders test, train (c000, c001, c002, c003, c004, and 95 more); "
      f"few-shot splits share no class: {unpack}point source at one of them, "
      "or give same_classes=True to draw support and queries from different "
      "ones"
    )

  def test_one_alone_is_a_class(self, find):
    found = find(_classes(["train", "bus"]))
    assert found.class_names["novel"] == ("bus", "train")

  @pytest.mark.parametrize(
    ("files", "message"),
    [
      (
        ["train/a/1.jpg", "test/b/1.jpg"],
        "has 1 novel class ('b'), expected at least 2",
      ),
      # The only split folder with images is not taken for the data.
      (
        [*_classes(["train/a", "train/b", "train/c"]), "test/readme"],
        "test has no class",
      ),
      (
        ["train/a/1.jpg", "val/a/1.jpg", "test/b/1.jpg"],
        "1 class is in more than one of the folders train, val (a)",
      ),
      (["train/a/1.jpg", "test/1.jpg"], "test has no class folders"),
      (["train/a/1.jpg", "val/b/1.jpg"], "no novel (test) classes"),
      (["train/a/1.jpg", "base/b/1.jpg"], "stand for the same split"),
      (["train/a/1.jpg", "test/b/1.jpg", "x/1.jpg"], "beside others (x)"),
    ],
  )
  def test_wrong_ones(self, files, message, refusal):
    assert message in refusal(files)

  def test_admit_no_other_choice(self, refusal):
    files = _classes(["train/a", "test/b", "test/c"])
    assert "so seed cannot be given" in refusal(files, seed=1)


class TestSeededSplit:
  def test_does_not_change(self):
    # Prepared data sets of users depend on it.
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

  @pytest.mark.parametrize(
    ("n", "shares", "sizes"),
    [
      (200, {}, [130, 30, 40]),
      (2, {}, [0, 0, 2]),
      *((n, {"novel_share": 1}, [0, 0, n]) for n in (2, 3, 5)),
      # Novel has two classes, however small its share is.
      *(
        (n, {"val_share": 0.99, "novel_share": 0.01}, [0, n - 2, 2])
        for n in (4, 20, 60)
      ),
      # Val shrinks as novel grows.
      (20, {"novel_share": 0.6}, [6, 2, 12]),
      (20, {"val_share": 0}, [16, 0, 4]),
      (20, {"val_share": 0.5, "novel_share": 0.5}, [0, 10, 10]),
    ],
  )
  def test_sizes_are_the_shares(self, n, shares, sizes):
    split = class_split.seeded([f"c{i:03d}" for i in range(n)], **shares)
    assert [len(split[s]) for s in listing.SPLITS] == sizes

  def test_depends_on_the_seed_and_not_on_the_order(self):
    splits = [class_split.seeded(_NAMES, seed=seed) for seed in range(5)]
    assert len({str(split) for split in splits}) == 5
    assert class_split.seeded(_NAMES[::-1]) == splits[0]

  def test_one_class_less_moves_few(self):
    names = [f"c{i:03d}" for i in range(200)]
    novel = set(class_split.seeded(names)["novel"])
    fewer = set(class_split.seeded(names[1:])["novel"])
    assert len(novel ^ fewer) <= 2

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

  def test_options_reach_it(self, find):
    options = {"seed": 3, "val_share": 0.3, "novel_share": 0.4}
    found = find(_classes(_NAMES), **options)
    expected = class_split.seeded(_NAMES, **options)
    assert {s: list(c) for s, c in found.num_images.items()} == expected
    assert [len(c) for c in expected.values()] == [6, 6, 8]


class TestSplitFile:
  @pytest.fixture
  def source(self, write):
    return write(_classes(["a", "b", "Käfer", "d"]))

  @pytest.fixture
  def path(self, tmp_path):
    return tmp_path / "split.json"

  def test_is_followed(self, source, path, find):
    split = {"novel": ["d", _DECOMPOSED], "base": ["b", "a"]}
    expected = {"base": ("a", "b"), "val": (), "novel": ("Käfer", "d")}
    # With and without a byte-order mark.
    for encoding in ("utf-8", "utf-8-sig"):
      path.write_text(json.dumps(split), encoding=encoding)
      assert find(source, split_file=str(path)).class_names == expected

  @pytest.mark.parametrize(
    ("text", "said"),
    [
      (
        '{"base": ["a", "kafer"], "val": ["a"], "test": ["d"]}',
        [
          "'test' is not a split",
          "unknown class 'kafer'; did you mean 'Käfer'?",
          "'a' is in base and again in val",
          "it lacks 'Käfer'; 'b'; 'd'",
          "it has no novel class",
        ],
      ),
      (
        '{"novel": ["d"], "base": ["a", "b", "Käfer"]}',
        ["it has 1 novel class ('d'), expected at least 2"],
      ),
      (
        '{"novel": ["a", "b"], "base": ["x"], "base": ["d"]}',
        ["it has 'base' more than once"],
      ),
      *(
        (json.dumps(split), ["must hold"])
        for split in ([], {"novel": "a"}, {"novel": [1]})
      ),
      *(
        (content, ["cannot read the split file"])
        for content in (None, b"{", b"\xff", b"[" * 100_000)
      ),
    ],
  )
  def test_all_that_is_wrong_is_named(self, text, said, source, path, refusal):
    if text is not None:
      sources.write(path.parent, {path.name: text})
    message = refusal(source, split_file=str(path))
    for part in (str(path), *said):
      assert part in message

  def test_with_other_choices(self, source, path, refusal):
    assert "so novel_share, seed cannot be given with it" in refusal(
      source, split_file=str(path), seed=1, novel_share=0.5
    )
