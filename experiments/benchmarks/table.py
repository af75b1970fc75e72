"""Prints measurements as a Markdown table."""

from collections.abc import Sequence
from typing import Any


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """One line for each measurement, medians; ratios with their spread."""
  lines = [
    "| what | precision | rate | GFLOP/s | of products | compile, s "
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
    return f"{1 / per_s:.2f} s for one of {unit}"
  return f"{per_s:,.3g} {unit}/s" if per_s < 1000 else f"{per_s:,.0f} {unit}/s"


def _number(value: float | None, form: str) -> str:
  return "" if value is None else form.format(value)
