"""State dicts that `torch.save` wrote.

A pickle names the tensors and refers to storages beside it: members of a zip
archive (since 1.6), or what follows in a stream of pickles (before that).
Source: `torch/serialization.py`.
"""

import io
import zipfile
from typing import Any

import numpy as np

from fsl_jax.data.containers import archives, pickled_values, pickles
from fsl_jax.torch_weights import views

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # begins the stream of pickles
_PROTOCOL_VERSION = 1001
_STORAGES = {
  "HalfStorage": "F16",
  "FloatStorage": "F32",
  "BFloat16Storage": "BF16",
  "LongStorage": "I64",
}


def read_zip(data: bytes, name: str) -> dict[str, np.ndarray]:
  with (
    archives.refuse_broken(name),
    zipfile.ZipFile(io.BytesIO(data)) as archive,
  ):
    # PyTorch compresses nothing, so nothing may grow by being read.
    if sum(info.file_size for info in archive.infolist()) > len(data):
      raise zipfile.BadZipFile("members larger than the archive")
    return _read_members(archive, name)


def _read_members(archive: zipfile.ZipFile, name: str) -> dict[str, np.ndarray]:
  infos = {info.filename: info for info in archive.infolist()}
  roots = [
    member.removesuffix("data.pkl")
    for member in infos
    if member.endswith("/data.pkl")
  ]
  if len(roots) != 1:
    raise pickled_values.RefusedError(
      f"a zip archive with {len(roots)} members data.pkl, expected one"
    )

  def member(name):
    info = infos.get(roots[0] + name)
    if info is None:
      raise pickled_values.RefusedError(f"the zip archive lacks {name}")
    return archive.read(info)

  if roots[0] + "byteorder" in infos:
    _check_byte_order(member("byteorder") == b"little")
  tensors = _tensors(_load(io.BytesIO(member("data.pkl")), name))
  storages = {tensor.storage for tensor in tensors.values()}
  return views.arrays(tensors, {s: member(f"data/{s.key}") for s in storages})


def read_stream(data: bytes, name: str) -> dict[str, np.ndarray]:
  file = io.BytesIO(data)
  if _load(file, name) != _MAGIC_NUMBER:
    raise pickled_values.RefusedError(
      f"it is another pickle; expected {DIALECT.expected}"
    )
  if _load(file, name) != _PROTOCOL_VERSION:
    raise pickled_values.RefusedError("it is of an unknown version")
  system = _load(file, name)
  _check_byte_order(
    isinstance(system, dict) and system.get("little_endian") is True
  )
  tensors = _tensors(_load(file, name))
  storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
  keys = _load(file, name)
  if type(keys) is not list or not all(type(key) is str for key in keys):
    raise pickled_values.RefusedError("its list of storages is malformed")
  content = {}
  for key in keys:
    if key not in storages:
      raise pickled_values.RefusedError(f"no tensor uses its storage {key!r}")
    # Their number of elements, in 8 bytes, comes before them.
    file.seek(8, io.SEEK_CUR)
    content[storages[key]] = file.read(storages[key].num_bytes)
  return views.arrays(tensors, content)


def _check_byte_order(is_little: bool) -> None:
  if not is_little:
    raise pickled_values.RefusedError("its numbers are big-endian")


def _tensors(value: Any) -> dict[str, views.Tensor]:
  """What a pickle holds, if that is a state dict."""
  if type(value) is not dict or not value:
    raise pickled_values.RefusedError(
      f"it holds a {type(value).__name__} and no state dict"
    )
  for key, tensor in value.items():
    if type(key) is not str or not isinstance(tensor, views.Tensor):
      raise pickled_values.RefusedError(
        f"it is no state dict: {key!r} is a {type(tensor).__name__}"
      )
  return value


def _rebuild_parameter(tensor: Any, *unused: Any) -> views.Tensor:
  del unused
  if not isinstance(tensor, views.Tensor):
    raise pickled_values.RefusedError("a malformed parameter")
  return tensor


def _storage(pid: Any) -> views.Storage:
  """What the reference ("storage", type, key, device, size) stands for."""
  plain = (
    type(pid) is tuple
    and len(pid) in (5, 6)
    and pid[0] == "storage"
    and isinstance(pid[1], pickled_values.Name)
    and isinstance(pid[2], str)
    and views.is_count(pid[4])
    # Old streams may have views of storages.
    and pid[5:] in ((), (None,))
  )
  kind = pid[1].what.removeprefix("torch.") if plain else ""
  if kind not in _STORAGES:
    raise pickled_values.RefusedError(
      "a malformed reference to a storage, or one of another type than "
      f"{', '.join(_STORAGES)}"
    )
  return views.Storage(pid[2], views.DTYPES[_STORAGES[kind]], pid[4])


DIALECT = pickles.Dialect(
  expected="a state dict of tensors, from torch.save or safetensors",
  names={
    ("torch._utils", "_rebuild_tensor"): views.rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): views.rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): pickled_values.not_a_function for name in _STORAGES},
  },
  reference=_storage,
)


def _load(file: io.BytesIO, name: str) -> Any:
  return pickles.load(file, name=name, dialect=DIALECT)
