"""Which images make an episode, and the batches they come in."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest

from fsl_jax import episodes, types
from fsl_jax.data import synthetic
from fsl_jax.episodes import feeder, sampler, source

PROTOCOL = sampler.Protocol(ways=4, shots=2, queries=3)


@pytest.fixture(scope="module")
def dataset():
  # Unequal classes, so that rows cannot be guessed from class ids.
  return synthetic.make(
    9, [6, 8, 7, 5, 9, 6, 12, 5, 7], image_size_px=4, split="novel"
  )


def draw(dataset, index, seed=0, protocol=PROTOCOL):
  return sampler.draw(dataset, protocol, seed=seed, index=index)


def as_tuple(rows):
  return tuple(
    tuple(np.asarray(value).tolist())
    for value in (
      rows.class_ids,
      rows.support,
      rows.support_labels,
      rows.query,
      rows.query_labels,
    )
  )


class TestSampler:
  def test_golden_rows(self, dataset):
    """The stream is part of every published number. If this fails, episodes
    are not those of former versions: say so in the changelog under "Numbers
    that changed", or put the stream back."""
    assert as_tuple(draw(dataset, 7, seed=3)) == GOLDEN

  def test_shapes_and_types(self, dataset):
    rows = draw(dataset, 0)
    assert rows.class_ids.shape == (4,)
    assert rows.support.shape == rows.support_labels.shape == (8,)
    assert rows.query.shape == rows.query_labels.shape == (12,)
    for name, value in vars(rows).items():
      assert value.dtype == np.int32, name

  def test_every_episode_is_well_formed(self, dataset):
    for index in range(200):
      rows = draw(dataset, index)
      assert len(set(rows.class_ids.tolist())) == 4
      images = [*rows.support.tolist(), *rows.query.tolist()]
      assert len(set(images)) == len(images)
      for part, labels, number in (
        (rows.support, rows.support_labels, 2),
        (rows.query, rows.query_labels, 3),
      ):
        np.testing.assert_array_equal(
          dataset.class_ids[part], rows.class_ids[labels]
        )
        np.testing.assert_array_equal(np.bincount(labels), [number] * 4)

  def test_depends_on_seed_split_and_index_alone(self, dataset):
    first = as_tuple(draw(dataset, 5))
    for index in (9, 3, 5):
      last = as_tuple(draw(dataset, index))
    assert last == first
    other_split = synthetic.make(
      9, [6, 8, 7, 5, 9, 6, 12, 5, 7], image_size_px=4, split="val"
    )
    others = [
      as_tuple(draw(dataset, 6)),
      as_tuple(draw(dataset, 5, seed=1)),
      as_tuple(draw(other_split, 5)),
    ]
    assert len({first, *others}) == 4

  def test_digest_tells_episodes_apart(self, dataset):
    def digest(rows):
      return sampler.digest(rows.class_ids, rows.support, rows.query)

    rows = draw(dataset, 5)
    assert digest(draw(dataset, np.int64(5))) == digest(rows)
    parts = rows.class_ids, rows.support, rows.query
    others = [
      digest(draw(dataset, 6)),
      digest(draw(dataset, 5, seed=1)),
      sampler.digest(parts[0][::-1], *parts[1:]),
      # The same rows in the same order, one of them moved to the queries.
      sampler.digest(
        parts[0], parts[1][:-1], np.concatenate([parts[1][-1:], parts[2]])
      ),
    ]
    assert len({digest(rows), *others}) == 5

  def test_index_and_seed_do_not_run_into_each_other(self, dataset):
    drawn = {
      as_tuple(draw(dataset, index, seed=seed))
      for seed, index in ((1, 11), (11, 1), (1, 1), (111, 0), (0, 111))
    }
    assert len(drawn) == 5

  def test_types_of_integers_do_not_matter(self, dataset):
    expected = as_tuple(draw(dataset, 5, seed=2))
    assert as_tuple(draw(dataset, np.int64(5), seed=np.int32(2))) == expected

  def test_uniform(self):
    """Chi-square over 3,000 episodes; limits that one seed in a thousand
    passes, and the seed is fixed."""
    dataset = synthetic.make(8, 6, image_size_px=1)
    protocol = sampler.Protocol(ways=3, shots=1, queries=2)
    number = 3000
    classes = np.zeros((3, 8))
    support, query = np.zeros(48), np.zeros(48)
    pairs = np.zeros((8, 8))
    for index in range(number):
      rows = draw(dataset, index, protocol=protocol)
      classes[np.arange(3), rows.class_ids] += 1
      support[rows.support] += 1
      query[rows.query] += 1
      for a, b in itertools.permutations(rows.class_ids, 2):
        pairs[a, b] += 1

    def chi_square(counts):
      expected = counts.mean()
      return ((counts - expected) ** 2 / expected).sum()

    # Each label has a uniform class: 7 degrees of freedom.
    for counts in classes:
      assert chi_square(counts) < 24.3
    # Drawn without replacement, counts vary less than the limit allows for.
    assert chi_square(support) < 82.7  # 47 degrees of freedom
    assert chi_square(query) < 82.7
    off_diagonal = pairs[~np.eye(8, dtype=bool)]
    assert chi_square(off_diagonal) < 93.2  # 55 degrees of freedom

  def test_order_says_nothing_of_the_class(self, dataset):
    """Label at each position of support and query: uniform over the ways."""
    number = 1500
    for part, size in (("support_labels", 8), ("query_labels", 12)):
      counts = np.zeros((size, 4))
      for index in range(number):
        labels = getattr(draw(dataset, index), part)
        counts[np.arange(size), labels] += 1
      expected = number / 4
      statistic = ((counts - expected) ** 2 / expected).sum(1)
      # 3 degrees of freedom: above 16.3 once in a thousand; 20 positions.
      assert statistic.max() < 21.1

  def test_support_and_query_orders_are_unrelated(self):
    """With equally many of both, their labels agree at chance."""
    dataset = synthetic.make(5, 8, image_size_px=1)
    protocol = sampler.Protocol(ways=5, shots=4, queries=4)
    equal = [
      np.mean(rows.support_labels == rows.query_labels)
      for rows in (draw(dataset, i, protocol=protocol) for i in range(400))
    ]
    # 8,000 positions, nearly independent: five standard errors of 0.0045.
    assert abs(np.mean(equal) - 0.2) < 0.023

  def test_whole_classes_and_all_ways(self):
    dataset = synthetic.make(3, 4, image_size_px=1)
    protocol = sampler.Protocol(ways=3, shots=1, queries=3)
    rows = draw(dataset, 0, protocol=protocol)
    assert sorted([*rows.support, *rows.query]) == list(range(12))
    assert sorted(rows.class_ids.tolist()) == [0, 1, 2]

  def test_too_few_classes(self, dataset):
    protocol = sampler.Protocol(ways=10, shots=1, queries=1)
    with pytest.raises(types.InputError) as raised:
      draw(dataset, 0, protocol=protocol)
    message = str(raised.value)
    assert "10 ways" in message
    assert "9 classes" in message
    assert "synthetic" in message
    assert "novel" in message

  def test_too_few_images(self, dataset):
    protocol = sampler.Protocol(ways=2, shots=3, queries=3)
    with pytest.raises(types.InputError) as raised:
      draw(dataset, 0, protocol=protocol)
    message = str(raised.value)
    assert "novel-0003" in message  # the first of the two smallest
    assert "has 5" in message
    assert "2 of 9 classes" in message

  @pytest.mark.parametrize("name", ["ways", "shots", "queries"])
  def test_protocol_out_of_range(self, name):
    with pytest.raises(types.InputError, match=f"{name} must be at least 1"):
      sampler.Protocol(**{name: 0})

  @pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
  def test_negative_seed_or_index(self, dataset, seed, index):
    with pytest.raises(types.InputError, match="at least 0"):
      draw(dataset, index, seed=seed)

  @pytest.mark.parametrize(
    ("seed", "index"),
    # 1 and 1.0 would be two streams that look like one; the index of an
    # episode is kept as int32.
    [(1.0, 0), (0, 2.0), (0, 2**31)],
  )
  def test_no_integer_or_too_large(self, dataset, seed, index):
    with pytest.raises(types.InputError, match="must be"):
      feeder.episode(dataset, PROTOCOL, seed=seed, index=index)


def assert_episodes_equal(ours, theirs):
  jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  assert ours.task.num_ways == theirs.task.num_ways


class TestEpisode:
  def test_images_are_those_of_the_rows(self, dataset):
    episode = episodes.sample(
      dataset, seed=1, index=2, ways=4, shots=2, queries=3
    )
    rows = draw(dataset, 2, seed=1)
    np.testing.assert_array_equal(
      episode.task.support_images, dataset.images[rows.support]
    )
    np.testing.assert_array_equal(
      episode.task.query_images, dataset.images[rows.query]
    )
    np.testing.assert_array_equal(
      episode.task.support_labels, rows.support_labels
    )
    np.testing.assert_array_equal(episode.query_labels, rows.query_labels)
    np.testing.assert_array_equal(episode.support_rows, rows.support)
    np.testing.assert_array_equal(episode.class_ids, rows.class_ids)
    assert episode.task.support_images.dtype == np.uint8
    assert episode.task.support_mask.all()
    assert episode.task.query_mask.all()
    assert episode.task.num_ways == 4
    assert (episode.index, episode.index.dtype) == (2, np.int32)

  def test_writing_into_an_episode_leaves_the_data(self, dataset):
    before = dataset.images.copy()
    episode = episodes.sample(
      dataset, seed=1, index=2, ways=4, shots=2, queries=3
    )
    episode.task.support_images[:] = 0
    episode.task.query_images[:] = 0
    np.testing.assert_array_equal(dataset.images, before)


def feed(dataset, indices, batch_size, **options):
  drawn = source.Drawn(dataset, PROTOCOL, 0)
  (shape,) = drawn.shapes
  requests = [feeder.Request(batch, shape) for batch in indices]
  return feeder.batches(drawn, requests, batch_size=batch_size, **options)


def threads():
  return set(threading.enumerate())


def wait_for_end_of(new):
  deadline = time.monotonic() + 5
  while any(t.is_alive() for t in new) and time.monotonic() < deadline:
    time.sleep(0.01)
  return not any(t.is_alive() for t in new)


class TestFeeder:
  @pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
  def test_equals_the_sampler(self, dataset, batch_size):
    numbers = [4, 0, 9, 2, 7]
    groups = [
      numbers[start : start + batch_size] for start in range(0, 5, batch_size)
    ]
    found = []
    for batch in feed(dataset, groups, batch_size):
      assert batch.mask.shape == (batch_size,)
      assert batch.mask.dtype == bool
      for b in range(batch_size):
        one = jax.tree.map(lambda x, b=b: x[b], batch.episodes)
        if batch.mask[b]:
          found.append(int(one.index))
        expected = feeder.episode(
          dataset, PROTOCOL, seed=0, index=int(one.index)
        )
        assert_episodes_equal(one, expected)
    assert found == numbers

  def test_last_batch_is_padded_and_masked(self, dataset):
    first, last = feed(dataset, [[0, 1, 2], [3]], 3)
    assert first.mask.tolist() == [True, True, True]
    assert last.mask.tolist() == [True, False, False]
    assert last.episodes.index.tolist() == [3, 3, 3]
    assert jax.tree.map(np.shape, first.episodes) == jax.tree.map(
      np.shape, last.episodes
    )

  def test_hosts_draw_their_own_rows_of_a_batch(self, dataset):
    """Together the whole batch; what no host of it needs is not drawn."""
    (whole,) = feed(dataset, [[3, 8, 5]], 4)
    (first,) = feed(dataset, [[3, 8, 5]], 4, rows=np.array([0, 1]))
    (second,) = feed(dataset, [[3, 8, 5]], 4, rows=np.array([2, 3]))
    assert first.episodes.index.tolist() == [3, 8]
    assert second.episodes.index.tolist() == [5, 3]
    assert (first.mask.tolist(), second.mask.tolist()) == (
      [True, True],
      [True, False],
    )
    jax.tree.map(
      lambda a, b, c: np.testing.assert_array_equal(a, np.concatenate([b, c])),
      whole.episodes,
      first.episodes,
      second.episodes,
    )

  def test_nothing_to_do(self, dataset):
    assert list(feed(dataset, [], 4)) == []

  def test_threads_end_with_the_stream(self, dataset):
    before = threads()
    list(feed(dataset, [[0], [1]], 1))
    assert wait_for_end_of(threads() - before)

  @pytest.mark.parametrize("prefetch", [1, 2])
  def test_threads_end_when_the_consumer_stops(self, dataset, prefetch):
    before = threads()
    stream = feed(dataset, [[i] for i in range(50)], 1, prefetch=prefetch)
    next(stream)
    new = threads() - before
    assert new
    stream.close()
    assert wait_for_end_of(new)

  def test_no_more_than_prefetch_is_made_ahead(self, dataset, monkeypatch):
    made = []
    original = feeder.of_rows

    def counted(dataset, rows, index):
      made.append(index)
      return original(dataset, rows, index)

    monkeypatch.setattr(feeder, "of_rows", counted)
    stream = feed(dataset, [[i] for i in range(50)], 1, prefetch=2)
    next(stream)
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
      time.sleep(0.01)
    time.sleep(0.2)
    # One handed out, two held ready, one waiting for room.
    assert len(made) == 4
    stream.close()

  def test_errors_of_the_thread_surface(self, dataset, monkeypatch):
    def broken(dataset, rows, index):
      if index == 2:
        raise RuntimeError("disk on fire")
      return original(dataset, rows, index)

    original = feeder.of_rows
    monkeypatch.setattr(feeder, "of_rows", broken)
    before = threads()
    stream = feed(dataset, [[0], [1], [2], [3]], 1)
    assert int(next(stream).episodes.index[0]) == 0
    assert int(next(stream).episodes.index[0]) == 1
    with pytest.raises(RuntimeError, match="disk on fire"):
      next(stream)
    assert wait_for_end_of(threads() - before)

  def test_prefetch_of_nothing_would_be_without_limit(self, dataset):
    with pytest.raises(types.InputError, match="prefetch"):
      next(feed(dataset, [[0]], 1, prefetch=0))

  def test_too_many_for_a_batch(self, dataset):
    with pytest.raises(types.InputError, match="3 episodes do not fit"):
      list(feed(dataset, [[0, 1, 2]], 2))


# Classes; support rows and labels; query rows and labels.
GOLDEN = (
  (7, 5, 0, 2),
  (19, 57, 2, 15, 53, 38, 4, 40),
  (3, 0, 2, 3, 0, 1, 2, 1),
  (36, 20, 3, 16, 54, 0, 55, 5, 35, 56, 37, 14),
  (1, 3, 2, 3, 0, 2, 0, 2, 1, 0, 1, 3),
)
