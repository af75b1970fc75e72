"""Episodes of many sizes share a few programs, with the same results."""

import collections

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, episode_records, evaluate, hardness, run_folder
from fsl_jax.adapt import micro_batches
from fsl_jax.data import synthetic
from fsl_jax.episodes import feeder, protocols, source

NUMBER = 60
# Few enough sizes that each can be run by itself.
MIXED = {
  "ways": "range:2:3",
  "shots": "uneven:1:2",
  "queries": "dirichlet:4:1",
}
OTHERS = {
  "long_tail": {"ways": 3, "shots": "long_tail:4:1", "queries": 2},
  "scattered": {"ways": 3, "shots": 1, "queries": "scattered:1"},
  "some_classes": {"ways": "range:2:4", "queries": "some_classes:2:2"},
  "all": {"ways": "all", "shots": "range:1:2", "queries": "range:1:3"},
  "meta_dataset": {
    "ways": "range:2:3",
    "shots": "meta_dataset:7:4",
    "queries": "meta_dataset:2",
  },
}
METHODS = ("prototype", "support_init", "finetune", "transductive_finetune")
CURVES = ("support_loss", "support_accuracy", "query_entropy")
BACKBONE = helpers.tiny_backbone()


def method(name):
  steps = {"epochs": 2} if "finetune" in name else {}
  return adapt.create(name, BACKBONE, **steps)


def drawn(values):
  dataset = synthetic.make(
    5, [6, 7, 8, 9, 10], image_size_px=8, noise=0.5, split="novel"
  )
  return source.Drawn(dataset, protocols.make(**values), 0)


def run(adapters, episodes, **options):
  options = {"num_episodes": NUMBER, "batch_size": 8} | options
  return evaluate.run_many(
    adapters,
    helpers.tiny_variables(BACKBONE),
    episodes.dataset,
    source=episodes,
    progress=False,
    **options,
  )


def of_logits(patch):
  """Logits of a run, by method and episode, with their padding."""
  logits = collections.defaultdict(dict)
  original = evaluate._record

  def of_results(results, b, options):
    for name, (found, *_) in results.outputs.items():
      logits[name][int(results.indices[b])] = found[b]
    return original(results, b, options)

  patch.setattr(evaluate, "_record", of_results)
  return logits


def assert_as_alone(episodes, adapters, results, logits):
  """Against each episode by itself, unpadded. Sums over a longer axis differ
  by some units in the last place of float32."""
  variables = helpers.tiny_variables(BACKBONE)
  for adapter in adapters:
    alone = jax.jit(lambda k, t, a=adapter: adapt.run.run(k, a, variables, t))
    result = results[adapter.name]
    for index in range(len(result.index)):
      rows = episodes.rows(index)
      task = feeder.of_rows(episodes.dataset, rows, index).task
      key = jax.random.fold_in(jax.random.key(0), index)
      expected, infos = jax.device_get(alone(key, task))
      size, ways = expected.shape
      found = logits[adapter.name][index]
      np.testing.assert_allclose(
        found[:size, :ways], expected, rtol=1e-6, atol=1e-6
      )
      assert (found[:, ways:] < -1e29).all()
      predictions = expected.argmax(-1)
      hits = predictions == rows.query_labels
      assert result.accuracy[index] == np.mean(hits, dtype=np.float64)
      for padded, own in (
        (result.predictions, predictions),
        (result.labels, rows.query_labels),
        (result.class_ids, rows.class_ids),
      ):
        assert padded[index, : len(own)].tolist() == own.tolist()
        assert (padded[index, len(own) :] == -1).all()
      for name in CURVES:
        own = getattr(infos, name)
        np.testing.assert_allclose(
          result.curves[name][index], np.nan if own is None else own, rtol=1e-5
        )


def assert_equal(ours, theirs):
  assert ours.keys() == theirs.keys()
  for name in ours:
    jax.tree.map(
      np.testing.assert_array_equal, vars(ours[name]), vars(theirs[name])
    )


class Evaluated:
  """All methods on the mixed episodes, once for all tests of them."""

  def __init__(self):
    self.traced = collections.Counter()
    self.episodes = drawn(MIXED)
    self.adapters = [self.spied(method(name)) for name in METHODS]
    with pytest.MonkeyPatch.context() as patch:
      self.logits = of_logits(patch)
      self.results = self.again()

  def spied(self, adapter):
    def init(*arguments):
      self.traced[adapter.name] += 1
      return adapter.init(*arguments)

    return adapter._replace(init=init)

  def again(self, **options):
    return run(
      self.adapters,
      self.episodes,
      extractor=hardness.extractor(BACKBONE),
      **options,
    )


@pytest.fixture(scope="module")
def evaluated():
  return Evaluated()


class TestMixed:
  def test_a_few_programs_serve_all(self, evaluated):
    sizes = {
      (len(evaluated.episodes.rows(i).class_ids), *evaluated.episodes.sizes(i))
      for i in range(NUMBER)
    }
    assert len(sizes) > len(evaluated.episodes.shapes)
    for name in METHODS:
      assert 1 < evaluated.traced[name] <= 6

  def test_equal_to_each_episode_by_itself(self, evaluated):
    assert_as_alone(
      evaluated.episodes,
      evaluated.adapters,
      evaluated.results,
      evaluated.logits,
    )

  def test_killed_and_continued(self, evaluated, tmp_path, monkeypatch):
    folder = run_folder.RunFolder(tmp_path, {"a": 1})
    append, calls = folder.append, []

    def killed(name, records):
      if len(calls) == 3:
        raise KeyboardInterrupt
      calls.append(name)
      append(name, records)

    monkeypatch.setattr(folder, "append", killed)
    with pytest.raises(KeyboardInterrupt):
      evaluated.again(folder=folder)
    monkeypatch.undo()
    there = len(folder.read(episode_records.FILE))
    assert 0 < there < NUMBER
    before = dict(evaluated.traced)
    assert_equal(evaluated.again(folder=folder), evaluated.results)
    assert len(folder.read(episode_records.FILE)) == NUMBER
    assert dict(evaluated.traced) == before

  def test_batch_size_changes_nothing(self, evaluated):
    adapter = method("finetune")
    found = run([adapter], evaluated.episodes, num_episodes=24, batch_size=4)
    ours, theirs = found["finetune"], evaluated.results["finetune"]
    for name in ("accuracy", "predictions", "labels", "support_accuracy"):
      np.testing.assert_array_equal(
        getattr(ours, name), getattr(theirs, name)[:24], err_msg=name
      )
    for name in CURVES:
      np.testing.assert_array_equal(ours.curves[name], theirs.curves[name][:24])

  def test_hardness_by_embeddings(self, evaluated):
    extract = hardness.extractor(BACKBONE)
    images = evaluated.episodes.dataset.images
    embeddings = np.asarray(
      extract(helpers.tiny_variables(BACKBONE), jnp.asarray(images))
    )
    found = run(
      [method("prototype")], evaluated.episodes, embeddings=embeddings
    )["prototype"].hardness
    expected = evaluated.results["prototype"].hardness
    assert np.isfinite(found).all()
    # Embeddings of one batch or another differ in their last bits.
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_protocols(name, monkeypatch):
  episodes = drawn(OTHERS[name])
  # Each size of an episode by itself has to be compiled.
  names, number = (
    (METHODS[::3], 5) if name == "meta_dataset" else (METHODS[:2], 10)
  )
  adapters = [method(n) for n in names]
  logits = of_logits(monkeypatch)
  results = run(adapters, episodes, num_episodes=number)
  assert_as_alone(episodes, adapters, results, logits)


class TestMicroBatchesOfPadding:
  def counted(self):
    """A loss over micro-batches that counts those that are computed."""
    seen = []

    def total(values, mask):
      def body(carry, chunk):
        x, kept = chunk
        jax.debug.callback(seen.append, kept.sum())
        return carry + micro_batches.blank(x, kept).sum()

      chunks = micro_batches.split(75, values, mask)
      return micro_batches.accumulate(body, jnp.zeros(()), chunks, mask)

    return seen, total

  @pytest.mark.parametrize(
    ("there", "expected"), [(76, 2), (150, 2), (75, 1), (1, 1), (300, 4)]
  )
  def test_is_not_computed(self, there, expected):
    seen, total = self.counted()
    found = jax.jit(total)(jnp.ones(300), jnp.arange(300) < there)
    jax.effects_barrier()
    assert found == there
    assert len(seen) == expected
    assert sum(map(int, seen)) == there

  def test_a_batch_takes_as_many_as_its_longest_episode(self):
    """Under vmap the loop ends with the longest episode."""
    seen, total = self.counted()
    masks = jnp.arange(300)[None] < jnp.array([[10], [140]])
    found = jax.jit(jax.vmap(total))(jnp.ones((2, 300)), masks)
    jax.effects_barrier()
    assert found.tolist() == [10, 140]
    assert len(seen) == 2 * 2

  @pytest.mark.parametrize("chunk", [1, 2])
  def test_changes_nothing(self, chunk):
    """Six and nine support images in micro-batches of three, by themselves and
    padded to 21: seven micro-batches, of which two or three hold an image."""
    adapter = adapt.create(
      "transductive_finetune", BACKBONE, epochs=2, micro_batch=3
    )
    variables = helpers.tiny_variables(BACKBONE)
    episodes = drawn({"ways": 3, "shots": "range:2:3", "queries": 2})
    key = jax.random.key(0)
    indices = [
      next(i for i in range(50) if episodes.sizes(i)[0] == size)
      for size in (6, 9)
    ]
    shape = episodes.shapes[-1]._replace(support=21, query=12)
    padded = [feeder.padded(episodes, i, shape).task for i in indices]
    batch = jax.tree.map(lambda *x: np.stack(x), *padded)
    program = adapt.batched.compile(adapter, chunk=chunk)
    logits, infos = program(key, variables, batch, np.asarray(indices))
    for b, index in enumerate(indices):
      task = feeder.of_rows(episodes.dataset, episodes.rows(index), index).task
      expected, own = jax.jit(
        lambda k, t: adapt.run.run(k, adapter, variables, t)
      )(jax.random.fold_in(key, index), task)
      np.testing.assert_allclose(logits[b, :6], expected, atol=1e-5)
      np.testing.assert_allclose(
        infos.support_loss[b], own.support_loss, rtol=1e-5
      )
