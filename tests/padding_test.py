"""Support sets of many sizes share a few, and padding changes nothing."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsl_jax as fsl
from fsl_jax import adapt, backbones, evaluate
from fsl_jax.data import synthetic
from fsl_jax.episodes import feeder, padding, sampler, source


def test_buckets_by_hand():
  assert [padding.bucket(n) for n in (1, 5, 7, 9, 25, 26, 61, 75)] == [
    1, 5, 8, 10, 25, 30, 75, 75,
  ]  # fmt: skip
  # Whole micro-batches above.
  assert [padding.bucket(n) for n in (76, 150, 151)] == [150, 150, 225]


def test_few_sizes_and_little_waste():
  sizes = np.arange(1, 76)
  filled = np.array([padding.bucket(n) for n in sizes])
  assert np.all(filled >= sizes)
  assert len(set(filled)) == 17
  assert np.max(filled / sizes) < 4 / 3
  for published in (5, 25):
    assert padding.bucket(published) == published


def tasks(dataset, protocol, index):
  """An episode as it is, and filled up to its bucket."""
  drawn = source.Drawn(dataset, protocol, 0)
  (shape,) = drawn.shapes
  return [
    feeder.episode(dataset, protocol, seed=0, index=index).task,
    feeder.padded(drawn, index, shape).task,
  ]


def test_batches_hold_padded_episodes():
  dataset = synthetic.make(7, 6, image_size_px=8)
  protocol = sampler.Protocol(ways=7, shots=1, queries=2)
  drawn = source.Drawn(dataset, protocol, 0)
  (batch,) = feeder.batches(drawn, feeder.requests(drawn, 2, 2), batch_size=2)
  alone = fsl.episodes.sample(
    dataset, seed=0, index=1, ways=7, shots=1, queries=2
  )
  task = jax.tree.map(lambda x: x[1], batch.episodes).task
  assert task.support_mask.tolist() == [True] * 7 + [False]
  np.testing.assert_array_equal(
    task.support_images[:7], alone.task.support_images
  )
  np.testing.assert_array_equal(task.query_images, alone.task.query_images)
  assert not task.support_images[7].any()


@pytest.mark.parametrize("method", ["prototype", "transductive_finetune"])
def test_padding_changes_nothing(method):
  """Seven support images, alone and filled up to eight."""
  backbone = helpers.tiny_backbone()
  dataset = synthetic.make(7, 6, image_size_px=8, noise=0.5)
  protocol = sampler.Protocol(ways=7, shots=1, queries=2)
  options = {} if method == "prototype" else {"epochs": 3}
  adapter = adapt.create(method, backbone, **options)
  logits = []
  for task in tasks(dataset, protocol, 3):
    run = jax.jit(lambda k, v, t: adapt.run.run(k, adapter, v, t))
    found, _ = run(jax.random.key(0), helpers.tiny_variables(backbone), task)
    logits.append(found)
  np.testing.assert_allclose(logits[0], logits[1], atol=1e-6)


@pytest.mark.parametrize("backbone", ["resnet12", "wrn_16_4"])
def test_a_micro_batch_of_padding_alone_changes_nothing(backbone):
  """Nine support images fill up to ten: of micro-batches of three, the fourth
  holds none. Deep networks must not overflow on it."""
  options = {"widen": 1} if "wrn" in backbone else {"widths": (4, 4, 8, 8)}
  network = backbones.create(
    backbone, num_classes=6, image_size_px=16, **options
  )
  dataset = synthetic.make(9, 4, image_size_px=16, noise=0.5)
  protocol = sampler.Protocol(ways=9, shots=1, queries=1)
  adapter = adapt.create("finetune", network, epochs=2, micro_batch=3)
  variables = jax.jit(network.init)(
    jax.random.key(0), jnp.zeros((1, 16, 16, 3))
  )
  run = jax.jit(
    lambda task: adapt.run.run(jax.random.key(0), adapter, variables, task)
  )
  found = [run(task) for task in tasks(dataset, protocol, 0)]
  for logits, infos in found:
    assert infos.is_finite.all()
    np.testing.assert_allclose(logits, found[0][0], atol=1e-5)
    np.testing.assert_allclose(
      infos.support_loss, found[0][1].support_loss, atol=1e-5
    )


def test_shots_of_a_bucket_and_seeds_share_a_program():
  """Seven and eight ways of one shot differ in shape; 8 and 9 shots of two
  ways, 1 and 2 seeds, 5 and 7 episodes do not."""
  traced = []
  method = adapt.create("prototype", helpers.tiny_backbone())

  def init(*arguments):
    traced.append(arguments)
    return method.init(*arguments)

  spied = method._replace(init=init)
  dataset = synthetic.make(4, 12, image_size_px=8)
  for shots, seed, num_episodes in ((8, 0, 5), (9, 1, 7)):
    evaluate.run_many(
      [spied],
      helpers.tiny_variables(helpers.tiny_backbone()),
      dataset,
      ways=2,
      shots=shots,
      queries=3,
      seed=seed,
      num_episodes=num_episodes,
      progress=False,
    )
  assert len(traced) == 1
