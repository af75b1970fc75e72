"""Scores methods on the same episodes; the only stage that sees the labels."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fsl_jax import checkpoint, types
from fsl_jax import hardness as hardness_lib
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.adapt import batched
from fsl_jax.episodes import feeder, sampler

RECORDS = "episodes.jsonl"
CURVES = ("support_loss", "support_accuracy", "query_entropy")
DEFAULT_BATCH_SIZE = 8


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
  ways: int = 5,
  shots: int = 1,
  queries: int = 15,
  batch_size: int = DEFAULT_BATCH_SIZE,
  chunk: int | None = None,
  extractor: hardness_lib.ExtractFn | None = None,
  extractor_variables: types.Variables | None = None,
  folder: run_folder_lib.RunFolder | None = None,
  progress: bool = True,
) -> dict[str, types.EvalResult]:
  """Scores several methods on episodes 0 to num_episodes - 1, in one pass.

  Source: section 4.1. Every method meets the same episodes and, in its
  augmentation, the same random numbers.

  Args:
    adapters: methods with distinct names.
    variables: of the pre-trained backbone.
    dataset: split to draw from.
    seed: of the episodes and of the adaptation.
    num_episodes: n.
    ways: N.
    shots: K.
    queries: Q.
    batch_size: B, episodes per call of the compiled program. No result
      depends on it.
    chunk: episodes that are vmapped together, see `batched.compile`.
    extractor: network of the hardness; None leaves hardness NaN.
    extractor_variables: of `extractor`; None takes `variables`.
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
  chunk = batched.default_chunk() if chunk is None else chunk
  protocol = sampler.Protocol(ways=ways, shots=shots, queries=queries)
  check(
    dataset,
    protocol,
    seed=seed,
    num_episodes=num_episodes,
    batch_size=batch_size,
    chunk=chunk,
  )
  batch_size = -(-batch_size // chunk) * chunk

  inputs = ""
  if folder is not None:
    network = variables if extractor_variables is None else extractor_variables
    inputs = _inputs(
      variables, dataset, seed, None if extractor is None else network
    )
  done = _stored(folder, protocol, adapters, inputs)
  # Whole batches are done again if an episode is missing, so that a resumed
  # run feeds the compiled programs exactly what an uninterrupted one does.
  batches = [
    list(range(start, min(start + batch_size, num_episodes)))
    for start in range(0, num_episodes, batch_size)
  ]
  missing = [b for b in batches if not all(i in done for i in b)]
  if missing:
    score = _Scorer(
      adapters, variables, seed, chunk, extractor, extractor_variables
    )
    stream = feeder.batches(
      dataset, protocol, seed=seed, indices=missing, batch_size=batch_size
    )
    left = sum(map(len, missing))
    with _bar(num_episodes, left, protocol, progress) as bar:
      for batch in stream:
        fresh = [r for r in score(batch) if r["index"] not in done]
        done |= {r["index"]: r for r in fresh}
        if folder is not None:
          head = {"protocol": _as_dict(protocol), "inputs": inputs}
          folder.append(RECORDS, [head | r for r in fresh])
        bar.update(int(batch.mask.sum()))
  ordered = [done[i] for i in range(num_episodes)]
  return {a.name: _result(a, ordered, protocol) for a in adapters}


def check(
  dataset: types.ClassIndexed,
  protocol: sampler.Protocol,
  *,
  seed: int,
  num_episodes: int,
  batch_size: int,
  chunk: int | None,
) -> None:
  """Raises InputError for anything that `run_many` would stop at."""
  types.check_whole("seed", seed)
  types.check_whole("num_episodes", num_episodes, at_least=1)
  types.check_whole("batch_size", batch_size, at_least=1)
  if chunk is not None:
    types.check_whole("chunk", chunk, at_least=1)
  sampler.check(dataset, protocol)


def check_checkpoint(
  meta: Mapping[str, Any],
  dataset: types.ClassIndexed,
  *,
  cross_domain: bool = False,
) -> None:
  """Refuses an evaluation whose accuracy would not mean what it seems to.

  Args:
    meta: of the checkpoint, as `checkpoint.restore` gives it.
    dataset: split to be evaluated on.
    cross_domain: whether another data set than the checkpoint's is meant.

  Raises:
    InputError: if the network was trained on classes of this split, on other
      pixels under the same name, or on another data set.
  """
  trained = meta["data"]
  if trained["name"] != dataset.name:
    if cross_domain:
      return
    raise types.InputError(
      f"the checkpoint was trained on {trained['name']}, not on "
      f"{dataset.name}; --cross_domain says that this is meant"
    )
  if trained["fingerprint"] != dataset.fingerprint:
    raise types.InputError(
      f"the checkpoint was trained on another {dataset.name}: fingerprint "
      f"{trained['fingerprint'][:12]}, but the prepared data has "
      f"{dataset.fingerprint[:12]}"
    )
  seen = sorted(set(trained["class_names"]) & set(dataset.class_names))
  if seen:
    raise types.InputError(
      f"{len(seen)} of the {dataset.num_classes} classes of split "
      f"{dataset.split!r} were trained on (such as {seen[0]!r}), so accuracy "
      "on them would say nothing of new classes"
    )


class _Scorer:
  """Runs every method on a batch and compares with the query labels."""

  def __init__(
    self,
    adapters: Sequence[types.Adapter],
    variables: types.Variables,
    seed: int,
    chunk: int,
    extractor: hardness_lib.ExtractFn | None,
    extractor_variables: types.Variables | None,
  ):
    self._variables = jax.device_put(variables)
    self._key = jax.random.key(seed)
    self._options = {a.name: _options(a) for a in adapters}
    self._programs = {
      adapter.name: batched.compile(adapter, chunk=chunk)
      for adapter in adapters
    }
    self._hardness = None
    if extractor is not None:
      self._extractor_variables = (
        self._variables
        if extractor_variables is None
        else jax.device_put(extractor_variables)
      )
      self._hardness = jax.jit(
        lambda v, episodes: jax.lax.map(
          lambda e: hardness_lib.of_episode(extractor, v, e), episodes
        )
      )

  def __call__(self, batch: feeder.Batch) -> list[dict[str, Any]]:
    episodes = jax.device_put(batch.episodes)
    # Everything is dispatched before anything is waited for.
    outputs = {
      name: program(self._key, self._variables, episodes.task, episodes.index)
      for name, program in self._programs.items()
    }
    hardness = None
    if self._hardness is not None:
      hardness = self._hardness(self._extractor_variables, episodes)
    outputs, hardness = jax.device_get((outputs, hardness))
    return [
      {
        "index": int(batch.episodes.index[b]),
        "class_ids": batch.episodes.class_ids[b].tolist(),
        "hardness": None if hardness is None else _number(hardness[b]),
        "methods": {
          name: {"options": self._options[name]}
          | _score(batch.episodes, b, logits[b], infos)
          for name, (logits, infos) in outputs.items()
        },
      }
      for b in np.flatnonzero(batch.mask).tolist()
    ]


def _score(
  episodes: types.Episode, b: int, logits: np.ndarray, infos: types.AdaptInfo
) -> dict[str, Any]:
  """One method on one episode: accuracy, predictions, curves."""
  mask = episodes.task.query_mask[b]
  predictions = logits.argmax(-1)
  # A method may well call a class impossible, so -inf is a finite answer.
  good = ~np.isnan(logits[mask]) & (logits[mask] < np.inf)
  finite = bool(good.all() and infos.is_finite[b].all())
  hits = predictions[mask] == episodes.query_labels[b][mask]
  return {
    "accuracy": float(np.mean(hits, dtype=np.float64)) if finite else None,
    "is_finite": finite,
    "predictions": predictions.tolist(),
  } | {
    name: [_number(value) for value in getattr(infos, name)[b]]
    for name in CURVES
  }


def _number(value: Any) -> float | None:
  """JSON has neither NaN nor infinity."""
  return float(value) if np.isfinite(value) else None


def _stored(
  folder: run_folder_lib.RunFolder | None,
  protocol: sampler.Protocol,
  adapters: Sequence[types.Adapter],
  inputs: str,
) -> dict[int, dict[str, Any]]:
  """Records of episodes that a former run of the folder has finished."""
  if folder is None:
    return {}
  records = folder.read(RECORDS)
  path = folder.path / RECORDS
  if any(not {"protocol", "inputs", "methods"} <= set(r) for r in records):
    raise types.InputError(f"{path} holds lines that are no episodes")
  stored = [r for r in records if r["protocol"] == _as_dict(protocol)]
  for record in stored:
    if record["inputs"] != inputs:
      raise types.InputError(
        f"{path} holds episodes of another seed, data set or checkpoint; "
        "choose another run folder"
      )
    for adapter in adapters:
      method = record["methods"].get(adapter.name)
      if method is None or method["options"] != _options(adapter):
        what = "results" if method is None else "results with these options"
        raise types.InputError(
          f"{path} has no {what} of {adapter.name!r}; choose another run folder"
        )
  return {record["index"]: record for record in stored}


def _inputs(
  variables: types.Variables,
  dataset: types.ClassIndexed,
  seed: int,
  extractor_variables: types.Variables | None,
) -> str:
  """Digest of what an episode depends on beside protocol and method."""
  if dataset.fingerprint:
    pixels = f"{dataset.fingerprint} {dataset.image_size_px}"
  else:  # made on the fly, and so in memory
    pixels = hashlib.sha256(np.asarray(dataset.images).tobytes()).hexdigest()
  classes = dataset.class_ids.tolist()
  networks = [
    tree if tree is None else checkpoint.digest(tree)
    for tree in (variables, extractor_variables)
  ]
  return _short_digest([seed, dataset.split, pixels, classes, networks])


def _options(adapter: types.Adapter) -> str:
  """Digest of a method's options."""
  return _short_digest(
    [
      adapter.num_steps,
      adapter.query_use,
      adapter.config and {**adapter.config},
    ]
  )


def _short_digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _result(
  adapter: types.Adapter,
  records: list[dict[str, Any]],
  protocol: sampler.Protocol,
) -> types.EvalResult:
  own = [record["methods"][adapter.name] for record in records]
  return types.EvalResult(
    method=adapter.name,
    query_use=adapter.query_use,
    protocol=_as_dict(protocol),
    index=np.asarray([record["index"] for record in records]),
    accuracy=np.asarray([r["accuracy"] for r in own], np.float64),
    hardness=np.asarray([r["hardness"] for r in records], np.float64),
    predictions=np.asarray([r["predictions"] for r in own]),
    curves={
      name: np.asarray([r[name] for r in own], np.float64) for name in CURVES
    },
  )


def _as_dict(protocol: sampler.Protocol) -> dict[str, int]:
  return dataclasses.asdict(protocol)


def _bar(
  total: int, missing: int, protocol: sampler.Protocol, enabled: bool
) -> Any:
  import tqdm

  return tqdm.tqdm(
    total=total,
    initial=total - missing,
    desc=f"{protocol.ways}-way {protocol.shots}-shot",
    unit="episode",
    disable=not enabled,
  )
