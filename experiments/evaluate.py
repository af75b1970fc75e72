r"""Adapts to episodes of novel classes and scores the methods side by side.

  python experiments/evaluate.py --checkpoint=runs/icons_conv64 \
      --shots=1,5 --queries=3 --num_episodes=100 --run_dir=runs/icons_eval

All methods meet the same episodes. The same command continues a run that was
killed, and a larger --num_episodes adds to it. The run folder holds
`episodes.jsonl` with one line per episode, `result.json`, the figures and
`report.html`.
"""

import pathlib

import command_line
import config_flags
import judge_flags
import protocol_flags
import scoring
import subject_flags
from absl import flags

from fsl_jax import adapt, types

_SUBJECT = subject_flags.define()
_RUN_DIR = command_line.define_path(
  "run_dir", None, "Run folder, made if missing."
)
_METHODS = flags.DEFINE_list(
  "methods",
  list(adapt.default_names()),
  f"Methods, separated by commas, of {', '.join(adapt.names())}.",
)
_JUDGE = judge_flags.define("own", "none")
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
config_flags.define(adapt.finetune.FinetuneConfig)


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  methods = _methods()
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
    **_JUDGE.of_plan(),
    seed=_SEED.value,
    batch_size=_BATCH_SIZE.value,
    chunk=_CHUNK.value,
    data_dir=_SUBJECT.data_dir.value,
  )
  page = scoring.run(plan, variables, meta)
  print(f"\nreport: {page}")


def _methods() -> dict[str, dict[str, object]]:
  """Each method with those of the given options that it has."""
  if len(set(_METHODS.value)) < len(_METHODS.value):
    raise types.InputError(
      f"--methods must differ, got {','.join(_METHODS.value)}"
    )
  given = config_flags.given(adapt.finetune.FinetuneConfig)
  known = {name: adapt.option_names(name) for name in _METHODS.value}
  for option in given:
    if not any(option in names for names in known.values()):
      raise types.InputError(
        f"--{option} has no effect on {', '.join(_METHODS.value)}"
      )
  return {
    name: {k: v for k, v in given.items() if k in known[name]}
    for name in _METHODS.value
  }


if __name__ == "__main__":
  command_line.run(main)
