"""Writes the images of a split in the order given, in files of tfds.

The writer of tfds itself orders records by a hash of their keys, for which it
holds a gigabyte of them and then copies them through temporary files. This one
needs 12 bytes per image, and the order is stored separately (`index`).
"""

import array
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module
from tensorflow_datasets.core import decode, example_serializer, naming
from tensorflow_datasets.core import splits as splits_lib

from fsl_jax.data import fingerprint, listing, pictures

_IMAGES_PER_FILE = 100_000


class SplitWriter:
  """Takes examined images of one split.

  Args:
    builder: the tfds builder, inside `_download_and_prepare`.
    split: name.
    class_names: in label order.
  """

  def __init__(self, builder: Any, split: str, class_names: Sequence[str]):
    self.split = split
    self._label_of = {name: label for label, name in enumerate(class_names)}
    self._labels = array.array("i")
    self._digests = bytearray()
    self._accumulator = fingerprint.Accumulator()
    self._features = builder.info.features
    self._serializer = example_serializer.ExampleSerializer(
      self._features.get_serialized_info()
    )
    self._files = naming.ShardedFileTemplate(
      dataset_name=builder.name,
      data_dir=builder.data_path,
      split=split,
      filetype_suffix="array_record",
      # The number of files is not known before the last image.
      template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}",
    )
    self._open: Any = None
    self._lengths: list[int] = []
    self._num_bytes = 0

  def add(self, entry: listing.Entry, image: pictures.Examined) -> None:
    """Writes one image."""
    label = self._label_of[entry.class_name]
    record = self._serializer.serialize_example(
      self._features.encode_example(
        {
          "image": image.encoded,
          "label": label,
          "id": entry.id,
          "group": entry.group,
        }
      )
    )
    if self._open is None:
      path = self._files.sharded_filepath(
        shard_index=len(self._lengths), num_shards=None
      )
      # With one record per group, reading one does not read its neighbours.
      # Encoded images do not compress any further.
      self._open = array_record_module.ArrayRecordWriter(
        os.fspath(path), "group_size:1,uncompressed"
      )
      self._lengths.append(0)
    self._open.write(record)
    self._num_bytes += len(record)
    self._lengths[-1] += 1
    if self._lengths[-1] == _IMAGES_PER_FILE:
      self._close_file()
    self._labels.append(label)
    self._digests += image.digest[:8]
    self._accumulator.add(entry.class_name, image.digest)

  def close(self) -> splits_lib.SplitInfo:
    """Finishes the last file."""
    self._close_file()
    return splits_lib.SplitInfo(
      name=self.split,
      shard_lengths=self._lengths,
      num_bytes=self._num_bytes,
      filename_template=self._files,
    )

  def _close_file(self) -> None:
    if self._open is not None:
      self._open.close()
      self._open = None

  def id_of(self, record: int) -> str:
    """Reads back the id of a record, after `close`."""
    path = self._files.sharded_filepath(
      shard_index=record // _IMAGES_PER_FILE, num_shards=None
    )
    reader = array_record_module.ArrayRecordReader(os.fspath(path))
    (serialized,) = reader.read([record % _IMAGES_PER_FILE])
    example = self._features.deserialize_example_np(
      serialized, decoders={"image": decode.SkipDecoding()}
    )
    return example["id"].decode()

  @property
  def labels(self) -> np.ndarray:
    """[n] int32, of the records in the order of writing."""
    return np.frombuffer(self._labels, np.int32)

  @property
  def digests(self) -> np.ndarray:
    """[n] uint64, the first eight bytes of each image's digest."""
    return np.frombuffer(self._digests, ">u8").astype(np.uint64)

  def images_per_class(self) -> list[int]:
    """In label order."""
    return np.bincount(self.labels, minlength=len(self._label_of)).tolist()

  def empty_classes(self) -> list[str]:
    """Names of the classes without an image."""
    counts = self.images_per_class()
    return [name for name, label in self._label_of.items() if not counts[label]]

  def fingerprint(self) -> str:
    """Of the images written, `fingerprint.of_split`."""
    return self._accumulator.hexdigest(self._label_of)
