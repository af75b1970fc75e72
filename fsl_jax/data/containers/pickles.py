"""Pickles of arrays and plain containers; all others are refused.

A pickle is a program; loading one with `pickle.load` can run any code. This
unpickler admits the handful of names that NumPy arrays are made of and refuses
everything else before it is called.

It uses the interpreter of `pickle` that is written in Python, in which every
instruction that calls or changes an object can be replaced. With the one in C
a few bytes could also allocate gigabytes. An array is one instruction of any
size, so this is slow only for pickles of many objects.

Loaded values may be shared, so that a few bytes are gigabytes once they are
written out: a tuple of twice the same tuple, and so on. `text` and the
functions after it do not unfold such values.
"""

import io
import os
import pickle
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import archives
from fsl_jax.data.containers import pickled_values as values


def _no_reference(pid: Any) -> Any:
  raise values.RefusedError("references to outside objects are refused")


class Dialect(NamedTuple):
  """What pickles of one kind may hold besides plain values.

  The pickle chooses the arguments of the functions, so each raises
  `pickled_values.RefusedError` for all that it does not admit, and returns
  plain values or objects that nothing in a pickle can change.
  """

  expected: str = (
    "NumPy arrays, numbers, text, lists, tuples, sets and dicts only"
  )
  names: Mapping[tuple[str, str], Callable[..., Any]] = {}
  reference: Callable[[Any], Any] = _no_reference  # to outside objects


_PLAIN = Dialect()

# Of names of classes and the like.
_MAX_TEXT = 1000  # characters
_MAX_TEXTS = 10_000


class _Bounded:
  """A file that raises at its end before memory is allocated."""

  def __init__(self, file: BinaryIO, size: int):
    self._file, self._left = file, size

  def read(self, size: int) -> bytes:
    self._left -= size
    if self._left < 0:
      raise EOFError("the file is cut short")
    return self._file.read(size)

  def readline(self) -> bytes:
    line = self._file.readline()
    self._left -= len(line)
    return line


# Not public, but the only interpreter with replaceable instructions.
_Interpreter: Any = pickle._Unpickler


class _Unpickler(_Interpreter):
  """Values on its stack are data, or `values.Name`, or arrays in the making."""

  dispatch: ClassVar[dict[int, Any]] = dict(_Interpreter.dispatch)

  def __init__(self, file: BinaryIO, size: int, dialect: Dialect):
    super().__init__(_Bounded(file, size), encoding="latin1")
    self._dialect = dialect
    # By id, kept alive here: each gets its state once.
    self._arrays: dict[int, np.ndarray] = {}
    self._dtypes: dict[int, np.dtype] = {}

  def find_class(self, module: str, name: str) -> values.Name:
    module = values.ALIASES.get(module, module)
    call = values.ADMITTED.get((module, name))
    if call is None:
      call = self._dialect.names.get((module, name))
    if call is None:
      raise values.RefusedError(
        f"it asks for {module}.{name}, which is refused"
      )
    if name == "_reconstruct":
      call = self._reconstruct
    elif call is values.new_dtype:
      call = self._new_dtype
    return values.Name(f"{module}.{name}", call)

  def persistent_load(self, pid: Any) -> Any:
    return self._dialect.reference(pid)

  def get_extension(self, code: int) -> None:
    raise values.RefusedError("registered extensions are refused")

  def _reconstruct(self, kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, of which the pickle sets the state next."""
    del shape, code
    if not isinstance(kind, values.Name) or kind.what != "numpy.ndarray":
      raise values.RefusedError("kinds of arrays of its own are refused")
    array = np.empty(0, np.uint8)
    self._arrays[id(array)] = array
    return array

  def _new_dtype(self, *given: Any) -> np.dtype:
    dtype = values.new_dtype(*given)
    self._dtypes[id(dtype)] = dtype
    return dtype

  def load_reduce(self) -> None:
    given = self.stack.pop()
    name = self.stack[-1]
    if type(name) is not values.Name or type(given) is not tuple:
      raise values.RefusedError("it calls something that is not a function")
    self.stack[-1] = name.call(*given)

  def load_build(self) -> None:
    state = self.stack.pop()
    made = self.stack[-1]
    if self._arrays.pop(id(made), None) is not None:
      values.set_array(made, state)
    elif self._dtypes.pop(id(made), None) is not None:
      values.set_byte_order(made, state)
    elif type(made) is dict and type(state) is dict:
      pass  # Attributes of an OrderedDict, which is a plain one here.
    else:
      raise values.RefusedError(f"it sets the state of a {type(made).__name__}")

  def load_refused(self) -> None:
    raise values.RefusedError("objects of classes are refused")

  def load_append(self) -> None:
    item = self.stack.pop()
    self._top(list).append(item)

  def load_appends(self) -> None:
    items = self.pop_mark()
    self._top(list).extend(items)

  def load_setitem(self) -> None:
    value = self.stack.pop()
    key = self.stack.pop()
    self._top(dict)[values.check_key(key)] = value

  def load_setitems(self) -> None:
    self._update(self.pop_mark())

  def load_dict(self) -> None:
    items = self.pop_mark()
    self.append({})
    self._update(items)

  def load_additems(self) -> None:
    items = self.pop_mark()
    self._top(set).update(map(values.check_key, items))

  def load_frozenset(self) -> None:
    items = self.pop_mark()
    self.append(frozenset(map(values.check_key, items)))

  def load_bytearray8(self) -> None:
    size = int.from_bytes(self.read(8), "little")
    self.append(bytearray(self.read(size)))

  def _top(self, kind: type) -> Any:
    if type(self.stack[-1]) is not kind:
      raise values.RefusedError(
        f"it adds items to a {type(self.stack[-1]).__name__}"
      )
    return self.stack[-1]

  def _update(self, items: list[Any]) -> None:
    target = self._top(dict)
    for at in range(0, len(items), 2):
      target[values.check_key(items[at])] = items[at + 1]

  for _code, _load in {
    pickle.REDUCE: load_reduce,
    pickle.BUILD: load_build,
    pickle.INST: load_refused,
    pickle.OBJ: load_refused,
    pickle.NEWOBJ: load_refused,
    pickle.NEWOBJ_EX: load_refused,
    pickle.APPEND: load_append,
    pickle.APPENDS: load_appends,
    pickle.SETITEM: load_setitem,
    pickle.SETITEMS: load_setitems,
    pickle.DICT: load_dict,
    pickle.ADDITEMS: load_additems,
    pickle.FROZENSET: load_frozenset,
    pickle.BYTEARRAY8: load_bytearray8,
  }.items():
    dispatch[_code[0]] = _load


def load(
  file: str
  | os.PathLike[str]
  | listing.FileRange
  | listing.ZipMember
  | BinaryIO,
  *,
  name: str = "",
  dialect: Dialect = _PLAIN,
) -> Any:
  """Loads a pickle without running any code of it.

  Text of Python 2 pickles is read as latin-1. Arrays take twice their size
  until all is loaded, except in protocol 5, where they need not be copied.

  Args:
    file: a path, where a file of a tree lies, or an open binary file that can
      be sought in, which is left at the end of the pickle.
    name: its name in messages; the path if not given.
    dialect: what it may hold besides plain values.

  Returns:
    Arrays, numbers, text, bytes, lists, tuples, sets and dicts, and objects of
    the dialect.

  Raises:
    InputError: if it holds anything else, or is cut short or no pickle.
  """
  if isinstance(file, str | os.PathLike):
    file = listing.FileRange(os.fspath(file))
  if isinstance(file, listing.FileRange | listing.ZipMember):
    if isinstance(file, listing.ZipMember):
      name = name or f"{file.path}/{file.name}"
    name = name or file.path
    with archives.open_binary(file) as (handle, size):
      return _load(handle, size, name, dialect)
  start = file.tell()
  size = file.seek(0, os.SEEK_END) - start
  file.seek(start)
  name = name or getattr(file, "name", "of bytes")
  return _load(file, size, name, dialect)


def loads(data: bytes, *, name: str) -> Any:
  """As `load`, from bytes."""
  return load(io.BytesIO(data), name=name)


def _load(file: BinaryIO, size: int, name: str, dialect: Dialect) -> Any:
  try:
    value = _Unpickler(file, size, dialect).load()
    if isinstance(value, values.Name):
      raise values.RefusedError(f"it holds only the name {value.what}")
    return value
  except EOFError as error:
    raise types.InputError(
      f"the pickle {name} is cut short, or no pickle; expected "
      f"{dialect.expected}"
    ) from error
  # For bytes that are not a pickle the unpickler raises exceptions of any type.
  except Exception as error:
    if isinstance(error, OSError) and error.errno is not None:
      raise
    said = str(error)
    if not isinstance(error, values.RefusedError):
      said = f"{type(error).__name__}: {said}"
    said = textwrap.shorten(said, 300, placeholder=" ...")
    raise types.InputError(
      f"cannot read the pickle {name}: {said}; expected {dialect.expected}"
    ) from error


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
    got = f"one of {len(value):,} characters"
  raise types.InputError(
    f"{what} must be strings of up to {_MAX_TEXT:,} characters, got {got}"
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
      f"{what} must be a list of strings, got a {type(values).__name__}"
    )
  if len(values) > _MAX_TEXTS:
    raise types.InputError(
      f"{what} must be at most {_MAX_TEXTS:,} strings, got {len(values):,}"
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
    raise types.InputError(f"{what} are not a list of whole numbers")
  return array.astype(np.int64)


def with_text_keys(content: dict[Any, Any], what: str) -> dict[str, Any]:
  """A dict with text keys; keys that are not text or bytes are dropped."""
  return {
    text(key, f"keys of {what}"): value
    for key, value in content.items()
    if isinstance(key, str | bytes)
  }
