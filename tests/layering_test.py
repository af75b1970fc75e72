"""Imports point one way, and importing the library is quick."""

import ast
import json
import pathlib
import subprocess
import sys

import pytest

import fsl_jax

ROOT = pathlib.Path(fsl_jax.__file__).parent

# A module may import from lower levels, and from its own folder or file.
LEVELS = {
  "programs": 0,
  "types": 0,
  "version": 0,
  "files": 0.5,
  "folder_lock": 0.5,
  "json_files": 0.5,
  "paths": 0.5,
  "random_words": 0.5,
  "ahead_of_time": 1,
  "augment": 1,
  "data": 1,
  "devices": 1,
  "diagnosis": 1,
  "statistics": 1,
  "adapt": 2,
  "checkpoint": 2,
  "episodes": 2,
  "run_folder": 2,
  "torch_weights": 2,
  "backbones": 2.5,
  "features": 3,
  "hardness": 3,
  "pretrain": 3,
  "dataset_hardness": 4,
  "dispatch": 4,
  "extractors": 4,
  "episode_records": 5,
  "evaluate": 6,
  # Made from results alone.
  "results": 6,
  "report": 7,
}
EXCEPTIONS = {
  "results": {"types", "adapt", "hardness", "statistics", "diagnosis"},
  "report": {
    "types",
    "adapt",
    "files",
    "paths",
    "hardness",
    "dataset_hardness",
    "diagnosis",
    "results",
    "statistics",
  },
}

# Which part of the library may import a package.
ONLY_IN = {
  "flax": {"backbones"},
  "tensorflow_datasets": {"data"},
  "orbax": {"checkpoint"},
  "optax": {"adapt", "pretrain"},
  "filelock": {"folder_lock"},
  "loky": {"data"},
  "array_record": {"data"},
  "jinja2": {"report"},
  "matplotlib": {"report"},
  "PIL": {"data", "report"},
  # A bar of its own would not know that stderr is a log.
  "tqdm": {"devices"},
}
NOWHERE = {"tensorflow", "torch", "pickle"}
# Files that may import one of them all the same: the pickles of others are
# read by an unpickler that makes nothing but plain values.
ALLOWED = {"data/containers/pickles.py": {"pickle"}}
# Reading pickles by another name.
NOWHERE |= {"cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle"}

FILES = sorted(ROOT.rglob("*.py"))


def part_of(path):
  """The module of `LEVELS` that a file belongs to; None for the top."""
  relative = path.relative_to(ROOT)
  if relative.name == "__init__.py" and len(relative.parts) == 1:
    return None
  return relative.parts[0].removesuffix(".py")


def imports(path):
  """Full names of all that a file imports, wherever in it."""
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: relative import"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_parts(path):
  """Parts of the library that a file imports."""
  for name in imports(path):
    if name.split(".")[0] == "fsl_jax":
      yield name.split(".")[1]


def test_every_part_has_a_level():
  parts = {part_of(path) for path in FILES} - {None}
  assert parts <= set(LEVELS)


@pytest.mark.parametrize(
  "path", FILES, ids=lambda path: str(path.relative_to(ROOT))
)
def test_file(path):
  part = part_of(path)
  allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
  for name in imports(path):
    top = name.split(".")[0]
    assert top not in NOWHERE - allowed, name
    if top in ONLY_IN:
      assert part in ONLY_IN[top], f"{name} is imported only in {ONLY_IN[top]}"
    assert not name.startswith("absl.flags"), "flags belong to experiments"
    assert not name.startswith("experiments")
  if part is None:
    return
  for other in own_parts(path):
    if other == part:
      continue
    assert LEVELS[other] < LEVELS[part], f"{part} imports {other}"
    if part in EXCEPTIONS:
      assert other in EXCEPTIONS[part]


def test_adapt_and_backbones_meet_in_types_alone():
  for path in FILES:
    used = set(own_parts(path))
    if part_of(path) == "adapt":
      assert not used & {"backbones", "data", "episodes"}, path
    if part_of(path) == "backbones":
      assert used <= {"backbones", "programs", "torch_weights", "types"}, path


def test_arrays_are_read_without_pickles():
  """NumPy and pandas would run what a pickle in a file says."""
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        assert isinstance(node.value, ast.Constant), path
        assert node.value.value is False, path


@pytest.mark.parametrize(
  "path",
  # `data` is prepared by a script; its own tests are about its messages.
  [path for path in FILES if part_of(path) != "data"],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_nothing_refers_to_what_an_installed_package_lacks(path):
  """Whoever installed it with pip has no scripts, and it is on no index."""
  for word in ("experiments/", "fsl_jax["):
    assert word not in path.read_text(encoding="utf-8")


def test_losses_and_heads_know_no_method():
  """Level 1 of the folder: formulas, below the methods made of them."""
  for name in ("losses", "heads", "micro_batches"):
    for imported in imports(ROOT / "adapt" / f"{name}.py"):
      for method in ("finetune", "prototypes", "run", "batched"):
        assert not imported.endswith(f"adapt.{method}")


def test_import_is_quick_and_light():
  code = """
import json, sys, time
import jax
start = time.process_time()
import fsl_jax
print(json.dumps([time.process_time() - start, sorted(sys.modules)]))
"""
  seconds = []
  for _ in range(3):
    result = subprocess.run(
      [sys.executable, "-c", code],
      capture_output=True,
      text=True,
      check=True,
      cwd=ROOT.parent,
    )
    elapsed, modules = json.loads(result.stdout)
    seconds.append(elapsed)
  # CPU time on top of jax itself, the best of three.
  assert min(seconds) < 2, seconds
  heavy = {
    "tensorflow",
    "tensorflow_datasets",
    "orbax",
    "orbax.checkpoint",
    "matplotlib",
    "tensorboardX",
    "loky",
    "torch",
    "scipy.stats",
    "pandas",
  }
  assert not heavy & set(modules)


def test_import_starts_no_backend():
  """Flags and environment of the user must still be able to choose one."""
  code = """
import fsl_jax
from jax._src import xla_bridge
print(len(xla_bridge._backends))
"""
  result = subprocess.run(
    [sys.executable, "-c", code],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT.parent,
  )
  assert result.stdout.strip() == "0"


def test_public_names_exist():
  for name in fsl_jax.__all__:
    assert hasattr(fsl_jax, name)
