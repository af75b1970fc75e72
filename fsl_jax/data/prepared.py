"""Data sets on disk: which there are, where they lie, making and describing.

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
from typing import Any, NamedTuple

from fsl_jax import folder_lock, paths, types
from fsl_jax.data import (
  description,
  listing,
  parallel,
  resident,
)

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

SPLITS = listing.SPLITS


class Reference(NamedTuple):
  """The build of a data set that published numbers were made with."""

  num_images: Mapping[str, int]  # by split
  fingerprint: str
  note: str  # what it depends on


def names() -> tuple[str, ...]:
  """The data sets that can be prepared and loaded."""
  return tuple(_BUILDERS)


def prepare_call(
  name: str,
  data_dir: str | os.PathLike[str] | None,
  *,
  overwrite: bool = False,
) -> str:
  """The call that prepares a data set, for messages."""
  base, _, _ = name.partition("/")
  arguments = [repr(name)]
  if base not in _WITHOUT_SOURCE:
    arguments.append("source=PATH")
  if data_dir is not None:
    arguments.append(f"data_dir={os.fspath(data_dir)!r}")
  if overwrite:
    arguments.append("overwrite=True")
  return f"fsl_jax.data.prepare({', '.join(arguments)})"


def _builder_class(name: str) -> Any:
  base, slash, variant = name.partition("/")
  if base not in _BUILDERS:
    raise types.unknown_name("data set", name, _BUILDERS)
  module_name, class_name = _BUILDERS[base]
  # Builders import tensorflow-datasets, which takes most of a second.
  module = importlib.import_module(f"fsl_jax.data.builders.{module_name}")
  builder_class = getattr(module, class_name)
  if slash and not builder_class.HAS_VARIANTS:
    raise types.InputError(
      f"there is only one {base}, got {name!r}; a name of your own is for "
      "image_folder/NAME"
    )
  if slash and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", variant):
    raise types.InputError(
      f"a data set's own name must be letters, digits, - and _, got {name!r}"
    )
  return builder_class


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
    name: one of `names()`, or image_folder/NAME.
    data_dir: root of all data sets; None is the default of
      tensorflow-datasets: $TFDS_DATA_DIR, or a folder in the home directory.

  Raises:
    InputError: if the name is unknown.
  """
  return root(data_dir) / name / str(_builder_class(name).VERSION)


def root(data_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """The folder of all prepared data sets.

  Args:
    data_dir: None is the default of tensorflow-datasets: $TFDS_DATA_DIR, or a
      folder in the home directory.

  Raises:
    InputError: if it is no local path.
  """
  if data_dir is None:
    from tensorflow_datasets.core import constants

    data_dir = constants.DATA_DIR
  return paths.local(data_dir, "data_dir").absolute()


def found_names(
  data_dir: str | os.PathLike[str] | None = None,
) -> tuple[str, ...]:
  """`names()`, and every image_folder/NAME that is prepared."""
  all_names: list[str] = []
  for name in names():
    all_names.append(name)
    parent = root(data_dir) / name
    if _builder_class(name).HAS_VARIANTS and parent.is_dir():
      version = str(_builder_class(name).VERSION)
      all_names += sorted(
        f"{name}/{child.name}"
        for child in parent.iterdir()
        if (child / version).is_dir() and not child.name.startswith(".")
      )
  return tuple(all_names)


def describe(
  name: str, data_dir: str | os.PathLike[str] | None = None
) -> description.Description | None:
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
  with refuse_damage(name, where, data_dir):
    return description.read(name, where)


@contextlib.contextmanager
def refuse_damage(
  name: str, where: pathlib.Path, data_dir: str | os.PathLike[str] | None
) -> Iterator[None]:
  """Turns whatever reading a damaged folder raises into one sentence."""
  try:
    yield
  except (types.InputError, PermissionError, MemoryError):
    raise
  # The readers below raise what they like: KeyError, RuntimeError, OSError,
  # errors of protocol buffers and of PNG files.
  except Exception as error:
    detail = textwrap.shorten(str(error), 160, placeholder=" ...")
    raise types.InputError(
      f"the prepared data set {name!r} in {where} is damaged "
      f"({type(error).__name__}: {detail}); make it again with "
      f"{prepare_call(name, data_dir, overwrite=True)}"
    ) from error


def prepare(
  name: str,
  *,
  source: str | os.PathLike[str] | None = None,
  data_dir: str | os.PathLike[str] | None = None,
  overwrite: bool = False,
  skip_bad: bool = False,
  options: Mapping[str, Any] | None = None,
  progress: parallel.Progress | None = None,
) -> description.Description:
  """Makes a data set, or finds that it is there.

  Args:
    name: one of `names()`, or image_folder/NAME.
    source: folder or archive of what it is made from; its form is recognised.
      None draws (icons) or downloads (cifar_fs, fc100, omniglot).
    data_dir: as for `folder`.
    overwrite: True makes it again; the old one is kept until the new one is
      complete.
    skip_bad: True leaves out pictures that cannot be decoded, and records
      which; False refuses the source, naming all of them.
    options: choices of the data set, by the names of `option_names`.
    progress: called with the things to be worked on and their number; yields
      them.

  Returns:
    What was made or found.

  Raises:
    InputError: if the source or something in it is missing or wrong, an
      option is unknown, or what was found is damaged.
    OSError: if the folder cannot be written.
  """
  builder_class = _builder_class(name)
  if source is not None and not builder_class.TAKES_SOURCE:
    raise types.InputError(f"{name} is made without a source, got {source}")
  for option in options or {}:
    if option not in builder_class.OPTIONS:
      raise types.unknown_name(f"option of {name}", option, option_names(name))
  given = None if source is None else _absolute(source)
  recorded = _recorded(options or {})
  where = folder(name, data_dir)
  found = None if overwrite else describe(name, data_dir)
  if found is not None:
    _refuse_other(found, given, recorded)
    return found
  if given is not None and not given.exists():
    raise types.InputError(f"the source {given} does not exist")
  import tensorflow_datasets as tfds

  with folder_lock.working_folder(where.parent) as place:
    builder = builder_class(data_dir=place / "new")
    builder.progress = progress
    builder.source = builder.given = given
    builder.downloads = root(data_dir) / "downloads"
    builder.scratch = place / "scratch"
    builder.scratch.mkdir()
    builder.options = dict(options or {})
    builder.recorded_options = recorded
    builder.skip_bad = skip_bad
    tfds.display_progress_bar(False)
    try:
      with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
    except RuntimeError as error:
      raise _as_os_error(error, where) from error
    finally:
      tfds.display_progress_bar(True)
    made = pathlib.Path(builder.data_dir)
    # Read back from disk: what loads fast is also what was checked.
    result = description.read(name, made)
    try:
      resident.make_usual(result, builder_class.USUAL_SIZE_PX, progress)
    except OSError as error:  # not of a folder that will be gone
      raise OSError(error.errno, error.strerror, os.fspath(where)) from error
    if where.exists() and overwrite:
      where.rename(place / "old")
    if not where.exists():
      _put(made, where, place / "old")
    elif description.read(name, where).fingerprint != result.fingerprint:
      raise types.InputError(
        f"another process prepared {name} in {where} meanwhile, from other "
        "data; overwrite=True makes it again"
      )
  complete = describe(name, data_dir)
  assert complete is not None
  return complete


def _put(made: pathlib.Path, where: pathlib.Path, old: pathlib.Path) -> None:
  """Moves what was made to its place, or else what was there back."""
  try:
    made.rename(where)
  except BaseException:
    if old.exists() and not where.exists():
      old.rename(where)
    raise


def _recorded(options: Mapping[str, Any]) -> dict[str, Any]:
  """Options to be compared later: of a file, its content counts."""
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
  """Raises InputError if what is there was made from something else."""
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


def usual_size_px(name: str) -> int | None:
  """Height and width at which a data set is mostly used; None: its own.

  Raises:
    InputError: if the name is unknown.
  """
  return _builder_class(name).USUAL_SIZE_PX


def option_names(name: str) -> tuple[str, ...]:
  """The choices that `prepare` admits for a data set.

  Raises:
    InputError: if the name is unknown.
  """
  return tuple(_builder_class(name).OPTIONS)


def _absolute(source: str | os.PathLike[str]) -> pathlib.Path:
  # One place has many spellings.
  return pathlib.Path(os.path.realpath(paths.local(source, "the source")))


def _as_os_error(error: RuntimeError, where: pathlib.Path) -> Exception:
  """What array_record raises when a file cannot be written, by its kind."""
  for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
    if os.strerror(number) in str(error):
      return OSError(number, os.strerror(number), os.fspath(where))
  return error
