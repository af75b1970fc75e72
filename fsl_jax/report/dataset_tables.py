"""Hardness of a data set in tables: protocols, classes, confused pairs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import dataset_hardness, statistics
from fsl_jax.report import rows, table, text, values

NUM_EXTREMES = 10  # classes at either end, and pairs
MAX_CLASSES = 100  # rows of a table; more are not read, the extremes are

NOTES = (
  "Hardness: mean over the queries of an episode of log((1 - p) / p), nats. p "
  "is the uncalibrated softmax of the true class's cosine. Higher is harder.",
  "n: episodes. sd: of the population. 5, 50, 95 %: percentiles of episodes.",
  "uniform: mean of log(ways - 1), the hardness where all classes look alike. "
  "Cosines lie in [-1, 1] and p is their softmax, so that hardness stays near "
  "it: small differences count.",
  "right: queries that the judge's own nearest class mean gets right; ± is "
  "1.96 std / sqrt(n) over episodes.",
  "confused: queries of either class that were taken for the other, of all "
  "queries of the two in episodes that hold both.",
)


class Numbers(NamedTuple):
  """Hardness of the n episodes of a protocol, nats."""

  mean: float
  std: float  # of the population; NaN for a single episode
  ci95: float  # half-width of the mean; NaN as `std`
  percentile_5: float
  median: float
  percentile_95: float
  uniform: float  # mean of log(ways - 1)


def numbers(judged: dataset_hardness.Judged) -> Numbers:
  """What a row of `protocols` is made of."""
  result = judged.result
  summary = statistics.summary(result.hardness)
  low, high = np.percentile(result.hardness, [5, 95])
  ways = (result.class_ids >= 0).sum(1)
  return Numbers(
    mean=summary.mean,
    std=summary.std,
    ci95=summary.ci95,
    percentile_5=float(low),
    median=summary.median,
    percentile_95=float(high),
    uniform=float(np.log(ways - 1).mean()),
  )


def section(judged: dataset_hardness.Judged) -> rows.Section:
  """The judge's own answers, for what is made of results."""
  return {judged.result.method: judged.result}


def protocols(sections: Sequence[dataset_hardness.Judged]) -> table.Table:
  """A row per protocol."""
  columns = [
    table.Column("protocol"),
    table.Column("n", unit="episodes"),
    *(
      table.Column(name, unit="nats")
      for name in ("mean", "sd", "5 %", "50 %", "95 %", "uniform")
    ),
    table.Column("right %", "right", "% ± 95 %"),
  ]
  return table.Table(columns, [_protocol(judged) for judged in sections])


def _protocol(judged: dataset_hardness.Judged) -> list[table.Cell]:
  found, result = numbers(judged), judged.result
  accuracy = statistics.summary(result.accuracy)
  return [
    table.Cell(result.protocol_name, detail=result.protocol_text),
    table.Cell(f"{result.num_episodes:,}", result.num_episodes),
    *(
      _nats(value)
      for value in (
        *(found.mean, found.std, found.percentile_5, found.median),
        *(found.percentile_95, found.uniform),
      )
    ),
    table.Cell(text.plus_minus(accuracy.mean, accuracy.ci95), accuracy.mean),
  ]


def classes(
  judged: dataset_hardness.Judged, class_names: Sequence[str]
) -> tuple[table.Table, str]:
  """A row per class, hardest first, and a sentence on what is in it."""
  found = _classes(judged, class_names)
  count = text.counted(len(found), "class", "classes")
  note = f"{count}, hardest first."
  if len(found) > MAX_CLASSES:
    half = MAX_CLASSES // 2
    note = f"The {half} hardest and the {half} easiest of {note}"
    found = [*found[:half], *found[-half:]]
  return _class_table(found), note


def pairs(
  judged: dataset_hardness.Judged, class_names: Sequence[str]
) -> table.Table:
  """A row per pair, the most confused first."""
  columns = [
    table.Column("classes"),
    table.Column("confused", unit="queries"),
    table.Column("of", "of", "queries"),
    table.Column("%", "share", "%"),
  ]
  return table.Table(
    columns,
    [
      [
        table.Cell(f"{pair['first']}, {pair['second']}"),
        table.Cell(f"{pair['num_confused']:,}", pair["num_confused"]),
        table.Cell(f"{pair['num_queries']:,}", pair["num_queries"]),
        table.Cell(text.percent(pair["share"], 0), pair["share"]),
      ]
      for pair in _pairs(judged, class_names)
    ],
  )


def terminal(
  sections: Sequence[dataset_hardness.Judged], class_names: Sequence[str]
) -> str:
  """Plain text: the protocols, then of each the extremes of its classes."""
  blocks = ["\n".join(table.lines(protocols(sections)))]
  for judged in sections:
    found = _classes(judged, class_names)
    blocks.append(text.heading(section(judged)))
    # Where the ends would overlap, all classes are one list.
    ends = [
      ("hardest", found[:NUM_EXTREMES]),
      ("easiest", found[: -NUM_EXTREMES - 1 : -1]),
    ]
    if len(found) <= 2 * NUM_EXTREMES:
      ends = [("all, hardest first", found)]
    for kind, end in ends:
      blocks.append(_block(f"Classes, {kind}", _class_table(end)))
    blocks.append(_block("Pairs, most confused", pairs(judged, class_names)))
  notes = [text.wrap(note) for note in NOTES]
  return "\n\n".join([*blocks, "\n".join(notes)]) + "\n"


def json_values(
  sections: Sequence[dataset_hardness.Judged], class_names: Sequence[str]
) -> dict[str, Any]:
  """All numbers as JSON values: fractions, nats, full precision."""
  return values.plain(
    {
      "interval": "half-width, 1.96 std / sqrt(n)",
      "sections": [
        {
          "protocol": judged.result.protocol,
          "protocol_name": judged.result.protocol_name,
          "protocol_text": judged.result.protocol_text,
          "num_episodes": judged.result.num_episodes,
          "hardness": numbers(judged)._asdict(),
          "accuracy": statistics.summary(judged.result.accuracy)._asdict(),
          "classes": _classes(judged, class_names),
          "pairs": _pairs(judged, class_names),
          "episodes": {
            "hardness": judged.result.hardness,
            "accuracy": judged.result.accuracy,
          },
        }
        for judged in sections
      ],
    }
  )


def _classes(
  judged: dataset_hardness.Judged, class_names: Sequence[str]
) -> list[dict[str, Any]]:
  return [
    {
      "name": class_names[class_id],
      "log_odds": log_odds,
      "accuracy": accuracy,
      "num_queries": count,
    }
    for class_id, log_odds, accuracy, count in zip(
      *dataset_hardness.by_class(judged), strict=True
    )
  ]


def _pairs(
  judged: dataset_hardness.Judged, class_names: Sequence[str]
) -> list[dict[str, Any]]:
  return [
    {
      "first": class_names[pair.first],
      "second": class_names[pair.second],
      "num_confused": pair.num_confused,
      "num_queries": pair.num_queries,
      "share": pair.num_confused / pair.num_queries,
    }
    for pair in dataset_hardness.confused_pairs(judged, NUM_EXTREMES)
  ]


def _class_table(found: Sequence[dict[str, Any]]) -> table.Table:
  columns = [
    table.Column("class"),
    table.Column("hardness", unit="nats"),
    table.Column("right %", "right", "%"),
    table.Column("queries"),
  ]
  return table.Table(
    columns,
    [
      [
        table.Cell(row["name"]),
        _nats(row["log_odds"]),
        table.Cell(text.percent(row["accuracy"], 1), row["accuracy"]),
        table.Cell(f"{row['num_queries']:,}", row["num_queries"]),
      ]
      for row in found
    ],
  )


def _block(title: str, shown: table.Table) -> str:
  return "\n".join([title, *table.lines(shown)])


def _nats(value: float) -> table.Cell:
  return table.Cell(f"{value:.3f}" if np.isfinite(value) else "n/a", value)
