"""Pre-training and evaluation of a cell; both continue what was interrupted.

Folders of a run, below its root:

  pretrain/NETWORK/                       a run folder of pre-training
  episodes/NETWORK/SPLIT/METHOD[,OPTION]/ a run folder of episodes

Cells share them: the episodes of Table 1 are also points of Figure 3.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import scoring
import stored_runs

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
from reproduction import cells

TIMES = "times.jsonl"
EXTRACTOR = "efficientnet_lite0"
HARDNESS = f"logits of {EXTRACTOR}, trained on ImageNet"


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a run is kept, and how much of the programme it does."""

  root: pathlib.Path
  budget: cells.Budget
  data_dir: str | None = None

  @property
  def _root(self) -> pathlib.Path:
    return self.root if self.budget.is_full else self.root / self.budget.name

  def pretrain(self, network: cells.Network) -> pathlib.Path:
    return self._root / "pretrain" / network.name

  def episodes(self, job: cells.Job, split: str) -> pathlib.Path:
    folder = self._root / "episodes" / job.network.name
    return folder / split / job.variant.folder

  def load(self, dataset: str, split: str) -> types.ClassIndexed:
    """A split at the size of images that is usual for the data set."""
    return data.load(
      dataset,
      split,
      data_dir=self.data_dir,
      image_size_px=data.usual_size_px(dataset),
    )

  def base(self, network: cells.Network) -> types.ClassIndexed:
    """The images that a network is trained on."""
    base = self.load(network.dataset, cells.SPLITS[network.split])
    most = self.budget.images_per_class
    return base if most is None else first_of_each_class(base, most)


class Trained(NamedTuple):
  """A network, ready to adapt."""

  backbone: types.Backbone
  variables: types.Variables
  meta: dict[str, Any]
  path: pathlib.Path  # run folder


class Measured(NamedTuple):
  """The result of a job."""

  job: cells.Job
  result: types.EvalResult
  folder: pathlib.Path


def run(
  cell: cells.Cell, place: Place
) -> tuple[dict[cells.Network, Trained], list[Measured]]:
  """Does all of a cell that is not done yet; checks all of it first.

  Raises:
    InputError: for data or weights that are missing or too few, and if another
      process works on the same folder.
  """
  _check(cell, place)
  trained = {network: _pretrained(network, place) for network in cell.networks}
  # Jobs that share a folder, and programs of equal shapes.
  groups = collections.defaultdict(list)
  for job in cell.jobs:
    groups[job.network, job.variant.folder].append(job)
  measured = [
    result
    for jobs in groups.values()
    for result in _evaluated(
      trained[jobs[0].network], jobs, cell.evaluated_on, place
    )
  ]
  # In the cell's own order, which groups what is to be compared.
  return trained, sorted(measured, key=lambda m: cell.jobs.index(m.job))


def _check(cell: cells.Cell, place: Place) -> None:
  """Raises InputError for anything that a cell would stop at later."""
  if cell.jobs:
    _extractor()
  for network in cell.networks:
    place.base(network)
    dataset = place.load(network.dataset, cell.evaluated_on)
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


@functools.cache
def _extractor() -> extractors.Extractor:
  return extractors.load(EXTRACTOR)


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
  base = place.base(network)
  backbone = backbones.create(
    network.backbone,
    num_classes=base.num_classes,
    image_size_px=base.image_size_px,
    dtype=None if network.dtype == "float32" else network.dtype,
  )
  recipe, path = place.budget.recipe(network), place.pretrain(network)
  result = pretrain.finished(backbone, base, recipe, run_dir=path)
  if result is None:
    print(f"{network.name}: pre-training", file=sys.stderr)
    result = pretrain.run(backbone, base, recipe, run_dir=path)
  return Trained(backbone, result.variables, result.meta, path)


def _evaluated(
  trained: Trained, jobs: list[cells.Job], split: str, place: Place
) -> Iterator[Measured]:
  """One variant of one network on the episodes of all its protocols."""
  network, variant = jobs[0].network, jobs[0].variant
  print(f"{network.name}, {split}: {variant.folder}", file=sys.stderr)
  dataset = place.load(network.dataset, split)
  evaluate.check_checkpoint(trained.meta, dataset)
  options = place.budget.options(variant)
  adapter = adapt.create(variant.method, trained.backbone, **options)
  folder = run_folder.RunFolder(
    place.episodes(jobs[0], split),
    stored_runs.configuration(
      trained.meta,
      dataset,
      {variant.method: options},
      seed=cells.SEED,
      hardness=EXTRACTOR,
      extractor=_extractor(),
    ),
  )
  folder.read(TIMES)  # A line that a kill cut short is dropped.
  of_hardness = scoring.hardness_arguments(_extractor(), dataset)
  for job in jobs:
    with _timed(folder, job):
      result = evaluate.run(
        adapter,
        trained.variables,
        dataset,
        **job.protocol._asdict(),
        seed=cells.SEED,
        num_episodes=job.num_episodes,
        **of_hardness,
        folder=folder,
      )
    yield Measured(job, result, folder.path)
  folder.release()


@contextlib.contextmanager
def _timed(folder: run_folder.RunFolder, job: cells.Job) -> Iterator[None]:
  """Records the time of the episodes that were missing, and the device.

  An interrupted start is recorded too, a killed one is not.
  """
  before = num_stored(folder.path, job)
  start = time.monotonic()
  try:
    yield
  finally:
    seconds = time.monotonic() - start
    new = num_stored(folder.path, job) - before
    if new > 0:
      record = {
        "protocol": job.protocol._asdict(),
        "episodes": new,
        "seconds": seconds,
        "start": run_folder.provenance(),
      }
      folder.append(TIMES, [record])


def num_stored(folder: pathlib.Path, job: cells.Job) -> int:
  """Episodes of a job's protocol that are on disk, while others may write.

  Raises:
    InputError: if a line is damaged, or no episode.
  """
  path = folder / episode_records.FILE
  try:
    status = path.stat()
  except FileNotFoundError:
    return 0
  counts = _counts(path, status.st_size, status.st_mtime_ns)
  return counts.get(_protocol_key(job.protocol._asdict()), 0)


@functools.lru_cache(maxsize=1000)
def _counts(path: pathlib.Path, size: int, time_ns: int) -> Mapping[str, int]:
  """Episodes by protocol; cached while the file has not changed, because many
  jobs ask for the same one."""
  del size, time_ns
  try:
    lines = run_folder.Files(path.parent).read(path.name)
    return collections.Counter(
      _protocol_key(line["protocol"]) for line in lines
    )
  except (KeyError, TypeError) as error:
    raise types.InputError(
      f"{path} holds lines that are not episodes ({error!r})"
    ) from error


def _protocol_key(protocol: Mapping[str, Any]) -> str:
  return json.dumps(protocol, sort_keys=True)


def seconds_per_episode(measured: Measured) -> float | None:
  """Over the starts that were not killed, compilation included."""
  protocol = measured.job.protocol._asdict()
  times = [
    line
    for line in run_folder.Files(measured.folder).read(TIMES)
    if line["protocol"] == protocol
  ]
  if not times:
    return None
  return sum(t["seconds"] for t in times) / sum(t["episodes"] for t in times)


def pretrain_seconds(trained: Trained) -> float:
  """Of the training steps, without the validation of weights."""
  batch_size = trained.meta["pretrain"]["batch_size"]
  num_images = trained.meta["data"]["num_images"] // batch_size * batch_size
  epochs = run_folder.Files(trained.path).read(pretrain.LOG)
  return sum(num_images / epoch["images_per_s"] for epoch in epochs)
