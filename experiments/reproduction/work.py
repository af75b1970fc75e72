"""Pre-training and evaluation of a cell, each where it was left.

Folders of a run, below its root:

  pretrain/NETWORK/                       a run folder of pre-training
  episodes/NETWORK/SPLIT/METHOD[,OPTION]/ a run folder of episodes

Cells share them: the episodes of Table 1 are also points of Figure 3.
"""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scoring

from fsl_jax import (
  adapt,
  backbones,
  data,
  episode_records,
  episodes,
  evaluate,
  extractors,
  pretrain,
  run_folder,
  types,
)
from reproduction import budgets, cells, journal

TIMES = "times.jsonl"
JUDGE = "efficientnet_lite0"
HARDNESS = f"logits of {JUDGE}, trained on ImageNet"


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a run is kept, and how much of the programme it does."""

  root: pathlib.Path
  budget: budgets.Budget
  data_dir: str | None = None

  @property
  def _root(self) -> pathlib.Path:
    return self.root if self.budget.is_full else self.root / self.budget.name

  def pretrain(self, network: cells.Network) -> pathlib.Path:
    return self._root / "pretrain" / network.name

  def episodes(
    self, network: cells.Network, split: str, variant: cells.Variant
  ) -> pathlib.Path:
    return self._root / "episodes" / network.name / split / variant.folder


class Trained(NamedTuple):
  """A network, ready to adapt."""

  backbone: types.Backbone
  variables: types.Variables
  meta: dict[str, Any]
  path: pathlib.Path  # run folder


class Measured(NamedTuple):
  """What a job gave."""

  job: cells.Job
  result: types.EvalResult
  folder: pathlib.Path


def check(cell: cells.Cell, place: Place) -> None:
  """Raises InputError for all that a cell would stop at later."""
  if cell.jobs:
    _judge()
  for network in cell.networks:
    _base(network, place)
    dataset = _load(network.dataset, cell.evaluated_on, place)
    for job in cell.jobs:
      evaluate.check(
        episodes.source.Drawn(
          dataset, episodes.Protocol(*job.protocol), cells.SEED
        ),
        seed=cells.SEED,
        num_episodes=job.num_episodes,
        batch_size=None,
        chunk=None,
      )


def run(
  cell: cells.Cell, place: Place
) -> tuple[dict[cells.Network, Trained], list[Measured]]:
  """Does all of a cell that is not done yet.

  Raises:
    InputError: see `check`, and if another process works on the same folder.
  """
  check(cell, place)
  trained = {network: _pretrained(network, place) for network in cell.networks}
  measured = []
  for jobs in _by_method(cell.jobs):
    network = jobs[0].network
    measured += _evaluated(trained[network], jobs, cell.evaluated_on, place)
  # In the cell's own order, which groups what is to be compared.
  return trained, sorted(measured, key=lambda m: cell.jobs.index(m.job))


def _by_method(jobs: Iterable[cells.Job]) -> Iterable[list[cells.Job]]:
  """Jobs that share a folder, and programs of equal shapes."""
  groups: dict[tuple[cells.Network, str], list[cells.Job]] = {}
  for job in jobs:
    groups.setdefault((job.network, job.variant.folder), []).append(job)
  return groups.values()


def identity(
  network: cells.Network, place: Place
) -> tuple[types.Backbone, types.ClassIndexed, pretrain.PretrainConfig]:
  """What pre-training is of: network, base classes, recipe."""
  base = _base(network, place)
  backbone = backbones.create(
    network.backbone,
    num_classes=base.num_classes,
    image_size_px=base.image_size_px,
    dtype=None if network.dtype == "float32" else network.dtype,
  )
  recipe = place.budget.recipe(network)
  return backbone, base, recipe


def _base(network: cells.Network, place: Place) -> types.ClassIndexed:
  base = _load(network.dataset, cells.SPLITS[network.split], place)
  most = place.budget.images_per_class
  return base if most is None else first_of_each_class(base, most)


@functools.cache
def _judge() -> extractors.Extractor:
  return extractors.load(JUDGE)


def _load(dataset: str, split: str, place: Place) -> types.ClassIndexed:
  return data.load(
    dataset,
    split,
    data_dir=place.data_dir,
    image_size_px=data.usual_size_px(dataset),
  )


def first_of_each_class(
  dataset: types.ClassIndexed, most: int
) -> types.ClassIndexed:
  starts = dataset.class_offsets()
  position = np.arange(len(dataset.class_ids)) - starts[dataset.class_ids]
  rows = np.flatnonzero(position < most)
  return dataclasses.replace(
    dataset,
    images=dataset.images[rows],
    class_ids=dataset.class_ids[rows],
    image_ids=[dataset.image_ids[int(row)] for row in rows],
  )


def _pretrained(network: cells.Network, place: Place) -> Trained:
  backbone, base, recipe = identity(network, place)
  path = place.pretrain(network)
  result = pretrain.finished(backbone, base, recipe, run_dir=path)
  if result is None:
    print(f"{network.name}: pre-training", file=sys.stderr)
    result = pretrain.run(backbone, base, recipe, run_dir=path)
  return Trained(backbone, result.variables, result.meta, path)


def _evaluated(
  trained: Trained, jobs: list[cells.Job], split: str, place: Place
) -> list[Measured]:
  """One variant of one network on the episodes of all its protocols."""
  network, variant = jobs[0].network, jobs[0].variant
  print(f"{network.name}, {split}: {variant.folder}", file=sys.stderr)
  dataset = _load(network.dataset, split, place)
  evaluate.check_checkpoint(trained.meta, dataset)
  options = cells.options(variant, place.budget.steps)
  adapter = adapt.create(variant.method, trained.backbone, **options)
  folder = run_folder.RunFolder(
    place.episodes(network, split, variant),
    {
      "seed": cells.SEED,
      "data": {
        "name": dataset.name,
        "split": dataset.split,
        "image_size_px": dataset.image_size_px,
        "fingerprint": dataset.fingerprint,
      },
      "backbone": trained.meta["backbone"],
      "checkpoint": {
        "digest": trained.meta["digest"],
        "epoch": trained.meta["epoch"],
      },
      "pretrain": trained.meta["pretrain"],
      "methods": {variant.method: adapt.config(variant.method, **options)},
      "hardness": HARDNESS,
    },
  )
  folder.read(TIMES)  # A line that a kill cut short is dropped.
  judging = scoring.judging(_judge(), dataset)
  measured = []
  for job in jobs:
    with _timed(folder, job):
      result = evaluate.run(
        adapter,
        trained.variables,
        dataset,
        **job.protocol._asdict(),
        seed=cells.SEED,
        num_episodes=job.num_episodes,
        **judging,
        folder=folder,
      )
    measured.append(Measured(job, result, folder.path))
  folder.release()
  return measured


@contextlib.contextmanager
def _timed(folder: run_folder.RunFolder, job: cells.Job) -> Iterator[None]:
  """Notes how long the episodes took that were missing, and where they ran.

  An interrupted start is noted too, a killed one is not.
  """
  before = num_stored(folder.path, job)
  start = time.monotonic()
  try:
    yield
  finally:
    seconds = time.monotonic() - start
    new = num_stored(folder.path, job) - before
    if new > 0:
      made = run_folder.provenance()
      record = {
        "protocol": job.protocol._asdict(),
        "episodes": new,
        "seconds": seconds,
        "start": made,
      }
      folder.append(TIMES, [record])


def num_stored(folder: pathlib.Path, job: cells.Job) -> int:
  """Episodes of a job's protocol that are on disk."""
  key = journal.key(job.protocol._asdict())
  return journal.counts(folder / episode_records.FILE).get(key, 0)


def seconds_per_episode(folder: pathlib.Path, job: cells.Job) -> float | None:
  """Over the starts that were not killed, compiling included."""
  protocol = job.protocol._asdict()
  times = [
    line
    for line in run_folder.Files(folder).read(TIMES)
    if line["protocol"] == protocol
  ]
  if not times:
    return None
  return sum(t["seconds"] for t in times) / sum(t["episodes"] for t in times)


def pretrain_seconds(trained: Trained) -> float:
  """Of the steps alone, not of looking for the best weights."""
  batch_size = trained.meta["pretrain"]["batch_size"]
  num_images = trained.meta["data"]["num_images"] // batch_size * batch_size
  epochs = run_folder.Files(trained.path).read(pretrain.LOG)
  return sum(num_images / epoch["images_per_s"] for epoch in epochs)
