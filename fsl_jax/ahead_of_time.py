"""Compiling for accelerators that are not attached.

A compiler plugin turns a program into machine code for a device that it knows
by description only. That shows errors, memory, operations and bytes moved, but
no time. `pip install "jax[tpu,cuda12-local]"` installs the plugins for TPUs and
NVIDIA GPUs; run with JAX_PLATFORMS=cpu.
"""

import dataclasses
import re
import time
from collections.abc import Mapping
from typing import Any

import jax

from fsl_jax import types


@dataclasses.dataclass(frozen=True)
class Device:
  """Published properties of one chip.

  Attributes:
    name: as in `DEVICES`.
    platform: "tpu" or "cuda".
    topology: for TPUs, the smallest slice that the compiler describes.
    flop_per_s: peak of dense matrix products by dtype of the network.
    bytes_per_s: peak memory bandwidth.
    memory_bytes: device memory.
  """

  name: str
  platform: str
  topology: str
  flop_per_s: Mapping[str, float]
  bytes_per_s: float
  memory_bytes: float


def _tpu(name, topology, flop_per_s, bytes_per_s, memory_bytes):
  # In float32, products are by default one bfloat16 pass.
  rates = dict.fromkeys(("float32", "bfloat16"), flop_per_s)
  return Device(name, "tpu", topology, rates, bytes_per_s, memory_bytes)


def _hopper(name, bytes_per_s, memory_bytes):
  # In float32, products use TF32 by default.
  rates = {"float32": 495e12, "bfloat16": 989e12}
  return Device(name, "cuda", "1x1x1", rates, bytes_per_s, memory_bytes)


DEVICES = {
  device.name: device
  for device in (
    _tpu("tpu_v5e", "v5e:2x2", 197e12, 819e9, 16 * 2**30),
    _tpu("tpu_v6e", "v6e:2x2", 918e12, 1640e9, 32 * 2**30),
    _hopper("h100", 3352320000000, 84942979072),
    _hopper("h200", 4800000000000, 151397597184),
  )
}
"""Sources: the vendors' data sheets; memory and bandwidth of the GPUs as the
CUDA driver reports them."""

# Without automatic tuning, which runs kernels on the device.
_COMPILER_OPTIONS = {"cuda": {"xla_gpu_autotune_level": "0"}, "tpu": {}}

# What the CUDA driver reports of compute capability 9.0, in XLA's text format.
_HOPPER = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bytes_per_s:.0f}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory_bytes:.0f}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


def chips(name: str, count: int = 1) -> list[Any]:
  """Descriptions of `count` devices, for `devices.mesh`.

  Raises:
    InputError: for an unknown device, a missing plugin, or more chips than the
      topology has.
  """
  if name not in DEVICES:
    raise types.unknown_name("device", name, DEVICES)
  from jax.experimental import topologies

  device = DEVICES[name]
  options: dict[str, Any] = {"topology_name": device.topology}
  if device.platform == "cuda":
    text = _HOPPER.format(**dataclasses.asdict(device))
    options = {"topology_name": name, "topology": device.topology}
    options["target_config"] = text
  jax.devices("cpu")  # Registers the plugins.
  try:
    topology = topologies.get_topology_desc(platform=device.platform, **options)
  except Exception as error:
    # Each plugin has errors of its own for being absent.
    raise types.InputError(
      f"no compiler for {name} is available ({_first_line(error)}); type: "
      'pip install "jax[tpu,cuda12-local]"'
    ) from error
  if not 1 <= count <= len(topology.devices):
    raise types.InputError(
      f"expected 1 to {len(topology.devices)} devices of {name}, got {count}"
    )
  return list(topology.devices[:count])


@dataclasses.dataclass(frozen=True)
class Program:
  """A program that was compiled for a device, and what it consists of.

  Attributes:
    compile_s: seconds of compilation.
    temporary_bytes: memory beside arguments and results, per device.
    argument_bytes: memory of the arguments, per device.
    output_bytes: memory of the results, per device.
    flop: operations by the compiler's account, in which the body of a loop
      counts once; None where it gives none (GPUs).
    bytes_accessed: memory traffic, likewise.
    operations: number of optimised instructions by kind, see `operations`.
    hlo: the optimised program as text.
  """

  compile_s: float
  temporary_bytes: int
  argument_bytes: int
  output_bytes: int
  flop: float | None
  bytes_accessed: float | None
  operations: Mapping[str, int]
  hlo: str

  @property
  def memory_bytes(self) -> int:
    """What has to fit into the memory of a device."""
    return self.temporary_bytes + self.argument_bytes + self.output_bytes


def compiled(function: Any, *arguments: Any, device: str) -> Program:
  """Compiles a function for a device.

  Args:
    function: has a method `lower`, as the results of `jax.jit` have.
    *arguments: `jax.ShapeDtypeStruct`s whose shardings are over `chips`.
    device: a name of `DEVICES`.

  Raises:
    InputError: if the compiler refuses, for instance for want of memory.
  """
  lowered = function.lower(*arguments)
  options = _COMPILER_OPTIONS[DEVICES[device].platform]
  start = time.perf_counter()
  try:
    program = lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    raise types.InputError(
      f"cannot be compiled for {device}: {_first_line(error)}"
    ) from error
  seconds = time.perf_counter() - start
  memory = program.memory_analysis()
  cost = program.cost_analysis() if device.startswith("tpu") else {}
  hlo = program.as_text()
  return Program(
    compile_s=seconds,
    temporary_bytes=memory.temp_size_in_bytes,
    argument_bytes=memory.argument_size_in_bytes,
    output_bytes=memory.output_size_in_bytes,
    flop=cost.get("flops"),
    bytes_accessed=cost.get("bytes accessed"),
    operations=operations(hlo),
    hlo=hlo,
  )


_KINDS = {
  "convolutions": r" convolution\(|custom_call_target=\"__cudnn\$conv",
  "grouped convolutions": r"feature_group_count=|batch_group_count=",
  "matrix products": r" dot\(|__cublas|__triton_(?:nested_)?gemm",
  "collectives": r" (?:all-reduce|all-gather|all-to-all|reduce-scatter|"
  r"collective-permute)(?:-start)?\(",
  "copies": r" copy\(",
  "conversions": r" convert\(",
}


def operations(hlo: str) -> dict[str, int]:
  """Counts instructions of an optimised program by kind.

  Convolutions over per-episode weights that vmap joined are grouped; these are
  among the convolutions too.

  Args:
    hlo: text, one instruction per line.
  """
  lines = [line for line in hlo.splitlines() if " = " in line]
  counts = {"instructions": len(lines)}
  for kind, pattern in _KINDS.items():
    compiled_pattern = re.compile(pattern)
    counts[kind] = sum(bool(compiled_pattern.search(line)) for line in lines)
  return counts


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
