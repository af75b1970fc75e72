"""One episode, start to end: init, a scan of steps, predict."""

import jax
import jax.numpy as jnp

from fsl_jax import types


def run(
  key: jax.Array,
  adapter: types.Adapter,
  variables: types.Variables,
  task: types.Task,
) -> tuple[jax.Array, types.AdaptInfo]:
  """Adapts to one task and predicts its queries (unbatched).

  Args:
    key: consumed.
    adapter: the method.
    variables: of the pre-trained backbone; left as they are.
    task: support set and unlabelled queries.

  Returns:
    [T, N] logits, and the info of every step, stacked: [num_steps] each.
  """
  state = adapter.init(key, variables, task)
  if adapter.num_steps == 0:
    empty = jnp.zeros((0,), jnp.float32)
    infos = types.AdaptInfo(empty, empty, empty, jnp.zeros((0,), bool))
  else:
    state, infos = jax.lax.scan(
      lambda carry, _: adapter.step(carry, task),
      state,
      length=adapter.num_steps,
    )
  logits = adapter.predict(state, task)
  expected = (task.query_mask.shape[0], task.num_ways)
  if logits.shape != expected:
    raise types.InputError(
      f"{adapter.name}.predict gave logits {list(logits.shape)}, expected "
      f"[T, N] = {list(expected)}"
    )
  return logits, infos
