"""Weights that PyTorch saved, read with NumPy and with nothing run."""

import hashlib
import os
import re

import numpy as np

from fsl_jax import paths, types
from fsl_jax.data.containers import pickled_values
from fsl_jax.torch_weights import pickled, safetensors

# `torch.hub` names files so: resnet152-394f9c45.pth.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")


def read(
  path: str | os.PathLike[str], *, sha256: str | None = None
) -> dict[str, np.ndarray]:
  """The tensors of a state dict, by name.

  The form is recognised by the content. Tensors are float32, float16, bfloat16
  or int64.

  Args:
    path: the file.
    sha256: hex digest that the file must have, or None; then a name such as
      "resnet152-394f9c45.pth" is held to the digits in it.

  Returns:
    Read-only views of what was read, in the file's dtypes.

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
    if data[:4] == b"PK\x03\x04":
      return pickled.read_zip(data, str(path))
    if data[:1] == b"\x80":
      return pickled.read_stream(data, str(path))
    if data[8:9] == b"{":
      return safetensors.read(data)
    if data[257:262] == b"ustar":
      raise pickled_values.RefusedError(
        "it is a tar archive, the first form of PyTorch's; load it with "
        "PyTorch, save it again and give that file"
      )
    raise pickled_values.RefusedError(
      f"it is in no known form; expected {pickled.DIALECT.expected}"
    )
  except pickled_values.RefusedError as error:
    raise types.InputError(
      f"cannot read the weights {path}: {error}"
    ) from error
