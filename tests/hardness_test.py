"""Hardness of an episode and the line through many of them."""

import math

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from fsl_jax import backbones, hardness, types
from fsl_jax.adapt import heads

_log_odds = jax.jit(hardness.log_odds, static_argnames="num_ways")


def log_odds(support, labels, query, query_labels, ways, **masks):
  support, query = np.asarray(support, float), np.asarray(query, float)
  return float(
    _log_odds(
      jnp.asarray(support),
      jnp.asarray(labels, jnp.int32),
      jnp.asarray(masks.get("support_mask", np.ones(len(support), bool))),
      jnp.asarray(query),
      jnp.asarray(query_labels, jnp.int32),
      jnp.asarray(masks.get("query_mask", np.ones(len(query), bool))),
      ways,
    )
  )


class TestLogOdds:
  @pytest.mark.parametrize("ways", [2, 5, 160])
  def test_uniform_is_log_of_the_others(self, ways):
    # A query at right angles to every class.
    support = np.eye(ways, ways + 1)
    query = np.eye(ways + 1)[-1:]
    value = log_odds(support, range(ways), query, [0], ways)
    assert value == pytest.approx(math.log(ways - 1), abs=1e-5)

  @pytest.mark.parametrize("ways", [2, 5, 160])
  def test_perfect_match_is_one_less(self, ways):
    support = np.eye(ways)
    value = log_odds(support, range(ways), 7 * support, range(ways), ways)
    assert value == pytest.approx(math.log(ways - 1) - 1, abs=1e-5)

  def test_no_relu(self):
    # Opposite directions: cosines 1 and -1, p / (1 - p) = e^2.
    value = log_odds([[1.0], [-1.0]], [0, 1], [[2.0]], [0], 2)
    assert value == pytest.approx(-2)

  def test_mean_is_of_log_odds_over_queries(self):
    # One query at +2, one at -2 and one at 0.
    support, labels = [[1.0, 0], [-1.0, 0]], [0, 1]
    query = [[3.0, 0.0], [3.0, 0.0], [0.0, 1.0], [2.0, 0.0]]
    value = log_odds(support, labels, query, [0, 1, 0, 1], 2)
    assert value == pytest.approx((-2 + 2 + 0 + 2) / 4, abs=1e-6)

  def test_single_way_is_minus_infinity(self):
    assert log_odds([[1.0]], [0], [[1.0]], [0], 1) == -math.inf

  def test_reference(self):
    rng = np.random.default_rng(0)
    labels = [0, 0, 0, 1, 2, 2]  # unequal shots
    support, query = rng.normal(size=(6, 7)), rng.normal(size=(9, 7))
    query_labels = rng.integers(0, 3, 9)
    expected = reference.hardness(support, labels, query, query_labels, 3)
    value = log_odds(support, labels, query, query_labels, 3)
    assert value == pytest.approx(expected, abs=1e-5)

    # Padding, of support, queries and ways.
    padded = log_odds(
      np.concatenate([support, 9 * rng.normal(size=(2, 7))]),
      [*labels, 0, 4],
      np.concatenate([query, np.full((2, 7), np.nan)]),
      [*query_labels, 0, 1],
      5,
      support_mask=np.arange(8) < 6,
      query_mask=np.arange(11) < 9,
    )
    assert padded == pytest.approx(expected, abs=1e-5)

  def test_does_not_depend_on_the_scale_of_the_extractor(self):
    rng = np.random.default_rng(1)
    support, query = rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    small = log_odds(support, [0, 0, 1, 1], query, [0, 1, 1], 2)
    large = log_odds(1e3 * support, [0, 0, 1, 1], 1e3 * query, [0, 1, 1], 2)
    assert small == pytest.approx(large, abs=1e-5)


def test_of_episode_is_log_odds_of_prepared_images():
  task, labels = helpers.make_task()
  blank = np.zeros(0, np.int32)
  episode = types.Episode(
    task, labels.astype(np.int32), np.int32(0), blank, blank, blank
  )
  identity = backbones.identity()
  variables = identity.init(jax.random.key(0), jnp.zeros((1, 1)))
  extract = hardness.extractor(identity)
  value = hardness.of_episode(extract, variables, episode)
  prepared = helpers.normalised(task)
  expected = reference.hardness(
    prepared.support_images.reshape(6, -1),
    task.support_labels,
    prepared.query_images.reshape(7, -1),
    labels,
    3,
  )
  assert float(value) == pytest.approx(expected, abs=1e-5)


def test_extractor_is_independent_of_micro_batches():
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  task = helpers.normalised(helpers.make_task()[0])
  whole = hardness.extractor(backbone)(variables, task.query_images)
  parts = heads.embed_images(
    backbone, variables, task.query_images, input="logits", micro_batch=3
  )
  np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


class TestFitLine:
  def test_by_hand(self):
    # accuracy = 0.8 - 0.2 hardness: reaches 0 at 4; triangle 80 * 4 / 2.
    x = np.array([1.0, 2.0, 3.0])
    line = hardness.fit_line(x, 0.8 - 0.2 * x)
    assert line.slope == pytest.approx(-0.2)
    assert line.intercept == pytest.approx(0.8)
    assert line.area == pytest.approx(160)
    assert line.num_episodes == 3

  def test_numpy(self):
    rng = np.random.default_rng(0)
    x = rng.normal(1.0, 0.3, 500)
    y = np.clip(0.9 - 0.3 * x + rng.normal(0, 0.1, 500), 0, 1)
    line = hardness.fit_line(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    assert (line.slope, line.intercept) == pytest.approx((slope, intercept))
    assert line.area == pytest.approx(100 * intercept**2 / (-2 * slope))

  def test_episodes_that_are_not_finite_are_left_out(self):
    x = np.array([1.0, np.nan, 2.0, -np.inf, 1.5])
    y = np.array([0.6, 0.5, 0.4, 0.9, np.nan])
    line = hardness.fit_line(x, y)
    assert line.num_episodes == 2
    assert line.slope == pytest.approx(-0.2)

  @pytest.mark.parametrize(
    ("x", "y"),
    [
      ([], []),
      ([1.0], [0.5]),
      ([1.0, 1.0, 1.0], [0.1, 0.5, 0.9]),
      ([np.nan, np.nan], [0.1, 0.2]),
      ([1.0, np.nan], [0.1, 0.2]),
    ],
  )
  def test_no_line(self, x, y):
    assert hardness.fit_line(np.array(x), np.array(y)) is None

  @pytest.mark.parametrize("y", [[0.2, 0.4], [0.3, 0.3], [-0.1, -0.2]])
  def test_no_area_unless_falling_from_above_zero(self, y):
    line = hardness.fit_line(np.array([1.0, 2.0]), np.array(y))
    assert line is not None
    assert math.isnan(line.area)


class TestLineInterval:
  def test_exact_line_has_no_width(self):
    # accuracy = 0.8 - 0.2 hardness, as in `TestFitLine`.
    x = [np.linspace(1, 2, 20), np.linspace(2, 3, 30)]
    found = hardness.line_interval(x, [0.8 - 0.2 * v for v in x])
    assert found.slope == pytest.approx((-0.2, -0.2))
    assert found.intercept == pytest.approx((0.8, 0.8))
    assert found.area == pytest.approx((160, 160))

  def test_by_hand(self):
    """One protocol always gives (1, 0.5); of the other's two episodes, (2, 0.3)
    and (2, 0.1), a resample holds 0, 1 or 2: slopes -0.2, -0.3 and -0.4."""
    x = [np.array([1.0]), np.array([2.0, 2.0])]
    y = [np.array([0.5]), np.array([0.3, 0.1])]
    found = hardness.line_interval(x, y)
    assert found.slope == pytest.approx((-0.4, -0.2))
    assert found.intercept == pytest.approx((0.7, 0.9))
    assert found.area == pytest.approx((100 * 0.81 / 0.8, 100 * 0.49 / 0.4))

  def test_is_fit_line_of_resamples(self):
    """The same draws, one line after the other."""
    rng = np.random.default_rng(0)
    x = [rng.normal(1, 0.3, 40), rng.normal(2, 0.3, 25)]
    y = [0.9 - 0.2 * v + rng.normal(0, 0.1, len(v)) for v in x]
    found = hardness.line_interval(x, y, num_resamples=50, seed=3)
    draws = np.random.default_rng(3)
    counts = [draws.multinomial(len(v), [1 / len(v)] * len(v), 50) for v in x]
    counts = np.concatenate(counts, axis=1)
    x, y = np.concatenate(x), np.concatenate(y)
    lines = [
      hardness.fit_line(np.repeat(x, c), np.repeat(y, c)) for c in counts
    ]
    for name in ("slope", "intercept", "area"):
      expected = np.percentile([getattr(v, name) for v in lines], [2.5, 97.5])
      assert getattr(found, name) == pytest.approx(tuple(expected)), name

  def test_covers_the_true_line(self):
    # Protocols of unequal noise, whose hardness is two nats apart.
    rng = np.random.default_rng(0)
    times = 300
    covered = np.zeros(3)
    for _ in range(times):
      x = [rng.normal(1.3, 0.2, 80), rng.normal(3.3, 0.1, 120)]
      y = [
        0.9 - 0.2 * v + rng.normal(0, noise, len(v))
        for v, noise in zip(x, (0.1, 0.02), strict=True)
      ]
      found = hardness.line_interval(x, y, num_resamples=200)
      truth = np.array([-0.2, 0.9, 100 * 0.81 / 0.4])
      low, high = np.transpose(found)
      covered += (low < truth) & (truth < high)
    # Three standard errors; percentiles of 200 lines are a little narrow.
    np.testing.assert_allclose(covered / times, 0.945, atol=0.04)

  def test_episodes_that_are_not_finite_are_left_out(self):
    rng = np.random.default_rng(0)
    x = rng.normal(1, 0.3, 30)
    y = 0.9 - 0.2 * x + rng.normal(0, 0.1, 30)
    found = hardness.line_interval(
      [np.append(x, [np.nan, 1.0]), np.full(4, np.nan)],
      [np.append(y, [0.5, np.nan]), np.zeros(4)],
    )
    np.testing.assert_allclose(found, hardness.line_interval([x], [y]))

  def test_seed(self):
    x, y = np.random.default_rng(0).random((2, 1, 20))
    ours = hardness.line_interval(x, y, seed=1)
    assert hardness.line_interval(x, y, seed=1).slope == ours.slope
    assert hardness.line_interval(x, y, seed=2).slope != ours.slope

  def test_no_area_where_a_resample_has_none(self):
    # No slope to speak of: some resamples fall, some rise.
    x = np.arange(20.0)
    y = 0.5 + 0.1 * np.cos(np.pi * x)
    found = hardness.line_interval([x], [y])
    assert found.slope[0] < 0 < found.slope[1]
    assert np.isnan(found.area).all()

  def test_nothing_where_a_resample_has_no_line(self):
    found = hardness.line_interval([np.array([1.0, 2.0])], [np.array([1.0, 0])])
    assert np.isnan(found).all()

  def test_no_line(self):
    assert hardness.line_interval([np.ones(3)], [np.zeros(3)]) is None
    assert hardness.line_interval([np.zeros(0)], [np.zeros(0)]) is None

  def test_other_episodes_are_refused(self):
    with pytest.raises(types.InputError, match="same episodes"):
      hardness.line_interval([np.zeros(3)], [np.zeros(2)])
    with pytest.raises(types.InputError, match="at least one protocol"):
      hardness.line_interval([], [])


class TestAreaDifference:
  def make(self, seed=0):
    """Two methods whose episodes share most of what makes them differ."""
    rng = np.random.default_rng(seed)
    x = [rng.normal(1.3, 0.2, 80), rng.normal(3.3, 0.1, 120)]
    common = [0.9 - 0.2 * v + rng.normal(0, 0.1, len(v)) for v in x]
    a, b = (
      [c + rise + rng.normal(0, 0.01, len(c)) for c in common]
      for rise in (0.02, 0.0)
    )
    return x, a, b

  def test_exact_lines(self):
    # 0.8 - 0.2 h has the area 160, 0.6 - 0.2 h 90, whatever is drawn.
    x = [np.linspace(1, 2, 20), np.linspace(2, 3, 30)]
    found = hardness.area_difference(
      x, [0.8 - 0.2 * v for v in x], [0.6 - 0.2 * v for v in x]
    )
    assert found.area == pytest.approx(70)
    assert found.interval == pytest.approx((70, 70))
    assert found.num_episodes == 50

  def test_is_that_of_the_areas_of_equal_resamples(self):
    x, a, b = self.make()
    found = hardness.area_difference(x, a, b, num_resamples=50, seed=3)
    draws = np.random.default_rng(3)
    counts = [draws.multinomial(len(v), [1 / len(v)] * len(v), 50) for v in x]
    counts = np.concatenate(counts, axis=1)
    areas = [
      [
        hardness.fit_line(
          np.repeat(np.concatenate(x), c), np.repeat(np.concatenate(y), c)
        ).area
        for c in counts
      ]
      for y in (a, b)
    ]
    expected = np.percentile(np.subtract(*areas), [2.5, 97.5])
    assert found.interval == pytest.approx(tuple(expected))

  def test_is_narrower_than_the_areas(self):
    x, a, b = self.make()
    low, high = hardness.area_difference(x, a, b).interval
    own = hardness.line_interval(x, a).area
    assert high - low < 0.3 * (own[1] - own[0])

  def test_covers_the_true_difference(self):
    truth = 100 * (0.92**2 - 0.9**2) / 0.4
    covered = 0
    for seed in range(200):
      found = hardness.area_difference(*self.make(seed), num_resamples=200)
      covered += found.interval[0] < truth < found.interval[1]
    assert covered / 200 == pytest.approx(0.945, abs=0.05)

  def test_turned_around(self):
    x, a, b = self.make()
    ours = hardness.area_difference(x, a, b)
    theirs = hardness.area_difference(x, b, a)
    assert ours.area == pytest.approx(-theirs.area)
    assert ours.interval == pytest.approx(
      (-theirs.interval[1], -theirs.interval[0])
    )

  def test_only_episodes_finite_in_both(self):
    x, a, b = self.make()
    a[0][3], b[1][5] = np.nan, np.nan
    found = hardness.area_difference(x, a, b)
    assert found.num_episodes == 198
    rest = [np.delete(v, i) for v, i in zip(x, (3, 5), strict=True)]
    kept = [
      [np.delete(v, i) for v, i in zip(y, (3, 5), strict=True)] for y in (a, b)
    ]
    expected = hardness.area_difference(rest, *kept)
    assert found.area == pytest.approx(expected.area)
    assert found.interval == pytest.approx(expected.interval)

  def test_no_area(self):
    x = [np.array([1.0, 2.0, 3.0])]
    falls, rises = [np.array([0.9, 0.5, 0.2])], [np.array([0.1, 0.2, 0.3])]
    assert hardness.area_difference(x, falls, rises) is None
    assert hardness.area_difference([np.ones(3)], falls, falls) is None

  def test_other_episodes_are_refused(self):
    with pytest.raises(types.InputError, match="same episodes"):
      hardness.area_difference([np.zeros(3)], [np.zeros(3)], [np.zeros(2)])
    with pytest.raises(types.InputError, match="same episodes"):
      hardness.area_difference([np.zeros(2)], [np.zeros(3)], [np.zeros(3)])
    with pytest.raises(types.InputError, match="at least one protocol"):
      hardness.area_difference([], [], [])
