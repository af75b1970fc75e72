"""Rules and switches: the counts they give, and how episodes are drawn."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from fsl_jax import types
from fsl_jax.data import synthetic
from fsl_jax.episodes import padding, protocols, rules, sampler, source
from fsl_jax.episodes import words as words_lib

SIZES = [30, 24, 41, 35, 28, 60, 22, 33]
# One protocol for every rule and for switches that leave the numbers alone.
PROTOCOLS = {
  "fixed": {"ways": 4, "shots": 2, "queries": 3},
  "range": {"ways": "range:2:6", "shots": "range:1:5", "queries": "range:1:4"},
  "uneven": {"ways": 5, "shots": "uneven:1:6", "queries": 3},
  "long_tail": {"ways": 5, "shots": "long_tail:12:1", "queries": 3},
  "dirichlet": {"ways": 4, "shots": 2, "queries": "dirichlet:20:2"},
  "scattered": {"ways": 4, "shots": 2, "queries": "scattered:15"},
  "one query": {"ways": 4, "shots": 1, "queries": "scattered:1"},
  "some_classes": {"ways": 4, "shots": 2, "queries": "some_classes:3:2"},
  "all": {"ways": "all", "shots": 1, "queries": 2},
  "meta_dataset": protocols.META_DATASET,
  "skip": {"ways": 3, "shots": 5, "queries": 20, "small_classes": "skip"},
  "no reuse": {"ways": 3, "shots": 2, "queries": 3, "reuse": False},
  "rest": {"ways": 3, "shots": "uneven:2:6", "queries": "rest"},
}
LEAST_P = 1e-3  # of a chi-square test; the seed is fixed


@pytest.fixture(scope="module")
def dataset():
  return synthetic.make(8, SIZES, image_size_px=1, split="novel")


def make(name):
  return protocols.make(**PROTOCOLS[name])


def draws(dataset, protocol, number, seed=0):
  return [
    sampler.draw(dataset, protocol, seed=seed, index=index)
    for index in range(number)
  ]


def compositions(dataset, protocol, number):
  return [
    sampler.composition(dataset, protocol, seed=0, index=index)
    for index in range(number)
  ]


def as_lists(rows):
  return {name: value.tolist() for name, value in vars(rows).items()}


def words(index=0):
  return words_lib.Words(0, "novel", index, "numbers")


def counts_of(rule, sizes, index=0):
  return rule.counts(words(index), np.asarray(sizes), np.asarray(sizes))


def uniform_p(values, low, high):
  observed = np.bincount(np.ravel(values) - low, minlength=high - low + 1)
  assert len(observed) == high - low + 1
  return stats.chisquare(observed).pvalue


class TestEveryProtocol:
  @pytest.mark.parametrize("name", PROTOCOLS)
  def test_episodes_are_well_formed(self, dataset, name):
    protocol = make(name)
    bounds = sampler.bounds(dataset, protocol)
    drawn = source.Drawn(dataset, protocol, 0)
    number = 6 if name == "no reuse" else 60
    for index, rows in enumerate(draws(dataset, protocol, number)):
      images = [*rows.support, *rows.query]
      assert len(set(images)) == len(images)
      assert len(set(rows.class_ids.tolist())) == len(rows.class_ids)
      assert len(rows.class_ids) <= bounds.ways
      # Every class can be predicted.
      assert set(rows.support_labels) == set(range(len(rows.class_ids)))
      for part, (low, high) in (
        ("support", bounds.support),
        ("query", bounds.query),
      ):
        part_rows = getattr(rows, part)
        labels = getattr(rows, f"{part}_labels")
        assert low <= len(part_rows) <= high
        np.testing.assert_array_equal(
          dataset.class_ids[part_rows], rows.class_ids[labels]
        )
      assert drawn.sizes(index) == (len(rows.support), len(rows.query))

  @pytest.mark.parametrize("name", PROTOCOLS)
  def test_depends_on_seed_split_and_index_alone(self, dataset, name):
    protocol = make(name)
    first = as_lists(sampler.draw(dataset, protocol, seed=5, index=3))
    for index in (4, 0, 3):
      last = as_lists(sampler.draw(dataset, protocol, seed=5, index=index))
    assert last == first
    assert first != as_lists(sampler.draw(dataset, protocol, seed=6, index=3))
    other = synthetic.make(8, SIZES, image_size_px=1, split="val")
    assert first != as_lists(sampler.draw(other, protocol, seed=5, index=3))

  @pytest.mark.parametrize("name", PROTOCOLS)
  def test_values_survive_json(self, name):
    protocol = make(name)
    values = json.loads(json.dumps(protocol.values()))
    assert protocols.from_values(values) == protocol
    for role in ("ways", "shots", "queries"):
      rule = getattr(protocol, role)
      if isinstance(rule, rules.Rule):
        assert protocols.parse(role, rule.text()) == rule

  def test_usual_switches_are_not_in_the_values(self):
    assert make("fixed").values() == PROTOCOLS["fixed"]
    assert make("no reuse").values()["reuse"] is False

  @pytest.mark.parametrize(
    ("role", "rule"),
    [
      ("shots", rules.Range(1, 1234567)),
      ("queries", rules.Dirichlet(12345678, 0.1234567891)),
      ("queries", rules.Dirichlet(75, 1e-3)),
    ],
  )
  def test_no_digit_of_a_text_is_lost(self, role, rule):
    assert protocols.parse(role, rule.text()) == rule

  def test_headings(self):
    found = [(make(n).name, make(n).text) for n in ("fixed", "range", "skip")]
    assert found == [
      ("4-way 2-shot", "3 queries per class"),
      ("2 to 6 ways, 1 to 5 shots per class", "1 to 4 queries per class"),
      ("3-way 5-shot", "20 queries per class, small classes skipped"),
    ]
    assert make("one query").text == "a single query of any class"


class TestRulesByHand:
  def test_long_tail(self):
    # 16 (1/16)^(j/4): 16, 8, 4, 2, 1.
    for index in range(5):
      found = counts_of(rules.LongTail(16, 1), [50] * 5, index)
      assert sorted(found, reverse=True) == [16, 8, 4, 2, 1]
    # 10 (1/10)^(1/2) = 3.16; halves are rounded up: 9 (1/4)^(1/2) = 4.5.
    assert sorted(counts_of(rules.LongTail(10, 1), [50] * 3)) == [1, 3, 10]
    assert rules.LongTail(16, 1).bounds(5) == (31, 31)
    assert counts_of(rules.LongTail(16, 1), [50]).tolist() == [16]

  def test_the_tail_takes_every_class(self):
    first = [
      int(np.argmax(counts_of(rules.LongTail(8, 1), [50] * 4, index)))
      for index in range(1200)
    ]
    assert uniform_p(first, 0, 3) > LEAST_P

  def test_meta_dataset_queries(self):
    rule = rules.MetaDatasetQueries()
    assert counts_of(rule, [50, 30, 21]).tolist() == [10] * 3
    assert counts_of(rule, [50, 7, 30]).tolist() == [3] * 3
    assert counts_of(rule, [2, 9]).tolist() == [1, 1]

  def test_meta_dataset_shots(self):
    # beta 0.5: ceil(5) + ceil(10) + ceil(50) = 65 images, of which 62 beyond
    # one a class. alpha 0 throughout: shares 10/530, 20/530 and 500/530.
    stub = _Uniforms([0.5, 0.5, 0.5, 0.5])
    sizes = np.array([10, 20, 500])
    found = rules.MetaDatasetShots().counts(stub, sizes, sizes)
    assert found.tolist() == [1 + 1, 1 + 2, 1 + 58]
    # alpha = log 0.5 and log 2: weights 10 and 40, of 2 * 15 - 2 = 28.
    stub = _Uniforms([0.75, 0.0, 1.0])
    found = rules.MetaDatasetShots().counts(
      stub, np.array([20, 20]), np.array([20, 20])
    )
    assert found.tolist() == [1 + 5, min(1 + 22, 20)]
    # At most `total`, before shares are rounded down.
    stub = _Uniforms([1.0, 0.5, 0.5])
    sizes = np.array([1000, 1000])
    found = rules.MetaDatasetShots(total=50).counts(stub, sizes, sizes)
    assert found.tolist() == [25, 25]

  def test_largest_remainders(self):
    # Equal shares of 10 over 4: 2.5 each; the first two get what is left.
    stub = _Uniforms([0.5] * 8)
    found = rules.Dirichlet(10, 1.0).counts(stub, np.ones(4), np.ones(4))
    assert found.tolist() == [3, 3, 2, 2]
    # Dirichlet(1): exponential variates, here in shares of 2:3:5 of 11, which
    # are 2.2, 3.3 and 5.5: the last has the largest remainder. A variate of 2
    # times u is one of 1.
    stub = _Uniforms([0.5, 0.5, 0.5, 0.2, 0.3, 0.5])
    found = rules.Dirichlet(11, 1.0).counts(stub, np.ones(3), np.ones(3))
    assert found.tolist() == [2, 3, 6]

  def test_some_classes(self):
    found = counts_of(rules.SomeClasses(3, 2), [20] * 5)
    assert sorted(found) == [0, 0, 0, 3, 3]
    assert counts_of(rules.SomeClasses(3, 9), [20] * 2).tolist() == [3, 3]

  def test_uniforms_never_reach_an_end(self):
    """Of the least and the largest word there is."""
    made = words()
    made._philox = _Raw([0, 2**64 - 1])
    low, high = made.uniform(2)
    assert 0 < low < high < 1
    made._philox = _Raw([0, 2**64 - 1])
    assert made.whole(3, 7, 2).tolist() == [3, 7]


class _Uniforms:
  """Words whose uniform variates are given."""

  def __init__(self, values):
    self._values = list(values)

  def uniform(self, count):
    taken, self._values = self._values[:count], self._values[count:]
    assert len(taken) == count
    return np.asarray(taken)


class _Raw:
  def __init__(self, values):
    self._values = values

  def random_raw(self, count):
    return np.asarray(self._values[:count], np.uint64)


class TestDistributions:
  """Chi-square and moments; seeds are fixed, so nothing is flaky."""

  def test_ways_shots_and_classes_are_uniform(self, dataset):
    made = compositions(dataset, make("range"), 1500)
    ways = [len(c.class_ids) for c in made]
    assert uniform_p(ways, 2, 6) > LEAST_P
    shots = [c.support[0] for c in made]
    assert uniform_p(shots, 1, 5) > LEAST_P
    assert uniform_p([c.query[0] for c in made], 1, 4) > LEAST_P
    assert uniform_p([c.class_ids[0] for c in made], 0, 7) > LEAST_P
    for c in made[:100]:  # one number for all classes
      assert len(set(c.support.tolist())) == len(set(c.query.tolist())) == 1
    # Ways say nothing of the shots.
    table = np.zeros((5, 5))
    np.add.at(table, (np.array(ways) - 2, np.array(shots) - 1), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P

  def test_uneven_shots_are_independent(self, dataset):
    made = compositions(dataset, make("uneven"), 1000)
    shots = np.stack([c.support for c in made])
    assert uniform_p(shots, 1, 6) > LEAST_P
    table = np.zeros((6, 6))
    np.add.at(table, (shots[:, 0] - 1, shots[:, 1] - 1), 1)
    assert stats.chi2_contingency(table).pvalue > LEAST_P

  @pytest.mark.parametrize("concentration", [0.5, 2.0, 20.0])
  def test_dirichlet_moments(self, concentration):
    """Mean 1 / N and variance (N - 1) / (N^2 (N a + 1)) of the shares."""
    ways, total, number = 5, 10_000, 3000
    rule = rules.Dirichlet(total, concentration)
    shares = np.stack(
      [counts_of(rule, [total] * ways, i) / total for i in range(number)]
    )
    variance = (ways - 1) / (ways**2 * (ways * concentration + 1))
    # Five standard errors; that of a variance is below sqrt(3 / number).
    error = 5 * np.sqrt(variance / number)
    np.testing.assert_allclose(shares.mean(0), 1 / ways, atol=error)
    np.testing.assert_allclose(
      shares.var(0), variance, rtol=5 * np.sqrt(3 / number)
    )
    # The shares add to one, so the covariance of two follows.
    found = np.cov(shares[:, 0], shares[:, 1])[0, 1]
    assert found == pytest.approx(-variance / (ways - 1), rel=0.3)

  @pytest.mark.parametrize("concentration", [1e-4, 1e6])
  def test_dirichlet_at_its_ends(self, concentration):
    """All queries of one class, and as many of each."""
    for index in range(50):
      found = counts_of(rules.Dirichlet(75, concentration), [75] * 5, index)
      assert found.sum() == 75
      if concentration < 1:
        assert found.max() >= 74
      else:
        np.testing.assert_allclose(found, 15, atol=1)

  def test_scattered_is_multinomial(self):
    found = np.stack(
      [counts_of(rules.Scattered(6), [9] * 3, i) for i in range(2000)]
    )
    assert (found.sum(1) == 6).all()
    observed = np.bincount(found[:, 0], minlength=7)
    expected = 2000 * stats.binom.pmf(np.arange(7), 6, 1 / 3)
    # The last two cells hold too few to count by themselves.
    assert (
      stats.chisquare(
        [*observed[:5], observed[5:].sum()], [*expected[:5], expected[5:].sum()]
      ).pvalue
      > LEAST_P
    )
    assert np.cov(found[:, 0], found[:, 1])[0, 1] == pytest.approx(
      -6 / 9, rel=0.2
    )

  def test_images_of_a_class_are_uniform(self):
    """Of the support and of the queries, where the numbers vary."""
    dataset = synthetic.make(3, 9, image_size_px=1)
    protocol = protocols.make(ways=2, shots="uneven:1:3", queries="scattered:4")
    support, query = np.zeros(27), np.zeros(27)
    for rows in draws(dataset, protocol, 1500):
      support[rows.support] += 1
      query[rows.query] += 1
    # Without replacement counts vary less than the test allows for.
    assert stats.chisquare(support).pvalue > LEAST_P
    assert stats.chisquare(query).pvalue > LEAST_P

  def test_some_classes_are_uniform(self):
    rule = rules.SomeClasses(1, 2)
    found = np.concatenate(
      [np.flatnonzero(counts_of(rule, [9] * 5, i)) for i in range(1000)]
    )
    assert uniform_p(found, 0, 4) > LEAST_P


class TestMetaDataset:
  def test_its_constraints(self):
    sizes = np.random.default_rng(0).integers(2, 400, 60)
    dataset = synthetic.make(60, sizes, image_size_px=1)
    made = compositions(dataset, make("meta_dataset"), 300)
    ways = np.array([len(c.class_ids) for c in made])
    assert (ways.min(), ways.max()) == (5, 50)
    for c in made:
      own = sizes[c.class_ids]
      assert c.support.sum() <= 500
      assert c.support.min() >= 1
      assert c.query.min() == c.query.max() == min(10, own.min() // 2)
      assert np.all(c.support + c.query <= own)
    # Classes of one episode differ, which a balanced support would not.
    assert np.mean([len(set(c.support.tolist())) > 1 for c in made]) > 0.8

  def test_at_most_the_classes_there_are(self, dataset):
    ways = [
      len(c.class_ids) for c in compositions(dataset, make("meta_dataset"), 400)
    ]
    assert uniform_p(ways, 5, 8) > LEAST_P


def grouped(groups_of_classes):
  """A data set whose image ids are "pack/name": per class the packs."""
  sizes = [len(groups) for groups in groups_of_classes]
  made = synthetic.make(len(sizes), sizes, image_size_px=1)
  packs = [pack for groups in groups_of_classes for pack in groups]
  return types.ClassIndexed(
    images=made.images,
    class_ids=made.class_ids,
    class_names=made.class_names,
    image_ids=[f"{pack}/{i}" for i, pack in enumerate(packs)],
    name="packs",
    split="novel",
  )


APART = {"ways": 3, "shots": 3, "queries": 4, "groups": "apart"}


class TestGroupsApart:
  @pytest.fixture
  def packs(self):
    return grouped(["aabbbcccdd", "aabbccddee", "bbbccdddde", "abcdefgh"])

  @pytest.mark.parametrize("queries", [4, "some_classes:4:2"])
  def test_no_group_of_a_class_is_in_both(self, packs, queries):
    protocol = protocols.make(**APART | {"queries": queries})
    group = packs.group_ids()
    for rows in draws(packs, protocol, 200):
      assert len(set(rows.support) | set(rows.query)) == len(
        [*rows.support, *rows.query]
      )
      for label in range(3):
        support = group[rows.support[rows.support_labels == label]]
        query = group[rows.query[rows.query_labels == label]]
        assert len(support) == 3
        assert not set(support) & set(query)

  def test_without_it_groups_do_meet(self, packs):
    protocol = protocols.make(**APART | {"groups": "any"})
    group = packs.group_ids()
    met = 0
    for rows in draws(packs, protocol, 20):
      met += any(
        set(group[rows.support[rows.support_labels == label]])
        & set(group[rows.query[rows.query_labels == label]])
        for label in range(3)
      )
    assert met > 10

  def test_every_group_comes_on_either_side(self, packs):
    protocol = protocols.make(**APART)
    support, query = set(), set()
    for rows in draws(packs, protocol, 200):
      support |= set(rows.support.tolist())
      query |= set(rows.query.tolist())
    assert len(support) == len(query) == len(packs.class_ids)

  def test_a_class_with_one_large_group_is_refused_or_skipped(self):
    dataset = grouped(["aaaaab", "abcdef", "aabbcc"])
    values = {"ways": 2, "shots": 1, "queries": 2, "groups": "apart"}
    with pytest.raises(types.InputError) as raised:
      draws(dataset, protocols.make(**values), 1)
    message = str(raised.value)
    for part in (
      "base-0000",
      "packs, split 'novel'",
      "different groups",
      "1 of 3 classes",
      "small_classes=skip",
    ):
      assert part in message
    skipping = protocols.make(**values, small_classes="skip")
    for rows in draws(dataset, skipping, 30):
      assert sorted(rows.class_ids) == [1, 2]

  def test_numbers_must_be_known_beforehand(self):
    for role in ("shots", "queries"):
      with pytest.raises(types.InputError, match=r"groups=apart.*meta_dataset"):
        protocols.make(**{role: "meta_dataset"}, groups="apart")


class TestNamedGroups:
  """Support from one group and queries from another one, as of two folders."""

  @pytest.fixture
  def folders(self):
    return grouped(["a" * 6 + "b" * n for n in (5, 9, 7, 6)])

  def _protocol(self, **values):
    return protocols.make(**{"ways": 3, "shots": 2, "groups": "a:b"} | values)

  def test_all_of_the_other_group(self, folders):
    protocol = self._protocol(queries="rest")
    names, group = folders.group_names(), folders.group_ids()
    sizes = np.bincount(folders.class_ids[group == names.index("b")])
    drawn = source.Drawn(folders, protocol, 0)
    for index in range(20):
      rows = sampler.draw(folders, protocol, seed=0, index=index)
      assert (group[rows.support] == names.index("a")).all()
      assert (group[rows.query] == names.index("b")).all()
      assert np.bincount(rows.support_labels).tolist() == [2, 2, 2]
      counts = np.bincount(rows.query_labels)
      assert counts.tolist() == sizes[rows.class_ids].tolist()
      assert len(set(rows.query)) == len(rows.query)
      padding.fitting(drawn.shapes, *drawn.sizes(index))

  def test_queries_by_number(self, folders):
    for rows in draws(folders, self._protocol(queries=5), 20):
      assert np.bincount(rows.query_labels).tolist() == [5, 5, 5]

  def test_no_copy_of_the_support_is_a_query(self, folders):
    """Not even of support that another episode draws."""
    images = folders.images.copy()
    copied = np.flatnonzero(folders.class_ids == 1)
    images[copied[-1]] = images[copied[0]]
    copied = dataclasses.replace(folders, images=images)
    for rows in draws(
      copied, self._protocol(queries="rest", copies="apart"), 9
    ):
      assert (1 in rows.class_ids) <= (
        8 in np.bincount(rows.query_labels).tolist()
      )

  def test_what_is_refused(self, folders):
    with pytest.raises(types.InputError, match=r"unknown group .*'c'.*a, b"):
      sampler.check(folders, self._protocol(groups="a:c"))
    with pytest.raises(types.InputError, match=r"6 images in a and 5 in b"):
      sampler.check(folders, self._protocol(queries=6))
    for wrong in ("a:a", "a:", ":b", "a"):
      with pytest.raises(types.InputError, match="groups must be"):
        self._protocol(groups=wrong)
    with pytest.raises(types.InputError, match="any group"):
      self._protocol(queries=1, reuse=False)

  def test_it_is_named(self, folders):
    assert "support from a, queries from b" in self._protocol().text
    assert self._protocol().values()["groups"] == "a:b"


class TestRest:
  def test_every_other_image(self, dataset):
    for rows in draws(dataset, make("rest"), 20):
      total = np.bincount(rows.query_labels) + np.bincount(rows.support_labels)
      assert total.tolist() == [SIZES[c] for c in rows.class_ids]
      assert not set(rows.query) & set(rows.support)

  def test_bounds_hold(self, dataset):
    protocol = make("rest")
    bounds = sampler.bounds(dataset, protocol)
    assert bounds.query == (22 + 24 + 28 - 18, 60 + 41 + 35 - 3)
    for c in compositions(dataset, protocol, 50):
      assert bounds.query[0] <= c.query.sum() <= bounds.query[1]

  def test_one_image_must_be_left(self):
    dataset = synthetic.make(2, [3, 4], image_size_px=1)
    protocol = protocols.make(ways=2, shots=3, queries="rest")
    with pytest.raises(types.InputError, match="need 4 images"):
      draws(dataset, protocol, 1)

  @pytest.mark.parametrize(
    "values", [{"groups": "apart"}, {"shots": "meta_dataset"}, {"reuse": False}]
  )
  def test_what_leaves_no_rest(self, values):
    with pytest.raises(types.InputError):
      protocols.make(queries="rest", **values)


def test_skipping_is_no_advice_where_it_leaves_too_few(dataset):
  protocol = protocols.make(ways=3, shots=50, queries=50)
  with pytest.raises(types.InputError) as caught:
    draws(dataset, protocol, 1)
  assert "8 of 8 classes have too few, which leaves 0" in str(caught.value)
  assert "the 3 largest have at least 35 each" in str(caught.value)
  assert "skip" not in str(caught.value)


class TestNoReuse:
  def test_no_image_in_two_episodes(self):
    dataset = synthetic.make(6, [10, 11, 10, 14, 12, 10], image_size_px=1)
    protocol = protocols.make(ways=3, shots=2, queries=3, reuse=False)
    # Two episodes a round of the classes, two rounds of five images.
    rows = draws(dataset, protocol, 4)
    images = np.concatenate([[*r.support, *r.query] for r in rows])
    assert len(set(images.tolist())) == len(images) == 4 * 15
    classes = np.concatenate([r.class_ids for r in rows])
    assert np.bincount(classes).tolist() == [2] * 6
    with pytest.raises(types.InputError) as raised:
      sampler.draw(dataset, protocol, seed=0, index=4)
    assert (
      "5 episodes were asked for, but synthetic, split 'base' has images for "
      "4 episodes that share none"
    ) in str(raised.value)

  def test_left_over_classes_take_turns(self):
    """Of seven classes one sits out in each round."""
    dataset = synthetic.make(7, 200, image_size_px=1)
    protocol = protocols.make(ways=3, shots=1, queries=1, reuse=False)
    rows = draws(dataset, protocol, 200)
    counts = np.bincount(np.concatenate([r.class_ids for r in rows]))
    assert counts.sum() == 600
    assert counts.max() <= 100
    assert stats.chisquare(100 - counts).pvalue > LEAST_P

  def test_skipped_classes_do_not_bound_it(self):
    dataset = synthetic.make(5, [2, 12, 12, 12, 12], image_size_px=1)
    values = {"ways": 2, "shots": 1, "queries": 2, "reuse": False}
    protocol = protocols.make(**values, small_classes="skip")
    sampler.check(dataset, protocol, num_episodes=8)
    with pytest.raises(types.InputError, match="8 episodes that share none"):
      sampler.check(dataset, protocol, num_episodes=9)

  @pytest.mark.parametrize(
    "values",
    [{"ways": "all"}, {"shots": "range:1:2"}, {"groups": "apart"}],
  )
  def test_only_where_all_episodes_are_alike(self, values):
    with pytest.raises(types.InputError, match="share no image"):
      protocols.make(**values, reuse=False)


class TestSmallClasses:
  def test_refused_with_all_that_is_needed_to_know(self, dataset):
    protocol = protocols.make(ways=3, shots=5, queries=20)
    with pytest.raises(types.InputError) as raised:
      draws(dataset, protocol, 1)
    assert str(raised.value) == (
      "3-way 5-shot and 20 queries per class need 25 images of a class, but "
      "class 'novel-0006' of synthetic, split 'novel' has 22 (2 of 8 classes "
      "have too few; small_classes=skip leaves them out)"
    )

  def test_skipped(self, dataset):
    drawn = {
      int(c)
      for rows in draws(dataset, make("skip"), 60)
      for c in rows.class_ids
    }
    assert drawn == {0, 2, 3, 4, 5, 7}

  def test_too_few_are_left(self, dataset):
    protocol = protocols.make(ways=3, shots=5, queries=36, small_classes="skip")
    with pytest.raises(
      types.InputError, match=r"leaves 2; the 3 largest have at least 35"
    ):
      draws(dataset, protocol, 1)

  def test_all_ways_are_those_left(self, dataset):
    protocol = protocols.make(
      ways="all", shots=5, queries=20, small_classes="skip"
    )
    assert sampler.bounds(dataset, protocol).ways == 6
    for rows in draws(dataset, protocol, 3):
      assert sorted(rows.class_ids) == [0, 2, 3, 4, 5, 7]


class TestErrors:
  @pytest.mark.parametrize(
    ("role", "text", "parts"),
    [
      ("ways", "some", ["ways", "'some'", "all", "range:LOW:HIGH"]),
      ("ways", "uneven:1:2", ["ways", "'uneven:1:2'", "range:LOW:HIGH"]),
      ("shots", "dirichlet:75", ["shots", "long_tail:MOST:LEAST"]),
      ("queries", "uneven:1:5", ["queries", "some_classes:QUERIES:CLASSES"]),
      ("shots", "range:5", ["'range:5'", "range:LOW:HIGH"]),
      ("shots", "range:1:2:3", ["'range:1:2:3'", "range:LOW:HIGH"]),
      ("shots", "range:a:b", ["'range:a:b'", "numbers"]),
      ("shots", "range:7:5", ["high of range", "at least 7", "5"]),
      ("shots", "range:0:5", ["low of range", "at least 1", "0"]),
      ("shots", "long_tail:1:9", ["long_tail", "at least 9", "1"]),
      ("queries", "dirichlet:0", ["total of dirichlet", "at least 1"]),
      ("queries", "dirichlet:75:0", ["concentration of dirichlet", "0.0"]),
      ("queries", "dirichlet:75:nan", ["concentration", "nan"]),
      ("queries", "scattered:0", ["total of scattered", "at least 1"]),
      ("queries", "some_classes:0:1", ["queries of some_classes"]),
      ("shots", "meta_dataset:0", ["total of meta_dataset"]),
      ("shots", "-1", ["shots must be at least 1", "-1"]),
    ],
  )
  def test_message_names_what_and_where(self, role, text, parts):
    with pytest.raises(types.InputError) as raised:
      protocols.make(**{role: text})
    for part in parts:
      assert part in str(raised.value)

  def test_rule_of_another_role(self):
    with pytest.raises(types.InputError, match="shots cannot follow the rule"):
      protocols.Protocol(shots=rules.Scattered(3))

  def test_unknown_switch(self):
    with pytest.raises(types.InputError, match="did you mean 'skip'"):
      protocols.make(small_classes="skp")
    with pytest.raises(types.InputError, match=r"groups must be .*'both'"):
      protocols.make(groups="both")

  def test_more_ways_than_classes(self, dataset):
    with pytest.raises(types.InputError) as raised:
      draws(dataset, protocols.make(ways="range:9:12", queries=1), 1)
    assert "9 ways" in str(raised.value)
    assert "8 classes" in str(raised.value)
