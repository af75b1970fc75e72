"""Records of a run folder, read back without the run that wrote them."""

import json

import numpy as np
import pytest

from fsl_jax import episode_records, run_folder, types

METHOD = {
  "query_use": "none",
  "accuracy": 0.5,
  "is_finite": True,
  "predictions": [0, 1],
  "initial_predictions": [1, 1],
  "support_accuracy": 1.0,
  **{key: [0.5] for key in episode_records.CURVES},
}


def record(index, protocol="a", **changes):
  return {
    "protocol": {"name": protocol},
    "name": "2-way 1-shot",
    "text": "1 query a class",
    "index": index,
    "digest": f"{index:x}",
    "class_ids": [4, 2],
    "labels": [0, 1],
    "hardness": None,
    "methods": {"m": METHOD | {"accuracy": index / 10}},
  } | changes


def write(folder, records, end="\n"):
  (folder / "config.json").write_text("{}")  # of an earlier version: no digests
  text = "\n".join(map(json.dumps, records)) + end
  (folder / episode_records.FILE).write_text(text)


def test_by_protocol_and_in_order(tmp_path):
  write(tmp_path, [record(1), record(0, "b"), record(0), record(2)])
  first, second = episode_records.load(tmp_path)
  np.testing.assert_array_equal(first["m"].index, [0, 1, 2])
  np.testing.assert_array_equal(first["m"].accuracy, [0.0, 0.1, 0.2])
  np.testing.assert_array_equal(first["m"].digests, ["0", "1", "2"])
  assert first["m"].protocol == {"name": "a"}
  assert second["m"].num_episodes == 1


def test_a_gap_ends_them(tmp_path):
  """Where sizes differ, batches of one size come before those of others."""
  write(tmp_path, [record(0), record(3), record(1)])
  (section,) = episode_records.load(tmp_path)
  np.testing.assert_array_equal(section["m"].index, [0, 1])
  write(tmp_path, [record(1)])
  with pytest.raises(types.InputError, match="not hold the first episode"):
    episode_records.load(tmp_path)


@pytest.mark.parametrize("end", ['\n{"protocol": {"na', "\n" * 1])
def test_a_line_that_is_being_written_is_left_out(tmp_path, end):
  write(tmp_path, [record(0), record(1)], end)
  before = (tmp_path / episode_records.FILE).read_bytes()
  (section,) = episode_records.load(tmp_path)
  assert section["m"].num_episodes == 2
  assert (tmp_path / episode_records.FILE).read_bytes() == before


@pytest.mark.parametrize(
  "line",
  [
    "5",
    "{",
    json.dumps({k: v for k, v in record(0).items() if k != "digest"}),
    json.dumps(record(0, methods={"m": {"query_use": "none"}})),
    json.dumps(record(0, methods=[])),
    json.dumps(record(0, labels=None)),
    json.dumps(record(0) | {"index": []}),
  ],
)
def test_damage_is_named(tmp_path, line):
  write(tmp_path, [])
  (tmp_path / episode_records.FILE).write_text(line + "\n")
  with pytest.raises(types.InputError, match="damaged"):
    episode_records.load(tmp_path)


def test_lost_episodes_are_missed(tmp_path):
  folder = run_folder.RunFolder(tmp_path, {})
  for protocol, number in (("a", 2), ("b", 1)):
    folder.append(
      episode_records.FILE, [record(i, protocol) for i in range(number)]
    )
    episode_records.finish(folder, {"name": protocol}, number)
  folder.append(episode_records.FILE, [record(2)])  # of a run that goes on
  sections = episode_records.load(tmp_path)
  assert [section["m"].num_episodes for section in sections] == [3, 1]
  path = tmp_path / episode_records.FILE
  whole = path.read_bytes()
  lines = whole.splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:3]))
  assert episode_records.load(tmp_path)[0]["m"].num_episodes == 2
  for lost, count in (
    (lines[:2], r"0 of 1 finished episodes of .*\"b\""),
    (lines[1:], r"0 of 2 finished episodes of .*\"a\""),
    ([lines[0], lines[0], *lines[2:]], "1 of 2"),
    ([], "0 of"),
  ):
    path.write_bytes(b"".join(lost))
    with pytest.raises(types.InputError, match=count):
      episode_records.load(tmp_path)
  # Fewer episodes asked for later do not lower the number.
  path.write_bytes(whole)
  episode_records.finish(folder, {"name": "a"}, 1)
  path.write_bytes(b"".join([lines[0], *lines[2:]]))
  with pytest.raises(types.InputError, match="1 of 2"):
    episode_records.load(tmp_path)


def test_no_episodes(tmp_path):
  with pytest.raises(types.InputError, match="not a run folder"):
    episode_records.load(tmp_path)
  (tmp_path / episode_records.FILE).write_text("")
  write(tmp_path, [], "")
  with pytest.raises(types.InputError, match="holds no episode"):
    episode_records.load(tmp_path)
