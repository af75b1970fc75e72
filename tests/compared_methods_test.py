"""The compared methods against NumPy, and worked by hand."""

import pathlib
import re

import compared_cases as cases
import compared_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, types
from fsl_jax.adapt import pt_map, tim

ABSENT_BELOW = -1e20

# Methods with options, the same for the reference.
CASES = {
  "simpleshot": ("simpleshot", {}),
  "simpleshot, l2n": ("simpleshot", {"transform": "l2n"}),
  "simpleshot, un": ("simpleshot", {"transform": "un"}),
  "bd_cspn": ("bd_cspn", {}),
  "bd_cspn, as in alpha-TIM's code": (
    "bd_cspn",
    {"classify": "unshifted"},
  ),
  "bd_cspn, as in easyfsl": (
    "bd_cspn",
    {
      "classify": "unshifted",
      "mean": "weight",
      "scale": 1.0,
      "distance": "cosine",
      "transform": "un",
    },
  ),
  "laplacian_shot": ("laplacian_shot", {}),
  "laplacian_shot, means": (
    "laplacian_shot",
    {"rectify": False, "laplacian_weight": 1.0, "neighbours": 4},
  ),
  "tim_gd": ("tim_gd", cases.FEW_STEPS),
  "tim_adm": ("tim_adm", {}),
  "alpha_tim": ("alpha_tim", cases.FEW_STEPS),
  "alpha_tim, 5": ("alpha_tim", cases.FEW_STEPS | {"alpha": 5.0}),
  "entropy_head": ("entropy_head", cases.FEW_STEPS),
  "cosine_head": ("cosine_head", cases.FEW_STEPS),
  "pt_ncm": ("pt_ncm", {}),
  "pt_map": ("pt_map", {}),
  "pt_map, unknown": ("pt_map", {"balance": "unknown", "negative": "signed"}),
  "ridge": ("ridge", {}),
  "ridge, big_vision": ("ridge", {"rule": "big_vision"}),
  "logistic": ("logistic", {}),
  "logistic, 10": ("logistic", {"c": 10.0}),
  "paddle": ("paddle", {}),
}

EPISODES = {
  # Shots and queries of each class; one shape, so that programs are shared.
  "balanced": ((3, 3, 3), (4, 4, 4)),
  "unequal shots": ((1, 2, 6), (4, 3, 5)),
  "a class without queries": ((4, 3, 2), (6, 0, 6)),
}


@pytest.fixture(autouse=True, scope="module")
def _float64():
  with jax.enable_x64(True):
    yield


def padded(task):
  """With NaN images that are masked out, and a class that is absent."""

  def pad(images):
    return np.concatenate([images, np.full((3, images.shape[1]), np.nan)])

  mask = np.arange(len(task.support_mask) + 3) < len(task.support_mask)
  return types.Task(
    support_images=pad(task.support_images),
    support_labels=np.append(task.support_labels, [0, 3, 77]).astype(np.int32),
    support_mask=mask,
    query_images=pad(task.query_images),
    query_mask=np.append(task.query_mask, [False] * 3),
    num_ways=task.num_ways + 1,
  )


@pytest.mark.parametrize("case", CASES)
class TestAgainstNumpy:
  def expected(self, case, xs, ys, xq):
    method, options = CASES[case]
    if method in cases.CENTRED:
      options = options | {"base_mean": cases.BASE_MEAN}
    return getattr(reference, method)(xs, ys, xq, **options)

  @pytest.mark.parametrize("episode", EPISODES)
  def test_episode(self, case, episode):
    xs, ys, xq, _ = cases.draw(*EPISODES[episode])
    method, options = CASES[case]
    logits = cases.run(method, cases.task_of(xs, ys, xq), **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 1e-4  # It tells classes apart.

  def test_padding_and_an_absent_class(self, case):
    xs, ys, xq, _ = cases.draw(*EPISODES["unequal shots"])
    method, options = CASES[case]
    # NaN is an error here, in gradients too, even where it is masked out.
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
      task = padded(cases.task_of(xs, ys, xq))
      logits = cases.run(method, task, **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(
      logits[: len(xq), :3], expected, rtol=1e-5, atol=1e-5
    )
    assert (logits[:, 3] < ABSENT_BELOW).all()


SHIFTED = np.array([[1.0, 0.0], [0.0, 1.0]]) + 0.3


class TestByHand:
  """Each rule on an episode of two classes that fits on paper."""

  @pytest.mark.parametrize(
    ("method", "options", "support", "queries", "expected"),
    [
      # Around (1, 1): (1, 0) and (0, 1), and the query (0.6, 0.8).
      ("simpleshot", {}, [[4, 1], [1, 4]], [[4, 5]], [[-0.8, -0.4]]),
      (
        "simpleshot",
        {"transform": "un"},
        [[0, 0], [3, 4]],
        [[3, 0]],
        [[-9, -16]],
      ),
      # Each class has two equal members, so that weights cancel in the mean;
      # the shift takes the offset of the queries away, or does not.
      (
        "bd_cspn",
        {"transform": "un", "mean": "weight"},
        [[1, 0], [0, 1]],
        SHIFTED,
        [[0, -2], [-2, 0]],
      ),
      (
        "bd_cspn",
        {"transform": "un", "mean": "weight", "classify": "unshifted"},
        [[1, 0], [0, 1]],
        SHIFTED,
        [[-0.18, -2.18], [-2.18, -0.18]],
      ),
      # 7.5 of squared distances 0.8 and 0.4.
      (
        "tim_gd",
        {"iterations": 0},
        [[2, 0], [0, 3]],
        [[3, 4]],
        [[-6, -3]],
      ),
      (
        "cosine_head",
        {"iterations": 0, "scale": 10.0},
        [[2, 0], [0, 3]],
        [[3, 4]],
        [[6, 8]],
      ),
      # Roots (1, 0) and (0, 2), centred: opposite directions.
      (
        "pt_ncm",
        {"negative": "signed"},
        [[1, 0], [0, 4]],
        [[9, 0], [0, 1]],
        [[0, -4], [-4, 0]],
      ),
      # The same; means do not move, each query belongs to one class, but for
      # exp(-10 * 4).
      (
        "pt_map",
        {"negative": "signed"},
        [[1, 0], [0, 4]],
        [[9, 0], [0, 1]],
        [[0, -40], [-40, 0]],
      ),
      # W = X'(XX' + I)^-1 Y = Y / 2.
      ("ridge", {"l2": 1.0}, [[1, 0], [0, 1]], [[2, 4]], [[1, 2]]),
      # Standardised 1 and 3 are -1 and 1; W = -2 / (2 + l2); the intercept is 0
      # because the targets of a class sum to 0.
      (
        "ridge",
        {"rule": "big_vision", "l2": 2.0},
        [[1], [3]],
        [[3], [2]],
        [[-0.5, 0.5], [0, 0]],
      ),
      # The range of the queries is 4; half of squared distances.
      (
        "paddle",
        {"iterations": 1},
        [[0], [2]],
        [[0], [4]],
        [[0, -0.125], [-0.5, -0.125]],
      ),
    ],
  )
  def test_logits(self, method, options, support, queries, expected):
    task = cases.task_of(support, [0, 1], queries)
    variables = cases.NO_BASE | {"base_statistics": {"mean": np.ones(2)}}
    logits = cases.run(method, task, variables, **options)
    np.testing.assert_allclose(logits, expected, atol=2e-5)

  def test_bd_cspn_leaves_prototypes_short(self):
    """w = 1 / (1 + e^-10) is not divided out by the count of members."""
    task = cases.task_of([[1, 0], [0, 1]], [0, 1], SHIFTED)
    logits = cases.run("bd_cspn", task, cases.NO_BASE, transform="un")
    w = 1 / (1 + np.exp(-10))
    expected = [[-((1 - w) ** 2), -1 - w**2], [-1 - w**2, -((1 - w) ** 2)]]
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-12)

  def test_laplacian_shot_pulls_towards_neighbours(self):
    """0.3 and 0.4 are neighbours, and 0.8 is next to 0.4."""
    queries = np.array([0.3, 0.4, 0.8])
    task = cases.task_of([[0], [1]], [0, 1], queries[:, None])
    options = {"transform": "un", "rectify": False, "laplacian_weight": 0.1}
    logits = cases.run(
      "laplacian_shot", task, cases.NO_BASE, neighbours=2, **options
    )
    y = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    a = np.stack([queries**2, (1 - queries) ** 2], 1)
    # The end of the loop, at 1e-6 of the energy, is as good as a fixed point.
    np.testing.assert_allclose(logits, 0.1 * y[[1, 0, 1]] - a, atol=1e-4)

  def test_tim_adm_targets(self):
    """p over the root of its column's sum, if only the marginal has weight."""
    p = jnp.asarray([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    mask = jnp.asarray([True, True, False])
    config = tim.TimAdmConfig(conditional_weight=0.0)
    q = tim.targets(jnp.log(p), mask, config)
    expected = p[:2] / np.sqrt([[1.3, 0.7]])
    expected = expected / expected.sum(1, keepdims=True)
    np.testing.assert_allclose(q, [*expected, [0, 0]], rtol=1e-12)

  def test_tim_adm_of_one_class_stays(self):
    """p = q = 1: y z + p (w - z) = w, whatever weighs it."""
    task = cases.task_of([[1, 0]], [0], [[0, 1], [0, 1]])
    logits = cases.run("tim_adm", task, iterations=1)
    np.testing.assert_allclose(logits, [[-15], [-15]])

  @pytest.mark.parametrize("method", ["tim_gd", "alpha_tim", "entropy_head"])
  def test_first_step_of_adam_moves_by_the_learning_rate(self, method):
    xs, ys, xq, _ = cases.draw((1, 1), (2, 2))
    task = cases.task_of(xs, ys, xq)
    adapter = cases.adapter_of(method, (("learning_rate", 0.25),))
    before = adapter.init(jax.random.key(0), cases.NO_BASE, task)
    after, info = adapter.step(before, task)
    change = np.abs(after.weight - before.weight)
    np.testing.assert_allclose(change, 0.25, rtol=1e-5)
    assert 0 < info.query_entropy < np.log(2)
    assert info.support_accuracy == 1

  def test_entropies(self):
    half, sure = jnp.asarray([0.5, 0.5]), jnp.asarray([1.0, 0.0])
    assert tim.shannon(half) == pytest.approx(np.log(2))
    assert tim.shannon(sure) == pytest.approx(0, abs=1e-11)
    assert tim.tsallis(half, 2) == pytest.approx(0.5)
    assert tim.tsallis(half, 7.0) == pytest.approx((1 - 2 / 128) / 6)
    assert tim.tsallis(sure, 7.0) == 0

  @pytest.mark.parametrize(("shots", "alpha"), [(1, 2.0), (5, 7.0)])
  def test_alpha_by_shots(self, shots, alpha):
    xs, ys, xq, _ = cases.draw((shots, shots), (2, 2))
    task = cases.task_of(xs, ys, xq)
    np.testing.assert_allclose(
      cases.run("alpha_tim", task, **cases.FEW_STEPS),
      cases.run("alpha_tim", task, alpha=alpha, **cases.FEW_STEPS),
      rtol=1e-12,
    )

  def test_sinkhorn_keeps_odds(self):
    """(p / (1 - p))^2 = 4 where rows and columns sum to 1."""
    plan = pt_map.sinkhorn(
      jnp.asarray([[4.0, 1.0], [1.0, 1.0]]),
      jnp.ones(2),
      jnp.ones(2),
      tolerance=1e-12,
      max_iterations=1000,
    )
    np.testing.assert_allclose(plan, np.array([[2, 1], [1, 2]]) / 3)

  def test_logistic_is_stationary(self):
    """Of z = -1 and 1 the weights are -w and w: w (1 + e^(2 w)) = 2 C."""
    task = cases.task_of([[-3], [5]], [0, 1], [[2]])
    (low, high) = cases.run("logistic", task, c=3.0)[0]
    assert low == pytest.approx(-high)
    assert high * (1 + np.exp(2 * high)) == pytest.approx(6)


@pytest.mark.parametrize("method", cases.METHODS)
def test_every_option_is_documented(method):
  """In the section of the method, or as common to all."""
  page = pathlib.Path(__file__).parents[1] / "docs" / "methods.md"
  sections = page.read_text(encoding="utf-8").split("\n## ")
  own = [
    section
    for section in sections
    if section.startswith("Common")
    or f"`{method}`" in section.split("\n", 1)[0]
  ]
  assert len(own) == 2
  words = set(re.findall(r"`(\w+)", "".join(own)))
  if method == "alpha_tim":
    words |= adapt.option_names("tim_gd")  # "those of"
  assert adapt.option_names(method) <= words
