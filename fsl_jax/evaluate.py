"""Scores methods on the same episodes; the only stage that sees the labels."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import devices, dispatch, episode_records, types
from fsl_jax import hardness as hardness_lib
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.adapt import batched, chunking
from fsl_jax.episodes import feeder, protocols
from fsl_jax.episodes import source as source_lib


def run(
  adapter: types.Adapter,
  variables: types.Variables,
  dataset: types.ClassIndexed,
  **options: Any,
) -> types.EvalResult:
  """Scores one method; options and errors as for `run_many`."""
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
  """Scores several methods on episodes 0 to num_episodes - 1, in one pass.

  Source: section 4.1. Every method meets the same episodes and, in its
  augmentation, the same random numbers. Batches are divided over all devices
  of all processes; each process draws its own part and gets all results.

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
      three before are not looked at then.
    batch_size: B, episodes per call of the compiled program, rounded up to a
      multiple of the devices times `chunk`. No result depends on it. None is
      8, or 64 where no method takes steps and handing over costs most.
    chunk: episodes that are vmapped together, see `batched.compile`. None
      chooses for each method by `chunking.choose`. A run that goes on keeps
      those that `folder` has.
    extractor: network of the hardness; None leaves hardness NaN.
    extractor_variables: of `extractor`; None takes `variables`.
    embeddings: [n, P] float32 of all images of `dataset`, by which hardness is
      judged instead of by `extractor`; see `extractors.embeddings`.
    folder: where one JSON line per episode is kept, in `episodes.jsonl`;
      episodes that are there already are not computed again, and those of
      another seed, data set, network or method are refused.
    progress: shows a bar.

  Returns:
    One result per method, in the order of `adapters`.

  Raises:
    InputError: before any work, if the data cannot serve the episodes.
  """
  names = [adapter.name for adapter in adapters]
  if not names or len(set(names)) < len(names):
    raise types.InputError(f"methods must have distinct names, got {names}")
  if source is None:
    protocol = protocols.make(ways=ways, shots=shots, queries=queries)
    source = source_lib.Drawn(dataset, protocol, seed)
  if source.dataset is not dataset:
    raise types.InputError("the source of the episodes is of another data set")
  check(
    source,
    seed=seed,
    num_episodes=num_episodes,
    batch_size=batch_size,
    chunk=chunk,
  )
  inputs = ""
  if folder is not None:
    network = variables if extractor_variables is None else extractor_variables
    judge = None if extractor is None else network
    inputs = episode_records.inputs_digest(
      variables,
      dataset,
      [seed] if source.seed == seed else [seed, source.seed],
      judge if embeddings is None else embeddings,
    )
  head: dict[str, Any] = {
    "protocol": source.values(),
    "name": source.name,
    "text": source.text,
  }
  done = episode_records.stored(folder, head["protocol"], adapters, inputs)
  mesh = devices.mesh()
  chunks = _chunks(
    adapters,
    variables,
    source,
    chunk,
    done,
    largest=-(-num_episodes // mesh.size),
  )
  unit = mesh.size * math.lcm(*chunks.values())
  if batch_size is None:
    batch_size = 8 if any(adapter.num_steps for adapter in adapters) else 64
  batch_size = -(-min(batch_size, num_episodes) // unit) * unit
  # Whole batches are done again if an episode is missing, so that a resumed
  # run feeds the compiled programs exactly what an uninterrupted one does.
  missing = [
    request
    for request in feeder.requests(source, num_episodes, batch_size)
    if not all(i in done for i in request.indices)
  ]
  if missing:
    dispatcher = dispatch.Dispatcher(
      {
        a.name: batched.compile(
          a, chunk=chunks[a.name], mesh=mesh, diagnose=True
        )
        for a in adapters
      },
      variables,
      seed=seed,
      mesh=mesh,
      extractor=extractor,
      extractor_variables=extractor_variables,
    )
    stream = feeder.batches(
      source,
      missing,
      batch_size=batch_size,
      rows=devices.own_rows(mesh, batch_size),
      embeddings=embeddings,
    )
    methods = {a.name: episode_records.of_method(a) for a in adapters}
    head_of_record = head | {"inputs": inputs, "chunks": chunks}
    left = sum(len(request.indices) for request in missing)
    with (
      contextlib.closing(stream),
      _bar(num_episodes, left, source.name, progress) as bar,
    ):
      streamed = dispatcher.stream(stream)
      for request, results in zip(missing, streamed, strict=True):
        # The rows after these are padding.
        records = [
          head_of_record | episode_records.of_results(results, b, methods)
          for b in range(len(request.indices))
        ]
        fresh = [r for r in records if r["index"] not in done]
        done |= {r["index"]: r for r in fresh}
        if folder is not None:
          folder.append(episode_records.FILE, fresh)
        bar.update(len(request.indices))
  if folder is not None:
    episode_records.finish(folder, head["protocol"], num_episodes)
  ordered = [done[i] for i in range(num_episodes)]
  return {
    a.name: episode_records.result(a.name, a.query_use, ordered, head)
    for a in adapters
  }


def _chunks(
  adapters: Sequence[types.Adapter],
  variables: types.Variables,
  source: source_lib.Source,
  chunk: int | None,
  done: Mapping[int, Mapping[str, Any]],
  largest: int,
) -> dict[str, int]:
  """Episodes to vmap, by method; as before where a run goes on, because the
  last bits of a result depend on it."""
  if done:
    return dict(next(iter(done.values()))["chunks"])
  if chunk is not None:
    return {adapter.name: chunk for adapter in adapters}
  task = feeder.padded(source, 0, source.shapes[-1]).task
  # Beside methods that take steps the others cost nothing, and must not make
  # the batches of these larger.
  some_step = any(adapter.num_steps for adapter in adapters)
  return {
    adapter.name: 1
    if some_step and not adapter.num_steps
    else devices.first_of(
      chunking.choose(adapter, variables, task, largest=largest)
    )
    for adapter in adapters
  }


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
  """Refuses an evaluation whose accuracy would not mean what it seems to.

  Args:
    meta: of the checkpoint, as `checkpoint.restore` gives it.
    dataset: split to be evaluated on.
    cross_domain: whether another data set than the checkpoint's is meant.
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
      "on them would say nothing of new classes"
    )
    if is_other:
      what += (
        f"; where {trained['name']} and {dataset.name} share no image: "
        "seen_classes=True, or --seen_classes"
      )
    raise types.InputError(what)


def _bar(total: int, missing: int, name: str, enabled: bool) -> Any:
  return devices.bar(
    total=total,
    initial=total - missing,
    desc=name,
    unit="episode",
    enabled=enabled,
  )
