"""The chunk grows while episodes get cheaper and the program fits."""

import types as python_types

import helpers
import jax
import numpy as np
import pytest

from fsl_jax import adapt
from fsl_jax.adapt import chunking


@pytest.fixture
def seconds(monkeypatch):
  """Makes the time of a chunk's run a function of the chunk."""

  def set_to(function):
    monkeypatch.setattr(
      chunking,
      "_seconds",
      lambda program, arguments: function(len(arguments[0])),
    )

  return set_to


def run_trial(**options):
  backbone = helpers.tiny_backbone()
  method = adapt.create("prototype", backbone)
  options = {"memory_bytes": float("inf"), "largest": 64} | options
  task, _ = helpers.make_task()
  return chunking.trial(
    method, helpers.tiny_variables(backbone), task, **options
  )


@pytest.mark.parametrize(
  ("cost", "expected"),
  [
    (lambda chunk: 1.0, 64),  # more episodes cost nothing: the largest
    (lambda chunk: chunk, 1),  # no gain at all
    (lambda chunk: chunk * 0.97, 1),  # a gain below five percent
    (lambda chunk: max(16, chunk), 16),  # free until the device is full
  ],
)
def test_grows_while_an_episode_gets_cheaper(seconds, cost, expected):
  seconds(cost)
  assert run_trial().size == expected


def test_a_program_that_does_not_fit_is_not_run(seconds, monkeypatch):
  run = []
  seconds(lambda chunk: run.append(chunk) or 1.0)
  monkeypatch.setattr(
    chunking, "_bytes", lambda program: {1: 10, 4: 40, 16: 160}[len_of(program)]
  )

  def len_of(program):
    shapes = [x.shape for x in jax.tree.leaves(program.args_info)]
    return max(shape[0] for shape in shapes if len(shape) == 5)

  assert run_trial(memory_bytes=100) == (4, 40)
  assert run == [1, 4]


def test_one_episode_is_tried_whatever_the_estimate(seconds):
  seconds(lambda chunk: 1.0)
  assert run_trial(memory_bytes=0).size == 1


def test_memory_grows_with_the_chunk(monkeypatch):
  seen = []
  count = chunking._bytes
  monkeypatch.setattr(
    chunking, "_bytes", lambda program: seen.append(count(program)) or seen[-1]
  )
  monkeypatch.setattr(chunking, "_seconds", lambda program, arguments: 1.0)
  assert run_trial() == (64, seen[-1])
  assert np.all(np.diff(seen) > 0)
  assert len(seen) == 4


def test_trial_runs_the_method(monkeypatch):
  """Two of the steps, on real images, timed."""
  backbone = helpers.tiny_backbone()
  method = adapt.create("finetune", backbone, epochs=7)
  lengths = []
  run = adapt.run.run

  def spy(key, adapter, variables, task):
    lengths.append(adapter.num_steps)
    return run(key, adapter, variables, task)

  monkeypatch.setattr(
    chunking, "run_lib", python_types.SimpleNamespace(run=spy)
  )
  task, _ = helpers.make_task()
  chunk = chunking.trial(
    method,
    helpers.tiny_variables(backbone),
    task,
    memory_bytes=float("inf"),
    largest=4,
  )
  assert chunk.size in (1, 4)
  assert set(lengths) == {2}


def test_a_cpu_takes_episodes_one_by_one():
  task, _ = helpers.make_task()
  assert (
    chunking.choose(
      adapt.create("prototype", helpers.tiny_backbone()), {}, task, largest=64
    )
    == 1
  )


def test_the_choice_is_kept_while_it_fits(monkeypatch):
  """On an accelerator, whose free memory changes between calls."""
  trials = []
  free = [100.0]

  def trial(adapter, variables, task, *, memory_bytes, largest):
    del adapter, variables, task, largest
    trials.append(memory_bytes)
    return chunking.Chunk(16, 90) if memory_bytes > 90 else chunking.Chunk(1, 9)

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(chunking, "trial", trial)
  monkeypatch.setattr(chunking, "_free_bytes", lambda: free[0])
  task, _ = helpers.make_task()
  method = adapt.create("prototype", helpers.tiny_backbone(), micro_batch=11)

  def choose():
    return chunking.choose(method, {}, task, largest=64)

  assert [choose(), choose()] == [16, 16]
  assert trials == [100.0]
  free[0] = 50.0
  assert [choose(), choose()] == [1, 1]
  free[0] = 5.0  # One episode is run whatever the estimate.
  assert choose() == 1
  assert trials == [100.0, 50.0]
