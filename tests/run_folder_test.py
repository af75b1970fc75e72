"""The folder of a run: what is kept, what is refused, what survives a kill."""

import contextlib
import errno
import json
import os
import platform
import shutil
import signal
import subprocess
import sys

import pytest

from fsl_jax import folder_lock, json_files, run_folder, types

CONFIG = {"method": {"name": "finetune", "steps": 25}, "ways": [5, 20]}


def make(path, config=CONFIG):
  return run_folder.RunFolder(path, config)


@pytest.fixture
def folder(tmp_path):
  return make(tmp_path / "a" / "run")


class TestConfig:
  def test_same_configuration_opens_again(self, folder):
    folder.append("episodes.jsonl", [{"index": 0}])
    again = make(folder.path)
    assert again.read("episodes.jsonl") == [{"index": 0}]
    starts = again.starts()
    assert len(starts) == 2
    assert {"versions", "commit", "platform"} <= set(starts[0])
    assert starts[0]["versions"]["jax"]

  def test_tuples_are_lists_on_disk(self, folder):
    make(folder.path, CONFIG | {"ways": (5, 20)})

  def test_another_configuration_is_refused_by_name(self, folder):
    other = {"method": {"name": "finetune", "steps": 24}, "ways": [5, 20]}
    with pytest.raises(types.InputError) as raised:
      make(folder.path, other)
    message = str(raised.value)
    assert str(folder.path) in message
    assert "method.steps was 25, now 24" in message
    assert "\n" not in message
    # The old one is still there.
    assert folder.config() == CONFIG

  def test_missing_and_added_keys_are_changes(self, folder):
    fewer = {"method": CONFIG["method"]}
    with pytest.raises(types.InputError, match=r"ways was \[5, 20\]"):
      make(folder.path, fewer)
    with pytest.raises(types.InputError, match="seed was null, now 0"):
      make(folder.path, CONFIG | {"seed": 0})

  def test_refused_start_leaves_no_trace(self, folder):
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    with pytest.raises(types.InputError):
      make(folder.path, CONFIG | {"seed": 1})
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == before

  def test_records_without_configuration_are_refused(self, tmp_path):
    (tmp_path / "episodes.jsonl").write_text('{"index": 0}\n')
    with pytest.raises(types.InputError, match=r"no config\.json"):
      make(tmp_path)

  def test_killed_before_the_configuration_was_written(self, tmp_path):
    (tmp_path / "config.json.tmp").write_text('{"meth')
    assert make(tmp_path).config() == CONFIG

  def test_damaged_configuration_is_named(self, folder):
    (folder.path / "config.json").write_text('{"method": ')
    with pytest.raises(types.InputError, match=r"config\.json is damaged"):
      make(folder.path)

  def test_path_of_a_file_is_refused(self, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(types.InputError, match="file"):
      make(path)


RECORDS = [{"index": 0, "a": 0.1 + 0.2}, {"index": 1, "a": None}]


class TestRecords:
  def test_line_that_another_process_writes_is_left_out(self, folder):
    folder.append("x.jsonl", RECORDS)
    path = folder.path / "x.jsonl"
    text = path.read_bytes()[:-5]
    path.write_bytes(text)
    assert run_folder.Files(folder.path).read("x.jsonl") == RECORDS[:1]
    assert path.read_bytes() == text

  def test_round_trip(self, folder):
    folder.append("x.jsonl", RECORDS[:1])
    folder.append("x.jsonl", RECORDS[1:])
    # Floats come back to the last bit.
    assert folder.read("x.jsonl") == RECORDS

  def test_no_file_is_no_record(self, folder):
    assert folder.read("x.jsonl") == []

  @pytest.mark.parametrize("cut", [1, 5, 12])
  def test_line_cut_short_is_dropped_for_good(self, folder, cut):
    folder.append("x.jsonl", RECORDS)
    path = folder.path / "x.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert folder.read("x.jsonl") == RECORDS[:1]
    # What is added next starts a line of its own.
    folder.append("x.jsonl", RECORDS[1:])
    assert folder.read("x.jsonl") == RECORDS

  def test_nothing_but_a_cut_line(self, folder):
    (folder.path / "x.jsonl").write_bytes(b'{"index": 0, "a')
    assert folder.read("x.jsonl") == []
    assert (folder.path / "x.jsonl").read_bytes() == b""

  @pytest.mark.parametrize(
    "middle", [b'{"index": \n', b"\xff\xfe\n", b"\n", b'{"index": 1}\n', b"5\n"]
  )
  def test_other_damage_is_named(self, folder, middle):
    folder.append("x.jsonl", RECORDS[:1])
    path = folder.path / "x.jsonl"
    good = path.read_bytes()
    path.write_bytes(good + middle + good)
    with pytest.raises(types.InputError, match=r"line 2 of .*x\.jsonl"):
      folder.read("x.jsonl")

  def test_text_with_line_breaks_and_letters(self, folder):
    records = [{"name": "a\nb\r\u2028\x85c", "ü": "日本"}]
    folder.append("x.jsonl", records)
    assert folder.read("x.jsonl") == records

  def test_rewrite(self, folder):
    folder.append("x.jsonl", RECORDS)
    folder.rewrite("x.jsonl", RECORDS[1:])
    assert folder.read("x.jsonl") == RECORDS[1:]


class TestJson:
  def test_round_trip_and_absence(self, folder):
    folder.keep("kept.json", {"mean": 0.1, "n": 3})
    assert folder.kept("kept.json") == {"mean": 0.1, "n": 3}
    assert folder.kept("other.json") == {}
    folder.write_json("result.json", [0.1])
    assert json.loads((folder.path / "result.json").read_text()) == [0.1]

  def test_old_file_survives_a_kill(self, folder, monkeypatch):
    folder.keep("kept.json", {"n": 1})

    def killed(*_):
      raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
      folder.keep("kept.json", {"n": 2})
    assert folder.kept("kept.json") == {"n": 1}

  def test_value_that_is_no_json_leaves_the_old_file(self, folder):
    folder.keep("kept.json", {"n": 1})
    with pytest.raises(TypeError):
      folder.keep("kept.json", {"n": object()})
    assert folder.kept("kept.json") == {"n": 1}

  def test_files_are_strict_json(self, folder):
    """NaN is no JSON: other readers stumble over it."""

    def refuse(name):
      raise AssertionError(name)

    with pytest.raises(ValueError, match="JSON"):
      folder.write_json("result.json", {"mean": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
      folder.append("x.jsonl", [{"mean": float("inf")}])
    for path in folder.path.glob("*.json"):
      json.loads(path.read_text(), parse_constant=refuse)


def damaged(text):
  """Each single bit flipped, and each truncation."""
  for position in range(len(text)):
    for bit in range(8):
      flipped = bytearray(text)
      flipped[position] ^= 1 << bit
      yield bytes(flipped)
    yield text[:position]


class TestDamage:
  @pytest.mark.parametrize(
    "value", [{}, {"a": 1e-05, "b": "\u00e9\n"}, CONFIG, {"a": [{"b": None}]}]
  )
  @pytest.mark.parametrize("form", [json_files.line, json_files.page])
  def test_every_change_of_a_sealed_text_is_noticed(self, value, form):
    text = form(value).encode()
    assert json_files.opened(text, "x") == (value, True)
    for other in damaged(text):
      with contextlib.suppress(types.InputError):
        # The digest's own key: its absence is noticed by `Files`.
        found, sealed = json_files.opened(other, "x")
        assert not sealed
        assert found != value

  @pytest.mark.parametrize(
    "name", ["config.json", "provenance.json", "kept.json", "x.jsonl"]
  )
  def test_every_change_of_a_file_is_refused(self, tmp_path, name, monkeypatch):
    monkeypatch.setattr(run_folder, "provenance", lambda: {"commit": "a"})
    folder = make(tmp_path)
    folder.append("x.jsonl", RECORDS)
    folder.keep("kept.json", {"a": 1})
    path = folder.path / name
    for text in damaged(path.read_bytes()):
      path.write_bytes(text)
      files = run_folder.Files(folder.path)
      with contextlib.suppress(types.InputError):
        found = [files.config(), files.starts(), files.kept("kept.json")]
        records = files.read("x.jsonl")
        # A cut line is that of a kill. Who wrote the file knows how many
        # there were.
        assert name == "x.jsonl"
        assert found == [CONFIG, folder.starts(), {"a": 1}]
        assert records in ([], RECORDS[:1])

  def test_folder_of_an_earlier_version(self, tmp_path):
    """It has no digests: it is read, and what is added has none either."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG, indent=2))
    (tmp_path / "provenance.json").write_text('[{"commit": "a"}]')
    line = json.dumps(RECORDS[0]) + "\n"
    (tmp_path / "x.jsonl").write_text(line)
    folder = make(tmp_path)
    folder.append("x.jsonl", RECORDS[1:])
    folder.keep("kept.json", {"a": 1})
    for again in (folder, make(tmp_path)):
      assert again.read("x.jsonl") == RECORDS
      assert again.kept("kept.json") == {"a": 1}
      assert again.starts()[0] == {"commit": "a"}
    assert (tmp_path / "x.jsonl").read_text().startswith(line)

  def test_nested_too_deeply(self, folder):
    for name in ("config.json", "x.jsonl"):
      (folder.path / name).write_text("[" * 200_000)
    for read in (
      lambda files: files.config(),
      lambda files: files.read("x.jsonl") + [files.config()],
    ):
      with pytest.raises(types.InputError, match="damaged"):
        read(run_folder.Files(folder.path))


def test_provenance_is_json():
  value = run_folder.provenance()
  assert json.loads(json.dumps(value)) == value
  assert value["versions"]["numpy"] != "not installed"


# A process that works on a folder. The child that it forks has all of its
# descriptors, tries to open the folder too, and outlives it.
_WORKER = """
import os, pathlib, sys, time
from fsl_jax import folder_lock, json_files, run_folder, types
path = pathlib.Path(sys.argv[1])
run_folder.RunFolder(path, {})
child = os.fork()
if not child:
  try:
    found = folder_lock.acquire(path)
  except types.InputError as error:
    found = error
  print(os.getpid(), found, flush=True)
  time.sleep(600)
  os._exit(0)
time.sleep(600)
"""

# The lock by the system call alone: prints whether it was had, then waits.
_LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "r+")
try:
  fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  print("free", flush=True)
except OSError:
  print("busy", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def started(code, path):
  """A second process, and the first line that it prints."""
  with subprocess.Popen(
    [sys.executable, "-c", code, str(path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      yield process, process.stdout.readline().rstrip("\n")
    finally:
      process.kill()


def is_free(folder):
  with started(_LOCKER, folder.path / "lock") as (_, line):
    assert line in ("free", "busy")
    return line == "free"


class TestLock:
  @pytest.fixture(autouse=True)
  def _posix(self):
    pytest.importorskip("fcntl")

  def test_one_process_at_a_time(self, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    # What a process with a longer name left.
    (path / "lock").write_text("x" * 200)
    with started(_WORKER, path) as (process, line):
      child, _, said = line.partition(" ")
      try:
        name = f"process {process.pid} on host {platform.node()}"
        expected = (
          f"{path} is being worked on by {name}; wait for it, or choose "
          "another run folder"
        )
        before = {p.name: p.read_bytes() for p in path.iterdir()}
        assert said == expected
        assert run_folder.worker(path) == name
        with pytest.raises(types.InputError) as raised:
          make(path)
        assert str(raised.value) == expected
        # Nothing was written, though the configuration is another one.
        assert {p.name: p.read_bytes() for p in path.iterdir()} == before

        process.send_signal(signal.SIGKILL)
        process.wait()
        assert run_folder.worker(path) is None
        run_folder.RunFolder(path, {})
      finally:
        os.kill(int(child), signal.SIGKILL)

  def test_held_until_the_process_ends(self, folder):
    path = folder.path
    assert not is_free(folder)
    again = make(path)
    del again
    assert run_folder.worker(path) is None  # but this process itself
    assert not is_free(folder)

  def test_other_names_of_the_folder(self, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder.path)
    make(tmp_path / "link")
    assert not is_free(folder)

  def test_folder_made_anew(self, folder):
    shutil.rmtree(folder.path)
    assert run_folder.worker(folder.path) is None
    assert not is_free(make(folder.path))

  def test_refused_start_lets_go(self, folder):
    folder_lock.release(folder.path)
    with pytest.raises(types.InputError, match="another configuration"):
      make(folder.path, {})
    assert is_free(folder)
    make(folder.path)
    with pytest.raises(types.InputError, match="another configuration"):
      make(folder.path, {})
    assert not is_free(folder)

  def test_asking_makes_nothing(self, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
      assert run_folder.worker(str(path)) is None
    assert os.listdir(tmp_path) == ["file"]

  def test_asking_takes_nothing(self, folder):
    """The folder is free for the next one, and its lock's text is kept."""
    folder_lock.release(folder.path)
    text = (folder.path / "lock").read_text()
    assert run_folder.worker(folder.path) is None
    assert is_free(folder)
    assert (folder.path / "lock").read_text() == text

  @pytest.mark.parametrize("asks", [False, True])
  def test_waits_for_one_who_asks(self, asks, folder, monkeypatch):
    """Asking takes the lock for an instant."""
    folder_lock.release(folder.path)
    with started(_LOCKER, folder.path / "lock") as (process, line):
      assert line == "free"

      def let_go(seconds):
        process.kill()
        process.wait()

      monkeypatch.setattr(folder_lock.time, "sleep", let_go)
      if asks:
        assert run_folder.worker(folder.path) is None
      else:
        make(folder.path)
    assert is_free(folder) == asks

  def test_file_system_without_locks(self, tmp_path, monkeypatch):
    def unsupported(*_, **__):
      raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(folder_lock.filelock, "lock_descriptor", unsupported)
    folder = make(tmp_path)
    assert folder.config() == CONFIG
    folder_lock.release(folder.path)
    assert run_folder.worker(folder.path) is None


def test_python_without_locks(tmp_path):
  """As on Windows: the library is there, and a folder is not guarded."""
  code = (
    "import sys; sys.modules['fcntl'] = None; import fsl_jax as fsl; "
    "folder = fsl.run_folder.RunFolder(sys.argv[1], {}); "
    "print(fsl.run_folder.worker(sys.argv[1])); folder.release()"
  )
  with started(code, tmp_path / "a") as (process, line):
    assert line == "None"
    assert process.wait() == 0
