"""Evaluates methods on the same episodes, with the labels of the queries.

The accuracy of a method on an episode is computed here, in `_score`, from query
labels that no method receives. It reaches `types.EvalResult` through
`episode_records.result`, whether it was computed now or by an earlier run.
"""

import contextlib
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fsl_jax import devices, dispatch, episode_records, types
from fsl_jax import hardness as hardness_lib
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.adapt import batched, chunking
from fsl_jax.episodes import feeder, protocols, sampler
from fsl_jax.episodes import source as source_lib


def run(
  adapter: types.Adapter,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  **options: Any,
) -> types.EvalResult:
  """Evaluates one method; options and errors as for `run_many`."""
  return run_many([adapter], variables, dataset, **options)[adapter.name]


def run_many(
  adapters: Sequence[types.Adapter],
  variables: types.Variables,
  dataset: types.ClassIndexed,
  *,
  seed: int = 0,
  num_episodes: int = 1000,
  ways: protocols.Ways | str = 5,
  shots: protocols.Shots | str = 1,
  queries: protocols.Queries | str = 15,
  source: source_lib.Source | None = None,
  batch_size: int | None = None,
  chunk: int | None = None,
  extractor: hardness_lib.ExtractFn | None = None,
  extractor_variables: types.Variables | None = None,
  embeddings: np.ndarray | None = None,
  folder: run_folder_lib.RunFolder | None = None,
  progress: bool = True,
) -> dict[str, types.EvalResult]:
  """Evaluates several methods on episodes 0 to num_episodes - 1, in one pass.

  Source: section 4.1. All methods are evaluated on the same episodes, with the
  same random numbers in their augmentation. Batches are divided over all
  devices of all processes; each process draws its own part and gets all
  results.

  Args:
    adapters: methods with distinct names.
    variables: of the pre-trained backbone.
    dataset: split to draw from.
    seed: of the episodes and of the adaptation.
    num_episodes: n.
    ways: N, or a rule such as "range:5:20"; see `episodes.Protocol`.
    shots: K, or a rule.
    queries: Q, or a rule.
    source: of the episodes, over `dataset`: other protocols, or a file; the
      three arguments before it are then ignored.
    batch_size: B, episodes per call of the compiled program, rounded up to a
      multiple of the devices times `chunk`. No result depends on it. None is
      8, or 64 if no method takes steps, when the transfers cost most.
    chunk: episodes that are vmapped together, see `batched.compile`. None
      chooses for each method by `chunking.choose`. A resumed run keeps those
      stored in `folder`.
    extractor: network of the hardness; None leaves hardness NaN.
    extractor_variables: of `extractor`; None takes `variables`.
    embeddings: [n, P] float32 of all images of `dataset`, from which hardness
      is computed instead of by `extractor`; see `extractors.embeddings`.
    folder: where one JSON line per episode is stored, in `episodes.jsonl`;
      episodes that are there already are not computed again, and those of
      another seed, data set, network or method are refused.
    progress: shows a bar.

  Returns:
    One result per method, in the order of `adapters`.

  Raises:
    InputError: before any work, if the data cannot serve the episodes.
  """
  if source is None:
    protocol = protocols.make(ways=ways, shots=shots, queries=queries)
    source = source_lib.Drawn(dataset, protocol, seed)
  check(
    source,
    seed=seed,
    num_episodes=num_episodes,
    batch_size=batch_size,
    chunk=chunk,
  )
  if source.dataset is not dataset:
    raise types.InputError("the source of the episodes is of another data set")
  hardness = (extractor, extractor_variables, embeddings)
  run = _Run(adapters, variables, source, seed, num_episodes, *hardness)
  return run.results(folder, batch_size, chunk, progress)


class _Run(NamedTuple):
  """Methods on episodes; the fields are arguments of `run_many`."""

  adapters: Sequence[types.Adapter]
  variables: types.Variables
  source: source_lib.Source
  seed: int
  num_episodes: int
  extractor: hardness_lib.ExtractFn | None
  extractor_variables: types.Variables | None
  embeddings: np.ndarray | None

  def results(
    self,
    folder: run_folder_lib.RunFolder | None,
    batch_size: int | None,
    chunk: int | None,
    progress: bool,
  ) -> dict[str, types.EvalResult]:
    """All results; what `folder` lacks is computed."""
    names = [adapter.name for adapter in self.adapters]
    if not names or len(set(names)) < len(names):
      raise types.InputError(f"methods must have distinct names, got {names}")
    head: dict[str, Any] = {
      "protocol": self.source.values(),
      "name": self.source.name,
      "text": self.source.text,
    }
    inputs = "" if folder is None else self._inputs_digest()
    done = episode_records.stored(
      folder, head["protocol"], self.adapters, inputs
    )
    mesh = devices.mesh()
    chunks = self._chunks(chunk, done, mesh)
    if batch_size is None:
      some_step = any(adapter.num_steps for adapter in self.adapters)
      batch_size = 8 if some_step else 64
    unit = mesh.size * math.lcm(*chunks.values())
    batch_size = -(-min(batch_size, self.num_episodes) // unit) * unit
    # A whole batch is computed again if one of its episodes is missing, so that
    # a resumed run calls the compiled programs as an uninterrupted one does.
    missing = [
      request
      for request in feeder.requests(self.source, self.num_episodes, batch_size)
      if not all(i in done for i in request.indices)
    ]
    head_of_record = head | {"inputs": inputs, "chunks": chunks}
    with contextlib.closing(
      self._computed(missing, batch_size, chunks, mesh, progress)
    ) as computed:
      for records in computed:
        fresh = [head_of_record | r for r in records if r["index"] not in done]
        done |= {r["index"]: r for r in fresh}
        if folder is not None:
          folder.append(episode_records.FILE, fresh)
    if folder is not None:
      episode_records.finish(folder, head["protocol"], self.num_episodes)
    ordered = [done[i] for i in range(self.num_episodes)]
    return {
      a.name: episode_records.result(a.name, a.query_use, ordered, head)
      for a in self.adapters
    }

  def _inputs_digest(self) -> str:
    seeds = [self.seed]
    if self.source.seed != self.seed:
      seeds.append(self.source.seed)
    hardness: Any = self.embeddings
    if hardness is None and self.extractor is not None:
      hardness = self.extractor_variables
      hardness = self.variables if hardness is None else hardness
    return episode_records.inputs_digest(
      self.variables, self.source.dataset, seeds, hardness
    )

  def _chunks(
    self,
    chunk: int | None,
    done: Mapping[int, Mapping[str, Any]],
    mesh: jax.sharding.Mesh,
  ) -> dict[str, int]:
    """Episodes to vmap, by method; a resumed run keeps them, because the last
    bits of a result depend on them."""
    if done:
      return dict(next(iter(done.values()))["chunks"])
    if chunk is not None:
      return {adapter.name: chunk for adapter in self.adapters}
    task = feeder.padded(self.source, 0, self.source.shapes[-1]).task
    largest = -(-self.num_episodes // mesh.size)
    # Methods without steps cost next to nothing beside those with steps, and
    # must not enlarge their batches.
    some_step = any(adapter.num_steps for adapter in self.adapters)
    return {
      adapter.name: 1
      if some_step and not adapter.num_steps
      else devices.first_of(
        chunking.choose(adapter, self.variables, task, largest=largest)
      )
      for adapter in self.adapters
    }

  def _computed(
    self,
    requests: Sequence[feeder.Request],
    batch_size: int,
    chunks: Mapping[str, int],
    mesh: jax.sharding.Mesh,
    progress: bool,
  ) -> Generator[list[dict[str, Any]], None, None]:
    """The records of each batch, in order, as soon as it is computed."""
    if not requests:
      return
    dispatcher = dispatch.Dispatcher(
      {
        a.name: batched.compile(
          a, chunk=chunks[a.name], mesh=mesh, diagnose=True
        )
        for a in self.adapters
      },
      self.variables,
      seed=self.seed,
      mesh=mesh,
      extractor=self.extractor,
      extractor_variables=self.extractor_variables,
    )
    batches = feeder.batches(
      self.source,
      requests,
      batch_size=batch_size,
      rows=devices.own_rows(mesh, batch_size),
      embeddings=self.embeddings,
    )
    bar = devices.bar(
      total=self.num_episodes,
      initial=self.num_episodes - sum(len(r.indices) for r in requests),
      desc=self.source.name,
      unit="episode",
      enabled=progress,
    )
    methods = {
      a.name: {
        "options": episode_records.options_digest(a),
        "query_use": a.query_use,
      }
      for a in self.adapters
    }
    with contextlib.closing(batches), bar:
      streamed = dispatcher.stream(batches)
      for request, results in zip(requests, streamed, strict=True):
        # The rows after these are padding.
        number = len(request.indices)
        yield [_record(results, b, methods) for b in range(number)]
        bar.update(number)


def _record(
  results: dispatch.Results, b: int, methods: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
  """Episode `b` of a batch as JSON values, without its padding."""
  class_ids = results.class_ids[b]
  class_ids = class_ids[class_ids >= 0]
  query_mask = results.query_mask[b]
  return {
    "index": int(results.indices[b]),
    "digest": sampler.digest(
      class_ids,
      results.support_rows[b][results.support_mask[b]],
      results.query_rows[b][query_mask],
    ),
    "class_ids": class_ids.tolist(),
    "labels": results.query_labels[b][query_mask].tolist(),
    "hardness": None
    if results.hardness is None
    else _number(results.hardness[b]),
    "methods": {
      name: {**methods[name], **_score(results, b, name)}
      for name in results.outputs
    },
  }


def _score(results: dispatch.Results, b: int, name: str) -> dict[str, Any]:
  """One method on episode `b`: accuracy, predictions, curves."""
  mask = results.query_mask[b]
  logits, infos, diagnosis = results.outputs[name]
  logits = logits[b][mask]
  predictions = logits.argmax(-1)
  # A method may call a class impossible, so -inf is a finite answer.
  good = ~np.isnan(logits) & (logits < np.inf)
  finite = bool(good.all() and infos.is_finite[b].all())
  hits = predictions == results.query_labels[b][mask]
  curves = {name: getattr(infos, name) for name in episode_records.CURVES}
  return {
    "accuracy": float(np.mean(hits, dtype=np.float64)) if finite else None,
    "is_finite": finite,
    "predictions": predictions.tolist(),
    "initial_predictions": diagnosis.initial_predictions[b][mask].tolist(),
    "support_accuracy": _number(diagnosis.support_accuracy[b]),
  } | {
    name: [None] * len(infos.is_finite[b])
    if curve is None
    else [_number(value) for value in curve[b]]
    for name, curve in curves.items()
  }


def _number(value: Any) -> float | None:
  """JSON has neither NaN nor infinity."""
  return float(value) if np.isfinite(value) else None


def check(
  source: source_lib.Source,
  *,
  seed: int,
  num_episodes: int,
  batch_size: int | None,
  chunk: int | None,
) -> None:
  """Raises InputError for anything that `run_many` would stop at."""
  types.check_whole("seed", seed)
  types.check_whole("num_episodes", num_episodes, at_least=1)
  for name, value in (("batch_size", batch_size), ("chunk", chunk)):
    if value is not None:
      types.check_whole(name, value, at_least=1)
  source.check(num_episodes)
  if source.min_ways < 2:
    raise types.InputError(
      f"{source.name} has episodes of one way, where no answer is wrong; "
      "expected at least 2 ways"
    )


def check_checkpoint(
  meta: Mapping[str, Any],
  dataset: types.ClassIndexed,
  *,
  cross_domain: bool = False,
  seen_classes: bool = False,
) -> None:
  """Refuses an evaluation whose accuracy would be misleading.

  Args:
    meta: of the checkpoint, as `checkpoint.restore` gives it.
    dataset: split to be evaluated on.
    cross_domain: whether another data set than the checkpoint's is intended.
    seen_classes: whether classes of another data set may have the names of
      some that were trained on: FC-100 and CIFAR-FS share images, icons and
      photographs of a bus do not.

  Raises:
    InputError: if the network was trained on classes of this split, on other
      pixels under the same name, or on another data set.
  """
  trained = meta["data"]
  is_other = trained["name"] != dataset.name
  if is_other and not cross_domain:
    raise types.InputError(
      f"the checkpoint was trained on {trained['name']}, not on "
      f"{dataset.name}; if that is meant: cross_domain=True, or --cross_domain"
    )
  if not is_other and trained["fingerprint"] != dataset.fingerprint:
    raise types.InputError(
      f"the checkpoint was trained on another {dataset.name}: fingerprint "
      f"{trained['fingerprint'][:12]}, but the prepared data has "
      f"{dataset.fingerprint[:12]}"
    )
  seen = sorted(set(trained["class_names"]) & set(dataset.class_names))
  if seen and not (is_other and seen_classes):
    what = (
      f"{len(seen)} of the {dataset.num_classes} classes of split "
      f"{dataset.split!r} were trained on (such as {seen[0]!r}), so accuracy "
      "on them would not be that on new classes"
    )
    if is_other:
      what += (
        f"; where {trained['name']} and {dataset.name} share no image: "
        "seen_classes=True, or --seen_classes"
      )
    raise types.InputError(what)
