"""A cache of compiled programs.

`jax.jit` compiles once for each function object and each shape. A factory that
returns a new function at every call, such as that of a method, would cause a
compilation at every call.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

# Each holds tens of megabytes, and a search over hyperparameters makes many.
NUM_KEPT = 32

kept = functools.lru_cache(maxsize=NUM_KEPT)
"""Decorates a factory of functions, which is cached by its arguments."""


class Checked:
  """A compiled function that first checks its arguments.

  Args:
    function: of arrays.
    check: of the same arguments, outside of tracing; raises.
    **options: of `jax.jit`.
  """

  def __init__(
    self,
    function: Callable[..., Any],
    check: Callable[..., None],
    **options: Any,
  ):
    self._check = check
    self._program = jax.jit(function, **options)
    self.lower = self._program.lower
    functools.update_wrapper(self, function)

  def __call__(self, *arguments: Any, **named: Any) -> Any:
    self._check(*arguments, **named)
    arguments, named = jax.tree.map(_placed, (arguments, named))
    return self._program(*arguments, **named)


def _placed(x: Any) -> Any:
  # An explicit transfer, which `jax.transfer_guard("disallow")` allows.
  return jax.device_put(x) if isinstance(x, np.ndarray) else x
