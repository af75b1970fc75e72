"""Encoded records of a prepared split, by position; nothing is decoded."""

import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple


class Record(NamedTuple):
  """An image as it is stored."""

  encoded: bytes  # PNG or JPEG
  label: int  # index into the class names of the split
  id: str
  group: str


class Records(NamedTuple):
  """Says where records are; picklable, opened once in every process."""

  folder: str
  split: str
  fingerprint: str  # of the split: one made again is another

  def read(self, positions: Sequence[int]) -> list[Record]:
    """Reads some records, in the order given."""
    source = _open(self, os.getpid())
    rows = [int(position) for position in positions]
    return [_parse(row) for row in source.__getitems__(rows)]


def of(folder: pathlib.Path, split: str, fingerprint: str) -> Records:
  """Records of a split of the data set prepared in `folder`."""
  return Records(os.fspath(folder), split, fingerprint)


# A process forked while another thread reads must open the files anew.
@functools.lru_cache(maxsize=8)
def _open(records: Records, process: int) -> Any:
  del process
  import tensorflow_datasets as tfds

  # Neither decoded by tfds, which uses whichever of two libraries is
  # installed, nor taken apart by it, which is slower than the decoding.
  return tfds.builder_from_directory(records.folder).as_data_source(
    records.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )


def _parse(serialized: bytes) -> Record:
  from tensorflow_datasets.proto import tf_example_pb2

  values = tf_example_pb2.Example.FromString(serialized).features.feature
  return Record(
    encoded=values["image"].bytes_list.value[0],
    label=values["label"].int64_list.value[0],
    id=values["id"].bytes_list.value[0].decode(),
    group=values["group"].bytes_list.value[0].decode(),
  )
