"""The examples of CONTRIBUTING.md work as they stand."""

import pathlib
import re

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, evaluate, pretrain
from fsl_jax.data import synthetic

_TEXT = pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md"
_NAMES = ("contributed_lda", "contributed_network")


@pytest.fixture(scope="module", autouse=True)
def _modules(tmp_path_factory):
  folder = tmp_path_factory.mktemp("contributed")
  text = _TEXT.read_text(encoding="utf-8")
  blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
  for name, block in zip(_NAMES, blocks, strict=True):
    (folder / f"{name}.py").write_text(block, encoding="utf-8")
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(folder))
    yield


def test_method():
  name = "contributed_lda:LDA"
  network = helpers.tiny_backbone()
  method = adapt.create(name, network, shrinkage=0.1)
  assert adapt.label(name) == "linear discriminant"
  result = evaluate.run(
    method,
    helpers.tiny_variables(network),
    synthetic.make(6, 12, image_size_px=8, noise=0.1),
    ways=4,
    shots="range:1:4",  # so that there is padding
    queries=3,
    num_episodes=20,
    progress=False,
  )
  assert result.mean > 0.6  # chance is 0.25
  # The NumPy solution of one episode.
  task, _ = helpers.make_task()
  variables = helpers.tiny_variables(network)
  logits, _ = adapt.run.run(jax.random.key(0), method, variables, task)
  x, queries = (
    network.apply(variables, images, train=False)[0].features
    for images in (
      helpers.normalised(task).support_images,
      helpers.normalised(task).query_images,
    )
  )
  x, queries = (
    v / np.linalg.norm(v, axis=1, keepdims=True)
    for v in (np.asarray(x, float), np.asarray(queries, float))
  )
  means = np.stack([x[task.support_labels == k].mean(0) for k in range(3)])
  centred = x - means[task.support_labels]
  covariance = centred.T @ centred / len(x) + 0.1 * np.eye(x.shape[1])
  distances = [
    [(q - m) @ np.linalg.inv(covariance) @ (q - m) for m in means]
    for q in queries
  ]
  # Logits are -1/2 of the squared distances, but for a term of the query.
  found = np.asarray(logits) - np.asarray(logits).mean(1, keepdims=True)
  expected = -0.5 * np.asarray(distances)
  expected -= expected.mean(1, keepdims=True)
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_network(monkeypatch, tmp_path):
  import contributed_network

  entry = backbones.Network(
    contributed_network.PatchPerceptron, has_batch_stats=False
  )
  monkeypatch.setitem(backbones._NETWORKS, "patch_perceptron", entry)
  network = backbones.create(
    "patch_perceptron", num_classes=4, image_size_px=16, width=8
  )
  data = synthetic.make(4, 8, image_size_px=16)
  result = pretrain.run(
    network,
    data,
    pretrain.PretrainConfig(cycles=(1,), batch_size=16),
    run_dir=tmp_path,
    progress=False,
  )
  assert set(result.variables) == {"params"}
  adapter = adapt.create("transductive_finetune", network, epochs=1)
  assert adapter.query_use == "all jointly: entropy"
  task, _ = helpers.make_task(image_size_px=16)
  logits, infos = adapt.run.run(
    jax.random.key(0), adapter, result.variables, task
  )
  assert jnp.isfinite(logits).all()
  assert infos.is_finite.all()
