"""The folder of a run: what is kept, what is refused, what survives a kill."""

import json
import os

import pytest

from fsl_jax import run_folder, types

CONFIG = {"method": {"name": "finetune", "steps": 25}, "ways": [5, 20]}


def make(path, config=CONFIG):
  return run_folder.RunFolder(path, config)


@pytest.fixture
def folder(tmp_path):
  return make(tmp_path / "a" / "run")


class TestConfig:
  def test_same_configuration_opens_again(self, folder):
    folder.append("episodes.jsonl", [{"index": 0}])
    again = make(folder.path)
    assert again.read("episodes.jsonl") == [{"index": 0}]
    starts = again.read_json("provenance.json")
    assert len(starts) == 2
    assert {"versions", "commit", "platform"} <= set(starts[0])
    assert starts[0]["versions"]["jax"]

  def test_tuples_are_lists_on_disk(self, folder):
    make(folder.path, CONFIG | {"ways": (5, 20)})

  def test_another_configuration_is_refused_by_name(self, folder):
    other = {"method": {"name": "finetune", "steps": 24}, "ways": [5, 20]}
    with pytest.raises(types.InputError) as raised:
      make(folder.path, other)
    message = str(raised.value)
    assert str(folder.path) in message
    assert "method.steps was 25, now 24" in message
    assert "\n" not in message
    # The old one is still there.
    assert folder.read_json("config.json") == CONFIG

  def test_missing_and_added_keys_are_changes(self, folder):
    fewer = {"method": CONFIG["method"]}
    with pytest.raises(types.InputError, match=r"ways was \[5, 20\]"):
      make(folder.path, fewer)
    with pytest.raises(types.InputError, match="seed was null, now 0"):
      make(folder.path, CONFIG | {"seed": 0})

  def test_refused_start_leaves_no_trace(self, folder):
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    with pytest.raises(types.InputError):
      make(folder.path, CONFIG | {"seed": 1})
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == before

  def test_records_without_configuration_are_refused(self, tmp_path):
    (tmp_path / "episodes.jsonl").write_text('{"index": 0}\n')
    with pytest.raises(types.InputError, match=r"no config\.json"):
      make(tmp_path)

  def test_killed_before_the_configuration_was_written(self, tmp_path):
    (tmp_path / "config.json.tmp").write_text('{"meth')
    assert make(tmp_path).read_json("config.json") == CONFIG

  def test_damaged_configuration_is_named(self, folder):
    (folder.path / "config.json").write_text('{"method": ')
    with pytest.raises(types.InputError, match=r"config\.json is damaged"):
      make(folder.path)

  def test_path_of_a_file_is_refused(self, tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(types.InputError, match="file"):
      make(path)


RECORDS = [{"index": 0, "a": 0.1 + 0.2}, {"index": 1, "a": None}]


class TestRecords:
  def test_round_trip(self, folder):
    folder.append("x.jsonl", RECORDS[:1])
    folder.append("x.jsonl", RECORDS[1:])
    # Floats come back to the last bit.
    assert folder.read("x.jsonl") == RECORDS

  def test_no_file_is_no_record(self, folder):
    assert folder.read("x.jsonl") == []

  @pytest.mark.parametrize("cut", [1, 5, 12])
  def test_line_cut_short_is_dropped_for_good(self, folder, cut):
    folder.append("x.jsonl", RECORDS)
    path = folder.path / "x.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert folder.read("x.jsonl") == RECORDS[:1]
    # What is added next starts a line of its own.
    folder.append("x.jsonl", RECORDS[1:])
    assert folder.read("x.jsonl") == RECORDS

  def test_nothing_but_a_cut_line(self, folder):
    (folder.path / "x.jsonl").write_bytes(b'{"index": 0, "a')
    assert folder.read("x.jsonl") == []
    assert (folder.path / "x.jsonl").read_bytes() == b""

  @pytest.mark.parametrize("middle", [b'{"index": \n', b"\xff\xfe\n", b"\n"])
  def test_other_damage_is_named(self, folder, middle):
    good = b'{"index": 0}\n'
    (folder.path / "x.jsonl").write_bytes(good + middle + good)
    with pytest.raises(types.InputError, match=r"line 2 of .*x\.jsonl"):
      folder.read("x.jsonl")

  def test_text_with_line_breaks_and_letters(self, folder):
    records = [{"name": "a\nb\r\u2028\x85c", "ü": "日本"}]
    folder.append("x.jsonl", records)
    assert folder.read("x.jsonl") == records

  def test_rewrite(self, folder):
    folder.append("x.jsonl", RECORDS)
    folder.rewrite("x.jsonl", RECORDS[1:])
    assert folder.read("x.jsonl") == RECORDS[1:]


class TestJson:
  def test_round_trip_and_absence(self, folder):
    folder.write_json("result.json", {"mean": 0.1, "n": 3})
    assert folder.read_json("result.json") == {"mean": 0.1, "n": 3}
    assert folder.read_json("other.json") is None

  def test_old_file_survives_a_kill(self, folder, monkeypatch):
    folder.write_json("result.json", {"n": 1})

    def killed(*_):
      raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
      folder.write_json("result.json", {"n": 2})
    assert folder.read_json("result.json") == {"n": 1}

  def test_value_that_is_no_json_leaves_the_old_file(self, folder):
    folder.write_json("result.json", {"n": 1})
    with pytest.raises(TypeError):
      folder.write_json("result.json", {"n": object()})
    assert folder.read_json("result.json") == {"n": 1}

  def test_files_are_strict_json(self, folder):
    """NaN is no JSON: other readers stumble over it."""

    def refuse(name):
      raise AssertionError(name)

    with pytest.raises(ValueError, match="JSON"):
      folder.write_json("result.json", {"mean": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
      folder.append("x.jsonl", [{"mean": float("inf")}])
    for path in folder.path.glob("*.json"):
      json.loads(path.read_text(), parse_constant=refuse)


def test_provenance_is_json():
  value = run_folder.provenance()
  assert json.loads(json.dumps(value)) == value
  assert value["versions"]["numpy"] != "not installed"
