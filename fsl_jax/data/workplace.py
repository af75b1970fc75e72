"""Folders for work in progress, which disappear whatever ends the work."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

# Begins with a dot so that no listing takes it for something finished.
_PREFIX = ".unfinished-"


@contextlib.contextmanager
def new(parent: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new folder inside `parent`, removed at the end.

  A run that was killed leaves its folder; the next run removes it. The lock,
  which ends with its process, tells it from the folder of a running one.

  Args:
    parent: made if it is missing.

  Raises:
    OSError: if it cannot be written.
  """
  parent.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    # Or another process takes a folder that is made but not yet locked for
    # that of a killed run.
    with lock(parent, wait=True):
      for left in parent.glob(f"{_PREFIX}*"):
        _remove_if_dead(left)
      place = pathlib.Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
      stack.enter_context(lock(place))
    try:
      yield place
    finally:
      shutil.rmtree(place, ignore_errors=True)


def _remove_if_dead(left: pathlib.Path) -> None:
  # PermissionError: another user's, running or not.
  with (
    contextlib.suppress(BlockingIOError, FileNotFoundError, PermissionError),
    lock(left),
  ):
    shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def lock(place: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
  """Holds a folder as long as this process lives.

  Args:
    place: an existing folder.
    wait: True waits for another process that holds it.

  Raises:
    BlockingIOError: if another one holds it, unless `wait`.
  """
  # array_record, and so all that prepares, runs on Linux and macOS only; the
  # rest of the library does not need it.
  import fcntl

  handle = os.open(place, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    yield
  finally:
    os.close(handle)
