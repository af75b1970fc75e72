"""The cells of each table, figure and ablation of the paper."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax import backbones, data, types
from reproduction import cells

DATASETS = ("cifar_fs", "fc100", "mini_imagenet", "tiered_imagenet")
BACKBONES = ("wrn_28_10", "resnet12", "conv64")
MAIN_BACKBONE = "wrn_28_10"
TARGETS = ("table1", "table2", "figure2", "figure3", "compute", "ablation")
METHODS = INITIALISATION, FINETUNE, TRANSDUCTIVE = tuple(
  cells.Variant(name, name)
  for name in ("support_init", "finetune", "transductive_finetune")
)


def networks(
  target: str,
  *,
  dataset: str | None = None,
  backbone: str | None = None,
  split: str | None = None,
  dtype: str = "float32",
  whole_batch_norm: bool = False,
) -> list[cells.Network]:
  """The networks that the paper has a target for, or the requested ones.

  Tables are of all networks, figures and ablations of the main one. Sections
  4.3 and 4.4 analyse networks trained on (train+val); ablations are evaluated
  on `val`.

  Raises:
    InputError: for an unknown data set or network.
  """
  datasets: tuple[str, ...] = DATASETS
  nets: tuple[str, ...] = (MAIN_BACKBONE,)
  splits: tuple[str, ...] = ("train+val",)
  if dataset == "imagenet21k":
    splits = ("train",)
  elif target == "table1":
    nets, splits = BACKBONES, tuple(cells.SPLITS)
  elif target == "table2":
    datasets, splits = ("imagenet21k",), ("train",)
  elif target in ("compute", "ablation"):
    splits = ("train",)
  if dataset is not None:
    data.usual_size_px(dataset)  # Refuses what it does not know.
    datasets = (dataset,)
  if backbone is not None:
    if backbone not in backbones.names():
      raise types.unknown_name("backbone", backbone, backbones.names())
    nets = (backbone,)
  if split is not None:
    splits = (split,)
  return [
    cells.Network(*one, dtype, whole_batch_norm=whole_batch_norm)
    for one in itertools.product(datasets, nets, splits)
  ]


def objection(
  target: str, network: cells.Network, ablation: str | None = None
) -> str | None:
  """Why there is no such cell, or None if there is one."""
  if network.dataset == "imagenet21k" and network.split != "train":
    return "imagenet21k has no validation classes, so its split is train"
  if target == "table2" and network.dataset != "imagenet21k":
    return f"table 2 is of imagenet21k, got --dataset={network.dataset}"
  if target != "ablation":
    return None
  if ablation == "wrn_16_4" and network.backbone == "wrn_16_4":
    return "the ablation wrn_16_4 compares it with a larger --backbone"
  if ablation != "10000_episodes" and network.split != "train":
    return (
      "ablations are evaluated on the classes of val, so the network must be "
      f"of --split=train, got {network.split}"
    )
  return None


def of_target(
  target: str, network: cells.Network, *, ablation: str | None = None
) -> list[cells.Cell]:
  """The cells of one target for one network: one, or a list of ablations.

  Args:
    target: one of TARGETS.
    network: what is pre-trained.
    ablation: the only one wanted; None is all.

  Raises:
    InputError: if the target has no such cell.
  """
  if why := objection(target, network, ablation):
    raise types.InputError(why)
  if target == "ablation":
    names = [ablation] if ablation else list(ABLATIONS)
    if not ablation and network.backbone != MAIN_BACKBONE:
      names.remove("wrn_16_4")  # is the smaller one of the main net
    return [_ablation(name, network) for name in names]
  return [_CELLS[target](network)]


def of_result(result: Mapping[str, Any]) -> cells.Cell:
  """The cell that a file of results is of, with the published episodes.

  Raises:
    InputError: if there is no such cell.
  """
  target, split, dtype = (result[key] for key in ("target", "split", "dtype"))
  for what, name, names in (
    ("target", target, TARGETS),
    ("split", split, cells.SPLITS),
  ):
    if name not in names:
      raise types.unknown_name(what, str(name), names)
  (network,) = networks(
    target,
    dataset=result["dataset"],
    backbone=result["backbone"],
    split=split,
    dtype=dtype,
    whole_batch_norm=result["whole_batch_norm"],
  )
  for cell in of_target(target, network, ablation=result["ablation"]):
    if cell.name == result["name"]:
      return cell
  raise types.InputError(f"there is no cell {result['name']!r}")


def _table1(network: cells.Network) -> cells.Cell:
  """Table 1 (and the appendix's other networks): 5 ways, 1 and 5 shots."""
  return cells.Cell("table1", network, _jobs(network, METHODS, _protocols()))


def _table2(network: cells.Network) -> cells.Cell:
  """ImageNet-21k: no ReLU, entropy over log ways, 80 episodes."""
  relu = {"relu": False}
  variants = (
    cells.Variant("support_init", "support_init", relu),
    cells.Variant(
      "transductive_finetune",
      "transductive_finetune",
      relu | {"entropy_weight": "inverse_log_ways"},
    ),
  )
  protocols = _protocols(ways=(5, 10, 20, 40, 80, 160))
  return cells.Cell("table2", network, _jobs(network, variants, protocols, 80))


def _figure2(network: cells.Network) -> cells.Cell:
  """Queries, ways and shots vary in turn, the others are Table 1's.

  The paper names the ends of its axes; the points between them are ours.
  """
  protocols = [
    *_protocols(queries=(1, 2, 5, 10, 15, 30)),
    *_protocols(ways=(5, 10, 15, 20)),
    *_protocols(shots=(1, 2, 5, 10, 20, 50)),
  ]
  protocols = list(dict.fromkeys(protocols))
  return cells.Cell("figure2", network, _jobs(network, METHODS, protocols))


def _figure3(network: cells.Network) -> cells.Cell:
  """Accuracy against hardness: 5 to 20 ways, 1 and 5 shots.

  For ImageNet-21k these are the episodes of Table 2.
  """
  if network.dataset == "imagenet21k":
    return cells.Cell("figure3", network, _table2(network).jobs)
  variants = (INITIALISATION, TRANSDUCTIVE)
  protocols = _protocols(ways=(5, 10, 20))
  return cells.Cell("figure3", network, _jobs(network, variants, protocols))


def _compute(network: cells.Network) -> cells.Cell:
  """Seconds per episode; no pre-trained network is needed."""
  return cells.Cell("compute", network, ())


_CELLS = {
  "table1": _table1,
  "table2": _table2,
  "figure2": _figure2,
  "figure3": _figure3,
  "compute": _compute,
}
_REFERENCE = cells.Variant("reference", "transductive_finetune")

# Each changes one thing of transductive fine-tuning, or of the network.
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
  "features": {"input": "features"},
  "frozen_backbone": {"trainable": "head", "bn": "frozen"},
  "frozen_bn": {"bn": "frozen"},
  "no_augmentation": {"augment": False},
  "joint": {"updates": "joint"},
  "no_mixup": {},
  "wrn_16_4": {},
  "10000_episodes": {},
}


def _ablation(name: str, network: cells.Network) -> cells.Cell:
  """One change against the reference, on the same episodes of `val`.

  Novel classes serve the final numbers alone, so choices are compared on the
  validation classes. Only the 10,000 episodes are those of Table 1.

  Raises:
    InputError: for an unknown name.
  """
  if name not in ABLATIONS:
    raise types.unknown_name("ablation", name, ABLATIONS)
  protocols = _protocols()
  if name == "10000_episodes":
    jobs = _jobs(network, (TRANSDUCTIVE,), protocols, 10_000)
    return cells.Cell("ablation", network, jobs, ablation=name)
  other = network
  if name == "no_mixup":
    other = dataclasses.replace(network, mixup=False)
  elif name == "wrn_16_4":
    other = dataclasses.replace(network, backbone="wrn_16_4")
  changed = cells.Variant(name, "transductive_finetune", ABLATIONS[name])
  if other != network:
    changed = dataclasses.replace(_REFERENCE, name=name)
  jobs = _jobs(network, (INITIALISATION, _REFERENCE), protocols)
  jobs += _jobs(other, (changed,), protocols)
  return cells.Cell(
    "ablation", network, jobs, evaluated_on="val", ablation=name
  )


def pairs(cell: cells.Cell) -> list[tuple[str, str]]:
  """Variants of a cell that are compared: the first minus the second."""
  names = {job.variant.name for job in cell.jobs}
  wanted = (
    ("transductive_finetune", "support_init"),
    ("finetune", "support_init"),
    ("transductive_finetune", "finetune"),
    ("reference", "support_init"),
    (cell.ablation or "", "reference"),
  )
  return [pair for pair in wanted if names.issuperset(pair)]


def _protocols(
  *,
  ways: Sequence[int] = (5,),
  shots: Sequence[int] = (1, 5),
  queries: Sequence[int] = (15,),
) -> list[cells.Protocol]:
  return [cells.Protocol(n, k, q) for n in ways for k in shots for q in queries]


def _jobs(network, variants, protocols, num_episodes=cells.NUM_EPISODES):
  return tuple(
    cells.Job(network, variant, protocol, num_episodes)
    for protocol in protocols
    for variant in variants
  )
