"""Compiled programs, kept from call to call.

`jax.jit` compiles once for each function object and each shape. What makes a
new function at every call, such as a method over a network, would have it
compiled at every call.
"""

import functools

# Each holds tens of megabytes, and a search over hyperparameters makes many.
NUM_KEPT = 32

kept = functools.lru_cache(maxsize=NUM_KEPT)
"""Decorates what makes functions: equal arguments give the same ones again."""
