"""Strict settings for every test."""

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
# Silent broadcasting of a vector over the wrong axis is the likeliest fault.
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config: pytest.Config) -> None:
  config.addinivalue_line("filterwarnings", "error")
