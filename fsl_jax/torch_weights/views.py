"""Tensors as strided views of storages, which are one-dimensional arrays.

Shapes and strides come from the file, so all are checked.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fsl_jax.data.containers import pickled_values

DTYPES = {
  "F16": np.dtype("<f2"),
  "F32": np.dtype("<f4"),
  "BF16": np.dtype(jnp.bfloat16),
  "I64": np.dtype("<i8"),
}
"""By their names in the format safetensors."""

Bytes = bytes | memoryview

_MAX_DIMENSIONS = 32
_MAX_NUMBER = 2**48  # of elements; more would overflow in what follows


@dataclasses.dataclass(frozen=True)
class Storage:
  key: str
  dtype: np.dtype
  size: int  # elements

  @property
  def num_bytes(self) -> int:
    return self.size * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A strided view of a storage; offset and strides are in elements."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def is_count(value: Any) -> bool:
  return type(value) is int and 0 <= value < _MAX_NUMBER


def is_shape(value: Any) -> bool:
  """Whether it could be a shape, or strides."""
  return (
    type(value) in (list, tuple)
    and len(value) <= _MAX_DIMENSIONS
    and all(map(is_count, value))
  )


def rebuild(
  storage: Any, offset: Any, shape: Any, strides: Any, *unused: Any
) -> Tensor:
  """`torch._utils._rebuild_tensor_v2`; gradients and hooks are not kept."""
  del unused
  plain = (
    isinstance(storage, Storage)
    and is_count(offset)
    and is_shape(shape)
    and is_shape(strides)
    and len(shape) == len(strides)
  )
  if not plain:
    raise pickled_values.RefusedError("a malformed tensor")
  last = offset + sum(
    (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
  )
  # With strides of 0, one number would be a tensor of any size.
  size = math.prod(shape)
  if size > storage.size or (size and last >= storage.size):
    raise pickled_values.RefusedError(
      f"a tensor {list(shape)} that leaves its storage of {storage.size}"
    )
  return Tensor(storage, offset if size else 0, tuple(shape), tuple(strides))


def arrays(
  tensors: Mapping[str, Tensor], content: Mapping[Storage, Bytes]
) -> dict[str, np.ndarray]:
  """The arrays, given the bytes of their storages."""
  for name, tensor in tensors.items():
    size = len(content.get(tensor.storage, b""))
    if size != tensor.storage.num_bytes:
      raise pickled_values.RefusedError(
        f"it is cut short or damaged: {size} bytes for {name}, expected "
        f"{tensor.storage.num_bytes}"
      )
  return {name: _view(t, content[t.storage]) for name, t in tensors.items()}


def _view(tensor: Tensor, data: Bytes) -> np.ndarray:
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
    raise pickled_values.RefusedError(f"a tensor, {error}") from error
