"""Checkpoints: what comes back, and what is refused."""

import json
import pathlib
from typing import Any, NamedTuple

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fsl_jax import adapt, checkpoint, types

META = {"network": "conv64", "epoch": 3, "nested": {"accuracy": 0.1 + 0.2}}


def make_tree():
  rng = np.random.default_rng(0)
  return {
    "params": {
      "block0": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32)},
      "classifier": {"bias": np.arange(4, dtype=np.float32)},
    },
    "batch_stats": {"mean": jnp.full(4, 0.5), "count": np.int32(7)},
  }


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / "runs" / "checkpoint"
  checkpoint.save(path, make_tree(), META)
  return path


def assert_equal(ours, theirs):
  assert jax.tree.structure(ours) == jax.tree.structure(theirs)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert np.asarray(a).dtype == np.asarray(b).dtype
    np.testing.assert_array_equal(a, b)


def files(path):
  return sorted(p for p in path.rglob("*") if p.is_file())


def refused(path):
  """Whether it cannot be restored; if it can, it must be what was saved.

  A file that is not needed for that may be damaged as it likes.
  """
  try:
    tree, meta = checkpoint.restore(path)
  except types.InputError as error:
    message = str(error)
    assert "damaged" in message or "no checkpoint" in message
    assert str(path) in message
    assert "\n" not in message
    return True
  assert_equal(tree, make_tree())
  assert {name: meta[name] for name in META} == META
  return False


class State(NamedTuple):
  z: Any
  a: Any


def optimizer_state():
  params = {"b": jnp.ones(3), "a": jnp.zeros((2, 2))}
  optimizer = optax.sgd(optax.constant_schedule(0.1), momentum=0.9)
  return {"params": params, "optimizer": optimizer.init(params)}


STRUCTURES = {
  "optimizer": optimizer_state,
  "order of fields": lambda: State(
    z=np.arange(3.0), a={"y": np.ones(2), "b": np.zeros(1)}
  ),
  # As names, "10" comes before "2".
  "long list": lambda: {"blocks": [np.full(2, float(i)) for i in range(12)]},
}


class TestRoundTrip:
  def test_arrays_and_metadata(self, saved):
    tree, meta = checkpoint.restore(saved)
    assert_equal(tree, make_tree())
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))
    assert meta.pop("digest") == checkpoint.digest(make_tree())
    assert meta == META

  def test_str_and_relative_paths(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint.save("x", {"a": np.ones(2)}, {})
    tree, _ = checkpoint.restore("x")
    np.testing.assert_array_equal(tree["a"], [1, 1])
    assert checkpoint.exists(tmp_path / "x")

  def test_bfloat16_and_scalars(self, tmp_path):
    tree = {
      "half": np.asarray(jnp.arange(3, dtype=jnp.bfloat16)),
      "flag": np.asarray(True),
      "step": np.asarray(12, np.int64),
    }
    checkpoint.save(tmp_path / "x", tree, {})
    assert_equal(checkpoint.restore(tmp_path / "x")[0], tree)

  @pytest.mark.parametrize("make", STRUCTURES.values(), ids=STRUCTURES)
  def test_structure_of_like(self, make, tmp_path):
    tree = make()
    checkpoint.save(tmp_path / "x", tree, {})
    restored, _ = checkpoint.restore(tmp_path / "x", like=tree)
    assert_equal(restored, jax.tree.map(np.asarray, tree))

  def test_shapes_are_enough_for_like(self, saved):
    like = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, make_tree()))
    tree, _ = checkpoint.restore(saved, like=like)
    assert_equal(tree, make_tree())


class TestDigest:
  def test_depends_on_all_there_is(self):
    tree = make_tree()
    base = checkpoint.digest(tree)
    assert base == checkpoint.digest(jax.tree.map(jnp.asarray, make_tree()))
    changed = []
    for change in (
      lambda x: x * np.float32(1.0000001),
      lambda x: x.reshape(3, 3, 4, 2),
      lambda x: x.view(np.int32),
    ):
      other = make_tree()
      kernel = other["params"]["block0"]["kernel"]
      other["params"]["block0"]["kernel"] = change(kernel)
      changed.append(checkpoint.digest(other))
    renamed = make_tree()
    renamed["params"]["block1"] = renamed["params"].pop("block0")
    changed.append(checkpoint.digest(renamed))
    assert len({base, *changed}) == 5

  def test_order_of_keys_does_not_matter(self):
    a, b = np.ones(2), np.zeros(3)
    assert checkpoint.digest({"a": a, "b": b}) == checkpoint.digest(
      {"b": b, "a": a}
    )


# Orbax leaves tasks behind when it fails, whose errors are not awaited.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestDamage:
  def test_missing(self, tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
      assert not checkpoint.exists(path)
      with pytest.raises(types.InputError, match="no checkpoint at"):
        checkpoint.restore(path)

  def test_file_is_no_checkpoint(self, tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert not checkpoint.exists(path)
    with pytest.raises(types.InputError, match="no checkpoint at"):
      checkpoint.restore(path)

  def test_flipped_bytes(self, saved):
    noticed = set()
    for path in files(saved):
      original = path.read_bytes()
      for part in range(1, 8):
        data = bytearray(original)
        if not data:
          continue
        data[len(data) * part // 8] ^= 0x11
        path.write_bytes(bytes(data))
        if refused(saved):
          noticed.add(path)
      path.write_bytes(original)
    # At least the arrays, their index and the metadata.
    assert len(noticed) >= 3
    assert saved / "_CHECKPOINT_METADATA" in noticed
    assert not refused(saved)

  def test_files_cut_short(self, saved):
    noticed = set()
    for path in files(saved):
      original = path.read_bytes()
      for size in (0, len(original) // 2, max(len(original) - 1, 0)):
        path.write_bytes(original[:size])
        if refused(saved):
          noticed.add(path)
      path.write_bytes(original)
    assert len(noticed) >= 3

  def test_lost_files(self, saved, tmp_path):
    noticed = set()
    for path in files(saved):
      moved = path.rename(tmp_path / "kept")
      if refused(saved):
        noticed.add(path)
      moved.rename(path)
    assert len(noticed) >= 3

  def test_changed_metadata(self, saved):
    """The metadata choose the network and say what it was trained on."""
    path = saved / "_CHECKPOINT_METADATA"
    text = path.read_text()
    assert text.count("conv64") == 1
    path.write_text(text.replace("conv64", "conv65"))
    with pytest.raises(types.InputError, match="damaged"):
      checkpoint.restore(saved)

  @pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "state/_METADATA"])
  @pytest.mark.parametrize("levels", [150, 100_000])
  def test_metadata_nested_too_deeply(self, saved, name, levels, monkeypatch):
    """Found before orbax reads it, whose threads would not end."""
    text = json.loads((saved / name).read_text())
    nested = json.dumps(text)[:-1] + ', "x": ' + "[" * levels + "]" * levels
    (saved / name).write_text(nested + "}")

    def unused(**_):
      raise AssertionError

    monkeypatch.setattr(checkpoint, "_orbax", unused)
    with pytest.raises(types.InputError, match=r"damaged.*100 levels"):
      checkpoint.restore(saved)


class TestStructure:
  def test_other_shape(self, saved):
    like = make_tree()
    like["params"]["classifier"]["bias"] = np.zeros(5, np.float32)
    with pytest.raises(types.InputError) as raised:
      checkpoint.restore(saved, like=like)
    message = str(raised.value)
    assert "params/classifier/bias" in message
    assert "[4]" in message
    assert "[5]" in message

  @pytest.mark.parametrize("change", ["missing", "added"])
  def test_other_names(self, saved, change):
    like = make_tree()
    if change == "missing":
      del like["params"]["block0"]
    else:
      like["params"]["block9"] = {"kernel": np.zeros(1, np.float32)}
    with pytest.raises(types.InputError, match=r"params/block\d/kernel"):
      checkpoint.restore(saved, like=like)


class TestSaving:
  def test_existing_checkpoint_is_not_overwritten(self, saved):
    before = checkpoint.digest(checkpoint.restore(saved)[0])
    with pytest.raises(types.InputError, match="exists"):
      checkpoint.save(saved, {"a": np.zeros(1)}, {})
    assert checkpoint.digest(checkpoint.restore(saved)[0]) == before

  def test_left_overs_of_a_kill_are_removed(self, tmp_path):
    stale = tmp_path / "x.orbax-checkpoint-tmp"
    stale.mkdir()
    (stale / "half").write_text("...")
    assert not checkpoint.exists(tmp_path / "x")
    checkpoint.save(tmp_path / "x", {"a": np.zeros(1)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x"]

  def test_metadata_that_are_no_json(self, tmp_path):
    nested = []
    for _ in range(5000):
      nested = [nested]
    for value in (object(), nested, nested[0][0]):
      with pytest.raises(types.InputError, match="must be JSON values"):
        checkpoint.save(tmp_path / "x", {"a": np.zeros(1)}, {"f": value})
    assert not list(tmp_path.iterdir())


class TestSteps:
  def tree(self, value):
    return {"a": np.full(3, float(value))}

  def test_keeps_the_newest_alone(self, tmp_path):
    folder = tmp_path / "steps"
    assert not checkpoint.exists(folder)
    for step in (5, 20, 100):
      checkpoint.save_step(folder, step, self.tree(step), {"step": step})
      assert [int(p.name) for p in folder.iterdir()] == [step]
      tree, meta = checkpoint.restore(folder)
      assert meta["step"] == step
      assert_equal(tree, self.tree(step))
    assert checkpoint.exists(folder)

  def test_newest_of_several_after_a_kill(self, tmp_path):
    # A kill between the saving of one and the removal of the other.
    for step in (9, 10):
      path = tmp_path / f"{step:08d}"
      checkpoint.save(path, self.tree(step), {"step": step})
    _, meta = checkpoint.restore(tmp_path)
    assert meta["step"] == 10
    checkpoint.save_step(tmp_path, 11, self.tree(11), {"step": 11})
    assert [p.name for p in tmp_path.iterdir()] == ["00000011"]

  def test_unfinished_step_is_no_step(self, tmp_path):
    checkpoint.save_step(tmp_path, 3, self.tree(3), {"step": 3})
    unfinished = tmp_path / "00000004.orbax-checkpoint-tmp"
    unfinished.mkdir()
    _, meta = checkpoint.restore(tmp_path)
    assert meta["step"] == 3

  @pytest.mark.parametrize("step", [3, 4])
  def test_killed_at_any_moment(self, tmp_path, monkeypatch, step):
    """Before or amid each removal, renaming and saving; the same step too."""
    original = {
      "rmtree": checkpoint.shutil.rmtree,
      "rename": pathlib.Path.rename,
      "save": checkpoint.save,
    }
    calls = 0

    def kill_at(moment, amid):
      nonlocal calls
      calls = 0

      def wrap(name):
        def call(path, *arguments, **options):
          nonlocal calls
          calls += 1
          if calls == moment:
            if amid and name == "rmtree" and pathlib.Path(path).exists():
              (pathlib.Path(path) / "_CHECKPOINT_METADATA").unlink()
            raise KeyboardInterrupt
          return original[name](path, *arguments, **options)

        return call

      monkeypatch.setattr(checkpoint.shutil, "rmtree", wrap("rmtree"))
      monkeypatch.setattr(pathlib.Path, "rename", wrap("rename"))
      monkeypatch.setattr(checkpoint, "save", wrap("save"))

    for amid in (False, True):
      for moment in range(1, 30):
        folder = tmp_path / f"{amid}{moment}"
        monkeypatch.undo()
        checkpoint.save_step(folder, 3, self.tree(3), {"step": 3})
        kill_at(moment, amid)
        try:
          checkpoint.save_step(folder, step, self.tree(9), {"step": step})
        except KeyboardInterrupt:
          killed = True
        else:
          killed = False
        monkeypatch.undo()
        tree, _ = checkpoint.restore(folder)
        assert tree["a"][0] in ((3, 9) if killed else (9,))
        # The next start saves it as if nothing had happened.
        checkpoint.save_step(folder, step, self.tree(9), {"step": step})
        assert checkpoint.restore(folder)[0]["a"][0] == 9
        if not killed:
          break
      assert 3 <= moment < 29

  def test_same_step_again(self, tmp_path):
    checkpoint.save_step(tmp_path, 3, self.tree(3), {"step": 3})
    checkpoint.save_step(tmp_path, 3, self.tree(4), {"step": 3})
    tree, _ = checkpoint.restore(tmp_path)
    assert_equal(tree, self.tree(4))


def test_nothing_is_pickled(saved):
  for path in pathlib.Path(saved).rglob("*"):
    if path.is_file():
      assert path.suffix not in (".pkl", ".pickle", ".npy")
  metadata = (saved / "_CHECKPOINT_METADATA").read_text()
  assert isinstance(json.loads(metadata), dict)


@pytest.mark.parametrize("name", ["support_init", "transductive_finetune"])
def test_adapted_state_with_its_random_key(name, tmp_path):
  network = helpers.tiny_backbone()
  method = adapt.create(name, network)
  task, _ = helpers.make_task()
  state = jax.jit(method.init)(
    jax.random.key(3), helpers.tiny_variables(network), task
  )
  checkpoint.save(tmp_path / "state", state, {})
  restored, _ = checkpoint.restore(tmp_path / "state", like=state)
  for a, b in zip(*map(jax.tree.leaves, (restored, state)), strict=True):
    assert a.dtype == b.dtype
    if jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
      a, b = map(jax.random.key_data, (a, b))
    np.testing.assert_array_equal(a, b)
  logits = jax.jit(method.predict)
  np.testing.assert_array_equal(logits(restored, task), logits(state, task))
