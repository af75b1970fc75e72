"""One episode, start to end: init, a scan of steps, predict."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp

from fsl_jax import augment, programs, types
from fsl_jax.adapt import losses


def run(
  key: jax.Array,
  adapter: types.Adapter,
  variables: types.Variables,
  task: types.Task,
) -> tuple[jax.Array, types.AdaptInfo]:
  """Adapts to one task and predicts its queries (unbatched).

  Compiled at the first call with the adapter and the shapes of a task.

  Args:
    key: consumed.
    adapter: the method.
    variables: of the pre-trained backbone; left as they are.
    task: support set and unlabelled queries.

  Returns:
    [T, N] logits, and the info of every step, stacked: [num_steps] each. The
    softmax of the logits is not a calibrated probability.

  Raises:
    InputError: as `check`.
  """
  return _program(_run, adapter)(key, variables, task)


def diagnosed(
  key: jax.Array,
  adapter: types.Adapter,
  variables: types.Variables,
  task: types.Task,
) -> tuple[jax.Array, types.AdaptInfo, types.Diagnosis]:
  """`run`, and a diagnosis of adaptation (unbatched).

  The extra cost is a prediction of the queries before the first step and one of
  the support images after the last: less than one step.
  """
  return _program(_diagnosed, adapter)(key, variables, task)


def check(tasks: types.Task, adapter: types.Adapter | None = None) -> None:
  """Checks the values of tasks, unless they are traced.

  Args:
    tasks: one, or several with a leading B.
    adapter: the method, whose own check is made too.

  Raises:
    InputError: for labels outside [0, N), float images in [0, 255], or what the
      method cannot take.
  """
  types.check_labels(
    "support_labels", tasks.support_labels, tasks.support_mask, tasks.num_ways
  )
  for name in ("support", "query"):
    images = getattr(tasks, f"{name}_images")
    augment.check_normalised(f"{name}_images", images)
  if adapter is not None and adapter.check is not None:
    adapter.check(tasks)


@programs.kept
def _program(function: Any, adapter: types.Adapter) -> Any:
  # Inlined, so that it is the same in a program of many episodes.
  return programs.Checked(
    functools.partial(function, adapter),
    lambda key, variables, task: check(task, adapter),
    inline=True,
  )


def _run(adapter, key, variables, task):
  state = adapter.init(key, variables, task)
  state, infos = _steps(adapter, state, task)
  return _predict(adapter, state, task), infos


def _diagnosed(adapter, key, variables, task):
  start = adapter.init(key, variables, task)
  state, infos = _steps(adapter, start, task)
  logits = _predict(adapter, state, task)
  first = logits
  if adapter.num_steps:
    first = _predict(adapter, start, task)
  support = dataclasses.replace(
    task, query_images=task.support_images, query_mask=task.support_mask
  )
  hits = _predict(adapter, state, support).argmax(-1) == task.support_labels
  return (
    logits,
    infos,
    types.Diagnosis(
      first.argmax(-1).astype(jnp.int32),
      losses.masked_mean(hits.astype(jnp.float32), task.support_mask),
    ),
  )


def _steps(adapter, state, task):
  if adapter.num_steps == 0:
    empty = jnp.zeros((0,), jnp.float32)
    infos = types.AdaptInfo(empty, empty, empty, jnp.zeros((0,), bool))
  else:

    def step(state, _):
      state, info = adapter.step(state, task)
      chex.assert_shape(jax.tree.leaves(info), ())
      return state, info

    state, infos = jax.lax.scan(step, state, length=adapter.num_steps)
  return state, infos


def _predict(adapter, state, task):
  logits = adapter.predict(state, task)
  expected = (task.query_mask.shape[0], task.num_ways)
  if logits.shape != expected:
    raise types.InputError(
      f"{adapter.name}.predict gave logits {list(logits.shape)}, expected "
      f"[T, N] = {list(expected)}"
    )
  return logits
