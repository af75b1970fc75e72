"""Numbers of many episodes: against SciPy, by hand, and by simulation."""

import numpy as np
import pytest
import scipy.stats

from fsl_jax import statistics, types


class TestSummary:
  def test_by_hand(self):
    # Deviations 0.3, 0.1, 0.1, 0.3: variance 0.05 with n, not n - 1, below.
    found = statistics.summary(np.array([0.8, 0.2, np.nan, 0.4, 0.6]))
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(np.sqrt(0.05))
    assert found.ci95 == pytest.approx(1.96 * np.sqrt(0.05) / 2)
    assert found.median == pytest.approx(0.5)
    assert found.worst == pytest.approx(0.2)
    assert (found.num, found.num_left_out) == (4, 1)

  @pytest.mark.parametrize(
    ("n", "num_worst"), [(1, 1), (20, 1), (21, 2), (140, 7), (1000, 50)]
  )
  def test_worst_is_one_in_twenty_rounded_up(self, n, num_worst):
    values = np.random.default_rng(0).permutation(n) / n
    expected = np.arange(num_worst).mean() / n
    assert statistics.summary(values).worst == pytest.approx(expected)

  def test_too_few(self):
    found = statistics.summary(np.array([0.7]))
    assert (found.mean, found.median, found.worst) == (0.7, 0.7, 0.7)
    assert np.isnan([found.std, found.ci95]).all()
    for n in (0, 3):
      found = statistics.summary(np.full(n, np.nan))
      assert np.isnan(found[:5]).all()
      assert (found.num, found.num_left_out) == (0, n)

  def test_interval_covers_the_mean_of_its_classes(self):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
      found = statistics.summary(rng.beta(4, 2, 200))
      covered += abs(found.mean - 4 / 6) < found.ci95
    # Three standard errors; 1.64 or 2.58 std, or no root of n, would miss.
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)

  def test_matrix_is_refused(self):
    with pytest.raises(types.InputError, match=r"vector, got .*\[2, 3\]"):
      statistics.summary(np.zeros((2, 3)))


class TestPaired:
  def test_against_scipy(self):
    rng = np.random.default_rng(0)
    a = rng.binomial(75, 0.7, 60) / 75
    b = rng.binomial(75, 0.65, 60) / 75
    found = statistics.paired(a, b)
    d = a - b
    assert found.mean == pytest.approx(d.mean())
    assert found.ci95 == pytest.approx(1.96 * d.std() / np.sqrt(60))
    assert found.p_t == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue)
    in_75ths = np.round(75 * a) - np.round(75 * b)
    assert found.p_wilcoxon == pytest.approx(
      scipy.stats.wilcoxon(in_75ths).pvalue
    )
    wins = (in_75ths > 0).sum(), (in_75ths == 0).sum(), (in_75ths < 0).sum()
    assert (found.wins, found.ties, found.losses) == wins

  def test_by_hand(self):
    # t = 2 / (sqrt(1) / sqrt(3)) of 2 degrees; of the 8 signs of three ranks
    # two are as extreme.
    found = statistics.paired(np.array([0.1, 0.2, 0.3]), np.zeros(3))
    t = 0.2 / (0.1 / np.sqrt(3))
    assert found.p_t == pytest.approx(1 - t / np.sqrt(2 + t**2))
    assert found.p_wilcoxon == pytest.approx(2 / 8)

  def test_exchange_changes_signs_only(self):
    a, b = np.random.default_rng(1).random((2, 30))
    ours, theirs = statistics.paired(a, b), statistics.paired(b, a)
    assert ours.mean == pytest.approx(-theirs.mean)
    assert (ours.wins, ours.losses) == (theirs.losses, theirs.wins)
    assert ours.p_t == pytest.approx(theirs.p_t)
    assert ours.p_wilcoxon == pytest.approx(theirs.p_wilcoxon)

  def test_only_episodes_finite_in_both(self):
    nan = np.nan
    a = np.array([0.5, nan, 0.4, 0.9, 0.7])
    b = np.array([0.4, 0.3, nan, 0.6, 0.7])
    found = statistics.paired(a, b)
    assert found == statistics.paired(a[[0, 3, 4]], b[[0, 3, 4]])
    assert (found.num_episodes, found.wins, found.ties) == (3, 2, 1)

  def test_constant_differences(self):
    a = np.array([0.4, 0.6, 0.8, 1.0])
    found = statistics.paired(a, a)
    assert found[:4] == (0, 0, 1, 1)
    assert (found.wins, found.ties, found.losses) == (0, 4, 0)
    # These are all 0.2, and differ in the last bit.
    found = statistics.paired(a, np.array([0.2, 0.4, 0.6, 0.8]))
    assert found.mean == pytest.approx(0.2)
    assert np.isnan(found.p_t)
    assert found.p_wilcoxon == pytest.approx(2 / 16)

  @pytest.mark.parametrize("n", [0, 1])
  def test_too_few(self, n):
    found = statistics.paired(np.full(n, 0.5), np.full(n, 0.4))
    assert np.isnan([found.ci95, found.p_t, found.p_wilcoxon]).all()
    assert np.isnan(found.mean) == (n == 0)

  def test_other_episodes_are_refused(self):
    with pytest.raises(types.InputError, match="got 3 and 2"):
      statistics.paired(np.zeros(3), np.zeros(2))


class TestPool:
  def test_by_hand(self):
    # Sample std 0.1; the table of Student's t gives 4.303 for 2 degrees.
    found = statistics.pool([0.5, 0.6, 0.7])
    assert found.mean == pytest.approx(0.6)
    assert found.std == pytest.approx(0.1)
    assert found.half_width == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-4)
    assert found.num_seeds == 3

  def test_what_is_not_defined(self):
    found = statistics.pool([0.5])
    assert found.mean == 0.5
    assert np.isnan(found[1:3]).all()
    # A failed seed is not left out.
    found = statistics.pool([0.5, np.nan, 0.7])
    assert np.isnan(found[:3]).all()
    assert found.num_seeds == 3
    with pytest.raises(types.InputError, match="at least one seed"):
      statistics.pool([])


def draw(rng, num_classes, ways, n, effect, noise):
  """Episodes of classes with additive effects; their mean over all is 0."""
  class_ids = rng.random((n, num_classes)).argsort(1)[:, :ways]
  effects = rng.normal(0, effect, num_classes)
  return effects[class_ids].mean(1) + rng.normal(0, noise, n), class_ids


class TestClassInterval:
  # Few classes and many; hardly more episodes than classes.
  @pytest.mark.parametrize(
    ("num_classes", "ways", "n"),
    [(20, 5, 300), (55, 5, 300), (20, 5, 30)],
  )
  def test_covers_classes_not_drawn(self, num_classes, ways, n):
    rng = np.random.default_rng(0)
    covered = plainly = 0
    times = 250
    for _ in range(times):
      values, class_ids = draw(rng, num_classes, ways, n, 0.1, 0.08)
      found = statistics.class_interval(values, class_ids)
      covered += found.low < 0 < found.high
      plain = statistics.summary(values)
      plainly += abs(plain.mean) < plain.ci95
    # Three standard errors: a width a quarter too small would miss.
    assert covered / times == pytest.approx(0.95, abs=0.041)
    assert plainly / times < 0.8

  def test_width_by_theory(self):
    """With endless episodes it is Student's t of the class effects."""
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(50):
      values, class_ids = draw(rng, 20, 5, 4000, 0.1, 0.02)
      found = statistics.class_interval(values, class_ids)
      design = np.zeros((4000, 20))
      np.put_along_axis(design, class_ids, 1 / 5, axis=1)
      effects = np.linalg.lstsq(design, values)[0]
      half = scipy.stats.t.ppf(0.975, 19) * effects.std(ddof=1) / np.sqrt(20)
      widths.append((found.high - found.low) / 2 / half)
    # The prior has a say of a few percent at 20 classes.
    assert np.mean(widths) == pytest.approx(1, abs=0.05)

  def test_episodes_without_a_common_class_are_plain_samples(self):
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, 200)
    found = statistics.class_interval(values, np.arange(1000).reshape(200, 5))
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, 199)
    assert found.low == pytest.approx(values.mean() - half)
    assert found.high == pytest.approx(values.mean() + half)
    assert found.num_classes == 1000

  def test_invariances(self):
    rng = np.random.default_rng(0)
    values, class_ids = draw(rng, 20, 5, 100, 0.1, 0.08)
    ours = statistics.class_interval(values, class_ids)
    # Names of the classes, and the order of episodes and of their classes.
    names, order = 3 * rng.permutation(20), rng.permutation(100)
    theirs = statistics.class_interval(
      values[order], names[class_ids[order][:, ::-1]]
    )
    assert theirs == pytest.approx(ours)
    # Padded classes, and an episode that is not finite.
    padded = np.concatenate([class_ids, np.full((100, 2), -1)], axis=1)
    padded = np.concatenate([padded, [[90, 91, -1, -1, -1, -1, -1]]])
    theirs = statistics.class_interval(np.append(values, np.nan), padded)
    assert theirs == pytest.approx(ours)
    # It moves and scales with the values.
    theirs = statistics.class_interval(0.5 + 3 * values, class_ids)
    assert theirs[:2] == pytest.approx([0.5 + 3 * end for end in ours[:2]])

  @pytest.mark.parametrize(
    ("values", "class_ids"),
    [
      ([], np.zeros((0, 5), int)),
      ([0.5], np.arange(5)[None]),
      ([0.5, np.nan, np.nan], np.arange(15).reshape(3, 5)),
      # The same classes everywhere tell nothing of others.
      (np.arange(50) / 50, np.tile(np.arange(5), (50, 1))),
      (np.ones(10), draw(np.random.default_rng(0), 20, 5, 10, 0, 0)[1]),
    ],
  )
  def test_what_is_not_defined(self, values, class_ids):
    found = statistics.class_interval(np.array(values), class_ids)
    assert np.isnan(found[:2]).all()
    finite = class_ids[np.isfinite(np.array(values, float))]
    assert found.num_classes == len(np.unique(finite))

  def test_without_noise_the_classes_remain(self):
    values, class_ids = draw(np.random.default_rng(0), 20, 5, 1000, 0.1, 0)
    noisy = values + np.random.default_rng(1).normal(0, 1e-3, 1000)
    assert statistics.class_interval(values, class_ids) == pytest.approx(
      statistics.class_interval(noisy, class_ids), rel=0.02
    )

  def test_bad_input(self):
    with pytest.raises(types.InputError, match=r"\[3, N\].*got \[2, 5\]"):
      statistics.class_interval(np.zeros(3), np.zeros((2, 5), int))
    with pytest.raises(types.InputError, match="episode 1 of the finite ones"):
      statistics.class_interval(np.zeros(2), np.array([[0, 1], [-1, -1]]))


@pytest.mark.parametrize(("n", "num_classes"), [(60, 12), (8, 40), (30, 30)])
def test_decomposition_is_that_of_the_shares(n, num_classes):
  """More episodes than classes, or fewer."""
  rng = np.random.default_rng(n)
  class_ids = np.stack([rng.permutation(num_classes)[:5] for _ in range(n)])
  shares, squared, directions = statistics._decomposed(
    class_ids.tobytes(), class_ids.shape
  )
  centred = shares - shares.mean(0)
  u, singular, _ = np.linalg.svd(centred, full_matrices=False)
  kept = singular > 1e-6
  np.testing.assert_allclose(squared[::-1], singular[kept] ** 2, rtol=1e-9)
  values = rng.normal(size=n)
  found = np.square((centred.T @ values) @ directions) / squared
  expected = np.square(u.T @ values)[kept]
  np.testing.assert_allclose(found[::-1], expected, rtol=1e-6, atol=1e-12)
