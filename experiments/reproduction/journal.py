"""Reads a run folder from outside, while another process may write it."""

import collections
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from fsl_jax import types


def lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The whole JSON lines of a file; none if there is no such file.

  `RunFolder.read` mends what a kill left, which only the owner may do.

  Raises:
    InputError: if a line is damaged.
  """
  try:
    text = path.read_bytes()
  except FileNotFoundError:
    return []
  found = []
  whole = text[: text.rfind(b"\n") + 1]
  for number, line in enumerate(whole.splitlines(), 1):
    try:
      found.append(json.loads(line))
    except ValueError as error:
      raise types.InputError(
        f"line {number} of {path} is damaged ({error})"
      ) from error
  return found


def key(protocol: Mapping[str, Any]) -> str:
  """Names a protocol."""
  return json.dumps(protocol, sort_keys=True)


def counts(path: pathlib.Path) -> Mapping[str, int]:
  """Episodes of a file by the `key` of their protocol.

  Raises:
    InputError: if a line is damaged, or no episode.
  """
  try:
    status = path.stat()
  except FileNotFoundError:
    return {}
  return _counts(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1000)
def _counts(path: pathlib.Path, size: int, time_ns: int) -> Mapping[str, int]:
  """Kept while the file has not grown: many jobs ask for the same one."""
  del size, time_ns
  try:
    return collections.Counter(key(line["protocol"]) for line in lines(path))
  except (KeyError, TypeError) as error:
    raise types.InputError(
      f"{path} holds lines that are no episodes ({error!r})"
    ) from error
