"""Files of episodes: what is written is read back, what is wrong refused."""

import dataclasses
import json
import pathlib
import pickle
import re
import subprocess
import sys

import helpers
import jax
import numpy as np
import pytest

from fsl_jax import adapt, evaluate, types
from fsl_jax.data import synthetic
from fsl_jax.episodes import files, protocols, source

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "evaluation.md"
FIXED = {"ways": 4, "shots": 2, "queries": 3}
MIXED = {
  "ways": "range:2:5",
  "shots": "uneven:1:6",
  "queries": "dirichlet:8:1",
}


@pytest.fixture(scope="module")
def dataset():
  made = synthetic.make(
    6, [14, 15, 16, 17, 18, 19], image_size_px=8, split="novel"
  )
  return dataclasses.replace(made, fingerprint="abc123")


def drawn(dataset, values=FIXED, seed=3):
  return source.Drawn(dataset, protocols.make(**values), seed)


@pytest.fixture
def path(dataset, tmp_path):
  files.write(tmp_path / "e.npz", drawn(dataset, MIXED), 12)
  return tmp_path / "e.npz"


def rewrite(path, **changes):
  """The file with other arrays; of None, without."""
  with np.load(path) as file:
    arrays = dict(file) | changes
  np.savez(path, **{k: v for k, v in arrays.items() if v is not None})


def array(path, name):
  with np.load(path) as file:
    return file[name].copy()


def assert_refused(path, dataset, *parts):
  with pytest.raises(types.InputError) as raised:
    files.read(path, dataset)
  for part in (str(path), *parts):
    assert part in str(raised.value)


class TestRoundTrip:
  @pytest.mark.parametrize("values", [FIXED, MIXED])
  def test_least_ways(self, dataset, tmp_path, values):
    files.write(tmp_path / "e.npz", drawn(dataset, values), 20)
    read = files.read(tmp_path / "e.npz", dataset)
    ways = [len(read.rows(i).class_ids) for i in range(20)]
    assert read.min_ways == min(ways)
    assert drawn(dataset, values).min_ways <= min(ways)

  @pytest.mark.parametrize("values", [FIXED, MIXED])
  def test_rows_are_those_drawn(self, dataset, tmp_path, values):
    expected = drawn(dataset, values)
    files.write(tmp_path / "new" / "e.npz", expected, 20)
    found = files.read(tmp_path / "new" / "e.npz", dataset)
    for index in range(20):
      ours, theirs = found.rows(index), expected.rows(index)
      for name, value in vars(theirs).items():
        np.testing.assert_array_equal(getattr(ours, name), value)
        assert getattr(ours, name).dtype == value.dtype
      assert found.sizes(index) == expected.sizes(index)
    assert (found.name, found.seed) == (expected.name, 3)
    assert found.text == expected.text + ", from a file"
    found.check(20)
    with pytest.raises(types.InputError, match=r"(?s)21 .*e\.npz has 20"):
      found.check(21)

  def test_same_bytes_every_time(self, dataset, tmp_path, path):
    files.write(tmp_path / "again.npz", drawn(dataset, MIXED), 12)
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.npz", "e.npz"]

  def test_values_tell_files_apart(self, dataset, tmp_path):
    found = []
    for seed, number in ((3, 5), (3, 5), (4, 5), (3, 6)):
      files.write(tmp_path / "f.npz", drawn(dataset, seed=seed), number)
      found.append(files.read(tmp_path / "f.npz", dataset).values())
    assert found[0] == found[1]
    assert len({values["file"] for values in found}) == 3
    assert {k: v for k, v in found[0].items() if k != "file"} == FIXED

  @pytest.mark.parametrize(
    ("values", "method"), [(FIXED, "finetune"), (MIXED, "prototype")]
  )
  def test_evaluation_gives_the_numbers_of_the_protocol(
    self, dataset, tmp_path, values, method
  ):
    expected = drawn(dataset, values)
    files.write(tmp_path / "e.npz", expected, 5)
    backbone = helpers.tiny_backbone()
    options = {"epochs": 1} if method == "finetune" else {}
    results = [
      evaluate.run(
        adapt.create(method, backbone, **options),
        helpers.tiny_variables(backbone),
        dataset,
        source=episodes,
        num_episodes=5,
        progress=False,
      )
      for episodes in (expected, files.read(tmp_path / "e.npz", dataset))
    ]
    theirs, ours = map(dataclasses.asdict, results)
    assert ours["protocol"].pop("file")
    assert ours.pop("protocol_text") != theirs.pop("protocol_text")
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


class TestOtherData:
  @pytest.mark.parametrize(
    ("change", "parts"),
    [
      ({"fingerprint": "def456"}, ["fingerprint", "'abc123'", "'def456'"]),
      ({"split": "val"}, ["split", "'novel'", "'val'"]),
      ({"name": "icons"}, ["name", "'synthetic'", "'icons'"]),
      ({"class_names": tuple("abcdef")}, ["names of classes or images differ"]),
    ],
  )
  def test_refused(self, dataset, path, change, parts):
    assert_refused(path, dataclasses.replace(dataset, **change), *parts)

  def test_moved_images(self, dataset, path):
    moved = list(dataset.image_ids)
    moved[0], moved[1] = moved[1], moved[0]
    assert_refused(
      path, dataclasses.replace(dataset, image_ids=moved), "images differ"
    )

  def test_fewer_images(self, dataset, path):
    fewer = dataclasses.replace(
      dataset,
      images=dataset.images[:-1],
      class_ids=dataset.class_ids[:-1],
      image_ids=dataset.image_ids[:-1],
    )
    assert_refused(path, fewer, "num_images", "99", "98")


class TestDamage:
  def test_no_file(self, dataset, tmp_path):
    assert_refused(tmp_path / "none.npz", dataset, "there is no file")

  @pytest.mark.parametrize("keep", [0, 10, 500, -1])
  def test_truncated(self, dataset, path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert_refused(path, dataset, "is not a file of episodes")

  def test_flipped_bytes(self, dataset, path):
    """Wherever: another error than InputError would end a script with a
    traceback. A byte that no reader looks at may pass."""
    whole = path.read_bytes()
    refused = 0
    places = range(0, len(whole), max(1, len(whole) // 60))
    for place in places:
      path.write_bytes(
        whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
      )
      try:
        files.read(path, dataset)
      except types.InputError:
        refused += 1
    assert refused > len(places) // 2

  def test_other_files(self, dataset, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert_refused(tmp_path / "a.npy", dataset, "is not a file of episodes")
    np.savez(tmp_path / "b.npz", a=np.arange(3))
    assert_refused(tmp_path / "b.npz", dataset, "is not a file of episodes")
    (tmp_path / "c.npz").write_text("episodes")
    assert_refused(tmp_path / "c.npz", dataset, "is not a file of episodes")
    assert_refused(tmp_path, dataset, "is not a file of episodes")

  def test_no_pickle_is_run(self, dataset, path, tmp_path):
    ran = tmp_path / "ran"

    class Touch:
      def __reduce__(self):
        return pathlib.Path.touch, (ran,)

    pickled = np.empty(1, object)
    pickled[0] = Touch()
    rewrite(path, image_ids=pickled)
    assert_refused(path, dataset, "is not a file of episodes")
    path.write_bytes(pickle.dumps(Touch()))
    assert_refused(path, dataset, "is not a file of episodes")
    assert not ran.exists()

  def test_header(self, dataset, path):
    header = json.loads(str(array(path, "header")))
    for changed in (
      [],
      {k: v for k, v in header.items() if k != "name"},
      header | {"data": "icons"},
      header | {"seed": "one"},
      header | {"seed": -3},
      header | {"protocol": 5},
    ):
      rewrite(path, header=np.asarray(json.dumps(changed)))
      assert_refused(path, dataset, "is not a file of episodes")
    rewrite(path, header=np.asarray(json.dumps(header | {"format": 9})))
    assert_refused(path, dataset, "format 9", "expected 1")

  @pytest.mark.parametrize(
    ("name", "change", "part"),
    [
      ("support", lambda x: None, "support is missing"),
      ("support", lambda x: x.astype(float), "support is missing or of"),
      ("support", lambda x: x + 10**6, "support must lie in [0, "),
      ("support", lambda x: x - 10**6, "support must lie in [0, "),
      ("query", lambda x: x[:-1], "query_ends does not cut query"),
      ("query_ends", lambda x: x[::-1], "query_ends does not cut query"),
      ("query_labels", lambda x: x + 9, "query_labels must lie in the classes"),
      ("query_labels", lambda x: x - 9, "query_labels must lie in the classes"),
      ("support_labels", lambda x: x[1:], "support_labels, but"),
      ("class_ids", lambda x: x + 6, "class_ids must lie in [0, 6)"),
      ("class_ids", lambda x: x * 0, "class_ids has something twice"),
      ("support_labels", lambda x: x * 0, "support images of other classes"),
      ("index", lambda x: x + 1, "episodes must be 0, 1, 2"),
      ("index", lambda x: x[:0], "episodes must be 0, 1, 2"),
      ("rows", lambda x: x[:-1], "image_ids, but"),
      ("rows", lambda x: x[::-1], "rows must ascend"),
      ("rows", lambda x: x + 10**6, "rows must lie in [0, 99)"),
      ("rows", lambda x: x - 99, "rows must lie in [0, 99)"),
    ],
  )
  def test_arrays(self, dataset, path, name, change, part):
    rewrite(path, **{name: change(array(path, name))})
    assert_refused(path, dataset, part)

  def test_a_class_without_support(self, dataset, path):
    ends = array(path, "support_ends")
    own = array(path, "support_labels")[: ends[0]]
    kept = np.concatenate([own != 0, np.ones(ends[-1] - ends[0], bool)])
    rewrite(
      path,
      support=array(path, "support")[kept],
      support_labels=array(path, "support_labels")[kept],
      support_ends=ends - np.sum(own == 0),
    )
    assert_refused(path, dataset, "a class of an episode has no support")

  @pytest.mark.parametrize("rule", ["ways", "shots", "queries"])
  def test_another_protocol_than_its_own(self, dataset, tmp_path, rule):
    path = tmp_path / "fixed.npz"
    files.write(path, drawn(dataset), 3)
    header = json.loads(str(array(path, "header")))
    header["protocol"][rule] += 1
    rewrite(path, header=np.asarray(json.dumps(header)))
    assert_refused(
      path, dataset, f"its protocol has {FIXED[rule] + 1} {rule}", "an episode"
    )

  def test_support_among_the_queries(self, dataset, path):
    query = array(path, "query")
    query[0] = array(path, "support")[0]
    rewrite(path, query=query)
    assert_refused(path, dataset, "support and query of one episode")

  def test_an_image_twice(self, dataset, path):
    support = array(path, "support")
    support[1] = support[0]
    rewrite(path, support=support)
    assert_refused(path, dataset, "support has something twice")


def test_reader_of_the_page(dataset, path):
  """With NumPy alone, in a process that cannot import this library."""
  (code,) = re.findall(
    r"```python\n(.*?def episodes\(.*?)```", PAGE.read_text("utf-8"), re.DOTALL
  )
  code += """
import json, sys
found = [
  [[list(map(str, part[0])), [str(c) for c in part[1]]] for part in episode]
  for episode in episodes(sys.argv[1])
]
assert not {"jax", "fsl_jax"} & set(sys.modules)
print(json.dumps(found))
"""
  done = subprocess.run(
    [sys.executable, "-I", "-c", code, str(path)],
    capture_output=True,
    text=True,
    check=True,
  )
  found = json.loads(done.stdout)
  expected = drawn(dataset, MIXED)
  assert len(found) == 12
  for index, (support, query) in enumerate(found):
    rows = expected.rows(index)
    for part, part_rows, labels in (
      (support, rows.support, rows.support_labels),
      (query, rows.query, rows.query_labels),
    ):
      assert part[0] == [dataset.image_ids[row] for row in part_rows]
      assert part[1] == [dataset.class_names[c] for c in rows.class_ids[labels]]
