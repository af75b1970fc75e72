r"""Compiles a program of the library for an accelerator that is not attached.

  pip install -e '.[aot]'
  JAX_PLATFORMS=cpu python experiments/compile_for.py --device=h200 \
      --backbone=wrn_28_10 --dtype=bfloat16

Prints what the compiler tells: compile time, memory, operations, bytes moved,
and the roofline time that follows from the peak rates of the device. Nothing is
run, so none of it is a measured speed.
"""

import pathlib
from typing import Any

import command_line
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from benchmarks import adaptation

from fsl_jax import adapt, ahead_of_time, backbones, devices, pretrain, types
from fsl_jax.backbones import cost
from fsl_jax.pretrain import recipe as recipe_lib

_DEVICE = flags.DEFINE_enum(
  "device", None, list(ahead_of_time.DEVICES), "Device to compile for."
)
_NUM_DEVICES = flags.DEFINE_integer("num_devices", 1, "Number of devices.")
_PROGRAM = flags.DEFINE_enum(
  "program",
  "adaptation",
  ["adaptation", "pretraining"],
  "Program to compile; pre-training takes one step per epoch here.",
)
_BACKBONE = flags.DEFINE_string(
  "backbone", "conv64", f"Network, one of {', '.join(backbones.names())}."
)
_IMAGE_SIZE_PX = flags.DEFINE_integer("image_size_px", 32, "Image size.")
_DTYPE = flags.DEFINE_enum(
  "dtype", "bfloat16", ["float32", "bfloat16"], "Dtype of the network."
)
_METHOD = flags.DEFINE_string(
  "method", "transductive_finetune", f"One of {', '.join(adapt.names())}."
)
_WAYS = flags.DEFINE_integer("ways", 5, "Classes per episode.")
_SHOTS = flags.DEFINE_integer("shots", 1, "Support images per class.")
_QUERIES = flags.DEFINE_integer("queries", 15, "Query images per class.")
_CHUNK = flags.DEFINE_integer(
  "chunk", 1, "Episodes that are vmapped together on each device."
)
_LARGEST_CHUNK = flags.DEFINE_bool(
  "largest_chunk",
  False,
  "Multiplies the chunk by 4 for as long as the program fits into memory.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "Of pre-training.")
_HLO = command_line.define_path(
  "hlo", None, "File for the optimised program as text."
)


def main(argv: list[str]) -> None:
  del argv
  name = command_line.required(_DEVICE)
  device = ahead_of_time.DEVICES[name]
  mesh = devices.mesh(ahead_of_time.chips(name, _NUM_DEVICES.value))
  if _PROGRAM.value == "pretraining":
    program, flop = _pretraining(name, mesh)
    _print(device, program, flop, "step")
  else:
    chunk = _CHUNK.value
    program = _adaptation(name, mesh, chunk)
    while True:
      _print(device, program, _setup(chunk).flop(), f"chunk of {chunk}")
      if not _LARGEST_CHUNK.value:
        break
      larger = _if_it_fits(name, mesh, 4 * chunk)
      if larger is None:
        break
      chunk, program = 4 * chunk, larger
  if _HLO.value is not None:
    pathlib.Path(_HLO.value).write_text(program.hlo, encoding="utf-8")


def _setup(chunk: int) -> adaptation.Setup:
  types.check_whole("chunk", chunk, at_least=1)
  return adaptation.Setup(
    _BACKBONE.value,
    _IMAGE_SIZE_PX.value,
    method=_METHOD.value,
    ways=_WAYS.value,
    shots=_SHOTS.value,
    queries=_QUERIES.value,
    episodes=chunk,
    dtype=_DTYPE.value,
  )


def _adaptation(
  name: str, mesh: jax.sharding.Mesh, chunk: int
) -> ahead_of_time.Program:
  setup = _setup(chunk)
  function = adapt.batched.compile(setup.adapter(), chunk=chunk, mesh=mesh)
  same, rows = (
    devices.sharding(mesh, spec) for spec in (devices.SAME, devices.ROWS)
  )
  size = chunk * mesh.size

  def divided(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct((size, *shape), dtype, sharding=rows)

  task = jax.tree.map(
    lambda x: divided(x.shape[1:], x.dtype), adaptation.tasks(_setup(1))
  )
  key, variables = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=same),
    jax.eval_shape(lambda: (jax.random.key(0), adaptation.variables(setup))),
  )
  return ahead_of_time.compiled(
    function, key, variables, task, divided((), np.int32), device=name
  )


def _if_it_fits(
  name: str, mesh: jax.sharding.Mesh, chunk: int
) -> ahead_of_time.Program | None:
  try:
    program = _adaptation(name, mesh, chunk)
  except types.InputError as error:
    print(f"chunk of {chunk}: {error}")
    return None
  memory_bytes = ahead_of_time.DEVICES[name].memory_bytes
  if program.memory_bytes > memory_bytes:
    needed, there = program.memory_bytes / 1e9, memory_bytes / 1e9
    print(f"chunk of {chunk}: needs {needed:.1f} of {there:.1f} GB")
    return None
  return program


def _pretraining(
  name: str, mesh: jax.sharding.Mesh
) -> tuple[ahead_of_time.Program, float]:
  setup = _setup(1)
  network = setup.network()
  config = pretrain.PretrainConfig(batch_size=_BATCH_SIZE.value)
  recipe = recipe_lib.make(
    network, config, num_images=config.batch_size, mesh=mesh
  )
  same, columns = (
    devices.sharding(mesh, spec) for spec in (devices.SAME, devices.COLUMNS)
  )
  size_px = _IMAGE_SIZE_PX.value
  num_images = config.batch_size

  def whole(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=same)

  sample = jax.ShapeDtypeStruct((1, size_px, size_px, 3), jnp.uint8)
  state = jax.eval_shape(lambda x: recipe.init(jax.random.key(0), x), sample)
  program = ahead_of_time.compiled(
    jax.jit(recipe.steps, donate_argnums=0, out_shardings=same),
    jax.tree.map(lambda x: whole(x.shape, x.dtype), state),
    whole((num_images, size_px, size_px, 3), np.uint8),
    whole((num_images,), np.int32),
    jax.ShapeDtypeStruct((1, num_images), np.int32, sharding=columns),
    device=name,
  )
  flop = 3 * cost.forward_flop(network) * num_images / mesh.size
  return program, float(flop)


def _print(
  device: ahead_of_time.Device,
  program: ahead_of_time.Program,
  flop: float,
  what: str,
) -> None:
  """Values of one program, per device."""
  rate = device.flop_per_s[_DTYPE.value]
  rows = {
    "program": f"{_PROGRAM.value}, {_BACKBONE.value}, {_DTYPE.value}, {what}",
    "compile time": f"{program.compile_s:.1f} s",
    "memory": f"{program.memory_bytes / 1e6:,.0f} MB, of it "
    f"{program.temporary_bytes / 1e6:,.0f} temporary; the device has "
    f"{device.memory_bytes / 1e6:,.0f}",
    "convolutions and products": f"{flop / 1e12:.3g} TFLOP as the network is "
    f"written: {1e3 * flop / rate:.3g} ms at the peak rate",
  }
  if program.bytes_accessed is not None:
    moved = program.bytes_accessed
    rows["memory traffic"] = (
      f"{moved / 1e9:.3g} GB, the body of a loop counted once: "
      f"{1e3 * moved / device.bytes_per_s:.3g} ms at the peak bandwidth"
    )
  rows["instructions"] = ", ".join(
    f"{count:,} {kind}" for kind, count in program.operations.items()
  )
  width = max(map(len, rows))
  for label, value in rows.items():
    print(f"{label.ljust(width)}  {value}")


if __name__ == "__main__":
  command_line.run(main)
