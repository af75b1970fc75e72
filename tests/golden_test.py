"""Numbers that no restructuring may move, beside what was once computed.

`python tests/golden_test.py` writes `golden/` again; a change of it is a line
under "Numbers that changed" in the changelog.
"""

import json
import pathlib
from typing import Any

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsl_jax as fsl
from fsl_jax import adapt, evaluate, run_folder
from fsl_jax.data import synthetic

_GOLDEN = pathlib.Path(__file__).parent / "golden"
_PROTOCOLS: dict[str, dict[str, Any]] = {
  "fixed": {"ways": 3, "shots": 2, "queries": 4},
  "ranges": {"ways": "range:2:4", "shots": "range:1:3", "queries": 3},
  "dirichlet": {"ways": 3, "shots": 1, "queries": "dirichlet:12:2"},
}
_NUM_EPISODES = 4


def episodes(folder: pathlib.Path) -> dict[str, Any]:
  """By protocol, the lines of `episodes.jsonl` without what names the code.

  In float64, since 50 updates of Adam amplify the rounding of float32, which
  differs from one processor to another.
  """
  found: dict[str, Any] = {}
  with jax.enable_x64(True):
    data = synthetic.make(6, 14, image_size_px=8, noise=0.2, split="novel")
    backbone = helpers.tiny_backbone()
    variables = helpers.tiny_variables(backbone)
    methods = [adapt.create(name, backbone) for name in _METHODS]
    for name, protocol in _PROTOCOLS.items():
      place = run_folder.RunFolder(folder / name, {"seed": 3})
      evaluate.run_many(
        methods,
        variables,
        data,
        **protocol,
        seed=3,
        num_episodes=_NUM_EPISODES,
        extractor=fsl.hardness.extractor(backbone),
        folder=place,
        progress=False,
      )
      found[name] = [
        {
          key: line[key]
          for key in ("index", "digest", "class_ids", "labels", "hardness")
        }
        | {
          "methods": {
            method: {
              key: own[key]
              for key in ("accuracy", "predictions", "initial_predictions")
            }
            | {"last_loss": own["support_loss"][-1:]}
            for method, own in line["methods"].items()
          }
        }
        for line in place.read("episodes.jsonl")
      ]
      place.release()
  return found


_METHODS = ("prototype", "support_init", "finetune", "transductive_finetune")


def weights(folder: pathlib.Path) -> dict[str, Any]:
  """Of each variable after two epochs: mean, deviation and first value."""
  data = synthetic.make(4, 16, image_size_px=16, noise=0.3)
  backbone = fsl.backbones.create(
    "conv64", num_classes=4, image_size_px=16, width=4
  )
  config = fsl.pretrain.PretrainConfig(
    cycles=(2,), batch_size=16, learning_rate=0.02
  )
  result = fsl.pretrain.run(
    backbone, data, config, run_dir=folder, progress=False
  )
  return {
    jax.tree_util.keystr(path): [
      float(value) for value in (leaf.mean(), leaf.std(), jnp.ravel(leaf)[0])
    ]
    for path, leaf in jax.tree_util.tree_leaves_with_path(result.variables)
  }


@pytest.mark.parametrize("protocol", _PROTOCOLS)
def test_episodes(protocol, golden_episodes):
  expected = json.loads((_GOLDEN / "episodes.json").read_text())[protocol]
  _assert_close(golden_episodes[protocol], expected, 1e-5)


def test_pretrained_weights(tmp_path):
  expected = json.loads((_GOLDEN / "weights.json").read_text())
  # In float32: 8 steps, of which each rounds.
  _assert_close(weights(tmp_path / "run"), expected, 1e-4)


@pytest.fixture(scope="module")
def golden_episodes(tmp_path_factory):
  return episodes(tmp_path_factory.mktemp("golden"))


def _assert_close(value: Any, expected: Any, tolerance: float) -> None:
  """Equal structures of equal integers and words, and close floats."""
  found, wanted = jax.tree.flatten(value), jax.tree.flatten(expected)
  assert found[1] == wanted[1]
  for one, other in zip(found[0], wanted[0], strict=True):
    if isinstance(other, float):
      np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    else:
      assert one == other


def _one_line_each(value: dict[str, Any]) -> str:
  """JSON that a person can compare: a line per episode or variable."""
  lines = []
  for name, inner in value.items():
    rows = inner if isinstance(inner, list) else [inner]
    text = ",\n".join(json.dumps(row) for row in rows)
    lines.append(f"{json.dumps(name)}: [\n{text}]")
  return "{\n" + ",\n".join(lines) + "\n}\n"


def _write() -> None:
  import tempfile

  _GOLDEN.mkdir(exist_ok=True)
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    for name, value in (
      ("episodes", episodes(root / "episodes")),
      ("weights", weights(root / "weights")),
    ):
      text = _one_line_each(value)
      (_GOLDEN / f"{name}.json").write_text(text)


if __name__ == "__main__":
  _write()
