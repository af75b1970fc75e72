r"""Time and memory of fine-tuning with 1 to 100,000 images per class.

  python experiments/shots.py --checkpoint=runs/icons_conv64 \
      --shots=1,10,100,1000,100000 --run_dir=runs/icons_shots

One episode with a growing support set. Where a class has too few images, they
are repeated and accuracy is left out. Memory is the peak of the process so far,
so the numbers of shots should ascend. The same command continues an interrupted
run, and a longer --shots adds to it. The run folder holds `points.jsonl` with
one line per point, and `result.json`.
"""

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import command_line
import jax
import numpy as np
import shared_flags
from absl import flags

from fsl_jax import adapt, backbones, episodes, run_folder, types
from fsl_jax.adapt import streamed

_SUBJECT = shared_flags.define_subject()
_RUN_DIR = shared_flags.run_dir()
_SHOTS = flags.DEFINE_list(
  "shots", ["1", "10", "100", "1000"], "Support images per class; a list."
)
_WAYS = flags.DEFINE_integer("ways", 5, "Classes of the episode.")
_QUERIES = flags.DEFINE_integer("queries", 3, "Query images per class.")
_EPOCHS = flags.DEFINE_integer("epochs", 1, "Passes over the support set.")
flags.DEFINE_alias("steps", "epochs")
_POINTS = "points.jsonl"
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Repeated:
  """Images `rows` of `images`, read on access; rows may repeat."""

  images: types.Images
  rows: np.ndarray  # [S] int32

  @property
  def shape(self) -> tuple[int, ...]:
    return (len(self.rows), *self.images.shape[1:])

  @property
  def dtype(self) -> np.dtype:
    return self.images.dtype

  @property
  def ndim(self) -> int:
    return self.images.ndim

  def __len__(self) -> int:
    return len(self.rows)

  def __getitem__(self, rows: Any) -> np.ndarray:
    return self.images[self.rows[rows]]


class Compilations:
  """Counts the programs that this process compiles, or reads compiled."""

  def __init__(self) -> None:
    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
    del duration_secs
    self.count += event == "/jax/core/compile/backend_compile_duration"


def main(argv: list[str]) -> None:
  del argv
  run_dir = command_line.required(_RUN_DIR)
  shots = command_line.whole_numbers(_SHOTS)
  variables, meta = _SUBJECT.restore()
  dataset = _SUBJECT.load(meta)
  episodes.sampler.check(dataset, _protocol())
  method = adapt.create(
    "finetune", backbones.create(**meta["backbone"]), epochs=_EPOCHS.value
  )
  folder = run_folder.RunFolder(
    run_dir,
    {
      "data": {"split": dataset.split, "fingerprint": dataset.fingerprint},
      "checkpoint": meta["digest"],
      "ways": _WAYS.value,
      "queries": _QUERIES.value,
      "method": method.config,
    },
  )
  programs = streamed.Programs(method)
  done = {point["shots"]: point for point in folder.read(_POINTS)}
  missing = [number for number in shots if number not in done]
  if missing:
    compilations = Compilations()
    _measure(programs, variables, *_episode(dataset, 1))  # Compiles.
    compiled = compilations.count
    for number in missing:
      print(f"{number} shots ...", file=sys.stderr)
      task, labels = _episode(dataset, number)
      point = {"shots": number} | _measure(programs, variables, task, labels)
      if compilations.count != compiled:
        raise AssertionError(f"{number} shots compiled another program")
      done[number] = point | {"programs": compiled}
      folder.append(_POINTS, [done[number]])
  points = [done[number] for number in shots]
  folder.write_json("result.json", {"points": points})
  print(_table(points))


def _protocol() -> episodes.Protocol:
  """Of one shot; what all points have in common."""
  return episodes.Protocol(_WAYS.value, 1, _QUERIES.value, small_classes="skip")


def _episode(
  dataset: types.ClassIndexed, shots: int
) -> tuple[streamed.HostTask, np.ndarray | None]:
  """Episode 0 with its images repeated, and query labels if none had to be."""
  protocol = _protocol()
  sizes = np.diff(dataset.class_offsets())
  classes = episodes.sampler.eligible_classes(dataset, protocol)
  real = min(shots, int(sizes[classes].min()) - _QUERIES.value)
  rows = episodes.sampler.draw(
    # All points have the classes that serve the first.
    dataset,
    dataclasses.replace(protocol, shots=real),
    seed=_SEED,
    index=0,
  )
  by_class = [
    rows.support[rows.support_labels == c] for c in range(_WAYS.value)
  ]
  # Classes take turns, so that the first chunk is not of one class.
  support = np.stack([np.resize(r, shots) for r in by_class], axis=1).ravel()
  task = streamed.HostTask(
    support_images=Repeated(dataset.images, support),
    support_labels=np.tile(np.arange(_WAYS.value, dtype=np.int32), shots),
    query_images=dataset.images[rows.query],
    num_ways=_WAYS.value,
  )
  return task, rows.query_labels if shots == real else None


def _measure(
  programs: streamed.Programs,
  variables: types.Variables,
  task: streamed.HostTask,
  labels: np.ndarray | None,
) -> dict[str, Any]:
  """Wall time of each stage, peak memory of the process, accuracy if real."""
  times = [time.perf_counter()]
  state = jax.block_until_ready(
    programs.init(jax.random.key(_SEED), variables, task)
  )
  times.append(time.perf_counter())
  state, _ = programs.update(state, task)
  times.append(time.perf_counter())
  logits = programs.predict(state, task)
  times.append(time.perf_counter())
  init_s, updates_s, predict_s = np.diff(times).tolist()
  accuracy = None
  if labels is not None:
    accuracy = float((logits.argmax(1) == labels).mean())
  # Kilobytes on Linux, bytes on macOS.
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    "images": len(task.support_labels),
    "init_s": init_s,
    "epoch_s": updates_s / max(_EPOCHS.value, 1),
    "predict_s": predict_s,
    "peak_mb": peak / (1e6 if sys.platform == "darwin" else 1e3),
    "accuracy": accuracy,
  }


def _table(points: Sequence[dict[str, Any]]) -> str:
  lines = [
    "| shots | images | initialisation, s | an epoch, s | images/s of it "
    "| prediction, s | peak memory, MB | programs | accuracy |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for p in points:
    rate = f"{p['images'] / p['epoch_s']:,.0f}" if p["epoch_s"] else ""
    accuracy = "" if p["accuracy"] is None else f"{p['accuracy']:.1%}"
    lines.append(
      f"| {p['shots']:,} | {p['images']:,} | {p['init_s']:.2f} "
      f"| {p['epoch_s']:.2f} | {rate} | {p['predict_s']:.2f} "
      f"| {p['peak_mb']:,.0f} | {p['programs']} | {accuracy} |"
    )
  return "\n".join(lines)


if __name__ == "__main__":
  command_line.run(main)
