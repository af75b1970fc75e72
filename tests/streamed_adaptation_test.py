"""Support sets in batches: equal to the method itself where a set is one batch,
and what a larger set changes."""

import dataclasses
import functools

import helpers
import jax
import numpy as np
import pytest

from fsl_jax import adapt, types
from fsl_jax.adapt import streamed

BACKBONE = helpers.tiny_backbone()
VARIABLES = helpers.tiny_variables(BACKBONE)
KEY = jax.random.key(3)
# Large, so that a wrong update is seen.
RATE = 1e-2
METHODS = {
  "prototype": {},
  "support_init": {},
  "finetune": {"epochs": 3, "learning_rate": RATE},
  "transductive_finetune": {"epochs": 3, "learning_rate": RATE},
}


class Recorded:
  """Like an array, but indexed with rows only, and it remembers them."""

  def __init__(self, images):
    self._images = images
    self.shape, self.dtype = images.shape, images.dtype
    self.ndim = images.ndim
    self.asked = []

  def __len__(self):
    return len(self._images)

  def __getitem__(self, rows):
    assert isinstance(rows, np.ndarray)
    assert rows.ndim == 1
    if len(rows):
      self.asked.append(rows)
    return self._images[rows]


def make(shots=(1, 2, 3), num_queries=7):
  """A task, and the same one in host memory."""
  task, _ = helpers.make_task(shots, num_queries)
  return task, streamed.HostTask(
    task.support_images,
    task.support_labels,
    task.query_images,
    task.num_ways,
  )


def create(method="finetune", **options):
  options = {"micro_batch": 4} | METHODS[method] | options
  return adapt.create(method, BACKBONE, **options)


@functools.cache
def programs(adapter, **sizes):
  sizes = {"support_batch": 4, "query_batch": 4} | sizes
  return streamed.Programs(adapter, **sizes)


def run(adapter, task, **sizes):
  return streamed.run(
    KEY, programs(adapter, **sizes), VARIABLES, task, progress=False
  )


@pytest.mark.parametrize("micro_batch", [4, 75])
@pytest.mark.parametrize("method", METHODS)
def test_one_batch_is_the_method_itself(method, micro_batch):
  task, hosted = make()
  adapter = create(method, micro_batch=micro_batch)
  logits, infos = jax.jit(
    lambda variables, task: adapt.run.run(KEY, adapter, variables, task)
  )(VARIABLES, task)
  outcome = run(adapter, hosted, support_batch=8, query_batch=8)
  assert outcome.logits.dtype == np.float32
  np.testing.assert_allclose(outcome.logits, logits, atol=1e-5)
  # A tree, because what a method has not is None.
  jax.tree.map(
    lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-5),
    outcome.infos,
    infos,
  )


@pytest.mark.parametrize("method", ["prototype", "support_init"])
def test_initialisation_is_the_same_for_any_batch(method):
  task, hosted = make((1, 4, 6, 0))
  adapter = create(method)
  logits, _ = adapt.run.run(KEY, adapter, VARIABLES, task)
  assert (logits[:, 3] == adapt.finetune.losses.ABSENT_LOGIT).all()
  for size in (1, 3, 8, 12):
    outcome = run(adapter, hosted, support_batch=size, query_batch=size)
    np.testing.assert_allclose(outcome.logits, logits, atol=1e-5)


def test_an_epoch_has_each_image_once_in_an_order_of_its_own():
  _, task = make((3, 4, 4))
  task = dataclasses.replace(task, support_images=Recorded(task.support_images))
  outcome = run(create(), task)
  assert len(outcome.infos.support_loss) == 3 * 3
  chunks = task.support_images.asked
  assert {len(rows) for rows in chunks} == {4, 3}
  init, *epochs = np.concatenate(chunks).reshape(1 + 3, 11)
  np.testing.assert_array_equal(init, np.arange(11))
  for epoch in epochs:
    np.testing.assert_array_equal(np.sort(epoch), np.arange(11))
  assert len({tuple(epoch) for epoch in epochs}) == 3


def test_queries_take_turns():
  _, task = make((4, 4), num_queries=7)
  task = dataclasses.replace(task, query_images=Recorded(task.query_images))
  run(create("transductive_finetune"), task)
  *updates, first, last = task.query_images.asked
  # 3 epochs of 2 updates, 4 queries at a time; then 2 chunks to predict.
  np.testing.assert_array_equal(
    np.concatenate(updates), np.arange(3 * 2 * 4) % 7
  )
  np.testing.assert_array_equal(np.concatenate([first, last]), np.arange(7))


def test_containers_make_no_difference(tmp_path):
  _, task = make((3, 4, 4))
  images = task.support_images
  path = tmp_path / "images.npy"
  np.save(path, images)
  expected = run(create(), task).logits
  for container in (Recorded(images), np.load(path, mmap_mode="r")):
    outcome = run(create(), dataclasses.replace(task, support_images=container))
    np.testing.assert_array_equal(outcome.logits, expected)


def test_the_padded_end_of_an_epoch_counts_as_what_it_holds():
  """A batch and one image more, against steps on tasks without padding."""
  task, hosted = make((2, 3, 4))
  recorded = Recorded(hosted.support_images)
  hosted = dataclasses.replace(hosted, support_images=recorded)
  adapter = create(epochs=1)
  # Two micro-batches, so that the end also has one without any image.
  outcome = run(adapter, hosted, support_batch=8)
  first, last = recorded.asked[2:]
  assert [len(first), len(last)] == [8, 1]

  state = jax.jit(adapter.init)(KEY, VARIABLES, task)
  step = jax.jit(adapter.step)
  for rows in (first, last):
    batch = dataclasses.replace(
      task,
      support_images=task.support_images[rows],
      support_labels=task.support_labels[rows],
      support_mask=task.support_mask[rows],
    )
    state, info = step(state, batch)
  np.testing.assert_allclose(
    outcome.logits, jax.jit(adapter.predict)(state, task), atol=1e-5
  )
  np.testing.assert_allclose(
    outcome.infos.support_loss[1], info.support_loss, atol=1e-5
  )


def test_programs_do_not_grow_with_the_set():
  # A learning rate of its own, so that no other test has used its programs.
  used = programs(create("transductive_finetune", learning_rate=2 * RATE))
  made = []
  for shots in ((1, 2), (2, 3), (9, 12)):
    _, task = make(shots, num_queries=sum(shots))
    streamed.run(KEY, used, VARIABLES, task, progress=False)
    made.append(
      [
        program._cache_size()
        for program in vars(used).values()
        if hasattr(program, "_cache_size")
      ]
    )
  assert made == [[1, 1, 1, 1]] * 3


def test_updates_can_be_fewer():
  _, task = make((4, 4))
  outcome = run(create(), task, max_updates=5)
  assert len(outcome.infos.support_loss) == 5
  full = run(create(), task)
  np.testing.assert_array_equal(
    outcome.infos.support_loss, full.infos.support_loss[:5]
  )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"support_labels": np.array([0, 1, 3])}, r"lie in \[0, 3\), got 0 to 3"),
    ({"support_labels": np.array([0, -1, 1])}, "got -1 to 1"),
    ({"support_labels": np.array([0, 1])}, r"\[3\] integers.*got \[2\]"),
    ({"support_labels": np.zeros(3)}, "got .* float64"),
    ({"support_images": np.zeros((0, 8, 8, 3), np.uint8)}, "support set must"),
    ({"query_images": np.zeros((0, 8, 8, 3), np.uint8)}, "query set must"),
    ({"query_images": np.zeros((2, 9, 9, 3), np.uint8)}, r"got \[9, 9, 3\]"),
    ({"num_ways": 0}, "num_ways must be at least 1"),
  ],
)
def test_tasks_that_do_not_fit(change, message):
  images = np.zeros((3, 8, 8, 3), np.uint8)
  arguments = {
    "support_images": images,
    "support_labels": np.array([0, 1, 2]),
    "query_images": images,
    "num_ways": 3,
  }
  streamed.HostTask(**arguments)
  with pytest.raises(types.InputError, match=message):
    streamed.HostTask(**arguments | change)


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"support_batch": 6}, r"support_batch must be a multiple .*\(4\).* 6"),
    ({"query_batch": 9}, "query_batch must be a multiple"),
    ({"support_batch": 0}, "support_batch must be at least 1"),
    ({"max_updates": -1}, "max_updates must be at least 0"),
  ],
)
def test_sizes_that_cannot_be(sizes, message):
  with pytest.raises(types.InputError, match=message):
    programs(create(), **sizes)


def test_a_method_that_does_not_start_from_class_means():
  adapter = create()._replace(streamable=None)
  with pytest.raises(types.InputError, match="finetune"):
    streamed.Programs(adapter)


def test_what_is_not_finite_is_named():
  task, _ = make((4, 4))
  task = helpers.normalised(task)
  support, query = task.support_images.copy(), task.query_images.copy()
  labels, ways = task.support_labels, task.num_ways
  query[3] = np.nan
  hosted = streamed.HostTask(support, labels, query, ways)
  with pytest.raises(
    types.InputError, match=r"query 3 .*nor those of 0 others"
  ):
    run(create(augment=False), hosted)
  support[2] = np.nan
  hosted = streamed.HostTask(support, labels, query, ways)
  with pytest.raises(types.InputError, match=r"update 1 of 6 diverged"):
    run(create(augment=False), hosted)
