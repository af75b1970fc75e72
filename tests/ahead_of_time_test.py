"""Programs of the library compile for accelerators that are not attached.

Skipped without the plugins of the extra `aot`; `make test-aot` installs them.
"""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

from fsl_jax import ahead_of_time, types

_SCRIPT = pathlib.Path(__file__).parents[1] / "experiments" / "compile_for.py"
_PLUGINS = {"tpu": "libtpu", "cuda": "jax_cuda12_plugin"}


def _compile(*flags: str) -> dict[str, str]:
  """The values that the script prints, in a process of its own: a fault of a
  compiler ends the process, and the test reports it."""
  done = subprocess.run(
    [sys.executable, str(_SCRIPT), *flags],
    env=os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  lines = (line.split("  ", 1) for line in done.stdout.splitlines())
  return {name: value.strip() for name, value in lines}


def _needs(device: str) -> None:
  plugin = _PLUGINS[ahead_of_time.DEVICES[device].platform]
  if importlib.util.find_spec(plugin) is None:
    pytest.skip(f"{plugin} is not installed")


@pytest.mark.parametrize("device", ["h200", "tpu_v5e"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  "backbone", ["conv64", "resnet12", "wrn_16_4", "wrn_28_10"]
)
def test_transductive_finetuning_compiles_and_fits(backbone, dtype, device):
  _needs(device)
  if device == "tpu_v5e" and backbone != "conv64":
    pytest.skip("takes many minutes on two cores")
  values = _compile(
    f"--device={device}", f"--backbone={backbone}", f"--dtype={dtype}"
  )
  needed = float(values["memory"].split(" MB")[0].replace(",", ""))
  assert needed * 1e6 < ahead_of_time.DEVICES[device].memory_bytes


@pytest.mark.parametrize("method", ["prototype", "support_init", "finetune"])
def test_other_methods_compile(method):
  _needs("h200")
  _compile("--device=h200", f"--method={method}")


def test_episodes_need_no_communication_and_pretraining_only_sums():
  _needs("tpu_v5e")
  flags = ("--device=tpu_v5e", "--num_devices=4")
  alone = _compile(*flags, "--method=support_init")
  assert "0 collectives" in alone["instructions"]
  together = _compile(*flags, "--program=pretraining", "--backbone=conv64")
  assert " 0 collectives" not in together["instructions"]


def test_operations_are_counted_by_kind():
  hlo = """
  %a = f32[8] convolution(%x, %k), window={size=3x3}, feature_group_count=4
  %b = f32[8] convolution(%x, %k), window={size=3x3}
  %c = f32[8] dot(%x, %y), lhs_contracting_dims={1}
  %d = f32[8] custom-call(%x), custom_call_target="__cublas$gemm"
  %e = f32[8] all-reduce-start(%x), to_apply=%sum
  %f = f32[8] copy(%x)
  ENTRY main {
  """
  assert ahead_of_time.operations(hlo) == {
    "instructions": 6,
    "convolutions": 2,
    "grouped convolutions": 1,
    "matrix products": 2,
    "collectives": 1,
    "copies": 1,
    "conversions": 0,
  }


def test_unknown_devices_are_refused():
  with pytest.raises(types.InputError, match="h200"):
    ahead_of_time.chips("h201")


def test_a_missing_plugin_is_named():
  if importlib.util.find_spec("jax_cuda12_plugin") is not None:
    pytest.skip("it is installed")
  with pytest.raises(types.InputError, match=r"jax\[tpu,cuda12-local\]"):
    ahead_of_time.chips("h200")
