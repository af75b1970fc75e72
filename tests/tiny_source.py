"""A data set of a few small images in folders, and a builder that lists it.

The source is a folder SPLIT/CLASS/PICTURE. The listing can be shuffled, which
must not change what is prepared.
"""

import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fsl_jax import data
from fsl_jax.data import listing, prepared
from fsl_jax.data.builders import from_source

COUNTS = {
  "base": {"ant": 5, "bee": 1, "cat": 3},
  "val": {"dog": 2, "eel": 4},
  "novel": {"fox": 3, "gnu": 3},
}


class Tiny(from_source.FromSource, skip_registration=True):
  """Builder."""

  name = "tiny"
  DESCRIPTION = "Noise."
  OPTIONS = ("size_px", "fit", "shuffle")
  HAS_VARIANTS = True
  WHERE = "It is made by tests."

  def find(self) -> listing.Listing:
    assert self.source is not None
    files = sorted(path for path in self.source.glob("*/*/*"))
    shuffle = self.options.get("shuffle")
    if shuffle is not None:
      order = np.random.default_rng(shuffle).permutation(len(files))
      files = [files[i] for i in order]
    num_images: dict[str, dict[str, int]] = {s: {} for s in listing.SPLITS}
    for folder in sorted(self.source.glob("*/*")):
      counts = num_images[folder.parent.name]
      counts[folder.name] = len(list(folder.iterdir()))

    def entries(split: str) -> Iterator[listing.Entry]:
      for path in files:
        if path.parts[-3] == split:
          where = listing.FileRange(str(path))
          name, place = path.parent.name, path.relative_to(self.source)
          yield listing.Entry(name, str(place), where, f"group of {name}")

    return listing.Listing("folders", num_images, entries)


def register(patch: pytest.MonkeyPatch) -> None:
  """Makes "tiny" a data set like any other."""
  patch.setitem(prepared._BUILDERS, "tiny", ("tiny", "Tiny"))
  module = "fsl_jax.data.builders.tiny"
  patch.setitem(sys.modules, module, sys.modules[__name__])


def write(
  folder: pathlib.Path,
  counts: Mapping[str, Mapping[str, int]] = COUNTS,
  size: tuple[int, int] = (6, 6),
  seed: int = 0,
) -> pathlib.Path:
  """Writes images of noise, all different, [height, width] = size."""
  rng = np.random.default_rng(seed)
  for split, classes in counts.items():
    for name, count in classes.items():
      (folder / split / name).mkdir(parents=True)
      for i in range(count):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        path = folder / split / name / f"{i}.png"
        Image.fromarray(pixels).save(path)
  return folder


def prepare(
  source: pathlib.Path, data_dir: pathlib.Path, **options: Any
) -> data.Description:
  """Prepares "tiny"; it must be registered."""
  return data.prepare("tiny", source=source, data_dir=data_dir, **options)


def pixels_by_class(source: pathlib.Path, split: str) -> dict[str, set[bytes]]:
  """The pixels of the images in the folders, read without the library."""
  return {
    folder.name: {
      np.asarray(Image.open(path).convert("RGB")).tobytes()
      for path in folder.iterdir()
    }
    for folder in (source / split).iterdir()
  }


# Fixtures, which a test module takes over by assigning them to its own names.


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
  register(monkeypatch)


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
  """The folder of a small source."""
  return write(tmp_path / "source")


@pytest.fixture
def found(source: pathlib.Path, tmp_path: pathlib.Path) -> data.Description:
  """The source, prepared."""
  return prepare(source, tmp_path / "data")


@pytest.fixture
def data_dir(found: data.Description) -> pathlib.Path:
  """The folder of prepared data."""
  return found.folder.parents[1]


@pytest.fixture
def load(data_dir: pathlib.Path) -> Any:
  """Loads a split of it."""

  def load(split: str = "base", name: str = "tiny", **options: Any) -> Any:
    return data.load(name, split, data_dir=data_dir, **options)

  return load
