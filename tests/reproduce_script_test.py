"""The script of the paper's cells, from nothing to a file of results."""

import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import helpers
import numpy as np
import pytest
from PIL import Image

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_NAME = "ablation-10000_episodes-image_folder_dots-conv64-train"
_TARGET = "--ablation=10000_episodes"  # the one of fewest programs


@pytest.fixture(scope="module", autouse=True)
def _own_compilation_cache(tmp_path_factory: pytest.TempPathFactory):
  with pytest.MonkeyPatch.context() as patch:
    folder = tmp_path_factory.mktemp("compiled")
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    patch.setenv("XLA_FLAGS", helpers.HARDLY_OPTIMISED)
    yield


# At 16 px, where a folder of pictures is used at 84.
_SMALL = """
import os, runpy, sys
from fsl_jax import data
data.usual_size_px = lambda name: 16
script = sys.argv.pop(1)
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


def _script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
  path = str(_ROOT / "experiments" / f"{name}.py")
  return subprocess.run(
    [sys.executable, "-c", _SMALL, path, *arguments],
    capture_output=True,
    text=True,
    timeout=600,
  )


class Run(NamedTuple):
  folder: pathlib.Path
  options: tuple[str, ...]
  output: str

  @property
  def result_path(self) -> pathlib.Path:
    return self.folder / "results" / f"{_NAME}-quick.json"

  def again(self, *more: str) -> subprocess.CompletedProcess[str]:
    return _script("reproduce", *self.options, *more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
  """A quick cell on coloured noise, of two episodes."""
  folder = tmp_path_factory.mktemp("reproduce")
  rng = np.random.default_rng(0)
  for split, num_classes in (("train", 13), ("val", 5), ("test", 5)):
    for number in range(num_classes):
      place = folder / "dots" / split / f"{split}{number}"
      place.mkdir(parents=True)
      colour = rng.uniform(0, 255, 3)
      for image in range(20):
        pixels = np.clip(rng.normal(colour, 40, (16, 16, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{image}.png")
  data = f"--data_dir={folder / 'data'}"
  name = "--dataset=image_folder/dots"
  done = _script("prepare_data", name, f"--source={folder / 'dots'}", data)
  assert done.returncode == 0, done.stderr
  options = (
    name,
    data,
    "--backbone=conv64",
    "--split=train",
    "--budget=quick",
    f"--run_dir={folder / 'runs'}",
    f"--results_dir={folder / 'results'}",
  )
  done = _script("reproduce", *options, _TARGET, "--episodes=2")
  assert done.returncode == 0, done.stderr
  return Run(folder, options, done.stdout)


def test_leaves_a_result_that_says_where_it_comes_from(run):
  result = json.loads(run.result_path.read_text())
  assert result["name"] == _NAME
  assert result["budget"]["name"] == "quick"
  assert len(result["rows"]) == 2
  assert {r["num_episodes"] for r in result["rows"]} == {2}
  assert {r["verdict"] for r in result["rows"]} == {"none"}
  origin = result["provenance"]
  assert origin["command"] == (
    "python experiments/reproduce.py --ablation=10000_episodes "
    "--dataset=image_folder/dots --backbone=conv64 --split=train "
    "--budget=quick --episodes=2"
  )
  (network,) = origin["networks"].values()
  assert network["pretrain"]["cycles"] == [2, 4]
  assert len(network["digest"]) == 64
  assert origin["methods"]["transductive_finetune"]["steps"] == 25
  assert origin["hours"]["pretrain"] > 0
  assert all(origin["hours"][row["variant"]] > 0 for row in result["rows"])
  assert set(origin["flop"]) == set(origin["hours"]) | {"judge"}
  assert run.result_path.name in run.output


def test_numbers_are_those_of_the_episodes(run):
  result = json.loads(run.result_path.read_text())
  network = run.folder / "runs/quick/episodes/image_folder_dots-conv64-train"
  for row in result["rows"]:
    path = network / "novel" / row["variant"] / "episodes.jsonl"
    accuracies = [
      record["methods"][row["method"]]["accuracy"]
      for record in map(json.loads, path.read_text().splitlines())
      if record["protocol"]["shots"] == row["shots"]
    ]
    np.testing.assert_allclose(row["mean"], 100 * np.mean(accuracies), 1e-4)


def test_is_not_done_twice_and_more_episodes_add_to_it(run):
  before = run.result_path.read_bytes()
  again = run.again(_TARGET, "--episodes=2")
  assert again.returncode == 0
  assert "done, see" in again.stdout
  assert run.result_path.read_bytes() == before
  episodes = next(run.folder.glob("runs/**/novel/*/episodes.jsonl"))
  first = episodes.read_text()
  more = run.again(_TARGET, "--episodes=3")
  assert more.returncode == 0, more.stderr
  assert episodes.read_text().startswith(first)
  assert len(episodes.read_text().splitlines()) == 6
  result = json.loads(run.result_path.read_text())
  assert {r["num_episodes"] for r in result["rows"]} == {3}


def test_refusal_comes_before_any_work(run):
  done = run.again("--figure=3")
  assert done.returncode == 1
  assert "10 ways were asked for" in done.stderr
  assert "Traceback" not in done.stderr
