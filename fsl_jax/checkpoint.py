"""Saves and restores variables with metadata; all of orbax is in this file.

A checkpoint is a folder of arrays and one JSON of metadata; nothing in it is
ever unpickled. The metadata holds a digest of the arrays, so a checkpoint
that changed on disk is refused instead of giving other numbers.

Of several processes the first one writes and all read, from storage that all
of them see. Each function is called by all processes alike.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import sys
from typing import Any

import jax
import numpy as np

from fsl_jax import devices, json_files, paths, types

_METADATA = "_CHECKPOINT_METADATA"  # in every complete checkpoint
_STEP = re.compile(r"(\d{8})(?:-(\d+))?")
_DIGEST = "sha256"
_META_DIGEST = "sha256_of_metadata"


def digest(tree: Any) -> str:
  """SHA-256 over paths, shapes, dtypes and bytes of all arrays of a tree."""
  leaves = {
    _path_name(path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(_plain(tree))
  }
  sha = hashlib.sha256()
  # By name: a restored tree is of dicts, whose order is another.
  for name, array in sorted(leaves.items()):
    sha.update(f"{name} {array.shape} {array.dtype}\n".encode())
    sha.update(np.ascontiguousarray(array).tobytes())
  return sha.hexdigest()


def save(path: str | pathlib.Path, tree: Any, meta: dict[str, Any]) -> None:
  """Writes a checkpoint folder; it appears complete or not at all.

  Args:
    path: folder to make; must not exist.
    tree: arrays in nested dicts, lists or NamedTuples. Of random keys their
      words are saved, [..., n] uint32.
    meta: JSON values.

  Raises:
    InputError: if the folder exists, or `meta` is no JSON of 100 levels.
    OSError: if it cannot be written.
  """
  path = paths.local(path, "the checkpoint").absolute()
  try:
    meta = json_files.parse(json.dumps(meta))
  except (TypeError, ValueError, RecursionError) as error:
    raise types.InputError(
      f"the metadata of a checkpoint must be JSON values ({error})"
    ) from error
  devices.on_first_process(lambda: _make_room(path))
  arrays = jax.tree.map(np.asarray, jax.device_get(_plain(tree)))
  meta |= {_META_DIGEST: _digest_json(meta), _DIGEST: digest(arrays)}
  try:
    # Whatever its options, orbax synchronises all processes in a save.
    with _orbax() as orbax:
      orbax.save(str(path), arrays, custom_metadata=meta)
  except (ValueError, RuntimeError) as error:
    # TensorStore has types and messages of its own for system errors.
    if "RESOURCE_EXHAUSTED" in str(error) or "No space" in str(error):
      raise OSError(
        errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)
      ) from error
    raise


def restore(
  path: str | pathlib.Path, like: Any = None
) -> tuple[Any, dict[str, Any]]:
  """Reads a checkpoint made by `save`, or the newest of `save_step`.

  Args:
    path: a checkpoint, or a folder of steps.
    like: a tree of arrays or shapes whose structure the result takes, with
      random keys where it has them; None gives nested dicts.

  Returns:
    The arrays as NumPy, random keys of `like` as JAX, and the metadata.

  Raises:
    InputError: if there is no checkpoint, it is damaged, or it does not fit.
  """
  path = paths.local(path, "the checkpoint").absolute()
  steps = _steps(path)
  if steps:
    path = steps[-1]
  if not (path / _METADATA).is_file():
    raise types.InputError(
      f"no checkpoint at {path}: expected a folder written by "
      "fsl_jax.pretrain.run (checkpoints/best) or fsl_jax.checkpoint.save"
    )
  try:
    # Orbax reads it in threads, whose errors would be printed separately.
    for file in (path / _METADATA, *path.glob("*/_METADATA")):
      json_files.parse(file.read_bytes())
    with _orbax(alone=True) as orbax:
      stored = orbax.metadata(str(path))
    meta = dict(stored.custom_metadata or {})
    expected, expected_meta = meta.pop(_DIGEST), meta.pop(_META_DIGEST)
    # Without shapes given, orbax restores to the devices it was saved from.
    abstract = jax.tree.map(
      lambda leaf: np.empty(leaf.shape, leaf.dtype), stored.metadata
    )
    with _orbax(alone=True) as orbax:
      tree = orbax.load(str(path), abstract)
  except Exception as error:  # Orbax and TensorStore raise many types.
    reason = str(error).splitlines()[0][:200] if str(error) else ""
    raise types.InputError(
      f"the checkpoint at {path} is damaged and cannot be read "
      f"({type(error).__name__}: {reason})"
    ) from error
  for what, now, then in (
    ("metadata", _digest_json(meta), expected_meta),
    ("arrays", digest(tree), expected),
  ):
    if now != then:
      raise types.InputError(
        f"the checkpoint at {path} is damaged: its {what} no longer have the "
        f"SHA-256 {then[:12]}... they were saved with"
      )
  meta["digest"] = expected
  return (tree if like is None else _restructure(tree, like, path)), meta


def save_step(
  folder: str | pathlib.Path, step: int, tree: Any, meta: dict[str, Any]
) -> None:
  """Saves as `folder/<step>`, then removes the steps before it.

  Killed at any moment, the newest complete step can be restored.
  """
  folder = paths.local(folder, "the folder of checkpoints")

  def path_of(repeat: int) -> pathlib.Path:
    return folder / (f"{step:08d}-{repeat}" if repeat else f"{step:08d}")

  repeat = 0
  while path_of(repeat).exists():  # Of a run that continued from an older one.
    repeat += 1
  path = path_of(devices.first_of(repeat))
  save(path, tree, meta)

  def remove_others():
    for old in folder.iterdir():
      if _STEP.fullmatch(old.name) and old != path:
        shutil.rmtree(old)

  devices.on_first_process(remove_others)


def _make_room(path: pathlib.Path) -> None:
  if path.exists():
    raise types.InputError(f"{path} exists; a checkpoint is never overwritten")
  path.parent.mkdir(parents=True, exist_ok=True)
  # Orbax leaves its temporary folder behind when it is killed.
  for stale in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
    shutil.rmtree(stale, ignore_errors=True)


def exists(path: str | pathlib.Path) -> bool:
  """Whether `restore` would find a checkpoint there."""
  path = paths.local(path, "the checkpoint")
  return bool(_steps(path)) or (path / _METADATA).is_file()


def _digest_json(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _steps(folder: pathlib.Path) -> list[pathlib.Path]:
  """Complete steps, oldest first; one that is half removed is none."""
  if not folder.is_dir():
    return []
  found = [
    (int(match[1]), int(match[2] or 0), path)
    for path in folder.iterdir()
    if (match := _STEP.fullmatch(path.name)) and (path / _METADATA).is_file()
  ]
  return [path for _, _, path in sorted(found)]


def _restructure(tree, like, path):
  """Puts restored leaves into the structure of `like`, checking shapes."""
  leaves = {
    _path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)
  }
  keys = [x for x in jax.tree.leaves(like) if _is_key(x)]
  wanted, structure = jax.tree_util.tree_flatten_with_path(
    jax.eval_shape(_plain, like) if keys else like
  )
  names = [_path_name(p) for p, _ in wanted]
  if sorted(names) != sorted(leaves):
    odd = sorted(set(names) ^ set(leaves))[0]
    raise types.InputError(
      f"the checkpoint at {path} is of another network: {odd!r} is in one "
      "but not in the other"
    )
  for name, (_, expected) in zip(names, wanted, strict=True):
    if leaves[name].shape != expected.shape:
      raise types.InputError(
        f"the checkpoint at {path} is of another network: {name!r} has shape "
        f"{list(leaves[name].shape)}, expected {list(expected.shape)}"
      )
  return jax.tree.map(
    lambda x, leaf: (
      jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(x))
      if _is_key(x)
      else leaf
    ),
    like,
    jax.tree.unflatten(structure, [leaves[name] for name in names]),
  )


def _is_key(x: Any) -> bool:
  return jax.dtypes.issubdtype(getattr(x, "dtype", None), jax.dtypes.prng_key)


def _plain(tree: Any) -> Any:
  """The tree with the words of random keys in their place."""
  return jax.tree.map(
    lambda x: jax.random.key_data(x) if _is_key(x) else x, tree
  )


def _path_name(path) -> str:
  parts = []
  for key in path:
    for attribute in ("key", "name", "idx"):
      if hasattr(key, attribute):
        parts.append(str(getattr(key, attribute)))
        break
  return "/".join(parts)


@contextlib.contextmanager
def _quiet_callbacks():
  """Keeps one failure from being printed hundreds of times.

  When orbax fails it logs what it also raises, and closes its event loop;
  every read or write still under way then reports that, even after orbax has
  returned. So all is as before only if nothing failed.
  """
  logger = logging.getLogger("absl")
  level, original = logger.level, sys.unraisablehook

  def hook(unraisable):
    if "Event loop is closed" not in str(unraisable.exc_value):
      original(unraisable)

  logger.setLevel(logging.CRITICAL)
  sys.unraisablehook = hook
  yield
  sys.unraisablehook = original
  logger.setLevel(level)


@contextlib.contextmanager
def _orbax(alone: bool = False):
  """Orbax, in all processes together or in each on its own."""
  # Imported late: it takes a second. Its progress notes are not the user's.
  logging.getLogger("absl").setLevel(logging.ERROR)
  from orbax.checkpoint import v1

  context = v1.Context()
  if alone:
    me = jax.process_index()
    context.multiprocessing.primary_host = me
    context.multiprocessing.active_processes = {me}
    context.multiprocessing.barrier_sync_key_prefix = f"process{me}"
  with context, _quiet_callbacks():
    yield v1
