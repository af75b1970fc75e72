"""The format safetensors: a JSON header, then the bytes of the tensors.

Source: the README of huggingface/safetensors, "Format".
"""

import json
import math

import numpy as np

from fsl_jax.data.containers import pickled_values
from fsl_jax.torch_weights import views

_MAX_HEADER = 100_000_000  # bytes, the format's own limit


def read(data: bytes) -> dict[str, np.ndarray]:
  start = 8 + int.from_bytes(data[:8], "little")
  if start > min(len(data), _MAX_HEADER):
    raise pickled_values.RefusedError("it is cut short within the header")
  try:
    header = json.loads(data[8:start])
  except (ValueError, RecursionError) as error:
    raise pickled_values.RefusedError("its header is no JSON") from error
  whole = memoryview(data)  # Its slices are no copies.
  tensors, content = {}, {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    try:
      dtype, shape = views.DTYPES[entry["dtype"]], entry["shape"]
      begin, end = entry["data_offsets"]
      if not all(map(views.is_shape, (shape, [begin, end]))):
        raise ValueError
    except (KeyError, TypeError, ValueError) as error:
      raise pickled_values.RefusedError(
        f"its entry {name!r} is malformed, or of another type than "
        f"{', '.join(views.DTYPES)}"
      ) from error
    storage = views.Storage(name, dtype, math.prod(shape))
    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    tensors[name] = views.rebuild(storage, 0, shape, strides)
    content[storage] = whole[start + begin : start + end]
  return views.arrays(tensors, content)
