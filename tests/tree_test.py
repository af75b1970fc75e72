"""Folders and archives have one interface: the same files, or one sentence."""

import concurrent.futures
import os
import random
import struct
import tarfile
import tracemalloc
import zipfile

import pytest
import sources

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
_DATA = {f"c/{i}.png": random.Random(i).randbytes(700) for i in range(4)}

_TARS = ("tar", "tar.gz", "tar.bz2", "tar.xz")


def _make(kind, tmp_path, files):
  if kind == "folder":
    return sources.write(tmp_path / "source", files)
  make = sources.zip_ if kind == "zip" else sources.tar
  return make(tmp_path / f"source.{kind}", files)


def _contents(source, tmp_path):
  found = tree.open_tree(source, tmp_path)
  return {file.name: tree.read(file.where) for file in found.walk()}


def _refusal(source, tmp_path):
  with pytest.raises(types.InputError) as caught:
    _contents(source, tmp_path)
  assert "\n" not in str(caught.value)
  return str(caught.value)


class TestOpen:
  @pytest.mark.parametrize("kind", ["folder", "zip", *_TARS])
  def test_all_kinds_hold_the_same(self, kind, tmp_path):
    source = _make(kind, tmp_path, _FILES | _HIDDEN)
    assert _contents(source, tmp_path) == _FILES
    found = tree.open_tree(source, tmp_path)
    assert found.folders() == sorted(
      {n.split("/")[0] for n in _FILES} - {"top.txt"}
    )
    (cat,) = found.files("cats")
    assert cat.name == "cats/Tom & Jerry.jpg"
    assert found.folders("cats") == ["kittens"]
    assert {f.name: f.size for f in found.walk()} == {
      name: len(data) for name, data in _FILES.items()
    }
    for name in _FILES:
      assert tree.read(found.get(name).where) == _FILES[name]
    for name in ("none", "cats/none", "none/none", "cats", "cats/._1.jpg"):
      assert found.get(name) is None
    assert found.files("none") == found.folders("none") == []

  @pytest.mark.parametrize(
    "tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
  )
  def test_long_names_of_both_tar_formats(self, tar_format, tmp_path):
    source = sources.tar(tmp_path / "a.tar", _FILES, format=tar_format)
    assert _contents(source, tmp_path) == _FILES

  def test_names_do_not_define_the_kind(self, tmp_path):
    source = _make("tar.gz", tmp_path, _FILES).rename(tmp_path / "a.zip")
    assert _contents(source, tmp_path) == _FILES

  def test_compressed_tars_of_one_name(self, tmp_path):
    for which in ("a", "b"):
      folder = sources.write(tmp_path / which, {})
      source = sources.tar(folder / "x.tar.gz", {"1": which.encode()})
      assert _contents(source, tmp_path) == {"1": which.encode()}

  def test_a_tar_that_ends_with_a_zip(self, tmp_path):
    inner = _make("zip", tmp_path, {"1": b"1"}).read_bytes()
    source = sources.tar(tmp_path / "a.tar", {"in.zip": inner})
    with open(source, "r+b") as file:  # As little padding as allowed.
      file.truncate(512 + -(-len(inner) // 512) * 512 + 1024)
    assert list(_contents(source, tmp_path)) == ["in.zip"]

  def test_the_last_of_several_members_of_a_name_counts(self, tmp_path):
    source = sources.tar(tmp_path / "a.tar", {"./1": b"old", "1": b"new"})
    assert _contents(source, tmp_path) == {"1": b"new"}

  def test_neither(self, tmp_path):
    (tmp_path / "a").write_bytes(b"text" * 1000)
    assert "neither a folder nor" in _refusal(tmp_path / "a", tmp_path)
    assert "does not exist" in _refusal(tmp_path / "b", tmp_path)


class TestNames:
  def test_zip_with_unmarked_utf8_and_backslashes(self, tmp_path):
    # "_" marks bytes that are then replaced by those of "Ü" and "\".
    source = _make("zip", tmp_path, {"__bel/1.png": b"1", "b_2.png": b"2"})
    data = source.read_bytes()
    data = data.replace(b"__bel", "Übel".encode()).replace(b"b_2", b"b\\2")
    source.write_bytes(data)
    expected = {"b/2.png": b"2", "Übel/1.png": b"1"}
    assert _contents(source, tmp_path) == expected

  def test_tar_with_latin1_names(self, tmp_path):
    path = sources.tar(
      tmp_path / "a.tar", {"Übel/1.png": b""}, encoding="latin-1"
    )
    assert list(_contents(path, tmp_path)) == ["Übel/1.png"]

  @pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
  @pytest.mark.parametrize(
    "name",
    ["/etc/x.png", "../x.png", "a/../../x.png", "C:/x.png", "C:x", "..\\x"],
  )
  def test_names_that_lead_outside(self, kind, name, tmp_path):
    source = _make(kind, tmp_path, {"a.png": b"", name: b""})
    message = _refusal(source, tmp_path)
    assert "leads outside" in message
    assert str(source) in message

  def test_safe_names(self):
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
    message = _refusal(tmp_path, tmp_path)
    assert r"caf\xe9" in message
    assert "is not UTF-8" in message


class TestRefused:
  @pytest.mark.parametrize(
    ("kind", "said"),
    [
      (tarfile.SYMTYPE, "a link"),
      (tarfile.LNKTYPE, "a link"),
      (tarfile.CHRTYPE, "a device"),
      (tarfile.FIFOTYPE, "a device"),
      (tarfile.GNUTYPE_SPARSE, "stored with holes"),
    ],
  )
  def test_tar_members(self, kind, said, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
      info = tarfile.TarInfo("odd.png")
      info.type, info.linkname = kind, "/etc/passwd"
      tar.addfile(info)
    assert f"odd.png', which is {said}" in _refusal(path, tmp_path)

  def test_zip_links_and_encryption(self, tmp_path):
    info = zipfile.ZipInfo("odd.png")
    info.external_attr = 0o120777 << 16
    path = sources.zip_(tmp_path / "a.zip", {info: "/etc/passwd"})
    assert "odd.png', which is a link" in _refusal(path, tmp_path)

    data = bytearray(sources.zip_(path, {"1.png": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    assert "1.png', which is encrypted" in _refusal(path, tmp_path)

  @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
  def test_methods_that_cannot_be_bounded(self, method, tmp_path):
    path = sources.zip_(tmp_path / "a.zip", {"1.png": b"1"}, method)
    assert "1.png', which is compressed" in _refusal(path, tmp_path)


class TestDamaged:
  @pytest.mark.parametrize("kind", ["zip", *_TARS])
  def test_cut_anywhere(self, kind, tmp_path):
    whole = _make(kind, tmp_path, _DATA).read_bytes()
    # A tar may be cut in the zeros that follow its end mark.
    end = 4 * (512 + 1024) + 512 if kind == "tar" else len(whole)
    for size in (*range(513, end, 97), *range(512, end, 512), end - 1):
      cut = tmp_path / f"cut-{size}"
      cut.write_bytes(whole[:size])
      message = _refusal(cut, tmp_path)
      assert "damaged" in message or "cut short" in message
      assert str(cut) in message

  @pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
  def test_damaged_streams(self, kind, tmp_path):
    source = _make(kind, tmp_path, _DATA)
    data = bytearray(source.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 20):
      data[i] ^= 0xFF
    source.write_bytes(data)
    assert "damaged or cut short" in _refusal(source, tmp_path)

  def test_damaged_tar_headers(self, tmp_path):
    source = _make("tar", tmp_path, _DATA)
    data = bytearray(source.read_bytes())
    data[1536 + 10] ^= 1
    source.write_bytes(data)
    assert "no end mark at byte 1536" in _refusal(source, tmp_path)
    data[1536 + 10] ^= 1
    # With a negative size the next header would be this one again.
    data[1536 + 124 : 1536 + 136] = b"\xff" * 10 + struct.pack(">h", -512)
    header = data[1536:2048]
    header[148:156] = b" " * 8
    data[1536 + 148 : 1536 + 156] = b"%06o\0 " % sum(header)
    source.write_bytes(data)
    assert "damaged or cut short" in _refusal(source, tmp_path)

  def test_a_damaged_zip_member(self, tmp_path):
    source = _make("zip", tmp_path, _DATA)
    data = bytearray(source.read_bytes())
    data[200] ^= 0xFF
    source.write_bytes(data)
    assert "damaged or cut short" in _refusal(source, tmp_path)


class TestFolders:
  def test_links_are_followed_and_loops_end(self, tmp_path):
    elsewhere = sources.write(tmp_path / "elsewhere", {"1.png": b"1"})
    files = {"a/2.png": b"2", "c/3.png": b"3"}
    source = sources.write(tmp_path / "source", files)
    (source / "b").symlink_to(elsewhere)
    (source / "a" / "up").symlink_to(source)
    (source / "a" / "self").symlink_to(source / "a")
    (source / "c" / "4.png").symlink_to(elsewhere / "1.png")
    linked = {"b/1.png": b"1", "c/4.png": b"1"}
    assert _contents(source, tmp_path) == files | linked

  def test_a_link_to_nothing(self, tmp_path):
    (tmp_path / "1.png").symlink_to(tmp_path / "gone")
    assert "1.png is a link to nothing" in _refusal(tmp_path, tmp_path)

  def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path):
    source = sources.write(tmp_path / "source", {"c/1.png": b"1"})
    pipe = source / "c" / "p.jpg"
    os.mkfifo(pipe)
    assert "c/p.jpg is a device" in _refusal(source, tmp_path)
    # Enough to read from it, so that a fault here does not hang the tests.
    end = os.open(pipe, os.O_RDWR)
    try:
      os.write(end, b"x" * 2**16)
      assert "c/p.jpg is a device" in _refusal(pipe, tmp_path)
    finally:
      os.close(end)


class TestLimit:
  @pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
  def test_files_up_to_it_are_read(self, kind, tmp_path):
    data = random.Random(0).randbytes(10_000)
    found = tree.open_tree(_make(kind, tmp_path, {"1.png": data}), tmp_path)
    (file,) = found.walk()
    for limit in (None, 20_000, 10_000):
      assert tree.read(file.where, limit) == data
    for limit in (9_999, 4096, 0):
      with pytest.raises(types.InputError, match="file has more than"):
        tree.read(file.where, limit)
    for size in (0, 1, 9_999, 10_001):
      assert tree.head(file.where, size) == data[:size]

  def test_it_is_named_and_a_short_file_is_refused(self, tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * 2**20 // 2 + 1))
    where = listing.FileRange(str(tmp_path / "a"))
    with pytest.raises(types.InputError, match=r"has more than 1.5 MiB$"):
      tree.read(where, 3 * 2**20 // 2)
    (tmp_path / "a").write_bytes(b"123")
    for limit in (None, 10):
      with pytest.raises(types.InputError, match="is cut short"):
        tree.read(where._replace(offset=1, size=3), limit)

  @pytest.mark.parametrize("forged", [False, True])
  def test_few_bytes_that_decompress_to_many(self, forged, tmp_path):
    path = _make("zip", tmp_path, {"1.png": bytes(2**26)})
    data = bytearray(path.read_bytes())
    assert len(data) < 2**17
    if forged:  # Its size is given as 100 bytes.
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


class TestReading:
  def test_zip_index_is_read_once(self, tmp_path, monkeypatch):
    files = {f"c/{i}.png": bytes([i]) * 5000 for i in range(200)}
    found = tree.open_tree(_make("zip", tmp_path, files), tmp_path)
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
      new = sources.zip_(tmp_path / "new.zip", {"1": data})
      path = new.replace(tmp_path / "a.zip")
      assert _contents(path, tmp_path) == {"1": data}

  @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
  @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
  @pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")
  def test_zip_in_a_forked_process(self, tmp_path):
    files = {f"{i}.png": bytes([i]) * 5000 for i in range(100)}
    path = _make("zip", tmp_path, files)
    assert _contents(path, tmp_path) == files  # The parent holds it open now.
    child = os.fork()
    same = all(_contents(path, tmp_path) == files for _ in range(10))
    if not child:
      os._exit(0 if same else 1)
    assert same
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

  def test_listing_a_tar_keeps_little(self, tmp_path):
    num = 5000
    files = {f"c{i % 10}/{i:030d}.jpg": b"" for i in range(num)}
    path = _make("tar", tmp_path, files)
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
    files = {"0.txt": b"0", "in.tar": sources.tar_bytes(inner)}
    outer = _make("tar", tmp_path, files)
    file = tree.open_tree(outer, tmp_path).get("in.tar")
    found = {f.name: tree.read(f.where) for f in tree.tar_files(file.where)}
    assert found == inner

    cut = file.where._replace(size=3000)
    with pytest.raises(types.InputError, match="cut short"):
      list(tree.tar_files(cut, shown="in.tar"))
