"""Losses and heads against numbers worked by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import types
from fsl_jax.adapt import heads, losses

ABSENT = losses.ABSENT_LOGIT


class TestCrossEntropy:
  def test_by_hand(self):
    # Odds 1 : 3 and 1 : 1.
    logits = jnp.array([[0.0, math.log(3)], [5.0, 5.0]])
    values = losses.cross_entropy(logits, jnp.array([0, 1]))
    np.testing.assert_allclose(values, [math.log(4), math.log(2)], rtol=1e-6)

  def test_large_logits(self):
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    values = losses.cross_entropy(logits, jnp.array([0, 0]))
    np.testing.assert_allclose(values, [0, 1e4])

  def test_start_of_the_published_method(self):
    # A perfect match among five: p = 0.405, as the softmax of cosines has it.
    logits = jnp.array([[1.0, 0, 0, 0, 0]])
    (value,) = losses.cross_entropy(logits, jnp.array([0]))
    assert math.exp(-value) == pytest.approx(0.405, abs=5e-4)

  def test_absent_class_takes_no_share(self):
    logits = jnp.array([[0.0, math.log(3), ABSENT]])
    (value,) = losses.cross_entropy(logits, jnp.array([0]))
    assert value == pytest.approx(math.log(4))


class TestEntropy:
  @pytest.mark.parametrize("ways", [1, 2, 5, 160])
  def test_uniform_is_log_n(self, ways):
    (value,) = losses.entropy(jnp.full((1, ways), 3.0))
    assert value == pytest.approx(math.log(ways), rel=1e-5, abs=1e-7)

  def test_by_hand(self):
    # p = 1/4, 3/4.
    (value,) = losses.entropy(jnp.array([[0.0, math.log(3)]]))
    expected = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert value == pytest.approx(expected, rel=1e-6)

  def test_certainty_is_zero(self):
    (value,) = losses.entropy(jnp.array([[1e4, 0.0, -1e4]]))
    assert value == 0

  def test_absent_classes_do_not_count(self):
    logits = jnp.array([[1.0, 1.0, ABSENT, ABSENT]])
    (value,) = losses.entropy(logits)
    assert value == pytest.approx(math.log(2), rel=1e-6)

  @pytest.mark.parametrize("function", [losses.entropy, None])
  def test_gradient_with_absent_classes(self, function):
    if function is None:

      def function(logits):
        return losses.cross_entropy(logits, jnp.array([0]))

    def total(logits):
      return function(logits).sum()

    few = jnp.array([[0.3, -0.2]])
    many = jnp.concatenate([few, jnp.full((1, 3), ABSENT)], axis=1)
    gradient = jax.grad(total)(many)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(
      gradient[:, :2], jax.grad(total)(few), rtol=1e-6, atol=1e-7
    )
    np.testing.assert_array_equal(gradient[:, 2:], 0)


class TestMaskedMean:
  def test_by_hand(self):
    values = jnp.array([1.0, 100.0, 3.0])
    mask = jnp.array([True, False, True])
    assert losses.masked_mean(values, mask) == 2

  def test_nowhere(self):
    mask = jnp.zeros(2, bool)
    assert losses.masked_mean(jnp.array([1.0, 2.0]), mask) == 0

  def test_masked_nan_stays_outside(self):
    values = jnp.array([1.0, jnp.nan])
    assert losses.masked_mean(values, jnp.array([True, False])) == 1


class TestEmbed:
  OUTPUTS = types.Outputs(
    logits=jnp.array([[-1.0, 2.0]]), features=jnp.array([[3.0, -4.0, 0.0]])
  )

  @pytest.mark.parametrize(
    ("input", "relu", "expected"),
    [
      ("logits", True, [[0, 2]]),
      ("logits", False, [[-1, 2]]),
      ("features", True, [[3, 0, 0]]),
      ("features", False, [[3, -4, 0]]),
    ],
  )
  def test_by_hand(self, input, relu, expected):
    out = heads.embed(self.OUTPUTS, input=input, relu=relu)
    np.testing.assert_array_equal(out, expected)


class TestSupportInit:
  # Class 0 has two images and one that is masked out, class 1 has one.
  EMBEDDINGS = jnp.array([[6.0, 0.0], [0.0, 8.0], [0.0, 100.0], [5.0, 12.0]])
  LABELS = jnp.array([0, 0, 0, 1])
  MASK = jnp.array([True, True, False, True])

  def test_mean_first_then_normalise(self):
    head = heads.support_init(self.EMBEDDINGS, self.LABELS, self.MASK, 2)
    # Mean of (6, 0) and (0, 8) is (3, 4), of length 5. Normalising first
    # would give (1, 1) / sqrt 2.
    np.testing.assert_allclose(
      head.weight, [[3 / 5, 4 / 5], [5 / 13, 12 / 13]], rtol=1e-6
    )
    np.testing.assert_array_equal(head.bias, [0, 0])

  def test_class_means(self):
    means = heads.class_means(self.EMBEDDINGS, self.LABELS, self.MASK, 3)
    np.testing.assert_allclose(means, [[3, 4], [5, 12], [0, 0]])

  def test_present(self):
    present = heads.present_classes(self.LABELS, self.MASK, 3)
    assert present.tolist() == [True, True, False]
    none = heads.present_classes(self.LABELS, jnp.zeros(4, bool), 2)
    assert none.tolist() == [False, False]

  def test_class_without_support_and_all_zero_embeddings(self):
    head = heads.support_init(jnp.zeros((4, 2)), self.LABELS, self.MASK, 3)
    np.testing.assert_array_equal(head.weight, np.zeros((3, 2)))

  def test_many_shots_in_float32(self):
    # 20,000 images of a class: the mean is that of float64.
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(20_000, 3)) + [0, 1, 2]
    means = heads.class_means(
      jnp.asarray(x, jnp.float32),
      jnp.zeros(len(x), jnp.int32),
      jnp.ones(len(x), bool),
      1,
    )
    np.testing.assert_allclose(means[0], x.mean(0), rtol=1e-5)


class TestClassify:
  HEAD = heads.Head(jnp.array([[0.6, 0.8], [1.0, 0.0]]), jnp.array([0.5, 0.0]))
  BOTH = jnp.array([True, True])

  def test_by_hand(self):
    # (3, 4) and (30, 40) are the same direction.
    x = jnp.array([[3.0, 4.0], [30.0, 40.0], [0.0, -2.0]])
    logits = heads.classify(self.HEAD, x, self.BOTH)
    expected = [[1.5, 0.6], [1.5, 0.6], [-0.3, 0.0]]
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-7)

  def test_weight_is_not_normalised_again(self):
    head = heads.Head(2 * self.HEAD.weight, self.HEAD.bias)
    logits = heads.classify(head, jnp.array([[3.0, 4.0]]), self.BOTH)
    np.testing.assert_allclose(logits, [[2.5, 1.2]], rtol=1e-6)

  def test_temperature_divides_bias_and_cosine(self):
    x = jnp.array([[3.0, 4.0]])
    logits = heads.classify(self.HEAD, x, self.BOTH, temperature=0.5)
    np.testing.assert_allclose(logits, [[3.0, 1.2]], rtol=1e-6)

  @pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
  def test_absent_class_is_last_at_any_temperature(self, temperature):
    logits = heads.classify(
      self.HEAD,
      jnp.array([[-3.0, -4.0]]),
      jnp.array([True, False]),
      temperature=temperature,
    )
    assert logits[0, 1] == ABSENT < logits[0, 0]

  @pytest.mark.parametrize("x", [[0.0, 0.0], [1e-20, 0.0], [1e-13, 1e-13]])
  def test_gradients_are_finite_at_and_near_zero(self, x):
    def loss(head, x):
      embeddings = jax.nn.relu(x)
      logits = heads.classify(head, embeddings, self.BOTH)
      return (losses.entropy(logits) + logits.sum(-1)).sum()

    gradients = jax.grad(loss, argnums=(0, 1))(self.HEAD, jnp.array([x]))
    for leaf in jax.tree.leaves(gradients):
      assert np.isfinite(leaf).all()

  def test_dead_embedding_gets_no_gradient(self):
    """All logits negative: ReLU cuts, and nothing may come back as NaN."""

    def loss(z):
      return heads.classify(self.HEAD, jax.nn.relu(z), self.BOTH).sum()

    np.testing.assert_array_equal(jax.grad(loss)(jnp.array([[-1.0, -2.0]])), 0)

  def test_l2_normalise_divides_by_at_least_1e_12(self):
    x = jnp.array([[3e-13, 4e-13], [3e-10, 4e-10], [0.0, 0.0]])
    expected = [[0.3, 0.4], [0.6, 0.8], [0, 0]]
    np.testing.assert_allclose(heads.l2_normalise(x), expected, rtol=1e-5)

  def test_masked_nan_does_not_reach_a_class(self):
    x = jnp.array([[1.0, 0.0], [jnp.nan, 1.0]])
    means = heads.class_means(x, jnp.array([0, 0]), jnp.array([True, False]), 1)
    np.testing.assert_array_equal(means, [[1, 0]])
