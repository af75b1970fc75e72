"""Runs batches of episodes on all devices, one batch ahead of the results."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax import devices, types
from fsl_jax import hardness as hardness_lib
from fsl_jax import programs as programs_lib
from fsl_jax.adapt import batched
from fsl_jax.episodes import feeder


class Results(NamedTuple):
  """Results of a batch of episodes, from all devices."""

  indices: types.Array  # [B] int32
  class_ids: types.Array  # [B, N] int32
  support_rows: types.Array  # [B, S] int32
  support_mask: types.Array  # [B, S] bool
  query_rows: types.Array  # [B, T] int32
  query_labels: types.Array  # [B, T] int32
  query_mask: types.Array  # [B, T] bool
  hardness: types.Array | None  # [B] float32
  # By method: logits [B, T, N], infos [B, steps], diagnosis.
  outputs: Mapping[str, tuple[types.Array, types.AdaptInfo, types.Diagnosis]]


class Dispatcher:
  """Runs all methods on batches of episodes.

  Args:
    programs: the methods over `mesh`, by name, as `batched.compile` makes them.
    variables: of the pre-trained backbone.
    seed: of the adaptation.
    mesh: all devices.
    extractor: feature extractor of the hardness, for batches without
      embeddings; None leaves hardness out.
    extractor_variables: of `extractor`; None takes `variables`.
  """

  def __init__(
    self,
    programs: Mapping[str, batched.BatchedFn],
    variables: types.Variables,
    *,
    seed: int,
    mesh: jax.sharding.Mesh,
    extractor: hardness_lib.ExtractFn | None = None,
    extractor_variables: types.Variables | None = None,
  ):
    self._mesh = mesh
    self._programs = programs
    same = devices.sharding(mesh, devices.SAME)
    with jax.transfer_guard("allow"):  # The seed is moved.
      self._key = jax.jit(jax.random.key, out_shardings=same)(seed)
    self._variables = devices.place(mesh, devices.SAME, variables)
    self._shapes: set[tuple[int, ...]] = set()  # those compiled for
    self._hardness = None
    if extractor is not None:
      self._extractor_variables = (
        self._variables
        if extractor_variables is None
        else devices.place(mesh, devices.SAME, extractor_variables)
      )
      self._hardness = _hardness(extractor, mesh)
    self._by_embeddings = _by_embeddings(mesh)

  def __call__(self, batch: feeder.Batch) -> Results:
    """Dispatches a batch, and returns arrays that every process can read.

    Args:
      batch: this process's rows.
    """
    task = batch.episodes.task
    shape = (task.num_ways, *map(np.size, (task.support_mask, task.query_mask)))
    # Compiling moves constants.
    guard = "disallow" if shape in self._shapes else "allow"
    self._shapes.add(shape)
    with jax.transfer_guard(guard):
      results = self._results(
        devices.place(self._mesh, devices.ROWS, batch.episodes),
        batch.embeddings
        and devices.place(self._mesh, devices.ROWS, batch.embeddings),
      )
      return devices.gather(self._mesh, results)

  def _results(
    self,
    episodes: types.Episode,
    embeddings: tuple[types.Array, types.Array] | None,
  ) -> Results:
    hardness = None
    if embeddings is not None:
      hardness = self._by_embeddings(episodes, embeddings)
    elif self._hardness is not None:
      hardness = self._hardness(self._extractor_variables, episodes)
    return Results(
      indices=episodes.index,
      class_ids=episodes.class_ids,
      support_rows=episodes.support_rows,
      support_mask=episodes.task.support_mask,
      query_rows=episodes.query_rows,
      query_labels=episodes.query_labels,
      query_mask=episodes.task.query_mask,
      hardness=hardness,
      outputs={
        name: program(self._key, self._variables, episodes.task, episodes.index)
        for name, program in self._programs.items()
      },
    )

  def stream(self, batches: Iterable[feeder.Batch]) -> Iterator[Results]:
    """Results of each batch as NumPy, in order; see `devices.pipelined`."""
    return devices.pipelined(self, batches)


@programs_lib.kept
def _hardness(
  extractor: hardness_lib.ExtractFn, mesh: jax.sharding.Mesh
) -> Any:
  def of_episodes(variables, episodes):
    return jax.lax.map(
      lambda e: hardness_lib.of_episode(extractor, variables, e), episodes
    )

  return jax.jit(devices.apart(of_episodes, mesh, devices.SAME, devices.ROWS))


@programs_lib.kept
def _by_embeddings(mesh: jax.sharding.Mesh) -> Any:
  def of_episodes(episodes, embeddings):
    return jax.lax.map(
      lambda pair: hardness_lib.of_embeddings(*pair), (episodes, embeddings)
    )

  return jax.jit(devices.apart(of_episodes, mesh, devices.ROWS, devices.ROWS))
