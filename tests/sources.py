"""Sources of data sets as tests make them, and what builders find in them."""

import io
import pathlib
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fsl_jax import types
from fsl_jax.data import pictures
from fsl_jax.data.containers import tree

SPLIT_NAMES = {"base": "train", "val": "val", "novel": "test"}


def write(root, files):
  """Writes files given by name, text or bytes; returns the folder."""
  root.mkdir(parents=True, exist_ok=True)
  for name, data in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
  return root


def tar_bytes(files, mode="w", **options):
  """A tar archive of files given by name."""
  target = io.BytesIO()
  with tarfile.open(fileobj=target, mode=mode, **options) as tar:
    for name, data in files.items():
      info = tarfile.TarInfo(name)
      info.size = len(data)
      tar.addfile(info, io.BytesIO(data))
  return target.getvalue()


def tar(path, files, **options):
  """Writes a tar archive, compressed as its name ends."""
  kind = {".tgz": "gz", ".tar": ""}.get(path.suffix, path.suffix[1:])
  path.write_bytes(tar_bytes(files, f"w:{kind}", **options))
  return path


def zip_(path, files, method=zipfile.ZIP_DEFLATED):
  """Writes a zip archive."""
  with zipfile.ZipFile(path, "w", method) as archive:
    for name, data in files.items():
      archive.writestr(name, data)
  return path


def contents(folder, prefix=""):
  """The files below a folder by name, as the functions above take them."""
  return {
    prefix + path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def png(pixels):
  """[H, W, 3] or [H, W] uint8 as PNG."""
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG", compress_level=0)
  return file.getvalue()


def pixels(picture):
  """The pixels of a picture of a listing."""
  if isinstance(picture, np.ndarray):
    return picture
  if not isinstance(picture, bytes):
    picture = tree.read(picture)
  return np.asarray(pictures.decode(picture))


def dump(path, content, protocol=2):
  path.write_bytes(pickle.dumps(content, protocol))


def pickle_text(value):
  """Instructions of a pickle that put a text on the stack."""
  data = value.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def pickle_name(module, name):
  """Instructions of a pickle that put what has a name on the stack."""
  return f"c{module}\n{name}\n".encode()


def doubled(times=60):
  """A value of few bytes in a pickle and 2^times when it is written out."""
  value: tuple = (0,)
  for _ in range(times):
    value = (value, value)
  return value


def find(builder_class, source, tmp_path, **attributes):
  """The listing of a source by a builder with some attributes."""
  builder = builder_class(data_dir=tmp_path / "made")
  builder.source = pathlib.Path(source)
  builder.scratch = tmp_path / "scratch"
  builder.scratch.mkdir(exist_ok=True)
  for name, value in attributes.items():
    setattr(builder, name, value)
  return builder.find()


def refusal(builder_class, source, tmp_path, **attributes):
  """The sentence with which a source is refused, entries included."""

  def read_all():
    found = find(builder_class, source, tmp_path, **attributes)
    for split in found.num_images:
      list(found.entries(split))

  with pytest.raises(types.InputError) as caught:
    read_all()
  assert "\n" not in str(caught.value)
  return str(caught.value)


def check_images(found, expected, groups=None):
  """Every image is there once, in its own class, with an id of its own.

  Args:
    found: the listing.
    expected: pixels of all images, by split and class in label order.
    groups: by class, if they have one.
  """
  names = {split: tuple(classes) for split, classes in expected.items()}
  assert found.class_names == names
  for split, classes in expected.items():
    assert found.num_images[split] == {n: len(of) for n, of in classes.items()}
    left = {(n, image.tobytes()) for n, of in classes.items() for image in of}
    ids = set()
    for entry in found.entries(split):
      left.remove((entry.class_name, pixels(entry.picture).tobytes()))
      assert entry.group == (groups or {}).get(entry.class_name, "")
      ids.add(entry.id)
    assert not left
    assert len(ids) == sum(found.num_images[split].values())
