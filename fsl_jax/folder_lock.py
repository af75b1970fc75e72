"""Locks on folders, which end with the process that holds them.

A lock is an advisory lock of the operating system (`filelock`): it is released
however the process ends, and forked children do not keep it. Where the system
or the file system has no such locks, nothing is guarded.
"""

import contextlib
import os
import pathlib
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator

import filelock

from fsl_jax import types

_NAME = "lock"
_PAUSES_S = (0.02, 0.2, 0)

# Hidden, so that no listing takes it for a finished folder.
_UNFINISHED = ".unfinished-"

# Open descriptors by device and inode: a folder may be removed and made anew.
_held: dict[tuple[int, int], int] = {}


def acquire(folder: pathlib.Path) -> bool:
  """Locks an existing folder until this process ends.

  Returns:
    False if this process has locked it before.

  Raises:
    InputError: if another process holds the lock; the message names it.
  """
  path = folder / _NAME
  if path.exists() and _key(path.stat()) in _held:
    return False
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  if not _lock_soon(descriptor):
    other = _read(descriptor)
    os.close(descriptor)
    raise types.InputError(
      f"{folder} is being worked on by {other}; wait for it, or choose another "
      "run folder"
    )
  own = f"process {os.getpid()} on host {platform.node()}"
  os.ftruncate(descriptor, 0)
  os.write(descriptor, own.encode())
  _held[_key(os.fstat(descriptor))] = descriptor
  return True


def release(folder: pathlib.Path) -> None:
  """Unlocks a folder, if this process has locked it."""
  descriptor = _held.pop(_key((folder / _NAME).stat()), None)
  if descriptor is not None:
    os.close(descriptor)


def holder(folder: pathlib.Path) -> str | None:
  """The other process that has locked a folder; None if there is none."""
  path = folder / _NAME
  try:
    if _key(path.stat()) in _held:
      return None
    descriptor = os.open(path, os.O_RDONLY)
  except (FileNotFoundError, NotADirectoryError):
    return None
  try:
    return None if _lock_soon(descriptor) else _read(descriptor)
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def working_folder(parent: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new folder inside `parent`, removed at the end.

  The folder of a process that was killed is removed by the next call; its
  lock, which ended with the process, tells it from the folder of a running one.
  Where there are no locks, it is left.

  Args:
    parent: made if it is missing.

  Raises:
    OSError: if it cannot be written.
  """
  parent.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:
    with contextlib.ExitStack() as briefly:
      # Otherwise another process could take a folder that is made but not yet
      # locked for that of a killed process.
      with contextlib.suppress(OSError):
        briefly.enter_context(held(parent, wait=True))
      for left in parent.glob(f"{_UNFINISHED}*"):
        # It may be locked, removed meanwhile, or of another user.
        with contextlib.suppress(OSError), held(left):
          shutil.rmtree(left, ignore_errors=True)
      place = pathlib.Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))
      with contextlib.suppress(OSError):
        stack.enter_context(held(place))
    try:
      yield place
    finally:
      shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def held(folder: pathlib.Path, *, wait: bool = False) -> Iterator[None]:
  """Holds a lock on the folder itself, without a file in it.

  Args:
    folder: an existing folder.
    wait: True waits for another process that holds the lock.

  Raises:
    BlockingIOError: if another process holds it, unless `wait`.
    OSError: if it cannot be opened, or there are no locks.
  """
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    if not filelock.lock_descriptor(
      descriptor, blocking=wait, poll_interval=0.01
    ):
      raise BlockingIOError(f"{folder} is locked by another process")
    yield
  finally:
    os.close(descriptor)


def _lock_soon(descriptor: int) -> bool:
  """False if another process has the lock for longer than `holder` takes it.

  True, too, where there are no locks.
  """
  for pause_s in _PAUSES_S:
    try:
      if filelock.lock_descriptor(descriptor, blocking=False):
        return True
    except OSError:  # not on this system or file system
      return True
    time.sleep(pause_s)
  return False


def _read(descriptor: int) -> str:
  try:
    return os.read(descriptor, 1000).decode() or "another process"
  except PermissionError:  # Windows locks the content too.
    return "another process"


def _key(status: os.stat_result) -> tuple[int, int]:
  return status.st_dev, status.st_ino


def _drop_in_child() -> None:
  """A forked child has the descriptors, and with them would keep the locks."""
  for descriptor in _held.values():
    os.close(descriptor)
  _held.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
  os.register_at_fork(after_in_child=_drop_in_child)
