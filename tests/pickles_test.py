"""The closed unpickler: what it admits, and ways around it."""

import builtins
import collections
import contextlib
import io
import os
import pickle
import pickletools
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
import sources

from fsl_jax import types
from fsl_jax.data import listing
from fsl_jax.data.containers import pickles

_PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def _numpy_1(data):
  """As written by NumPy 1, whose modules have another name."""
  return data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class _Call:
  """Pickles as a call of a function."""

  def __init__(self, function, *given, state=None):
    self.made = (function, given) if state is None else (function, given, state)

  def __reduce__(self):
    return self.made


_text, _name = sources.pickle_text, sources.pickle_name


_NEW_ARRAY = (
  _name("numpy.core.multiarray", "_reconstruct")
  + b"("
  + _name("numpy", "ndarray")
  + b"K\x00\x85C\x01btR"
)


def _dtype(spec):
  return _name("numpy", "dtype") + b"(" + _text(spec) + b"\x89\x88tR"


def _with_state(shape, dtype, data):
  """A pickle of an array with a state of one's own."""
  return (
    b"\x80\x03" + _NEW_ARRAY + b"(K\x01" + shape + dtype + b"\x89" + data
  ) + b"tb."


def _refused(data):
  with pytest.raises(types.InputError) as caught:
    pickles.loads(data, name="some.pkl")
  message = str(caught.value)
  assert "some.pkl" in message
  assert "\n" not in message
  assert len(message) < 600
  return message


class TestAdmitted:
  @pytest.mark.parametrize("protocol", _PROTOCOLS)
  @pytest.mark.parametrize(
    "value",
    [
      np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
      np.asfortranarray(np.arange(6.0).reshape(2, 3)),
      np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
      np.arange(6, dtype=">i4")[::2],
      np.array([True, False]),
      np.array(["a", "bcd"]),
      np.array([b"a", b"bcd"]),
      np.array(3.5),
      np.zeros((0, 84, 84, 3), np.uint8),
      np.array([1 + 2j]),
      np.float16([1.5]),
      np.array([[1, None], ["a", (2, 3)]], dtype=object),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}",
  )
  def test_arrays(self, value, protocol):
    data = pickle.dumps({"x": value}, protocol)
    for written in (data, _numpy_1(data) if protocol < 4 else data):
      read = pickles.loads(written, name="")["x"]
      assert type(read) is np.ndarray
      # NumPy itself turns some into the byte order of the machine.
      assert read.dtype == pickle.loads(data)["x"].dtype
      assert read.shape == value.shape
      np.testing.assert_array_equal(read, value)

  @pytest.mark.parametrize("protocol", _PROTOCOLS)
  def test_containers(self, protocol):
    value = {
      "numbers": [1, -(2**70), 2.5, 1 + 2j, True, None],
      "text": ("é", b"\x00\xff", bytearray(b"ab")),
      "sets": [{1, 2}, frozenset("ab"), set()],
      ("a", 1): {},
      "scalars": [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ab")],
      "dtype": [np.dtype(">i4"), np.dtype("U3")],
      "ordered": collections.OrderedDict(b=1, a=2),
      "default": collections.defaultdict(list, {"c": [1]}),
    }
    read = pickles.loads(pickle.dumps(value, protocol), name="")
    assert read == value
    assert list(read["ordered"]) == ["b", "a"]
    assert type(read["scalars"][0]) is np.float32

  def test_nested_and_shared_arrays(self):
    inner = np.arange(3)
    outer = np.empty(2, object)
    outer[:] = [inner, [inner, outer]]
    read = pickles.loads(pickle.dumps(outer), name="")
    assert type(read[0]) is np.ndarray
    assert read[1][0] is read[0]
    assert read[1][1] is read

  def test_python_2(self):
    """Bytes of arrays and names of classes are both text of 8 bits there."""
    raw = bytes(range(250, 256))
    data = (
      b"\x80\x02}U\x04dataq\x00"
      + _name("numpy.core.multiarray", "_reconstruct")
      + b"("
      + _name("numpy", "ndarray")
      + b"K\x00\x85U\x01btR(K\x01K\x06\x85"
      + _name("numpy", "dtype")
      + b"(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
      + b"K\x00tb\x89U\x06"
      + raw
      + b"tbs."
    )
    pickletools.dis(data, io.StringIO())  # It is well formed.
    read = pickles.loads(data, name="")
    assert list(read) == ["data"]
    assert read["data"].tobytes() == raw

  def test_wherever_it_lies(self, tmp_path):
    value = {"x": np.arange(1000)}
    data = pickle.dumps(value)
    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
      file.write(path, "in/a.pkl")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
      file.add(path, "a.pkl")
    with tarfile.open(tmp_path / "a.tar") as file:
      offset = file.getmember("a.pkl").offset_data
    for where in (
      path,
      listing.FileRange(str(path)),
      listing.FileRange(str(tmp_path / "a.tar"), offset, len(data)),
      listing.ZipMember(str(tmp_path / "a.zip"), "in/a.pkl"),
    ):
      read = pickles.load(where)
      np.testing.assert_array_equal(read["x"], value["x"])
    # It does not read on into what comes after it.
    with pytest.raises(types.InputError, match="cut short"):
      pickles.load(listing.FileRange(str(tmp_path / "a.tar"), offset, 600))


class TestRefused:
  @pytest.mark.parametrize("protocol", _PROTOCOLS)
  @pytest.mark.parametrize(
    "function", [os.system, builtins.eval, getattr, np.load, np.frombuffer]
  )
  def test_calls(self, function, protocol, tmp_path):
    mark = tmp_path / "called"
    value = [1, _Call(function, f"touch {mark}")]
    message = _refused(pickle.dumps(value, protocol))
    assert function.__name__ in message
    assert not mark.exists()

  @pytest.mark.parametrize(
    "value",
    [
      np.ma.masked_array([1]),
      np.rec.array([(1, 2.0)]),
      np.array([(1,)], [("a", "i4")]),
      np.array(["2020-01-01"], "M8[D]"),
      np.random.default_rng(0),
      np.void(b"abc"),
      slice(3),
      types.InputError("x"),
    ],
    ids=lambda value: type(value).__name__,
  )
  def test_other_objects(self, value):
    for protocol in _PROTOCOLS:
      _refused(pickle.dumps(value, protocol))

  def test_dotted_names(self):
    for name in ("ndarray.__class__", "ndarray.tofile", "dtype.__new__"):
      data = b"\x80\x04" + _text("numpy") + _text(name) + b"\x93."
      assert f"numpy.{name}" in _refused(data)

  @pytest.mark.parametrize(
    "instructions",
    [
      b"(inumpy\nndarray\n",  # INST
      b"(" + _name("numpy", "ndarray") + b"K\x01o",  # OBJ
      _name("numpy", "ndarray") + b"K\x01\x85\x81",  # NEWOBJ
      _name("numpy", "ndarray") + b"K\x01\x85}\x92",  # NEWOBJ_EX
      _name("numpy", "ndarray") + b"K\x01\x85R",  # REDUCE
      b"(lK\x01\x85R",  # of a list
      b"\x82\x01",  # EXT1
      b"\x83\x01\x00",
      b"\x84\x01\x00\x00\x00",
      b"Pid\n",  # PERSID
      b"K\x01Q",
      b"\x97",  # NEXT_BUFFER
    ],
  )
  def test_instructions(self, instructions):
    _refused(b"\x80\x05" + instructions + b".")

  @pytest.mark.parametrize(
    "target",
    [
      _name("numpy.core.multiarray", "scalar"),
      _name("builtins", "set"),
      b"]",
      b"}",
      b"K\x01",
      _name("collections", "OrderedDict") + b")R",
    ],
  )
  def test_states(self, target):
    """Setting attributes, of functions above all, which would last."""
    slots = b"}" + _text("__defaults__") + b"K\x01\x85s"
    message = _refused(b"\x80\x03" + target + b"N" + slots + b"\x86b.")
    assert "state" in message

  def test_state_is_set_once(self):
    """Another state would free memory that views of the array may use."""
    state = b"(K\x01K\x01\x85" + _dtype("u1") + b"\x89C\x01atb"
    once = b"\x80\x03" + _NEW_ARRAY + state
    assert pickles.loads(once + b".", name="").tolist() == [97]
    _refused(once + state + b".")

  @pytest.mark.parametrize(
    "target", [_NEW_ARRAY, _name("builtins", "bytearray") + b")R", b")"]
  )
  @pytest.mark.parametrize(
    "change",
    [b"K\x00a", b"(K\x00e", b"K\x00K\x01s", b"(K\x00K\x01u", b"(K\x00\x90"],
  )
  def test_items_of_what_is_no_container(self, target, change):
    assert "adds items" in _refused(b"\x80\x04" + target + change + b".")

  def test_other_kinds_of_arrays(self):
    for kind in (_name("builtins", "set"), _name("numpy", "dtype"), b"N"):
      data = _name("numpy.core.multiarray", "_reconstruct") + b"("
      _refused(b"\x80\x03" + data + kind + b"K\x00\x85C\x01btR.")


class TestMemory:
  @pytest.mark.parametrize(
    ("shape", "spec", "data"),
    [
      (b"K\x05\x85", "u1", b"C\x01a"),  # too few bytes
      (b"K\x01\x85", "u1", b"C\x02aa"),
      (b"\x8a\x08" + struct.pack("<q", 2**60) + b"\x85", "f8", b"C\x01a"),
      (b"J\xff\xff\xff\xff\x85", "u1", b"C\x01a"),  # negative
      (b"]", "u1", b"C\x01a"),
      (b"K\x01\x85", "O8", b"C\x08aaaaaaaa"),  # bytes as pointers
      (b"K\x01\x85", "O8", b"]"),
      (b"J\x00\x00\x00\x70\x85", "O8", b"]"),
      (b"\x8a\x08" + struct.pack("<q", 2**60) + b"\x85", "S0", b"C\x00"),
      (b"(" + b"K\x01" * 65 + b"t", "u1", b"C\x01a"),
      (b"K\x01\x85", "u1", b"]K\x01a"),
    ],
  )
  def test_shapes_that_do_not_fit(self, shape, spec, data):
    tracemalloc.start()
    _refused(_with_state(shape, _dtype(spec), data))
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()

  @pytest.mark.parametrize(
    "spec", ["V8", "i4,O", "O,O", "(1000000000,)u1", "M8[D]", "m8", "T", "Zf8"]
  )
  def test_types_of_arrays(self, spec):
    assert spec in _refused(b"\x80\x03" + _dtype(spec) + b".")

  @pytest.mark.parametrize(
    "argument", [b"}" + _text("names") + b"]s", b"]", b"K\x01", b"N", b"\x88"]
  )
  def test_types_that_are_no_text(self, argument):
    _refused(b"\x80\x03" + _name("numpy", "dtype") + b"(" + argument + b"tR.")

  @pytest.mark.parametrize(
    "state",
    [
      (3, "|", None, None, None, 8, 1, 0, None, None),
      (3, "|", None, ("a",), {"a": (np.dtype("u1"), 99)}, 1, 1, 0),
      (3, "|", (np.dtype("u1"), (99,)), None, None, -1, -1, 0),
      (3, "|", None, None, None, 2**40, 1, 0),
      (3, "x", None, None, None, -1, -1, 0),
      {"a": 1},
      (3,),
    ],
  )
  def test_states_of_types(self, state):
    body = pickle.dumps(state, 2)[2:-1].replace(b"numpy._core", b"numpy.core")
    _refused(b"\x80\x03" + _dtype("u1") + body + b"b.")

  def test_forged_flags_of_a_type_have_no_effect(self):
    """Without them, objects would be read from raw bytes as pointers."""
    state = pickle.dumps((3, "|", None, None, None, -1, -1, 0), 2)[2:-1]
    dtype = _dtype("O8") + state + b"b"
    assert pickles.loads(b"\x80\x03" + dtype + b".", name="").hasobject
    _refused(_with_state(b"K\x01\x85", dtype, b"C\x08aaaaaaaa"))

  def test_types_of_the_process_are_not_changed(self):
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)[2:-1]
    data = b"\x80\x03" + _dtype("i4") + state + b"b."
    assert pickles.loads(data, name="") == np.dtype(">i4")
    assert np.dtype("i4").isnative

  def test_buffers_are_bytes(self):
    """A view of an array whose state is set later would see freed memory."""
    data = _name("numpy.core.numeric", "_frombuffer") + b"("
    tail = _dtype("u1") + b"K\x00\x85" + _text("C") + b"tR."
    _refused(b"\x80\x05" + data + _NEW_ARRAY + tail)
    ok = data + b"C\x00" + tail
    assert pickles.loads(b"\x80\x05" + ok, name="").size == 0

  def test_scalars(self):
    data = b"\x80\x03" + _name("numpy.core.multiarray", "scalar") + b"("
    for spec, raw in (
      ("f8", b"C\x01a"),
      ("O8", b"C\x08aaaaaaaa"),
      ("O8", b"]"),
    ):
      _refused(data + _dtype(spec) + raw + b"tR.")

  @pytest.mark.parametrize(
    "instructions",
    [
      b"\x8e" + struct.pack("<Q", 2**40),  # BINBYTES8
      b"\x8d" + struct.pack("<Q", 2**40),  # BINUNICODE8
      b"\x96" + struct.pack("<Q", 2**40),  # BYTEARRAY8
      b"\x95" + struct.pack("<Q", 2**40),  # FRAME
      b"T" + struct.pack("<i", 2**31 - 1),  # BINSTRING
      b"\x8b" + struct.pack("<i", 2**31 - 1),  # LONG4
      b"Nr" + struct.pack("<I", 2**32 - 1) + b"0j\x00\x00\x00\x00",  # memo
      _name("builtins", "bytearray") + b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85R",
      _name("builtins", "bytes") + b"J\x00\x00\x00\x70\x85R",
      b"I" + b"9" * 5000 + b"\n",
    ],
  )
  def test_few_bytes_ask_for_much(self, instructions):
    tracemalloc.start()
    _refused(b"\x80\x05" + instructions + b".")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()

  def test_shared_lists_are_not_unfolded(self):
    value: list = []
    for _ in range(100):
      value = [value, value]  # 2^100 in all
    read = pickles.loads(pickle.dumps(value), name="")
    assert read[0] is read[1]

  def test_deep_nesting(self):
    deep = b"(" * 50_000 + b"t" * 50_000
    assert type(pickles.loads(deep + b".", name="")) is tuple
    # Hashing it would overflow the stack of the interpreter.
    for use in (
      b"}" + deep + b"Ns",
      b"(" + deep + b"Nd",
      b"\x8f(" + deep + b"\x90",
    ):
      assert "key" in _refused(b"\x80\x04" + use + b".")


class TestDamage:
  @pytest.mark.parametrize("protocol", _PROTOCOLS)
  def test_every_cut(self, protocol):
    data = pickle.dumps({"a": np.arange(3), "b": [1.5, "x"]}, protocol)
    for size in range(len(data)):
      _refused(data[:size])

  def test_garbage(self):
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"a": np.arange(3), "b": [1.5, "x"]}, 2)
    for _ in range(2000):
      data = bytearray(whole)
      for at in rng.integers(0, len(data), 3):
        data[at] = rng.integers(256)
      # Anything else that is raised fails the test.
      with contextlib.suppress(types.InputError):
        pickles.loads(bytes(data), name="some.pkl")
    for data in (b"", b"PK\x03\x04", b"\x89PNG\r\n", b"text\n", b"."):
      _refused(data)

  def test_missing_file(self, tmp_path):
    with pytest.raises(FileNotFoundError):
      pickles.load(tmp_path / "none.pkl")


def _object_array():
  array = np.empty(2, object)
  array[0] = sources.doubled()
  return array


class TestFields:
  def test_text(self):
    for value in ("dog\xe9", b"dog\xe9", np.str_("dog\xe9")):
      assert pickles.text(value, "names") == "dog\xe9"
    values = ["a", b"b"]
    for given in (values, tuple(values), np.array(["a", "b"])):
      assert pickles.texts(given, "names") == ["a", "b"]
    assert pickles.with_text_keys({b"a": 1, "b": 2, 3: 4}, "x") == {
      "a": 1,
      "b": 2,
    }

  def test_whole_numbers(self):
    for given in ([3, 1], (3, 1), np.array([3, 1], np.uint8), [np.int64(3), 1]):
      found = pickles.whole_numbers(given, "labels")
      assert found.dtype == np.int64
      assert found.tolist() == [3, 1]
    for empty in ([], (), np.zeros(0)):
      assert pickles.whole_numbers(empty, "labels").shape == (0,)

  @pytest.mark.parametrize(
    "value",
    [
      *(
        sources.doubled(),
        [sources.doubled()],
        {"a": 1},
        None,
        1.5,
        [1.5],
        [[1]],
        "12",
      ),
      *([None], [2**70], [True], np.zeros((2, 2), int), np.array(["a"])),
      *(np.array(3), _object_array()),
    ],
    ids=lambda value: type(value).__name__,
  )
  def test_no_whole_numbers(self, value):
    with pytest.raises(types.InputError, match=r"^labels are not a list"):
      pickles.whole_numbers(value, "labels")

  @pytest.mark.parametrize(
    ("value", "said"),
    [
      (sources.doubled(), "got a tuple"),
      ([sources.doubled()], "got a tuple"),
      ({sources.doubled(0): 1}, "got a dict"),
      ("abc", "got a str"),
      ([3], "got a int"),
      (["a" * 1001], "got one of 1,001 characters"),
      (["a"] * 10_001, "got 10,001"),
      (_object_array(), "got a tuple"),
    ],
    ids=range(8),
  )
  def test_no_text(self, value, said):
    with pytest.raises(types.InputError, match=f"^names must .*{said}$"):
      pickles.texts(value, "names")
