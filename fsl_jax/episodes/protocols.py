"""Protocols: the numbers of classes, support and query images of episodes.

A number that varies between episodes or classes is given by a rule. In flags
and in records, rules are text of the form `NAME:VALUE:VALUE`:
`range:5:20`, `long_tail:50:1`, `dirichlet:75:2`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from fsl_jax import types
from fsl_jax.episodes import rules

Ways = int | Literal["all"] | rules.Range
Shots = (
  int | rules.Range | rules.Uneven | rules.LongTail | rules.MetaDatasetShots
)
Queries = (
  int
  | rules.Range
  | rules.Dirichlet
  | rules.Scattered
  | rules.SomeClasses
  | rules.Rest
  | rules.MetaDatasetQueries
)

_RULES = {
  "ways": ("range",),
  "shots": ("range", "uneven", "long_tail", "meta_dataset"),
  "queries": (
    "range",
    "dirichlet",
    "scattered",
    "some_classes",
    "rest",
    "meta_dataset",
  ),
}


@dataclasses.dataclass(frozen=True)
class Protocol:
  """The distribution of episodes. In section 4.1: 5 ways, 1 or 5 shots.

  Attributes:
    ways: N, classes per episode; "all" classes of the split; or a
      `rules.Range`, capped at the number of classes.
    shots: K, support images per class, or a rule.
    queries: Q, query images per class, or a rule.
    small_classes: how to treat classes with too few images for an episode:
      "refuse" the data set, or "skip" the classes.
    groups: "apart" draws the support and the queries of a class from different
      groups of images, see `types.ClassIndexed.group_names`; "SUPPORT:QUERY",
      names of two groups, draws the support from one and the queries from the
      other; "any" ignores groups.
    copies: "apart" draws at most one of several equal images of a class into
      an episode; "any" ignores copies.
    reuse: whether an image may occur in several episodes. If not, episodes are
      independent given the images, and their number is limited.
  """

  ways: Ways = 5
  shots: Shots = 1
  queries: Queries = 15
  small_classes: Literal["refuse", "skip"] = "refuse"
  groups: str = "any"
  copies: Literal["any", "apart"] = "any"
  reuse: bool = True

  def __post_init__(self) -> None:
    for name, known in _RULES.items():
      value = getattr(self, name)
      if isinstance(value, rules.Rule):
        allowed = {rules.by_name(name, rule) for rule in known}
        if type(value) not in allowed:
          raise types.InputError(
            f"{name} cannot follow the rule {value.text()!r}"
          )
      elif not (name == "ways" and value == "all"):
        types.check_whole(name, value, at_least=1)
    for name, choices in (
      ("small_classes", ("refuse", "skip")),
      ("copies", ("any", "apart")),
    ):
      if getattr(self, name) not in choices:
        raise types.unknown_name(name, str(getattr(self, name)), choices)
    if self.groups not in ("any", "apart"):
      support, _, query = str(self.groups).partition(":")
      if not support or not query or support == query:
        raise types.InputError(
          "groups must be any, apart or SUPPORT:QUERY, two names of groups, "
          f"got {self.groups!r}"
        )
    takes_rest = isinstance(self.queries, rules.Rest)
    if self.groups == "apart" and (
      takes_rest
      or isinstance(self.shots, rules.MetaDatasetShots)
      or isinstance(self.queries, rules.MetaDatasetQueries)
    ):
      rule = "rest" if takes_rest else "meta_dataset"
      raise types.InputError(
        "groups=apart needs to know what an episode may ask of a class, which "
        f"the rule {rule} takes from the data"
      )
    if takes_rest and isinstance(self.shots, rules.MetaDatasetShots):
      raise types.InputError(
        "queries=rest leaves nothing to the rule meta_dataset of the shots, "
        "which takes what the queries leave"
      )
    if not self.reuse and not (self.is_fixed and self.groups == "any"):
      raise types.InputError(
        "episodes that share no image need fixed numbers of ways, shots and "
        "queries, and images of any group"
      )

  @property
  def group_names(self) -> tuple[str, str] | None:
    """The groups of support and of queries, if `groups` names two."""
    if self.groups in ("any", "apart"):
      return None
    support, _, query = self.groups.partition(":")
    return support, query

  @property
  def is_fixed(self) -> bool:
    """Whether all episodes have the same sizes."""
    return all(
      isinstance(getattr(self, name), int)
      for name in ("ways", "shots", "queries")
    )

  def values(self) -> dict[str, Any]:
    """JSON values for `from_values`; options only if they are not defaults."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name in _RULES:
        result[field.name] = (
          value.text() if isinstance(value, rules.Rule) else value
        )
      elif value != field.default:
        result[field.name] = value
    return result

  @property
  def name(self) -> str:
    """A short name for headings, such as "5-way 1-shot"."""
    ways = (
      f"{self.ways}-way"
      if isinstance(self.ways, int)
      else "all classes"
      if self.ways == "all"
      else f"{self.ways.low} to {self.ways.high} ways"
    )
    shots = (
      f"{self.shots}-shot"
      if isinstance(self.shots, int)
      else self.shots.describe("shot")
    )
    return (
      f"{ways} {shots}" if isinstance(self.shots, int) else (f"{ways}, {shots}")
    )

  @property
  def text(self) -> str:
    """The remaining description, such as "15 queries per class"."""
    if isinstance(self.queries, int):
      plural = "query" if self.queries == 1 else "queries"
      parts = [f"{self.queries} {plural} per class"]
    else:
      parts = [self.queries.describe("query")]
    if self.small_classes == "skip":
      parts.append("small classes skipped")
    if self.groups == "apart":
      parts.append("support and queries from different groups")
    if (names := self.group_names) is not None:
      parts.append(f"support from {names[0]}, queries from {names[1]}")
    if self.copies == "apart":
      parts.append("no copies of an image")
    if not self.reuse:
      parts.append("no image in two episodes")
    return ", ".join(parts)


def make(**values: Any) -> Protocol:
  """A protocol from the values of flags and records, including rules as text.

  Raises:
    InputError: for a text that is not a rule, or a value out of range.
  """
  return Protocol(
    **{
      name: parse(name, value)
      if name in _RULES and isinstance(value, str)
      else value
      for name, value in values.items()
    }
  )


def from_values(values: Mapping[str, Any]) -> Protocol:
  """The protocol whose `values()` these are."""
  return make(**values)


def parse(name: str, text: str) -> Any:
  """Parses the text of `ways`, `shots` or `queries`.

  Args:
    name: "ways", "shots" or "queries".
    text: a whole number, a rule such as "range:5:20", or for ways "all".

  Raises:
    InputError: listing the known rules.
  """
  if name == "ways" and text == "all":
    return text
  try:
    return int(text)
  except ValueError:
    pass
  head, *arguments = text.split(":")
  if head not in _RULES[name]:
    known = "; ".join(
      rules.by_name(name, rule).usage(rule) for rule in _RULES[name]
    )
    also = ", all" if name == "ways" else ""
    raise types.InputError(
      f"{name} must be a whole number{also} or a rule, got {text!r}; "
      f"rules: {known}"
    )
  return rules.by_name(name, head).parse(arguments, text)


META_DATASET = {
  "ways": "range:5:50",
  "shots": "meta_dataset",
  "queries": "meta_dataset",
}
"""Values of the variable sampler of Meta-Dataset (Triantafillou et al., ICLR
2020, section 3.2), without its class hierarchies."""
