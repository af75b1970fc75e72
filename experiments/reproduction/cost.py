"""Floating-point operations of a cell, the hours they take here, and seconds
per episode as in the paper's comparison of compute."""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
from benchmarks import adaptation, measure

from fsl_jax import adapt, backbones
from fsl_jax.backbones import cost as network_cost
from reproduction import cells, published, work

# Fraction of the peak matmul throughput that adaptation reaches, by bench.py on
# a CPU (experiments/README.md). The wide networks and accelerators were not
# measured; their values are guesses.
_SHARE = {"conv64": 0.45, "resnet12": 0.65}
_SHARE_ELSEWHERE = 0.6
_SHARE_OF_ACCELERATOR = 0.3


class Size(NamedTuple):
  """Of the data that a network is trained on."""

  num_classes: int
  num_images: int
  image_size_px: int


# Section 4 and appendix A, so that costs are known before data is prepared.
_SIZES = {
  ("mini_imagenet", "train"): Size(64, 38_400, 84),
  ("mini_imagenet", "train+val"): Size(80, 48_000, 84),
  ("tiered_imagenet", "train"): Size(351, 448_695, 84),
  ("tiered_imagenet", "train+val"): Size(448, 572_956, 84),
  ("cifar_fs", "train"): Size(64, 38_400, 32),
  ("cifar_fs", "train+val"): Size(80, 48_000, 32),
  ("fc100", "train"): Size(60, 36_000, 32),
  ("fc100", "train+val"): Size(80, 48_000, 32),
  # All of its images: how many the 7,491 classes have is not stated.
  ("imagenet21k", "train"): Size(7_491, 14_200_000, 84),
}


# FLOP of one image up to the logits, and of each logit, by network and image
# size; `backbones.cost.forward_flop` would trace each network for seconds.
_FORWARD = {
  ("conv64", 32): (28_311_552, 512),
  ("conv64", 84): (194_328_576, 3200),
  ("resnet12", 32): (733_741_056, 1024),
  ("resnet12", 84): (4_932_333_568, 1024),
  ("wrn_16_4", 32): (785_219_584, 512),
  ("wrn_16_4", 84): (5_410_653_696, 512),
  ("wrn_28_10", 32): (10_486_644_736, 1280),
  ("wrn_28_10", 84): (72_259_536_384, 1280),
}

Counted = collections.Counter[Any]
"""How much of what cells share was counted, by what it is."""


def of_cell(
  cell: cells.Cell, place: work.Place, counted: Counted | None = None
) -> dict[str, float]:
  """FLOP of all that a cell does; convolutions and matrix products alone.

  Args:
    cell: what is computed.
    place: its budget, and the folder of data of unknown size.
    counted: the work of the cells before this one; what they share with it
      costs nothing here. The work of this one is added to it.

  Returns:
    "pretrain": the steps, of all networks of the cell; "judge": selecting the
    best weights; and each variant on all of its episodes.
  """
  counted = Counted() if counted is None else counted

  def new(what: Any, amount: int) -> int:
    key = (place.budget.name, *what)
    before, counted[key] = counted[key], max(counted[key], amount)
    return max(0, amount - before)

  flop: dict[str, float] = {}
  for network in cell.networks:
    if new((network,), 1):
      steps, judged = _pretraining(network, place)
      flop["pretrain"] = flop.get("pretrain", 0.0) + steps
      flop["judge"] = flop.get("judge", 0.0) + judged
  for job in cell.jobs:
    name, evaluated_on = job.variant.name, cell.evaluated_on
    what = (job.network, evaluated_on, job.variant.folder, job.protocol)
    more = dataclasses.replace(job, num_episodes=new(what, job.num_episodes))
    flop[name] = flop.get(name, 0.0) + of_job(more, place)
  return flop


def of_job(job: cells.Job, place: work.Place) -> float:
  """FLOP of a job: three passes per image and update, one to predict.

  The extractor of hardness is left out: it computes each image once for all
  jobs.
  """
  protocol = job.protocol
  support = protocol.ways * protocol.shots
  query = protocol.ways * protocol.queries
  options = place.budget.options(job.variant)
  config = adapt.config(job.variant.method, **options)
  trained = support + query * job.variant.is_transductive
  passes = 1 if config.get("trainable") == "head" else 3
  images = passes * config["steps"] * trained + support + query
  return float(_forward(job.network, place)) * images * job.num_episodes


def hours(cell: cells.Cell, flop: dict[str, float]) -> float:
  """An estimate for this device; 0 where nothing is counted."""
  share = _SHARE.get(cell.network.backbone, _SHARE_ELSEWHERE)
  if jax.default_backend() != "cpu":
    share = _SHARE_OF_ACCELERATOR
  rate = share * _product_rate(cell.network.dtype) * jax.device_count()
  return sum(flop.values()) / rate / 3600


def _pretraining(
  network: cells.Network, place: work.Place
) -> tuple[float, float]:
  num_classes, num_images, _ = size(network, place)
  recipe = place.budget.recipe(network)
  if place.budget.images_per_class is not None:
    num_images = min(num_images, num_classes * place.budget.images_per_class)
  learnt = num_images // recipe.batch_size * recipe.batch_size
  judged = recipe.num_epochs // recipe.validate_every_epochs * num_images
  forward = float(_forward(network, place))
  return forward * 3 * recipe.num_epochs * learnt, forward * judged


def _forward(network: cells.Network, place: work.Place) -> int:
  learnt = size(network, place)
  return _forward_of(network.backbone, learnt.num_classes, learnt.image_size_px)


@functools.cache
def _forward_of(name: str, num_classes: int, image_size_px: int) -> int:
  if (name, image_size_px) in _FORWARD:
    below, of_logit = _FORWARD[name, image_size_px]
    return below + of_logit * num_classes
  return network_cost.forward_flop(
    backbones.create(name, num_classes=num_classes, image_size_px=image_size_px)
  )


def size(network: cells.Network, place: work.Place) -> Size:
  """Raises InputError for a data set that is not prepared, nor the paper's."""
  known = _SIZES.get((network.dataset, network.split))
  if known is not None:
    return known
  base = place.load(network.dataset, cells.SPLITS[network.split])
  return Size(base.num_classes, len(base.class_ids), base.image_size_px)


@functools.cache
def _product_rate(dtype: str) -> float:
  # Few repeats: an estimate needs no more precision.
  return measure.product_rate(dtype, repeats=3)


_TIMED = (
  ("transductive_finetune", 15),
  ("transductive_finetune", 1),
  ("support_init", 15),
  ("prototype", 15),
)


def times(cell: cells.Cell, place: work.Place) -> list[dict[str, Any]]:
  """Times 5-way 1-shot episodes with images through the network; no accuracy.

  Speed does not depend on what a network has learnt, so the weights are
  random and the images synthetic. Compilation is not counted.
  """
  network = cell.network
  size_px = size(network, place).image_size_px
  rate = measure.product_rate(network.dtype)
  found = []
  for method, queries in _TIMED:
    setup = adaptation.Setup(
      network.backbone,
      size_px,
      method,
      queries=queries,
      epochs=place.budget.epochs or adaptation.EPOCHS,
      episodes=1 if jax.default_backend() == "cpu" else 8,
      dtype=network.dtype,
    )
    row = measure.compare(adaptation.case(setup), repeats=3, product_rate=rate)
    # The paper's seconds are of its own network, at its usual size.
    known = (network.backbone, size_px) == ("wrn_28_10", 84)
    paper = published.seconds(method, queries) if known else None
    found.append(
      {
        "what": f"{adapt.label(method)}, {queries} "
        f"{'query' if queries == 1 else 'queries'} per class",
        "method": method,
        "queries": queries,
        "image_size_px": size_px,
        "seconds_per_episode": row["seconds_per_unit"],
        "episodes_together": setup.episodes,  # of one call
        "paper": paper and paper.mean,
      }
    )
  return found
