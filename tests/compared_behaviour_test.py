"""The compared methods in batches, what they refuse, and known facts."""

import dataclasses
import functools
import math

import compared_cases as cases
import config_flags
import jax
import numpy as np
import pytest
from absl import flags

from fsl_jax import adapt, types
from fsl_jax.adapt import ridge, tim


@pytest.fixture(autouse=True, scope="module")
def _float64():
  with jax.enable_x64(True):
    yield


class TestBetweenEpisodes:
  @pytest.mark.parametrize("method", cases.METHODS)
  def test_batch_equals_single_episodes(self, method):
    """Loops of an episode end by its own rule, whatever is beside it."""
    tasks = [
      cases.task_of(*cases.draw((2, 1), (3, 3), seed=seed, noise=noise)[:3])
      for seed, noise in enumerate((0.01, 0.3, 1.0))
    ]
    adapter = cases.adapter_of(
      method,
      (("iterations", 3),)
      if "iterations" in adapt.option_names(method)
      else (),
    )
    batch = jax.tree.map(lambda *x: np.stack(x), *tasks)
    together, _ = adapt.batched.compile(adapter, chunk=3)(
      jax.random.key(0), cases.variables_of(method), batch, np.arange(3)
    )
    for task, logits in zip(tasks, together, strict=True):
      alone, _ = adapt.run.run(
        jax.random.key(0), adapter, cases.variables_of(method), task
      )
      np.testing.assert_allclose(logits, alone, rtol=1e-9, atol=1e-9)


class TestOddEpisodes:
  def few(self, method):
    return (
      {"iterations": 2} if "iterations" in adapt.option_names(method) else {}
    )

  @pytest.mark.parametrize("method", cases.METHODS)
  def test_all_queries_are_masked_out(self, method):
    task = cases.task_of(*cases.draw((2, 1), (1, 1))[:3])
    nothing = dataclasses.replace(
      task,
      query_images=np.full_like(task.query_images, np.nan),
      query_mask=np.zeros(2, bool),
    )
    with jax.debug_nans(True):
      logits = cases.run(method, nothing, **self.few(method))
    assert np.isfinite(logits).all()

  @pytest.mark.parametrize("method", cases.METHODS)
  def test_one_class(self, method):
    task = cases.task_of(*cases.draw((2,), (3,))[:3])
    logits = cases.run(method, task, **self.few(method))
    assert logits.shape == (3, 1)
    assert np.isfinite(logits).all()

  @pytest.mark.parametrize("method", cases.INDUCTIVE)
  def test_no_queries(self, method):
    task = cases.task_of(*cases.draw((2, 1), (0, 0))[:3])
    assert cases.run(method, task, **self.few(method)).shape == (0, 2)


class TestWhatIsRefused:
  @pytest.mark.parametrize("method", sorted(cases.CENTRED))
  def test_base_mean(self, method):
    task = cases.task_of(*cases.draw((1, 1), (1, 1))[:3])
    with pytest.raises(types.InputError, match='transform="l2n"'):
      cases.run(method, task, cases.NO_BASE)
    wrong = cases.NO_BASE | {
      "base_statistics": {"mean": np.zeros(cases.WIDTH + 1)}
    }
    with pytest.raises(
      types.InputError, match=f"{cases.WIDTH}.*{cases.WIDTH + 1}"
    ):
      cases.run(method, task, wrong)
    cases.run(method, task, cases.NO_BASE, transform="l2n")

  @pytest.mark.parametrize("method", ["pt_ncm", "pt_map"])
  @pytest.mark.parametrize("part", ["support", "query"])
  def test_negative_features(self, method, part):
    task = cases.task_of(*cases.draw((1, 1), (1, 1))[:3])
    field = f"{part}_images"
    spoilt = dataclasses.replace(task, **{field: -getattr(task, field)})
    with pytest.raises(types.InputError, match=f'{part}.*negative="signed"'):
      cases.run(method, spoilt)
    batch = jax.tree.map(lambda x: x[None], spoilt)
    with pytest.raises(types.InputError, match=part):
      adapt.batched.compile(cases.adapter_of(method))(
        jax.random.key(0), cases.NO_BASE, batch, np.arange(1)
      )
    # Where values cannot be looked at, the logits show it.
    logits = jax.jit(
      lambda task: adapt.run.run(
        jax.random.key(0), cases.adapter_of(method), cases.NO_BASE, task
      )[0]
    )(spoilt)
    assert np.isnan(logits).all()
    cases.run(method, spoilt, negative="signed")

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
      adapt.create(method, cases.BACKBONE, **options)


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
    xs, ys, xq, yq = cases.draw(
      [1] * 5, counts, seed=index, width=16, noise=0.3
    )
    tasks.append(cases.task_of(xs, ys, xq))
    labels.append(yq)
  return jax.tree.map(lambda *x: np.stack(x), *tasks), np.stack(labels)


@pytest.mark.parametrize(
  ("config_class", "field", "name"),
  [
    (ridge.RidgeConfig, "l2", "by_rule"),
    (tim.AlphaTimConfig, "alpha", "by_shots"),
  ],
)
def test_flag_of_a_number_with_a_named_alternative(config_class, field, name):
  config_flags.define(config_class, only=(field,), prefix="compared.")
  flag = flags.FLAGS[f"compared.{field}"]
  for text, value in (("3", 3.0), (name, name)):
    flag.value = text
    assert config_flags.given(
      config_class, only=(field,), prefix="compared."
    ) == {field: value}


@functools.cache
def accuracies(method, **options):
  """[2] mean accuracy on balanced and on imbalanced queries."""
  adapter = cases.adapter_of(method, tuple(options.items()))
  data = episodes(None), episodes(2.0)
  program = adapt.batched.compile(adapter, chunk=len(data[0][1]))
  result = []
  for tasks, labels in data:
    logits, _ = program(
      jax.random.key(0), cases.NO_BASE, tasks, np.arange(len(labels))
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
      balance: cases.adapter_of("pt_map", (("balance", balance),)).query_use
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
      xs, ys, xq, yq = cases.draw(
        [1] * 10, counts, seed=seed, width=256, noise=0.5
      )
      for method, options in (
        ("paddle", {}),
        ("simpleshot", {"transform": "l2n"}),
      ):
        logits = cases.run(
          method, cases.task_of(xs, ys, xq), cases.NO_BASE, **options
        )
        hits[method].append((logits.argmax(-1) == yq).mean())
    assert np.mean(hits["paddle"]) > np.mean(hits["simpleshot"]) + 0.05

  @pytest.mark.parametrize("method", cases.METHODS)
  def test_query_use(self, method):
    use = cases.adapter_of(method).query_use
    if method in cases.INDUCTIVE:
      assert use == "none"
    else:
      assert use.startswith("all jointly: ")

  @pytest.mark.parametrize(
    ("method", "use"),
    [
      ("tim_gd", "none"),
      ("alpha_tim", "none"),
      ("entropy_head", "none"),
      ("tim_adm", "all jointly: pseudo-labels"),
    ],
  )
  def test_without_the_terms_of_the_queries(self, method, use):
    options = {"iterations": 2, "conditional_weight": 0.0}
    if method != "entropy_head":
      options["marginal_weight"] = 0.0
    xs, ys, xq, _ = cases.draw([2, 2], [3, 3], seed=0, width=8, noise=0.5)
    adapter = cases.adapter_of(method, tuple(options.items()))
    assert adapter.query_use == use
    logits = cases.run(
      method, cases.task_of(xs, ys, xq), cases.NO_BASE, **options
    )
    assert np.isfinite(logits).all()
