"""The functions that pickles call for arrays and plain containers.

A pickle chooses the arguments, so each function checks all of them. NumPy's own
functions would read past the end of memory for some.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

# Bool, integers, floats, complex numbers, bytes, text and Python objects.
_DTYPE = re.compile(
  r"[<>=|]?(\?|b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|[SU]\d{1,9}|O[48]?)"
)

_MAX_DIMENSIONS = 64  # of NumPy

_KEYS = (str, bytes, int, float, complex, bool, type(None), np.generic)


class RefusedError(Exception):
  """A pickle needs something that is not admitted, which the message names."""


class Name:
  """The value of a name in a pickle, which cannot be called or changed."""

  __slots__ = ("call", "what")

  def __init__(self, what: str, call: Callable[..., Any]):
    self.what, self.call = what, call


def not_a_function(*_: Any) -> Any:
  """The function of names that a pickle may hold but not call."""
  raise RefusedError("it calls something that is not a function")


def new_dtype(spec: Any, align: Any = False, copy: Any = True) -> np.dtype:
  """A plain type of arrays; its byte order is set next."""
  del align, copy
  if not isinstance(spec, str) or not _DTYPE.fullmatch(spec):
    shown = repr(spec) if isinstance(spec, str) else "its own"
    raise RefusedError(f"arrays of type {shown} are refused")
  # A copy, since its byte order is changed.
  return np.dtype(spec, copy=True)


def _scalar(dtype: Any, data: Any = b"") -> Any:
  """A NumPy scalar from its bytes, which Python 2 wrote as text."""
  return _filled(dtype, (), data)[()]


def _from_buffer(
  buffer: Any, dtype: Any, shape: Any, order: Any, axis_order: Any = None
) -> np.ndarray:
  """An array of pickle protocol 5."""
  if order == "K" and axis_order is not None:
    array = _filled(dtype, shape, buffer)
    return array.transpose(axis_order)
  if order not in ("C", "F"):
    raise RefusedError("an array in an unknown order")
  return _filled(dtype, shape, buffer, order)


def _filled(dtype: Any, shape: Any, data: Any, order: Any = "C") -> np.ndarray:
  """An array of numbers or text from its bytes."""
  if not isinstance(dtype, np.dtype) or dtype.hasobject:
    raise RefusedError("an array of objects from bytes")
  if isinstance(data, str):
    data = data.encode("latin1")
  if not isinstance(data, bytes | bytearray):
    raise RefusedError("an array that is not made of bytes")
  if _size(shape, dtype) * dtype.itemsize != len(data):
    raise RefusedError(
      f"{len(data)} bytes for an array {list(shape)} of {dtype}"
    )
  return np.ndarray(shape, dtype, data, order=order)


def _size(shape: Any, dtype: np.dtype) -> int:
  """Number of elements of an array, after its shape was checked."""
  plain = (
    type(shape) is tuple
    and len(shape) <= _MAX_DIMENSIONS
    and all(type(n) is int and 0 <= n < 2**63 for n in shape)
  )
  if not plain:
    raise RefusedError("an array with a malformed shape")
  size = math.prod(shape)
  # Elements of no bytes would make an array of any size out of nothing.
  if dtype.itemsize == 0 and size > 1:
    raise RefusedError(f"an array {list(shape)} of empty text")
  return size


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
  """How protocols 0 to 2 write bytes."""
  if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
    raise RefusedError("bytes in an unknown encoding")
  return text.encode("latin1")


def _bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
  if isinstance(data, str):
    return _encode(data, encoding)
  # `bytes(10**12)` would be as many zeros.
  if not isinstance(data, bytes | bytearray):
    raise RefusedError("bytes that are not made of bytes")
  return bytes(data)


def _complex(real: Any, imaginary: Any) -> complex:
  if type(real) is not float or type(imaginary) is not float:
    raise RefusedError("a malformed complex number")
  return complex(real, imaginary)


def _dict(*items: Any) -> dict[Any, Any]:
  """Of pairs, or empty; a defaultdict names a factory, which is not kept."""
  made: dict[Any, Any] = {}
  for key, value in items[0] if items and type(items[0]) is list else ():
    made[check_key(key)] = value
  return made


def _set(items: Any = ()) -> set[Any]:
  if type(items) not in (list, tuple):
    raise RefusedError("a set that is not made of a list")
  return {check_key(item) for item in items}


def check_key(key: Any) -> Any:
  """Refuses keys that are expensive to hash, such as tuples in tuples."""
  flat = key if type(key) is tuple else (key,)
  if not all(isinstance(item, _KEYS) for item in flat):
    raise RefusedError(
      f"a {type(key).__name__} as a key or in a set is refused"
    )
  return key


ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
  ("numpy", "ndarray"): not_a_function,
  ("numpy", "dtype"): new_dtype,
  ("_codecs", "encode"): _encode,
  ("collections", "OrderedDict"): _dict,
  ("collections", "defaultdict"): _dict,
  # Factories that a `defaultdict` names.
  ("builtins", "list"): not_a_function,
  ("builtins", "dict"): not_a_function,
  ("builtins", "int"): not_a_function,
  ("builtins", "set"): _set,
  ("builtins", "frozenset"): lambda items=(): frozenset(_set(items)),
  ("builtins", "bytes"): _bytes,
  ("builtins", "bytearray"): lambda *given: bytearray(_bytes(*given)),
  ("builtins", "complex"): _complex,
}
# Of NumPy 1 and 2; `_reconstruct` is the unpickler's own.
for _core in ("numpy.core", "numpy._core"):
  ADMITTED[f"{_core}.multiarray", "_reconstruct"] = not_a_function
  ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
  ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer
"""The admitted names by module and name, and the function of each."""

# Modules by their names in Python 2.
ALIASES = {"__builtin__": "builtins"}


def set_array(array: np.ndarray, state: Any) -> None:
  """Sets the state of a new array, after checking all of it."""
  if type(state) is not tuple or len(state) not in (4, 5):
    raise RefusedError("a malformed array")
  shape, dtype, fortran, data = state[-4:]
  if not isinstance(dtype, np.dtype) or type(fortran) not in (bool, int):
    raise RefusedError("a malformed array")
  size = _size(shape, dtype)
  if dtype.hasobject:
    # Each of the objects was built by this unpickler.
    if type(data) is not list or len(data) != size:
      raise RefusedError("a malformed array of objects")
  else:
    if isinstance(data, str):
      data = data.encode("latin1")
    if type(data) is not bytes or len(data) != size * dtype.itemsize:
      raise RefusedError(
        f"the wrong number of bytes for an array {list(shape)} of {dtype}"
      )
  changed: Any = array
  changed.__setstate__((1, shape, dtype, bool(fortran), data))


def set_byte_order(dtype: np.dtype, state: Any) -> None:
  """Sets the byte order, the only part of the state not in the name."""
  plain = (
    type(state) is tuple
    and len(state) in (8, 9)
    and isinstance(state[1], str)
    and state[1] in ("<", ">", "|", "=")
    and state[2:5] == (None, None, None)
    and state[5] in (-1, dtype.itemsize)
    and state[8:] in ((), (None,))
  )
  if not plain:
    raise RefusedError("a structured or malformed type of arrays")
  size, alignment = -1, -1
  if dtype.kind in "SU":
    size, alignment = dtype.itemsize, dtype.alignment
  changed: Any = dtype
  changed.__setstate__(
    (3, state[1], None, None, None, size, alignment, dtype.flags)
  )
