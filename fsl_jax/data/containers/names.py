"""Names of files and folders, as archives give them."""

import re

from fsl_jax import types

_DRIVE = re.compile("[A-Za-z]:")  # of Windows


def safe(name: str, archive: str) -> str:
  """The name of a member with "/" between its parts, "." if it has none.

  Args:
    name: as it stands in the archive.
    archive: for the message.

  Raises:
    InputError: if it leads outside.
  """
  try:
    name.encode()
  except UnicodeEncodeError:  # Old tars do not say how names are encoded.
    name = name.encode("utf-8", "surrogateescape").decode("latin-1")
  # Not by pathlib, which from Python 3.12 on keeps every part for ever.
  whole = name.replace("\\", "/")
  parts = [part for part in whole.split("/") if part not in ("", ".")]
  path = "/".join(parts)
  if whole.startswith("/") or ".." in parts or _DRIVE.match(path):
    raise types.InputError(
      f"the archive {archive} holds {name!r}, which leads outside of it"
    )
  return path or "."


def is_hidden(base: str) -> bool:
  """Whether a file or folder of this name is no part of the data."""
  return base.startswith(".") or base == "__MACOSX"


def has_hidden_part(name: str) -> bool:
  """Whether it, or a folder that it lies in, is hidden."""
  return any(map(is_hidden, name.split("/")))


def join(folder: str, name: str) -> str:
  """The name of a file or folder in a folder; "" is the topmost one."""
  return f"{folder}/{name}" if folder else name
