"""Runs a script's `main` so that a user's mistake ends in one sentence."""

import functools
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence

import jax
import output
from absl import app, flags, logging

from fsl_jax import devices, paths, types

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "This is one of several processes that compute together, started alike on "
  "each host; see experiments/README.md.",
)

# Those of `define_path` belong to the module that defines them by it.
flags.disclaim_key_flags()
_NO_MEMORY = "RESOURCE_EXHAUSTED"  # of XLA, for which there is no type
_PATHS: list[flags.FlagHolder] = []


def define_path(
  name: str, default: str | None, text: str
) -> flags.FlagHolder[str | None]:
  """A flag that is a path; `run` checks it before anything is done."""
  flag = flags.DEFINE_string(name, default, text)
  _PATHS.append(flag)
  return flag


def run(
  main: Callable[[list[str]], None],
  *,
  arguments: int = 0,
  define_more: Callable[[Sequence[str]], None] = lambda argv: None,
) -> None:
  """Like `absl.app.run`, but an error of the user is one line on stderr.

  These are invalid input, errors of the file system and too little memory.
  Exit status: 0 done, 1 one of these, 130 interrupted. Any other exception is
  a bug and keeps its traceback.

  Args:
    main: receives the name of the script and its positional arguments.
    arguments: the most positional arguments, which are paths.
    define_more: defines flags that depend on the command line.
  """
  output.never_fails()

  def parse(argv: list[str]) -> list[str]:
    try:
      define_more(argv[1:])
    except types.InputError as error:
      print(f"error: {error}", file=sys.stderr)
      sys.exit(1)
    return app.parse_flags_with_usage(argv)

  app.run(
    lambda argv: guarded(main, argv, arguments=arguments), flags_parser=parse
  )


def guarded(
  main: Callable[[list[str]], None], argv: list[str], *, arguments: int
) -> int:
  """What `run` does with parsed flags; returns the exit status."""
  if len(argv) > 1 + arguments:
    print(
      f"error: unexpected argument {argv[1 + arguments]!r}; options are "
      "written --name=value, --help lists them",
      file=sys.stderr,
    )
    return 1
  try:
    _check_flags()
    given = [
      str(paths.local(path, f"argument {number}"))
      for number, path in enumerate(argv[1:], 1)
    ]
    keep_compiled_programs()
    # What libraries note of their own start is not the user's concern.
    logging.set_verbosity(logging.ERROR)
    if _DISTRIBUTED.value:
      _join_processes()
    main([argv[0], *given])
    sys.stdout.flush()
  except types.InputError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    text = str(error) or "not enough memory"
    if not isinstance(error, MemoryError) and _NO_MEMORY not in text:
      raise
    print(
      f"error: {text.splitlines()[0]}; smaller images or batches need less "
      "memory",
      file=sys.stderr,
    )
    return 1
  except OSError as error:
    where = f": {error.filename}" if error.filename else ""
    print(f"error: {error.strerror or error}{where}", file=sys.stderr)
    output.drop_rest()
    return 1
  except KeyboardInterrupt:
    print(
      "\ninterrupted; give the same command again to go on",
      file=sys.stderr,
    )
    return 130
  return 0


def _check_flags() -> None:
  """Makes all paths local ones, and refuses lists without an element.

  Raises:
    InputError: for a path that is not local, or a list that is empty.
  """
  for flag in _PATHS:
    if flag.value is not None:
      path = paths.local(flag.value, f"--{flag.name}")
      flags.FLAGS[flag.name].value = str(path)
  for name, value in flags.FLAGS.flag_values_dict().items():
    if flags.FLAGS[name].present and value == []:
      raise types.InputError(
        f"--{name} is empty, expected values separated by commas"
      )


def whole_numbers(
  flag: flags.FlagHolder[list[str]], *, how_many: int | None = None
) -> list[int]:
  """The values of a list flag.

  Args:
    flag: of `DEFINE_list`.
    how_many: it must have; None is any number.

  Raises:
    InputError: unless they are whole numbers of at least 1.
  """
  if how_many is not None and len(flag.value) != how_many:
    raise types.InputError(
      f"--{flag.name} takes {how_many} numbers, got {','.join(flag.value)!r}"
    )
  for text in flag.value:
    if not text.isdecimal() or not 1 <= int(text) < 2**31:
      raise types.InputError(
        f"--{flag.name} must be whole numbers of at least 1, got {text!r}"
      )
  return [int(text) for text in flag.value]


def required(flag: flags.FlagHolder[str | None]) -> str:
  """The value of a flag that has no sensible default.

  Raises:
    InputError: if it was not given.
  """
  if flag.value is None:
    raise types.InputError(f"--{flag.name} is missing; --help explains it")
  return flag.value


def _join_processes() -> None:
  """Waits for the other processes; only the first one prints to stdout.

  Raises:
    InputError: if it cannot be told which processes there are.
  """
  try:
    number, me = (
      None if (text := os.environ.get(name)) is None else int(text)
      for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    )
    # One that fails alone ends, and with it all, after this time.
    jax.distributed.initialize(
      num_processes=number, process_id=me, shutdown_timeout_seconds=60
    )
  except ValueError as error:
    raise types.InputError(
      f"--distributed finds no other processes ({error}); outside of Slurm, "
      "Open MPI and Cloud TPU, set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES "
      "and JAX_PROCESS_ID"
    ) from error
  if not devices.is_first_process():
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def keep_compiled_programs() -> None:
  """Lets the next start of a script skip compiling, which takes most of it.

  JAX_COMPILATION_CACHE_DIR names another folder than the usual one.
  """
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  folder = cache_dir("xla")
  if folder is not None:
    jax.config.update("jax_compilation_cache_dir", str(folder))


def cache_dir(name: str) -> pathlib.Path | None:
  """Folder for what can be computed again; None where there can be none.

  XDG_CACHE_HOME moves it.
  """
  root = _cache_root()
  return None if root is None else root / name


@functools.cache
def _cache_root() -> pathlib.Path | None:
  """Tried once, so that there is one warning."""
  place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  try:
    root = paths.local(place, "the cache folder") / "fsl_jax"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=root):
      return root
  except (types.InputError, OSError) as error:
    print(
      f"warning: compiled programs and features are not kept ({error}); "
      "XDG_CACHE_HOME names a folder for them",
      file=sys.stderr,
    )
    return None
