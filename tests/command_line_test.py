"""What every script does around its own work: flags, errors, caches."""

import errno

import command_line
import jax
import pytest
from absl import flags
from absl.testing import flagsaver

_PATH = command_line.define_path("test_path", None, "x")
_LIST = flags.DEFINE_list("test_list", ["3", "4"], "x")


def nothing(argv):
  del argv


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
  """Runs a `main` under flags; exit status, stdout, stderr."""
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
  monkeypatch.setattr(command_line.logging, "set_verbosity", lambda _: None)

  def run(*argv, main=nothing):
    with flagsaver.flagsaver():
      left = flags.FLAGS(["script.py", *argv])
      status = command_line.guarded(main, left, arguments=2)
    return status, *capsys.readouterr()

  return run


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--test_list="], "--test_list is empty, expected values separated"),
    (["--test_path="], "--test_path is empty, expected a path"),
    (
      ["--test_path=gs://bucket/x"],
      "--test_path must be on a local or mounted file system, got "
      "'gs://bucket/x'",
    ),
    (
      ["--test_path=~nosuchuser/x"],
      "--test_path is '~nosuchuser/x', but that home directory is unknown",
    ),
    (["a", ""], "argument 2 is empty, expected a path"),
    (["a", "s3://b"], "argument 2 must be on a local"),
    (["a", "b", "c"], "unexpected argument 'c'"),
    (["--test_list=3"], "--test_list takes 2 numbers, got '3'"),
    (["--test_list=3,4,5"], "--test_list takes 2 numbers, got '3,4,5'"),
    (["--test_list=a,4"], "--test_list must be whole numbers of at least 1"),
    (["--test_list=3,"], "--test_list must be whole numbers of at least 1"),
    (["--test_list=3,0"], "--test_list must be whole numbers of at least 1"),
  ],
)
def test_flags_are_refused_in_one_sentence(run, arguments, message):
  def main(argv):
    command_line.whole_numbers(_LIST, how_many=2)

  status, out, err = run(*arguments, main=main)
  assert (status, out) == (1, "")
  assert err.startswith(f"error: {message}")
  assert err.count("\n") == 1


def test_flags_that_are_good(run, monkeypatch, tmp_path):
  monkeypatch.setenv("HOME", str(tmp_path))

  def main(argv):
    print(_PATH.value, *argv[1:], command_line.whole_numbers(_LIST))

  expected = f"{tmp_path}/a {tmp_path}/b [5]\n"
  assert run("--test_path=~/a", "~/b", "--test_list=5", main=main) == (
    *(0, expected, ""),
  )
  assert run(main=main) == (0, "None [3, 4]\n", "")


def test_too_little_memory_is_one_sentence(run):
  def numpy(argv):
    raise MemoryError("Unable to allocate 87.0 TiB")

  def xla(argv):
    jax.numpy.zeros((1 << 21, 1 << 21), "float32") + 1

  for main in (numpy, xla):
    status, _, err = run(main=main)
    assert status == 1
    assert "need less memory" in err
    assert err.count("\n") == 1


def test_other_errors_of_jax_keep_their_traceback(run):
  def main(argv):
    raise jax.errors.JaxRuntimeError("INTERNAL: a fault")

  with pytest.raises(jax.errors.JaxRuntimeError):
    run(main=main)


def test_error_of_the_file_system(run):
  def main(argv):
    raise OSError(errno.ENOSPC, "No space left on device", "/a")

  assert run(main=main) == (1, "", "error: No space left on device: /a\n")


class TestCache:
  @pytest.fixture(autouse=True)
  def _anew(self):
    command_line._cache_root.cache_clear()
    yield
    command_line._cache_root.cache_clear()

  def test_folder(self, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert command_line.cache_dir("a") == tmp_path / "fsl_jax" / "a"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    command_line._cache_root.cache_clear()
    expected = tmp_path / ".cache" / "fsl_jax" / "a"
    assert command_line.cache_dir("a") == expected
    assert capsys.readouterr().err == ""
    assert not list(expected.parent.iterdir())

  @pytest.mark.parametrize("place", ["~nosuchuser", "file", "gs://bucket/x"])
  def test_without_one_there_is_one_warning(
    self, place, tmp_path, monkeypatch, capsys
  ):
    """A file as parent folder cannot be written even by root."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", place)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.jax_compilation_cache_dir
    command_line.keep_compiled_programs()
    assert command_line.cache_dir("features") is None
    assert jax.config.jax_compilation_cache_dir == before
    err = capsys.readouterr().err
    assert err.startswith("warning: compiled programs and features are not")
    assert err.count("\n") == 1

  def test_no_home(self, tmp_path, monkeypatch, capsys):
    """As in a container whose user id is in no table."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert command_line.cache_dir("features") is None
    assert "home directory is unknown" in capsys.readouterr().err
