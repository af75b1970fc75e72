"""Fine-tuning against an independent NumPy reference, over whole episodes.

The tight comparison is in float64. There the library and the reference agree
to rounding, over 50 updates; the float32 comparison shows what is left of
that in the precision that is used.
"""

import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from fsl_jax import adapt, backbones, types
from fsl_jax.data import synthetic

WAYS, SHOTS, QUERIES = 3, 2, 3
OUTPUTS = 10
WIDTHS = {"conv64": (8, 8, 8, 8), "resnet12": (4, 8, 8, 8)}
OPTIONS = {"conv64": {"width": 8}, "resnet12": {"widths": (4, 8, 8, 8)}}

# Rounding in float64 is 1e-16; 50 updates amplify it to at most 3e-13. A
# change of 5 % in a hyper-parameter moves every part of the result by 1e-4 and
# more (see `test_comparison_has_teeth`), so there is nothing in between.
FLOAT64 = 1e-11
# Rounding in float32 is 6e-8, and the same amplification gives 1e-5. Not so
# for the convolution biases of conv64: a batch norm follows them, so their
# gradient is 0 but for rounding, which Adam divides by its own size and makes
# steps of up to the learning rate of it. The running means follow them, with
# a lag; variances and logits do not.
FLOAT32 = 1e-4


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def make_network(name):
  """The library's network, and weights made by the reference."""
  network = backbones.create(
    name, num_classes=OUTPUTS, image_size_px=16, **OPTIONS[name]
  )
  params, stats = reference.random_model(
    name, np.random.default_rng(1), WIDTHS[name], OUTPUTS, 16
  )
  return network, {"params": params, "batch_stats": stats}


def make_episodes(number=2):
  """Tasks' arrays, uint8, with a leading `number`."""
  rng = np.random.default_rng(2)
  per_class = SHOTS + QUERIES
  support, query = [], []
  for seed in range(number):
    dataset = synthetic.make(
      WAYS, per_class, image_size_px=16, noise=0.3, seed=seed
    )
    images = dataset.images.reshape(WAYS, per_class, 16, 16, 3)
    support.append(images[:, :SHOTS].reshape(-1, 16, 16, 3))
    query.append(images[:, SHOTS:].reshape(-1, 16, 16, 3))
  # The same mixed order in all episodes: the labels are shared.
  order = rng.permutation(WAYS * SHOTS)
  labels = np.repeat(np.arange(WAYS), SHOTS)[order].astype(np.int32)
  return np.stack(support)[:, order], labels, np.stack(query)


def normalise(images):
  mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
  return (images / 255.0 - mean) / std


def make_task(support, labels, query):
  return types.Task(
    support_images=support,
    support_labels=labels,
    support_mask=np.ones(len(support), bool),
    query_images=query,
    query_mask=np.ones(len(query), bool),
    num_ways=WAYS,
  )


def run_library(name, method, dtype, **options):
  """Logits, final state and infos of the library, of each episode."""
  network, variables = make_network(name)
  if "augment" in adapt.option_names(method):
    options["augment"] = False
  adapter = adapt.create(method, network, **options)
  variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), variables)

  @jax.jit
  def run(task):
    state = adapter.init(jax.random.key(0), variables, task)
    infos = None
    if adapter.num_steps:
      state, infos = jax.lax.scan(
        lambda s, _: adapter.step(s, task), state, length=adapter.num_steps
      )
    return adapter.predict(state, task), state, infos

  support, labels, query = make_episodes()
  results = []
  for s, q in zip(support, query, strict=True):
    if dtype == np.float64:  # Normalised in float64, beside the library.
      s, q = normalise(s), normalise(q)
    results.append(jax.device_get(run(make_task(s, labels, q))))
  return results


@functools.cache
def run_reference(name, items=(), epochs=25):
  """The same of the reference, from the same weights and images."""
  _, variables = make_network(name)
  support, labels, query = make_episodes()
  return [
    reference.transductive_finetune(
      name,
      variables["params"],
      variables["batch_stats"],
      normalise(s),
      labels,
      normalise(q),
      num_ways=WAYS,
      epochs=epochs,
      **dict(items),
    )
    for s, q in zip(support, query, strict=True)
  ]


def largest(tree, other):
  """Largest difference of two trees, relative to the values where above 1."""
  differences = jax.tree.map(
    lambda a, b: np.max(np.abs(a - b) / np.maximum(np.abs(b), 1)), tree, other
  )
  return max(jax.tree.leaves(differences))


def distances(ours, theirs):
  """Largest difference of each part of the result, over the episodes."""
  result = {}
  for (logits, state, infos), expected in zip(ours, theirs, strict=True):
    out, params, stats, weight, bias, history = expected
    parts = {
      "logits": largest(logits, out),
      "backbone": largest(state.params["backbone"], params),
      "weight": largest(state.params["head"].weight, weight),
      "bias": largest(state.params["head"].bias, bias),
      "batch_stats": largest(state.collections["batch_stats"], stats),
    }
    if infos is not None:
      epochs = len(history["support_loss"])
      parts["support_loss"] = largest(
        infos.support_loss[:epochs], history["support_loss"]
      )
      if len(history["query_entropy"]):
        parts["query_entropy"] = largest(
          infos.query_entropy[:epochs], history["query_entropy"]
        )
    for part, value in parts.items():
      result[part] = max(result.get(part, 0), value)
  return result


def assert_close(ours, theirs, tolerance):
  for part, value in distances(ours, theirs).items():
    assert value < tolerance, f"{part} differs by {value:.1e}"


@pytest.fixture(scope="module")
def conv64_float64():
  with jax.enable_x64(True):
    return run_library("conv64", "transductive_finetune", np.float64)


def test_published_settings_are_the_defaults():
  assert adapt.config("transductive_finetune") == {
    "input": "logits",
    "relu": True,
    "trainable": "all",
    "bn": "batch",
    "augment": True,
    "updates": "alternating",
    "entropy_weight": 1.0,
    "temperature": 1.0,
    "steps": 25,
    "learning_rate": 5e-5,
    "micro_batch": 75,
  }
  assert adapt.config("finetune")["entropy_weight"] == 0
  assert adapt.config("support_init")["steps"] == 0


def test_transductive_conv64(conv64_float64):
  assert_close(conv64_float64, run_reference("conv64"), FLOAT64)


@pytest.mark.usefixtures("x64")
def test_transductive_resnet12():
  ours = run_library("resnet12", "transductive_finetune", np.float64)
  assert_close(ours, run_reference("resnet12"), FLOAT64)


@pytest.mark.parametrize(
  "change",
  [
    {"learning_rate": 5e-5 * 1.05},
    {"entropy_weight": 0.9},
    {"relu": False},
    {"micro_batch": 5},
    {"query": False},
  ],
)
def test_comparison_has_teeth(conv64_float64, change):
  perturbed = run_reference("conv64", tuple(change.items()))
  moved = distances(conv64_float64, perturbed)
  # Everything that the episode ends with is far outside the tolerance, so a
  # comparison of any one of them would have noticed.
  for part in ("logits", "backbone", "weight", "batch_stats"):
    assert moved[part] > 1e4 * FLOAT64, part


def test_one_epoch_less_is_noticed(conv64_float64):
  moved = distances(conv64_float64, run_reference("conv64", epochs=24))
  assert moved["logits"] > 1e4 * FLOAT64
  assert moved["support_loss"] < FLOAT64


@pytest.mark.parametrize("name", WIDTHS)
def test_transductive_float32(name):
  ours = run_library(name, "transductive_finetune", np.float32)
  expected = run_reference(name)
  moved = distances(ours, expected)
  for part in ("logits", "weight", "bias", "support_loss", "query_entropy"):
    assert moved[part] < FLOAT32, part
  for (logits, state, _), theirs in zip(ours, expected, strict=True):
    assert {
      leaf.dtype
      for leaf in jax.tree.leaves(
        (logits, state.params, state.collections["batch_stats"])
      )
    } == {np.dtype("float32")}
    assert (
      largest(variances(state.collections["batch_stats"]), variances(theirs[2]))
      < FLOAT32
    )


def variances(batch_stats):
  paths = jax.tree_util.tree_leaves_with_path(batch_stats)
  found = {
    jax.tree_util.keystr(path): leaf
    for path, leaf in paths
    if path[-1].key == "var"
  }
  assert len(found) == len(paths) / 2
  return found


@pytest.mark.usefixtures("x64")
def test_support_init_resnet12():
  ours = run_library("resnet12", "support_init", np.float64)
  expected = run_reference("resnet12", epochs=0)
  assert_close(ours, expected, FLOAT64)
  # Nothing was trained: not even rounding may have touched the network.
  _, variables = make_network("resnet12")
  _, state, _ = ours[0]
  assert largest(state.params["backbone"], variables["params"]) == 0
  assert (
    largest(state.collections["batch_stats"], variables["batch_stats"]) == 0
  )


@pytest.mark.usefixtures("x64")
def test_micro_batches_without_relu():
  # 6 support images in 4 + 2, 9 queries in 4 + 4 + 1, each with statistics of
  # its own; the parts weigh by their share.
  options = {"micro_batch": 4, "relu": False}
  ours = run_library("conv64", "transductive_finetune", np.float64, **options)
  assert_close(ours, run_reference("conv64", tuple(options.items())), FLOAT64)


@pytest.mark.usefixtures("x64")
def test_finetune_never_sees_the_queries():
  ours = run_library("conv64", "finetune", np.float64)
  expected = run_reference("conv64", (("query", False),))
  assert_close(ours, expected, FLOAT64)
  assert ours[0][2].query_entropy is None


@pytest.mark.usefixtures("x64")
def test_joint_updates_sum_both_losses():
  weight, epochs = 0.7, 3
  ours = run_library(
    "conv64",
    "transductive_finetune",
    np.float64,
    updates="joint",
    entropy_weight=weight,
    epochs=epochs,
    learning_rate=1e-3,
  )
  _, variables = make_network("conv64")
  all_support, labels, all_query = make_episodes()
  for (logits, state, infos), support, query in zip(
    ours, normalise(all_support), normalise(all_query), strict=True
  ):
    model, stats = variables["params"], variables["batch_stats"]
    start, _, _ = reference.forward(
      "conv64", model, stats, support, train=False
    )
    head, bias = reference.init_head(start, labels, WAYS)
    model = {"params": model, "weight": head, "bias": bias}
    adam = reference.Adam(model, 1e-3)
    losses = []
    for _ in range(epochs):
      # Both passes at the same weights, then a single update.
      loss, gradient, stats = reference.accumulate(
        "conv64",
        model,
        stats,
        support,
        lambda out, at: reference.cross_entropy(out, labels[at]),
        75,
        True,
      )
      entropy, query_gradient, stats = reference.accumulate(
        "conv64",
        model,
        stats,
        query,
        lambda out, _: reference.entropy(out),
        75,
        True,
      )
      model = adam.update(
        model,
        reference.tree_map(
          lambda a, b: a + weight * b, gradient, query_gradient
        ),
      )
      losses.append((loss, entropy))
    z, _, _ = reference.forward(
      "conv64", model["params"], stats, query, train=False
    )
    expected = reference.head_forward(z, model["weight"], model["bias"])
    assert largest(logits, expected) < FLOAT64
    assert largest(state.params["backbone"], model["params"]) < FLOAT64
    assert largest(state.collections["batch_stats"], stats) < FLOAT64
    assert largest(infos.support_loss, np.array(losses)[:, 0]) < FLOAT64
    assert largest(infos.query_entropy, np.array(losses)[:, 1]) < FLOAT64


@pytest.mark.usefixtures("x64")
def test_frozen_statistics():
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  task = helpers.normalised(helpers.make_task()[0])

  def run(micro_batch):
    adapter = adapt.create(
      "transductive_finetune",
      backbone,
      bn="frozen",
      augment=False,
      micro_batch=micro_batch,
      epochs=2,
      learning_rate=1e-3,
    )

    @jax.jit
    def steps(task):
      state = adapter.init(jax.random.key(0), variables, task)
      return jax.lax.scan(
        lambda s, _: adapter.step(s, task), state, length=adapter.num_steps
      )

    return steps(task)

  (whole, infos), (parts, _) = run(75), run(4)
  # Nothing moves the running statistics, not even by rounding.
  assert (
    largest(whole.collections["batch_stats"], variables["batch_stats"]) == 0
  )
  # Images are independent, so micro-batches do not matter.
  assert largest(parts.params, whole.params) < FLOAT64
  assert largest(whole.params["backbone"], variables["params"]) > 1e-4

  outputs, _ = backbone.apply(variables, task.support_images, train=False)
  head = reference.init_head(outputs.logits, task.support_labels, 3)
  out = reference.head_forward(np.asarray(outputs.logits), *head)
  loss, _ = reference.cross_entropy(out, task.support_labels)
  assert abs(infos.support_loss[0] - loss) < FLOAT64


def adapted(adapter, variables, task):
  """The final state, and the logits of the queries."""

  @jax.jit
  def run(task):
    state = adapter.init(jax.random.key(0), variables, task)
    state, _ = jax.lax.scan(
      lambda s, _: adapter.step(s, task), state, length=adapter.num_steps
    )
    return state, adapter.predict(state, task)

  return run(task)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", ["finetune", "transductive_finetune"])
def test_head_alone_is_a_classifier_of_fixed_embeddings(method):
  rate, epochs = 1e-2, 2
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  task = helpers.normalised(helpers.make_task()[0])
  adapter = adapt.create(
    method,
    backbone,
    trainable="head",
    bn="frozen",
    augment=False,
    epochs=epochs,
    learning_rate=rate,
  )
  state, logits = adapted(adapter, variables, task)

  def embed(images):
    return np.asarray(backbone.apply(variables, images, train=False)[0].logits)

  support, query = embed(task.support_images), embed(task.query_images)
  weight, bias = reference.init_head(support, task.support_labels, 3)
  head = {"weight": weight, "bias": bias}
  adam = reference.Adam(head, rate)

  def updated(head, embeddings, objective):
    out = reference.head_forward(embeddings, head["weight"], head["bias"])
    _, *gradient = reference.head_backward(
      embeddings, head["weight"], objective(out)[1]
    )
    return adam.update(head, dict(zip(head, gradient, strict=True)))

  for _ in range(epochs):
    head = updated(
      head,
      support,
      lambda out: reference.cross_entropy(out, task.support_labels),
    )
    if method == "transductive_finetune":
      head = updated(head, query, reference.entropy)
  assert largest(state.params["head"]._asdict(), head) < FLOAT64
  expected = reference.head_forward(query, head["weight"], head["bias"])
  assert largest(logits, expected) < FLOAT64
  assert largest(head["weight"], weight) > 1e-3


@pytest.mark.parametrize("method", ["finetune", "transductive_finetune"])
def test_head_alone_leaves_the_backbone_alone(method):
  """Its weights are not moved, not differentiated, not in Adam's state."""

  @jax.custom_vjp
  def same(x):
    return x

  def forward(x):
    raise AssertionError("differentiated")

  same.defvjp(forward, lambda _, gradient: (gradient,))
  backbone = helpers.tiny_backbone()

  def apply(*args, **kwargs):
    outputs, batch_stats = backbone.apply(*args, **kwargs)
    return jax.tree.map(same, outputs), batch_stats

  network = backbone._replace(apply=apply)
  variables = helpers.tiny_variables(backbone)
  task, _ = helpers.make_task()

  def run(trainable):
    adapter = adapt.create(
      method, network, trainable=trainable, epochs=2, learning_rate=1e-2
    )
    return adapted(adapter, variables, task)[0]

  state = run("head")
  jax.tree.map(
    np.testing.assert_array_equal, state.params["backbone"], variables["params"]
  )
  weight, bias = state.params["head"]
  assert np.abs(bias).min() > 1e-4
  # Adam's count, and two moments of each part of the head.
  shapes = [leaf.shape for leaf in jax.tree.leaves(state.optimizer_state)]
  assert shapes == [(), *[weight.shape, bias.shape] * 2]
  # Batch statistics are used and move the running ones all the same.
  assert (
    largest(state.collections["batch_stats"], variables["batch_stats"]) > 1e-3
  )
  with pytest.raises(AssertionError, match="differentiated"):
    run("all")


def test_unknown_part_to_train_is_refused():
  with pytest.raises(types.InputError, match="trainable 'backbone'"):
    adapt.create("finetune", helpers.tiny_backbone(), trainable="backbone")


def test_views_follow_the_key_and_the_epoch():
  """Views are fresh at every update, and fixed by the episode's key."""
  adapter = adapt.create(
    "finetune", helpers.tiny_backbone(), epochs=3, learning_rate=1e-30
  )
  variables = helpers.tiny_variables(helpers.tiny_backbone())
  task, _ = helpers.make_task()

  @jax.jit
  def losses(key):
    return adapt.run.run(key, adapter, variables, task)[1].support_loss

  first, again = losses(jax.random.key(1)), losses(jax.random.key(1))
  other = losses(jax.random.key(2))
  assert (first == again).all()
  # Weights do not move at this learning rate: views alone change the loss.
  assert len(set(np.asarray([*first, *other]).tolist())) == 6


def test_views_do_not_depend_on_micro_batches():
  """The view of an image depends on its position in the set, not in a
  micro-batch."""
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  task, _ = helpers.make_task()

  def losses(micro_batch):
    adapter = adapt.create(
      "transductive_finetune",
      backbone,
      bn="frozen",  # so that images are independent
      epochs=2,
      micro_batch=micro_batch,
    )
    run = jax.jit(lambda key: adapt.run.run(key, adapter, variables, task)[1])
    infos = run(jax.random.key(3))
    return np.stack([infos.support_loss, infos.query_entropy])

  np.testing.assert_allclose(losses(4), losses(75), rtol=1e-5)


def test_memory_of_large_support_sets_is_that_of_micro_batches():
  """A thousand images more cost their bytes, not their views."""
  backbone = helpers.tiny_backbone()
  variables = helpers.tiny_variables(backbone)
  adapter = adapt.create("finetune", backbone, epochs=2, micro_batch=20)

  def temporaries(shots):
    task, _ = helpers.make_task((shots, shots), 4)
    program = jax.jit(
      lambda key, task: adapt.run.run(key, adapter, variables, task)
    )
    compiled = program.lower(jax.random.key(0), task).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  grown = (temporaries(520) - temporaries(20)) / 1000
  assert grown < 3 * 8 * 8 * 3  # bytes of an image: uint8, hardly more
