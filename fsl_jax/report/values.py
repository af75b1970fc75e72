"""Results as JSON values: fractions, full precision, None for NaN."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import hardness as hardness_lib
from fsl_jax import statistics
from fsl_jax.report import behaviour, classes, rows


def summary(
  sections: Sequence[rows.Section],
  class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
  """All numbers of a report.

  Args:
    sections: the results.
    class_names: of the data set, by class id; with them each section has the
      accuracy of every class that was asked for.

  Raises:
    InputError: as `rows.check`, `classes.of_section`.
  """
  rows.check(sections)
  return plain(
    {
      "interval": "half-width, 1.96 std / sqrt(n)",
      "sections": [_section(section, class_names) for section in sections],
      "hardness_lines": {
        name: _pooled_line(sections, name)
        for name in rows.method_names(sections)
      },
    }
  )


def plain(value: Any) -> Any:
  """Python's own types; NaN and infinity, which JSON lacks, become None."""
  if isinstance(value, Mapping):
    return {str(key): plain(inner) for key, inner in value.items()}
  if isinstance(value, (np.ndarray, np.generic)):
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return [plain(inner) for inner in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def dump(value: Any) -> str:
  """The text of a JSON file."""
  text = json.dumps(plain(value), indent=2, allow_nan=False, default=str)
  return text + "\n"


def _section(
  section: rows.Section, class_names: Sequence[str] | None
) -> dict[str, Any]:
  first = rows.first(section)
  intervals = rows.class_intervals(section)
  differences = (
    rows.difference_intervals(section) if rows.BASELINE in section else {}
  )
  return {
    "protocol": first.protocol,
    "protocol_name": first.protocol_name,
    "protocol_text": first.protocol_text,
    "num_episodes": first.num_episodes,
    "methods": {
      row.name: _row(row, differences.get(row.name))
      | {
        "class_interval": intervals[row.name]._asdict(),
        "hardness_line": _line(
          row.line, rows.pooled_interval([section], row.name)
        ),
        "diagnosis": behaviour.of_result(section[row.name]),
      }
      for row in rows.of_section(section)
    },
    "classes": None
    if class_names is None
    else [row._asdict() for row in classes.of_section(section, class_names)],
  }


def _row(
  row: rows.Row, of_difference: statistics.Interval | None
) -> dict[str, Any]:
  return {
    "label": row.label,
    "query_use": row.query_use,
    "mean": row.mean,
    "std": row.std,
    "ci95": row.ci95,
    "median": row.median,
    "worst": row.worst,
    "num_episodes": row.num_finite + row.num_non_finite,
    "num_finite": row.num_finite,
    "num_non_finite": row.num_non_finite,
    "difference": row.difference
    and {
      "to": rows.BASELINE,
      **row.difference._asdict(),
      "class_interval": of_difference and of_difference._asdict(),
    },
  }


def _pooled_line(
  sections: Sequence[rows.Section], name: str
) -> dict[str, Any] | None:
  line = _line(
    rows.pooled_line(sections, name), rows.pooled_interval(sections, name)
  )
  if line is None:
    return None
  between = rows.area_difference(sections, name)
  return line | {
    "area_difference": between and {"to": rows.BASELINE, **between._asdict()},
  }


def _line(
  line: hardness_lib.Line | None,
  interval: hardness_lib.LineInterval | None,
) -> dict[str, Any] | None:
  if line is None:
    return None
  return line._asdict() | {"interval": interval and interval._asdict()}
