"""Runs a script's `main` so that a user's mistake ends in one sentence."""

import os
import pathlib
import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging

from fsl_jax import devices, types

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "This is one of several processes that compute together, started alike on "
  "each host; see experiments/README.md.",
)


def run(main: Callable[[list[str]], None], *, arguments: int = 0) -> None:
  """Like `absl.app.run`, but `InputError` and `OSError` print one line.

  Exit status: 0 done, 1 bad input or a file system error, 130 interrupted.
  Any other exception is a fault of ours and keeps its traceback.

  Args:
    main: is given the name of the script and its arguments.
    arguments: how many it takes that are no flags, at most.
  """

  def guarded(argv: list[str]) -> int:
    if len(argv) > 1 + arguments:
      print(
        f"error: unexpected argument {argv[1 + arguments]!r}; options are "
        "written --name=value, --help lists them",
        file=sys.stderr,
      )
      return 1
    keep_compiled_programs()
    # What libraries note of their own start is not the user's concern.
    logging.set_verbosity(logging.ERROR)
    try:
      if _DISTRIBUTED.value:
        _join_processes()
      main(argv)
    except types.InputError as error:
      print(f"error: {error}", file=sys.stderr)
      return 1
    except BrokenPipeError:
      # Whoever reads the output, such as head, has had enough of it.
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      return 0
    except OSError as error:
      where = f": {error.filename}" if error.filename else ""
      print(f"error: {error.strerror or error}{where}", file=sys.stderr)
      return 1
    except KeyboardInterrupt:
      print(
        "\ninterrupted; give the same command again to go on",
        file=sys.stderr,
      )
      return 130
    return 0

  app.run(guarded)


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
  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(cache_dir("xla")))


def cache_dir(name: str) -> pathlib.Path:
  """Folder for what can be computed again; XDG_CACHE_HOME moves it."""
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(root) / "fsl_jax" / name
