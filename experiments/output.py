"""Standard output and error that do not end a run."""

import errno
import io
import os
import sys

_NOBODY_READS = (errno.EPIPE, errno.EIO)  # a pipe, a terminal


class _Stream(io.FileIO):
  """Drops what is written when there is nobody left to read it."""

  def write(self, data, /):
    try:
      return super().write(data)
    except OSError as error:
      if error.errno not in _NOBODY_READS:
        raise
      return len(data)


def never_fails() -> None:
  """Replaces what cannot be encoded, and drops what nobody reads.

  A run of hours is worth more than the log of it. A disk without room for the
  log is an error as ever: it has none for the results either.
  """
  for name in ("stdout", "stderr"):
    old = getattr(sys, name)
    if old is None:  # It was closed before Python started.
      setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
      continue
    old.flush()
    raw = _Stream(old.fileno(), "w", closefd=False)
    new = io.TextIOWrapper(
      io.BufferedWriter(raw),
      encoding=old.encoding,
      errors="replace",
      line_buffering=old.line_buffering or old.write_through,
    )
    setattr(sys, name, new)


def drop_rest() -> None:
  """Drops what standard output could not write, or Python tries it again."""
  try:
    sys.stdout.flush()
  except OSError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
