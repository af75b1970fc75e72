"""Text and whole numbers out of loaded pickles.

What a pickle holds can be shared, so that a few bytes are gigabytes once they
are written out: a tuple of twice the same tuple, and so on. Nothing here
unfolds what it was not made for.
"""

from typing import Any

import numpy as np

from fsl_jax import types

# Of names of classes and the like.
_MAX_TEXT = 1000  # letters
_MAX_TEXTS = 10_000


def text(value: Any, what: str) -> str:
  """Text out of a pickle, which may be bytes there.

  Args:
    value: what is there.
    what: of which it is one, for the message, such as "names in a.pkl".

  Raises:
    InputError: if it is neither text nor bytes, or longer than any name.
  """
  if isinstance(value, bytes) and len(value) <= _MAX_TEXT:
    return value.decode("latin1")
  if isinstance(value, str) and len(value) <= _MAX_TEXT:
    return value
  got = f"a {type(value).__name__}"
  if isinstance(value, str | bytes):
    got = f"one of {len(value):,} letters"
  raise types.InputError(
    f"{what} must be texts of up to {_MAX_TEXT:,} letters, got {got}"
  )


def texts(values: Any, what: str) -> list[str]:
  """Several of them, from a list, a tuple or an array.

  Raises:
    InputError: if it is none, or too long, or holds anything else.
  """
  if isinstance(values, np.ndarray) and values.ndim == 1:
    values = list(values)
  if not isinstance(values, list | tuple):
    raise types.InputError(
      f"{what} must be a list of texts, got a {type(values).__name__}"
    )
  if len(values) > _MAX_TEXTS:
    raise types.InputError(
      f"{what} must be at most {_MAX_TEXTS:,} texts, got {len(values):,}"
    )
  return [text(value, what) for value in values]


def whole_numbers(values: Any, what: str) -> np.ndarray:
  """[n] int64 from a list, a tuple or an array of whole numbers.

  Raises:
    InputError: if it is anything else.
  """
  # NumPy would unfold lists in lists, however often each of them is shared.
  flat = isinstance(values, np.ndarray) and values.ndim == 1
  if isinstance(values, list | tuple):
    flat = all(type(v) is int or isinstance(v, np.integer) for v in values)
  array = np.asarray(values if flat else ())
  if array.size == 0 and flat:
    return array.astype(np.int64)
  if array.dtype.kind not in "iu":  # numbers beyond 64 bits are objects
    raise types.InputError(f"{what} are no list of whole numbers")
  return array.astype(np.int64)


def with_text_keys(content: dict[Any, Any], what: str) -> dict[str, Any]:
  """A dict with its keys as text; those that are neither text nor bytes go."""
  return {
    text(key, f"keys of {what}"): value
    for key, value in content.items()
    if isinstance(key, str | bytes)
  }
