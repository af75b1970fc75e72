"""The folder of one run: configuration, provenance, records, results.

A run that was killed continues when the same command is given again. That is
safe only if nothing that shapes the numbers has changed, so the folder holds
the resolved configuration and refuses another one.

Of several processes of a run the first one writes, and all read: the folder
must be on storage that all of them see. Each method is called by all processes
alike. Two runs cannot share a folder: the first process locks it until it ends.
"""

import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax

from fsl_jax import devices, folder_lock, types

_PACKAGES = ("fsl_jax", "jax", "jaxlib", "flax", "optax", "numpy")


class RunFolder:
  """Files of one run.

  `config.json` is the resolved configuration, `provenance.json` the versions,
  commit and device of every start. Records are JSON lines.
  """

  def __init__(self, path: str | pathlib.Path, config: dict[str, Any]):
    """Makes the folder, or opens it again with the same configuration.

    Args:
      path: folder; its parents are made.
      config: JSON values; everything that shapes the numbers.

    Raises:
      InputError: if the folder was made with another configuration, holds
        something else, or is being worked on by another process.
    """
    self.path = pathlib.Path(path)
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
      starts = self.read_json("provenance.json") or []
    except types.InputError:
      if new:
        folder_lock.release(self.path)
      raise
    self._replace("provenance.json", _json([*starts, provenance()]))

  def _keep_config(self, config: dict[str, Any]) -> None:
    stored = self.read_json("config.json")
    if stored is None:
      if any(self.path.glob("*.jsonl")):
        raise types.InputError(
          f"{self.path} holds records but no config.json; choose another run "
          "folder"
        )
      self._replace("config.json", _json(config))
      return
    changes = _differences(stored, config)
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
      file.write(_lines(records))
      file.flush()
      os.fsync(file.fileno())

  def read(self, name: str) -> list[dict[str, Any]]:
    """All JSON lines; a last line cut short by a kill is dropped for good.

    Raises:
      InputError: if any other line cannot be read.
    """
    path = self.path / name
    devices.on_first_process(lambda: _drop_cut_line(path))
    if not path.exists():
      return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
      try:
        records.append(json.loads(line))
      except ValueError as error:
        raise types.InputError(
          f"line {number} of {path} is damaged ({error})"
        ) from error
    return records

  def rewrite(self, name: str, records: list[dict[str, Any]]) -> None:
    """Replaces a file of JSON lines in one step."""
    self.write_text(name, _lines(records))

  def write_json(self, name: str, value: Any) -> None:
    """Writes a JSON file in one step."""
    self.write_text(name, _json(value))

  def read_json(self, name: str) -> Any:
    """The value, or None if there is no such file."""
    path = self.path / name
    try:
      return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
      return None
    except ValueError as error:
      raise types.InputError(f"{path} is damaged ({error})") from error

  def write_text(self, name: str, text: str) -> None:
    """Writes a text file in one step: readers see the old or the new one."""
    devices.on_first_process(lambda: self._replace(name, text))

  def _replace(self, name: str, text: str) -> None:
    path = self.path / name
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def worker(path: str | pathlib.Path) -> str | None:
  """Who works on a run folder, "process 123 on host h"; makes no file.

  Returns:
    None if it is nobody, or this process itself, and where the file system
    cannot tell.
  """
  return folder_lock.holder(pathlib.Path(path))


def _drop_cut_line(path: pathlib.Path) -> None:
  if path.exists():
    data = path.read_bytes()
    os.truncate(path, data.rfind(b"\n") + 1)


def _json(value: Any) -> str:
  return json.dumps(value, indent=2, allow_nan=False) + "\n"


def _lines(records: list[dict[str, Any]]) -> str:
  # NaN is no JSON, and other readers stumble over it.
  return "".join(json.dumps(r, allow_nan=False) + "\n" for r in records)


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
