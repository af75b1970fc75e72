"""Two processes on this machine are one process of twice the devices."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import NamedTuple

import helpers
import jax
import numpy as np
import pytest
import tiny_source

import fsl_jax as fsl
from fsl_jax import episode_records, evaluate, run_folder
from fsl_jax.pretrain import recipe

_TIMEOUT_S = 120
_NUM_IMAGES = {"base": {"a": 9, "b": 8, "c": 9}, "novel": {"d": 8, "e": 8}}

_DRIVER = """
import json, sys
tests, folder, address, process = sys.argv[1:]
sys.path.insert(0, tests)
import jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(
  address, 2, int(process), initialization_timeout=60,
  heartbeat_timeout_seconds=10, shutdown_timeout_seconds=20,
)
assert (jax.device_count(), jax.local_device_count()) == (4, 2)
import hosts_test
found = [hosts_test.evaluated(folder), hosts_test.trained(folder)]
print(json.dumps(found), flush=True)
hosts_test.refused(folder)
"""


def _load(folder, split, **options):
  return fsl.data.load(
    "image_folder/noise", split, data_dir=pathlib.Path(folder) / "data",
    **options,
  )  # fmt: skip


def evaluated(folder, run="runs"):
  """Five episodes of two methods, three to begin with."""
  network = helpers.tiny_backbone(3)
  methods = [
    fsl.adapt.create("prototype", network),
    fsl.adapt.create("finetune", network, epochs=2, augment=False),
  ]
  for num_episodes in (3, 5):
    results = evaluate.run_many(
      methods,
      helpers.tiny_variables(network),
      _load(folder, "novel"),
      num_episodes=num_episodes,
      ways=2,
      queries=3,
      batch_size=4,
      extractor=fsl.hardness.extractor(network),
      folder=run_folder.RunFolder(pathlib.Path(folder) / run, {}),
      progress=False,
    )
  return {
    name: {
      "predictions": scored.predictions.tolist(),
      "hardness": scored.hardness.tolist(),
      "losses": scored.curves["support_loss"].tolist(),
    }
    for name, scored in results.items()
  }


def trained(folder, run="runs"):
  """One epoch, from memory and from disk, saved after every step."""
  found = {}
  for in_memory in (True, False):
    result = fsl.pretrain.run(
      helpers.tiny_backbone(3),
      _load(folder, "base", in_memory=in_memory),
      recipe.PretrainConfig(cycles=(1,), batch_size=8),
      run_dir=pathlib.Path(folder) / run / f"trained_{in_memory}",
      progress=False,
      checkpoint_every_s=0,
    )
    found[str(in_memory)] = {
      "digest": result.meta["digest"],
      "losses": [epoch["loss"] for epoch in result.epochs],
      "kernel": result.variables["params"]["classifier"]["kernel"].tolist(),
    }
  return found


def refused(folder):
  """The folder of another configuration: the first process sees it."""
  run_folder.RunFolder(pathlib.Path(folder) / "runs", {"another": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("hosts")
  source = tiny_source.write(folder / "source", _NUM_IMAGES, (8, 8))
  fsl.data.prepare(
    "image_folder/noise",
    source=source,
    data_dir=folder / "data",
    options={"size_px": 8},
  )
  return folder


class Ended(NamedTuple):
  """A process that has come to its end."""

  status: int
  output: str
  errors: str

  def found(self):
    assert self.output, self.errors
    return json.loads(self.output.splitlines()[-1])


@pytest.fixture(scope="module")
def ended(folder):
  """Both processes, after all that this file has them do."""
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  flags = {"XLA_FLAGS": helpers.QUICKLY_COMPILED}
  tests = pathlib.Path(__file__).parent
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", _DRIVER, tests, folder, address, str(i)],
      env=os.environ | flags,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i in range(2)
  ]
  try:
    outputs = [p.communicate(timeout=_TIMEOUT_S) for p in processes]
  finally:
    for process in processes:
      process.kill()
  return [
    Ended(p.returncode, *o) for p, o in zip(processes, outputs, strict=True)
  ]


def assert_close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
    ours,
    theirs,
  )


def test_both_find_the_same(ended):
  assert ended[0].found() == ended[1].found()


def test_evaluation(folder, ended):
  lines = (folder / "runs" / episode_records.FILE).read_text().splitlines()
  assert [json.loads(line)["index"] for line in lines] == list(range(5))
  starts = run_folder.Files(folder / "runs").starts()
  assert [start["num_processes"] for start in starts] == [2, 2]
  found, _ = ended[0].found()
  assert_close(found, evaluated(folder, "alone"))


def test_training(folder, ended):
  _, found = ended[0].found()
  expected = trained(folder, "alone")
  for in_memory in ("True", "False"):
    run = folder / "runs" / f"trained_{in_memory}"
    log = (run / "epochs.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [1]
    assert len(list((run / "tensorboard").iterdir())) == 1
    _, meta = fsl.checkpoint.restore(run / "checkpoints/best")
    assert meta["digest"] == found[in_memory].pop("digest")
    del expected[in_memory]["digest"]
  assert_close(found, expected)


def test_a_refusal_of_the_first_process_ends_both(ended):
  first, second = ended
  assert first.status == second.status == 1
  assert "another was null, now 1" in first.errors
  assert "stopped by process 0, whose output says why" in second.errors
