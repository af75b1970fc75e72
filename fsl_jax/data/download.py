"""Download of one file over HTTP: resumed, verified, and never partial."""

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

from fsl_jax import types, version
from fsl_jax.data import parallel

_BLOCK = 1 << 20  # bytes
_TIMEOUT_S = 30.0  # without receiving a byte
_TRIES = 4  # in a row that make no progress
_WAIT_S = 1.0  # before another try; doubles without progress

_TRANSIENT = (408, 429, 500, 502, 503, 504)  # HTTP errors


class _Interrupted(Exception):
  """The network failed; another try may succeed."""


class _Refused(Exception):
  """The server's answer is wrong; another try would fail too."""


def fetch(
  url: str,
  *,
  sha256: str,
  size_bytes: int,
  folder: str | os.PathLike[str],
  progress: parallel.Progress | None = None,
) -> pathlib.Path:
  """Downloads a file, unless it is there.

  Until it is complete its name ends in ".part"; a later call continues it.

  Args:
    url: http or https.
    sha256: of the file, hexadecimal.
    size_bytes: of the file.
    folder: where it is put, under the last part of the URL; made if missing.
    progress: called with the blocks of 1 MiB to be received and their number.

  Returns:
    The file, with the right size and checksum.

  Raises:
    InputError: if the download fails or has another checksum, telling how to
      do without.
    OSError: if the folder cannot be written.
  """
  folder = pathlib.Path(folder).expanduser()
  path = folder / pathlib.PurePosixPath(urllib.parse.urlsplit(url).path).name
  if (
    path.is_file()
    and path.stat().st_size == size_bytes
    and _sha256(path) == sha256
  ):
    return path
  folder.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f"{path.name}.part")
  by_hand = f"fetch {url} by hand and give it with source=FILE"
  try:
    blocks: Iterable[Any] = _received(url, part, size_bytes)
    if progress is not None:
      blocks = progress(blocks, -(-size_bytes // _BLOCK))
    for _ in blocks:
      pass
  except (_Interrupted, _Refused) as error:
    raise types.InputError(
      f"cannot download {url}: {error}; try again, or {by_hand}"
    ) from error
  found = _sha256(part)
  if found != sha256:
    part.unlink()
    raise types.InputError(
      f"the file from {url} has the SHA-256 {found}, expected {sha256}; it was "
      f"removed; try again, or {by_hand}"
    )
  part.replace(path)
  return path


def _sha256(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _received(url: str, part: pathlib.Path, size_bytes: int) -> Iterator[int]:
  """Fills `part` block by block, over as many connections as needed."""
  part.touch()
  if part.stat().st_size > size_bytes:
    part.write_bytes(b"")
  most, tries, num_blocks = part.stat().st_size, 0, 0
  while True:
    problem = _Interrupted("the connection was closed early")
    try:
      for size in _receive(url, part, size_bytes):
        # Blocks of an earlier connection are counted once.
        while num_blocks * _BLOCK < size:
          yield num_blocks
          num_blocks += 1
    except _Interrupted as error:
      problem = error
    size = part.stat().st_size
    if size == size_bytes:
      return
    tries = 0 if size > most else tries + 1
    most = max(most, size)
    if tries >= _TRIES:
      raise problem
    time.sleep(_WAIT_S * 2 ** max(tries - 1, 0))


def _receive(url: str, part: pathlib.Path, size_bytes: int) -> Iterator[int]:
  """One connection; continues `part` if the server can.

  Yields:
    The size of `part` in bytes.
  """
  have = part.stat().st_size
  if have == size_bytes:
    yield have
    return
  with _open(url, have) as response:
    start, total = _extent(response)
    if start not in (0, have):
      raise _Refused(f"byte {have} was requested and byte {start} sent")
    if total is not None and total != size_bytes:
      raise _Refused(f"it has {total:,} bytes now, expected {size_bytes:,}")
    with open(part, "r+b") as file:
      file.truncate(start)
      file.seek(start)
      while start < size_bytes:
        with _network_errors():
          block = response.read1(min(_BLOCK, size_bytes - start))
        if not block:
          return
        file.write(block)
        start += len(block)
        yield start


def _open(url: str, start: int) -> http.client.HTTPResponse:
  # Without compression, so that positions are those in the file.
  headers = {
    "User-Agent": f"fsl_jax/{version.__version__}",
    "Accept-Encoding": "identity",
  }
  if start:
    headers["Range"] = f"bytes={start}-"
  with _network_errors():
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
  try:
    yield
  except urllib.error.HTTPError as error:
    with error:
      kind = _Interrupted if error.code in _TRANSIENT else _Refused
      raise kind(f"HTTP {error.code} {error.reason}") from error
  except urllib.error.URLError as error:
    raise _Interrupted(f"no connection ({error.reason})") from error
  except (OSError, http.client.HTTPException) as error:
    raise _Interrupted(f"{type(error).__name__}: {error}") from error


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
  """Position of the first byte sent, and the size of the file if known."""
  if response.status == http.HTTPStatus.PARTIAL_CONTENT:
    sent = re.fullmatch(
      r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "")
    )
    if sent is None:
      raise _Refused("the server sent an unspecified part")
    return int(sent[1]), None if sent[2] == "*" else int(sent[2])
  length = response.headers.get("Content-Length", "")
  return 0, int(length) if length.isdigit() else None
