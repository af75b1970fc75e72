"""Whether two run folders hold the same episodes."""

import dataclasses
import json

import made_results
import numpy as np
import pytest
import stored_runs

from fsl_jax import report, types


def make_section(index, seed=0, ways=3, **protocol):
  """Accuracy and images are those of the index and the seed."""
  index = np.asarray(index)
  result = made_results.result(
    "support_init",
    index / 100,
    index=index,
    digests=np.asarray([f"{seed}/{i}" for i in index]),
    class_ids=np.tile(np.arange(ways), (len(index), 1)),
    protocol={"ways": 3, "shots": 1} | protocol,
    curves={"support_loss": np.zeros((len(index), 2))},
  )
  return {"support_init": result}


@pytest.fixture
def paths(tmp_path):
  """Two run folders with their configuration alone."""
  made = [tmp_path / "a", tmp_path / "b"]
  names = ("methods", "checkpoint", "backbone", "trained_on", "pretrain")
  for seed, folder in enumerate(made):
    config = {name: {} for name in names} | {"seed": seed}
    config["data"] = {"name": "icons", "split": "novel", "fingerprint": "f"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
  return made


def change(folder, *keys, value=None):
  """Gives an entry of the configuration another value, or removes it."""
  config = json.loads((folder / "config.json").read_text())
  *outer, last = keys
  inner = config
  for key in outer:
    inner = inner[key]
  inner[last] = value
  if value is None:
    del inner[last]
  (folder / "config.json").write_text(json.dumps(config))


def test_episodes_that_both_have(paths):
  # Of episodes of many sizes, the largest may be missing in the shorter run.
  pair = stored_runs.same_episodes(
    make_section(range(5)), make_section([1, 2, 3, 7], ways=4), paths
  )
  for section in pair:
    found = section["support_init"]
    np.testing.assert_array_equal(found.index, [1, 2, 3])
    np.testing.assert_array_equal(found.accuracy, [0.01, 0.02, 0.03])
    assert found.curves["support_loss"].shape == (3, 2)


def test_other_images_are_refused(paths):
  ours = make_section(range(5))
  with pytest.raises(types.InputError, match=r"seed 0 in .*a, 1 in .*b"):
    stored_runs.same_episodes(ours, make_section(range(5), seed=1), paths)
  digests = ours["support_init"].digests.copy()
  digests[3] = "?"
  other = dataclasses.replace(ours["support_init"], digests=digests)
  with pytest.raises(types.InputError, match="different episodes"):
    stored_runs.same_episodes(ours, {"support_init": other}, paths)
  with pytest.raises(types.InputError, match="share no episode"):
    stored_runs.same_episodes(ours, make_section([7, 8]), paths)


def test_sampled_or_from_a_file(paths):
  pair = stored_runs.same_episodes(
    make_section(range(5)), make_section(range(5), file="0123"), paths
  )
  assert "5 episodes" in report.comparison.terminal(
    report.comparison.compare([pair])
  )


def test_counterpart_is_that_of_the_same_episodes():
  sampled = make_section(range(5))
  others = [
    make_section(range(5), seed=1),
    make_section(range(5), file="0123"),
    make_section(range(5), shots=4),
  ]
  assert stored_runs.counterpart(sampled, others) is others[1]
  assert stored_runs.counterpart(sampled, others[:1]) is others[0]
  assert stored_runs.counterpart(sampled, others[2:]) is None


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
  change(paths[1], "data", name, value="other")
  with pytest.raises(types.InputError, match=f"{words} '.*' in .*'other' in"):
    stored_runs.check_configs(*paths)


def test_no_run_folder(paths, tmp_path):
  with pytest.raises(types.InputError, match="not a run folder"):
    stored_runs.check_configs(paths[0], tmp_path)
  change(paths[1], "trained_on")
  with pytest.raises(types.InputError, match="of another version"):
    stored_runs.check_configs(*paths)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(types.InputError, match="damaged"):
    stored_runs.check_configs(paths[0], tmp_path)
