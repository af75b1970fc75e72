"""Names and numbers of results as text, and Markdown tables of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fsl_jax import adapt
from fsl_jax.report import table as table_lib

Result = Mapping[str, Any]
"""A file of results, as `page.load` returns it; percent throughout."""

UNVERIFIED = "†"
_FOOTNOTE = (
  f"{UNVERIFIED} from the appendix, not checked against the paper, no verdict."
)

_NAMES = {
  "cifar_fs": "CIFAR-FS",
  "fc100": "FC-100",
  "mini_imagenet": "Mini-ImageNet",
  "tiered_imagenet": "Tiered-ImageNet",
  "imagenet21k": "ImageNet-21k",
  "wrn_28_10": "WRN-28-10",
  "wrn_16_4": "WRN-16-4",
  "resnet12": "ResNet-12",
}
_SHORT = {
  "support_init": "SBI",
  "finetune": "FT",
  "transductive_finetune": "TFT",
}
ABLATIONS = {
  "features": "features instead of logits are classified",
  "frozen_backbone": "only the classifier is trained",
  "frozen_bn": "batch norm keeps the pre-trained statistics",
  "no_augmentation": "no random views while fine-tuning",
  "joint": "one update of both losses instead of two in turn",
  "no_mixup": "pre-training without mixup",
  "wrn_16_4": "WRN-16-4 instead of the network",
  "10000_episodes": "10,000 episodes instead of 1,000",
}


def of(results: Sequence[Result], target: str) -> list[Result]:
  """The results of one target."""
  return [result for result in results if result["target"] == target]


def to_reference(result: Result) -> list[Mapping[str, Any]]:
  """The paired differences to the unchanged method."""
  return [p for p in result["paired"] if p["against"] == "reference"]


def cell(result: Result, *more: str) -> str:
  """ "CIFAR-FS, conv64, train", all in which it is unusual, and more."""
  names = _known(result["dataset"]), _known(result["backbone"])
  on, dtype = result["evaluated_on"], result["dtype"]
  return ", ".join(
    [
      *(*names, result["split"]),
      *([] if on == "novel" else [f"evaluated on {on}"]),
      *([] if dtype == "float32" else [dtype]),
      *["whole-batch norm"] * result["whole_batch_norm"],
      *(*more, *budget(result)),
    ]
  )


def curve_title(curve: Mapping[str, Any]) -> str:
  """ "CIFAR-FS, conv64"."""
  return ", ".join(map(_known, curve["title"].split(", ")))


def _known(name: str) -> str:
  """A data set or network as papers call it."""
  return _NAMES.get(name, name)


def counts(rows: Sequence[Mapping[str, Any]]) -> str:
  """ "n = 1,000", or from the least to the greatest."""
  ends = [f(row["num_episodes"] for row in rows) for f in (min, max)]
  return "n = " + " to ".join(dict.fromkeys(f"{end:,}" for end in ends))


def budget(result: Result) -> list[str]:
  """What was shortened: "quick: pre-training and episodes /20", or nothing."""
  name, pretrain, episodes = (
    result["budget"][key]
    for key in ("name", "pretrain_factor", "episode_factor")
  )
  if name == "full":
    return []
  if pretrain == episodes:
    return [f"{name}: pre-training and episodes /{pretrain}"]
  return [f"{name}: pre-training /{pretrain}, episodes /{episodes}"]


def method(row: Mapping[str, Any]) -> str:
  """A row's method, and its variant where that is not the method alone."""
  label = adapt.label(row["method"])
  if row["variant"] == row["method"]:
    return label
  return f"{label}, {row['variant']}"


def short(variant: str) -> str:
  """ "TFT"; the name of the variant where it has no short one."""
  return _SHORT.get(variant, variant)


def shots(count: int) -> str:
  """ "1 shot", "5 shots"."""
  return f"{count} shot" if count == 1 else f"{count} shots"


def area_difference(found: Mapping[str, Any] | None) -> str:
  """ "+2.3 (0.4 to 4.0)" of `hardness.AreaDifference`; no interval of NaN."""
  if found is None:
    return ""
  words = f"{found['area']:+.1f}"
  if not all(map(is_number, found["interval"])):
    return words
  low, high = found["interval"]
  return f"{words} ({low:.1f} to {high:.1f})"


def is_number(value: float | None) -> bool:
  """Whether it is finite."""
  return value is not None and math.isfinite(value)


def number(value: float | None, form: str = ".2f") -> str:
  """A number; "n/a" for None and what is not finite."""
  if value is None or not math.isfinite(value):
    return "n/a"
  return f"{value:{form}}"


def plus_minus(
  mean: float | None, ci95: float | None, form: str = ".2f"
) -> str:
  """ "61.23 ± 0.68"; the mean alone where it has no interval."""
  text = number(mean, form)
  if ci95 is None:
    return text
  return f"{text} ± {number(ci95, form.lstrip('+z'))}"


def signed(value: float | None, ci95: float | None = None) -> str:
  """A difference, "+1.20 ± 0.30"."""
  return plus_minus(value, ci95, "+z.2f")


def published(text: str, verified: bool) -> str:
  """A published figure; in brackets with a dagger unless it was checked."""
  return text if verified else f"({text}){UNVERIFIED}"


def episodes(row: Mapping[str, Any]) -> str:
  """n, and how many of them diverged (NaN or Inf)."""
  text, lost = f"{row['num_episodes']:,}", row["num_non_finite"]
  return f"{text} ({lost:,} not finite)" if lost else text


def listed(values: Iterable[str]) -> str:
  """Each once, in order of appearance."""
  return ", ".join(dict.fromkeys(values))


def placed(results: Sequence[Result], key: str) -> list[tuple[str, Any]]:
  """Each row of `key` with its cell's name, shown in the first alone."""
  return [
    (cell(result) if position == 0 else "", row)
    for result in results
    for position, row in enumerate(result[key])
  ]


def nothing(target: str) -> str:
  """The sentence in place of a table of a target without results."""
  return f"Nothing was measured for {target} yet."


def table(
  head: Sequence[str], rows: Iterable[Sequence[str]], *notes: str
) -> str:
  """A Markdown table above its notes, with one on daggers if there are any.

  Columns in which every row is empty are left out.
  """
  columns = [_column(place, name) for place, name in enumerate(head)]
  rows = list(rows)
  if not rows:
    return "Nothing was measured yet."
  text = table_lib.markdown(table_lib.make(columns, rows))
  if UNVERIFIED in text:
    notes = (*notes, _FOOTNOTE)
  return "\n\n".join([text, " ".join(filter(None, notes))]).rstrip()


def _column(place: int, name: str) -> table_lib.Column:
  return table_lib.Column(name, lambda row: table_lib.Cell(row[place]))
