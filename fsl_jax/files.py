"""Files that appear under their name all at once, complete."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[Any]]:
  """Opens a new file that replaces the one at `path` when the block ends.

  Readers see the old file or the new one, never a part of it, and several
  processes or hosts may write the same path. If the block raises, the old file
  is left as it was.

  Args:
    path: in an existing folder.

  Yields:
    A binary file that can be written and sought in.

  Raises:
    OSError: if the folder cannot be written.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
  try:
    with open(temporary, "x+b") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


def write(path: str | os.PathLike[str], content: str | bytes) -> None:
  """Writes a file, text as UTF-8, as `replacing` does."""
  data = content.encode() if isinstance(content, str) else content
  with replacing(path) as file:
    file.write(data)
