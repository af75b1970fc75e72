"""Methods on support sets of any size, which stay in host memory.

The functions of an adapter that is `types.Streamable` are applied to one batch
at a time. A support set of at most `support_batch` images is one batch, as in
the paper. A larger one is divided into `ceil(S / support_batch)` batches, in an
order drawn anew in each epoch, and every batch is an update of its own;
`epochs` remains the number of passes over the set. Adam changes a weight by
about the learning rate at each update, whatever the batch, so the learning rate
stays the same and the number of updates grows with the set. On the validation
classes of CIFAR-FS this is more accurate than updates on the whole set, and the
gain grows with the set.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax import devices, programs, random_words, types
from fsl_jax.adapt import heads
from fsl_jax.adapt import run as run_lib

_NO_ROWS = np.arange(0)


@dataclasses.dataclass(frozen=True)
class HostTask:
  """A `types.Task` without padding, whose images are read batch by batch.

  Attributes:
    support_images: [S, H, W, C], as in `types.Task`: an array, a memory map, or
      anything that gives an array for an array of rows.
    support_labels: [S] integers in [0, N). A class may have no image.
    query_images: [T, H, W, C], as `support_images`.
    num_ways: N.

  Raises:
    InputError: if they do not match.
  """

  support_images: types.Images
  support_labels: np.ndarray
  query_images: types.Images
  num_ways: int

  def __post_init__(self) -> None:
    support, query = self.support_images, self.query_images
    labels = self.support_labels
    types.check_whole("num_ways", self.num_ways, at_least=1)
    for name, images in (("support", support), ("query", query)):
      if not len(images):
        raise types.InputError(f"the {name} set must not be empty")
    if (support.shape[1:], support.dtype) != (query.shape[1:], query.dtype):
      raise types.InputError(
        "query images must be like the support images, "
        f"{list(support.shape[1:])} {support.dtype}, got "
        f"{list(query.shape[1:])} {query.dtype}"
      )
    if labels.dtype.kind not in "iu" or labels.shape != (len(support),):
      raise types.InputError(
        f"support_labels must be [{len(support)}] integers, one an image, got "
        f"{list(labels.shape)} {labels.dtype}"
      )
    if not 0 <= labels.min() <= labels.max() < self.num_ways:
      raise types.InputError(
        f"support_labels must lie in [0, {self.num_ways}), got "
        f"{labels.min()} to {labels.max()}"
      )


class Outcome(NamedTuple):
  """Result of adaptation to a task; NumPy."""

  logits: np.ndarray  # [T, N] float32, unnormalised
  infos: types.AdaptInfo  # of every update, stacked


def run(
  key: jax.Array,
  programs: "Programs",
  variables: types.Variables,
  task: HostTask,
  *,
  progress: bool = True,
) -> Outcome:
  """Adapts to one task and predicts its queries: `adapt.run.run` for any S.

  Equal to it, up to rounding, where support and query fit one batch each.

  Args:
    key: consumed.
    programs: the method.
    variables: of the pre-trained backbone; left as they are.
    task: support set and unlabelled queries.
    progress: shows a bar of the updates.

  Raises:
    InputError: if parameters, losses or logits diverge (NaN or Inf).
  """
  state = programs.init(key, variables, task)
  state, infos = programs.update(state, task, progress=progress)
  return Outcome(programs.predict(state, task), infos)


class Programs:
  """The three stages of the method, each compiled once for all set sizes.

  Args:
    adapter: the method.
    support_batch: images of an update, and of a chunk of the initialisation.
      Above the method's `micro_batch` it must be a multiple of it.
    query_batch: images of a query update, which cycles through the queries if
      there are more, and of a chunk of the prediction; likewise.
    max_updates: ends adaptation earlier; None is all epochs.

  Raises:
    InputError: for a size out of range, or a method that is not streamable.
  """

  def __init__(
    self,
    adapter: types.Adapter,
    *,
    support_batch: int = 75,
    query_batch: int = 75,
    max_updates: int | None = None,
  ):
    if adapter.streamable is None:
      raise types.InputError(
        f"{adapter.name} does not start from class means, and cannot be "
        "streamed"
      )
    micro_batch = adapter.streamable.micro_batch
    for name, size in (
      ("support_batch", support_batch),
      ("query_batch", query_batch),
    ):
      types.check_whole(name, size, at_least=1)
      if size > micro_batch and size % micro_batch:
        raise types.InputError(
          f"{name} must be a multiple of micro_batch ({micro_batch}) or below "
          f"it, got {size}"
        )
    if max_updates is not None:
      types.check_whole("max_updates", max_updates)
    self._num_epochs = adapter.num_steps
    self._uses_queries = adapter.streamable.uses_queries
    self._support_batch = support_batch
    self._query_batch = query_batch
    self._max_updates = max_updates
    self._class_means, self._start, self._step, self._predict = _compiled(
      adapter
    )

  def init(
    self, key: jax.Array, variables: types.Variables, task: HostTask
  ) -> Any:
    """Initialisation from class means, accumulated over chunks.

    Args:
      key: consumed.
      variables: of the pre-trained backbone.
      task: whose support set is embedded.
    """
    labels, num_ways = task.support_labels, task.num_ways
    totals = np.bincount(labels, minlength=num_ways)
    chunks = _chunks(np.arange(len(labels)), self._support_batch)
    results = devices.pipelined(
      lambda rows: self._class_means(variables, self._batch(task, rows)), chunks
    )
    # In float64, since a class may have many chunks.
    means: Any = 0.0
    for rows, chunk_means in zip(chunks, results, strict=True):
      counts = np.bincount(labels[rows], minlength=num_ways)
      share = counts / np.maximum(totals, 1)
      means = means + share[:, None] * chunk_means
    means = means.astype(chunk_means.dtype)
    return self._start(key, *jax.device_put((variables, means, totals > 0)))

  def update(
    self,
    state: Any,
    task: HostTask,
    *,
    progress: bool = True,
  ) -> tuple[Any, types.AdaptInfo]:
    """All updates; info of each, [num_updates] NumPy.

    Args:
      state: of `init`.
      task: the same one.
      progress: shows a bar.

    Raises:
      InputError: naming the update that diverged.
    """
    per_epoch = -(-len(task.support_labels) // self._support_batch)
    total = self._num_epochs * per_epoch
    if self._max_updates is not None:
      total = min(total, self._max_updates)
    kinds = (np.float32, np.float32, np.float32, bool)
    columns: list[Any] = [np.zeros(total, kind) for kind in kinds]
    infos = types.AdaptInfo(*columns)
    if total and not self._uses_queries:
      infos = infos._replace(query_entropy=None)

    def step(rows):
      nonlocal state
      state, info = self._step(state, self._batch(task, *rows))
      return info

    key = state.key if total else None
    rows = itertools.islice(self._rows(key, task), total)
    results = devices.bar(
      devices.pipelined(step, rows),
      desc="updates",
      total=total,
      enabled=progress,
    )
    for update, info in enumerate(results):
      if not info.is_finite:
        raise types.InputError(
          f"update {update + 1} of {total} diverged (NaN or Inf; support loss "
          f"{info.support_loss}); expected finite images and a smaller "
          "learning rate"
        )
      for column, value in zip(
        *map(jax.tree.leaves, (infos, info)), strict=True
      ):
        column[update] = value
    return state, infos

  def predict(self, state: Any, task: HostTask) -> np.ndarray:
    """[T, N] float32 logits of the queries, unnormalised.

    Raises:
      InputError: naming a query whose logits are not finite.
    """
    chunks = _chunks(np.arange(len(task.query_images)), self._query_batch)
    results = devices.pipelined(
      lambda rows: self._predict(state, self._batch(task, query=rows)), chunks
    )
    logits = np.concatenate(
      [found[: len(rows)] for rows, found in zip(chunks, results, strict=True)]
    )
    finite = np.isfinite(logits).all(1)
    if not finite.all():
      raise types.InputError(
        f"the logits of query {finite.argmin()} are not finite (nor those of "
        f"{(~finite).sum() - 1} others); expected finite images and variables"
      )
    return logits

  def _rows(
    self, key: Any, task: HostTask
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Support and query rows of each update, epoch after epoch."""
    num_support, num_query = len(task.support_labels), len(task.query_images)
    at_once = min(num_query, self._query_batch)
    first_query = 0
    for epoch in range(self._num_epochs):
      # Views depend on the position: a set that is one batch keeps its order,
      # and has the same views as in `run.run`.
      if num_support <= self._support_batch:
        order = np.arange(num_support)
      else:
        order = _shuffled(key, epoch, num_support)
      for support in _chunks(order, self._support_batch):
        query = _NO_ROWS
        if self._uses_queries:
          query = np.arange(first_query, first_query + at_once) % num_query
          first_query = (first_query + at_once) % num_query
        yield support, query

  def _batch(
    self,
    task: HostTask,
    support: np.ndarray = _NO_ROWS,
    query: np.ndarray = _NO_ROWS,
  ) -> types.Task:
    """The images of these rows, padded and on the device."""
    labels = task.support_labels[support].astype(np.int32)
    support_size, query_size = self._support_batch, self._query_batch
    batch = types.Task(
      support_images=_padded(task.support_images[support], support_size),
      support_labels=_padded(labels, support_size),
      support_mask=_padded(np.ones(len(support), bool), support_size),
      query_images=_padded(task.query_images[query], query_size),
      query_mask=_padded(np.ones(len(query), bool), query_size),
      num_ways=task.num_ways,
    )
    run_lib.check(batch)
    return jax.device_put(batch)


@programs.kept
def _compiled(adapter: types.Adapter) -> tuple[Callable[..., Any], ...]:
  assert adapter.streamable is not None
  embed, start, *_ = adapter.streamable

  def class_means(variables, task):
    return heads.class_means(
      embed(variables, task.support_images),
      task.support_labels,
      task.support_mask,
      task.num_ways,
    )

  functions = (class_means, start, adapter.step, adapter.predict)
  return tuple(jax.jit(function) for function in functions)


def _chunks(rows: np.ndarray, size: int) -> list[np.ndarray]:
  return [rows[i : i + size] for i in range(0, len(rows), size)]


def _padded(values: np.ndarray, size: int) -> np.ndarray:
  """Zeros at the end, up to `size`; of no values none."""
  missing = size - len(values) if len(values) else 0
  return np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))


def _shuffled(key: jax.Array, epoch: int, size: int) -> np.ndarray:
  """[size] distinct rows in random order, on the host.

  jax would compile a permutation for every size.
  """
  words = [*jax.random.key_data(key).tolist(), epoch]
  return random_words.permutation(words, size)
