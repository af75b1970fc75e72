"""Every script end to end, again in the same folder, and on invalid input."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

import helpers
import numpy as np
import pytest
import script_runner
from script_runner import refuse, succeed

_DEMO = ("--epochs=1", "--num_episodes=3,2")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
  """Scripts keep features; not in the home of who runs the tests."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("JAX_COMPILATION_CACHE_DIR", os.devnull)  # None is kept.
    yield


class Runs(NamedTuple):
  data: str  # --data_dir=...
  demo: pathlib.Path
  output: str  # of the demo


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
  """Prepared icons, and a demo of seconds on them in a process of its own."""
  folder = tmp_path_factory.mktemp("scripts")
  data, demo = f"--data_dir={folder / 'data'}", folder / "demo"
  succeed("prepare_data", "--dataset=icons", data)
  script = script_runner.EXPERIMENTS / "demo.py"
  done = subprocess.run(
    [sys.executable, str(script), data, f"--run_dir={demo}", *_DEMO],
    capture_output=True,
    text=True,
    timeout=600,
    env=os.environ
    | {
      "XLA_FLAGS": helpers.HARDLY_OPTIMISED,
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
    },
  )
  assert done.returncode == 0, done.stderr
  return Runs(data, demo, done.stdout)


def _records(folder: pathlib.Path) -> list[dict]:
  lines = (folder / "episodes.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_demo_leaves_a_whole_run(runs):
  records = _records(runs.demo)
  assert [(r["protocol"]["shots"], r["index"]) for r in records] == [
    (1, 0),
    (1, 1),
    (1, 2),
    (5, 0),
    (5, 1),
  ]
  result = json.loads((runs.demo / "result.json").read_text())
  section = result["sections"][0]
  for name, method in section["methods"].items():
    accuracies = [r["methods"][name]["accuracy"] for r in records[:3]]
    np.testing.assert_allclose(method["mean"], np.mean(accuracies))
    assert method["num_episodes"] == 3
  for name in ("accuracy", "hardness", "episode"):
    assert (runs.demo / "figures" / f"{name}.svg").stat().st_size > 1000
  page = (runs.demo / "report.html").read_text()
  assert "transductive fine-tuning" in page
  assert "images repeat one of their class" in page
  assert "5-way 1-shot" in runs.output
  assert "±" in runs.output


def test_demo_again_shows_the_same_numbers(runs):
  before = (runs.demo / "episodes.jsonl").read_bytes()
  output = succeed("demo", runs.data, f"--run_dir={runs.demo}", *_DEMO)
  assert (runs.demo / "episodes.jsonl").read_bytes() == before
  table = runs.output[runs.output.index("5-way 1-shot, 7") :]
  table = table[: table.index("3. report")]
  assert table in output


def test_evaluate_continues_and_grows(runs, tmp_path):
  arguments = (
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    f"--run_dir={tmp_path / 'run'}",
    "--queries=3",
    "--methods=support_init,transductive_finetune",
    "--transductive_finetune.steps=1",
    "--batch_size=2",
  )
  succeed("evaluate", *arguments, "--num_episodes=4")
  whole = _records(tmp_path / "run")
  # A kill in the middle of a line: the half line goes, the episode is redone.
  path = tmp_path / "run/episodes.jsonl"
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:1]) + lines[1][:50])
  succeed("evaluate", *arguments, "--num_episodes=4")
  again = sorted(_records(tmp_path / "run"), key=lambda r: r["index"])
  assert again == whole
  succeed("evaluate", *arguments, "--num_episodes=5")
  grown = sorted(_records(tmp_path / "run"), key=lambda r: r["index"])
  assert grown[:4] == whole
  assert len(grown) == 5

  refuse("seed was 0, now 1", "evaluate", *arguments, "--seed=1")


def test_frozen_methods_use_cached_features(runs, tmp_path, monkeypatch):
  """The same predictions as beside a method that changes the network."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  arguments = (
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    "--queries=7",
    "--num_episodes=3",
  )
  for name in ("first", "second"):
    succeed(
      "evaluate",
      *arguments,
      f"--run_dir={tmp_path / name}",
      "--methods=prototype,support_init,cosine_head",
      "--cosine_head.iterations=2",
    )
  # Of the checkpoint, and of the network that judges hardness.
  kept = list((tmp_path / "cache/fsl_jax/features").iterdir())
  assert [file.suffix for file in kept] == [".npy"] * 2
  frozen = _records(tmp_path / "first")
  assert frozen == _records(tmp_path / "second")
  whole = [r for r in _records(runs.demo) if r["protocol"]["shots"] == 1]
  for ours, theirs in zip(frozen, whole, strict=True):
    assert abs(ours["hardness"] - theirs["hardness"]) < 1e-5
    for method in ("prototype", "support_init"):
      predictions = ours["methods"][method]["predictions"]
      assert predictions == theirs["methods"][method]["predictions"]


def test_methods_get_the_mean_feature_of_the_base_classes(runs, tmp_path):
  succeed(
    "evaluate",
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    "--queries=7",
    "--num_episodes=3",
    "--hardness=none",
    f"--run_dir={tmp_path / 'run'}",
    "--methods=simpleshot,laplacian_shot",
  )
  records = _records(tmp_path / "run")
  assert all(
    set(r["methods"]) == {"simpleshot", "laplacian_shot"} for r in records
  )


_SMALL = ("--queries=3", "--num_episodes=4", "--hardness=own")


@pytest.fixture(scope="module")
def evaluated(runs, tmp_path_factory) -> pathlib.Path:
  """A run of two methods without steps on four episodes."""
  folder = tmp_path_factory.mktemp("evaluated") / "run"
  succeed(
    "evaluate",
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    f"--run_dir={folder}",
    "--methods=support_init,prototype",
    *_SMALL,
  )
  return folder


_OUTSIDE = """
import dataclasses
from fsl_jax import adapt

@dataclasses.dataclass(frozen=True)
class Config:
  scale: float = 1.0

def make(backbone, config, *, name):
  options = adapt.prototypes.PrototypeConfig()
  return adapt.prototypes.adapter(backbone, options, name=name)

METHOD = adapt.Entry("mine", make, Config, label="my method", reads="features")
"""


def test_method_of_another_package(runs, evaluated, tmp_path, monkeypatch):
  (tmp_path / "outside.py").write_text(_OUTSIDE)
  monkeypatch.syspath_prepend(str(tmp_path))
  arguments = (
    "evaluate",
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    *_SMALL,
  )
  output = succeed(
    *arguments,
    f"--run_dir={tmp_path / 'run'}",
    "--methods=support_init,outside:METHOD",
    "--outside:METHOD.scale=2",
    "--support_init.temperature=0.5",
  )
  assert "my method" in output
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["methods"]["outside:METHOD"] == {"scale": 2.0}
  assert config["methods"]["support_init"]["temperature"] == 0.5
  for ours, theirs in zip(
    _records(tmp_path / "run"), _records(evaluated), strict=True
  ):
    assert (
      ours["methods"]["outside:METHOD"]["predictions"]
      == theirs["methods"]["prototype"]["predictions"]
    )
  refuse(
    "cannot be imported",
    *arguments,
    *(f"--run_dir={tmp_path / 'other'}", "--methods=nowhere:METHOD"),
  )


def test_precision_is_part_of_the_configuration(runs, tmp_path):
  run_dir = tmp_path / "run"
  succeed(
    "evaluate",
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    f"--run_dir={run_dir}",
    "--queries=3",
    "--num_episodes=2",
    "--methods=support_init",
    "--dtype=bfloat16",
  )
  config = json.loads((run_dir / "config.json").read_text())
  assert config["backbone"]["dtype"] == "bfloat16"


def test_bench_measures_goes_on_and_prints_its_table(tmp_path):
  arguments = (f"--run_dir={tmp_path}", "--toy", "--repeats=1")
  output = succeed("bench", *arguments, "--only=pre-train")
  assert "| pre-training, conv64 16 px, batch 256 | bfloat16 | " in output
  rows = (tmp_path / "rows.jsonl").read_text()
  again = succeed("bench", *arguments, "--only=pre-train")
  assert (tmp_path / "rows.jsonl").read_text() == rows
  assert again == output


_RUN = "--run_dir={tmp}/run"
_EVALUATE = f"evaluate {{data}} {_RUN} {{checkpoint}}"


@pytest.mark.parametrize(
  ("command", "message"),
  [
    (f"bench {_RUN} --only=resnet99", "no line's name contains 'resnet99'"),
    (f"bench {_RUN} --repeats=0", "repeats must be"),
    (
      f"demo --data_dir={{tmp}}/nothing {_RUN}",
      "fsl_jax.data.prepare('icons', data_dir=",
    ),
    (
      f"demo {{data}} {_RUN} --num_episodes=3",
      "--num_episodes takes 2 numbers, got '3'",
    ),
    ("pretrain {data}", "--run_dir is missing"),
    (
      f"pretrain {{data}} {_RUN} --backbone=resnet21",
      "did you mean 'resnet12'?",
    ),
    (
      f"pretrain {{data}} {_RUN} --batch_size=many",
      "--batch_size must be a whole number, got 'many'",
    ),
    (
      "pretrain {data} --run_dir=/proc/nothing/run",
      "No such file or directory: /proc/nothing",
    ),
    (
      f"evaluate {{data}} {_RUN} --checkpoint={{tmp}}",
      "no checkpoint at",
    ),
    (
      f"{_EVALUATE} --ways=55",
      "55 ways were asked for, but icons, split 'novel' has only 54 classes",
    ),
    (f"{_EVALUATE} --shots=9", "need 24 images of a class"),
    (
      f"{_EVALUATE} --split=base",
      "175 of the 175 classes of split 'base' were trained on",
    ),
    (f"{_EVALUATE} --methods=finetun", "did you mean 'finetune'?"),
    (
      f"{_EVALUATE} --methods=prototype --epochs=3",
      "--epochs has no effect on prototype",
    ),
    (
      f"{_EVALUATE} --methods=prototype --finetune.epochs=3",
      "--finetune.epochs has no effect on prototype",
    ),
    (
      f"{_EVALUATE} --finetune.steps=few",
      "--finetune.epochs must be a whole number, got 'few'",
    ),
    (f"{_EVALUATE} --bn=moving", "unknown bn 'moving'"),
    (
      f"curves {_RUN} {{checkpoint}} --curve=ways --values=two",
      "--values must be numbers, got 'two'",
    ),
    (
      f"curves {_RUN} {{checkpoint}} --curve=ways --ways=7",
      "--ways has no effect on --curve=ways",
    ),
    (
      f"curves {_RUN} {{checkpoint}} --curve=hardness --shots=2",
      "--shots has no effect on --curve=hardness",
    ),
    (
      "episodes {data} --dataset=icons --output={tmp}/a.npz --ways=1 "
      "--queries=3",
      "expected at least 2 ways",
    ),
  ],
)
def test_invalid_input_is_one_sentence(runs, tmp_path, command, message):
  script, *arguments = command.format(
    tmp=tmp_path,
    data=runs.data,
    checkpoint=f"--checkpoint={runs.demo / 'pretrain'}",
  ).split()
  refuse(message, script, *arguments)
  assert not list(tmp_path.glob("*.npz"))


def test_damaged_checkpoint_is_one_sentence(runs, tmp_path):
  copy = tmp_path / "pretrain"
  shutil.copytree(runs.demo / "pretrain", copy)
  largest = max(
    (p for p in (copy / "checkpoints/best").rglob("*") if p.is_file()),
    key=lambda p: p.stat().st_size,
  )
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  refuse(
    "is damaged",
    "evaluate",
    runs.data,
    f"--checkpoint={copy}",
    f"--run_dir={tmp_path / 'run'}",
  )


def test_episodes_of_a_file_give_the_numbers_of_their_protocol(
  runs, evaluated, tmp_path
):
  file = tmp_path / "episodes.npz"
  output = succeed(
    "episodes",
    runs.data,
    "--dataset=icons",
    "--queries=3",
    "--num_episodes=4",
    f"--output={file}",
  )
  assert "5-way 1-shot, 3 queries per class" in output
  arguments = (
    "evaluate",
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    "--methods=support_init,prototype",
    "--num_episodes=4",
    "--hardness=own",
    f"--episodes={file}",
  )
  succeed(*arguments, f"--run_dir={tmp_path / 'run'}")
  from_file, drawn = _records(tmp_path / "run"), _records(evaluated)
  for name in ("digest", "class_ids", "labels", "hardness", "methods"):
    assert [r[name] for r in from_file] == [r[name] for r in drawn]
  output = succeed("compare", str(evaluated), str(tmp_path / "run"))
  assert "0 won, 4 tied, 0 lost" in " ".join(output.split())
  refuse(
    "--ways has no effect on episodes from a file",
    *arguments,
    *("--ways=5", f"--run_dir={tmp_path / 'other'}"),
  )


def test_compare(evaluated, tmp_path):
  output = succeed(
    "compare",
    str(evaluated),
    str(evaluated),
    "--methods=prototype,support_init",
    f"--run_dir={tmp_path}",
  )
  records = _records(evaluated)
  prototype, start = (
    np.mean([r["methods"][name]["accuracy"] for r in records])
    for name in ("prototype", "support_init")
  )
  assert f"{100 * (prototype - start):+z.2f}" in output
  assert (tmp_path / "comparison.html").stat().st_size > 1000
  same = f"{evaluated}/../{evaluated.name}"
  refuse("would be compared with itself", "compare", str(evaluated), same)
  refuse("two run folders are compared, got 1", "compare", str(evaluated))
  refuse("not a run folder", "compare", str(evaluated), str(tmp_path))
  refuse("same checkpoint", "pool", str(evaluated), str(evaluated))


def test_curve(runs, tmp_path):
  output = succeed(
    "curves",
    runs.data,
    "--curve=ways",
    "--values=2,4",
    f"--checkpoint={runs.demo / 'pretrain'}",
    f"--run_dir={tmp_path}",
    "--methods=support_init,prototype",
    *_SMALL,
  )
  assert "2-way 1-shot" in output
  assert "4-way 1-shot" in output
  assert len(_records(tmp_path)) == 8
  assert (tmp_path / "ways" / "figures" / "ways.svg").stat().st_size > 1000
  curve = json.loads((tmp_path / "ways" / "curve.json").read_text())
  assert curve["command"] == (
    "python experiments/curves.py --curve=ways --values=2,4 --queries=3 "
    "--methods=support_init,prototype --num_episodes=4 --hardness=own"
  )


def test_shots(runs, tmp_path):
  arguments = (
    runs.data,
    f"--checkpoint={runs.demo / 'pretrain'}",
    "--steps=1",
    "--queries=3",
    f"--run_dir={tmp_path}",
  )
  succeed("shots", *arguments, "--shots=1,40")
  result = json.loads((tmp_path / "result.json").read_text())
  few, many = result["points"]
  assert (few["images"], many["images"]) == (5, 200)
  # Classes of 12 icons are repeated, of which no accuracy is claimed.
  assert few["accuracy"] is not None
  assert many["accuracy"] is None
  output = succeed("shots", *arguments, "--shots=1,40")
  assert json.loads((tmp_path / "result.json").read_text()) == result
  assert "40" in output
