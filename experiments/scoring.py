"""From a checkpoint to a report: what `evaluate.py` and `demo.py` share."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import command_line
import jax
import jax.numpy as jnp
import numpy as np

from fsl_jax import (
  adapt,
  backbones,
  data,
  devices,
  episodes,
  evaluate,
  features,
  hardness,
  report,
  run_folder,
  types,
)

HARDNESS_NOTE = (
  "Hardness is that of the checkpoint's own base-class logits, so areas "
  "compare methods on this checkpoint, not one checkpoint with another."
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be evaluated; JSON values only."""

  run_dir: str
  title: str
  # Name to options; all methods meet the same episodes.
  methods: Mapping[str, Mapping[str, Any]]
  protocols: Sequence[episodes.Protocol]
  num_episodes: Sequence[int]  # of each protocol
  split: str = "novel"
  seed: int = 0
  batch_size: int | None = None
  chunk: int | None = None
  cross_domain: bool = False
  notes: Sequence[str] = ()


def run(
  plan: Plan,
  variables: types.Variables,
  meta: Mapping[str, Any],
  *,
  dataset_name: str | None = None,
  data_dir: str | None = None,
) -> pathlib.Path:
  """Evaluates, prints the tables, writes the report; returns its page.

  Everything that can be checked is checked before the first episode.
  """
  if not plan.methods:
    raise types.InputError("no method was named")
  backbone = backbones.create(**meta["backbone"])
  methods = _methods(plan, backbone)
  dataset = data.load(
    dataset_name or meta["data"]["name"],
    plan.split,
    data_dir=data_dir,
    image_size_px=meta["backbone"]["image_size_px"],
  )
  evaluate.check_checkpoint(meta, dataset, cross_domain=plan.cross_domain)
  requests: list[tuple[episodes.Protocol, dict[str, Any]]] = [
    (
      protocol,
      {
        "seed": plan.seed,
        "num_episodes": num_episodes,
        "batch_size": plan.batch_size,
        "chunk": plan.chunk,
      },
    )
    for protocol, num_episodes in zip(
      plan.protocols, plan.num_episodes, strict=True
    )
  ]
  for protocol, options in requests:
    evaluate.check(dataset, protocol, **options)
  folder = run_folder.RunFolder(plan.run_dir, _config(plan, meta, dataset))
  images = dataset
  if all(method.num_steps == 0 for method in methods):
    # Nothing changes the network, so each image goes through it only once.
    dataset = features.extract(
      backbone, variables, images, cache_dir=command_line.cache_dir("features")
    )
    backbone = backbones.identity(num_logits=backbone.num_classes)
    variables = backbone.init(
      jax.random.key(0), jnp.asarray(dataset.images[:1])
    )
    methods = _methods(plan, backbone)
  programs = adapt.batched.Programs(methods)
  sections = [
    evaluate.run_many(
      methods,
      variables,
      dataset,
      **dataclasses.asdict(protocol),
      **options,
      extractor=hardness.extractor(backbone),
      programs=programs,
      folder=folder,
    )
    for protocol, options in requests
  ]
  print(report.terminal(sections))

  def write() -> None:
    report.write(
      folder.path,
      sections,
      title=plan.title,
      provenance={
        "config": folder.read_json("config.json"),
        "starts": folder.read_json("provenance.json"),
      },
      notes=[*plan.notes, HARDNESS_NOTE],
      sheet=_sheet(plan, images, sections[0]),
    )

  devices.on_first_process(write)
  return folder.path / "report.html"


def _methods(plan: Plan, backbone: types.Backbone) -> list[types.Adapter]:
  return [
    adapt.create(name, backbone, **options)
    for name, options in plan.methods.items()
  ]


def _config(
  plan: Plan, meta: Mapping[str, Any], dataset: types.ClassIndexed
) -> dict[str, Any]:
  """What shapes the number of an episode. More episodes may be asked for
  later, and the batch size changes no result, so neither is in it."""
  return {
    "seed": plan.seed,
    "data": {
      "name": dataset.name,
      "split": dataset.split,
      "image_size_px": dataset.image_size_px,
      "fingerprint": dataset.fingerprint,
    },
    "backbone": meta["backbone"],
    "checkpoint": {"digest": meta["digest"], "epoch": meta["epoch"]},
    "pretrain": meta["pretrain"],
    "methods": {
      name: adapt.config(name, **options)
      for name, options in plan.methods.items()
    },
    "hardness": "logits of the checkpoint's own backbone",
  }


def _sheet(
  plan: Plan, dataset: types.ClassIndexed, section: report.Section
) -> report.Sheet | None:
  """The pictures of one episode, if the methods to compare are there."""
  after = "transductive_finetune"
  if after not in section or report.BASELINE not in section:
    return None
  if not np.isfinite(section[after].accuracy).any():
    return None
  choice = report.most_changed(section)
  rows = episodes.sampler.draw(
    dataset,
    episodes.Protocol(**section[after].protocol),
    seed=plan.seed,
    index=choice.episode,
  )
  return report.Sheet(
    support_images=dataset.images[rows.support],
    support_labels=rows.support_labels,
    query_images=dataset.images[rows.query],
    query_labels=rows.query_labels,
    before=section[report.BASELINE].predictions[choice.position],
    after=section[after].predictions[choice.position],
    class_names=tuple(dataset.class_names[c] for c in rows.class_ids),
    rule=choice.rule,
  )
