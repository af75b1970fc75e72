"""Properties that every few-shot method must have, over one table of them.

In float64, so that "changes nothing" can be said to eleven digits: properties
such as independence of padding hold but for the order of summation.
"""

import dataclasses
import functools
import logging
from typing import Any

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsl_jax import adapt, backbones, evaluate, types
from fsl_jax.data import synthetic
from fsl_jax.episodes import feeder

# Sums in another order differ by 1e-17 where a gradient is 0 by rights, as of
# a bias before a batch norm. Adam divides by that size plus 1e-8 and steps by
# lr * 1e-9, which the network amplifies: up to 3e-11 was seen over seeds.
TOLERANCE = 1e-9
# Views are made in float32: 6e-8 of a pixel, and less of a logit.
TOLERANCE_OF_VIEWS = 1e-6
# What does not belong into a result moves it by this and more.
TEETH = 1e-5

ABSENT_BELOW = -1e20  # Logits of classes without support, however written.


@dataclasses.dataclass(frozen=True)
class Case:
  """A method with options, and what is peculiar to it."""

  id: str
  method: str
  options: dict[str, Any]
  network: Any = helpers.tiny_backbone
  # Random views are drawn by position in the set, and micro-batches have
  # batch statistics of their own: there the order of images is an input.
  order_matters: bool = False

  @functools.cached_property
  def adapter(self) -> types.Adapter:
    return adapt.create(self.method, self.network(), **self.options)

  @property
  def makes_views(self) -> bool:
    if adapt.entry(self.method).reads == "features":
      return False
    return self.options.get("augment", self.adapter.num_steps > 0)

  @property
  def tolerance(self) -> float:
    return TOLERANCE_OF_VIEWS if self.makes_views else TOLERANCE

  @functools.cached_property
  def variables(self) -> types.Variables:
    network = self.network()
    if network.name == "identity":
      variables = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
      if adapt.needs_base_statistics(self.method, **self.options):
        mean = np.random.default_rng(0).normal(size=8 * 8 * 3)
        variables = {**variables, "base_statistics": {"mean": mean}}
      return variables
    return helpers.tiny_variables(network)

  @functools.cached_property
  def program(self):
    return jax.jit(
      lambda key, variables, task: adapt.run.run(
        key, self.adapter, variables, task
      )
    )

  def make_task(self, *arguments, **options) -> types.Task:
    """Normalised images, unless the method is to make views of them."""
    task, _ = helpers.make_task(*arguments, **options)
    return task if self.makes_views else helpers.normalised(task)

  def run(self, task, *, key=1, variables=None):
    """Logits and infos."""
    variables = self.variables if variables is None else variables
    result = self.program(jax.random.key(key), variables, task)
    return jax.device_get(result)


# A large learning rate and few steps: what leaks, leaks within three epochs.
TRAIN = {"augment": False, "epochs": 3, "learning_rate": 5e-3}
TUNED = "transductive_finetune"
CASES = [
  Case("support_init", "support_init", {}),
  Case("support_init-features", "support_init", {"input": "features"}),
  Case("finetune", "finetune", TRAIN),
  Case(
    "finetune-views", "finetune", TRAIN | {"augment": True}, order_matters=True
  ),
  Case("transductive", TUNED, TRAIN),
  Case(
    "transductive-views", TUNED, TRAIN | {"augment": True}, order_matters=True
  ),
  Case(
    "transductive-parts", TUNED, TRAIN | {"micro_batch": 4}, order_matters=True
  ),
  Case(
    "transductive-joint",
    TUNED,
    TRAIN | {"updates": "joint", "input": "features"},
  ),
  Case("transductive-frozen", TUNED, TRAIN | {"bn": "frozen"}),
  Case(
    "transductive-many_ways",
    TUNED,
    TRAIN
    | {
      "entropy_weight": "inverse_log_ways",
      "relu": False,
      "temperature": 0.5,
    },
  ),
  Case("transductive-identity", TUNED, TRAIN, backbones.identity),
  Case(
    "transductive-plain",
    TUNED,
    TRAIN | {"input": "features"},
    helpers.plain_backbone,
  ),
  Case("prototype", "prototype", {}),
  Case(
    "prototype-cosine",
    "prototype",
    {"distance": "cosine", "input": "logits", "micro_batch": 4},
  ),
  Case("prototype-identity", "prototype", {}, backbones.identity),
  *(
    Case(method, method, options, backbones.identity)
    for method, options in {
      "simpleshot": {},
      "ridge": {},
      "logistic": {},
      "cosine_head": {"iterations": 3},
      "bd_cspn": {},
      "laplacian_shot": {},
      "tim_gd": {"iterations": 3, "learning_rate": 5e-3},
      "tim_adm": {"iterations": 3},
      "alpha_tim": {"iterations": 3, "learning_rate": 5e-3},
      "entropy_head": {"iterations": 3, "learning_rate": 5e-3},
      "pt_ncm": {"negative": "signed"},
      "pt_map": {"negative": "signed"},
      "paddle": {},
    }.items()
  ),
]


@pytest.fixture(autouse=True, scope="module")
def _float64():
  with jax.enable_x64(True):
    yield


# Scoped to the module so that pytest keeps the tests of one case together.
@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.id)
def case(request) -> Case:
  return request.param


def assert_same(ours, theirs, tolerance):
  """Equal but for the order of summation; absent classes stay absent."""
  absent = theirs < ABSENT_BELOW
  assert ((ours < ABSENT_BELOW) == absent).all()
  np.testing.assert_allclose(
    np.where(absent, 0, ours),
    np.where(absent, 0, theirs),
    rtol=tolerance,
    atol=tolerance,
  )


def assert_same_infos(ours, theirs, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a.astype(float), b.astype(float), rtol=0, atol=tolerance
    ),
    ours,
    theirs,
  )


def pad(array, count, value):
  """Appends `count` entries; for images, with the value as pixels."""
  tail = np.full((count, *array.shape[1:]), value, array.dtype)
  return np.concatenate([array, tail])


def padded(task, *, pixel, label, ways=2):
  """Three support images, two queries and two ways that are not there."""
  return types.Task(
    support_images=pad(task.support_images, 3, pixel),
    support_labels=pad(task.support_labels, 3, label),
    support_mask=pad(task.support_mask, 3, False),
    query_images=pad(task.query_images, 2, pixel),
    query_mask=pad(task.query_mask, 2, False),
    num_ways=task.num_ways + ways,
  )


def test_shapes_and_finiteness(case):
  task = case.make_task()
  logits, infos = case.run(task)
  assert logits.shape == (7, 3)
  assert np.isfinite(logits).all()
  assert np.isfinite(infos.support_loss).all()
  assert infos.query_entropy is not None or case.adapter.query_use == "none"
  leaves = jax.tree.leaves(infos)
  assert all(info.shape == (case.adapter.num_steps,) for info in leaves)
  assert infos.is_finite.dtype == bool
  assert infos.is_finite.all()


def test_padding_changes_nothing(case):
  task = case.make_task()
  logits, infos = case.run(task)
  # Labels of padding may be anything; a real class is the likeliest to leak,
  # one that does not exist the likeliest to become NaN.
  for pixel, label in ((0, 0), (255, 2), (17, 4), (200, 1000), (3, -1)):
    wide, wide_infos = case.run(padded(task, pixel=pixel, label=label))
    assert_same(wide[:7, :3], logits, case.tolerance)
    assert (wide[:7, 3:] < ABSENT_BELOW).all()
    assert_same_infos(wide_infos, infos, case.tolerance)


def test_padding_may_be_nan(case):
  task = case.make_task()
  if not np.issubdtype(task.support_images.dtype, np.floating):
    pytest.skip("uint8 has no NaN")
  logits, infos = case.run(task)
  wide, wide_infos = case.run(padded(task, pixel=np.nan, label=0))
  assert_same(wide[:7, :3], logits, case.tolerance)
  assert_same_infos(wide_infos, infos, case.tolerance)


def test_mask_takes_images_out(case):
  """A masked image and an absent class, in place of shorter arrays."""
  task = case.make_task()
  present = task.support_labels != 1
  masked = dataclasses.replace(task, support_mask=present)
  logits, infos = case.run(masked)
  assert (logits[:, 1] < ABSENT_BELOW).all()
  assert np.isfinite(logits[:, [0, 2]]).all()
  assert (logits.argmax(-1) != 1).all()
  assert infos.is_finite.all()
  # Other pixels and labels of what is masked out change nothing at all.
  other = dataclasses.replace(
    masked,
    support_images=np.where(
      present[:, None, None, None],
      task.support_images,
      task.support_images[::-1],
    ),
    support_labels=np.where(present, task.support_labels, 0).astype(np.int32),
  )
  again, _ = case.run(other)
  assert_same(again, logits, case.tolerance)


def test_second_call_does_not_recompile(case, caplog):
  def compilations(task, key):
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.DEBUG, logger="jax"):
      case.run(task, key=key)
    return [r for r in caplog.messages if "Finished XLA compilation" in r]

  task = case.make_task()
  case.run(task)
  other = case.make_task((3, 2, 1), seed=1)
  masked = dataclasses.replace(other, support_mask=other.support_labels > 0)
  assert compilations(masked, 5) == []
  # The log does say so when something is compiled.
  if case.adapter.num_steps == 0:
    assert compilations(case.make_task((1, 1), 2), 5)


def test_queries_follow_their_order(case):
  task = case.make_task()
  order = np.random.default_rng(3).permutation(7)
  moved = dataclasses.replace(task, query_images=task.query_images[order])
  logits, _ = case.run(task)
  permuted, _ = case.run(moved)
  if case.order_matters:
    # Still, nothing but the draw of views or the cut of parts may depend on
    # it: at three steps of this size the logits stay close.
    assert np.abs(permuted - logits[order]).max() < 0.5
  else:
    assert_same(permuted, logits[order], case.tolerance)


def test_support_order_is_no_input(case):
  if case.order_matters:
    pytest.skip("views are drawn by position, parts are cut by position")
  task = case.make_task()
  order = np.random.default_rng(4).permutation(len(task.support_labels))
  moved = dataclasses.replace(
    task,
    support_images=task.support_images[order],
    support_labels=task.support_labels[order],
  )
  assert_same(case.run(moved)[0], case.run(task)[0], case.tolerance)


def test_logits_follow_relabelled_ways(case):
  task = case.make_task()
  new = np.array([2, 0, 1], np.int32)
  relabelled = dataclasses.replace(
    task, support_labels=new[task.support_labels]
  )
  logits, infos = case.run(task)
  moved, moved_infos = case.run(relabelled)
  assert_same(moved[:, new], logits, case.tolerance)
  assert_same_infos(moved_infos, infos, case.tolerance)


def test_inductive_prediction_of_a_single_query(case):
  if case.adapter.query_use != "none":
    pytest.skip("transductive")
  task = case.make_task()
  logits, _ = case.run(task)
  alone, _ = case.run(
    dataclasses.replace(
      task, query_images=task.query_images[2:3], query_mask=np.ones(1, bool)
    )
  )
  assert_same(alone, logits[2:3], case.tolerance)


def test_same_key_same_answer(case):
  task = case.make_task()
  first, second = case.run(task), case.run(task)
  jax.tree.map(np.testing.assert_array_equal, first, second)


def non_finite_is_visible(logits, infos):
  """What `evaluate` looks at."""
  return not (np.isfinite(logits).all() and infos.is_finite.all())


def test_nan_is_visible(case):
  task = case.make_task()
  spoilt = []
  for path, leaf in jax.tree_util.tree_leaves_with_path(case.variables):
    bad = jnp.asarray(leaf).at[(0,) * leaf.ndim].set(jnp.nan)
    name = jax.tree_util.keystr(path)
    spoilt.append((name, task, _replace_leaf(case.variables, path, bad)))
  if np.issubdtype(task.support_images.dtype, np.floating):
    for field in ("support_images", "query_images"):
      images = getattr(task, field).copy()
      images[1, 3, 3, 1] = np.nan
      changed = dataclasses.replace(task, **{field: images})
      spoilt.append((field, changed, case.variables))
  for name, bad_task, variables in spoilt:
    logits, infos = case.run(bad_task, variables=variables)
    # Parameters of the last layer take no part in methods on features, but
    # are among the parameters that must be finite where there are updates.
    used = name in ("support_images", "query_images") or not (
      case.options.get("input", "features") == "features"
      and "classifier" in name
      and case.adapter.num_steps == 0
    )
    if used:
      assert non_finite_is_visible(logits, infos), name


def _replace_leaf(tree, path, value):
  return jax.tree_util.tree_map_with_path(
    lambda p, leaf: value if p == path else leaf, tree
  )


def test_comparison_has_teeth():
  """One more support image, or another draw, is far outside the tolerance."""
  case = next(c for c in CASES if c.id == "transductive-views")
  task = case.make_task()
  logits, _ = case.run(task)
  fewer = dataclasses.replace(
    task, support_mask=np.arange(len(task.support_labels)) > 0
  )
  for moved in (case.run(fewer)[0], case.run(task, key=2)[0]):
    moved = np.where(moved < ABSENT_BELOW, 0, moved)
    assert np.abs(moved - logits).max() > TEETH


class TestSpecialCases:
  """Identities between methods, and odd episodes."""

  def run(self, method, task, backbone=None, **options):
    backbone = backbone or helpers.tiny_backbone()
    adapter = adapt.create(method, backbone, **options)
    variables = helpers.tiny_variables(backbone)
    return jax.jit(
      lambda key, variables, task: adapt.run.run(key, adapter, variables, task)
    )(jax.random.key(1), variables, task)

  @pytest.mark.parametrize("method", ["finetune", "transductive_finetune"])
  def test_zero_steps_is_support_init(self, method):
    task, _ = helpers.make_task()
    ours, infos = self.run(method, task, epochs=0)
    theirs, _ = self.run("support_init", task)
    np.testing.assert_array_equal(ours, theirs)
    assert infos.is_finite.shape == (0,)
    adapter = adapt.create(method, helpers.tiny_backbone(), epochs=0)
    assert adapter.query_use == "none"

  def test_zero_entropy_weight_is_finetune(self):
    task, _ = helpers.make_task()
    options = {"epochs": 2, "learning_rate": 5e-3}
    ours, infos = self.run(
      "transductive_finetune", task, entropy_weight=0.0, **options
    )
    theirs, expected = self.run("finetune", task, **options)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(infos.support_loss, expected.support_loss)
    adapter = adapt.create(
      "transductive_finetune", helpers.tiny_backbone(), entropy_weight=0
    )
    assert adapter.query_use == "none"

  @pytest.mark.parametrize(
    ("method", "options"),
    [
      ("prototype", {}),
      ("support_init", {}),
      ("transductive_finetune", {"entropy_weight": "inverse_log_ways"}),
    ],
  )
  def test_one_way(self, method, options):
    task, _ = helpers.make_task((2,), 3)
    logits, infos = self.run(method, task, **options)
    assert logits.shape == (3, 1)
    assert np.isfinite(logits).all()
    assert np.asarray(infos.is_finite).all()
    # With one class there is nothing to learn: p = 1 whatever the logits.
    np.testing.assert_array_equal(infos.support_loss, 0)

  @pytest.mark.parametrize(
    ("method", "options"),
    [
      ("prototype", {}),
      # The random weights do not fit to their running statistics, so that
      # moving those would say nothing of the method.
      ("transductive_finetune", {"epochs": 2, "bn": "frozen"}),
    ],
  )
  def test_twenty_ways(self, method, options):
    # More ways than outputs of the network, and one image of each.
    task, labels = helpers.make_task((1,) * 20, 40, noise=0.02)
    logits, _ = self.run(method, task, **options)
    assert logits.shape == (40, 20)
    # An untrained network of six outputs on easy images; chance is 0.05.
    assert (np.asarray(logits).argmax(-1) == labels).mean() > 0.5

  def test_inverse_log_ways_counts_classes_that_are_there(self):
    task, _ = helpers.make_task()
    task = helpers.normalised(task)
    options = {"augment": False, "epochs": 2, "learning_rate": 5e-3}
    by_name, _ = self.run(
      "transductive_finetune",
      padded(task, pixel=0, label=0, ways=7),
      entropy_weight="inverse_log_ways",
      **options,
    )
    by_value, _ = self.run(
      "transductive_finetune",
      task,
      entropy_weight=1 / np.log(3),
      **options,
    )
    # The weight is computed in float32, and moves the logits by its error.
    np.testing.assert_allclose(by_name[:7, :3], by_value, atol=1e-6)

  @pytest.mark.parametrize("ways", [3, 5])
  def test_prototypes_far_from_the_origin(self, ways):
    """Squares of features that share an offset must not cancel, with absent
    classes or without."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9 + 20, 1, 1, 5)) + 1000
    task = types.Task(
      support_images=features[:9].astype(np.float32),
      support_labels=np.arange(9, dtype=np.int32) % 3,
      support_mask=np.ones(9, bool),
      query_images=features[9:].astype(np.float32),
      query_mask=np.ones(20, bool),
      num_ways=ways,
    )
    adapter = adapt.create("prototype", backbones.identity())
    variables = {"params": {}}
    logits, _ = adapt.run.run(jax.random.key(0), adapter, variables, task)
    flat = features.astype(np.float32).astype(np.float64).reshape(29, 5)
    means = np.stack([flat[:9][k::3].mean(0) for k in range(3)])
    expected = -np.square(flat[9:, None] - means[None]).sum(-1)
    # Distances are near 10, and a feature is rounded to 6e-5.
    np.testing.assert_allclose(logits[:, :3], expected, atol=5e-3)

  def test_no_queries(self):
    task, _ = helpers.make_task()
    empty = dataclasses.replace(
      task,
      query_images=task.query_images[:0],
      query_mask=np.ones(0, bool),
    )
    for method in adapt.names():
      options = {}
      if adapt.needs_base_statistics(method):
        options["transform"] = "l2n"
        assert not adapt.needs_base_statistics(method, **options)
      adapter = adapt.create(method, helpers.tiny_backbone(), **options)
      shape, infos = jax.eval_shape(
        lambda key, variables, task, adapter=adapter: adapt.run.run(
          key, adapter, variables, task
        ),
        jax.random.key(0),
        helpers.tiny_variables(helpers.tiny_backbone()),
        empty,
      )
      assert shape.shape == (0, 3)
      assert infos.support_loss.shape == (adapter.num_steps,)


class TestWhatAMethodCannotSee:
  def test_task_has_no_query_labels(self):
    names = {field.name for field in dataclasses.fields(types.Task)}
    assert names == {
      "support_images",
      "support_labels",
      "support_mask",
      "query_images",
      "query_mask",
      "num_ways",
    }

  def test_other_query_labels_same_predictions(self, monkeypatch):
    """Of the whole evaluation, which does see the labels."""
    cases = {case.id: case for case in CASES if case.id in adapt.names()}
    cases[TUNED] = next(case for case in CASES if case.id == "transductive")
    cases = {name: cases[name] for name in adapt.default_names()}

    def run():
      return evaluate.run_many(
        [case.adapter for case in cases.values()],
        cases[TUNED].variables,
        synthetic.make(4, 9, image_size_px=8),
        ways=3,
        shots=1,
        queries=5,
        num_episodes=2,
        progress=False,
      )

    before = run()
    made = feeder.of_rows

    def of_rows(*arguments):
      episode = made(*arguments)
      labels = (episode.query_labels + 1) % episode.task.num_ways
      return dataclasses.replace(episode, query_labels=labels)

    monkeypatch.setattr(feeder, "of_rows", of_rows)
    after = run()
    for name, result in before.items():
      other = after[name]
      np.testing.assert_array_equal(other.labels, (result.labels + 1) % 3)
      np.testing.assert_array_equal(other.predictions, result.predictions)
      jax.tree.map(np.testing.assert_array_equal, other.curves, result.curves)
      assert (other.accuracy != result.accuracy).any()


class TestErrors:
  def test_unknown_method_suggests_the_nearest(self):
    with pytest.raises(types.InputError, match="mean 'prototype'"):
      adapt.create("prototypes", helpers.tiny_backbone())

  def test_unknown_option_suggests_the_nearest(self):
    with pytest.raises(types.InputError, match="mean 'learning_rate'"):
      adapt.create("finetune", helpers.tiny_backbone(), learning_rates=1.0)

  @pytest.mark.parametrize(
    ("method", "option"),
    [("support_init", "epochs"), ("finetune", "entropy_weight")],
  )
  def test_what_defines_a_method_is_no_option(self, method, option):
    with pytest.raises(types.InputError, match=option):
      adapt.create(method, helpers.tiny_backbone(), **{option: 1})

  @pytest.mark.parametrize(
    "options",
    [
      {"input": "logit"},
      {"bn": "train"},
      {"updates": "both"},
      {"entropy_weight": "inverse"},
      {"entropy_weight": -1.0},
      {"entropy_weight": float("nan")},
      {"entropy_weight": float("inf")},
      {"temperature": 0.0},
      {"learning_rate": -1.0},
      {"learning_rate": float("nan")},
      {"epochs": -1},
      {"epochs": 2.5},
      {"micro_batch": 0},
      {"micro_batch": 7.5},
    ],
    ids=str,
  )
  def test_option_out_of_range(self, options):
    (name,) = options
    with pytest.raises(types.InputError, match=name):
      adapt.create("transductive_finetune", helpers.tiny_backbone(), **options)

  def test_prototype_options(self):
    for options in ({"distance": "l1"}, {"input": "x"}, {"micro_batch": 0}):
      (name,) = options
      with pytest.raises(types.InputError, match=name):
        adapt.create("prototype", helpers.tiny_backbone(), **options)

  def test_logits_of_another_shape_are_refused(self):
    task, _ = helpers.make_task()

    def predict(state, task):
      del state
      return jnp.zeros((task.query_images.shape[0], 7))

    adapter = types.Adapter(
      lambda *_: jnp.zeros(()), lambda s, _: s, predict, 0, "odd", "none"
    )
    with pytest.raises(types.InputError, match=r"odd.*\[7, 7\].*\[7, 3\]"):
      adapt.run.run(jax.random.key(0), adapter, {}, task)

  @pytest.mark.parametrize("method", ["support_init", "prototype"])
  def test_a_network_without_logits(self, method):
    network = helpers.plain_backbone()
    variables = helpers.tiny_variables(network)
    task, _ = helpers.make_task()
    logits = adapt.create(method, network, input="logits")
    with pytest.raises(types.InputError, match='input="features"'):
      adapt.run.run(jax.random.key(0), logits, variables, task)

  def test_views_of_floats_are_refused(self):
    adapter = adapt.create("finetune", helpers.tiny_backbone())
    task, _ = helpers.make_task()
    variables = helpers.tiny_variables(helpers.tiny_backbone())
    with pytest.raises(types.InputError, match="augment=False"):
      jax.eval_shape(
        lambda v, t: adapt.run.run(jax.random.key(0), adapter, v, t),
        variables,
        helpers.normalised(task),
      )

  def test_chunk_must_be_positive_and_divide(self):
    adapter = adapt.create("prototype", helpers.tiny_backbone())
    for chunk in (0, -1):
      with pytest.raises(types.InputError, match="chunk"):
        adapt.batched.compile(adapter, chunk=chunk)
