"""The folder of one run: configuration, provenance, records, results.

A run that was killed continues when the same command is given again. That is
safe only if nothing that shapes the numbers has changed, so the folder holds
the resolved configuration and refuses another one.
"""

import json
import os
import pathlib
import platform
import subprocess
from importlib import metadata
from typing import Any

import jax

from fsl_jax import types

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
      InputError: if the folder was made with another configuration, or holds
        something else.
    """
    self.path = pathlib.Path(path)
    if self.path.exists() and not self.path.is_dir():
      raise types.InputError(f"{self.path} is a file, not a run folder")
    self.path.mkdir(parents=True, exist_ok=True)
    self._open_config(json.loads(json.dumps(config)))
    starts = self.read_json("provenance.json") or []
    self.write_json("provenance.json", [*starts, provenance()])

  def _open_config(self, config: dict[str, Any]) -> None:
    stored = self.read_json("config.json")
    if stored is None:
      if any(self.path.glob("*.jsonl")):
        raise types.InputError(
          f"{self.path} holds records but no config.json; choose another run "
          "folder"
        )
      self.write_json("config.json", config)
      return
    changes = _differences(stored, config)
    if changes:
      raise types.InputError(
        f"{self.path} was started with another configuration ("
        + "; ".join(changes[:3])
        + "); choose another run folder, or remove this one"
      )

  def append(self, name: str, records: list[dict[str, Any]]) -> None:
    """Adds JSON lines, on disk before it returns."""
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
    if not path.exists():
      return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
      with open(path, "r+b") as file:
        file.truncate(len(whole))
    records = []
    for number, line in enumerate(whole.splitlines(), 1):
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
    self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

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
    path = self.path / name
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


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
  devices = jax.devices()
  return {
    "versions": versions,
    "python": platform.python_version(),
    "commit": _commit(),
    "platform": devices[0].platform,
    "device": devices[0].device_kind,
    "num_devices": len(devices),
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
