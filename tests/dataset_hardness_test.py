"""Hardness of many episodes and of classes, with no method."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import (
  adapt,
  backbones,
  data,
  dataset_hardness,
  episodes,
  evaluate,
  hardness,
  types,
)

WIDTH = 12  # of embeddings
PROTOCOLS = {
  "fixed": {"ways": 5, "shots": 2, "queries": 3},
  "mixed": {"ways": "range:2:6", "shots": "uneven:1:3", "queries": "range:1:4"},
}


def make_dataset():
  return data.synthetic.make(8, 8, image_size_px=4, split="novel")


def make_embeddings(dataset, spread=2.0):
  """Classes that overlap, so that some queries are wrong."""
  rng = np.random.default_rng(0)
  centres = rng.normal(size=(dataset.num_classes, WIDTH))
  noise = spread * rng.normal(size=(len(dataset.class_ids), WIDTH))
  return (centres[dataset.class_ids] + noise).astype(np.float32)


def make_source(dataset, name="fixed", seed=3):
  protocol = episodes.protocols.make(**PROTOCOLS[name])
  return episodes.source.Drawn(dataset, protocol, seed)


@pytest.fixture(scope="module", params=list(PROTOCOLS))
def case(request):
  dataset = make_dataset()
  source = make_source(dataset, request.param)
  embeddings = make_embeddings(dataset)
  judged = dataset_hardness.of_source(source, embeddings, 20, batch_size=8)
  return source, embeddings, judged


class TestOfSource:
  def test_is_that_of_evaluation(self, case):
    """The judge's nearest mean is the paper's initialisation without a ReLU,
    on a network that hands embeddings on."""
    source, embeddings, judged = case
    dataset = dataclasses.replace(source.dataset, images=embeddings)
    network = backbones.identity()
    method = adapt.create("support_init", network, relu=False)
    variables = network.init(jax.random.key(0), jnp.asarray(embeddings[:1]))
    expected = evaluate.run(
      method,
      variables,
      dataset,
      source=dataclasses.replace(source, dataset=dataset),
      num_episodes=20,
      embeddings=embeddings,
      progress=False,
    )
    for name in (
      *("index", "digests", "class_ids"),
      *("labels", "predictions", "accuracy"),
    ):
      found = getattr(judged.result, name)
      np.testing.assert_array_equal(found, getattr(expected, name), name)
    # One program each, whose sums may be in another order.
    np.testing.assert_allclose(
      judged.result.hardness, expected.hardness, rtol=0, atol=1e-5
    )
    assert judged.result.protocol == expected.protocol
    assert 0.3 < judged.result.mean < 0.95  # There is something to tell apart.

  def test_hardness_is_the_mean_over_own_queries(self, case):
    _, _, judged = case
    np.testing.assert_array_equal(
      np.isfinite(judged.log_odds), judged.result.labels >= 0
    )
    mean = np.nanmean(judged.log_odds, axis=1)
    np.testing.assert_allclose(judged.result.hardness, mean, rtol=0, atol=1e-6)

  def test_more_episodes_and_other_batches_change_nothing(self, case):
    source, embeddings, judged = case
    more = dataset_hardness.of_source(source, embeddings, 23, batch_size=5)
    np.testing.assert_allclose(
      more.result.hardness[:20], judged.result.hardness, rtol=0, atol=1e-6
    )
    width = judged.log_odds.shape[1]
    np.testing.assert_array_equal(
      more.result.predictions[:20, :width], judged.result.predictions
    )

  def test_few_programs(self):
    dataset = make_dataset()
    source = make_source(dataset, "mixed")
    dataset_hardness._hardness.clear_cache()
    dataset_hardness.of_source(source, make_embeddings(dataset), 40)
    assert (
      1 < dataset_hardness._hardness._cache_size() <= len(source.shapes) <= 6
    )

  def test_reads_no_image(self):
    class Unread:
      shape, dtype, ndim = (64, 4, 4, 3), np.dtype(np.uint8), 4

      def __len__(self):
        return 64

    dataset = make_dataset()
    embeddings = make_embeddings(dataset)
    unread = dataclasses.replace(dataset, images=Unread())
    found, expected = (
      dataset_hardness.of_source(make_source(d), embeddings, 3)
      for d in (unread, dataset)
    )
    np.testing.assert_array_equal(found.log_odds, expected.log_odds)

  def test_queries_by_hand(self):
    # Cosines 1 and -1: p / (1 - p) = e^2, and its inverse for the other label.
    queries = hardness.of_queries(
      np.array([[2.0], [-3.0]], np.float32),
      np.array([0, 1]),
      np.ones(2, bool),
      np.array([[5.0], [5.0]], np.float32),
      np.array([0, 1]),
      2,
    )
    np.testing.assert_allclose(queries.log_odds, [-2, 2], atol=1e-6)
    np.testing.assert_array_equal(queries.predictions, [0, 0])

  @pytest.mark.parametrize("ways", [1, "range:1:2"])
  def test_single_way_is_refused(self, ways):
    dataset = make_dataset()
    protocol = episodes.protocols.make(ways=ways, queries=1)
    source = episodes.source.Drawn(dataset, protocol, 0)
    with pytest.raises(types.InputError, match="at least 2 ways"):
      dataset_hardness.of_source(source, make_embeddings(dataset), 20)

  def test_other_input_is_refused(self):
    dataset = make_dataset()
    embeddings = make_embeddings(dataset)
    with pytest.raises(types.InputError, match=r"\[64, P\].*got \[63, 12\]"):
      dataset_hardness.of_source(make_source(dataset), embeddings[1:], 2)
    with pytest.raises(types.InputError, match="num_episodes"):
      dataset_hardness.of_source(make_source(dataset), embeddings, 0)
    protocol = episodes.protocols.make(ways=9, queries=1)
    source = episodes.source.Drawn(dataset, protocol, 0)
    with pytest.raises(types.InputError, match="only 8 classes"):
      dataset_hardness.of_source(source, embeddings, 2)


def judged_by_hand():
  """Two episodes: classes 4 and 2, then 2, 7 and 4; -1 is padding."""
  labels = np.array([[0, 1, 0, -1], [0, 1, 2, 2]])
  predictions = np.array([[0, 0, 1, -1], [0, 2, 2, 1]])
  log_odds = np.array([[-1.0, 2, 1, np.nan], [0.5, 3, -2, 4]])
  result = types.EvalResult(
    method=dataset_hardness.METHOD,
    query_use="nothing",
    protocol={},
    protocol_name="2 to 3 ways 1-shot",
    protocol_text="1 to 2 queries a class",
    index=np.arange(2),
    digests=np.arange(2).astype(str),
    class_ids=np.array([[4, 2, -1], [2, 7, 4]]),
    labels=labels,
    accuracy=np.array([1 / 3, 2 / 4]),
    hardness=np.array([2 / 3, 5.5 / 4]),
    predictions=predictions,
    initial_predictions=predictions,
    support_accuracy=np.full(2, np.nan),
    curves={},
  )
  return dataset_hardness.EpisodeHardness(result, log_odds)


def test_classes_by_hand():
  found = dataset_hardness.by_class(judged_by_hand())
  # 7: 3, wrong; 2: (2 + 0.5) / 2, one right; 4: (-1 + 1 - 2 + 4) / 4, two.
  np.testing.assert_array_equal(found.class_ids, [7, 2, 4])
  np.testing.assert_allclose(found.log_odds, [3, 1.25, 0.5])
  np.testing.assert_allclose(found.accuracy, [0, 0.5, 0.5])
  np.testing.assert_array_equal(found.num_queries, [1, 2, 4])


def test_confused_pairs_by_hand():
  # 2 and 4 in both episodes, six queries, 2 for 4 and 4 for 2; 4 and 7 in the
  # second, three queries, 7 for 4 and 4 for 7. Of equal counts, by class.
  assert dataset_hardness.confused_pairs(judged_by_hand(), 10) == [
    (2, 4, 2, 6),
    (4, 7, 2, 3),
  ]
  assert len(dataset_hardness.confused_pairs(judged_by_hand(), 1)) == 1


def test_classes_and_pairs_add_up(case):
  source, _, judged = case
  found = dataset_hardness.by_class(judged)
  own = judged.result.labels >= 0
  assert found.num_queries.sum() == own.sum()
  total = (found.num_queries * found.log_odds).sum()
  assert total == pytest.approx(np.nansum(judged.log_odds))
  assert (np.diff(found.log_odds) <= 0).all()
  pairs = dataset_hardness.confused_pairs(judged, 1000)
  wrong = (judged.result.predictions != judged.result.labels) & own
  assert sum(pair.num_confused for pair in pairs) == wrong.sum() > 0
  most = math.comb(source.dataset.num_classes, 2)
  assert len(pairs) <= most
  assert all(pair.num_confused <= pair.num_queries for pair in pairs)


def test_equal_embeddings_are_uniform():
  dataset = make_dataset()
  same = np.ones((len(dataset.class_ids), WIDTH), np.float32)
  judged = dataset_hardness.of_source(make_source(dataset), same, 5)
  np.testing.assert_allclose(judged.log_odds, math.log(4), atol=1e-5)
