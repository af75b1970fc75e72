"""One JSON line per episode: what is kept, read back, and made results of."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import checkpoint, dispatch, features, types
from fsl_jax import run_folder as run_folder_lib
from fsl_jax.episodes import sampler

FILE = "episodes.jsonl"
CURVES = ("support_loss", "support_accuracy", "query_entropy")


def of_results(
  results: dispatch.Results, b: int, options: Mapping[str, str]
) -> dict[str, Any]:
  """What is kept of episode `b` of a batch."""
  hardness = results.hardness
  return {
    "index": int(results.indices[b]),
    "class_ids": results.class_ids[b].tolist(),
    "hardness": None if hardness is None else _number(hardness[b]),
    "methods": {
      name: {"options": options[name]} | _score(results, b, name)
      for name in results.outputs
    },
  }


def _score(results: dispatch.Results, b: int, name: str) -> dict[str, Any]:
  """One method on one episode: accuracy, predictions, curves."""
  mask = results.query_mask[b]
  logits, infos = results.outputs[name]
  logits = logits[b]
  predictions = logits.argmax(-1)
  # A method may well call a class impossible, so -inf is a finite answer.
  good = ~np.isnan(logits[mask]) & (logits[mask] < np.inf)
  finite = bool(good.all() and infos.is_finite[b].all())
  hits = predictions[mask] == results.query_labels[b][mask]
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


def stored(
  folder: run_folder_lib.RunFolder | None,
  protocol: sampler.Protocol,
  adapters: Sequence[types.Adapter],
  inputs: str,
) -> dict[int, dict[str, Any]]:
  """Records of episodes that a former run of the folder has finished."""
  if folder is None:
    return {}
  records = folder.read(FILE)
  path = folder.path / FILE
  if any(
    not {"protocol", "inputs", "chunks", "methods"} <= set(r) for r in records
  ):
    raise types.InputError(
      f"{path} holds lines that are no episodes, or those of another version; "
      "choose another run folder"
    )
  stored = [r for r in records if r["protocol"] == dataclasses.asdict(protocol)]
  for record in stored:
    if record["inputs"] != inputs:
      raise types.InputError(
        f"{path} holds episodes of another seed, data set or checkpoint; "
        "choose another run folder"
      )
    for adapter in adapters:
      method = record["methods"].get(adapter.name)
      if method is None or method["options"] != options_digest(adapter):
        what = "results" if method is None else "results with these options"
        raise types.InputError(
          f"{path} has no {what} of {adapter.name!r}; choose another run folder"
        )
  return {record["index"]: record for record in stored}


def inputs_digest(
  variables: types.Variables,
  dataset: types.ClassIndexed,
  seed: int,
  extractor_variables: types.Variables | None,
) -> str:
  """Digest of what an episode depends on beside protocol and method."""
  data = features.data_digest(dataset)
  networks = [
    tree if tree is None else checkpoint.digest(tree)
    for tree in (variables, extractor_variables)
  ]
  return _short_digest([seed, data, networks])


def options_digest(adapter: types.Adapter) -> str:
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


def result(
  adapter: types.Adapter,
  records: list[dict[str, Any]],
  protocol: sampler.Protocol,
) -> types.EvalResult:
  own = [record["methods"][adapter.name] for record in records]
  return types.EvalResult(
    method=adapter.name,
    query_use=adapter.query_use,
    protocol=dataclasses.asdict(protocol),
    index=np.asarray([record["index"] for record in records]),
    accuracy=np.asarray([r["accuracy"] for r in own], np.float64),
    hardness=np.asarray([r["hardness"] for r in records], np.float64),
    predictions=np.asarray([r["predictions"] for r in own]),
    curves={
      name: np.asarray([r[name] for r in own], np.float64) for name in CURVES
    },
  )
