"""Runs a script of `experiments/` in the process of the tests.

A process of its own for each call would spend seconds on imports and compile
every program again.
"""

import contextlib
import copy
import io
import pathlib
import runpy
import sys
from typing import NamedTuple

import jax
import pytest
from absl import app, flags, logging

from fsl_jax import devices

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[1] / "experiments"

_MESH = devices.mesh


class Done(NamedTuple):
  """As `subprocess.CompletedProcess`."""

  returncode: int
  stdout: str
  stderr: str


def run(script: str, *arguments: str) -> Done:
  """Runs a script with these arguments; what it raises is raised.

  Flags, modules of `experiments/`, `sys.argv` and jax's folder of compiled
  programs are the same again afterwards.
  """
  path = str(EXPERIMENTS / f"{script}.py")
  out, err, status = io.StringIO(), io.StringIO(), None
  with (
    _without_scripts(),
    pytest.MonkeyPatch.context() as patch,
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    patch.setattr(sys, "argv", [path, *arguments])
    patch.setattr(app, "run", _run)
    patch.setattr(logging, "set_verbosity", lambda _: None)
    # Batches would be padded to a multiple of the devices.
    patch.setattr(
      devices, "mesh", lambda own=None: _MESH(own or jax.devices()[:1])
    )
    import output

    patch.setattr(output, "never_fails", lambda: None)
    try:
      runpy.run_path(path, run_name="__main__")
    except SystemExit as exit:
      status = exit.code
  return Done(int(status or 0), out.getvalue(), err.getvalue())


def succeed(script: str, *arguments: str) -> str:
  """The standard output of a script that must not fail."""
  done = run(script, *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout


def refuse(message: str, script: str, *arguments: str) -> None:
  """Checks that a script ends with a sentence that has this text."""
  done = run(script, *arguments)
  assert done.returncode == 1
  assert message in done.stderr
  errors = [s for s in done.stderr.splitlines() if s.startswith("error: ")]
  assert len(errors) == 1


def _run(main, flags_parser):
  """Like `absl.app.run`, without handlers of signals and of logs."""
  sys.exit(main(flags_parser(sys.argv)))


@contextlib.contextmanager
def _without_scripts():
  """Takes away modules of scripts and their flags, and brings them back."""
  modules = {
    name: module
    for name, module in sys.modules.items()
    if str(EXPERIMENTS) in str(getattr(module, "__file__", None))
  }
  state = {k: copy.copy(v) for k, v in vars(flags.FLAGS).items()}
  for name in list(flags.FLAGS):
    if flags.FLAGS.find_module_defining_flag(name) in modules:
      delattr(flags.FLAGS, name)
  for name in modules:
    del sys.modules[name]
  try:
    yield
  finally:
    for name, module in list(sys.modules.items()):
      if str(EXPERIMENTS) in str(getattr(module, "__file__", None)):
        del sys.modules[name]
    sys.modules.update(modules)
    vars(flags.FLAGS).clear()
    vars(flags.FLAGS).update(state)
