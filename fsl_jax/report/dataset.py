"""Hardness of a data set: terminal, JSON and page.

Tables of the protocols, of the classes and of the pairs of classes that the
feature extractor confuses; no few-shot method takes part.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import dataset_hardness, results, statistics, types
from fsl_jax.report import (
  figures,
  image_grids,
  page,
  selection,
  svg,
  table,
  tables,
  text,
)

NUM_EXTREMES = 10  # classes at either end, and pairs
_NUM_BINS = 40

NOTES = (
  "Hardness: mean over the queries of an episode of log((1 - p) / p), nats. p "
  "is the uncalibrated softmax of the true class's cosine. Higher is harder.",
  "n: episodes. std: of the population. 5, 50, 95 %: percentiles of episodes.",
  "uniform: mean of log(ways - 1), the hardness of uniform predictions. "
  "Cosines lie in [-1, 1] and p is their softmax, so that hardness stays near "
  "it: small differences count.",
  "correct: queries that the nearest class mean classifies correctly; ± is "
  "1.96 std / sqrt(n) over episodes.",
  "confused: queries of either class that were classified as the other, of all "
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


class ClassRow(NamedTuple):
  """A class that has queries."""

  name: str
  log_odds: float  # nats, mean over its queries
  accuracy: float  # fraction of them, of the nearest class mean
  num_queries: int


class PairRow(NamedTuple):
  """Two classes that are confused."""

  first: str
  second: str
  num_confused: int  # queries of either that were classified as the other
  num_queries: int  # of either, in episodes that hold both
  share: float  # of these


@dataclasses.dataclass(frozen=True, eq=False)
class Protocol:
  """The numbers of one protocol, each computed when it is first used.

  Attributes:
    found: hardness of the episodes, and accuracy of the nearest class mean.
    class_names: of the split, by class id.
  """

  found: dataset_hardness.EpisodeHardness
  class_names: Sequence[str]

  @property
  def result(self) -> types.EvalResult:
    return self.found.result

  @property
  def name(self) -> str:
    return self.result.protocol_name

  @property
  def section(self) -> results.Section:
    """The nearest class mean as a method, for what is made of results."""
    return {self.result.method: self.result}

  @functools.cached_property
  def hardness(self) -> Numbers:
    found = statistics.summary(self.result.hardness)
    low, high = np.percentile(self.result.hardness, [5, 95])
    ways = (self.result.class_ids >= 0).sum(1)
    return Numbers(
      mean=found.mean,
      std=found.std,
      ci95=found.ci95,
      percentile_5=float(low),
      median=found.median,
      percentile_95=float(high),
      uniform=float(np.log(ways - 1).mean()),
    )

  @functools.cached_property
  def accuracy(self) -> statistics.Summary:
    """Accuracy of the nearest class mean."""
    return statistics.summary(self.result.accuracy)

  @functools.cached_property
  def classes(self) -> list[ClassRow]:
    """The classes that have queries, the hardest first."""
    class_ids, *numbers = dataset_hardness.by_class(self.found)
    names = [self.class_names[i] for i in class_ids]
    return list(map(ClassRow, names, *numbers))

  @functools.cached_property
  def pairs(self) -> list[PairRow]:
    """The most confused pairs of classes, most first."""
    return [
      PairRow(
        self.class_names[pair.first],
        self.class_names[pair.second],
        pair.num_confused,
        pair.num_queries,
        pair.num_confused / pair.num_queries,
      )
      for pair in dataset_hardness.confused_pairs(self.found, NUM_EXTREMES)
    ]

  def as_json(self) -> dict[str, Any]:
    """All numbers: fractions, nats, full precision."""
    return {
      **results.protocol_json(self.result),
      "hardness": self.hardness._asdict(),
      "accuracy": self.accuracy._asdict(),
      "classes": [row._asdict() for row in self.classes],
      "pairs": [row._asdict() for row in self.pairs],
      "episodes": {
        "hardness": self.result.hardness,
        "accuracy": self.result.accuracy,
      },
    }


_PROTOCOLS = (
  table.Column(
    "protocol", lambda p: table.Cell(p.name, detail=p.result.protocol_text)
  ),
  table.column("n", "result.num_episodes", table.count, "episodes"),
  *(
    table.column(head, f"hardness.{name}", table.nats, "nats")
    for name, head in {
      "mean": "mean",
      "std": "std",
      "percentile_5": "5 %",
      "median": "50 %",
      "percentile_95": "95 %",
      "uniform": "uniform",
    }.items()
  ),
  table.column("correct", "accuracy", table.estimate, "% ± 95 %", "correct %"),
)
_CLASSES = (
  table.column("class", "name", table.Cell),
  table.column("hardness", "log_odds", table.nats, "nats"),
  table.column("correct", "accuracy", table.percent_1, "%", "correct %"),
  table.column("queries", "num_queries", table.count),
)
_PAIRS = (
  table.Column("classes", lambda p: table.Cell(f"{p.first}, {p.second}")),
  table.column("confused", "num_confused", table.count, "queries"),
  table.column("of", "num_queries", table.count, "queries"),
  table.column("share", "share", table.percent_0, "%", "%"),
)


def terminal(protocols: Sequence[Protocol]) -> str:
  """Plain text: the protocols, then of each the extremes of its classes."""
  blocks = [table.plain(table.make(_PROTOCOLS, protocols))]
  for protocol in protocols:
    found = protocol.classes
    blocks.append(text.heading(protocol.result))
    # Where the ends would overlap, all classes are one list.
    ends = {
      "Classes, hardest": found[:NUM_EXTREMES],
      "Classes, easiest": found[: -NUM_EXTREMES - 1 : -1],
    }
    if len(found) <= 2 * NUM_EXTREMES:
      ends = {"Classes, all, hardest first": found}
    for heading, rows in ends.items():
      blocks.append(f"{heading}\n{table.plain(table.make(_CLASSES, rows))}")
    pairs = table.plain(table.make(_PAIRS, protocol.pairs))
    blocks.append(f"Pairs, most confused\n{pairs}")
  return "\n\n".join([*blocks, "\n".join(map(text.wrap, NOTES))]) + "\n"


def write(
  folder: str | os.PathLike[str],
  protocols: Sequence[Protocol],
  *,
  title: str,
  provenance: Mapping[str, Any] | None = None,
  notes: Sequence[str] = (),
  galleries: Sequence[Sequence[selection.Gallery]] = (),
  subject: str = "",
) -> list[pathlib.Path]:
  """Writes `result.json`, `figures/*.svg` and `hardness.html`.

  Each file is replaced in one step: a kill leaves the old or the new one.

  Args:
    folder: it is made if there is none.
    protocols: the episodes of each.
    title: of the page.
    provenance: JSON values for the foot of the page and for `result.json`.
    notes: paragraphs for the page.
    galleries: for each protocol its extreme episodes as images, or nothing.
    subject: data and feature extractor, with which the first sentence begins.

  Returns:
    The paths of the files, the page last.

  Raises:
    InputError: if there is no protocol.
  """
  if not protocols:
    raise types.InputError("a page of hardness needs a protocol, got none")
  num_classes = len(protocols[0].class_names)
  drawn = [hardness_figure(protocols)]
  for number, (protocol, shown) in enumerate(
    zip(protocols, galleries, strict=bool(galleries)), 1
  ):
    for figure in map(image_grids.gallery_figure, shown):
      name = f"{figure.name}_{number}"
      figure_title = f"{figure.title}, {protocol.name}"
      drawn.append(figure._replace(name=name, title=figure_title))
  return page.save(
    folder,
    {
      "title": title,
      "interval": "half-width, 1.96 std / sqrt(n)",
      "sections": [protocol.as_json() for protocol in protocols],
      "notes": list(notes),
      "provenance": dict(provenance or {}),
    },
    drawn,
    page.render(
      title,
      f"{subject or text.counted(num_classes, 'class', 'classes')}: "
      f"{_outcome(protocols)}; no few-shot method took part.",
      _parts(protocols, notes),
      drawn,
      provenance,
    ),
    names=("result.json", "hardness.html"),
  )


def _outcome(protocols: Sequence[Protocol]) -> str:
  """The easiest and the hardest protocol."""
  means = [(protocol.hardness.mean, protocol.name) for protocol in protocols]
  return "mean hardness " + " to ".join(
    f"{mean:.3f} nats ({name})"
    for mean, name in dict.fromkeys((min(means), max(means)))
  )


def _parts(
  protocols: Sequence[Protocol], notes: Sequence[str]
) -> list[page.Part]:
  overview = page.Block("", table.make(_PROTOCOLS, protocols))
  classes = []
  for number, protocol in enumerate(protocols):
    shown, note = class_table(protocol.classes)
    # Long tables: those after the first wait until they are opened.
    heading = f"{protocol.name}: {note}"
    classes.append(page.Block(heading, shown, is_folded=number > 0))
  pairs = [
    page.Block(text.heading(p.result), table.make(_PAIRS, p.pairs))
    for p in protocols
  ]
  return [
    page.Part("Hardness", [overview], NOTES),
    page.Part("Classes", classes),
    page.Part("Confused classes", pairs),
    page.Part("Notes", [page.Block(paragraphs=notes)] if notes else []),
  ]


def class_table(
  found: Sequence[ClassRow],
) -> tuple[table.Table, str]:
  """A row per class, hardest first, and a sentence on what is shown."""
  shown, note = tables.both_ends(found, "hardest", "easiest")
  return table.make(_CLASSES, shown), f"{note}, hardest first."


def hardness_figure(protocols: Sequence[Protocol]) -> figures.Figure:
  """Histograms of the episodes' hardness, a panel per protocol."""
  hardness = np.concatenate([p.result.hardness for p in protocols])
  bins = np.histogram_bin_edges(hardness, _NUM_BINS)

  def build(figure: Any) -> None:
    panels = figure.subplots(len(protocols), 1, sharex=True, squeeze=False)
    for protocol, panel in zip(protocols, panels[:, 0], strict=True):
      own = protocol.hardness
      panel.set_title(svg.title_lines(protocol.name), pad=6)
      panel.hist(protocol.result.hardness, bins, color=svg.RIGHT)
      panel.axvline(own.mean, color=svg.INK, linewidth=1.4)
      panel.axvline(
        own.uniform, color=svg.WRONG, linewidth=1.6, linestyle=(0, (4, 2))
      )
      panel.set_ylabel("Episodes")
      panel.grid(axis="y")
    panels[-1, 0].set_xlabel("Hardness (nats)")

  count = text.episode_count([p.result.num_episodes for p in protocols])
  return figures.Figure(
    "hardness",
    "Hardness by protocol",
    svg.draw(
      build,
      size=(svg.WIDTH_IN, 1.75 * len(protocols) + 0.4),
      title="Hardness by protocol",
      description=" ".join(
        f"{p.name}: mean {p.hardness.mean:.3f} nats, of uniform predictions "
        f"{p.hardness.uniform:.3f}."
        for p in protocols
      ),
    ),
    f"Histograms of the hardness of {count}, in nats. The black line is the "
    "mean; the dashed line is the mean of log(ways − 1), the hardness of "
    "uniform predictions.",
  )
