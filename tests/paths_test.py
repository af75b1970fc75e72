"""Paths that are no local ones are refused, wherever they are given."""

import ast
import pathlib

import pytest

import fsl_jax as fsl
from fsl_jax import paths, torch_weights, types
from fsl_jax.data import prepared
from fsl_jax.episodes import files

_EXPERIMENTS = pathlib.Path(fsl.__file__).parents[1] / "experiments"
_DATASET = fsl.data.synthetic.make(6, 8, split="novel")
_NETWORK = fsl.backbones.create("conv64", num_classes=6, image_size_px=16)

_RECIPE = fsl.pretrain.PretrainConfig(batch_size=8)


@pytest.mark.parametrize(
  ("path", "words"),
  [
    ("", "x is empty"),
    ("gs://bucket/a", "x must be on a local .* 'gs://bucket/a'"),
    (pathlib.Path("gs://bucket/a"), "'gs:/bucket/a'"),
    ("file:///tmp/a", "local or mounted"),
    ("S3://bucket", "local or mounted"),
    ("~nosuchuser/a", "x is '~nosuchuser/a', but that home"),
  ],
)
def test_what_is_refused(path, words):
  with pytest.raises(types.InputError, match=words):
    paths.local(path, "x")


def test_what_is_local(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  assert paths.local("~/a", "x") == tmp_path / "a"
  for path in ("a", "./gs://a", "/a/b:c/d", "C:/a", "a:b", "run:1/a", tmp_path):
    assert paths.local(path, "x") == pathlib.Path(path)


def _write_episodes(path):
  protocol = fsl.episodes.Protocol(ways=2, queries=1)
  files.write(path, fsl.episodes.source.Drawn(_DATASET, protocol, 0), 1)


_TAKE_A_PATH = {
  "data.load": lambda p: fsl.data.load("icons", "novel", data_dir=p),
  "data.describe": lambda p: fsl.data.describe("icons", p),
  "data.verify": lambda p: fsl.data.verify("icons", data_dir=p),
  "prepared.found_names": lambda p: prepared.found_names(p),
  "data.prepare, data_dir": lambda p: fsl.data.prepare("icons", data_dir=p),
  "data.prepare, source": lambda p: fsl.data.prepare(
    "cifar_fs", data_dir="data", source=p
  ),
  "data.prepare, split_file": lambda p: fsl.data.prepare(
    "image_folder", data_dir="data", source=".", options={"split_file": p}
  ),
  "pretrain.run": lambda p: fsl.pretrain.run(
    _NETWORK, _DATASET, _RECIPE, run_dir=p
  ),
  "pretrain.finished": lambda p: fsl.pretrain.finished(
    _NETWORK, _DATASET, _RECIPE, run_dir=p
  ),
  "run_folder.RunFolder": lambda p: fsl.run_folder.RunFolder(p, {}),
  "run_folder.worker": lambda p: fsl.run_folder.worker(p),
  "episode_records.load": lambda p: fsl.episode_records.load(p),
  "checkpoint.save": lambda p: fsl.checkpoint.save(p, {}, {}),
  "checkpoint.save_step": lambda p: fsl.checkpoint.save_step(p, 0, {}, {}),
  "checkpoint.restore": lambda p: fsl.checkpoint.restore(p),
  "checkpoint.exists": lambda p: fsl.checkpoint.exists(p),
  "episodes.files.read": lambda p: files.read(p, _DATASET),
  "episodes.files.write": _write_episodes,
  "features.extract": lambda p: fsl.features.extract(
    _NETWORK, {}, _DATASET, cache_dir=p
  ),
  "extractors.load": lambda p: fsl.extractors.load("resnet152", path=p),
  "torch_weights.read": lambda p: torch_weights.read(p),
  "report.svg.save": lambda p: fsl.report.svg.save("<svg/>", p),
}


@pytest.mark.parametrize("path", ["gs://bucket/x", "~nosuchuser/x"])
@pytest.mark.parametrize("name", _TAKE_A_PATH)
def test_every_function_refuses_it_before_any_work(
  name, path, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(types.InputError, match=path):
    _TAKE_A_PATH[name](path)
  assert not list(tmp_path.iterdir())


def test_default_root_of_the_data(monkeypatch):
  from tensorflow_datasets.core import constants

  monkeypatch.setattr(constants, "DATA_DIR", "gs://bucket/x")
  with pytest.raises(types.InputError, match="data_dir must be"):
    fsl.data.load("icons", "novel")


def test_pages_are_written_to_local_folders(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(types.InputError, match="gs://bucket/x"):
    fsl.report.page.save("gs://bucket/x", {}, [], "", names=("a", "b"))
  assert not list(tmp_path.iterdir())


def test_flags_of_scripts_are_checked():
  """`command_line.run` checks those that are defined by `define_path`."""
  found = []
  for file in _EXPERIMENTS.glob("*.py"):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
      if not isinstance(node, ast.Call) or not node.args:
        continue
      kind = getattr(node.func, "attr", "")
      name = getattr(node.args[0], "value", None)
      if kind == "define_path":
        found.append(name)
      elif kind == "DEFINE_string":
        assert not str(name).endswith(("dir", "file", "path", "weights")), name
        assert name not in ("checkpoint", "episodes", "output", "source")
  assert {"run_dir", "data_dir", "output", "source"} <= set(found)
