"""Accuracies, intervals, resuming, and that only the images are used."""

import functools
import json
import shutil

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from fsl_jax import (
  adapt,
  backbones,
  episode_records,
  episodes,
  evaluate,
  hardness,
  run_folder,
  types,
)
from fsl_jax.data import synthetic

PROTOCOL = {"ways": 3, "shots": 1, "queries": 2}


@functools.cache
def easy():
  return synthetic.make(
    8, 12, image_size_px=8, noise=0.15, seed=1, split="novel"
  )


@functools.cache
def pure_noise():
  # Patterns are drowned: each value is black or white at random.
  return synthetic.make(8, 30, image_size_px=8, noise=500, split="novel")


@functools.cache
def prototype():
  return adapt.create("prototype", helpers.tiny_backbone())


@functools.cache
def tuned(**options):
  options = {"epochs": 2, "learning_rate": 5e-3} | options
  return adapt.create(
    "transductive_finetune", helpers.tiny_backbone(), **options
  )


@functools.cache
def variables():
  return helpers.tiny_variables(helpers.tiny_backbone())


@functools.cache
def fitted():
  """Random weights, with running statistics that fit to the images."""
  result = variables()
  images = helpers.normalised(
    helpers.make_task((5,) * 6, 6, noise=0.15)[0]
  ).support_images
  move = jax.jit(functools.partial(helpers.tiny_backbone().apply, train=True))
  for _ in range(50):  # 0.9^50 of the old ones are left
    result = result | move(result, images)[1]
  return result


@functools.cache
def extractor():
  return hardness.extractor(helpers.tiny_backbone())


def run(adapters, dataset=None, weights=None, **options):
  options = PROTOCOL | {"num_episodes": 7, "batch_size": 4} | options
  return evaluate.run_many(
    adapters,
    weights or variables(),
    dataset or easy(),
    progress=False,
    **options,
  )


def assert_results_equal(ours, theirs):
  assert ours.method == theirs.method
  assert ours.protocol == theirs.protocol
  for name in ("index", "accuracy", "hardness", "predictions"):
    np.testing.assert_array_equal(
      getattr(ours, name), getattr(theirs, name), err_msg=name
    )
  jax.tree.map(
    np.testing.assert_array_equal, dict(ours.curves), dict(theirs.curves)
  )


def result(accuracy):
  accuracy = np.asarray(accuracy, np.float64)
  n = len(accuracy)
  return types.EvalResult(
    method="m",
    query_use="none",
    protocol=PROTOCOL,
    protocol_name="3-way 1-shot",
    protocol_text="2 queries a class",
    index=np.arange(n),
    digests=np.arange(n).astype(str),
    class_ids=np.tile(np.arange(3), (n, 1)),
    labels=np.tile(np.repeat(np.arange(3), 2), (n, 1)),
    accuracy=accuracy,
    hardness=np.full(n, np.nan),
    predictions=np.zeros((n, 6), np.int64),
    initial_predictions=np.zeros((n, 6), np.int64),
    support_accuracy=np.ones(n),
    curves={},
  )


class TestStatistics:
  def test_by_hand(self):
    # Deviations 0.3, 0.1, 0.1, 0.3: variance 0.05 with n, not n - 1, below.
    numbers = result([0.2, 0.4, 0.6, 0.8])
    assert numbers.mean == pytest.approx(0.5)
    assert numbers.std == pytest.approx(np.sqrt(0.05))
    assert numbers.ci95 == pytest.approx(1.96 * np.sqrt(0.05) / 2)
    assert numbers.num_episodes == 4
    assert numbers.num_non_finite == 0

  def test_published_interval(self):
    # 0.68 over 1,000 episodes is the interval of a standard deviation of 11.
    rng = np.random.default_rng(0)
    values = rng.normal(size=1000)
    values = 0.5 + 0.11 * (values - values.mean()) / values.std()
    assert result(values).ci95 == pytest.approx(0.0068, abs=5e-5)

  def test_non_finite_episodes_are_counted_and_left_out(self):
    numbers = result([0.2, np.nan, 0.4, 0.6, np.nan, 0.8])
    assert numbers.num_non_finite == 2
    assert numbers.num_episodes == 6
    assert numbers.mean == pytest.approx(0.5)
    assert numbers.ci95 == pytest.approx(1.96 * np.sqrt(0.05) / 2)

  def test_nothing_finite_is_no_number(self):
    numbers = result([np.nan, np.nan])
    assert numbers.num_non_finite == 2
    assert np.isnan([numbers.mean, numbers.std, numbers.ci95]).all()

  def test_a_single_episode_has_no_interval(self):
    # A width of 0 would claim certainty.
    assert not result([0.4]).ci95 < 0.1


# --- methods made for the test, as a user would make them -------------------


def handmade(name, predict, step=None):
  def init(key, variables, task):
    del key, variables
    return task.support_images[:1].astype(jnp.float32).mean()

  return types.Adapter(
    init, step or (lambda state, task: None), predict, int(step is not None),
    name, "none",
  )  # fmt: skip


def first_way(name="first_way"):
  def predict(state, task):
    del state
    ways = jnp.arange(task.num_ways, dtype=jnp.float32)
    return jnp.tile(-ways[None], (task.query_images.shape[0], 1))

  return handmade(name, predict)


def sometimes_nan():
  """Logits that are NaN for about half of the episodes, of one query."""

  def predict(state, task):
    logits = jnp.zeros((task.query_images.shape[0], task.num_ways))
    return logits.at[1, 2].set(jnp.where(state > 127.5, jnp.nan, 0.0))

  return handmade("sometimes_nan", predict)


def sometimes_diverged():
  """Finite logits after a step that reports divergence."""

  def step(state, task):
    del task
    zero = jnp.zeros(())
    return state, types.AdaptInfo(zero, zero, zero, state <= 127.5)

  def predict(state, task):
    del state
    return jnp.zeros((task.query_images.shape[0], task.num_ways))

  return handmade("sometimes_diverged", predict, step)


class TestScores:
  def test_constant_answer_scores_one_in_n(self):
    scored = run([first_way()])["first_way"]
    np.testing.assert_array_equal(scored.accuracy, np.full(7, 1 / 3))
    np.testing.assert_array_equal(scored.predictions, np.zeros((7, 6)))
    assert scored.index.tolist() == list(range(7))
    assert scored.accuracy.dtype == np.float64
    assert scored.protocol == PROTOCOL

  def test_accuracy_is_of_the_sampled_labels(self):
    scored = run([prototype()])["prototype"]
    for i in range(7):
      episode = episodes.sample(easy(), seed=0, index=i, **PROTOCOL)
      hits = scored.predictions[i] == episode.query_labels
      assert scored.accuracy[i] == hits.mean()

  def test_prediction_is_of_run(self):
    """Evaluate adds nothing to what one episode gives alone."""
    adapter = prototype()
    scored = run([adapter], seed=4)["prototype"]
    alone = jax.jit(
      lambda key, variables, task: adapt.run.run(key, adapter, variables, task)
    )
    for i in range(7):
      episode = episodes.sample(easy(), seed=4, index=i, **PROTOCOL)
      key = jax.random.fold_in(jax.random.key(4), i)
      logits, _ = alone(key, variables(), episode.task)
      np.testing.assert_array_equal(scored.predictions[i], logits.argmax(-1))

  def test_non_finite_episodes(self, tmp_path):
    folder = run_folder.RunFolder(tmp_path, {})
    names = ["sometimes_nan", "sometimes_diverged", "first_way"]
    results = run(
      [sometimes_nan(), sometimes_diverged(), first_way()],
      folder=folder,
      num_episodes=20,
    )
    spoilt = np.isnan(results["sometimes_nan"].accuracy)
    assert 0 < spoilt.sum() < 20
    assert results["sometimes_nan"].num_non_finite == spoilt.sum()
    np.testing.assert_array_equal(
      np.isnan(results["sometimes_diverged"].accuracy), spoilt
    )
    assert np.isfinite(results["first_way"].accuracy).all()
    lines = (tmp_path / episode_records.FILE).read_text().splitlines()
    assert "NaN" not in "".join(lines)
    for line, bad in zip(lines, spoilt, strict=True):
      methods = json.loads(line)["methods"]
      for name in names[:2]:
        assert methods[name]["is_finite"] == (not bad)
        assert (methods[name]["accuracy"] is None) == bad
    # A resumed run finds them again, as NaN.
    again = run([sometimes_nan()], folder=folder, num_episodes=20)
    assert_results_equal(again["sometimes_nan"], results["sometimes_nan"])

  def test_impossible_classes_are_an_answer(self):
    def predict(state, task):
      del state
      logits = jnp.full((task.query_images.shape[0], task.num_ways), -jnp.inf)
      return logits.at[:, 1].set(0)

    scored = run([handmade("one_hot", predict)])["one_hot"]
    np.testing.assert_array_equal(scored.accuracy, np.full(7, 1 / 3))

  def test_learns_what_there_is_and_nothing_else(self):
    """Far above chance on easy images, at chance on noise: no leak."""
    methods = [
      prototype(),
      tuned(augment=False, epochs=5, learning_rate=1e-4),
    ]
    options = {
      "ways": 5,
      "shots": 5,
      "queries": 5,
      "num_episodes": 60,
      "batch_size": 20,
      "weights": fitted(),
    }
    seen = run(methods, synthetic.make(8, 12, image_size_px=8), **options)
    blind = run(methods, pure_noise(), **options)
    for name, scored in seen.items():
      assert scored.mean > 0.6, name
    for name, scored in blind.items():
      # Chance is 0.2; five standard errors of the mean of 60 episodes.
      assert abs(scored.mean - 0.2) < 5 * scored.ci95 / 1.96, name
      assert scored.ci95 < 0.03, name


class TestBatches:
  @pytest.mark.parametrize(
    "options",
    [
      {"batch_size": 1},
      {"batch_size": 3},
      {"batch_size": 50},
      {"num_episodes": 5},
      {"num_episodes": 9},
      # The batch is rounded up to the chunk.
      {"chunk": 2},
      {"chunk": 8},
    ],
    ids=str,
  )
  def test_batches_change_nothing(self, options):
    expected = run([prototype()])["prototype"]
    scored = run([prototype()], **options)["prototype"]
    assert scored.num_episodes == options.get("num_episodes", 7)
    both = slice(min(scored.num_episodes, 7))
    for name in ("accuracy", "predictions"):
      np.testing.assert_array_equal(
        getattr(scored, name)[both], getattr(expected, name)[both]
      )

  def test_batch_size_changes_nothing_in_tuning(self):
    first, second = (
      run([tuned()], batch_size=size, num_episodes=5)["transductive_finetune"]
      for size in (2, 5)
    )
    # The same loop over episodes, compiled for another count.
    np.testing.assert_array_equal(first.predictions, second.predictions)
    np.testing.assert_allclose(
      first.curves["support_loss"], second.curves["support_loss"], rtol=1e-5
    )

  def test_seed_changes_the_episodes(self):
    first = run([prototype()], num_episodes=9)["prototype"]
    other = run([prototype()], num_episodes=9, seed=1)["prototype"]
    assert not np.array_equal(first.predictions, other.predictions)


RECORDED = {"num_episodes": 7, "batch_size": 3, "seed": 2}


def run_recorded(path, adapters=None, **options):
  return run(
    adapters or [prototype(), tuned()],
    folder=run_folder.RunFolder(path, {"x": 1}),
    extractor=extractor(),
    **(RECORDED | options),
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  path = tmp_path_factory.mktemp("whole")
  return path, run_recorded(path)


class TestRecords:
  """One uninterrupted run of two methods, and what others make of it."""

  def test_each_alone_gives_the_same(self, whole):
    _, results = whole
    assert list(results) == ["prototype", "transductive_finetune"]
    for adapter in (prototype(), tuned()):
      alone = run(
        [adapter],
        extractor=extractor(),
        **RECORDED,
      )
      assert_results_equal(alone[adapter.name], results[adapter.name])

  def test_lines(self, whole):
    path, results = whole
    lines = (path / episode_records.FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["index"] for record in records] == list(range(7))
    for i, record in enumerate(records):
      episode = episodes.sample(easy(), seed=2, index=i, **PROTOCOL)
      assert record["class_ids"] == episode.class_ids.tolist()
      for name, scored in results.items():
        own = record["methods"][name]
        assert own["accuracy"] == scored.accuracy[i]
        assert own["predictions"] == scored.predictions[i].tolist()
    curves = results["transductive_finetune"].curves
    assert curves["support_loss"].shape == (7, 2)
    assert np.isfinite(curves["query_entropy"]).all()
    assert results["prototype"].curves["support_loss"].shape == (7, 0)

  # Cut within the second batch: in a line, between lines, and in the first.
  @pytest.mark.parametrize("kept", [4.5, 1.3])
  def test_killed_and_resumed(self, whole, tmp_path, kept):
    path, results = whole
    shutil.copytree(path, tmp_path / "run")
    file = tmp_path / "run" / episode_records.FILE
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    full, part = int(kept), kept % 1
    cut = b"".join(lines[:full]) + lines[full][: int(len(lines[full]) * part)]
    file.write_bytes(cut)
    again = run_recorded(tmp_path / "run")
    assert file.read_bytes() == data
    for name, scored in results.items():
      assert_results_equal(again[name], scored)

  def test_finished_run_computes_nothing(self, whole, monkeypatch):
    path, results = whole

    def refuse(*_, **__):
      raise AssertionError("computed again")

    monkeypatch.setattr(evaluate.dispatch, "Dispatcher", refuse)
    again = run_recorded(path)
    for name, scored in results.items():
      assert_results_equal(again[name], scored)
    fewer = run_recorded(path, num_episodes=4)["prototype"]
    np.testing.assert_array_equal(
      fewer.accuracy, results["prototype"].accuracy[:4]
    )

  def test_another_method_is_refused(self, whole):
    path, _ = whole
    with pytest.raises(types.InputError, match="no results of 'first_way'"):
      run_recorded(path, [first_way()])

  @pytest.mark.parametrize(
    "change", ["seed", "weights", "dataset", "options", "extractor"]
  )
  def test_records_of_other_inputs_are_refused(self, tmp_path, change):
    """Whatever shapes a number; nothing stored may pass for another's."""
    changes = {
      "seed": {"seed": 3},
      "weights": {"weights": fitted()},
      "dataset": {"dataset": pure_noise()},
      "options": {
        "adapters": [
          adapt.create("prototype", helpers.tiny_backbone(), distance="cosine")
        ]
      },
      "extractor": {"extractor": None},
    }
    first = {"adapters": [prototype()], "extractor": extractor()}
    folder = run_folder.RunFolder(tmp_path, {})
    if change == "extractor":  # The stored ones are those without hardness.
      run(**(first | changes[change]), folder=folder)
      changes[change] = {}
    else:
      run(**first, folder=folder)
    before = (tmp_path / episode_records.FILE).read_bytes()
    with pytest.raises(types.InputError, match="choose another run folder"):
      run(**(first | changes[change]), folder=folder)
    assert (tmp_path / episode_records.FILE).read_bytes() == before

  def test_lines_that_are_no_episodes(self, tmp_path):
    folder = run_folder.RunFolder(tmp_path, {})
    folder.append(episode_records.FILE, [{"epoch": 1}])
    with pytest.raises(types.InputError, match="not episodes"):
      run([first_way()], folder=folder)

  def test_another_protocol_has_records_of_its_own(self, whole, tmp_path):
    path, _ = whole
    shutil.copytree(path, tmp_path / "run")
    scored = run_recorded(tmp_path / "run", [prototype()], ways=2)["prototype"]
    expected = run([prototype()], **(RECORDED | {"ways": 2}))["prototype"]
    np.testing.assert_array_equal(scored.predictions, expected.predictions)

  def test_hardness_is_of_the_episode(self, whole):
    _, results = whole
    network = helpers.tiny_backbone()
    for name in results:
      np.testing.assert_array_equal(
        results[name].hardness, results["prototype"].hardness
      )
    for i in range(3):
      episode = episodes.sample(easy(), seed=2, index=i, **PROTOCOL)
      task = helpers.normalised(episode.task)
      support, query = (
        network.apply(variables(), images, train=False)[0].logits
        for images in (task.support_images, task.query_images)
      )
      expected = reference.hardness(
        support, task.support_labels, query, episode.query_labels, 3
      )
      assert results["prototype"].hardness[i] == pytest.approx(
        expected, abs=1e-4
      )


def test_without_extractor_hardness_is_nan():
  assert np.isnan(run([first_way()])["first_way"].hardness).all()


def test_identity_extractor_and_own_variables():
  """The extractor has variables of its own; here it is the identity."""
  identity = backbones.identity()
  empty = identity.init(jax.random.key(0), jnp.zeros((1, 1)))
  scored = run(
    [first_way()],
    extractor=hardness.extractor(identity),
    extractor_variables=empty,
    num_episodes=1,
  )["first_way"]
  episode = episodes.sample(easy(), seed=0, index=0, **PROTOCOL)
  task = helpers.normalised(episode.task)
  expected = reference.hardness(
    task.support_images.reshape(3, -1),
    task.support_labels,
    task.query_images.reshape(6, -1),
    episode.query_labels,
    3,
  )
  assert scored.hardness[0] == pytest.approx(expected, abs=1e-5)


def test_run_is_run_many_of_one():
  alone = evaluate.run(
    prototype(),
    variables(),
    easy(),
    num_episodes=4,
    batch_size=4,
    progress=False,
    **PROTOCOL,
  )
  assert_results_equal(alone, run([prototype()], num_episodes=4)["prototype"])


class TestErrors:
  def test_same_name_twice(self):
    with pytest.raises(types.InputError, match="distinct names"):
      run([first_way(), first_way()])
    with pytest.raises(types.InputError, match="distinct names"):
      run([])

  @pytest.mark.parametrize(
    "options",
    [
      {"num_episodes": 0},
      {"num_episodes": 2.5},
      {"batch_size": 0},
      {"seed": -1},
      {"chunk": 0},
      {"chunk": -1},
      {"ways": 9},
      {"ways": 1},
      {"ways": "range:1:3"},
      {"shots": 12},
      {"queries": 0},
    ],
    ids=str,
  )
  def test_out_of_range_before_any_work(self, options, monkeypatch):
    def refuse(*_, **__):
      raise AssertionError("work was begun")

    monkeypatch.setattr(evaluate.dispatch, "Dispatcher", refuse)
    with pytest.raises(types.InputError):
      run([first_way()], **options)

  def test_interrupted_run_leaves_no_thread(self, monkeypatch):
    import threading

    def broken(self, batch):
      raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.dispatch.Dispatcher, "__call__", broken)
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
      run([first_way()], num_episodes=200)
    left = {t for t in threading.enumerate() if t.is_alive()} - before
    assert not [t for t in left if "work" in t.name]


_BASE = {"name": "synthetic", "fingerprint": "", "class_names": ["base-0000"]}
_SHARED = {"name": "icons", "class_names": ["novel-0001", "base-0000"]}
_ACROSS = {"cross_domain": True}
_SEEN = {"seen_classes": True}


@pytest.mark.parametrize(
  ("change", "options", "refused"),
  [
    ({}, {}, None),
    (
      {"class_names": ["novel-0001", "novel-0002", "base-0000"]},
      {},
      "2 of the 8 classes",
    ),
    ({"fingerprint": "abc"}, {}, "fingerprint"),
    ({"name": "icons"}, {}, "cross_domain"),
    ({"name": "icons"}, _ACROSS, None),
    # Classes of another data set that were trained on, as with CIFAR-FS and
    # FC-100, which share images.
    (_SHARED, _ACROSS, r"1 of the 8 .*seen_classes"),
    (_SHARED, _ACROSS | _SEEN, None),
    (_SHARED, _SEEN, "cross_domain"),
    # Within a data set, names identify classes.
    ({"class_names": ["novel-0001"]}, _SEEN, "1 of the 8"),
  ],
)
def test_check_checkpoint(change, options, refused):
  def check():
    evaluate.check_checkpoint({"data": _BASE | change}, easy(), **options)

  if refused is None:
    check()
  else:
    with pytest.raises(types.InputError, match=refused):
      check()
