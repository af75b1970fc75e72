"""State dicts of PyTorch, in three forms, and what is refused."""

import hashlib
import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import sources

from fsl_jax import torch_weights, types

# Instructions of a pickle, written by hand, since torch is optional.


def _value(value):
  return pickle.dumps(value, 2)[2:-1]


_text, _name = sources.pickle_text, sources.pickle_name


def _storage(kind, key, size, view=b""):
  return (
    *(b"(", _text("storage"), _name("torch", kind), _text(key)),
    *(_text("cpu"), _value(size), view, b"tQ"),
  )


def _tensor(storage, offset, shape, strides, call="_rebuild_tensor_v2"):
  return b"".join(
    [
      *(_name("torch._utils", call), b"(", *storage, _value(offset)),
      *(_value(shape), _value(strides), b"\x89"),
      *(_name("collections", "OrderedDict"), b")RtR"),
    ]
  )


def _state_dict(entries):
  items = b"".join(_text(name) + value for name, value in entries.items())
  metadata = b"}" + _text("_metadata") + b"}sb"
  return (
    b"\x80\x02" + _name("collections", "OrderedDict") + b")R("
  ) + b"".join([items, b"u", metadata, b"."])


def _zip(body, storages, byte_order="little", **options):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", **options) as archive:
    archive.writestr("archive/data.pkl", body)
    archive.writestr("archive/byteorder", byte_order)
    for key, data in storages.items():
      archive.writestr(f"archive/data/{key}", data)
  return file.getvalue()


def _stream(body, storages, itemsize=4, little=True):
  parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": little}]
  out = [pickle.dumps(part, 2) for part in parts] + [body]
  out.append(pickle.dumps(list(storages), 2))
  for data in storages.values():
    out += [struct.pack("<q", len(data) // itemsize), data]
  return b"".join(out)


def safetensors(entries, **changes):
  header, size = {"__metadata__": {"format": "pt"}}, 0
  kinds = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
  kinds["int64"] = "I64"
  for name, value in entries.items():
    header[name] = {
      "dtype": kinds[value.dtype.name],
      "shape": value.shape,
      "data_offsets": [size, size + value.nbytes],
    }
    header[name].update(changes)
    size += value.nbytes
  text = json.dumps(header).encode()
  data = (value.tobytes() for value in entries.values())
  return b"".join([struct.pack("<Q", len(text)), text, *data])


SIX = np.arange(6, dtype=np.float32)
PLAIN = _state_dict(
  {"w": _tensor(_storage("FloatStorage", "0", 6), 0, (2, 3), (3, 1))}
)
STORED = {"0": SIX.tobytes()}
FORMS = {
  "zip": _zip(PLAIN, STORED),
  "stream": _stream(PLAIN, STORED),
  "safetensors": safetensors({"w": SIX.reshape(2, 3)}),
}


def read(tmp_path, data, name="some.pth", **options):
  path = tmp_path / name
  path.write_bytes(data)
  return torch_weights.read(path, **options)


def refused(tmp_path, data, name="some.pth", **options):
  with pytest.raises(types.InputError) as caught:
    read(tmp_path, data, name, **options)
  message = str(caught.value)
  assert name in message
  assert "\n" not in message
  return message


class TestForms:
  @pytest.mark.parametrize("form", FORMS)
  def test_plain(self, form, tmp_path):
    found = read(tmp_path, FORMS[form])
    assert list(found) == ["w"]
    assert found["w"].dtype == np.float32
    assert not found["w"].flags.writeable
    np.testing.assert_array_equal(found["w"], [[0, 1, 2], [3, 4, 5]])

  @pytest.mark.parametrize("form", [_zip, _stream])
  def test_views_of_one_storage(self, form, tmp_path):
    storage = _storage("FloatStorage", "0", 6)
    body = _state_dict(
      {
        "transposed": _tensor(storage, 0, (3, 2), (1, 3)),
        "tail": _tensor(storage, 4, (2,), (1,), "_rebuild_tensor"),
        "last": _tensor(storage, 5, (), ()),
        "none": _tensor(storage, 6, (0, 2), (2, 1)),
        # PyTorch keeps any stride where there is a single element.
        "single": _tensor(storage, 1, (1, 2), (99, 1)),
      }
    )
    found = read(tmp_path, form(body, STORED))
    np.testing.assert_array_equal(found["transposed"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["tail"], [4, 5])
    assert found["last"] == 5
    assert found["last"].shape == ()
    assert found["none"].shape == (0, 2)
    np.testing.assert_array_equal(found["single"], [[1, 2]])

  @pytest.mark.parametrize(
    ("kind", "dtype"),
    [
      ("FloatStorage", np.float32),
      ("HalfStorage", np.float16),
      ("BFloat16Storage", jnp.bfloat16),
      ("LongStorage", np.int64),
    ],
  )
  def test_types(self, kind, dtype, tmp_path):
    value = np.array([1, -2.5, 3]).astype(dtype)
    body = _state_dict({"w": _tensor(_storage(kind, "7", 3), 0, (3,), (1,))})
    for data in (
      _zip(body, {"7": value.tobytes()}),
      _stream(body, {"7": value.tobytes()}, value.itemsize),
      safetensors({"w": value}),
    ):
      found = read(tmp_path, data)["w"]
      assert found.dtype == value.dtype
      np.testing.assert_array_equal(found, value)

  def test_parameters(self, tmp_path):
    tensor = _tensor(_storage("FloatStorage", "0", 6), 0, (6,), (1,))
    call = _name("torch._utils", "_rebuild_parameter")
    body = _state_dict({"w": call + b"(" + tensor + b"\x88}tR"})
    np.testing.assert_array_equal(read(tmp_path, _zip(body, STORED))["w"], SIX)

  @pytest.mark.parametrize("zipped", [True, False])
  def test_torch(self, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    state = torch.nn.Sequential(
      torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3)
    ).state_dict()
    state |= {
      "transposed": base.T,
      "column": base[1:, 2],
      "half": base.half(),
      "bfloat16": base.bfloat16(),
      "channels_last": torch.randn(2, 3, 4, 5).to(
        memory_format=torch.channels_last
      ),
      "parameter": torch.nn.Parameter(base),
    }
    path = tmp_path / "torch.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = torch_weights.read(path)
    assert list(found) == list(state)
    for name, value in state.items():
      assert found[name].dtype.name == str(value.dtype).removeprefix("torch.")
      np.testing.assert_array_equal(
        found[name].astype(np.float64), value.detach().double().numpy()
      )


class TestRefused:
  @pytest.mark.parametrize("wrap", [_zip, _stream])
  @pytest.mark.parametrize(
    ("module", "name"),
    [
      ("os", "system"),
      ("builtins", "eval"),
      ("torch", "load"),
      ("torch.nn.modules.linear", "Linear"),
      ("torch", "DoubleStorage"),
    ],
  )
  def test_other_names(self, module, name, wrap, tmp_path):
    call = _name(module, name) + b"(" + _text("touch x") + b"tR."
    message = refused(tmp_path, wrap(b"\x80\x02" + call, {}))
    assert f"asks for {module}.{name}, which is refused" in message
    assert "expected a state dict of tensors" in message

  def test_storages_are_not_called(self, tmp_path):
    body = b"\x80\x02" + _name("torch", "FloatStorage") + b")R."
    assert "something that is not a function" in refused(
      tmp_path, _zip(body, {})
    )

  @pytest.mark.parametrize("form", FORMS)
  def test_every_cut(self, form, tmp_path):
    whole = FORMS[form]
    for size in range(len(whole)):
      refused(tmp_path, whole[:size])

  @pytest.mark.parametrize("form", FORMS)
  def test_garbage(self, form, tmp_path):
    """Nothing but InputError, and no memory that the file does not hold."""
    rng = np.random.default_rng(0)
    path = tmp_path / "some.pth"
    tracemalloc.start()
    for _ in range(250):
      data = bytearray(FORMS[form])
      for at in rng.integers(0, len(data), 3):
        data[at] = rng.integers(256)
      path.write_bytes(data)
      try:
        found = torch_weights.read(path)
      except types.InputError:
        continue
      assert sum(value.nbytes for value in found.values()) <= len(data)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()

  @pytest.mark.parametrize(
    ("said", "tensors"),
    [
      (
        "a tensor {} that leaves its storage of 6",
        [
          *((0, (7,), (1,)), (1, (6,), (1,)), (0, (2, 3), (4, 1))),
          *((0, (2**40,), (0,)), (0, (3, 3), (1, 1))),
        ],
      ),
      (
        "a malformed tensor",
        [
          *((-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,))),
          *((0, (2.0,), (1,)), (0, (True,), (1,)), (0, (2**60,), (0,))),
          *((0, "12", (1, 1)), (0, (1,) * 33, (1,) * 33), (None, (2,), (1,))),
        ],
      ),
      # Empty, but enormous.
      ("a tensor, ", [(0, (0, 2**47, 2**47), (0, 0, 0))]),
    ],
  )
  def test_malformed_tensors(self, said, tensors, tmp_path):
    storage = _storage("FloatStorage", "0", 6)
    for offset, shape, strides in tensors:
      body = _state_dict({"w": _tensor(storage, offset, shape, strides)})
      expected = said.format(list(shape))
      assert expected in refused(tmp_path, _zip(body, STORED))

  @pytest.mark.parametrize(
    "storage",
    [
      (_text("storage"), b"Q"),
      (b"(", _text("module"), _name("torch", "FloatStorage"), b"tQ"),
      _storage("FloatStorage", "0", -1),
      _storage("FloatStorage", "0", 6, b"(" + _text("1") + b"K\x00K\x02t"),
    ],
  )
  def test_malformed_references(self, storage, tmp_path):
    body = _state_dict({"w": _tensor(storage, 0, (2,), (1,))})
    message = refused(tmp_path, _zip(body, STORED))
    assert "a malformed reference to a storage" in message

  @pytest.mark.parametrize(
    ("value", "said"),
    [
      ([1], "it holds a list and no state dict"),
      ({}, "it holds a dict and no state dict"),
      ({"state_dict": {"w": 1}}, "'state_dict' is a dict"),
      ({"epoch": 3}, "'epoch' is a int"),
      ({1: 2}, "1 is a int"),
    ],
    ids=str,
  )
  def test_no_state_dict(self, value, said, tmp_path):
    body = pickle.dumps(value, 2)
    for form in (_zip, _stream):
      assert said in refused(tmp_path, form(body, {}))

  def test_zip_archives(self, tmp_path):
    assert "0 members data.pkl" in refused(
      tmp_path, _zip(PLAIN, STORED).replace(b"data.pkl", b"code.pkl")
    )
    assert "lacks data/0" in refused(tmp_path, _zip(PLAIN, {}))
    assert "20 bytes for w, expected 24" in refused(
      tmp_path, _zip(PLAIN, {"0": STORED["0"][:-4]})
    )
    bomb = _zip(PLAIN, {"0": bytes(2**20)}, compression=zipfile.ZIP_DEFLATED)
    assert "members larger than the archive" in refused(tmp_path, bomb)
    big = _zip(PLAIN, STORED, byte_order="big")
    assert "big-endian" in refused(tmp_path, big)
    changed = _zip(PLAIN, STORED).replace(STORED["0"], bytes(24))
    assert "CRC" in refused(tmp_path, changed)

  def test_streams(self, tmp_path):
    assert "big-endian" in refused(
      tmp_path, _stream(PLAIN, STORED, little=False)
    )
    assert "0 bytes for w, expected 24" in refused(tmp_path, _stream(PLAIN, {}))
    assert "no tensor uses its storage '1'" in refused(
      tmp_path, _stream(PLAIN, {"1": b""})
    )
    assert "it is another pickle" in refused(
      tmp_path, pickle.dumps({"w": [1]}, 2)
    )
    whole = _stream(PLAIN, STORED)
    version = whole.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2))
    assert "unknown version" in refused(tmp_path, version)
    keys = whole.replace(pickle.dumps(["0"], 2), pickle.dumps([0], 2))
    assert "list of storages is malformed" in refused(tmp_path, keys)

  @pytest.mark.parametrize(
    "change",
    [
      {"dtype": "F64"},
      {"dtype": ["F32"]},
      {"shape": [-1]},
      {"shape": "2"},
      {"shape": [2.0]},
      {"data_offsets": [-24, 24]},
      {"data_offsets": [0, 12, 24]},
      {"data_offsets": None},
    ],
    ids=str,
  )
  def test_malformed_entries_of_safetensors(self, change, tmp_path):
    message = refused(tmp_path, safetensors({"w": SIX}, **change))
    assert "its entry 'w' is malformed, or of another type than F16" in message

  @pytest.mark.parametrize(
    "change",
    [
      {"shape": [7]},
      {"data_offsets": [0, 23]},
      {"data_offsets": [24, 0]},
      {"data_offsets": [4, 28]},
    ],
    ids=str,
  )
  def test_safetensors_of_other_sizes(self, change, tmp_path):
    message = refused(tmp_path, safetensors({"w": SIX}, **change))
    assert "it is cut short or damaged" in message

  def test_header_of_safetensors(self, tmp_path):
    assert "the header" in refused(tmp_path, struct.pack("<Q", 99) + b"{}")
    assert "no JSON" in refused(tmp_path, struct.pack("<Q", 2) + b"{]")
    deep = b'{"a":' + b"[" * 100_000
    assert "no JSON" in refused(tmp_path, struct.pack("<Q", len(deep)) + deep)

  def test_other_files(self, tmp_path):
    for data in (b"", b"<html>", b"version https://git-lfs.github.com/spec/v1"):
      assert "it is in no known form" in refused(tmp_path, data)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
      archive.addfile(tarfile.TarInfo("storages"))
    assert "the first form of PyTorch" in refused(tmp_path, file.getvalue())
    for path in (tmp_path / "none.pth", tmp_path):
      with pytest.raises(types.InputError, match=r"cannot read .*: "):
        torch_weights.read(path)


class TestDigest:
  def test_given(self, tmp_path):
    data = FORMS["zip"]
    digest = hashlib.sha256(data).hexdigest()
    assert read(tmp_path, data, sha256=digest)
    message = refused(tmp_path, data, sha256="0" * 64)
    assert f"its SHA-256 is {digest}, expected {'0' * 64}" in message

  def test_in_the_name(self, tmp_path):
    data = FORMS["stream"]
    digest = hashlib.sha256(data).hexdigest()
    assert read(tmp_path, data, f"resnet152-{digest[:8]}.pth")
    message = refused(tmp_path, data, "resnet152-00000000.pth")
    assert message.endswith("expected 00000000")
