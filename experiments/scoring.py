"""From a checkpoint to a report: what several scripts share."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import stored_runs

from fsl_jax import (
  adapt,
  backbones,
  data,
  devices,
  episodes,
  evaluate,
  extractors,
  features,
  report,
  results,
  run_folder,
  types,
)
from fsl_jax.data import description

_MOST_IMAGES = 300  # of an episode that is shown
_OWN_NOTE = (
  "Hardness is that of the checkpoint's own base-class logits, so areas "
  "compare methods on this checkpoint, not one checkpoint with another."
)
_OTHER_NOTE = (
  "Hardness is computed from the logits of {name}, trained on ImageNet, at "
  "{size} px. It is the same for every checkpoint; the paper uses a ResNet-152."
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be evaluated."""

  run_dir: str
  title: str
  # Name to options; all methods are evaluated on the same episodes.
  methods: Mapping[str, Mapping[str, Any]]
  sources: Sequence[episodes.source.Source]  # all of the same data set
  num_episodes: Sequence[int]  # of each source
  # Extractor of hardness: a name of `extractors`, "own", or "none".
  hardness: str = "efficientnet_lite0"
  hardness_weights: str | None = None
  hardness_size_px: int | None = None
  seed: int = 0
  batch_size: int | None = None
  chunk: int | None = None
  notes: Sequence[str] = ()
  data_dir: str | None = None  # of the prepared data sets


class Scored(NamedTuple):
  """The results of a plan."""

  folder: run_folder.RunFolder
  sections: Sequence[results.Section]  # one per source
  sources: list[episodes.source.Source]
  notes: list[str]
  subject: str  # network and data in words

  @property
  def dataset(self) -> types.ClassIndexed:
    return self.sources[0].dataset

  @property
  def provenance(self) -> dict[str, Any]:
    return stored_runs.provenance(self.folder)


def run(
  plan: Plan, variables: types.Variables, meta: Mapping[str, Any]
) -> pathlib.Path:
  """Evaluates, prints the tables, writes the report; returns its page.

  Everything that can be checked is checked before the first episode.
  """
  scored = evaluated(plan, variables, meta)
  summary = results.summarise(scored.sections, scored.dataset.class_names)

  def write() -> None:
    first = scored.sources[0], scored.sections[0]
    report.write(
      scored.folder.path,
      summary,
      title=plan.title,
      subject=scored.subject,
      provenance=scored.provenance,
      notes=scored.notes,
      sheet=_sheet(*first),
      galleries=galleries(*first),
    )

  devices.on_first_process(write)
  print(report.terminal(summary))
  return scored.folder.path / "report.html"


def evaluated(
  plan: Plan, variables: types.Variables, meta: Mapping[str, Any]
) -> Scored:
  """Evaluates; everything that can be checked is checked before the first
  episode."""
  if not plan.methods:
    raise types.InputError("no method was named")
  backbone = backbones.create(**meta["backbone"])
  methods = _methods(plan, backbone)
  dataset = plan.sources[0].dataset
  requests = list(zip(plan.sources, plan.num_episodes, strict=True))
  options: dict[str, Any] = {
    "seed": plan.seed,
    "batch_size": plan.batch_size,
    "chunk": plan.chunk,
  }
  for source, num_episodes in requests:
    evaluate.check(source, num_episodes=num_episodes, **options)
  extractor = _extractor(plan, backbone, variables)
  folder = run_folder.RunFolder(
    plan.run_dir,
    stored_runs.configuration(
      meta,
      dataset,
      plan.methods,
      seed=plan.seed,
      hardness=plan.hardness,
      extractor=extractor,
      extractor_size_px=plan.hardness_size_px,
    ),
  )
  is_frozen = all(
    adapt.entry(name).reads == "features" for name in plan.methods
  )
  of_hardness = hardness_arguments(extractor, dataset, cached=is_frozen)
  variables = _with_base_statistics(plan, backbone, variables, meta)
  images = dataset
  if is_frozen:
    # Nothing changes the network, so each image goes through it only once.
    dataset = features.extract(
      backbone, variables, images, cache_dir=command_line.cache_dir("features")
    )
    backbone = features.network(backbone, variables, images)
    sample = jnp.asarray(dataset.images[:1])
    kept = {k: v for k, v in variables.items() if k == "base_statistics"}
    variables = {**backbone.init(jax.random.key(0), sample), **kept}
    methods = _methods(plan, backbone)
  sections = [
    evaluate.run_many(
      methods,
      variables,
      dataset,
      source=dataclasses.replace(source, dataset=dataset),  # type: ignore[type-var]
      num_episodes=num_episodes,
      **options,
      **of_hardness,
      folder=folder,
    )
    for source, num_episodes in requests
  ]
  return Scored(
    folder,
    sections,
    list(plan.sources),
    [
      copies_note(images, plan.data_dir),
      *plan.notes,
      *_hardness_notes(plan, images),
    ],
    _subject(meta, images),
  )


def _with_base_statistics(
  plan: Plan,
  backbone: types.Backbone,
  variables: types.Variables,
  meta: Mapping[str, Any],
) -> types.Variables:
  """The variables with statistics of the classes that the network was trained
  on, if a method needs them and the checkpoint has none."""
  if "base_statistics" in variables or not any(
    adapt.needs_base_statistics(name, **options)
    for name, options in plan.methods.items()
  ):
    return variables
  trained = meta["data"]
  base = data.load(
    trained["name"],
    trained["split"],
    data_dir=plan.data_dir,
    image_size_px=meta["backbone"].get("image_size_px"),
  )
  if base.fingerprint != trained["fingerprint"]:
    raise types.InputError(
      f"the prepared {base.name} is not the one that the network was trained "
      "on, of which the methods need the mean feature"
    )
  statistics = features.base_statistics(
    backbone, variables, base, cache_dir=command_line.cache_dir("features")
  )
  return {**variables, "base_statistics": statistics}


def hardness_arguments(
  extractor: extractors.Extractor | None,
  dataset: types.ClassIndexed,
  *,
  cached: bool = False,
) -> dict[str, Any]:
  """Arguments of `evaluate.run_many` from which hardness is computed.

  Args:
    extractor: of the features; None computes no hardness.
    dataset: of images.
    cached: whether episodes will hold features in place of the images.
  """
  if extractor is None:
    return {}
  if dataset.is_in_memory or cached:
    return {
      "embeddings": extractors.embeddings(
        extractor, dataset, cache_dir=command_line.cache_dir("features")
      )
    }
  return {
    "extractor": extractor.extract,
    "extractor_variables": extractor.variables,
  }


def _methods(plan: Plan, backbone: types.Backbone) -> list[types.Adapter]:
  return [
    adapt.create(name, backbone, **options)
    for name, options in plan.methods.items()
  ]


def _extractor(
  plan: Plan, backbone: types.Backbone, variables: types.Variables
) -> extractors.Extractor | None:
  if plan.hardness == "none":
    return None
  if plan.hardness == "own":
    return extractors.of_backbone(backbone, variables)
  return extractors.load(
    plan.hardness,
    path=plan.hardness_weights,
    image_size_px=plan.hardness_size_px,
  )


def _subject(meta: Mapping[str, Any], dataset: types.ClassIndexed) -> str:
  trained = meta["data"]
  return (
    f"{meta['backbone']['name']}, trained on the {trained['split']} classes of "
    f"{trained['name']} and evaluated on the {dataset.num_classes} "
    f"{dataset.split} classes of {dataset.name} at {dataset.image_size_px} px"
  )


def copies_note(dataset: types.ClassIndexed, data_dir: str | None) -> str:
  """How many images of a prepared data set occur several times."""
  found = data.describe(dataset.name, data_dir)
  assert found is not None
  return (
    f"Copies in split {dataset.split!r} of {dataset.name}: "
    f"{description.copies(found, dataset.split)}. An episode may have a copy "
    "of its support among its queries, unless copies=apart."
  )


def _hardness_notes(plan: Plan, dataset: types.ClassIndexed) -> list[str]:
  if plan.hardness == "none":
    return []
  if plan.hardness == "own":
    return [_OWN_NOTE]
  size = plan.hardness_size_px or dataset.image_size_px
  return [_OTHER_NOTE.format(name=plan.hardness, size=size)]


def _sheet(
  source: episodes.source.Source, section: results.Section
) -> report.Sheet | None:
  """The images of one episode, if both methods to compare were run."""
  after = "transductive_finetune"
  if after not in section or results.BASELINE not in section:
    return None
  if not np.isfinite(section[after].accuracy).any():
    return None
  choice = report.both_directions(section, after)
  if sum(source.sizes(choice.episode)) > _MOST_IMAGES:
    return None
  shown = exhibit(source, choice.episode)
  count = len(shown.query_labels)
  return report.Sheet(
    **vars(shown),
    before=section[results.BASELINE].predictions[choice.position, :count],
    after=section[after].predictions[choice.position, :count],
    after_name=after,
    rule=choice.rule,
  )


def galleries(
  source: episodes.source.Source, section: results.Section
) -> list[report.Gallery]:
  """The images of the hardest and the easiest episodes."""
  first = next(iter(section.values()))
  if not (np.isfinite(first.hardness) | np.isfinite(first.accuracy)).any():
    return []
  return [
    report.Gallery(selection, [exhibit(source, i) for i in selection.episodes])
    for selection in report.extremes(section)
    if all(sum(source.sizes(i)) <= _MOST_IMAGES for i in selection.episodes)
  ]


def exhibit(source: episodes.source.Source, index: int) -> report.Exhibit:
  """The images of an episode."""
  rows, dataset = source.rows(index), source.dataset
  return report.Exhibit(
    support_images=dataset.images[rows.support],
    support_labels=rows.support_labels,
    query_images=dataset.images[rows.query],
    query_labels=rows.query_labels,
    class_names=tuple(dataset.class_names[c] for c in rows.class_ids),
  )
