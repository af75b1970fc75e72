"""Checks of the paths that callers give."""

import os
import pathlib
import re

from fsl_jax import types

# "gs://bucket/x", which pathlib would make "gs:/bucket/x" of, a local folder.
# Windows drives have one letter.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local(path: str | os.PathLike[str], what: str) -> pathlib.Path:
  """A path on a local or mounted file system, "~" expanded.

  Args:
    path: as given; need not exist.
    what: its role, for the message.

  Raises:
    InputError: if it is empty or a URL, or the home directory is unknown.
  """
  text = os.fspath(path)
  if not text:
    raise types.InputError(f"{what} is empty, expected a path")
  if _URL.match(text):
    raise types.InputError(
      f"{what} must be on a local or mounted file system, got {text!r}"
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise types.InputError(
      f"{what} is {text!r}, but that home directory is unknown"
    ) from error
