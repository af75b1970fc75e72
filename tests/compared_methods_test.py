"""The compared methods against NumPy, worked by hand, and on known facts."""

import dataclasses
import functools
import math
import pathlib
import re

import compared_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, types
from fsl_jax.adapt import pt_map, tim

ABSENT_BELOW = -1e20
WIDTH = 8
BACKBONE = backbones.identity()
BASE_MEAN = np.random.default_rng(9).uniform(0, 0.4, WIDTH)
CENTRED = {"simpleshot", "bd_cspn", "laplacian_shot"}
INDUCTIVE = {"simpleshot", "ridge", "logistic", "cosine_head"}
FEW_STEPS = {"iterations": 12, "learning_rate": 0.01}

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
  "tim_gd": ("tim_gd", FEW_STEPS),
  "tim_adm": ("tim_adm", {}),
  "alpha_tim": ("alpha_tim", FEW_STEPS),
  "alpha_tim, 5": ("alpha_tim", FEW_STEPS | {"alpha": 5.0}),
  "entropy_head": ("entropy_head", FEW_STEPS),
  "cosine_head": ("cosine_head", FEW_STEPS),
  "pt_ncm": ("pt_ncm", {}),
  "pt_map": ("pt_map", {}),
  "pt_map, unknown": ("pt_map", {"balance": "unknown", "negative": "signed"}),
  "ridge": ("ridge", {}),
  "ridge, big_vision": ("ridge", {"rule": "big_vision"}),
  "logistic": ("logistic", {}),
  "logistic, 10": ("logistic", {"c": 10.0}),
  "paddle": ("paddle", {}),
}
METHODS = sorted({method for method, _ in CASES.values()})

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


@functools.cache
def adapter_of(method, options=()):
  return adapt.create(method, BACKBONE, **dict(options))


def variables_of(method):
  variables = {"params": {}, "batch_stats": {}}
  if method in CENTRED:
    variables["base_statistics"] = {"mean": BASE_MEAN}
  return variables


def draw(shots, queries, *, seed=0, width=WIDTH, noise=0.35):
  """Features, at least 0, of Gaussian classes: xs, ys, xq, labels of xq."""
  rng = np.random.default_rng(seed)
  centres = rng.uniform(0, 1, (len(shots), width))

  def sample(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    x = centres[labels] + noise * rng.normal(size=(len(labels), width))
    return np.abs(x), labels

  (xs, ys), (xq, yq) = sample(shots), sample(queries)
  return xs, ys, xq, yq


def task_of(xs, ys, xq, num_ways=None):
  return types.Task(
    support_images=np.asarray(xs, float),
    support_labels=np.asarray(ys, np.int32),
    support_mask=np.ones(len(xs), bool),
    query_images=np.asarray(xq, float),
    query_mask=np.ones(len(xq), bool),
    num_ways=num_ways or max(ys) + 1,
  )


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


def run(method, task, variables=None, **options):
  """[T, N] logits, as `run` computes them."""
  adapter = adapter_of(method, tuple(options.items()))
  variables = variables_of(method) if variables is None else variables
  logits, infos = adapt.run.run(jax.random.key(0), adapter, variables, task)
  assert np.all(infos.is_finite)
  return np.asarray(logits)


@pytest.mark.parametrize("case", CASES)
class TestAgainstNumpy:
  def expected(self, case, xs, ys, xq):
    method, options = CASES[case]
    if method in CENTRED:
      options = options | {"base_mean": BASE_MEAN}
    return getattr(reference, method)(xs, ys, xq, **options)

  @pytest.mark.parametrize("episode", EPISODES)
  def test_episode(self, case, episode):
    xs, ys, xq, _ = draw(*EPISODES[episode])
    method, options = CASES[case]
    logits = run(method, task_of(xs, ys, xq), **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    assert np.ptp(expected, axis=1).min() > 1e-4  # It tells classes apart.

  def test_padding_and_an_absent_class(self, case):
    xs, ys, xq, _ = draw(*EPISODES["unequal shots"])
    method, options = CASES[case]
    # NaN is an error here, in gradients too, even where it is masked out.
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
      task = padded(task_of(xs, ys, xq))
      logits = run(method, task, **options)
    expected = self.expected(case, xs, ys, xq)
    np.testing.assert_allclose(
      logits[: len(xq), :3], expected, rtol=1e-5, atol=1e-5
    )
    assert (logits[:, 3] < ABSENT_BELOW).all()


NO_BASE = {"params": {}, "batch_stats": {}}
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
    task = task_of(support, [0, 1], queries)
    variables = NO_BASE | {"base_statistics": {"mean": np.ones(2)}}
    logits = run(method, task, variables, **options)
    np.testing.assert_allclose(logits, expected, atol=2e-5)

  def test_bd_cspn_leaves_prototypes_short(self):
    """w = 1 / (1 + e^-10) is not divided out by the count of members."""
    task = task_of([[1, 0], [0, 1]], [0, 1], SHIFTED)
    logits = run("bd_cspn", task, NO_BASE, transform="un")
    w = 1 / (1 + np.exp(-10))
    expected = [[-((1 - w) ** 2), -1 - w**2], [-1 - w**2, -((1 - w) ** 2)]]
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-12)

  def test_laplacian_shot_pulls_towards_neighbours(self):
    """0.3 and 0.4 are neighbours, and 0.8 is next to 0.4."""
    queries = np.array([0.3, 0.4, 0.8])
    task = task_of([[0], [1]], [0, 1], queries[:, None])
    options = {"transform": "un", "rectify": False, "laplacian_weight": 0.1}
    logits = run("laplacian_shot", task, NO_BASE, neighbours=2, **options)
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
    task = task_of([[1, 0]], [0], [[0, 1], [0, 1]])
    logits = run("tim_adm", task, iterations=1)
    np.testing.assert_allclose(logits, [[-15], [-15]])

  @pytest.mark.parametrize("method", ["tim_gd", "alpha_tim", "entropy_head"])
  def test_first_step_of_adam_moves_by_the_learning_rate(self, method):
    xs, ys, xq, _ = draw((1, 1), (2, 2))
    task = task_of(xs, ys, xq)
    adapter = adapter_of(method, (("learning_rate", 0.25),))
    before = adapter.init(jax.random.key(0), NO_BASE, task)
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
    xs, ys, xq, _ = draw((shots, shots), (2, 2))
    task = task_of(xs, ys, xq)
    np.testing.assert_allclose(
      run("alpha_tim", task, **FEW_STEPS),
      run("alpha_tim", task, alpha=alpha, **FEW_STEPS),
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
    task = task_of([[-3], [5]], [0, 1], [[2]])
    (low, high) = run("logistic", task, c=3.0)[0]
    assert low == pytest.approx(-high)
    assert high * (1 + np.exp(2 * high)) == pytest.approx(6)


@pytest.mark.parametrize("method", METHODS)
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


class TestBetweenEpisodes:
  @pytest.mark.parametrize("method", METHODS)
  def test_batch_equals_single_episodes(self, method):
    """Loops of an episode end by its own rule, whatever is beside it."""
    tasks = [
      task_of(*draw((2, 1), (3, 3), seed=seed, noise=noise)[:3])
      for seed, noise in enumerate((0.01, 0.3, 1.0))
    ]
    adapter = adapter_of(
      method,
      (("iterations", 3),) if "iterations" in option_names(method) else (),
    )
    batch = jax.tree.map(lambda *x: np.stack(x), *tasks)
    together, _ = adapt.batched.compile(adapter, chunk=3)(
      jax.random.key(0), variables_of(method), batch, np.arange(3)
    )
    for task, logits in zip(tasks, together, strict=True):
      alone, _ = adapt.run.run(
        jax.random.key(0), adapter, variables_of(method), task
      )
      np.testing.assert_allclose(logits, alone, rtol=1e-9, atol=1e-9)


def option_names(method):
  return adapt.option_names(method)


class TestWhatIsRefused:
  @pytest.mark.parametrize("method", sorted(CENTRED))
  def test_base_mean(self, method):
    task = task_of(*draw((1, 1), (1, 1))[:3])
    with pytest.raises(types.InputError, match='transform="l2n"'):
      run(method, task, NO_BASE)
    wrong = NO_BASE | {"base_statistics": {"mean": np.zeros(WIDTH + 1)}}
    with pytest.raises(types.InputError, match=f"{WIDTH}.*{WIDTH + 1}"):
      run(method, task, wrong)
    run(method, task, NO_BASE, transform="l2n")

  @pytest.mark.parametrize("method", ["pt_ncm", "pt_map"])
  @pytest.mark.parametrize("part", ["support", "query"])
  def test_negative_features(self, method, part):
    task = task_of(*draw((1, 1), (1, 1))[:3])
    field = f"{part}_images"
    spoilt = dataclasses.replace(task, **{field: -getattr(task, field)})
    with pytest.raises(types.InputError, match=f'{part}.*negative="signed"'):
      run(method, spoilt)
    batch = jax.tree.map(lambda x: x[None], spoilt)
    with pytest.raises(types.InputError, match=part):
      adapt.batched.compile(adapter_of(method))(
        jax.random.key(0), NO_BASE, batch, np.arange(1)
      )
    # Where values cannot be looked at, the logits show it.
    logits = jax.jit(
      lambda task: adapt.run.run(
        jax.random.key(0), adapter_of(method), NO_BASE, task
      )[0]
    )(spoilt)
    assert np.isnan(logits).all()
    run(method, spoilt, negative="signed")

  @pytest.mark.parametrize(
    ("method", "options"),
    [
      ("simpleshot", {"transform": "zscore"}),
      ("simpleshot", {"micro_batch": 0}),
      ("bd_cspn", {"classify": "both"}),
      ("bd_cspn", {"mean": "sum"}),
      ("bd_cspn", {"distance": "l1"}),
      ("bd_cspn", {"scale": 0.0}),
      ("laplacian_shot", {"neighbours": 0}),
      ("laplacian_shot", {"laplacian_weight": -1.0}),
      ("tim_gd", {"iterations": 1.5}),
      ("tim_gd", {"learning_rate": math.nan}),
      ("tim_gd", {"conditional_weight": -0.1}),
      ("tim_adm", {"scale": math.inf}),
      ("tim_adm", {"iterations": -1}),
      ("tim_adm", {"marginal_weight": math.nan}),
      ("alpha_tim", {"alpha": 1.0}),
      ("alpha_tim", {"alpha": "auto"}),
      ("entropy_head", {"marginal_weight": 1.0}),
      ("cosine_head", {"scale": True}),
      ("pt_ncm", {"negative": "clip"}),
      ("pt_map", {"balance": "guess"}),
      ("pt_map", {"max_sinkhorn": 0}),
      ("pt_map", {"rate": 0}),
      ("ridge", {"rule": "svm"}),
      ("ridge", {"l2": 0.0}),
      ("logistic", {"c": -1.0}),
      ("paddle", {"iterations": 0}),
      ("paddle", {"class_weight": "75"}),
    ],
    ids=str,
  )
  def test_option(self, method, options):
    (name,) = options
    with pytest.raises(types.InputError, match=name):
      adapt.create(method, BACKBONE, **options)


def episodes(concentration, *, num_episodes=80, num_queries=50):
  """One-shot tasks of five classes with a leading B, and query labels.

  Args:
    concentration: of the Dirichlet distribution of the classes of the queries;
      None for as many of each.
    num_episodes: B.
    num_queries: T.
  """
  rng = np.random.default_rng(0)
  tasks, labels = [], []
  for index in range(num_episodes):
    counts = np.full(5, num_queries // 5)
    if concentration is not None:
      share = rng.dirichlet([concentration] * 5)
      counts = rng.multinomial(num_queries, share)
    xs, ys, xq, yq = draw([1] * 5, counts, seed=index, width=16, noise=0.3)
    tasks.append(task_of(xs, ys, xq))
    labels.append(yq)
  return jax.tree.map(lambda *x: np.stack(x), *tasks), np.stack(labels)


@functools.cache
def accuracies(method, **options):
  """[2] mean accuracy on balanced and on imbalanced queries."""
  adapter = adapter_of(method, tuple(options.items()))
  data = episodes(None), episodes(2.0)
  program = adapt.batched.compile(adapter, chunk=len(data[0][1]))
  result = []
  for tasks, labels in data:
    logits, _ = program(
      jax.random.key(0), NO_BASE, tasks, np.arange(len(labels))
    )
    result.append((np.asarray(logits).argmax(-1) == labels).mean())
  return np.array(result)


def gains(method, **options):
  """[2], over an inductive method."""
  return accuracies(method, **options) - accuracies(
    "simpleshot", transform="l2n"
  )


class TestKnownFacts:
  """Of Veilleux et al.: which methods depend on balanced queries."""

  @pytest.mark.parametrize("method", ["logistic", "cosine_head"])
  def test_inductive_methods_do_not_care(self, method):
    assert np.abs(gains(method)).max() < 0.03
    assert np.ptp(accuracies(method)) < 0.03

  @pytest.mark.parametrize(
    ("method", "options"),
    [
      ("bd_cspn", {"transform": "l2n"}),
      ("tim_gd", {"iterations": 100, "learning_rate": 2e-3}),
      ("tim_adm", {}),
      ("pt_map", {"max_sinkhorn": 100}),
    ],
  )
  def test_balance_is_assumed(self, method, options):
    balanced, imbalanced = gains(method, **options)
    assert balanced > 0.03
    assert imbalanced < 0

  def test_alpha_tim_gains_with_both(self):
    gain = gains("alpha_tim", iterations=100, learning_rate=2e-3)
    assert gain.min() > 0.05

  def test_pt_map_that_is_not_told(self):
    told = accuracies("pt_map", max_sinkhorn=100)
    unknown = accuracies("pt_map", balance="unknown")
    assert unknown[0] < told[0]
    assert unknown[1] > told[1]
    uses = {
      balance: adapter_of("pt_map", (("balance", balance),)).query_use
      for balance in ("told", "unknown")
    }
    assert "told" in uses["told"]
    assert "told" not in uses["unknown"]

  def test_paddle_gains_where_few_classes_have_queries(self):
    """Two of ten classes. Squared distances grow with the width, and the term
    of the classes does not: with 64 features it outweighs them."""
    counts = [30, 30, *[0] * 8]
    hits = {"paddle": [], "simpleshot": []}
    for seed in range(3):
      xs, ys, xq, yq = draw([1] * 10, counts, seed=seed, width=256, noise=0.5)
      for method, options in (
        ("paddle", {}),
        ("simpleshot", {"transform": "l2n"}),
      ):
        logits = run(method, task_of(xs, ys, xq), NO_BASE, **options)
        hits[method].append((logits.argmax(-1) == yq).mean())
    assert np.mean(hits["paddle"]) > np.mean(hits["simpleshot"]) + 0.05

  @pytest.mark.parametrize("method", METHODS)
  def test_query_use(self, method):
    use = adapter_of(method).query_use
    if method in INDUCTIVE:
      assert use == "none"
    else:
      assert use.startswith("all jointly: ")
