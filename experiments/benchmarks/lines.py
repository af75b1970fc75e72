"""The lines of the table, on a CPU and on an accelerator."""

import functools
from collections.abc import Callable, Mapping

from benchmarks import adaptation, frozen, measure, start, training

Make = Callable[[], measure.Case]
_DTYPES = ("float32", "bfloat16")


def of_platform(platform: str, *, against_torch: bool) -> Mapping[str, Make]:
  """What is worth timing here, by a name that says what it is."""
  return (_of_cpu if platform == "cpu" else _of_accelerator)(against_torch)


def toy(platform: str, *, against_torch: bool) -> Mapping[str, Make]:
  """Each kind of line in seconds, to try whether it runs."""
  settings = _settings(platform) if against_torch else []
  lines = {
    f"adapt {net} {dtype}": _adapting(
      adaptation.Setup(net, 16, epochs=1, episodes=2, dtype=dtype),
      settings if dtype == _DTYPES[-1] else [],
    )
    for net in ("conv64", "resnet12")
    for dtype in _DTYPES
  }
  return lines | {
    "pre-train conv64": functools.partial(
      training.case,
      "conv64",
      16,
      steps=1,
      dtype=_DTYPES[-1],
      torch_settings=settings,
    ),
    "features conv64": functools.partial(
      frozen.extraction,
      "conv64",
      16,
      num_images=512,
      dtype=_DTYPES[-1],
      torch_settings=settings,
    ),
    "prototype": functools.partial(
      frozen.prototypes, 100, against_torch=against_torch
    ),
    "first result": functools.partial(start.case, 16),
  }


def _of_cpu(against_torch: bool) -> dict[str, Make]:
  settings = _settings("cpu") if against_torch else []
  lines: dict[str, Make] = {"first result": functools.partial(start.case, 32)}
  for method, shots in (
    ("support_init", 1),
    ("finetune", 1),
    ("transductive_finetune", 1),
    ("transductive_finetune", 5),
  ):
    lines[f"adapt conv64 {method} {shots}"] = _adapting(
      adaptation.Setup("conv64", 32, method, shots=shots), settings
    )
  # Twenty-five epochs are five times these, and ten minutes of this table.
  lines["adapt resnet12"] = _adapting(
    adaptation.Setup("resnet12", 32, epochs=5), settings
  )
  for net, steps in (("conv64", 8), ("resnet12", 3)):
    lines[f"pre-train {net}"] = functools.partial(
      training.case,
      net,
      32,
      steps=steps,
      dtype="float32",
      torch_settings=settings,
    )
  for net, images in (("conv64", 4096), ("resnet12", 512)):
    lines[f"features {net}"] = functools.partial(
      frozen.extraction,
      net,
      32,
      num_images=images,
      dtype="float32",
      torch_settings=settings,
    )
  lines["prototype"] = functools.partial(
    frozen.prototypes, 10_000, against_torch=against_torch
  )
  # What it costs to grow, in one epoch of small pictures.
  for ways, shots in (
    (5, 1),
    (20, 1),
    (80, 1),
    (160, 1),
    (5, 10),
    (5, 100),
    (5, 1000),
  ):
    lines[f"growth {ways} ways {shots} shots"] = _adapting(
      adaptation.Setup("conv64", 16, ways=ways, shots=shots, epochs=1), []
    )
  return lines


def _of_accelerator(against_torch: bool) -> dict[str, Make]:
  lines: dict[str, Make] = {}
  # Episodes of one run, and of PyTorch's.
  for net, size, count, torch_count in (
    ("conv64", 32, 64, 2),
    ("resnet12", 32, 64, 2),
    ("wrn_28_10", 32, 8, 1),
    ("wrn_28_10", 84, 2, 1),
  ):
    for dtype in _DTYPES:
      compared = against_torch and dtype == "bfloat16"
      lines[f"adapt {net} {size} {dtype}"] = _adapting(
        adaptation.Setup(net, size, episodes=count, dtype=dtype),
        _settings("gpu") if compared else [],
        torch_count,
      )
  for net in ("conv64", "resnet12", "wrn_28_10"):
    lines[f"pre-train {net}"] = functools.partial(
      training.case,
      net,
      32,
      steps=20,
      dtype="bfloat16",
      torch_settings=_settings("gpu") if against_torch else [],
    )
  lines["features wrn_28_10"] = functools.partial(
    frozen.extraction, "wrn_28_10", 32, num_images=12_000, dtype="bfloat16"
  )
  lines["prototype"] = functools.partial(
    frozen.prototypes, 10_000, against_torch=False
  )
  return lines


def _adapting(setup, settings, torch_episodes=None) -> Make:
  return functools.partial(
    adaptation.case, setup, settings, torch_episodes=torch_episodes
  )


def _settings(platform: str):
  from benchmarks import torch_loops

  if platform == "cpu":
    return [torch_loops.Setting()]
  return [
    torch_loops.Setting("cuda", channels_last=False),
    torch_loops.Setting("cuda", bfloat16=True),
  ]
