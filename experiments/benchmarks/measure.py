"""Times a program of ours and others in turn, and prints a table of it."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

Run = Callable[[], object]
"""Does all of the work and returns when it is done."""


class Other(NamedTuple):
  """A program to compare with."""

  run: Run
  units: float  # of the case's unit, done by one run


@dataclasses.dataclass(frozen=True)
class Case:
  """One line of the table.

  Attributes:
    name: what is done, with network, image size and episode.
    unit: of the rate, such as "episodes".
    units: how many of them one run does.
    flop: useful floating-point operations of one run; 0 where none are counted.
    ours: our run, compiled.
    compile_s: seconds that compiling took.
    memory_bytes: of the compiled program: arguments, results and temporaries.
    others: programs that do the same, by name.
    dtype: of the computation, for which the peak throughput is measured.
    note: what else is needed to read the line.
  """

  name: str
  unit: str
  units: float
  flop: float
  ours: Run
  compile_s: float | None = None
  memory_bytes: int | None = None
  others: Mapping[str, Other] = dataclasses.field(default_factory=dict)
  dtype: str = "float32"
  note: str = ""


def compare(case: Case, *, repeats: int, product_rate: float) -> dict[str, Any]:
  """Runs each program in turn, `repeats` times; JSON values.

  The ratio to another program is of two consecutive runs, so that other load
  of the machine affects both.

  Args:
    case: the programs.
    repeats: at least 1, after one more run of each program to warm up.
    product_rate: peak matmul throughput of this machine, FLOP/s.
  """
  runs = {"ours": Other(case.ours, case.units), **case.others}
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for program in runs.values():
    program.run()
  for _ in range(repeats):
    for name, program in runs.items():
      start = time.perf_counter()
      program.run()
      elapsed = time.perf_counter() - start
      seconds[name].append(elapsed / program.units)
  median = statistics.median(seconds["ours"])
  flop_per_s = case.flop / case.units / median
  return {
    "name": case.name,
    "unit": case.unit,
    "dtype": case.dtype,
    "rate": 1 / median,
    "seconds_per_unit": median,
    "gflop_per_s": flop_per_s / 1e9 if case.flop else None,
    "of_products": flop_per_s / product_rate if case.flop else None,
    "compile_s": case.compile_s,
    "memory_mb": case.memory_bytes and case.memory_bytes / 1e6,
    "repeats": repeats,
    "note": case.note,
    "others": {
      name: {
        "seconds_per_unit": statistics.median(seconds[name]),
        "ratio": spread(
          [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
        ),
      }
      for name in case.others
    },
  }


def spread(values: list[float]) -> dict[str, float]:
  """Median, least and greatest."""
  return {
    "median": statistics.median(values),
    "min": min(values),
    "max": max(values),
  }


def product_rate(dtype: str, repeats: int = 12) -> float:
  """Peak matmul throughput of this machine on random values, FLOP/s.

  The best of `repeats`, the first of which compiles.
  """
  size = 2048 if jax.default_backend() == "cpu" else 8192
  keys = jax.random.split(jax.random.key(0))
  a, b = (jax.random.normal(k, (size, size), jnp.dtype(dtype)) for k in keys)
  product = jax.jit(jnp.matmul)
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(product(a, b))
    times.append(time.perf_counter() - start)
  return 2 * size**3 / min(times)


def compiled(function: Any, *arguments: Any) -> tuple[Any, float, int]:
  """Compiles ahead of time: the program, seconds, bytes of memory."""
  lowered = function.lower(*arguments)
  # Programs that scripts keep would be read and not compiled.
  kept = jax.config.values["jax_enable_compilation_cache"]
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  start = time.perf_counter()
  program = lowered.compile()
  seconds = time.perf_counter() - start
  jax.config.update("jax_enable_compilation_cache", kept)
  compilation_cache.reset_cache()
  analysis = program.memory_analysis()
  memory = (
    analysis.argument_size_in_bytes
    + analysis.output_size_in_bytes
    + analysis.temp_size_in_bytes
  )
  return program, seconds, memory


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """One line for each measurement, medians; ratios with their spread."""
  lines = [
    "| what | precision | rate | GFLOP/s | of peak matmul | compile, s "
    "| memory, MB | against |",
    "|---|---|---|---|---|---|---|---|",
  ]
  lines += [_line(row) for row in rows]
  return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
  name = row["name"]
  if row["note"]:
    name += f" ({row['note']})"
  against = "; ".join(
    f"{ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f}) {other}, "
    f"{_rate(1 / value['seconds_per_unit'], row['unit'])}"
    for other, value in row["others"].items()
    for ratio in [value["ratio"]]
  )
  cells = [
    name,
    row["dtype"],
    _rate(row["rate"], row["unit"]),
    _number(row["gflop_per_s"], "{:.0f}"),
    _number(row["of_products"], "{:.0%}"),
    _number(row["compile_s"], "{:.1f}"),
    _number(row["memory_mb"], "{:.0f}"),
    against,
  ]
  return f"| {' | '.join(cells)} |"


def _rate(per_s: float, unit: str) -> str:
  if per_s < 1:
    return f"{1 / per_s:.2f} s/{unit.removesuffix('s')}"
  return f"{per_s:,.3g} {unit}/s" if per_s < 1000 else f"{per_s:,.0f} {unit}/s"


def _number(value: float | None, form: str) -> str:
  return "" if value is None else form.format(value)
