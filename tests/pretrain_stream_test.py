"""Training on images that stay on disk is training on those in memory."""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import NamedTuple

import helpers
import jax
import numpy as np
import pytest
import tiny_source

import fsl_jax as fsl
from fsl_jax import devices, types
from fsl_jax.data import streamed
from fsl_jax.pretrain import feed, loop, order, recipe

_COUNTS = {"base": {"a": 12, "b": 9, "c": 14}, "novel": {"d": 1, "e": 1}}
_BATCH = 4
_STEPS = 8  # of an epoch: 35 images, of which three are left over
_EPOCHS = 3


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("pretrain_stream")
  source = tiny_source.write(folder / "source", _COUNTS, (16, 16))
  fsl.data.prepare(
    "image_folder/noise",
    source=source,
    data_dir=folder / "data",
    options={"size_px": 16},
  )
  return folder / "data"


def _load(data_dir: pathlib.Path, in_memory: bool) -> types.ClassIndexed:
  return fsl.data.load(
    "image_folder/noise", "base", data_dir=data_dir, in_memory=in_memory
  )


_START = """
import os, signal, sys
tests, data_dir, *arguments = sys.argv[1:]
sys.path.insert(0, tests)
import jax
# As in conftest.py: another number of devices rounds otherwise.
jax.config.update("jax_num_cpu_devices", 4)
import pretrain_stream_test
from fsl_jax.data import parallel
from fsl_jax.pretrain import loop
"""
_BOTH = """
for run_dir, in_memory in zip(arguments, (True, False)):
  pretrain_stream_test.train(data_dir, run_dir, in_memory=in_memory)
"""
_KILLED = """
run_dir, saves = arguments
parallel.num_workers = lambda n: 0
# Killed right after so many checkpoints within epochs.
save, count = loop._save_last, 0
def save_last(folder, state, done):
  global count
  save(folder, state, done)
  count += done.tally.num_steps > 0
  if count == int(saves):
    os.kill(os.getpid(), signal.SIGKILL)
loop._save_last = save_last
pretrain_stream_test.train(
  data_dir, run_dir, in_memory=False, checkpoint_every_s=0
)
"""


def train(
  data_dir: pathlib.Path,
  run_dir: pathlib.Path,
  *,
  in_memory: bool,
  **options: float,
) -> fsl.pretrain.PretrainResult:
  """The run of these tests."""
  return fsl.pretrain.run(
    helpers.tiny_backbone(3),
    _load(data_dir, in_memory),
    recipe.PretrainConfig(cycles=(1, _EPOCHS - 1), batch_size=_BATCH),
    run_dir=run_dir,
    progress=False,
    **options,
  )


def _log(folder: pathlib.Path) -> list[dict]:
  lines = (folder / "epochs.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  for record in records:
    del record["images_per_s"], record["sha256"]  # It covers the speed.
  return records


def _last(folder: pathlib.Path) -> list[np.ndarray]:
  """Weights, statistics and optimiser at the end."""
  state, _ = fsl.checkpoint.restore(folder / "checkpoints/last")
  return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def _assert_same_end(one: pathlib.Path, other: pathlib.Path) -> None:
  ours, theirs = _last(one), _last(other)
  assert len(ours) == len(theirs) > 10
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(a, b)
  assert _log(one) == _log(other)
  best = [fsl.checkpoint.restore(f / "checkpoints/best") for f in (one, other)]
  assert best[0][1]["digest"] == best[1][1]["digest"]


def _process(
  code: str, flags: str, *arguments: str | pathlib.Path
) -> subprocess.CompletedProcess[str]:
  tests = pathlib.Path(__file__).parent
  return subprocess.run(
    [sys.executable, "-c", _START + code, tests, *arguments],
    env={**os.environ, "XLA_FLAGS": flags},
    capture_output=True,
    text=True,
  )


class Runs(NamedTuple):
  folders: dict[bool, pathlib.Path]  # by in_memory
  programs: dict[bool, int]  # traced for the steps


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory) -> Runs:
  """The same run from memory and from disk, uninterrupted."""
  found = Runs({}, {})
  steps = recipe.Recipe.steps
  for in_memory in (True, False):
    folder = tmp_path_factory.mktemp("run")
    traced = []

    def counted(*inputs, traced=traced):
      traced.append(inputs)
      return steps(*inputs)

    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(recipe.Recipe, "steps", counted)
      train(data_dir, folder, in_memory=in_memory)
    found.folders[in_memory] = folder
    found.programs[in_memory] = len(traced)
  return found


class TestRuns:
  def test_the_same_weights_and_log_from_memory_and_from_disk(
    self, data_dir, tmp_path
  ):
    # Bit by bit: the step is the same program, but for the loop around it. So
    # it is compiled as XLA does by default.
    folders = [tmp_path / "memory", tmp_path / "disk"]
    done = _process(_BOTH, helpers.UNOPTIMISED, data_dir, *folders)
    assert done.returncode == 0, done.stderr
    _assert_same_end(*folders)
    log = _log(folders[1])
    assert [record["epoch"] for record in log] == [1, 2, 3]
    assert len({record["loss"] for record in log}) == 3

  def test_one_program_serves_all_steps(self, runs):
    assert runs.programs == {True: 1, False: 1}

  def test_a_run_killed_within_an_epoch_ends_the_same(
    self, runs, data_dir, tmp_path
  ):
    saves = _STEPS + 1  # within the second epoch
    folder = tmp_path / "run"
    killed = _process(
      _KILLED, helpers.QUICKLY_COMPILED, data_dir, folder, str(saves)
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # The last step of an epoch is followed by the epoch's own checkpoint.
    epochs, inside = divmod(saves, _STEPS - 1)
    assert len(_log(folder)) == epochs
    _, meta = fsl.checkpoint.restore(folder / "checkpoints/last")
    assert (meta["epoch"], meta["tally"]["num_steps"]) == (epochs, inside)

    train(data_dir, folder, in_memory=False)
    _assert_same_end(folder, runs.folders[False])

  def test_checkpoints_within_an_epoch_come_by_time(
    self, runs, data_dir, tmp_path, monkeypatch
  ):
    """Interrupted while one is due at every step; no worker processes."""
    monkeypatch.setattr(streamed.parallel, "num_workers", lambda n: 0)
    saved = []
    save = loop._save_last

    def save_last(folder, state, done):
      save(folder, state, done)
      saved.append(done.tally.num_steps)
      if len(saved) == 3:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save_last", save_last)
    with pytest.raises(KeyboardInterrupt):
      train(data_dir, tmp_path, in_memory=False, checkpoint_every_s=0)
    assert saved == [1, 2, 3]
    assert _log(tmp_path) == []
    train(data_dir, tmp_path, in_memory=False)
    # The third of the first epoch, and one after each whole epoch.
    assert saved == [1, 2, 3, 0, 0, 0]
    _assert_same_end(tmp_path, runs.folders[False])


def one_device() -> jax.sharding.Mesh:
  """Batches of any size."""
  return devices.mesh(jax.devices()[:1])


class TestFeed:
  def test_array_or_disk(self, data_dir):
    assert isinstance(
      feed.of(_load(data_dir, True), one_device()), feed.Resident
    )
    assert isinstance(
      feed.of(_load(data_dir, False), one_device()), feed.Streamed
    )

  @pytest.fixture(autouse=True)
  def _here(self, monkeypatch):
    """No worker processes: four images are decoded at once."""
    monkeypatch.setattr(streamed.parallel, "num_workers", lambda n: 0)

  def _images(self, spans) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for span in spans:
      images.append(np.asarray(span.images)[span.rows])
      labels.append(np.asarray(span.labels)[span.rows])
    return np.concatenate(images), np.concatenate(labels)

  def test_both_give_the_same_batches(self, data_dir):
    rows = order.of_epoch(0, 0, num_images=35, batch_size=_BATCH)
    found = [
      self._images(
        feed.of(_load(data_dir, in_memory), one_device()).spans(rows)
      )
      for in_memory in (True, False)
    ]
    assert found[0][0].shape == (_STEPS, _BATCH, 16, 16, 3)
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])

  @pytest.mark.parametrize("in_memory", [True, False])
  @pytest.mark.parametrize("batch_size", [1, 4, 35, 50])
  def test_every_image_is_validated_once(self, data_dir, in_memory, batch_size):
    dataset = _load(data_dir, in_memory)
    seen = []
    for span, real in feed.of(dataset, one_device()).validation(batch_size):
      assert real.shape == span.rows.shape
      assert span.rows.shape[1] == batch_size
      chosen = np.asarray(span.images)[span.rows][real]
      seen += [image.tobytes() for image in chosen]
    expected = [image.tobytes() for image in _load(data_dir, True).images]
    assert seen == expected

  def test_of_many_images_some_are_validated(self, data_dir, monkeypatch):
    monkeypatch.setattr(feed, "_MAX_VALIDATED", 8)
    dataset = _load(data_dir, False)
    row_of = {
      image.tobytes(): row
      for row, image in enumerate(_load(data_dir, True).images)
    }
    seen, total = [], 0
    for span, real in feed.of(dataset, one_device()).validation(3):
      chosen = np.asarray(span.images)[span.rows][real]
      seen += [row_of[image.tobytes()] for image in chosen]
      total += int(real.sum())
    # Evenly spaced, the ends included: every class is among them.
    assert seen == [0, 4, 9, 14, 19, 24, 29, 34]
    assert total == 8
    assert set(dataset.class_ids[seen]) == {0, 1, 2}

  def test_resident_validates_all(self, data_dir, monkeypatch):
    monkeypatch.setattr(feed, "_MAX_VALIDATED", 8)
    spans = feed.of(_load(data_dir, True), one_device()).validation(4)
    assert sum(int(real.sum()) for _, real in spans) == 35
