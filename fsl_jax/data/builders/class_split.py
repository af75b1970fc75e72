"""Splits the classes of a user's own data into base, val and novel."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax import paths, types
from fsl_jax.data import listing

NOVEL_SHARE = 0.2
# Of the classes that are not novel: 0.15 of all, by default.
_VAL_OF_REST = 0.1875

MIN_NOVEL = 2
"""An episode has at least two classes."""

MIN_SPLIT = 20
"""With fewer classes the splits would be too small to be useful."""

Split = dict[str, list[str]]


def split(
  names: Sequence[str], options: Mapping[str, Any], where: str
) -> tuple[Split, str]:
  """Splits classes by a file, or else by a seed.

  Fewer than `MIN_SPLIT` classes are all novel, unless an option is given.

  Args:
    names: all classes, sorted.
    options: "split_file", or "seed", "val_share" and "novel_share"; None means
      absent.
    where: the source, for messages.

  Returns:
    Sorted names by split, of which base and val may be empty; and a
    description of the split.

  Raises:
    InputError: if there are fewer than two classes, or the options are wrong
      or do not match them.
  """
  if len(names) < MIN_NOVEL:
    raise types.InputError(
      f"{where} has {len(names)} class ({', '.join(names)}), expected at least "
      f"{MIN_NOVEL}"
    )
  given = {key: value for key, value in options.items() if value is not None}
  path = given.get("split_file")
  if path is None:
    chosen = _checked(given)
    if chosen or len(names) >= MIN_SPLIT:
      return seeded(names, **chosen), "split by a seed"
    how = (
      f"not split because {len(names)} classes are few (seed=0 splits them all "
      "the same)"
    )
    return {"base": [], "val": [], "novel": sorted(names)}, how
  others = sorted({"seed", "val_share", "novel_share"} & set(given))
  if others:
    raise types.InputError(
      f"split_file defines the split, so {', '.join(others)} cannot be "
      "given with it"
    )
  return from_file(names, path, where), "split by a file"


def seeded(
  names: Sequence[str],
  *,
  seed: int = 0,
  val_share: float | None = None,
  novel_share: float = NOVEL_SHARE,
) -> Split:
  """Splits classes by the SHA-256 of seed and name, the same on all machines.

  One class more or less moves few others. Novel gets at least two classes, the
  minimum of an episode; of the others, base gets the first and val the next, if
  their shares are above 0.

  Args:
    names: all classes, at least two.
    seed: whole and at least 0.
    val_share: fraction of the classes; None is 0.1875 of what novel leaves,
      which is 0.15 by default.
    novel_share: fraction of the classes, above 0; 1 makes all novel.

  Raises:
    InputError: if the shares are impossible.
  """
  if not 0 < novel_share <= 1:
    raise types.InputError(
      f"novel_share must be above 0 and at most 1, got {novel_share!r}"
    )
  if val_share is None:
    val_share = _VAL_OF_REST * (1 - novel_share)
  if not 0 <= val_share <= 1 - novel_share + 1e-9:
    raise types.InputError(
      "val_share must be at least 0 and, with novel_share, at most 1, got "
      f"{val_share!r} and {novel_share!r}"
    )
  n = len(names)
  spare = n - MIN_NOVEL
  min_base = int(1 - val_share - novel_share > 1e-9 and spare > 0)
  min_val = int(val_share > 0 and spare > min_base)
  num_novel = max(MIN_NOVEL, _rounded(novel_share * n))
  num_val = max(min_val, _rounded(val_share * n)) if min_val else 0
  if not min_base:
    num_novel = max(MIN_NOVEL, n - num_val)
  while num_novel + num_val > n - min_base:
    if num_novel - MIN_NOVEL >= num_val - min_val:
      num_novel -= 1
    else:
      num_val -= 1

  def key(name: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()

  order = sorted(names, key=key)
  return {
    "base": sorted(order[num_novel + num_val :]),
    "val": sorted(order[num_novel : num_novel + num_val]),
    "novel": sorted(order[:num_novel]),
  }


def from_file(names: Sequence[str], path: str, where: str) -> Split:
  """Splits classes by a JSON file.

  Args:
    names: all classes, in NFC.
    path: of {"base": [...], "val": [...], "novel": [...]}; base and val may be
      left out.
    where: the source, for messages.

  Raises:
    InputError: if it cannot be read, or does not name every class exactly once.
  """
  place = paths.local(path, "split_file")
  try:
    # Some editors on Windows begin files with a byte-order mark.
    text = place.read_text(encoding="utf-8-sig")
    given = json.loads(text, object_pairs_hook=_dict)
  except (OSError, ValueError, RecursionError) as error:
    raise types.InputError(
      f"cannot read the split file {place}: {error}"
    ) from error
  if not isinstance(given, dict) or not all(
    isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    for listed in given.values()
  ):
    raise types.InputError(
      f"the split file {place} must hold "
      '{"base": [...], "val": [...], "novel": [...]} with names of classes'
    )
  problems = [
    f"{key!r} is not a split, expected base, val, novel"
    for key in given
    if key not in listing.SPLITS
  ]
  result: Split = {s: [] for s in listing.SPLITS}
  seen: dict[str, str] = {}
  for which in listing.SPLITS:
    for name in given.get(which, ()):
      name = unicodedata.normalize("NFC", name)
      if name in seen:
        problems.append(f"{name!r} is in {seen[name]} and again in {which}")
      elif name not in names:
        problems.append(str(types.unknown_name("class", name, names)))
      seen[name] = which
      result[which].append(name)
  missing = [name for name in names if name not in seen]
  if missing:
    problems.append(f"it lacks {listing.shorten(list(map(repr, missing)))}")
  if len(result["novel"]) < MIN_NOVEL:
    problems.append(too_few_novel("it", result["novel"]))
  if problems:
    raise types.InputError(
      f"the split file {place} does not fit the {len(names)} classes of "
      f"{where}: {listing.shorten(problems)}"
    )
  return {which: sorted(listed) for which, listed in result.items()}


def too_few_novel(where: str, names: Sequence[str]) -> str:
  """A clause on fewer novel classes than an episode needs."""
  which = f"1 novel class ({names[0]!r})" if names else "no novel class"
  return f"{where} has {which}, expected at least {MIN_NOVEL}"


def _dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """A JSON object; of equal keys `json` would silently keep the last one."""
  result = dict(pairs)
  if len(result) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    raise ValueError(f"it has {', '.join(map(repr, twice))} more than once")
  return result


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
  result: dict[str, Any] = {}
  if "seed" in given:
    types.check_whole("seed", given["seed"])
    result["seed"] = given["seed"]
  for key in ("val_share", "novel_share"):
    if key in given:
      value = given[key]
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise types.InputError(f"{key} must be a number, got {value!r}")
      result[key] = value
  return result


def _rounded(number: float) -> int:
  # Halves up, without the rounding error of shares such as 0.15.
  return math.floor(round(number, 6) + 0.5)
