"""Which classes are hard: accuracy by class of the data set."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsl_jax import diagnosis, types
from fsl_jax.report import rows, table, text

# More rows are not read; the extremes are.
MAX_ROWS = 100


class ClassRow(NamedTuple):
  """A class that was asked for in a section."""

  name: str
  accuracy: Mapping[str, float]  # by method: fraction of its queries, or NaN
  num_queries: int  # in the episodes finite under the last method


def of_section(
  section: rows.Section, class_names: Sequence[str]
) -> list[ClassRow]:
  """A row per class with queries, worst first by the last method.

  Args:
    section: the results.
    class_names: by class id of the data set.

  Raises:
    InputError: if there are fewer names than class ids.
  """
  largest = max(int(result.class_ids.max()) for result in section.values())
  if largest >= len(class_names):
    raise types.InputError(
      f"class_names must name every class of the data set: got "
      f"{len(class_names)} names, but an episode has class {largest}"
    )
  found = {
    name: diagnosis.class_accuracy(result, len(class_names))
    for name, result in section.items()
  }
  accuracy, count = next(reversed(found.values()))
  asked = np.flatnonzero(np.any([c for _, c in found.values()], axis=0))
  # NaN comes first: sorting would count it among the best.
  order = asked[np.argsort(np.nan_to_num(accuracy, nan=-1)[asked], stable=True)]
  return [
    ClassRow(
      name=class_names[i],
      accuracy={name: float(a[i]) for name, (a, _) in found.items()},
      num_queries=int(count[i]),
    )
    for i in order
  ]


def classes(class_rows: Sequence[ClassRow]) -> tuple[table.Table, str]:
  """The table of `of_section`, and a sentence on what is in it."""
  *_, last = class_rows[0].accuracy
  order = f"worst first by {rows.label(last)}"
  note = f"{text.counted(len(class_rows), 'class', 'classes')}, {order}."
  if len(class_rows) > MAX_ROWS:
    half = MAX_ROWS // 2
    note = (
      f"The {half} worst and the {half} best of {len(class_rows):,} classes by "
      f"{rows.label(last)}, {order}."
    )
    class_rows = [*class_rows[:half], *class_rows[-half:]]
  columns = [
    table.Column("class"),
    *(table.Column(rows.label(m), unit="%") for m in class_rows[0].accuracy),
    table.Column("queries"),
  ]
  cells = [
    [
      table.Cell(row.name),
      *(table.Cell(text.percent(a, 1), a) for a in row.accuracy.values()),
      table.Cell(f"{row.num_queries:,}", row.num_queries),
    ]
    for row in class_rows
  ]
  return table.Table(columns, cells), note
