r"""Tells how hard a data set is, and which of its classes, with no method.

  python experiments/hardness.py --dataset=icons --shots=1,5 --queries=3 \
      --run_dir=runs/icons_hardness
  python experiments/hardness.py --dataset=image_folder/birds --split=base \
      --run_dir=runs/birds_hardness

A network trained on ImageNet judges; no checkpoint is needed. The run folder
holds `result.json`, the figures and `hardness.html`; see docs/hardness.md.
"""

import time

import command_line
import judge_flags
import protocol_flags
import scoring
from absl import flags

from fsl_jax import (
  data,
  dataset_hardness,
  devices,
  episodes,
  extractors,
  report,
  run_folder,
  types,
)

_RUN_DIR = command_line.define_path(
  "run_dir", None, "Run folder, made if missing."
)
_DATASET = flags.DEFINE_string(
  "dataset", None, f"Data set: {', '.join(data.names())}."
)
_SPLIT = flags.DEFINE_string("split", "novel", "Classes to draw from.")
_DATA_DIR = command_line.define_path(
  "data_dir", None, "Root folder of the prepared data sets."
)
_JUDGE = judge_flags.define()
_NUM_EPISODES = flags.DEFINE_integer(
  "num_episodes", 1000, "Episodes of each protocol."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the episodes.")


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  dataset = data.load(
    command_line.required(_DATASET), _SPLIT.value, data_dir=_DATA_DIR.value
  )
  sources = protocol_flags.sources(dataset, seed=_SEED.value)
  for source in sources:
    dataset_hardness.check(source, _NUM_EPISODES.value)
  judge = _JUDGE.load()
  size = _JUDGE.size_px.value or dataset.image_size_px
  folder = run_folder.RunFolder(run_dir, _config(dataset, judge, size))
  embeddings = extractors.embeddings(
    judge, dataset, cache_dir=command_line.cache_dir("features")
  )
  start = time.perf_counter()
  protocols = [
    report.dataset.Protocol(
      dataset_hardness.of_source(source, embeddings, _NUM_EPISODES.value),
      dataset.class_names,
    )
    for source in sources
  ]
  seconds = time.perf_counter() - start

  def write() -> None:
    report.dataset.write(
      folder.path,
      protocols,
      title=f"Hardness: {dataset.name}, {dataset.split}",
      subject=f"{dataset.num_classes} {dataset.split} classes of "
      f"{dataset.name}, by the logits of {_JUDGE.name.value} at {size} px",
      provenance={
        "config": folder.config(),
        "starts": folder.starts(),
      },
      notes=[
        f"Hardness by the logits of {_JUDGE.name.value}, trained on ImageNet, "
        f"at {size} px.",
        scoring.copies_note(dataset, _DATA_DIR.value),
      ],
      galleries=[
        _galleries(source, protocol)
        for source, protocol in zip(sources, protocols, strict=True)
      ],
    )

  devices.on_first_process(write)
  print(report.dataset.terminal(protocols))
  count = len(sources) * _NUM_EPISODES.value
  print(f"{count:,} episodes judged in {seconds:.1f} s")
  print(f"report: {folder.path / 'hardness.html'}")


def _config(
  dataset: types.ClassIndexed, judge: extractors.Extractor, size: int
) -> dict[str, object]:
  return {
    "seed": _SEED.value,
    "data": {
      "name": dataset.name,
      "split": dataset.split,
      "image_size_px": dataset.image_size_px,
      "fingerprint": dataset.fingerprint,
    },
    "hardness": {
      "extractor": _JUDGE.name.value,
      "digest": judge.digest,
      "image_size_px": size,
    },
  }


def _galleries(
  source: episodes.source.Source, protocol: report.dataset.Protocol
) -> list[report.Gallery]:
  """The images of the hardest and of the easiest episodes."""
  return [
    report.Gallery(
      selection,
      [scoring.exhibit(source, i) for i in selection.episodes],
    )
    for selection in report.extremes(protocol.section)
    if selection.episodes
  ]


if __name__ == "__main__":
  command_line.run(main)
