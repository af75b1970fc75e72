"""How fast it is on this machine, and against PyTorch.

  python experiments/bench.py --against=torch --run_dir=runs/bench

Adaptation, pre-training, feature extraction and prototypes of cached features:
rate, useful GFLOP/s, fraction of peak matmul throughput, compile time and
memory. With --against=torch a plain PyTorch loop does the same in turn, after a
check that both compute the same logits; ratios are medians of paired runs with
the least and the greatest. The same command continues an interrupted run with
the next line.
"""

import importlib.util
import pathlib
import sys

import command_line
import jax
from absl import flags
from benchmarks import cases, measure

from fsl_jax import run_folder, types

_RUN_DIR = command_line.define_path(
  "run_dir", None, "Run folder, made if missing."
)
_AGAINST = flags.DEFINE_enum(
  "against", None, ["torch"], "Framework to compare with, if it is installed."
)
_ONLY = flags.DEFINE_string(
  "only", "", "Only lines whose names contain this text."
)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Timed runs of each program.")
_TOY = flags.DEFINE_bool(
  "toy", False, "Small networks and images, to try whether everything runs."
)
_ROWS = "rows.jsonl"


def main(argv: list[str]) -> None:
  del argv
  types.check_whole("repeats", _REPEATS.value, at_least=1)
  run_dir = command_line.required(_RUN_DIR)
  against_torch = _AGAINST.value == "torch"
  if against_torch and importlib.util.find_spec("torch") is None:
    raise types.InputError(
      "--against=torch needs PyTorch: pip install 'fsl_jax[bench]'"
    )
  platform = jax.default_backend()
  choose = cases.toy if _TOY.value else cases.of_platform
  lines = {
    key: make
    for key, make in choose(platform, against_torch=against_torch).items()
    if _ONLY.value in key
  }
  if not lines:
    raise types.InputError(f"no line's name contains {_ONLY.value!r}")
  folder = run_folder.RunFolder(
    run_dir,
    {
      "platform": platform,
      "device": jax.devices()[0].device_kind,
      "against": _AGAINST.value,
      "repeats": _REPEATS.value,
      "toy": _TOY.value,
    },
  )
  done = {row["key"]: row for row in folder.read(_ROWS)}
  rates = {}
  for key, make in lines.items():
    if key not in done:
      print(f"{key} ...", file=sys.stderr)
      case = make()
      if case.dtype not in rates:
        rates[case.dtype] = measure.product_rate(case.dtype)
      row = {"key": key} | measure.compare(
        case, repeats=_REPEATS.value, product_rate=rates[case.dtype]
      )
      row["product_gflop_per_s"] = rates[case.dtype] / 1e9
      folder.append(_ROWS, [row])
      done[key] = row
  text = measure.markdown([done[key] for key in lines])
  folder.write_text("table.md", text)
  print(text)
  print(f"table: {pathlib.Path(folder.path) / 'table.md'}")


if __name__ == "__main__":
  command_line.run(main)
