r"""Writes the episodes of a protocol into one small file.

  python experiments/episodes.py --dataset=cifar_fs --shots=5 \
      --num_episodes=1000 --output=episodes.npz
  python experiments/evaluate.py --checkpoint=runs/cifar_conv64 \
      --episodes=episodes.npz --num_episodes=1000 --run_dir=runs/from_file

Any method, in this library or another, can then be evaluated on the same
images; docs/evaluation.md has a reader that needs NumPy alone.
"""

import command_line
import protocol_flags
import shared_flags
from absl import flags

from fsl_jax import evaluate, types
from fsl_jax.episodes import files

flags.adopt_module_key_flags(protocol_flags)
_DATA = shared_flags.define_data()
_NUM_EPISODES = flags.DEFINE_integer("num_episodes", 1000, "Episodes.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the episodes.")
_OUTPUT = command_line.define_path("output", None, "File to write, *.npz.")


def main(argv: list[str]) -> None:
  del argv
  output = command_line.required(_OUTPUT)
  if not output.endswith(".npz"):
    raise types.InputError(f"--output must end in .npz, got {output!r}")
  sources = protocol_flags.sources(_DATA.load(), seed=_SEED.value)
  if len(sources) > 1:
    raise types.InputError("a file holds one protocol; give one of --shots")
  evaluate.check(
    sources[0],
    seed=_SEED.value,
    num_episodes=_NUM_EPISODES.value,
    batch_size=None,
    chunk=None,
  )
  files.write(output, sources[0], _NUM_EPISODES.value)
  print(
    f"{output}: {_NUM_EPISODES.value:,} episodes, {sources[0].name}, "
    f"{sources[0].text}"
  )


if __name__ == "__main__":
  command_line.run(main)
