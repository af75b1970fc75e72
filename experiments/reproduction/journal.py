"""Counts the episodes of a run folder while another process may write it."""

import collections
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from fsl_jax import run_folder, types


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
    lines = run_folder.Files(path.parent).read(path.name)
    return collections.Counter(key(line["protocol"]) for line in lines)
  except (KeyError, TypeError) as error:
    raise types.InputError(
      f"{path} holds lines that are no episodes ({error!r})"
    ) from error
