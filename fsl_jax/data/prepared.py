"""Data sets on disk: their names and folders, preparing and describing them.

A prepared data set is a folder `DATA_DIR/NAME/VERSION` written by
tensorflow-datasets. It appears under that name all at once, when complete.
"""

import contextlib
import errno
import hashlib
import importlib
import io
import os
import pathlib
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from fsl_jax import folder_lock, paths, types
from fsl_jax.data import description, parallel, resident

# Name of the data set to the builder's module, in `builders`, and class.
_BUILDERS = {
  "icons": ("icons", "Icons"),
  "cifar_fs": ("cifar100", "CifarFs"),
  "fc100": ("cifar100", "Fc100"),
  "mini_imagenet": ("mini_imagenet", "MiniImagenet"),
  "tiered_imagenet": ("tiered_imagenet", "TieredImagenet"),
  "imagenet21k": ("imagenet21k", "Imagenet21k"),
  "omniglot": ("omniglot", "Omniglot"),
  "image_folder": ("image_folder", "ImageFolder"),
}

# Those that are drawn or can be downloaded.
_WITHOUT_SOURCE = ("icons", "cifar_fs", "fc100", "omniglot")

_DataDir = str | os.PathLike[str] | None


def names() -> tuple[str, ...]:
  """The data sets that can be prepared and loaded."""
  return tuple(_BUILDERS)


def builder_class(name: str) -> Any:
  """The builder of a data set, a subclass of `builders.from_source.FromSource`.

  Its attributes are the options that it admits (OPTIONS), the size at which it
  is mostly used (USUAL_SIZE_PX), and the build that published numbers were made
  with (REFERENCE_FINGERPRINT and others).

  Raises:
    InputError: if the name is unknown.
  """
  base, slash, variant = name.partition("/")
  if base not in _BUILDERS:
    raise types.unknown_name("data set", name, _BUILDERS)
  module_name, class_name = _BUILDERS[base]
  # Builders import tensorflow-datasets, which takes most of a second.
  module = importlib.import_module(f"fsl_jax.data.builders.{module_name}")
  found = getattr(module, class_name)
  if slash and not found.HAS_VARIANTS:
    raise types.InputError(
      f"there is only one {base}, got {name!r}; only image_folder/NAME has a "
      "name of your own"
    )
  if slash and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", variant):
    raise types.InputError(
      f"a data set's own name must be letters, digits, - and _, got {name!r}"
    )
  return found


def usual_size_px(name: str) -> int | None:
  """Height and width at which a data set is mostly used; None: its own.

  Raises:
    InputError: if the name is unknown.
  """
  return builder_class(name).USUAL_SIZE_PX


def root(data_dir: _DataDir = None) -> pathlib.Path:
  """The folder of all prepared data sets.

  Args:
    data_dir: None is the default of tensorflow-datasets: $TFDS_DATA_DIR, or a
      folder in the home directory.

  Raises:
    InputError: if it is not a local path.
  """
  if data_dir is None:
    from tensorflow_datasets.core import constants

    data_dir = constants.DATA_DIR
  return paths.local(data_dir, "data_dir").absolute()


def folder(name: str, data_dir: _DataDir = None) -> pathlib.Path:
  """The folder of a data set, prepared or not.

  Args:
    name: one of `names()`, or image_folder/NAME.
    data_dir: as for `root`.

  Raises:
    InputError: if the name is unknown.
  """
  return root(data_dir) / name / str(builder_class(name).VERSION)


def found_names(data_dir: _DataDir = None) -> tuple[str, ...]:
  """`names()`, and every image_folder/NAME that is prepared."""
  all_names: list[str] = []
  for name in names():
    all_names.append(name)
    parent = root(data_dir) / name
    if builder_class(name).HAS_VARIANTS and parent.is_dir():
      version = str(builder_class(name).VERSION)
      all_names += sorted(
        f"{name}/{child.name}"
        for child in parent.iterdir()
        if (child / version).is_dir() and not child.name.startswith(".")
      )
  return tuple(all_names)


def describe(
  name: str, data_dir: _DataDir = None
) -> description.Description | None:
  """The recorded description of a prepared data set; no image is read.

  Args:
    name: one of `names()`.
    data_dir: as for `root`.

  Returns:
    None if the data set is not prepared.

  Raises:
    InputError: if the name is unknown or the folder is damaged.
  """
  where = folder(name, data_dir)
  if not where.exists():
    return None
  with refuse_damage(name, where, data_dir):
    return description.read(name, where)


def require(name: str, data_dir: _DataDir) -> description.Description:
  """As `describe`, but raises InputError if the data set is not prepared."""
  found = describe(name, data_dir)
  if found is None:
    raise types.InputError(
      f"data set {name!r} is not prepared in {folder(name, data_dir)}; make it "
      f"with {prepare_call(name, data_dir)}"
    )
  return found


@contextlib.contextmanager
def refuse_damage(
  name: str, where: pathlib.Path, data_dir: _DataDir
) -> Iterator[None]:
  """Turns exceptions of reading a damaged folder into InputError."""
  try:
    yield
  except (types.InputError, PermissionError, MemoryError):
    raise
  # The readers raise exceptions of many types: KeyError, RuntimeError, OSError,
  # errors of protocol buffers and of PNG files.
  except Exception as error:
    detail = textwrap.shorten(str(error), 160, placeholder=" ...")
    raise types.InputError(
      f"the prepared data set {name!r} in {where} is damaged "
      f"({type(error).__name__}: {detail}); make it again with "
      f"{prepare_call(name, data_dir, overwrite=True)}"
    ) from error


def prepare_call(
  name: str, data_dir: _DataDir, *, overwrite: bool = False
) -> str:
  """The call that prepares a data set, for messages."""
  arguments = [repr(name)]
  if name.partition("/")[0] not in _WITHOUT_SOURCE:
    arguments.append("source=PATH")
  if data_dir is not None:
    arguments.append(f"data_dir={os.fspath(data_dir)!r}")
  if overwrite:
    arguments.append("overwrite=True")
  return f"fsl_jax.data.prepare({', '.join(arguments)})"


def prepare(
  name: str,
  *,
  source: str | os.PathLike[str] | None = None,
  data_dir: _DataDir = None,
  overwrite: bool = False,
  skip_bad: bool = False,
  options: Mapping[str, Any] | None = None,
  progress: parallel.Progress | None = None,
) -> description.Description:
  """Prepares a data set, unless it is prepared already.

  Args:
    name: one of `names()`, or image_folder/NAME.
    source: folder or archive that it is made from; its form is recognised.
      None draws (icons) or downloads (cifar_fs, fc100, omniglot).
    data_dir: as for `root`.
    overwrite: True prepares it again; the old one is kept until the new one is
      complete.
    skip_bad: True leaves out images that cannot be decoded, and records which;
      False refuses the source, naming all of them.
    options: choices of the data set, by the names in its builder's OPTIONS.
    progress: called with the things to be worked on and their number; yields
      them.

  Returns:
    What was prepared or found.

  Raises:
    InputError: if the source or something in it is missing or wrong, an
      option is unknown, or what was found is damaged.
    OSError: if the folder cannot be written.
  """
  options = dict(options or {})
  kind = builder_class(name)
  if source is not None and not kind.TAKES_SOURCE:
    raise types.InputError(f"{name} is made without a source, got {source}")
  for option in options:
    if option not in kind.OPTIONS:
      raise types.unknown_name(f"option of {name}", option, kind.OPTIONS)
  given = None
  if source is not None:
    # One path has many spellings.
    given = pathlib.Path(os.path.realpath(paths.local(source, "the source")))
  recorded = _recorded(options)
  where = folder(name, data_dir)
  found = None if overwrite else describe(name, data_dir)
  if found is not None:
    _refuse_other(found, given, recorded)
    return found
  if given is not None and not given.exists():
    raise types.InputError(f"the source {given} does not exist")
  with folder_lock.working_folder(where.parent) as place:
    builder = kind(data_dir=place / "new")
    builder.progress = progress
    builder.source = builder.given = given
    builder.downloads = root(data_dir) / "downloads"
    builder.scratch = place / "scratch"
    builder.scratch.mkdir()
    builder.options, builder.recorded_options = options, recorded
    builder.skip_bad = skip_bad
    made = _run(builder, where)
    # Read back from disk: what is checked here is what is loaded later.
    result = description.read(name, made)
    try:
      resident.make_usual(result, kind.USUAL_SIZE_PX, progress)
    except OSError as error:  # Its own path names a temporary folder.
      raise OSError(error.errno, error.strerror, os.fspath(where)) from error
    _install(made, where, place / "old", result, overwrite)
  return require(name, data_dir)


def _run(builder: Any, where: pathlib.Path) -> pathlib.Path:
  """Runs a builder, without what tfds prints; returns the folder it made."""
  import tensorflow_datasets as tfds

  tfds.display_progress_bar(False)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare()
  except RuntimeError as error:
    # array_record raises it, too, when a file cannot be written.
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
      if (text := os.strerror(number)) in str(error):
        raise OSError(number, text, os.fspath(where)) from error
    raise
  finally:
    tfds.display_progress_bar(True)
  return pathlib.Path(builder.data_dir)


def _install(
  made: pathlib.Path,
  where: pathlib.Path,
  old: pathlib.Path,
  result: description.Description,
  overwrite: bool,
) -> None:
  """Moves a folder to its place; if that fails, the old one is put back."""
  if where.exists() and overwrite:
    where.rename(old)
  if where.exists():
    if description.read(result.name, where).fingerprint != result.fingerprint:
      raise types.InputError(
        f"another process prepared {result.name} in {where} meanwhile, from "
        "other data; overwrite=True makes it again"
      )
    return
  try:
    made.rename(where)
  except BaseException:
    if old.exists() and not where.exists():
      old.rename(where)
    raise


def _recorded(options: Mapping[str, Any]) -> dict[str, Any]:
  """Options as they are compared later: files by their content."""
  recorded = dict(options)
  if recorded.get("split_file") is not None:
    path = paths.local(recorded["split_file"], "split_file")
    if path.is_file():
      digest = hashlib.sha256(path.read_bytes()).hexdigest()
      recorded["split_file"] = f"with SHA-256 {digest[:16]}"
  return recorded


def _refuse_other(
  found: description.Description,
  source: pathlib.Path | None,
  options: Mapping[str, Any],
) -> None:
  """Raises InputError if the prepared data set was made from something else."""
  other = [
    f"{option} {found.options.get(option, 'by default')}, now {value}"
    for option, value in options.items()
    if found.options.get(option) != value
  ]
  if source is not None and str(source) != found.source:
    before = found.source or "a download"
    other.insert(0, f"source {before}, now {source}")
  if other:
    raise types.InputError(
      f"{found.name} is prepared already, with {'; '.join(other)}; "
      "overwrite=True makes it again"
    )
