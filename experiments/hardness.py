r"""How hard a data set is, and which of its classes, without any method.

  python experiments/hardness.py --dataset=icons --shots=1,5 --queries=3 \
      --run_dir=runs/icons_hardness
  python experiments/hardness.py --dataset=image_folder/birds --split=base \
      --run_dir=runs/birds_hardness

Hardness is computed from the logits of a network trained on ImageNet, so no
checkpoint is needed. The run folder holds `result.json`, the figures and
`hardness.html`; see docs/hardness.md.
"""

import time

import command_line
import protocol_flags
import scoring
import shared_flags
import stored_runs
from absl import flags

from fsl_jax import (
  dataset_hardness,
  devices,
  extractors,
  report,
  run_folder,
)

flags.adopt_module_key_flags(protocol_flags)
_RUN_DIR = shared_flags.run_dir()
_DATA = shared_flags.define_data()
_EXTRACTOR = shared_flags.define_extractor()
_NUM_EPISODES = flags.DEFINE_integer(
  "num_episodes", 1000, "Episodes of each protocol."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the episodes.")


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  dataset = _DATA.load()
  sources = protocol_flags.sources(dataset, seed=_SEED.value)
  for source in sources:
    dataset_hardness.check(source, _NUM_EPISODES.value)
  extractor, name = _EXTRACTOR.load(), _EXTRACTOR.name.value
  config = stored_runs.hardness_configuration(
    dataset,
    seed=_SEED.value,
    hardness=name,
    extractor=extractor,
    extractor_size_px=_EXTRACTOR.size_px.value,
  )
  size = config["hardness"]["image_size_px"]
  folder = run_folder.RunFolder(run_dir, config)
  embeddings = extractors.embeddings(
    extractor, dataset, cache_dir=command_line.cache_dir("features")
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
      f"{dataset.name}, by the logits of {name} at {size} px",
      provenance=stored_runs.provenance(folder),
      notes=[
        f"Hardness from the logits of {name}, trained on ImageNet, at "
        f"{size} px.",
        scoring.copies_note(dataset, _DATA.data_dir.value),
      ],
      galleries=[
        scoring.galleries(source, protocol.section)
        for source, protocol in zip(sources, protocols, strict=True)
      ],
    )

  devices.on_first_process(write)
  print(report.dataset.terminal(protocols))
  count = len(sources) * _NUM_EPISODES.value
  print(f"hardness of {count:,} episodes computed in {seconds:.1f} s")
  print(f"report: {folder.path / 'hardness.html'}")


if __name__ == "__main__":
  command_line.run(main)
