"""The classes of CIFAR-100, and what every form of it is brought to."""

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import types
from fsl_jax.data import class_lists, listing
from fsl_jax.data.containers import tree

COARSE_OF: Mapping[str, str] = class_lists.load("cifar100")["coarse_of_fine"]
"""Super-class of every class."""

FINE = tuple(COARSE_OF)
"""The class of every fine label; they are in alphabetical order."""

COARSE = tuple(sorted(set(COARSE_OF.values())))
"""The super-class of every coarse label."""

# Images of the published files; each has as many of every class.
NUM_IMAGES = {"train": 50_000, "test": 10_000}

EDGE_PX = 32


class Found(NamedTuple):
  """CIFAR-100, train and test joined.

  Attributes:
    form: as of `listing.Listing`.
    num_images: by fine class.
    entries: all pictures of some fine classes.
  """

  form: str
  num_images: Mapping[str, int]
  entries: Callable[[Collection[str]], Iterator[listing.Entry]]


def key(name: str) -> str:
  """What is left of a name when spelling is ignored."""
  return "".join(c for c in name.casefold() if c.isalnum())


_OF_KEY = {key(name): name for name in (*FINE, *COARSE)}


def canonical(name: str) -> str | None:
  """The class or super-class that is spelt in some way, or None."""
  return _OF_KEY.get(key(name))


def unknown(name: str) -> str:
  """Says that a name is no class of CIFAR-100, and which it resembles."""
  near = difflib.get_close_matches(key(name), _OF_KEY, n=1)
  hint = f" (did you mean {_OF_KEY[near[0]]!r}?)" if near else ""
  return f"unknown class {name!r}{hint}"


def positions(
  names: Sequence[str], known: Sequence[str], what: str
) -> tuple[list[int], list[str]]:
  """Brings label names to the canonical ones.

  Args:
    names: by label, in any spelling.
    known: canonical ones.
    what: where the names stand, for the problems.

  Returns:
    For each label the position in `known`, and what is wrong, if anything is.
  """
  found, problems = [], []
  for name in names:
    of_name = canonical(name)
    if of_name in known:
      found.append(known.index(of_name))
    else:
      problems.append(f"{what}: {unknown(name)}")
  missing = [name for i, name in enumerate(known) if i not in found]
  if missing:
    problems.append(f"{what} lacks {', '.join(missing)}")
  if len(set(found)) < len(found):
    problems.append(f"{what} has classes twice")
  return found, problems


def check_coarse(fine: np.ndarray, coarse: np.ndarray) -> list[str]:
  """What is wrong between the labels of images, given by position.

  Args:
    fine: [n] in `FINE`.
    coarse: [n] in `COARSE`.
  """
  expected = np.array([COARSE.index(COARSE_OF[name]) for name in FINE])[fine]
  apart = np.flatnonzero(expected != coarse)
  if not len(apart):
    return []
  first = apart[0]
  return [
    f"{len(apart):,} fine and coarse labels disagree, such as "
    f"{FINE[fine[first]]} with {COARSE[coarse[first]]} of image {first}"
  ]


def count(fine: Sequence[np.ndarray]) -> dict[str, int]:
  """Images of every class, from positions in `FINE`."""
  counts = np.bincount(np.concatenate(fine), minlength=len(FINE))
  return dict(zip(FINE, counts.tolist(), strict=True))


def show(place: tree.Tree, name: str) -> str:
  """A file or folder of a tree, for messages."""
  if place.kind == "folder":
    return str(place.path / name)
  return f"{name} in {place.path}" if name else str(place.path)


def refuse(where: str, form: str, problems: list[str]) -> None:
  """Raises InputError if there are problems, naming all of them."""
  if problems:
    raise types.InputError(
      f"{where} ({form}) is not CIFAR-100 as published: "
      f"{listing.shorten(problems)}"
    )
