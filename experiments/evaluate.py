r"""Adapts to episodes of novel classes and compares methods on them.

  python experiments/evaluate.py --checkpoint=runs/icons_conv64 \
      --shots=1,5 --queries=3 --num_episodes=100 --run_dir=runs/icons_eval

All methods are evaluated on the same episodes. Options of one method are
written --finetune.epochs=10; those of fine-tuning without a name, --epochs=10,
apply to every method that has them; --helpfull lists all. A method outside the
package is named package.module:attribute in --methods. The same command
continues an interrupted run, and a larger --num_episodes adds to it. The run
folder holds `episodes.jsonl` with one line per episode, `result.json`, the
figures and `report.html`.
"""

import pathlib

import command_line
import config_flags
import protocol_flags
import scoring
import shared_flags
from absl import flags

from fsl_jax import adapt

flags.adopt_module_key_flags(protocol_flags)
_SUBJECT = shared_flags.define_subject()
_RUN_DIR = shared_flags.run_dir()
_METHODS = flags.DEFINE_list(
  "methods",
  list(adapt.default_names()),
  f"Methods, separated by commas, of {', '.join(adapt.names())}.",
)
_EXTRACTOR = shared_flags.define_extractor("own", "none")
_NUM_EPISODES = flags.DEFINE_integer(
  "num_episodes", 1000, "Episodes of each protocol."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the episodes and the adaptation.")
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size",
  None,
  "Episodes per call of the compiled program. Default: by the methods.",
)
_CHUNK = flags.DEFINE_integer(
  "chunk", None, "Episodes vmapped together. Default: by the device."
)
_DTYPE = flags.DEFINE_enum(
  "dtype",
  None,
  ["float32", "bfloat16"],
  "Of the computation. Default: the checkpoint's.",
)
config_flags.define_methods()


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  methods = config_flags.method_options(_METHODS.value)
  protocol_flags.check()
  variables, meta = _SUBJECT.restore()
  sources = protocol_flags.sources(_SUBJECT.load(meta), seed=_SEED.value)
  if _DTYPE.value is not None:
    dtype = None if _DTYPE.value == "float32" else _DTYPE.value
    meta = meta | {"backbone": meta["backbone"] | {"dtype": dtype}}
  plan = scoring.Plan(
    run_dir=run_dir,
    title=f"Few-shot evaluation: {pathlib.Path(run_dir).name}",
    methods=methods,
    sources=sources,
    num_episodes=[_NUM_EPISODES.value] * len(sources),
    **_EXTRACTOR.of_plan(),
    seed=_SEED.value,
    batch_size=_BATCH_SIZE.value,
    chunk=_CHUNK.value,
    data_dir=_SUBJECT.data.data_dir.value,
  )
  page = scoring.run(plan, variables, meta)
  print(f"\nreport: {page}")


if __name__ == "__main__":
  command_line.run(main, define_more=config_flags.define_outside_methods)
