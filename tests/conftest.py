"""Strict settings for every test."""

import os
from typing import Any

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
# Silent broadcasting of a vector over the wrong axis is the likeliest fault.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def _start_backend_without_optimiser() -> None:
  """Nearly all of the time of these tests is compilation, and half of that
  LLVM's optimiser, which is not what is tested. Scripts that tests start do
  train, so they must not inherit it."""
  flags = os.environ.get("XLA_FLAGS")
  level = "--xla_backend_optimization_level=0"
  os.environ["XLA_FLAGS"] = f"{level} {flags or ''}"  # The user's come last.
  jax.devices()
  if flags is None:
    del os.environ["XLA_FLAGS"]
  else:
    os.environ["XLA_FLAGS"] = flags


_start_backend_without_optimiser()


def pytest_configure(config: pytest.Config) -> None:
  config.addinivalue_line("filterwarnings", "error")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
  """Keeps tests together that share compiled programs: those of a class, of
  one `[case]` of contracts_test, or else of a file."""
  from xdist.scheduler import LoadScopeScheduling

  class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
      scope, _, test = nodeid.rpartition("::")
      return scope + test[test.find("[") :] if "contracts" in scope else scope

  return Scheduling(config, log)
