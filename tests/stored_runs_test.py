"""Whether the episodes of two run folders are the same pictures."""

import dataclasses
import json

import numpy as np
import pytest
import stored_runs

from fsl_jax import report, types


def make_result(index, seed=0, ways=3, protocol=None):
  """Accuracy is that of the index, whatever else is asked for."""
  index = np.asarray(index)
  return types.EvalResult(
    method="support_init",
    query_use="none",
    protocol={"ways": 3, "shots": 1, **(protocol or {})},
    protocol_name="3-way 1-shot",
    protocol_text="2 queries a class",
    index=index,
    digests=np.asarray([f"{seed}/{i}" for i in index]),
    class_ids=np.tile(np.arange(ways), (len(index), 1)),
    labels=np.zeros((len(index), 6), int),
    accuracy=index / 100,
    hardness=np.full(len(index), np.nan),
    predictions=np.zeros((len(index), 6), int),
    initial_predictions=np.zeros((len(index), 6), int),
    support_accuracy=np.ones(len(index)),
    curves={"support_loss": np.zeros((len(index), 2))},
  )


@pytest.fixture
def paths(tmp_path):
  """Two run folders with their configuration alone."""
  made = []
  for name, seed in (("a", 0), ("b", 1)):
    config = {
      "seed": seed,
      "data": {"name": "icons", "split": "novel", "fingerprint": "f"},
      "methods": {},
      "checkpoint": {},
      "backbone": {},
      "trained_on": {},
      "pretrain": {},
    }
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps(config))
    made.append(tmp_path / name)
  return made


def same(paths, *results):
  return stored_runs.same_episodes(
    *({"support_init": result} for result in results), paths
  )


def test_those_that_both_have(paths):
  # Of episodes of many sizes, the largest may be missing in the shorter run.
  a, b = same(paths, make_result(range(5)), make_result([1, 2, 3, 7], ways=4))
  for section in (a, b):
    found = section["support_init"]
    np.testing.assert_array_equal(found.index, [1, 2, 3])
    np.testing.assert_array_equal(found.accuracy, [0.01, 0.02, 0.03])
    assert found.curves["support_loss"].shape == (3, 2)
  assert "3 episodes" in report.comparison.terminal(
    report.comparison.compare([(a, b)])
  )


def test_other_pictures_are_refused(paths):
  with pytest.raises(types.InputError, match=r"seed 0 in .*a, 1 in .*b"):
    same(paths, make_result(range(5)), make_result(range(5), seed=1))
  other = make_result(range(5))
  digests = other.digests.copy()
  digests[3] = "?"
  with pytest.raises(types.InputError, match="different episodes"):
    same(
      paths,
      make_result(range(5)),
      dataclasses.replace(other, digests=digests),
    )


def test_no_episode_in_common(paths):
  with pytest.raises(types.InputError, match="share no episode"):
    same(paths, make_result([0, 1]), make_result([2, 3]))


def test_drawn_or_from_a_file(paths):
  pair = same(
    paths,
    make_result(range(5)),
    make_result(range(5), protocol={"file": "0123"}),
  )
  assert "5 episodes" in report.comparison.terminal(
    report.comparison.compare([pair])
  )


def test_counterpart_is_that_of_the_same_episodes():
  drawn = {"support_init": make_result(range(5))}
  file = {"file": "0123"}
  others = [
    {"support_init": make_result(range(5), seed=1)},
    {"support_init": make_result(range(5), protocol=file)},
    {"support_init": make_result(range(5), protocol={"ways": 4})},
  ]
  assert stored_runs.counterpart(drawn, others) is others[1]
  assert stored_runs.counterpart(drawn, others[:1]) is others[0]
  assert stored_runs.counterpart(drawn, others[2:]) is None


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("name", "data set"),
    ("split", "split"),
    ("fingerprint", "data fingerprint"),
  ],
)
def test_other_data_is_refused(paths, name, words):
  stored_runs.check_configs(*paths)
  config = json.loads((paths[1] / "config.json").read_text())
  config["data"][name] = "other"
  (paths[1] / "config.json").write_text(json.dumps(config))
  with pytest.raises(types.InputError, match=f"{words} '.*' in .*'other' in"):
    stored_runs.check_configs(*paths)


def test_no_run_folder(paths, tmp_path):
  with pytest.raises(types.InputError, match="no run folder"):
    stored_runs.check_configs(paths[0], tmp_path)
  config = json.loads((paths[1] / "config.json").read_text())
  del config["trained_on"]
  (paths[1] / "config.json").write_text(json.dumps(config))
  with pytest.raises(types.InputError, match="of another version"):
    stored_runs.check_configs(*paths)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(types.InputError, match="damaged"):
    stored_runs.check_configs(paths[0], tmp_path)
