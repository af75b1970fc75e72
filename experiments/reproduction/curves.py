"""Curves of `curves.py` that are kept in `results/curves/`, as Markdown."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import curve_kinds

from fsl_jax import json_files, types
from fsl_jax.report import hardness_chart, sweep
from reproduction import wording

_KEYS = {"curve", "title", "command", "points", "lines", "commits", "device"}
_METHODS = ("support_init", "finetune", "transductive_finetune")


def load(folder: pathlib.Path) -> list[dict[str, Any]]:
  """All curves of a folder, by file name; there may be none.

  Raises:
    InputError: naming the file that cannot be read or lacks something.
  """
  found = []
  for path in sorted(folder.glob("*.json")):
    try:
      curve = json_files.parse(path.read_bytes())
      missing = _KEYS - set(curve)
    except (ValueError, TypeError) as error:
      raise types.InputError(f"{path} is damaged ({error})") from error
    if missing:
      raise types.InputError(f"{path} lacks {', '.join(sorted(missing))}")
    found.append(curve | {"file": path.stem})
  return found


def has_figure(curve: Mapping[str, Any]) -> bool:
  """Hardness may not have been computed."""
  is_against_hardness = curve["curve"] == "hardness"
  return not is_against_hardness or all(
    point.get("hardness") for point in curve["points"]
  )


def figure(curve: Mapping[str, Any]) -> str:
  """A curve as SVG."""
  kind = curve_kinds.CURVES[curve["curve"]]
  if curve["curve"] == "hardness":
    return _hardness(curve)
  labels = [point["label"] for point in curve["points"]]
  points = [
    sweep.Point(
      label,
      place,
      {name: _estimate(row) for name, row in point["methods"].items()},
      min(row["num_finite"] for row in point["methods"].values()),
    )
    for label, place, point in zip(
      labels, kind.places(labels), curve["points"], strict=True
    )
  ]
  return sweep.accuracy_along(
    points, kind.axis, _title(curve), joined=kind.logarithmic
  )


def _title(curve: Mapping[str, Any]) -> str:
  return ", ".join(map(wording.known, curve["title"].split(", ")))


def _estimate(row: Mapping[str, Any]) -> sweep.Estimate:
  found = row["difference"]
  return sweep.Estimate(
    row["mean"], row["ci95"], found and (found["mean"], found["ci95"])
  )


def _hardness(curve: Mapping[str, Any]) -> str:
  spans = [point["hardness"] for point in curve["points"]]
  low, high = min(s["min"] for s in spans), max(s["max"] for s in spans)
  keys = ("slope", "intercept", "area", "num_episodes")
  return hardness_chart.draw(
    [
      hardness_chart.Mark(
        *(name, point["label"], point["hardness"]["mean"]),
        *(row["mean"], row["ci95"]),
      )
      for point in curve["points"]
      for name, row in point["methods"].items()
    ],
    [
      hardness_chart.Line(
        name, low=low, high=high, **{key: line[key] for key in keys}
      )
      if line
      else hardness_chart.Line(name)
      for name, line in curve["lines"].items()
    ],
    heading=_title(curve),
    title=f"Accuracy against hardness: {_title(curve)}",
  )


def points(curves: Sequence[Mapping[str, Any]]) -> str:
  """A row per point: initialisation, and what the others gain over it."""
  if not curves:
    return "No curve was measured yet."
  rows = [
    [
      f"{_title(curve)}: {curve['curve']}" if not number else "",
      point["label"],
      f"{point['name']}, {point['text']}",
      f"{point['num_classes']}",
      *(_accuracy(point["methods"].get(name), name) for name in _METHODS),
      f"{min(m['num_finite'] for m in point['methods'].values()):,}",
    ]
    for curve in curves
    for number, point in enumerate(curve["points"])
  ]
  head = ("data, network: varied", "value", "episodes", "classes")
  return (
    wording.with_notes(
      wording.table(
        [
          *head,
          "initialisation, %",
          "fine-tuning, pp",
          "transductive, pp",
          "n",
        ],
        rows,
      ),
      "Mean ± 1.96 std / √n over n episodes; pp: difference to the "
      "initialisation on the same episodes, percentage points. Classes: those "
      "with enough images. "
      "Fine-tuning and initialisation use no query, transductive fine-tuning "
      "all jointly (entropy and batch statistics).",
      _where(curves),
    )
    + "\n\n"
    + "\n".join(f"    {curve['command']}" for curve in curves)
  )


def lines(curves: Sequence[Mapping[str, Any]]) -> str:
  """Accuracy against hardness: a row per data set and method."""
  found = [curve for curve in curves if curve["curve"] == "hardness"]
  if not found:
    return "Nothing was measured yet."
  rows = [
    [
      _title(curve) if not number else "",
      wording.method({"method": name, "variant": name, "options": {}}),
      f"{line['area']:.0f} ({_between(line, 'area', 1, '.0f')})",
      wording.area_difference(line.get("area_difference")),
      f"{100 * line['slope']:.1f} ({_between(line, 'slope', 100, '.1f')})",
      f"{line['num_episodes']:,}",
    ]
    for curve in found
    for number, (name, line) in enumerate(curve["lines"].items())
    if line is not None and line["area"] is not None
  ]
  judges = wording.listed(
    f"{c['hardness']['extractor']} at {c['hardness']['image_size_px']} px"
    for c in found
  )
  return wording.with_notes(
    wording.table(
      [
        *("data, network", "method", "area, % nats"),
        *("less that of initialisation", "slope, pp/nat", "n"),
      ],
      rows,
    ),
    f"Hardness by {judges}. Least squares through the episodes of all "
    "protocols; in brackets 95 % bootstrap intervals over episodes, of "
    "differences paired.",
  )


def _accuracy(row: Mapping[str, Any] | None, name: str) -> str:
  if row is None:
    return ""
  if name == _METHODS[0]:
    return f"{100 * row['mean']:.2f} ± {100 * row['ci95']:.2f}"
  if row["difference"] is None:
    return ""
  mean, ci95 = (100 * row["difference"][key] for key in ("mean", "ci95"))
  return f"{mean:+z.2f} ± {ci95:.2f}"


def _between(line: Mapping[str, Any], key: str, scale: int, form: str) -> str:
  interval = line.get("interval")
  if not interval or None in interval[key]:
    return "no interval"
  low, high = (scale * value for value in interval[key])
  return f"{low:{form}} to {high:{form}}"


def _where(curves: Sequence[Mapping[str, Any]]) -> str:
  commits = wording.listed(
    wording.commit(commit) for c in curves for commit in c["commits"] if commit
  )
  return f"Commit {commits}; {wording.listed(c['device'] for c in curves)}."
