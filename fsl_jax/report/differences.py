"""The figure of a comparison: differences with their intervals."""

from collections.abc import Sequence

from fsl_jax.report import comparison, intervals, svg, text


def accuracy_differences(
  pairs: Sequence[comparison.Pair], names: tuple[str, str]
) -> str:
  """Paired difference and 95 % interval per method, a panel per protocol.

  Raises:
    InputError: as `comparison.check`.
  """
  comparison.check(pairs, names)
  found = [comparison.of_pair(pair) for pair in pairs]
  headings = [text.heading(pair[0]) for pair in pairs]
  looks = svg.looks(list(dict.fromkeys(r.name for rows in found for r in rows)))

  def of_row(row: comparison.Row) -> intervals.Row:
    mean, ci95 = row.difference.mean, row.difference.ci95
    numbers = text.plus_minus(mean, ci95, sign="+").replace("-", "−")
    return intervals.Row(row.label, numbers, mean, ci95, looks[row.name].colour)

  return intervals.draw(
    [
      intervals.Panel(heading, [of_row(row) for row in rows])
      for heading, rows in zip(headings, found, strict=True)
    ],
    x_label="Difference (pp)",
    with_zero=True,
    title=f"{names[0]} minus {names[1]}",
    description=" ".join(
      f"{heading}: "
      + "; ".join(f"{r.label}: {comparison.verdict(r, names)}" for r in rows)
      + "."
      for heading, rows in zip(headings, found, strict=True)
    ),
  )
