"""The folder of one run: configuration, provenance, records, results.

A run that was killed continues when the same command is given again. That is
safe only if nothing that shapes the numbers has changed, so the folder holds
the resolved configuration and refuses another one.

Files that are read again carry digests (`json_files`), so that damage is
detected. A folder of an earlier version has none, and gets none.

Of several processes of a run the first one writes, and all read: the folder
must be on storage that all of them see. Each method is called by all processes
alike. Two runs cannot share a folder: the first process locks it until it ends.
"""

import functools
import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax

from fsl_jax import devices, files, folder_lock, json_files, paths, types

_PACKAGES = ("fsl_jax", "jax", "jaxlib", "flax", "optax", "numpy")
_CONFIG = "config.json"
_PROVENANCE = "provenance.json"


class Files:
  """The files of a run folder, read without a lock while others may write.

  `config.json` is the resolved configuration, `provenance.json` the versions,
  commit and device of every start. Records are JSON lines.
  """

  def __init__(self, path: str | os.PathLike[str]):
    self.path = paths.local(path, "the run folder")

  def config(self) -> dict[str, Any]:
    """The configuration.

    Raises:
      InputError: if it is damaged, or this is not a run folder.
    """
    return self._config[0]

  def starts(self) -> list[dict[str, Any]]:
    """`provenance` of every start; InputError if it is damaged."""
    path = self.path / _PROVENANCE
    if not path.exists():
      return []
    if self._config[1]:
      return self.kept(_PROVENANCE)["starts"]
    try:
      return json_files.parse(path.read_bytes())
    except ValueError as error:
      raise types.InputError(f"{path} is damaged ({error})") from error

  def kept(self, name: str) -> dict[str, Any]:
    """What `RunFolder.keep` wrote; empty if there is no such file.

    Raises:
      InputError: if it is damaged.
    """
    path = self.path / name
    if not path.exists():
      return {}
    return self._opened(path.read_bytes(), str(path))

  def read(self, name: str) -> list[dict[str, Any]]:
    """All JSON lines; one at the end that is still being written is left out.

    Raises:
      InputError: if one is damaged.
    """
    path = self.path / name
    if not path.exists():
      return []
    whole = path.read_bytes().split(b"\n")[:-1]
    return [
      self._opened(line + b"\n", f"line {number} of {path}")
      for number, line in enumerate(whole, 1)
    ]

  def _opened(self, text: bytes, where: str) -> dict[str, Any]:
    value, sealed = json_files.opened(text, where)
    if sealed != self._config[1]:
      raise types.InputError(
        f"{where} has {'a' if sealed else 'no'} digest, unlike "
        f"{self.path / _CONFIG}; one of them is damaged"
      )
    return value

  @functools.cached_property
  def _config(self) -> tuple[dict[str, Any], bool]:
    """The configuration, and whether it has a digest and all else must."""
    path = self.path / _CONFIG
    try:
      return json_files.opened(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError) as error:
      raise types.InputError(
        f"{self.path} is not a run folder: no {_CONFIG}"
      ) from error


class RunFolder(Files):
  """Files of one run, which this process writes."""

  def __init__(self, path: str | os.PathLike[str], config: dict[str, Any]):
    """Makes the folder, or opens it again with the same configuration.

    Args:
      path: folder; its parents are made.
      config: JSON values; everything that shapes the numbers.

    Raises:
      InputError: if the folder was made with another configuration, holds
        something else, or is being worked on by another process.
    """
    super().__init__(path)
    devices.on_first_process(lambda: self._open(json.loads(json.dumps(config))))

  def release(self) -> None:
    """Lets another process work on the folder; nothing is written from now on.

    What is not released is when the process ends.
    """
    devices.on_first_process(lambda: folder_lock.release(self.path))

  def _open(self, config: dict[str, Any]) -> None:
    if self.path.exists() and not self.path.is_dir():
      raise types.InputError(f"{self.path} is a file, not a run folder")
    self.path.mkdir(parents=True, exist_ok=True)
    new = folder_lock.acquire(self.path)
    try:
      self._keep_config(config)
      starts = [*self.starts(), provenance()]
    except types.InputError:
      if new:
        folder_lock.release(self.path)
      raise
    sealed = self._config[1]
    self._replace(
      _PROVENANCE,
      json_files.page({"starts": starts} if sealed else starts, sealed=sealed),
    )

  def _keep_config(self, config: dict[str, Any]) -> None:
    if not (self.path / _CONFIG).exists():
      if any(self.path.glob("*.jsonl")):
        raise types.InputError(
          f"{self.path} holds records but no {_CONFIG}; choose another run "
          "folder"
        )
      self._replace(_CONFIG, json_files.page(config))
      return
    changes = _differences(self.config(), config)
    if changes:
      raise types.InputError(
        f"{self.path} was started with another configuration ("
        + "; ".join(changes[:3])
        + "); choose another run folder, or remove this one"
      )

  def append(self, name: str, records: list[dict[str, Any]]) -> None:
    """Adds JSON lines, on disk before it returns in the first process.

    The others do not wait, so that devices stay busy; `read` does.
    """
    if not devices.is_first_process():
      return
    with open(self.path / name, "a", encoding="utf-8") as file:
      file.write(self._lines(records))
      file.flush()
      os.fsync(file.fileno())

  def read(self, name: str) -> list[dict[str, Any]]:
    """All JSON lines; a last line cut short by a kill is dropped for good."""
    path = self.path / name
    devices.on_first_process(lambda: _drop_cut_line(path))
    return super().read(name)

  def rewrite(self, name: str, records: list[dict[str, Any]]) -> None:
    """Replaces a file of JSON lines in one step."""
    self.write_text(name, self._lines(records))

  def keep(self, name: str, value: dict[str, Any]) -> None:
    """Writes a JSON file that `kept` reads again, in one step."""
    self.write_text(name, json_files.page(value, sealed=self._config[1]))

  def write_json(self, name: str, value: Any) -> None:
    """Writes a JSON file for others, in one step."""
    self.write_text(name, json_files.page(value, sealed=False))

  def write_text(self, name: str, text: str) -> None:
    """Writes a text file in one step: readers see the old or the new one."""
    devices.on_first_process(lambda: self._replace(name, text))

  def _lines(self, records: list[dict[str, Any]]) -> str:
    sealed = self._config[1]
    return "".join(json_files.line(r, sealed=sealed) for r in records)

  def _replace(self, name: str, text: str) -> None:
    files.write(self.path / name, text)


def worker(path: str | os.PathLike[str]) -> str | None:
  """Who works on a run folder, "process 123 on host h"; makes no file.

  Returns:
    None if no process does, or this one, or the file system has no locks.
  """
  return folder_lock.holder(paths.local(path, "the run folder"))


def _drop_cut_line(path: pathlib.Path) -> None:
  if path.exists():
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)


def provenance() -> dict[str, Any]:
  """Versions, commit and device: what a number needs to be trusted."""
  versions = {}
  for package in _PACKAGES:
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      versions[package] = "not installed"
  device = jax.devices()[0]
  return {
    "versions": versions,
    "python": platform.python_version(),
    "commit": _commit(),
    "platform": device.platform,
    "device": device.device_kind,
    "num_devices": jax.device_count(),
    "num_processes": jax.process_count(),
    "num_cpus": len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count(),
    "machine": platform.machine(),
  }


def _commit() -> str | None:
  """Commit of the checkout the package is run from, "+" if it was changed."""
  root = pathlib.Path(__file__).resolve().parents[1]
  if not (root / ".git").exists():
    return None

  def git(*arguments: str) -> str:
    return subprocess.run(
      ["git", "-C", str(root), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return None


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
  """ "name: old, now new" for each leaf in which two JSON values differ."""
  if isinstance(old, dict) and isinstance(new, dict):
    result = []
    for key in sorted(set(old) | set(new)):
      inner = f"{name}.{key}" if name else key
      result += _differences(old.get(key), new.get(key), inner)
    return result
  if old == new:
    return []
  return [f"{name} was {_short(old)}, now {_short(new)}"]


def _short(value: Any) -> str:
  text = json.dumps(value)
  return text if len(text) <= 40 else text[:37] + "..."
