"""Several devices give the numbers of one, without communication."""

import functools
import json
import re
import shutil
import sys

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import (
  adapt,
  augment,
  devices,
  dispatch,
  episode_records,
  episodes,
  evaluate,
  hardness,
  run_folder,
  types,
)
from fsl_jax.data import synthetic
from fsl_jax.episodes import feeder, source
from fsl_jax.pretrain import loop, progress, recipe

NUM_DEVICES = 4
# See batching_test.py: views are made in float32.
TOLERANCE = 1e-6
COLLECTIVE = re.compile(
  r"\b(all-reduce|all-gather|all-to-all|reduce-scatter|collective)[\w-]*\("
)


@functools.cache
def mesh():
  return devices.mesh()


class TestPlacement:
  def test_all_devices(self):
    assert mesh().size == NUM_DEVICES == jax.device_count()

  def test_a_process_alone_has_all_rows(self):
    assert devices.own_rows(mesh(), 8).tolist() == list(range(8))

  @pytest.mark.parametrize(
    ("spec", "part"),
    [
      (devices.SAME, (8, 4)),
      (devices.ROWS, (2, 4)),
      (devices.COLUMNS, (8, 1)),
    ],
    ids=str,
  )
  def test_placed_and_read_again(self, spec, part):
    tree = {"a": np.arange(32.0, dtype=np.float32).reshape(8, 4)}
    with jax.transfer_guard("disallow"):
      placed = devices.place(mesh(), spec, tree)
      whole = devices.gather(mesh(), placed)
      found = jax.device_get(whole)
    assert {s.data.shape for s in placed["a"].addressable_shards} == {part}
    assert {s.data.shape for s in whole["a"].addressable_shards} == {(8, 4)}
    np.testing.assert_array_equal(found["a"], tree["a"])

  def test_errors_of_the_first_process_are_its_own(self):
    done = []
    devices.on_first_process(lambda: done.append(1))
    assert done == [1]

    def full():
      raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
      devices.on_first_process(full)


# Methods whose programs differ in structure.
METHODS = {
  "prototype": ("prototype", {}),
  "support_init": ("support_init", {}),
  "finetune": ("finetune", {"micro_batch": 4}),
  "transductive": ("transductive_finetune", {}),
  "joint": ("transductive_finetune", {"updates": "joint", "bn": "frozen"}),
}
TUNED = {"epochs": 2, "learning_rate": 5e-3}
INDICES = np.array([11, 4, 0, 7, 3, 8, 2, 5], np.int32)


@functools.cache
def adapter(case):
  name, options = METHODS[case]
  if name not in ("prototype", "support_init"):
    options = TUNED | options
  return adapt.create(name, helpers.tiny_backbone(), **options)


@functools.cache
def tasks():
  made = [helpers.make_task(seed=seed)[0] for seed in range(len(INDICES))]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *made)


@functools.cache
def alone(case):
  """Results of the episodes one after the other, on one device."""
  program = adapt.batched.compile(adapter(case), chunk=1)
  variables = helpers.tiny_variables(helpers.tiny_backbone())
  return jax.device_get(program(jax.random.key(1), variables, tasks(), INDICES))


def assert_close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a.astype(float), b.astype(float), atol=TOLERANCE, rtol=0
    ),
    jax.device_get(ours),
    theirs,
  )


class TestBatches:
  @pytest.fixture(autouse=True)
  def _float64(self):
    with jax.enable_x64(True):
      yield

  @pytest.fixture
  def variables(self):
    return helpers.tiny_variables(helpers.tiny_backbone())

  @pytest.mark.parametrize(
    ("case", "chunk"), [*((case, 1) for case in METHODS), ("transductive", 2)]
  )
  def test_each_episode_is_as_if_alone(self, case, chunk, variables):
    """A gradient summed over devices would differ."""
    program = adapt.batched.compile(adapter(case), chunk=chunk, mesh=mesh())
    divided = devices.place(mesh(), devices.ROWS, (tasks(), INDICES))
    arguments = (jax.random.key(1), variables, *divided)
    compiled = program.lower(*arguments).compile()
    assert not COLLECTIVE.findall(compiled.as_text())
    assert_close(compiled(*arguments), alone(case))

  def test_plain_arrays_are_divided_too(self, variables):
    program = adapt.batched.compile(adapter("prototype"), chunk=2, mesh=mesh())
    found = program(jax.random.key(1), variables, tasks(), INDICES)
    assert found[0].sharding.spec == devices.ROWS
    assert_close(found, alone("prototype"))

  def test_collectives_would_be_found(self):
    summed = jax.jit(lambda x: x.sum())
    x = devices.place(mesh(), devices.ROWS, np.ones(8))
    assert COLLECTIVE.findall(summed.lower(x).compile().as_text())

  def test_batch_is_a_multiple_of_devices_and_chunk(self, variables):
    program = adapt.batched.compile(adapter("prototype"), chunk=4, mesh=mesh())
    with pytest.raises(
      types.InputError, match=r"8 episodes .* chunk of 4 on each of 4 devices"
    ):
      program(jax.random.key(1), variables, tasks(), INDICES)


PROTOCOL = {"ways": 3, "shots": 1, "queries": 2}


@functools.cache
def novel():
  return synthetic.make(8, 12, image_size_px=8, noise=0.3, split="novel")


@functools.cache
def weights():
  return helpers.tiny_variables(helpers.tiny_backbone())


def run(path=None, **options):
  options = {"num_episodes": 10, "batch_size": 1, "progress": False} | options
  return evaluate.run_many(
    [adapter("prototype"), adapter("transductive")],
    weights(),
    novel(),
    extractor=hardness.extractor(helpers.tiny_backbone()),
    folder=path and run_folder.RunFolder(path, {}),
    **(PROTOCOL | options),
  )


def assert_results_equal(ours, theirs):
  assert list(ours) == list(theirs)
  for name in ours:
    for field in ("index", "accuracy", "hardness", "predictions"):
      np.testing.assert_array_equal(
        getattr(ours[name], field), getattr(theirs[name], field)
      )
    jax.tree.map(
      np.testing.assert_array_equal,
      dict(ours[name].curves),
      dict(theirs[name].curves),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  path = tmp_path_factory.mktemp("whole")
  return path, run(path)


class TestEvaluation:
  def test_ten_episodes_on_four_devices(self, whole, monkeypatch):
    """Three batches of four, the last one half empty; and on one device."""
    path, results = whole
    lines = (path / episode_records.FILE).read_text().splitlines()
    assert [json.loads(line)["index"] for line in lines] == list(range(10))
    one = devices.mesh(jax.devices()[:1])
    monkeypatch.setattr(devices, "mesh", lambda: one)
    for name, expected in run().items():
      ours = results[name]
      np.testing.assert_array_equal(ours.predictions, expected.predictions)
      np.testing.assert_allclose(ours.hardness, expected.hardness, rtol=1e-5)
      np.testing.assert_allclose(
        ours.curves["support_loss"], expected.curves["support_loss"], rtol=1e-5
      )

  @pytest.mark.parametrize("kept", [2, 5, 9])
  def test_killed_and_resumed(self, whole, tmp_path, kept):
    path, results = whole
    shutil.copytree(path, tmp_path / "run")
    file = tmp_path / "run" / episode_records.FILE
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    assert_results_equal(run(tmp_path / "run"), results)
    assert file.read_bytes() == data

  def test_programs_are_shared_between_calls(self):
    """Equal shapes, whatever the number of episodes, compile once."""
    traced = []

    def init(*arguments):
      traced.append(arguments)
      return adapter("prototype").init(*arguments)

    method = adapter("prototype")._replace(init=init)
    first, other = (
      evaluate.run_many(
        [method],
        weights(),
        novel(),
        num_episodes=num_episodes,
        batch_size=4,
        seed=seed,
        progress=False,
        **PROTOCOL,
      )["prototype"]
      for seed, num_episodes in ((0, 3), (1, 6))
    )
    assert len(traced) == 1
    assert not np.array_equal(first.predictions, other.predictions[:3])

  def test_the_next_batch_is_dispatched_before_one_is_awaited(
    self, monkeypatch
  ):
    events = []
    call = dispatch.Dispatcher.__call__

    def dispatched(self, batch):
      events.append(f"dispatch {batch.episodes.index[0]}")
      return call(self, batch)

    monkeypatch.setattr(dispatch.Dispatcher, "__call__", dispatched)
    dispatcher = dispatch.Dispatcher(
      {
        "prototype": adapt.batched.compile(
          adapter("prototype"), mesh=mesh(), diagnose=True
        )
      },
      weights(),
      seed=0,
      mesh=mesh(),
    )
    drawn = source.Drawn(novel(), episodes.Protocol(**PROTOCOL), 0)
    batches = feeder.batches(drawn, feeder.requests(drawn, 10, 4), batch_size=4)
    for results in dispatcher.stream(batches):
      assert isinstance(results.indices, np.ndarray)
      events.append(f"read {results.indices[0]}")
    assert events == [
      "dispatch 0",
      "dispatch 4",
      "read 0",
      "dispatch 8",
      "read 4",
      "read 8",
    ]


BATCH = 8
STEPS = 4


def train(over, rows_of, group=0):
  """State and infos after a few steps from float64 weights."""
  data = synthetic.make(4, 16, image_size_px=8, noise=0.3)
  made = recipe.make(
    helpers.tiny_backbone(4),
    recipe.PretrainConfig(
      cycles=(1,), batch_size=BATCH, batch_norm_group=group
    ),
    num_images=len(data.class_ids),
    mesh=over,
  )
  state = jax.jit(made.init)(jax.random.key(0), data.images[:1])
  state = jax.tree.map(
    lambda x: x.astype(float) if x.dtype == np.float32 else x, state
  )
  state = devices.place(over, devices.SAME, state)
  step = jax.jit(made.steps, out_shardings=devices.sharding(over, devices.SAME))
  rows = np.random.default_rng(0).permutation(64)[: STEPS * BATCH]
  rows = rows.astype(np.int32).reshape(STEPS, BATCH)
  infos = []
  for inputs in rows_of(over, data, rows):
    state, info = step(state, *inputs)
    infos.append(info)
  joined = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(infos))
  return jax.device_get(state), joined


def resident(over, data, rows):
  pictures = devices.place(over, devices.SAME, (data.images, data.class_ids))
  yield *pictures, devices.place(over, devices.COLUMNS, rows)


def streamed(over, data, rows):
  here = np.arange(BATCH, dtype=np.int32)[None]
  for batch in rows:
    picked = (data.images[batch], data.class_ids[batch])
    yield (
      *devices.place(over, devices.ROWS, picked),
      devices.place(over, devices.COLUMNS, here),
    )


class TestTraining:
  @pytest.mark.parametrize("group", [0, 2], ids=["whole", "of a device each"])
  def test_four_devices_train_as_one(self, group):
    """Mixup and loss are those of the whole batch; statistics as asked for."""
    with jax.enable_x64(True):
      one = devices.mesh(jax.devices()[:1])
      expected, expected_infos = train(one, resident, group)
      for rows_of in (resident, streamed):
        state, infos = train(mesh(), rows_of, group)
        # Sums over a batch in another order, no more.
        for a, b in zip(
          jax.tree.leaves((state, infos)),
          jax.tree.leaves((expected, expected_infos)),
          strict=True,
        ):
          np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    assert np.unique(infos.loss).size == STEPS

  def test_batch_is_a_multiple_of_the_devices(self, tmp_path):
    config = recipe.PretrainConfig(cycles=(1,), batch_size=6)
    data = synthetic.make(4, 16, image_size_px=8)
    with pytest.raises(types.InputError, match="6 is not a multiple"):
      loop.run(helpers.tiny_backbone(4), data, config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class TestSaveTimes:
  def saves(self, every_s, steps, seconds_of):
    """Steps after which it is time, and how often the clock was asked."""
    now, asked = [0.0], [0]

    def clock():
      asked[0] += 1
      return now[0]

    times = progress.SaveTimes(every_s, clock)
    found = []
    for step in range(1, steps + 1):
      now[0] += seconds_of(step)
      if times.due():
        times.saved()
        found.append(step)
    return found, asked[0]

  def test_every_step(self):
    assert self.saves(0, 4, lambda step: 1.0)[0] == [1, 2, 3, 4]

  def test_steady_steps(self):
    found, asked = self.saves(100, 1000, lambda step: 0.5)
    assert found == [200, 400, 600, 800, 1000]
    assert asked < 75

  def test_a_slow_first_step_and_others_that_slow_down(self):
    first = self.saves(100, 100, lambda step: 50.0 if step == 1 else 1.0)[0]
    assert 50 <= first[0] <= 52
    slower = self.saves(100, 300, lambda step: 0.5 if step < 90 else 5.0)[0]
    assert 90 <= slower[0] <= 180


@pytest.mark.parametrize(
  ("is_terminal", "enabled", "is_shown"),
  [(True, True, True), (False, True, False), (True, False, False)],
)
def test_bars_are_for_terminals(
  capsys, monkeypatch, is_terminal, enabled, is_shown
):
  monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
  items = devices.bar(range(3), desc="things", enabled=enabled)
  assert list(items) == [0, 1, 2]
  assert ("things" in capsys.readouterr().err) == is_shown


def test_views_know_no_device():
  """The position in the batch makes a view, wherever it is made."""
  images = novel().images[:8]
  key = jax.random.key(0)
  expected = augment.random_views(key, jnp.asarray(images))
  divided = devices.place(mesh(), devices.ROWS, images)
  found = jax.jit(augment.random_views)(key, divided)
  np.testing.assert_allclose(found, expected, atol=1e-6)
