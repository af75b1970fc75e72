"""Weights that PyTorch saved, read with NumPy and without running any code.

`torch.save` writes a pickle that names the tensors and refers to storages
beside it: members of a zip archive (since PyTorch 1.6), or what follows in a
stream of pickles (before that). Source: `torch/serialization.py`. The format
safetensors is a JSON header and then the bytes of the tensors. Source: the
README of huggingface/safetensors, "Format".

Shapes, strides and offsets come from the file, so all of them are checked.
"""

import dataclasses
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fsl_jax import paths, types
from fsl_jax.data.containers import archives, pickled_values, pickles

# `torch.hub` names files so: resnet152-394f9c45.pth.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")

_DTYPES = {  # by their names in the format safetensors
  "F16": np.dtype("<f2"),
  "F32": np.dtype("<f4"),
  "BF16": np.dtype(jnp.bfloat16),
  "I64": np.dtype("<i8"),
}
_STORAGES = {
  "HalfStorage": "F16",
  "FloatStorage": "F32",
  "BFloat16Storage": "BF16",
  "LongStorage": "I64",
}
_MAX_DIMENSIONS = 32
_MAX_NUMBER = 2**48  # of elements; more would overflow in what follows

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # begins the stream of pickles
_PROTOCOL_VERSION = 1001
_MAX_HEADER = 100_000_000  # bytes, the limit of the format safetensors

_Bytes = bytes | memoryview
_RefusedError = pickled_values.RefusedError


def read(
  path: str | os.PathLike[str], *, sha256: str | None = None
) -> dict[str, np.ndarray]:
  """The tensors of a state dict, by name.

  The form is recognised by the content. Tensors are float32, float16, bfloat16
  or int64.

  Args:
    path: the file.
    sha256: hex digest that the file must have; if None, the digits in a name
      such as "resnet152-394f9c45.pth" are checked.

  Returns:
    Read-only views of the bytes that were read, in the file's dtypes.

  Raises:
    InputError: if it is missing, damaged, of another form, or holds anything
      but tensors.
  """
  path = paths.local(path, "the file of weights")
  try:
    data = path.read_bytes()
  except OSError as error:
    raise types.InputError(
      f"cannot read the weights {path}: {error.strerror}"
    ) from error
  named = _DIGEST_IN_NAME.search(path.name)
  wanted = sha256 or (named[1] if named else "")
  digest = hashlib.sha256(data).hexdigest()
  if not digest.startswith(wanted):
    raise types.InputError(
      f"{path} is damaged or another version: its SHA-256 is {digest}, "
      f"expected {wanted}"
    )
  try:
    return _read(data, str(path))
  except _RefusedError as error:
    raise types.InputError(
      f"cannot read the weights {path}: {error}"
    ) from error


def _read(data: bytes, name: str) -> dict[str, np.ndarray]:
  if data[:4] == b"PK\x03\x04":
    return _read_zip(data, name)
  if data[:1] == b"\x80":
    return _read_stream(data, name)
  if data[8:9] == b"{":
    return _read_safetensors(data)
  if data[257:262] == b"ustar":
    raise _RefusedError(
      "it is a tar archive, the first form of PyTorch's; load it with "
      "PyTorch, save it again and give that file"
    )
  raise _RefusedError(f"it is in no known form; expected {_DIALECT.expected}")


@dataclasses.dataclass(frozen=True)
class _Storage:
  """A one-dimensional array."""

  key: str
  dtype: np.dtype
  size: int  # elements

  @property
  def num_bytes(self) -> int:
    return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A strided view of a storage; offset and strides are in elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _read_zip(data: bytes, name: str) -> dict[str, np.ndarray]:
  with (
    archives.refuse_broken(name),
    zipfile.ZipFile(io.BytesIO(data)) as archive,
  ):
    # PyTorch compresses nothing, so nothing may grow when it is read.
    if sum(info.file_size for info in archive.infolist()) > len(data):
      raise zipfile.BadZipFile("members larger than the archive")
    infos = {info.filename: info for info in archive.infolist()}
    roots = [
      member.removesuffix("data.pkl")
      for member in infos
      if member.endswith("/data.pkl")
    ]
    if len(roots) != 1:
      raise _RefusedError(
        f"a zip archive with {len(roots)} members data.pkl, expected one"
      )

    def member(name: str) -> bytes:
      info = infos.get(roots[0] + name)
      if info is None:
        raise _RefusedError(f"the zip archive lacks {name}")
      return archive.read(info)

    if roots[0] + "byteorder" in infos:
      _check_byte_order(member("byteorder") == b"little")
    tensors = _state_dict(_load(io.BytesIO(member("data.pkl")), name))
    storages = {tensor.storage for tensor in tensors.values()}
    return _arrays(tensors, {s: member(f"data/{s.key}") for s in storages})


def _read_stream(data: bytes, name: str) -> dict[str, np.ndarray]:
  file = io.BytesIO(data)
  if _load(file, name) != _MAGIC_NUMBER:
    raise _RefusedError(f"it is another pickle; expected {_DIALECT.expected}")
  if _load(file, name) != _PROTOCOL_VERSION:
    raise _RefusedError("it is of an unknown version")
  system = _load(file, name)
  _check_byte_order(
    isinstance(system, dict) and system.get("little_endian") is True
  )
  tensors = _state_dict(_load(file, name))
  storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
  keys = _load(file, name)
  if type(keys) is not list or not all(type(key) is str for key in keys):
    raise _RefusedError("its list of storages is malformed")
  content: dict[_Storage, _Bytes] = {}
  for key in keys:
    if key not in storages:
      raise _RefusedError(f"no tensor uses its storage {key!r}")
    # Their number of elements, in 8 bytes, comes before them.
    file.seek(8, io.SEEK_CUR)
    content[storages[key]] = file.read(storages[key].num_bytes)
  return _arrays(tensors, content)


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
  start = 8 + int.from_bytes(data[:8], "little")
  if start > min(len(data), _MAX_HEADER):
    raise _RefusedError("it is cut short within the header")
  try:
    header = json.loads(data[8:start])
  except (ValueError, RecursionError) as error:
    raise _RefusedError("its header is no JSON") from error
  whole = memoryview(data)  # Its slices are not copies.
  tensors: dict[str, _Tensor] = {}
  content: dict[_Storage, _Bytes] = {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    try:
      dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
      begin, end = entry["data_offsets"]
      if not all(map(_is_shape, (shape, [begin, end]))):
        raise ValueError
    except (KeyError, TypeError, ValueError) as error:
      raise _RefusedError(
        f"its entry {name!r} is malformed, or of another type than "
        f"{', '.join(_DTYPES)}"
      ) from error
    storage = _Storage(name, dtype, math.prod(shape))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    tensors[name] = _rebuild(storage, 0, shape, strides)
    content[storage] = whole[start + begin : start + end]
  return _arrays(tensors, content)


def _check_byte_order(is_little: bool) -> None:
  if not is_little:
    raise _RefusedError("its numbers are big-endian")


def _state_dict(value: Any) -> dict[str, _Tensor]:
  """The content of a pickle, if that is a state dict."""
  if type(value) is not dict or not value:
    raise _RefusedError(f"it holds a {type(value).__name__} and no state dict")
  for key, tensor in value.items():
    if type(key) is not str or not isinstance(tensor, _Tensor):
      raise _RefusedError(
        f"it is not a state dict: {key!r} is a {type(tensor).__name__}"
      )
  return value


def _is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < _MAX_NUMBER


def _is_shape(value: Any) -> bool:
  """Whether it could be a shape, or strides."""
  return (
    type(value) in (list, tuple)
    and len(value) <= _MAX_DIMENSIONS
    and all(map(_is_count, value))
  )


def _rebuild(
  storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any
) -> _Tensor:
  """`torch._utils._rebuild_tensor_v2`; gradients and hooks are not kept."""
  del unused
  plain = (
    isinstance(storage, _Storage)
    and _is_count(offset)
    and _is_shape(shape)
    and _is_shape(strides)
    and len(shape) == len(strides)
  )
  if not plain:
    raise _RefusedError("a malformed tensor")
  last = offset + sum(
    (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
  )
  # With strides of 0, one number would be a tensor of any size.
  size = math.prod(shape)
  if size > storage.size or (size and last >= storage.size):
    raise _RefusedError(
      f"a tensor {list(shape)} that leaves its storage of {storage.size}"
    )
  return _Tensor(storage, offset if size else 0, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *unused: Any) -> _Tensor:
  del unused
  if not isinstance(tensor, _Tensor):
    raise _RefusedError("a malformed parameter")
  return tensor


def _storage(pid: Any) -> _Storage:
  """The storage of a reference ("storage", type, key, device, size)."""
  plain = (
    type(pid) is tuple
    and len(pid) in (5, 6)
    and pid[0] == "storage"
    and isinstance(pid[1], pickled_values.Name)
    and isinstance(pid[2], str)
    and _is_count(pid[4])
    # Old streams may have views of storages.
    and pid[5:] in ((), (None,))
  )
  kind = pid[1].what.removeprefix("torch.") if plain else ""
  if kind not in _STORAGES:
    raise _RefusedError(
      "a malformed reference to a storage, or one of another type than "
      f"{', '.join(_STORAGES)}"
    )
  return _Storage(pid[2], _DTYPES[_STORAGES[kind]], pid[4])


_DIALECT = pickles.Dialect(
  expected="a state dict of tensors, from torch.save or safetensors",
  names={
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): pickled_values.not_a_function for name in _STORAGES},
  },
  reference=_storage,
)


def _load(file: io.BytesIO, name: str) -> Any:
  return pickles.load(file, name=name, dialect=_DIALECT)


def _arrays(
  tensors: Mapping[str, _Tensor], content: Mapping[_Storage, _Bytes]
) -> dict[str, np.ndarray]:
  """The arrays, given the bytes of their storages."""
  for name, tensor in tensors.items():
    size = len(content.get(tensor.storage, b""))
    if size != tensor.storage.num_bytes:
      raise _RefusedError(
        f"it is cut short or damaged: {size} bytes for {name}, expected "
        f"{tensor.storage.num_bytes}"
      )
  return {name: _view(t, content[t.storage]) for name, t in tensors.items()}


def _view(tensor: _Tensor, data: _Bytes) -> np.ndarray:
  dtype = tensor.storage.dtype
  try:
    return np.ndarray(
      tensor.shape,
      dtype,
      buffer=data,
      offset=tensor.offset * dtype.itemsize,
      strides=tuple(stride * dtype.itemsize for stride in tensor.strides),
    )
  except ValueError as error:  # Such as [0, 2^40, 2^40].
    raise _RefusedError(f"a tensor, {error}") from error
