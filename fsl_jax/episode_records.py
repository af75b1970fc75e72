"""The JSON lines of a run, one per episode: stored, read, made into results."""

import hashlib
import json
import operator
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import checkpoint, devices, features, types
from fsl_jax import run_folder as run_folder_lib

FILE = "episodes.jsonl"
_FINISHED = "finished.json"  # how many episodes the file has to hold
CURVES = ("support_loss", "support_accuracy", "query_entropy")


def stored(
  folder: run_folder_lib.RunFolder | None,
  protocol: Mapping[str, Any],
  adapters: Sequence[types.Adapter],
  inputs: str,
) -> dict[int, dict[str, Any]]:
  """Records, by index, of the episodes that a former run has finished.

  Args:
    folder: of the run; None has none.
    protocol: values of the episodes' source.
    adapters: the methods.
    inputs: `inputs_digest`.

  Raises:
    InputError: if there are episodes with other inputs.
  """
  if folder is None:
    return {}
  folder.kept(_FINISHED)  # Damage is refused before any work.
  records = folder.read(FILE)
  path = folder.path / FILE
  if any(
    not {"protocol", "inputs", "chunks", "digest", "methods"} <= set(r)
    for r in records
  ):
    raise types.InputError(
      f"{path} holds lines that are not episodes, or those of another version; "
      "choose another run folder"
    )
  stored = [r for r in records if r["protocol"] == protocol]
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
  seeds: Sequence[int],
  hardness: types.Variables | np.ndarray | None,
) -> str:
  """Digest of what the numbers of an episode depend on, beside protocol and
  method.

  Args:
    variables: of the pre-trained backbone.
    dataset: split that episodes are of.
    seeds: of the adaptation, and of the episodes where that is another.
    hardness: variables of the feature extractor that hardness is computed with,
      or embeddings by it; None if hardness is not computed.
  """
  extractor = hardness
  if isinstance(hardness, np.ndarray):
    # A sample of the rows, since embeddings may be large.
    some = hardness[:: max(1, len(hardness) // 64)]
    extractor = {"embeddings": np.ascontiguousarray(some)}
  return _short_digest(
    [
      *seeds,
      features.data_digest(dataset),
      checkpoint.digest(variables),
      None if extractor is None else checkpoint.digest(extractor),
    ]
  )


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
  name: str,
  query_use: str,
  records: Sequence[Mapping[str, Any]],
  head: Mapping[str, Any],
) -> types.EvalResult:
  """The result of a method.

  Args:
    name: of the method.
    query_use: the method's use of query information.
    records: of the episodes, in order.
    head: "protocol", "name" and "text" of the episodes' source.
  """
  own = [record["methods"][name] for record in records]
  return types.EvalResult(
    method=name,
    query_use=query_use,
    protocol=head["protocol"],
    protocol_name=head["name"],
    protocol_text=head["text"],
    index=np.asarray([record["index"] for record in records]),
    digests=np.asarray([record["digest"] for record in records]),
    class_ids=_padded(record["class_ids"] for record in records),
    labels=_padded(record["labels"] for record in records),
    accuracy=np.asarray([r["accuracy"] for r in own], np.float64),
    hardness=np.asarray([r["hardness"] for r in records], np.float64),
    predictions=_padded(r["predictions"] for r in own),
    initial_predictions=_padded(r["initial_predictions"] for r in own),
    support_accuracy=np.asarray(
      [r["support_accuracy"] for r in own], np.float64
    ),
    curves={
      name: np.asarray([r[name] for r in own], np.float64) for name in CURVES
    },
  )


def load(path: str | os.PathLike[str]) -> list[dict[str, types.EvalResult]]:
  """The results in a run folder, by method: an entry per protocol.

  From an interrupted run, the episodes before the first missing one.

  Raises:
    InputError: if there are none, or they are damaged.
  """
  folder = run_folder_lib.Files(path)
  file = folder.path / FILE
  if not file.is_file():
    raise types.InputError(
      f"{path} is not a run folder with episodes: no {FILE}"
    )
  # Before the records: a run in progress may finish more of them meanwhile.
  finished = folder.kept(_FINISHED)
  protocols: dict[str, list[dict[str, Any]]] = {}
  for number, record in enumerate(folder.read(FILE), 1):
    try:
      key = _key(record["protocol"])
      record["digest"], record["methods"], record["text"]
      record["index"] = operator.index(record["index"])
    except (KeyError, TypeError) as error:
      raise types.InputError(
        f"line {number} of {file} is damaged, or of another version ({error!r})"
      ) from error
    protocols.setdefault(key, []).append(record)
  if missing := set(finished) - set(protocols):
    raise _lost(file, 0, finished, missing.pop())
  if not protocols:
    raise types.InputError(f"{file} holds no episode")
  loaded = []
  for key, records in protocols.items():
    records.sort(key=lambda record: record["index"])
    # Episodes of one size are computed together: after an interruption only
    # those without a gap are an unbiased sample.
    reached = 0
    while reached < len(records) and records[reached]["index"] == reached:
      reached += 1
    if reached < finished.get(key, 0):
      raise _lost(file, reached, finished, key)
    records = records[:reached]
    if not records:
      continue
    try:
      loaded.append(
        {
          name: result(name, first["query_use"], records, records[0])
          for name, first in records[0]["methods"].items()
        }
      )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise types.InputError(
        f"{file} is damaged, or of another version ({error!r})"
      ) from error
  if not loaded:
    raise types.InputError(f"{file} does not hold the first episode")
  return loaded


def finish(
  folder: run_folder_lib.RunFolder, protocol: Mapping[str, Any], number: int
) -> None:
  """Records that episodes 0 to number - 1 are stored, to detect a loss."""
  finished = folder.kept(_FINISHED)
  key = _key(protocol)
  # All processes call `keep` alike, but may read the file at different times.
  if devices.first_of(int(finished.get(key, 0) < number)):
    folder.keep(_FINISHED, finished | {key: number})


def _key(protocol: Mapping[str, Any]) -> str:
  return json.dumps(protocol, sort_keys=True)


def _lost(
  file: pathlib.Path, reached: int, finished: Mapping[str, int], key: str
) -> types.InputError:
  return types.InputError(
    f"{file} holds {reached} of {finished[key]} finished episodes of {key}; "
    "give the command of the run again to compute the others anew"
  )


def _padded(rows: Iterable[Sequence[int]]) -> np.ndarray:
  """[n, longest] int64, -1 beyond the end of a row."""
  rows = list(rows)
  result = np.full((len(rows), max(map(len, rows))), -1, np.int64)
  for padded, row in zip(result, rows, strict=True):
    padded[: len(row)] = row
  return result
