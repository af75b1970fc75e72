"""Standard output of scripts: what cannot be written does not end a run."""

import os
import pathlib
import subprocess
import sys

import pytest

_EXPERIMENTS = pathlib.Path(__file__).resolve().parents[1] / "experiments"


def start(body, *, prefix=(), encoding="utf-8", **streams):
  """A process whose last act is to make the file `done`."""
  code = f"import output, sys\noutput.never_fails()\n{body}\nopen('done', 'w')"
  environment = os.environ | {
    "PYTHONPATH": str(_EXPERIMENTS),
    "PYTHONIOENCODING": encoding,
    "PYTHONUNBUFFERED": "",
  }
  return subprocess.run(
    [*prefix, sys.executable, "-c", code],
    env=environment,
    timeout=60,
    **streams,
  )


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)


def test_what_cannot_be_encoded_is_replaced():
  body = "print('81 ± 2'); print('ü', file=sys.stderr)"
  done = start(body, encoding="ascii", capture_output=True)
  assert (done.returncode, done.stdout, done.stderr) == (0, b"81 ? 2\n", b"?\n")
  done = start(body, capture_output=True)
  assert done.stdout.decode() == "81 ± 2\n"


def test_what_nobody_reads_is_dropped():
  """The reader of both streams is gone before the first line."""
  reader, writer = os.pipe()
  os.close(reader)
  body = (
    "print('x' * 100_000); print('y', file=sys.stderr, flush=True); "
    "print('z', flush=True); print('buffered')"
  )
  done = start(body, stdout=writer, stderr=writer)
  os.close(writer)
  assert done.returncode == 0
  assert os.path.exists("done")


def test_streams_closed_before_the_start():
  shell = ("sh", "-c", 'exec "$@" >&- 2>&-', "sh")
  body = "print('x', flush=True); print('y', file=sys.stderr)"
  assert start(body, prefix=shell).returncode == 0
  assert os.path.exists("done")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_an_error():
  """Unlike a reader that is gone: the output may be wanted."""
  body = (
    "print('x')\n"
    "try:\n  sys.stdout.flush()\n"
    "except OSError as error:\n  output.drop_rest(); sys.exit(error.errno)\n"
  )
  with open("/dev/full", "w") as full:
    done = start(body, stdout=full, stderr=subprocess.PIPE)
  assert (done.returncode, done.stderr) == (28, b"")
