"""Downloads against a server on this machine that misbehaves on request."""

import contextlib
import functools
import hashlib
import http.server
import re
import socket
import threading
from typing import Any

import numpy as np
import pytest

from fsl_jax import types
from fsl_jax.data import download

_DATA = np.random.default_rng(0).bytes(3 * (1 << 20) + 12345)
_SHA256 = hashlib.sha256(_DATA).hexdigest()
_CUT = 1_300_000


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves `_DATA`; what the server's `plan` says goes wrong."""

  def do_GET(self):
    plan = self.server.plan
    wanted = self.headers.get("Range")
    plan.asked.append(wanted)
    if plan.statuses:
      self.send_error(plan.statuses.pop(0))
      return
    start = 0
    if wanted and plan.has_ranges:
      start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
      self.send_response(206)
      total = len(plan.data)
      self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    else:
      self.send_response(200)
    body = plan.data[start:]
    if plan.tells_length:
      self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    if plan.cuts:
      plan.cuts -= 1
      body = body[:_CUT]
    with contextlib.suppress(ConnectionError):
      self.wfile.write(body)

  def log_message(self, *arguments):
    pass


class Plan:
  def __init__(self):
    self.data = _DATA
    self.has_ranges = True
    self.tells_length = True
    self.cuts = 0  # connections that end early
    self.statuses: list[int] = []  # errors to answer first
    self.asked: list[str | None] = []  # ranges that were asked for
    self.url = ""


@pytest.fixture
def plan(monkeypatch):
  monkeypatch.setenv("no_proxy", "*")
  monkeypatch.setattr(download, "_WAIT_S", 0.001)
  server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  server.plan = Plan()
  server.plan.url = f"http://127.0.0.1:{server.server_port}/x/data.tar.gz?a=1"
  thread = threading.Thread(
    target=functools.partial(server.serve_forever, poll_interval=0.01)
  )
  thread.start()
  yield server.plan
  server.shutdown()
  thread.join()
  server.server_close()


def _fetch(plan, folder, **options):
  chosen = {"sha256": _SHA256, "size_bytes": len(_DATA), **options}
  return download.fetch(plan.url, folder=folder, **chosen)


def test_fetches_once(plan, tmp_path):
  path = _fetch(plan, tmp_path / "new" / "folder")
  assert path == tmp_path / "new" / "folder" / "data.tar.gz"
  assert path.read_bytes() == _DATA
  assert _fetch(plan, path.parent) == path
  assert plan.asked == [None]
  assert list(path.parent.iterdir()) == [path]


def test_a_damaged_file_is_fetched_again(plan, tmp_path):
  for damaged in (_DATA[:-1], bytes([_DATA[0] ^ 1]) + _DATA[1:]):
    (tmp_path / "data.tar.gz").write_bytes(damaged)
    assert _fetch(plan, tmp_path).read_bytes() == _DATA


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_cut_connection_is_resumed(plan, tmp_path, tells_length):
  plan.cuts, plan.tells_length = 2, tells_length
  assert _fetch(plan, tmp_path).read_bytes() == _DATA
  assert plan.asked == [None, f"bytes={_CUT}-", f"bytes={2 * _CUT}-"]


def test_a_later_call_continues(plan, tmp_path):
  part = tmp_path / "data.tar.gz.part"
  part.write_bytes(_DATA[:1000])
  assert _fetch(plan, tmp_path).read_bytes() == _DATA
  assert plan.asked == ["bytes=1000-"]
  # One that was complete needs no connection, one too long is no beginning.
  (tmp_path / "data.tar.gz").rename(part)
  _fetch(plan, tmp_path)
  assert len(plan.asked) == 1
  (tmp_path / "data.tar.gz").unlink()
  part.write_bytes(_DATA + b"more")
  assert _fetch(plan, tmp_path).read_bytes() == _DATA
  assert plan.asked[1:] == [None]


def test_without_ranges_it_starts_over(plan, tmp_path):
  plan.has_ranges, plan.cuts = False, 1
  assert _fetch(plan, tmp_path).read_bytes() == _DATA
  assert plan.asked == [None, f"bytes={_CUT}-"]


def test_it_gives_up_when_nothing_new_comes(plan, tmp_path):
  plan.has_ranges, plan.cuts = False, 1000
  with pytest.raises(types.InputError, match=r"closed early.*source=FILE$"):
    _fetch(plan, tmp_path)
  assert len(plan.asked) == 1 + download._TRIES
  assert [path.suffix for path in tmp_path.iterdir()] == [".part"]


def test_a_wrong_checksum_is_told_and_removed(plan, tmp_path):
  with pytest.raises(
    types.InputError, match=f"SHA-256 {_SHA256}, expected {'0' * 64}"
  ):
    _fetch(plan, tmp_path, sha256="0" * 64)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_file_of_another_size_is_refused(plan, tmp_path, tells_length):
  plan.tells_length = tells_length
  plan.data = _DATA + b"!"
  with pytest.raises(types.InputError) as caught:
    _fetch(plan, tmp_path, sha256="0" * 64)
  assert ("expected 3,158,073" in str(caught.value)) == tells_length
  assert len(plan.asked) == 1
  assert not (tmp_path / "data.tar.gz").exists()


def test_a_stopped_server_is_tried_again(plan, tmp_path):
  plan.statuses = [503, 500]
  assert _fetch(plan, tmp_path).read_bytes() == _DATA
  assert len(plan.asked) == 3
  (tmp_path / "data.tar.gz").unlink()
  plan.statuses = [404]
  with pytest.raises(types.InputError, match=r"HTTP 404.*source=FILE$"):
    _fetch(plan, tmp_path)
  assert len(plan.asked) == 4


def test_offline_says_what_to_do(plan, tmp_path, monkeypatch):
  waits: list[float] = []
  monkeypatch.setattr(download.time, "sleep", waits.append)
  with socket.create_server(("127.0.0.1", 0)) as closed:
    port = closed.getsockname()[1]
  plan.url = f"http://127.0.0.1:{port}/data.tar.gz"
  with pytest.raises(types.InputError) as caught:
    _fetch(plan, tmp_path)
  message = str(caught.value)
  assert plan.url in message
  assert "no connection" in message
  assert message.endswith("by hand and give it with source=FILE")
  assert "\n" not in message
  assert len(waits) == download._TRIES - 1
  assert np.allclose(np.diff(np.log2(waits)), 1)


def test_progress_counts_every_block_once(plan, tmp_path):
  def wrap(seen):
    def progress(blocks, total):
      seen.append(total)
      for block in blocks:
        seen.append(block)
        yield block

    return progress

  plan.has_ranges, plan.cuts = False, 1
  first: list[Any] = []
  path = _fetch(plan, tmp_path, progress=wrap(first))
  assert first == [4, 0, 1, 2, 3]
  path.rename(tmp_path / "data.tar.gz.part")
  again: list[Any] = []
  _fetch(plan, tmp_path, progress=wrap(again))
  assert again == first
