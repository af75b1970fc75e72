"""The script of the paper's cells, from nothing to a file of results."""

import json
import os
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from script_runner import refuse, succeed

from fsl_jax import data

_NAME = "ablation-10000_episodes-image_folder_dots-conv64-train"
_NETWORK = "image_folder_dots-conv64-train"
_TARGET = "--ablation=10000_episodes"  # the one of fewest programs


class Run(NamedTuple):
  folder: pathlib.Path
  options: tuple[str, ...]
  output: str

  @property
  def data(self) -> str:
    return self.options[1]

  @property
  def result_path(self) -> pathlib.Path:
    return self.folder / "results" / f"{_NAME}-quick.json"

  @property
  def root(self) -> pathlib.Path:
    return self.folder / "runs" / "quick"

  def again(self, *more: str) -> str:
    return succeed("reproduce", *self.options, *more)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory):
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
  data_dir, name = (
    f"--data_dir={folder / 'data'}",
    "--dataset=image_folder/dots",
  )
  options = (
    *(name, data_dir, "--backbone=conv64", "--split=train", "--budget=quick"),
    f"--run_dir={folder / 'runs'}",
    f"--results_dir={folder / 'results'}",
  )
  with pytest.MonkeyPatch.context() as patch:
    # At 16 px, where a folder of images is used at 84.
    patch.setattr(data, "usual_size_px", lambda name: 16)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("JAX_COMPILATION_CACHE_DIR", os.devnull)
    succeed("prepare_data", name, f"--source={folder / 'dots'}", data_dir)
    output = succeed("reproduce", *options, _TARGET, "--episodes=2")
    yield Run(folder, options, output)


def test_leaves_a_result_with_its_provenance(run):
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


def test_results_of_another_recipe_are_not_overwritten(run):
  content = run.result_path.read_text()
  (cycles,) = (
    network["pretrain"]["cycles"]
    for network in json.loads(content)["provenance"]["networks"].values()
  )
  result = json.loads(content)
  for network in result["provenance"]["networks"].values():
    network["pretrain"]["cycles"] = [cycles[0] + 1, *cycles[1:]]
  other = json.dumps(result)
  run.result_path.write_text(other)
  try:
    refuse(
      str(run.result_path), "reproduce", *run.options, _TARGET, "--episodes=2"
    )
    assert run.result_path.read_text() == other
  finally:
    run.result_path.write_text(content)


def test_numbers_are_those_of_the_episodes(run):
  result = json.loads(run.result_path.read_text())
  for row in result["rows"]:
    folder = run.root / "episodes" / _NETWORK / "novel" / row["variant"]
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    accuracies = [
      record["methods"][row["method"]]["accuracy"]
      for record in map(json.loads, lines)
      if record["protocol"]["shots"] == row["shots"]
    ]
    np.testing.assert_allclose(row["mean"], 100 * np.mean(accuracies), 1e-4)


def test_runs_of_all_scripts_can_be_compared(run, tmp_path):
  """Two of reproduce.py, and each with one of evaluate.py."""
  import scoring  # noqa: F401  Its flags are those of a script.
  from reproduction import cells, work

  network = cells.Network("image_folder/dots", "conv64", "train")
  start = cells.Variant("support_init", "support_init")
  job = cells.Job(network, start, cells.Protocol(5, 1, 15), 2)
  place = work.Place(
    run.folder / "runs", cells.budget("quick"), str(run.folder / "data")
  )
  _, [measured] = work.run(cells.Cell("table1", network, (job,)), place)
  tuned = run.root / "episodes" / _NETWORK / "novel/transductive_finetune"
  succeed(
    "evaluate",
    run.data,
    f"--checkpoint={run.root / 'pretrain' / _NETWORK}",
    *("--methods=support_init", "--num_episodes=2"),
    f"--run_dir={tmp_path / 'run'}",
  )
  configs = [
    json.loads((folder / "config.json").read_text())
    for folder in (measured.folder, tmp_path / "run")
  ]
  for config in configs:
    del config["sha256"]
  assert configs[0] == configs[1]
  for first, second, methods in (
    (measured.folder, tuned, ["--methods=support_init,transductive_finetune"]),
    (tmp_path / "run", measured.folder, []),
    (tuned, tmp_path / "run", ["--methods=transductive_finetune,support_init"]),
  ):
    output = succeed("compare", str(first), str(second), *methods)
    assert "2 episodes" in output


def test_is_not_done_twice_and_more_episodes_add_to_it(run):
  before = run.result_path.read_bytes()
  assert "done, see" in run.again(_TARGET, "--episodes=2")
  assert run.result_path.read_bytes() == before
  episodes = run.root / "episodes" / _NETWORK / "novel/transductive_finetune"
  first = (episodes / "episodes.jsonl").read_text()
  run.again(_TARGET, "--episodes=3")
  lines = (episodes / "episodes.jsonl").read_text()
  assert lines.startswith(first)
  assert len(lines.splitlines()) == 6
  result = json.loads(run.result_path.read_text())
  assert {r["num_episodes"] for r in result["rows"]} == {3}


def test_a_folder_of_an_earlier_version_is_refused(run):
  """Its configuration lacked what compare.py needs."""
  folder = run.root / "episodes" / _NETWORK / "novel/transductive_finetune"
  path = folder / "config.json"
  text = path.read_text()
  config = json.loads(text)
  del config["trained_on"], config["sha256"]
  config["hardness"] = "logits of efficientnet_lite0, trained on ImageNet"
  for name in ("times.jsonl", "episodes.jsonl", "provenance.json"):
    (folder / name).rename(folder / f"{name}.kept")
  path.write_text(json.dumps(config))
  try:
    refuse(
      "started with another configuration",
      *("reproduce", *run.options, _TARGET, "--episodes=4"),
    )
  finally:
    path.write_text(text)
    for name in ("times.jsonl", "episodes.jsonl", "provenance.json"):
      (folder / f"{name}.kept").rename(folder / name)


def test_refusal_comes_before_any_work(run):
  refuse("10 ways were asked for", "reproduce", *run.options, "--figure=3")
