"""Folders and archives as one thing: the same files, or one clear sentence."""

import concurrent.futures
import io
import os
import random
import struct
import tarfile
import tracemalloc
import zipfile
from typing import ClassVar

import pytest

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import archives, tree

_FILES = {
  "top.txt": b"top",
  "cats/Tom & Jerry.jpg": b"one",
  "cats/kittens/2.jpg": b"two" * 1000,
  "Über öwls/é.png": b"",
  "x" * 90 + "/" + "y" * 120 + ".png": b"long name",
}
_HIDDEN = {".DS_Store": b"h", "cats/._1.jpg": b"h", "__MACOSX/cats/1.jpg": b"h"}

_TARS = ("tar", "tar.gz", "tar.bz2", "tar.xz")


def _folder(root, files):
  for name, data in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return root


def _tar(path, files, tar_format=tarfile.GNU_FORMAT):
  mode = path.suffix[1:]
  mode = "w" if mode == "tar" else f"w:{mode}"
  with tarfile.open(path, mode, format=tar_format) as tar:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return path


def _zip(path, files):
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return path


def _make(kind, tmp_path, files):
  if kind == "folder":
    return _folder(tmp_path / "source", files)
  make = _zip if kind == "zip" else _tar
  return make(tmp_path / f"source.{kind}", files)


def _contents(found):
  return {file.name: tree.read(file.where) for file in found.walk()}


class TestOpen:
  @pytest.mark.parametrize("kind", ["folder", "zip", *_TARS])
  def test_all_kinds_hold_the_same(self, kind, tmp_path):
    source = _make(kind, tmp_path, _FILES | _HIDDEN)
    found = tree.open_tree(source, tmp_path)
    assert _contents(found) == _FILES
    assert found.folders() == sorted(
      {n.split("/")[0] for n in _FILES} - {"top.txt"}
    )
    assert [file.name for file in found.files("cats")] == [
      "cats/Tom & Jerry.jpg"
    ]
    assert found.folders("cats") == ["kittens"]
    assert {f.name: f.size for f in found.walk() if f.base != "top.txt"} == {
      name: len(data) for name, data in _FILES.items() if name != "top.txt"
    }
    for name in _FILES:
      file = found.get(name)
      assert file is not None
      assert tree.read(file.where) == _FILES[name]
    for name in ("none", "cats/none", "none/none", "cats", "cats/._1.jpg"):
      assert found.get(name) is None
    assert found.files("none") == found.folders("none") == []

  @pytest.mark.parametrize(
    "tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
  )
  def test_long_names_of_both_tar_formats(self, tar_format, tmp_path):
    source = _tar(tmp_path / "a.tar", _FILES, tar_format)
    assert _contents(tree.open_tree(source, tmp_path)) == _FILES

  def test_names_do_not_tell_the_kind(self, tmp_path):
    source = _tar(tmp_path / "a.tar.gz", _FILES).rename(tmp_path / "a.zip")
    assert _contents(tree.open_tree(source, tmp_path)) == _FILES

  def test_compressed_tars_of_one_name(self, tmp_path):
    for which in ("a", "b"):
      (tmp_path / which).mkdir()
      source = _tar(tmp_path / which / "x.tar.gz", {"1": which.encode()})
      found = tree.open_tree(source, tmp_path)
      assert _contents(found) == {"1": which.encode()}

  def test_a_tar_that_ends_with_a_zip(self, tmp_path):
    inner = _zip(tmp_path / "in.zip", {"1": b"1"}).read_bytes()
    source = _tar(tmp_path / "a.tar", {"in.zip": inner})
    with open(source, "r+b") as file:  # As little padding as allowed.
      file.truncate(512 + -(-len(inner) // 512) * 512 + 1024)
    assert list(_contents(tree.open_tree(source, tmp_path))) == ["in.zip"]

  def test_the_last_of_several_members_of_a_name_counts(self, tmp_path):
    source = _tar(tmp_path / "a.tar", {"./1": b"old", "1": b"new"})
    assert _contents(tree.open_tree(source, tmp_path)) == {"1": b"new"}

  def test_neither(self, tmp_path):
    (tmp_path / "a").write_bytes(b"text" * 1000)
    with pytest.raises(types.InputError, match="neither a folder nor"):
      tree.open_tree(tmp_path / "a", tmp_path)
    with pytest.raises(types.InputError, match="does not exist"):
      tree.open_tree(tmp_path / "b", tmp_path)


class TestNames:
  def test_zip_with_unmarked_utf8_and_backslashes(self, tmp_path):
    # "_" marks bytes that are then replaced by those of "Ü" and "\".
    source = _zip(tmp_path / "a.zip", {"__bel/1.png": b"1", "b_2.png": b"2"})
    data = source.read_bytes()
    data = data.replace(b"__bel", "Übel".encode()).replace(b"b_2", b"b\\2")
    source.write_bytes(data)
    found = tree.open_tree(source, tmp_path)
    assert _contents(found) == {"b/2.png": b"2", "Übel/1.png": b"1"}

  def test_tar_with_latin1_names(self, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", encoding="latin-1") as tar:
      tar.addfile(tarfile.TarInfo("Übel/1.png"))
    assert list(_contents(tree.open_tree(path, tmp_path))) == ["Übel/1.png"]

  @pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
  @pytest.mark.parametrize(
    "name",
    ["/etc/x.png", "../x.png", "a/../../x.png", "C:/x.png", "C:x", "..\\x"],
  )
  def test_names_that_lead_outside(self, kind, name, tmp_path):
    source = _make(kind, tmp_path, {"a.png": b"", name: b""})
    with pytest.raises(types.InputError, match="leads outside") as caught:
      tree.open_tree(source, tmp_path)
    assert str(source) in str(caught.value)

  def test_names_are_made_plain(self):
    for name, plain in {
      "a//b/./c.png": "a/b/c.png",
      "./a/": "a",
      "a\\b": "a/b",
      ".": ".",
      "": ".",
      "1:30/2.png": "1:30/2.png",
      "..a/b..": "..a/b..",
    }.items():
      assert archives.safe_name(name, "x.tar") == plain
    for name in ("./C:/x", "a/..", "\\\\host\\share\\x", "//host/x"):
      with pytest.raises(types.InputError, match="leads outside"):
        archives.safe_name(name, "x.tar")

  def test_a_folder_with_a_name_that_is_no_text(self, tmp_path):
    try:
      os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    except OSError:
      pytest.skip("the file system admits UTF-8 names only")
    with pytest.raises(types.InputError, match=r"caf\\xe9.* is not UTF-8"):
      tree.open_tree(tmp_path, tmp_path).folders()


class TestRefused:
  @pytest.mark.parametrize(
    ("kind", "match"),
    [
      (tarfile.SYMTYPE, "a link"),
      (tarfile.LNKTYPE, "a link"),
      (tarfile.CHRTYPE, "a device"),
      (tarfile.FIFOTYPE, "a device"),
      (tarfile.GNUTYPE_SPARSE, "stored with holes"),
    ],
  )
  def test_tar_members(self, kind, match, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
      info = tarfile.TarInfo("odd.png")
      info.type, info.linkname = kind, "/etc/passwd"
      tar.addfile(info)
    with pytest.raises(types.InputError, match=rf"odd.png', which is {match}"):
      tree.open_tree(path, tmp_path)

  def test_zip_links_and_encryption(self, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
      info = zipfile.ZipInfo("odd.png")
      info.external_attr = 0o120777 << 16
      archive.writestr(info, "/etc/passwd")
    with pytest.raises(types.InputError, match=r"odd.png', which is a link"):
      tree.open_tree(path, tmp_path)

    data = bytearray(_zip(path, {"1.png": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(types.InputError, match=r"1.png', which is encrypted"):
      tree.open_tree(path, tmp_path)


class TestDamaged:
  _DATA: ClassVar = {
    f"c/{i}.png": random.Random(i).randbytes(700) for i in range(4)
  }

  @pytest.mark.parametrize("kind", ["zip", *_TARS])
  def test_cut_anywhere(self, kind, tmp_path):
    source = _make(kind, tmp_path, self._DATA)
    whole = source.read_bytes()
    # A tar may be cut in the zeros that follow its end mark.
    end = 4 * (512 + 1024) + 512 if kind == "tar" else len(whole)
    for size in (*range(513, end, 97), *range(512, end, 512), end - 1):
      cut = tmp_path / f"cut-{size}"
      cut.write_bytes(whole[:size])
      with pytest.raises(
        types.InputError, match=r"damaged|cut short"
      ) as caught:
        tree.open_tree(cut, tmp_path)
      assert str(cut) in str(caught.value)
      assert "\n" not in str(caught.value)

  def test_a_damaged_tar_header(self, tmp_path):
    source = _tar(tmp_path / "a.tar", self._DATA)
    data = bytearray(source.read_bytes())
    data[1536 + 10] ^= 1
    source.write_bytes(data)
    with pytest.raises(types.InputError, match="no end mark at byte 1536"):
      tree.open_tree(source, tmp_path)

  @pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
  def test_damaged_streams(self, kind, tmp_path):
    source = _make(kind, tmp_path, self._DATA)
    data = bytearray(source.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 20):
      data[i] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(types.InputError, match="damaged or cut short"):
      tree.open_tree(source, tmp_path)

  def test_a_negative_size_does_not_hang(self, tmp_path):
    source = _tar(tmp_path / "a.tar", self._DATA)
    data = bytearray(source.read_bytes())
    # The next header would be this one again.
    data[1536 + 124 : 1536 + 136] = b"\xff" * 10 + struct.pack(">h", -512)
    header = data[1536:2048]
    header[148:156] = b" " * 8
    data[1536 + 148 : 1536 + 156] = b"%06o\0 " % sum(header)
    source.write_bytes(data)
    with pytest.raises(types.InputError, match="damaged or cut short"):
      tree.open_tree(source, tmp_path)

  def test_a_damaged_zip_member(self, tmp_path):
    source = _zip(tmp_path / "a.zip", self._DATA)
    data = bytearray(source.read_bytes())
    data[200] ^= 0xFF
    source.write_bytes(data)
    found = tree.open_tree(source, tmp_path)
    with pytest.raises(types.InputError, match="damaged or cut short"):
      tree.read(found.files("c")[0].where)

  def test_a_file_shorter_than_listed(self, tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    with pytest.raises(types.InputError, match="is cut short"):
      tree.read(listing.FileRange(str(tmp_path / "a"), 1, 3))


class TestFolders:
  def test_links_are_followed_and_loops_end(self, tmp_path):
    elsewhere = _folder(tmp_path / "elsewhere", {"1.png": b"1"})
    source = _folder(tmp_path / "source", {"a/2.png": b"2", "c/3.png": b"3"})
    (source / "b").symlink_to(elsewhere)
    (source / "a" / "up").symlink_to(source)
    (source / "a" / "self").symlink_to(source / "a")
    (source / "c" / "4.png").symlink_to(elsewhere / "1.png")
    contents = _contents(tree.open_tree(source, tmp_path))
    assert contents == {
      **{"a/2.png": b"2", "b/1.png": b"1", "c/3.png": b"3", "c/4.png": b"1"}
    }

  def test_a_link_to_nothing(self, tmp_path):
    (tmp_path / "1.png").symlink_to(tmp_path / "gone")
    with pytest.raises(types.InputError, match=r"1.png is a link to nothing"):
      tree.open_tree(tmp_path, tmp_path).files()

  def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path):
    source = _folder(tmp_path / "source", {"c/1.png": b"1"})
    pipe = source / "c" / "p.jpg"
    os.mkfifo(pipe)
    with pytest.raises(types.InputError, match=r"c/p.jpg is a device"):
      _contents(tree.open_tree(source, tmp_path))
    # Enough to read from it, so that a fault here does not hang the tests.
    end = os.open(pipe, os.O_RDWR)
    try:
      os.write(end, b"x" * 2**16)
      with pytest.raises(types.InputError, match=r"c/p.jpg is a device"):
        tree.open_tree(pipe, tmp_path)
    finally:
      os.close(end)


class TestLimit:
  @pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
  def test_up_to_it_all_is_read(self, kind, tmp_path):
    data = random.Random(0).randbytes(10_000)
    found = tree.open_tree(_make(kind, tmp_path, {"1.png": data}), tmp_path)
    (file,) = found.walk()
    for limit in (None, 20_000, 10_000):
      assert tree.read(file.where, limit) == data
    for limit in (9_999, 4096, 0):
      with pytest.raises(types.InputError, match="file has more than"):
        tree.read(file.where, limit)

  def test_it_is_told(self, tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * 2**20 // 2 + 1))
    where = listing.FileRange(str(tmp_path / "a"))
    with pytest.raises(types.InputError, match=r"has more than 1.5 MiB$"):
      tree.read(where, 3 * 2**20 // 2)
    (tmp_path / "a").write_bytes(b"123")
    with pytest.raises(types.InputError, match="is cut short"):
      tree.read(where._replace(offset=1, size=3), 10)

  @pytest.mark.parametrize("forged", [False, True])
  def test_little_that_becomes_much(self, forged, tmp_path):
    path = _zip(tmp_path / "a.zip", {"1.png": bytes(2**26)})
    data = bytearray(path.read_bytes())
    assert len(data) < 2**17
    if forged:  # It says that it has 100 bytes.
      at = data.index(b"PK\x01\x02") + 24
      data[at : at + 4] = struct.pack("<I", 100)
      path.write_bytes(data)
    (file,) = tree.open_tree(path, tmp_path).walk()
    assert file.size == (100 if forged else 2**26)
    tracemalloc.start()
    try:
      with pytest.raises(types.InputError, match=r"more than|damaged"):
        tree.read(file.where, 2**20)
      assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
      tracemalloc.stop()

  @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
  def test_methods_that_cannot_be_bounded(self, method, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
      archive.writestr("1.png", b"1")
    with pytest.raises(types.InputError, match=r"1.png', which is compressed"):
      tree.open_tree(path, tmp_path)


class TestReading:
  def test_zip_index_is_read_once(self, tmp_path, monkeypatch):
    files = {f"c/{i}.png": bytes([i]) * 5000 for i in range(200)}
    found = tree.open_tree(_zip(tmp_path / "a.zip", files), tmp_path)
    opened = []
    real = zipfile.ZipFile
    monkeypatch.setattr(
      zipfile, "ZipFile", lambda *a: opened.append(a) or real(*a)
    )
    where = [file.where for file in found.walk()] * 5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      data = list(pool.map(tree.read, where))
    assert data == [files[w.name] for w in where]
    assert len(opened) == 1

  def test_a_replaced_zip_is_read_anew(self, tmp_path):
    for data in (b"first", b"the second"):
      path = _zip(tmp_path / "new.zip", {"1": data}).replace(tmp_path / "a.zip")
      assert _contents(tree.open_tree(path, tmp_path)) == {"1": data}

  @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
  @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
  @pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")
  def test_zip_in_a_forked_process(self, tmp_path):
    files = {f"{i}.png": bytes([i]) * 5000 for i in range(100)}
    found = tree.open_tree(_zip(tmp_path / "a.zip", files), tmp_path)
    assert _contents(found) == files  # The parent holds it open now.
    child = os.fork()
    same = all(_contents(found) == files for _ in range(10))
    if not child:
      os._exit(0 if same else 1)
    assert same
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestMemory:
  def test_listing_a_tar_keeps_little(self, tmp_path):
    num = 5000
    path = _tar(
      tmp_path / "a.tar", {f"c{i % 10}/{i:030d}.jpg": b"" for i in range(num)}
    )
    tracemalloc.start()
    try:
      assert sum(1 for _ in archives.tar_files(path)) == num
      _, most = tracemalloc.get_traced_memory()
      tracemalloc.reset_peak()
      found = tree.open_tree(path, tmp_path)
      kept, _ = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
    assert len(list(found.walk())) == num
    assert most < 100_000  # bytes; 5,000 headers are 5 MB
    assert kept < 150 * num

  def test_a_tar_in_a_tar_is_read_in_place(self, tmp_path):
    inner = {f"{i}.png": bytes([i]) * 1000 for i in range(3)}
    data = _tar(tmp_path / "in.tar", inner).read_bytes()
    outer = _tar(tmp_path / "a.tar", {"0.txt": b"0", "in.tar": data})
    file = tree.open_tree(outer, tmp_path).get("in.tar")
    assert file is not None
    found = {f.name: tree.read(f.where) for f in tree.tar_files(file.where)}
    assert found == inner

    cut = file.where._replace(size=3000)
    with pytest.raises(types.InputError, match="cut short"):
      list(tree.tar_files(cut, shown="in.tar"))
