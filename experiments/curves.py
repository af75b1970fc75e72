r"""Accuracy by number of ways, shots or queries, by imbalance or hardness.

  python experiments/curves.py --curve=ways --checkpoint=runs/cifar_conv64 \
      --num_episodes=300 --run_dir=runs/curves

One curve per command; several may share a run folder, in which an episode that
two curves have in common is computed once. Its folder CURVE holds `curve.json`,
`result.json`, the figures and `report.html`. --curve=hardness is accuracy
against hardness over 5, 10 and 20 ways and 1 and 5 shots, with fitted lines.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import command_line
import curve_kinds
import numpy as np
import scoring
import shared_flags
from absl import flags

from fsl_jax import adapt, episodes, report, results, types
from fsl_jax.episodes import protocols, source

_HARDNESS_SHOTS = ("1", "5")
_KEPT = ("query_use", "mean", "std", "ci95", "num_finite", "difference")

_CURVE = flags.DEFINE_enum(
  "curve", None, list(curve_kinds.CURVES), "What is varied."
)
_VALUES = flags.DEFINE_list(
  "values", None, "Its values; the default is by the curve."
)
_SUBJECT = shared_flags.define_subject()
_RUN_DIR = shared_flags.run_dir()
_METHODS = flags.DEFINE_list(
  "methods",
  ["support_init", "finetune", "transductive_finetune"],
  f"Methods, of {', '.join(adapt.names())}.",
)
_WAYS = flags.DEFINE_integer("ways", 5, "Ways, where they are not varied.")
_SHOTS = flags.DEFINE_integer("shots", 1, "Shots, where they are not varied.")
_QUERIES = flags.DEFINE_integer(
  "queries", 15, "Queries per class, where they are not varied."
)
_SMALL_CLASSES = flags.DEFINE_enum(
  "small_classes",
  "refuse",
  ["refuse", "skip"],
  "What happens to classes with too few images for an episode.",
)
_NUM_EPISODES = flags.DEFINE_integer("num_episodes", 300, "Of each point.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the episodes and the adaptation.")
_EXTRACTOR = shared_flags.define_extractor("own")


def main(argv: list[str]) -> None:
  del argv
  name = command_line.required(_CURVE)
  curve = curve_kinds.CURVES[name]
  labels = tuple(_VALUES.value or curve.values)
  if len(set(labels)) < len(labels):
    raise types.InputError(f"--values must differ, got {','.join(labels)}")
  for flag in curve.varied:
    if flags.FLAGS[flag].present:
      raise types.InputError(
        f"--{flag} has no effect on --curve={name}, which varies it; --values "
        "lists its values"
      )
  places = curve.places(labels)
  made = [
    protocols.make(**values)
    for label in labels
    for values in _protocols(name, curve, label)
  ]
  run_dir = command_line.required(_RUN_DIR)
  variables, meta = _SUBJECT.restore()
  dataset = _SUBJECT.load(meta)
  scored = scoring.evaluated(
    scoring.Plan(
      run_dir=run_dir,
      title=curve.title,
      methods={method: {} for method in _METHODS.value},
      sources=[
        source.Drawn(dataset, protocol, _SEED.value) for protocol in made
      ],
      num_episodes=[_NUM_EPISODES.value] * len(made),
      **_EXTRACTOR.of_plan(),
      seed=_SEED.value,
      data_dir=_SUBJECT.data.data_dir.value,
    ),
    variables,
    meta,
  )
  title = f"{scored.dataset.name}, {meta['backbone']['name']}"
  summary = results.summarise(scored.sections, scored.dataset.class_names)
  page = _write(name, curve, labels, places, title, scored, summary)
  values = _values(name, labels, title, scored, summary.as_json())
  scored.folder.write_json(f"{name}/curve.json", values)
  print(report.terminal(summary))
  print(f"\ncurve: {page}")


def _protocols(
  name: str, curve: curve_kinds.Curve, label: str
) -> list[dict[str, Any]]:
  """Arguments of the protocols for one value of what is varied."""
  usual: dict[str, Any] = {
    "ways": _WAYS.value,
    "shots": _SHOTS.value,
    "queries": _QUERIES.value,
    "small_classes": _SMALL_CLASSES.value,
  }
  if name == "hardness":
    return [
      usual | {"ways": label, "shots": shots} for shots in _HARDNESS_SHOTS
    ]
  if name == "dirichlet":
    total = _WAYS.value * _QUERIES.value
    if label == "balanced" and _SMALL_CLASSES.value == "refuse":
      return [usual]
    # Which classes are too small depends on the rule, and all points need the
    # same classes: nearly balanced, by the same rule.
    concentration = "1e9" if label == "balanced" else label
    return [usual | {"queries": f"dirichlet:{total}:{concentration}"}]
  return [usual | {curve.name: label}]


def _write(
  name: str,
  curve: curve_kinds.Curve,
  labels: Sequence[str],
  places: Sequence[float],
  title: str,
  scored: scoring.Scored,
  summary: results.Summary,
) -> pathlib.Path:
  """Table, figures and page of a curve in a folder of its own."""
  figures = []
  # Hardness is not a number of the protocol; every report draws it.
  if name != "hardness":
    points = [
      report.sweep.point(*values)
      for values in zip(labels, places, summary.sections, strict=True)
    ]
    figures.append(
      report.Figure(
        name,
        curve.title,
        report.sweep.accuracy_along(
          points, curve.axis, title, joined=curve.logarithmic
        ),
        report.sweep.caption(points, curve.axis),
      )
    )
  *_, page = report.write(
    scored.folder.path / name,
    summary,
    title=f"{curve.title}: {title}",
    provenance=scored.provenance,
    notes=scored.notes,
    subject=scored.subject,
    more_figures=figures,
  )
  return page


def _values(
  name: str,
  labels: Sequence[str],
  title: str,
  scored: scoring.Scored,
  summary: dict[str, Any],
) -> dict[str, Any]:
  """The curve as JSON values, fractions, for tables and other plots."""
  provenance = scored.provenance
  config, starts = provenance["config"], provenance["starts"]
  last = starts[-1]
  cores = f"{last['num_cpus']} {last['machine']} cores"
  command = _command(name, labels)
  if name == "hardness":
    labels = [section["protocol_name"] for section in summary["sections"]]
  return {
    "curve": name,
    "title": title,
    "command": command,
    "commits": list(dict.fromkeys(start["commit"] for start in starts)),
    "versions": last["versions"],
    "device": cores if last["platform"] == "cpu" else last["device"],
    "seed": _SEED.value,
    "checkpoint": config["checkpoint"],
    "data": config["data"],
    "hardness": config["hardness"],
    "points": [
      {
        "label": label,
        "name": section["protocol_name"],
        "text": section["protocol_text"],
        "num_classes": _num_classes(source),
        "hardness": _hardness(scored_section),
        "methods": {
          method: {key: row[key] for key in _KEPT}
          for method, row in section["methods"].items()
        },
      }
      for label, section, source, scored_section in zip(
        labels,
        summary["sections"],
        scored.sources,
        scored.sections,
        strict=True,
      )
    ],
    "lines": summary["hardness_lines"],
  }


def _hardness(section: results.Section) -> dict[str, float] | None:
  """Nats; None where it was not computed."""
  values = results.first(section).hardness
  values = values[np.isfinite(values)]
  if not len(values):
    return None
  return {
    name: float(getattr(values, name)()) for name in ("mean", "min", "max")
  }


def _num_classes(source: episodes.source.Source) -> int:
  """Classes that have enough images for an episode."""
  assert isinstance(source, episodes.source.Drawn)
  return len(episodes.sampler.eligible_classes(source.dataset, source.protocol))


def _command(name: str, labels: Sequence[str]) -> str:
  """The command of the curve, without the places of files."""
  parts = [f"--curve={name}"]
  if name != "hardness":
    parts.append(f"--values={','.join(labels)}")
  for flag in (
    *(_SUBJECT.data.dataset, _SUBJECT.data.split),
    *(_SUBJECT.cross_domain, _SUBJECT.seen_classes),
    *(_WAYS, _SHOTS, _QUERIES, _SMALL_CLASSES, _METHODS),
    *(_NUM_EPISODES, _SEED, _EXTRACTOR.name, _EXTRACTOR.size_px),
  ):
    if flag.value != flag.default:
      value = flag.value
      if isinstance(value, list):
        value = ",".join(value)
      parts.append(f"--{flag.name}={value}")
  return " ".join(["python experiments/curves.py", *parts])


if __name__ == "__main__":
  command_line.run(main)
