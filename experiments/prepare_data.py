"""Prepares data sets, once, in the form that all other scripts read.

  python experiments/prepare_data.py --dataset=icons
  python experiments/prepare_data.py --dataset=cifar_fs
  python experiments/prepare_data.py --dataset=mini_imagenet --source=PATH
  python experiments/prepare_data.py --dataset=image_folder/birds --source=PATH
  python experiments/prepare_data.py --list
  python experiments/prepare_data.py --verify=icons

Time: icons 6 s on one CPU core. Space: icons 17 MB.
Result: icons has 175 / 40 / 54 classes and 2,736 / 572 / 837 images in base /
val / novel, fingerprint e44229d22ab5.

A data set appears in its folder only when complete. After a run that was
killed, the same command starts over.
"""

import shlex
import textwrap
import time
from collections.abc import Iterable
from typing import Any

import command_line
import tqdm
from absl import flags

from fsl_jax import data, types
from fsl_jax.data import description, pictures, prepared

_DATASET = flags.DEFINE_string(
  "dataset", None, f"Data set to prepare: {', '.join(data.names())}."
)
_SOURCE = command_line.define_path(
  "source",
  None,
  "Folder or archive that the data set is made from; its form is recognised.",
)
_DATA_DIR = command_line.define_path(
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
_NEAR_COPIES = flags.DEFINE_bool(
  "near_copies",
  False,
  "With --verify: count near copies within each class: resized, recompressed "
  "or mirrored images.",
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Prepare again what is prepared already."
)
_SKIP_BAD = flags.DEFINE_bool(
  "skip_bad",
  False,
  "Leave out images that cannot be decoded and other files, and list them.",
)
# Options of some data sets.
_OPTIONS = (
  flags.DEFINE_integer("size_px", None, "Height and width of the images."),
  flags.DEFINE_enum(
    "fit",
    None,
    pictures.FITS,
    "Stretch images that are not square, or crop their central square.",
  ),
  flags.DEFINE_integer(
    "max_megapixels",
    None,
    f"Largest image that is decoded, {pictures.MAX_MEGAPIXELS} by default; "
    "JPEGs above that are read at a reduced size.",
  ),
  flags.DEFINE_string(
    "labels",
    None,
    "Table of the source (.csv, .tsv, .jsonl) with a column of file names and "
    "one of labels, instead of class folders.",
  ),
  flags.DEFINE_bool(
    "same_classes",
    None,
    "Folders of the source, such as train and test, hold the same classes: "
    "episodes may draw support and queries from two of them, with --groups.",
  ),
  command_line.define_path(
    "split_file", None, "JSON file: class names by base, val and novel."
  ),
  flags.DEFINE_integer("seed", None, "Seed of a random split of the classes."),
  flags.DEFINE_float("val_share", None, "Share of the classes in val."),
  flags.DEFINE_float("novel_share", None, "Share of the classes in novel."),
)


def _progress(items: Iterable[Any], total: int) -> Iterable[Any]:
  """A bar on stderr, if that is a terminal."""
  return tqdm.tqdm(items, desc="making", total=total, disable=None, leave=False)


def _line(label: str, text: str) -> None:
  print(
    textwrap.fill(
      text,
      width=79,
      initial_indent=f"  {label:13}",
      subsequent_indent=" " * 15,
      break_on_hyphens=False,
      break_long_words=False,
    )
  )


def _print_description(found: data.Description) -> None:
  """Prints a description, and whether published numbers used this data."""
  print(f"  {'split':8}{'classes':>8}{'images':>11}{'per class':>13}")
  for split, num_images in found.num_images.items():
    counts = found.images_per_class[split] or (0,)
    low, high = min(counts), max(counts)
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    print(f"  {split:8}{found.num_classes[split]:8,}{num_images:11,}{each:>13}")
  _line("source", found.form)
  size = "different sizes"
  if found.size is not None:
    size = f"{found.size[0]} x {found.size[1]}"
  resized = f"{found.num_resized:,} resized"
  options = prepared.builder_class(found.name).OPTIONS
  if (
    found.num_resized
    and "size_px" in options
    and "size_px" not in found.options
  ):
    resized += "; --size_px=N gives another size"
  _line("images", f"{size}; {found.rule}; {resized}")
  if found.skipped:
    _line("left out", f"{len(found.skipped):,}: {'; '.join(found.skipped[:5])}")
  pairs = (
    *found.repeated["examples"],
    *found.repeated.get("examples_within", ()),
  )
  examples = [f"; {' = '.join(pair)}" for pair in pairs]
  _line("copies", description.copies(found) + "".join(examples))
  versions = (f"{name} {number}" for name, number in found.made_with.items())
  _line("made with", ", ".join(versions))
  _line("folder", str(found.folder))
  _line("on disk", f"{found.size_bytes / 1e6:,.1f} MB")
  _line("fingerprint", found.fingerprint)
  _line("expected", _expectation(found))


def _expectation(found: data.Description) -> str:
  builder = prepared.builder_class(found.name)
  expected, note = builder.REFERENCE_FINGERPRINT, builder.REFERENCE_NOTE
  note = f" ({note})" if note else ""
  if expected == found.fingerprint:
    return "the same: numbers compare with the published ones"
  if expected:
    return (
      f"{expected}{note}: numbers may differ a little from the published ones"
    )
  sizes = {s: n for s, n in builder.REFERENCE_NUM_IMAGES.items() if n}
  if not sizes:
    return f"nothing: every such folder is another data set{note}"
  text = ", ".join(f"{split} {n:,}" for split, n in sizes.items())
  same = all(found.num_images[split] == n for split, n in sizes.items())
  have = "as here" if same else "unlike here"
  return (
    f"{text} images, {have}; copies differ in their pixels, so compare "
    f"results only at equal fingerprints{note}"
  )


def _list(data_dir: str | None) -> None:
  """A line for each known data set."""
  root = prepared.root(data_dir)
  print(
    f"{'data set':22}{'classes':>20}{'images':>12}{'MB':>9}  fingerprint\n"
    f"{'':22}{'base / val / novel':>20}"
  )
  damaged = []
  for name in prepared.found_names(data_dir):
    try:
      found = data.describe(name, data_dir)
    except types.InputError as error:
      damaged.append(str(error))
      print(f"{name:22}{'damaged':>20}")
      continue
    if found is None:
      print(f"{name:22}{'not prepared':>20}")
      continue
    classes = " / ".join(f"{n:,}" for n in found.num_classes.values())
    print(
      f"{name:22}{classes:>20}{sum(found.num_images.values()):12,}"
      f"{found.size_bytes / 1e6:9,.1f}  {found.fingerprint[:12]}"
    )
  print(f"\nfolder      {root}")
  where = f" --data_dir={shlex.quote(data_dir)}" if data_dir else ""
  print(
    "to prepare  python experiments/prepare_data.py --dataset=NAME "
    f"--source=PATH{where}"
  )
  print("            (icons, cifar_fs, fc100 and omniglot need no --source)")
  for message in damaged:
    print(f"\n{message}")


def _options(name: str) -> dict[str, Any]:
  """The choices given on the command line."""
  given = {f.name: f.value for f in _OPTIONS if f.present}
  known = prepared.builder_class(name).OPTIONS
  for option in given:
    if option not in known:
      have = f"; it has --{', --'.join(known)}" if known else ""
      raise types.InputError(f"--{option} has no effect on {name}{have}")
  return given


def _prepare(name: str, data_dir: str | None) -> None:
  options = _options(name)
  found = None if _OVERWRITE.value else data.describe(name, data_dir)
  if found is None:
    print(f"{name}: preparing")
  start = time.monotonic()
  made = data.prepare(
    name,
    source=_SOURCE.value,
    data_dir=data_dir,
    overwrite=_OVERWRITE.value,
    skip_bad=_SKIP_BAD.value,
    options=options,
    progress=_progress,
  )
  if found is None:
    print(f"{name}: prepared in {time.monotonic() - start:.1f} s")
  else:
    print(f"{name}: already prepared; --overwrite makes it again")
  _print_description(made)


def _verify(name: str, data_dir: str | None) -> None:
  found = data.verify(name, data_dir=data_dir)
  num_images = sum(found.num_images.values())
  print(f"{name}: all {num_images:,} images are as they were when prepared")
  _print_description(found)
  if _NEAR_COPIES.value:
    size_px = found.square_size_px or data.usual_size_px(name) or 32
    for split, num_images in found.num_images.items():
      if num_images:
        _print_near_copies(
          data.load(name, split, data_dir=data_dir, image_size_px=size_px)
        )


def _print_near_copies(dataset: types.ClassIndexed) -> None:
  near = data.near_copies.find(dataset)
  examples = [
    f"; {dataset.image_ids[one]} ~ {dataset.image_ids[other]}"
    for one, other in near.examples
  ]
  _line(
    "near copies",
    f"in {dataset.split}: {near.num_images:,} of {len(dataset.class_ids):,} "
    f"images nearly repeat one of their class, {near.num_mirrored:,} of them "
    f"mirrored{''.join(examples)}",
  )


def main(argv: list[str]) -> None:
  del argv
  if sum(bool(flag.value) for flag in (_DATASET, _LIST, _VERIFY)) != 1:
    raise types.InputError(
      "give one of --dataset=NAME, --verify=NAME and --list; data sets: "
      f"{', '.join(data.names())}"
    )
  beside = [
    f"--{flag.name}"
    for flag in (_SOURCE, _OVERWRITE, _SKIP_BAD, *_OPTIONS)
    if flag.value not in (None, False)
  ]
  if beside and not _DATASET.value:
    raise types.InputError(f"only --dataset takes {', '.join(beside)}")
  if _NEAR_COPIES.value and not _VERIFY.value:
    raise types.InputError("only --verify takes --near_copies")
  if _LIST.value:
    _list(_DATA_DIR.value)
  if _VERIFY.value:
    _verify(_VERIFY.value, _DATA_DIR.value)
  if _DATASET.value:
    _prepare(_DATASET.value, _DATA_DIR.value)


if __name__ == "__main__":
  command_line.run(main)
