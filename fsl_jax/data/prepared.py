"""Data sets on disk: which there are, where they lie, making and describing.

A prepared data set is a folder `DATA_DIR/NAME/VERSION` written by
tensorflow-datasets. It appears under that name all at once, when complete.
"""

import contextlib
import errno
import fcntl
import importlib
import io
import os
import pathlib
import shlex
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fsl_jax import types

Progress = Callable[[Sequence[Any]], Iterable[Any]]
"""Wraps a sequence to report how far its consumer got, as tqdm does."""

# Name of the data set to the builder's module, in `builders`, and class.
_BUILDERS = {"icons": ("icons", "Icons")}

SPLITS = ("base", "val", "novel")

# Begins with a dot so that no listing of versions takes it for one.
_UNFINISHED = ".unfinished-"


class Reference(NamedTuple):
  """The build of a data set that published numbers were made with."""

  num_images: Mapping[str, int]  # by split
  fingerprint: str
  note: str  # what it depends on


class Description(NamedTuple):
  """What a prepared data set holds."""

  name: str
  folder: pathlib.Path
  num_classes: Mapping[str, int]  # by split
  num_images: Mapping[str, int]  # by split
  class_names: Mapping[str, tuple[str, ...]]  # by split
  fingerprints: Mapping[str, str]  # by split
  fingerprint: str  # of all splits
  made_with: Mapping[str, str]  # package to version
  size_bytes: int  # on disk


def names() -> tuple[str, ...]:
  """The data sets that can be prepared and loaded."""
  return tuple(_BUILDERS)


def prepare_command(name: str, data_dir: str | os.PathLike[str] | None) -> str:
  """What a user types to prepare a data set."""
  where = ""
  if data_dir is not None:
    where = f" --data_dir={shlex.quote(os.fspath(data_dir))}"
  return f"python experiments/prepare_data.py --dataset={name}{where}"


def _builder_class(name: str) -> Any:
  if name not in _BUILDERS:
    raise types.unknown_name("data set", name, _BUILDERS)
  module_name, class_name = _BUILDERS[name]
  # Builders import tensorflow-datasets, which takes most of a second.
  module = importlib.import_module(f"fsl_jax.data.builders.{module_name}")
  return getattr(module, class_name)


def reference(name: str) -> Reference:
  """What a freshly prepared data set is expected to be.

  Raises:
    InputError: if the name is unknown.
  """
  builder_class = _builder_class(name)
  return Reference(
    builder_class.REFERENCE_NUM_IMAGES,
    builder_class.REFERENCE_FINGERPRINT,
    builder_class.REFERENCE_NOTE,
  )


def folder(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> pathlib.Path:
  """Where a data set lies, or would lie, once prepared.

  Args:
    name: one of `names()`.
    data_dir: root of all data sets; None is the default of
      tensorflow-datasets: $TFDS_DATA_DIR, or a folder in the home directory.

  Raises:
    InputError: if the name is unknown.
  """
  builder_class = _builder_class(name)
  if data_dir is None:
    from tensorflow_datasets.core import constants

    data_dir = constants.DATA_DIR
  root = pathlib.Path(data_dir).expanduser().absolute()
  return root / builder_class.name / str(builder_class.VERSION)


def describe(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> Description | None:
  """What lies on disk by its own account; the images are not read.

  Args:
    name: one of `names()`.
    data_dir: as for `folder`.

  Returns:
    None if the data set is not prepared.

  Raises:
    InputError: if the name is unknown or the folder is damaged.
  """
  where = folder(name, data_dir)
  if not where.exists():
    return None
  import tensorflow_datasets as tfds

  with refuse_damage(name, where, data_dir):
    info = tfds.builder_from_directory(where).info
    for split in SPLITS:
      for path in info.splits[split].filepaths:
        if not path.is_file():
          raise FileNotFoundError(f"{path.name} is missing")
    class_names = info.metadata["class_names"]
    return Description(
      name=name,
      folder=where,
      num_classes={split: len(class_names[split]) for split in SPLITS},
      num_images={split: info.splits[split].num_examples for split in SPLITS},
      class_names={split: tuple(class_names[split]) for split in SPLITS},
      fingerprints={s: info.metadata["fingerprints"][s] for s in SPLITS},
      fingerprint=info.metadata["fingerprint"],
      made_with=dict(info.metadata["made_with"]),
      size_bytes=sum(f.stat().st_size for f in where.rglob("*")),
    )


@contextlib.contextmanager
def refuse_damage(
  name: str, where: pathlib.Path, data_dir: str | os.PathLike[str] | None
) -> Iterator[None]:
  """Turns whatever reading a damaged folder raises into one sentence."""
  try:
    yield
  except (types.InputError, PermissionError):
    raise
  # The readers below raise what they like: KeyError, RuntimeError, OSError,
  # errors of protocol buffers and of PNG files.
  except Exception as error:
    detail = textwrap.shorten(str(error), 160, placeholder=" ...")
    raise types.InputError(
      f"the prepared data set {name!r} in {where} is damaged "
      f"({type(error).__name__}: {detail}); make it again with: "
      f"{prepare_command(name, data_dir)} --overwrite"
    ) from error


def prepare(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
  progress: Progress | None = None,
) -> Description:
  """Makes a data set, or finds that it is there.

  Args:
    name: one of `names()`.
    data_dir: as for `folder`.
    overwrite: True makes it again; the old one is kept until the new one is
      complete.
    progress: called with the things to be worked on; yields them.

  Returns:
    What was made or found.

  Raises:
    InputError: if something that it is made from is missing or wrong, or if
      what was found is damaged.
    OSError: if the folder cannot be written.
  """
  where = folder(name, data_dir)
  found = None if overwrite else describe(name, data_dir)
  if found is not None:
    return found
  import tensorflow_datasets as tfds

  with _workplace(where.parent) as place:
    builder = _builder_class(name)(data_dir=place / "new")
    builder.progress = progress
    tfds.display_progress_bar(False)
    try:
      with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    except RuntimeError as error:
      raise _as_os_error(error, where) from error
    finally:
      tfds.display_progress_bar(True)
    if where.exists() and overwrite:
      where.rename(place / "old")
    if not where.exists():  # Another process may have been faster.
      pathlib.Path(builder.data_dir).rename(where)
  made = describe(name, data_dir)
  assert made is not None
  return made


def _as_os_error(error: RuntimeError, where: pathlib.Path) -> Exception:
  """What array_record raises when a file cannot be written, by its kind."""
  for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
    if os.strerror(number) in str(error):
      return OSError(number, os.strerror(number), os.fspath(where))
  return error


@contextlib.contextmanager
def _workplace(parent: pathlib.Path) -> Iterator[pathlib.Path]:
  """A new folder inside `parent`, removed at the end.

  A run that was killed leaves its folder; the next run removes it. The lock,
  which ends with its process, tells it from the folder of a running one.
  """
  parent.mkdir(parents=True, exist_ok=True)
  for left in parent.glob(f"{_UNFINISHED}*"):
    with contextlib.suppress(BlockingIOError, FileNotFoundError), _lock(left):
      shutil.rmtree(left, ignore_errors=True)
  place = pathlib.Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=parent))
  with _lock(place):
    try:
      yield place
    finally:
      shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _lock(place: pathlib.Path) -> Iterator[None]:
  # array_record, and so all of this, runs on Linux and macOS only.
  handle = os.open(place, os.O_RDONLY)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  finally:
    os.close(handle)
