"""Strict settings for every test."""

import os
from typing import Any

import helpers
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
# Silent broadcasting of a vector over the wrong axis is the likeliest fault.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def _start_backend_without_optimiser() -> None:
  """Scripts that tests start choose for themselves."""
  flags = os.environ.get("XLA_FLAGS")
  # The user's come last.
  os.environ["XLA_FLAGS"] = f"{helpers.QUICKLY_COMPILED} {flags or ''}"
  jax.devices()
  if flags is None:
    del os.environ["XLA_FLAGS"]
  else:
    os.environ["XLA_FLAGS"] = flags


_start_backend_without_optimiser()


def pytest_configure(config: pytest.Config) -> None:
  config.addinivalue_line("filterwarnings", "error")


# Files whose tests take the longest together, or wait for other processes.
_LONG = {
  "adapt_test",
  "bench_test",
  "hosts_test",
  "pretrain_test",
  "reproduce_script_test",
  "scripts_test",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Long files first: begun last, they would leave the other worker idle."""
  items.sort(key=lambda item: item.path.stem not in _LONG)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
  """Keeps tests together that share compiled programs: those of a class, of
  one `[case]` of contracts_test, or else of a file."""
  from xdist.scheduler import LoadScopeScheduling

  class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
      scope, _, test = nodeid.rpartition("::")
      return scope + test[test.find("[") :] if "contracts" in scope else scope

  config.option.loadscopereorder = False  # not by the number of tests
  return Scheduling(config, log)
