"""One process at a time works on a folder, and others can ask which.

A POSIX record lock on the file `lock`: the system drops it however the process
ends, a child process does not inherit it. Where Python has no `fcntl`, as on
Windows, and on file systems without such locks, nothing is guarded.

A process that opens and closes the file by other means loses its lock.
"""

import os
import pathlib
import platform
import time

from fsl_jax import types

try:
  import fcntl
except ImportError:
  fcntl = None  # type: ignore[assignment]

_NAME = "lock"
_PAUSES_S = (0.02, 0.2, 0)

_Key = tuple[int, int, int]  # process, device, inode

# Open descriptors, because closing any descriptor of a file drops the lock. By
# process, for a forked one copies the table but not the locks, and by file, for
# a folder may be removed and made anew.
_held: dict[_Key, int] = {}


def acquire(folder: pathlib.Path) -> bool:
  """Locks an existing folder until this process ends.

  Returns:
    False if this process has locked it before.

  Raises:
    InputError: if another process works on it.
  """
  path = folder / _NAME
  if path.exists() and _key(path.stat()) in _held:
    return False
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  for pause_s in _PAUSES_S:
    if _lock(descriptor):
      break
    # Whoever calls `holder` has it for an instant.
    time.sleep(pause_s)
  else:
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
    return None if _lock(descriptor, shared=True) else _read(descriptor)
  finally:
    os.close(descriptor)


def _lock(descriptor: int, *, shared: bool = False) -> bool:
  """False if another process has the lock; True too where there are none."""
  if fcntl is None:
    return True
  kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
  try:
    fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
  except (BlockingIOError, PermissionError):  # POSIX leaves open which.
    return False
  except OSError:  # not on this file system
    pass
  return True


def _read(descriptor: int) -> str:
  return os.read(descriptor, 1000).decode() or "another process"


def _key(status: os.stat_result) -> _Key:
  return os.getpid(), status.st_dev, status.st_ino
