"""Encoded records of a prepared split, by position."""

import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import description


class Record(NamedTuple):
  """An image as it is stored."""

  encoded: bytes  # PNG or JPEG
  label: int  # index into the class names of the split
  id: str
  group: str


class Records(NamedTuple):
  """The records of a split; picklable, opened once per process.

  If the data set was prepared again, reading refuses its new files.
  """

  folder: str
  split: str
  num_images: int
  fingerprint: str  # of the split
  index_digest: str
  stamp: str = ""  # changes when a file is replaced; a key of caches only

  def read(self, positions: Sequence[int] | np.ndarray) -> list[Record]:
    """Reads some records, in the order given.

    Raises:
      Exception: of any type, if they are damaged.
      InputError: if the data set was prepared again.
    """
    files = _open(self, os.getpid())
    wanted = np.asarray(positions, np.int64)
    file_of = np.searchsorted(files.starts, wanted, side="right") - 1
    found: list[Record] = [_NONE] * len(wanted)
    for i in np.unique(file_of):
      places = np.flatnonzero(file_of == i)
      rows = (wanted[places] - files.starts[i]).tolist()
      for place, data in zip(places, files.readers[i].read(rows), strict=True):
        found[place] = _parse(data)
    return found


class _Files(NamedTuple):
  """The open files of a split."""

  readers: list[Any]  # of array_record
  starts: np.ndarray  # [files] position of the first record of each


_NONE = Record(b"", 0, "", "")


def of(found: description.Description, split: str) -> Records:
  """Records of a split."""
  files = (
    *found.folder.glob(f"*-{split}.array_record*"),
    *found.folder.glob(f"{split}.*.npy"),
  )
  stats = [(path.name, path.stat()) for path in sorted(files)]
  stamp = [(n, s.st_ino, s.st_size, s.st_mtime_ns) for n, s in stats]
  return Records(
    os.fspath(found.folder),
    split,
    found.num_images[split],
    found.fingerprints[split],
    found.index_digests[split],
    hashlib.sha256(repr(stamp).encode()).hexdigest(),
  )


def check(records: Records) -> Any:
  """The tfds info of the data set in the folder.

  Raises:
    InputError: if the data set was prepared again.
  """
  import tensorflow_datasets as tfds

  info = tfds.builder_from_directory(records.folder).info
  now = (
    info.metadata["fingerprints"][records.split],
    info.metadata["index_digests"].get(records.split, ""),
  )
  if now != (records.fingerprint, records.index_digest):
    raise types.InputError(
      f"the data set in {records.folder} was made again since it was loaded; "
      "load it again"
    )
  return info


# A process forked while another thread reads must open the files anew.
@functools.lru_cache(maxsize=8)
def _open(records: Records, process: int) -> _Files:
  del process
  from array_record.python import array_record_module

  # The reader of tfds decodes with whichever of two libraries is installed, and
  # starts threads at every call.
  split = check(records).splits[records.split]
  readers = [
    # Nothing is read ahead: rows come in any order.
    array_record_module.ArrayRecordReader(
      os.fspath(path), "readahead_buffer_size:0,max_parallelism:0"
    )
    for path in split.filepaths
  ]
  lengths = [reader.num_records() for reader in readers]
  if lengths != list(split.shard_lengths):
    raise ValueError(f"files of {records.split} hold {lengths} records")
  return _Files(readers, np.cumsum([0, *lengths[:-1]]))


def _parse(serialized: bytes) -> Record:
  from tensorflow_datasets.proto import tf_example_pb2

  values = tf_example_pb2.Example.FromString(serialized).features.feature
  return Record(
    encoded=values["image"].bytes_list.value[0],
    label=values["label"].int64_list.value[0],
    id=values["id"].bytes_list.value[0].decode(),
    group=values["group"].bytes_list.value[0].decode(),
  )
