"""The base of the builders of all data sets.

A builder lists the images of a source (`find`). Here they are decoded in
parallel, resized by the rule, checked, and written in the order of the listing,
with a bounded number of them in memory.
"""

import abc
import collections
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import PIL
import tensorflow_datasets as tfds
from tensorflow_datasets.core import splits as splits_lib

from fsl_jax import types
from fsl_jax.data import (
  fingerprint,
  index,
  listing,
  parallel,
  pictures,
)
from fsl_jax.data.builders import split_writer

_CHUNK = 64  # images
_MAX_LISTED = 1000  # bad images


class FromSource(tfds.core.GeneratorBasedBuilder):
  """Base of the builders; a subclass recognises the forms of its source."""

  # Raise the major number whenever pixels, classes or splits change.
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}

  DESCRIPTION = ""
  # Of a complete data set; empty and None admit anything.
  NUM_CLASSES: ClassVar[Mapping[str, int]] = {}
  IMAGES_PER_CLASS: ClassVar[int | None] = None
  # The default rule.
  RULE: ClassVar[pictures.Rule] = pictures.Rule()
  # Size at which it is mostly used; None is the size of its images.
  USUAL_SIZE_PX: ClassVar[int | None] = None
  # Names of the options that users may give.
  OPTIONS: ClassVar[tuple[str, ...]] = ()
  # Whether it is made from files; icons are drawn.
  TAKES_SOURCE: ClassVar[bool] = True
  # Whether there may be several, with names of the user's own.
  HAS_VARIANTS: ClassVar[bool] = False
  # Where to get it and in which forms, for the message without a source.
  WHERE = ""

  # The build that published numbers were made with.
  REFERENCE_NUM_IMAGES: ClassVar[Mapping[str, int]] = {}
  REFERENCE_FINGERPRINT = ""  # empty if copies differ
  REFERENCE_NOTE = ""  # what the fingerprint depends on

  # Set before preparing, see `prepared.prepare`.
  progress: Any = None
  given: pathlib.Path | None = None  # the source as the user named it
  source: pathlib.Path | None = None
  downloads: pathlib.Path = pathlib.Path("downloads")
  scratch: pathlib.Path = pathlib.Path()  # removed afterwards
  options: Mapping[str, Any] = {}
  recorded_options: Mapping[str, Any] = {}  # the same, files by their content
  skip_bad = False

  def __init_subclass__(
    cls, *, skip_registration: bool = True, **kwargs: Any
  ) -> None:
    # `prepared` has its own registry; that of tfds has an omniglot, too.
    super().__init_subclass__(skip_registration=skip_registration, **kwargs)

  def __init__(self, *, file_format: str = "array_record", **kwargs: Any):
    # The default format of tfds cannot be written without TensorFlow.
    super().__init__(file_format=file_format, **kwargs)

  @abc.abstractmethod
  def find(self) -> listing.Listing:
    """Lists the images of `self.source`; none is decoded.

    Raises:
      InputError: if it is not this data set, or incomplete.
    """

  def obtain(self) -> pathlib.Path | None:
    """The source if none was given: downloads it, where that is possible.

    Raises:
      InputError: telling where to get it.
    """
    raise types.InputError(f"{self.name} needs source=PATH. {self.WHERE}")

  def rule(self) -> pictures.Rule:
    """The rule, with the options given.

    Raises:
      InputError: if the size or the fit is out of range or unknown.
    """
    chosen = {k: v for k, v in self.options.items() if k in self.RULE._fields}
    rule = self.RULE._replace(**chosen)
    if rule.size_px is not None:
      types.check_size_px("size_px", rule.size_px)
    types.check_whole("max_megapixels", rule.max_megapixels, at_least=1)
    if rule.fit not in pictures.FITS:
      raise types.unknown_name("fit", rule.fit, pictures.FITS)
    return rule

  def made_with(self) -> dict[str, str]:
    """Versions of the packages that the pixels depend on."""
    return {"pillow": PIL.__version__}

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(None, None, 3)),
          # Index into the class names of the split. No ClassLabel: one
          # feature serves all splits, and their classes differ.
          "label": tfds.features.Scalar(np.int32),
          "id": tfds.features.Text(),
          "group": tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    raise NotImplementedError("written by _download_and_prepare")

  def _generate_examples(self) -> Iterator[Any]:
    raise NotImplementedError("written by _download_and_prepare")

  def _download_and_prepare(
    self, dl_manager: Any, download_config: Any
  ) -> None:
    # The writer of tfds would sort all records in memory or copy them twice on
    # disk; `split_writer` writes them in the order of the listing.
    del dl_manager, download_config
    self.rule()  # Raises if an option is wrong.
    if self.source is None:
      self.source = self.obtain()
    found = self.find()
    listing.check_counts(
      found,
      source=str(self.source or self.name),
      num_classes=self.NUM_CLASSES,
      images_per_class=self.IMAGES_PER_CLASS,
    )
    writers = {
      split: split_writer.SplitWriter(self, split, names)
      for split, names in found.class_names.items()
      if names
    }
    tally = self._write(found, writers)
    split_infos = [writer.close() for writer in writers.values()]
    self.info.set_splits(splits_lib.SplitDict(split_infos))
    self.info.metadata.update(self._account(found, writers, tally))
    self.info.metadata["index_digests"] = {
      split: index.write(self.data_path, split, writer.labels, writer.digests)
      for split, writer in writers.items()
    }

  def _examined(
    self, found: listing.Listing
  ) -> Iterator[tuple[str, listing.Entry, pictures.Examined | pictures.Bad]]:
    """Every image of the source, decoded in parallel, in order."""
    rule = self.rule()

    def chunks() -> Iterator[_Chunk]:
      for split in found.num_images:
        entries = iter(found.entries(split))
        while some := list(itertools.islice(entries, _CHUNK)):
          yield _Chunk(split, some, rule)

    workers = parallel.num_workers(found.num_pictures)
    for chunk, results in parallel.ordered(_examine, chunks(), workers=workers):
      for entry, result in zip(chunk.entries, results, strict=True):
        yield chunk.split, entry, result

  def _write(
    self,
    found: listing.Listing,
    writers: Mapping[str, split_writer.SplitWriter],
  ) -> "_Tally":
    """Writes all images.

    Raises:
      InputError: naming all that are unusable, unless they may be skipped.
    """
    tally = _Tally()
    tally.bad += found.left_out
    examined: Any = self._examined(found)
    if self.progress is not None:
      examined = self.progress(examined, found.num_pictures)
    for split, entry, result in examined:
      if isinstance(result, pictures.Bad):
        tally.bad.append(f"{entry.id}: {result.reason}")
        continue
      tally.sizes[result.size] += 1
      tally.num_resized += result.resized
      # After the first bad image the others are only examined.
      if self.skip_bad or not tally.bad:
        writers[split].add(entry, result)
    if tally.bad and not self.skip_bad:
      lines = tally.bad[:_MAX_LISTED]
      if len(lines) < len(tally.bad):
        lines.append(f"and {len(tally.bad) - len(lines):,} more")
      raise types.InputError(
        f"{len(tally.bad):,} of {found.num_pictures:,} images in "
        f"{self.source} cannot be used; repair them, or leave them out with "
        "skip_bad=True:\n  " + "\n  ".join(lines)
      )
    empty = [
      f"class {name!r} of {writer.split}"
      for writer in writers.values()
      for name in writer.empty_classes()
    ]
    if empty:
      raise types.InputError(
        f"no usable image is left of {listing.shorten(empty)}"
      )
    return tally

  def _account(
    self,
    found: listing.Listing,
    writers: Mapping[str, split_writer.SplitWriter],
    tally: "_Tally",
  ) -> dict[str, Any]:
    """The metadata, see `description.Description`."""
    repeated = index.repeated(
      {split: writer.labels for split, writer in writers.items()},
      {split: writer.digests for split, writer in writers.items()},
    )
    fingerprints = {
      split: writers[split].fingerprint()
      if split in writers
      else fingerprint.of_split([], [], [])
      for split in listing.SPLITS
    }
    (size, _), *others = tally.sizes.most_common(2)
    return {
      "class_names": {
        split: list(found.class_names.get(split, ()))
        for split in listing.SPLITS
      },
      "images_per_class": {
        split: writer.images_per_class() for split, writer in writers.items()
      },
      "fingerprints": fingerprints,
      "fingerprint": fingerprint.of_splits(fingerprints),
      "form": found.form,
      "source": "" if self.given is None else str(self.given),
      "options": dict(self.recorded_options),
      "rule": (
        self.rule() if tally.num_resized else pictures.Rule()
      ).describe(),
      "num_resized": tally.num_resized,
      # Of all images; None if they differ.
      "size": None if others else list(size),
      "skipped": tally.bad,
      "repeated": repeated.account(
        lambda split, record: writers[split].id_of(record)
      ),
      "made_with": self.made_with(),
    }


class _Chunk(NamedTuple):
  """Pictures that go to a worker process together."""

  split: str
  entries: list[listing.Entry]
  rule: pictures.Rule


def _examine(chunk: _Chunk) -> list[pictures.Examined | pictures.Bad]:
  return [
    pictures.examine(entry.picture, chunk.rule) for entry in chunk.entries
  ]


class _Tally:
  """Statistics of the images examined so far."""

  def __init__(self) -> None:
    self.bad: list[str] = []
    self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    self.num_resized = 0
