"""From the shell to the first adapted episode, programs compiled before."""

import os
import subprocess
import sys
import tempfile

from benchmarks import measure

# What a script of a user does, in a process of its own.
_SCRIPT = """
import jax, numpy as np
import command_line
command_line.keep_compiled_programs()
import fsl_jax as fsl
size = {size}
novel = fsl.data.synthetic.make(8, 20, image_size_px=size, split="novel")
net = fsl.backbones.create("conv64", num_classes=64, image_size_px=size)
variables = jax.jit(net.init)(
  jax.random.key(0), np.zeros((1, size, size, 3), np.float32)
)
method = fsl.adapt.create("transductive_finetune", net)
result = fsl.evaluate.run(
  method, variables, novel, num_episodes=1, progress=False
)
assert result.num_non_finite == 0
"""


def case(image_size_px: int) -> measure.Case:
  """Transductive fine-tuning of conv64; compiling is done by a first run."""
  folder = tempfile.TemporaryDirectory()
  environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder.name}
  environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))

  def run():
    assert folder.name  # kept until the last run
    subprocess.run(
      [sys.executable, "-c", _SCRIPT.format(size=image_size_px)],
      env=environment,
      check=True,
    )

  return measure.Case(
    name=f"first result of a new process, conv64 {image_size_px} px",
    unit="starts",
    units=1,
    flop=0.0,
    ours=run,
    note="compiled before; imports, one episode and its 25 epochs included",
  )
