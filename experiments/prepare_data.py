"""Prepares data sets, once, in the form that everything else reads.

  python experiments/prepare_data.py --dataset=icons
  python experiments/prepare_data.py --list
  python experiments/prepare_data.py --verify=icons

Time: icons 8 s on one CPU core. Space: icons 3.7 MB.
Result: icons has 175 / 40 / 54 classes and 2,736 / 572 / 837 images in base /
val / novel, fingerprint 282a0bd20151.

A data set appears in its folder only when complete; a run that was killed
leaves nothing that looks like one, and the same command starts over.
"""

import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import Any

import command_line
import tqdm
from absl import flags

from fsl_jax import data, types
from fsl_jax.data import prepared

_DATASET = flags.DEFINE_string(
  "dataset", None, f"Data set to prepare: {', '.join(data.names())}."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "Root folder of all prepared data sets. Default: $TFDS_DATA_DIR, or "
  "tensorflow_datasets in the home directory.",
)
_LIST = flags.DEFINE_bool(
  "list", False, "List the known data sets and what is prepared of them."
)
_VERIFY = flags.DEFINE_string(
  "verify",
  None,
  "Prepared data set of which to decode and check every image.",
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Prepare again what is prepared already."
)


def _progress(items: Sequence[Any]) -> Iterable[Any]:
  """A bar on stderr, if that is a terminal."""
  print(f"  found {len(items):,} pictures to choose from", file=sys.stderr)
  return tqdm.tqdm(items, desc="making", disable=None, leave=False)


def _print_description(found: prepared.Description) -> None:
  """A table of splits, and whether it is what published numbers used."""
  print(f"  {'split':8}{'classes':>8}{'images':>8}")
  for split, num_images in found.num_images.items():
    print(f"  {split:8}{found.num_classes[split]:8,}{num_images:8,}")
  versions = (f"{name} {number}" for name, number in found.made_with.items())
  print(
    textwrap.fill(
      ", ".join(versions),
      width=79,
      initial_indent="  made with    ",
      subsequent_indent=" " * 15,
      break_on_hyphens=False,
    )
  )
  print(f"  folder       {found.folder}")
  print(f"  on disk      {found.size_bytes / 1e6:.1f} MB")
  print(f"  fingerprint  {found.fingerprint}")
  expected = prepared.reference(found.name)
  if found.fingerprint == expected.fingerprint:
    print("  expected     the same: numbers compare with the published ones")
    return
  sizes = ", ".join(f"{s} {n:,}" for s, n in expected.num_images.items())
  print(
    f"  expected     {expected.fingerprint} ({sizes} images, "
    f"{expected.note}): numbers may differ a little from the published ones"
  )


def _list(data_dir: str | None) -> None:
  for name in data.names():
    try:
      found = data.describe(name, data_dir)
    except types.InputError as error:
      print(f"{name}: damaged\n  {error}")
      continue
    if found is None:
      print(
        f"{name}: not prepared\n"
        f"  folder       {prepared.folder(name, data_dir)}\n"
        f"  to prepare   {prepared.prepare_command(name, data_dir)}"
      )
    else:
      print(f"{name}: prepared")
      _print_description(found)


def _prepare(name: str, data_dir: str | None, overwrite: bool) -> None:
  if not overwrite and (found := data.describe(name, data_dir)) is not None:
    print(f"{name}: already prepared; --overwrite makes it again")
    _print_description(found)
    return
  print(f"{name}: preparing")
  start = time.monotonic()
  made = data.prepare(
    name, data_dir=data_dir, overwrite=overwrite, progress=_progress
  )
  print(f"{name}: prepared in {time.monotonic() - start:.1f} s")
  _print_description(made)


def _verify(name: str, data_dir: str | None) -> None:
  found = data.verify(name, data_dir=data_dir)
  num_images = sum(found.num_images.values())
  print(f"{name}: all {num_images:,} images are as they were when prepared")
  _print_description(found)


def main(argv: list[str]) -> None:
  del argv
  if sum(bool(flag.value) for flag in (_DATASET, _LIST, _VERIFY)) != 1:
    raise types.InputError(
      "give one of --dataset=NAME, --verify=NAME and --list; data sets: "
      f"{', '.join(data.names())}"
    )
  if _LIST.value:
    _list(_DATA_DIR.value)
  if _VERIFY.value:
    _verify(_VERIFY.value, _DATA_DIR.value)
  if _DATASET.value:
    _prepare(_DATASET.value, _DATA_DIR.value, _OVERWRITE.value)


if __name__ == "__main__":
  command_line.run(main)
