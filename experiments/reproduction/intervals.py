"""Rows of intervals over several cells, each figure as one SVG document."""

from collections.abc import Mapping, Sequence
from typing import Any

from fsl_jax.report import svg
from reproduction import wording

# Hollow where it was checked, a cross where it was not.
_PAPER_LOOKS: dict[bool, dict[str, Any]] = {
  True: {"marker": "D", "color": svg.FAINT_INK, "markerfacecolor": "white"},
  False: {"marker": "x", "color": svg.FAINT_INK, "markeredgewidth": 1.4},
}
_SHOT_LOOKS: dict[int, dict[str, Any]] = {
  1: {"marker": "o", "color": svg.RIGHT},
  5: {"marker": "s", "color": svg.WRONG},
}


def against_paper(results: Sequence[wording.Result]) -> str:
  """Table 1's cells: ours and the paper's with intervals, a panel per cell."""
  headings = [
    wording.title(result, wording.counts(result["rows"])) for result in results
  ]

  def build(figure):
    panels = _panels(figure, headings, [len(r["rows"]) for r in results])
    for result, panel in zip(results, panels, strict=True):
      rows = sorted(result["rows"], key=lambda row: row["shots"])
      looks = svg.looks([row["variant"] for row in rows])
      for y, row in enumerate(rows):
        colour = looks[row["variant"]].colour
        beside = 0.17 if row["paper"] else 0
        _interval(panel, row, y - beside, marker="o", color=colour)
        if row["paper"]:
          look = _PAPER_LOOKS[row["paper"]["verified"]]
          _interval(panel, row["paper"], y + beside, **look)
      names = [
        f"{wording.short(row['variant'])}, {wording.shots(row['shots'])}"
        for row in rows
      ]
      _name(panel, names)
    panels[-1].set_xlabel(f"Accuracy (%), mean {svg.INTERVAL}")
    keys = {
      "ours": {"marker": "o", "color": svg.INK},
      "paper": _PAPER_LOOKS[True],
      "appendix, unchecked": _PAPER_LOOKS[False],
    }
    _legend(figure, panels[0], keys)

  return svg.draw(
    build,
    size=_size(headings, [len(result["rows"]) for result in results]),
    title="Accuracy beside the paper's",
    description=" ".join(
      f"{wording.cell(result)}: "
      + "; ".join(_beside(row) for row in result["rows"])
      + "."
      for result in results
    ),
  )


def _beside(row: Mapping[str, Any]) -> str:
  text = (
    f"{wording.method(row)}, {wording.shots(row['shots'])}: "
    f"{wording.plus_minus(row['mean'], row['ci95'])} %"
  )
  paper = row["paper"]
  if paper is None:
    return text
  kind = "paper" if paper["verified"] else "appendix, unchecked"
  return f"{text}, {kind} {wording.plus_minus(paper['mean'], paper['ci95'])} %"


def ablations(results: Sequence[wording.Result]) -> str:
  """Paired differences to the reference, a panel per data set and network."""
  groups: dict[str, list[Mapping[str, Any]]] = {}
  for result in results:
    pairs = [p for p in result["paired"] if p["against"] == "reference"]
    if pairs:
      groups.setdefault(wording.title(result), []).extend(pairs)
  headings = [f"{name}\n{wording.counts(ps)}" for name, ps in groups.items()]
  changes = [
    list(dict.fromkeys(pair["variant"] for pair in pairs))
    for pairs in groups.values()
  ]

  def build(figure):
    panels = _panels(figure, headings, list(map(len, changes)))
    for pairs, names, panel in zip(
      groups.values(), changes, panels, strict=True
    ):
      for pair in pairs:
        shots = 5 if pair["shots"] == 5 else 1
        y = names.index(pair["variant"]) + (0.17 if shots == 5 else -0.17)
        _interval(panel, pair, y, **_SHOT_LOOKS[shots])
      _name(panel, [svg.fit(n.replace("_", " "), 90, 8.5) for n in names])
      panel.axvline(0, color=svg.INK, linewidth=1)
    panels[-1].set_xlabel(f"Difference in accuracy (pp), mean\n{svg.INTERVAL}")
    keys = {wording.shots(shots): look for shots, look in _SHOT_LOOKS.items()}
    _legend(figure, panels[0], keys)

  return svg.draw(
    build,
    size=_size(headings, list(map(len, changes))),
    title="Ablations: difference to the reference",
    description=" ".join(
      f"{' '.join(name.split())}: "
      + "; ".join(
        f"{pair['variant']}, {wording.shots(pair['shots'])} "
        f"{wording.signed(pair['mean'], pair['ci95'])} points, "
        f"n = {pair['num_episodes']:,}"
        for pair in pairs
      )
      + "."
      for name, pairs in groups.items()
    ),
  )


def _heights(headings: Sequence[str], num_rows: Sequence[int]) -> list[float]:
  """Inches of each panel with its heading."""
  return [
    0.25 * rows + 0.17 * len(heading.splitlines()) + 0.15
    for heading, rows in zip(headings, num_rows, strict=True)
  ]


def _size(
  headings: Sequence[str], num_rows: Sequence[int]
) -> tuple[float, float]:
  # Three lines of legend, and the axis.
  rest = 3 * svg.LEGEND_LINE_IN + 0.6
  return svg.WIDTH_IN, sum(_heights(headings, num_rows)) + rest


def _panels(figure: Any, headings: Sequence[str], num_rows: Sequence[int]):
  panels = figure.subplots(
    len(headings), 1, sharex=True, squeeze=False, height_ratios=num_rows
  )[:, 0]
  for panel, heading in zip(panels, headings, strict=True):
    panel.set_title(heading, fontsize=9)
  return panels


def _interval(
  panel: Any, row: Mapping[str, Any], y: float, **look: Any
) -> None:
  if wording.is_number(row["mean"]):
    panel.errorbar(
      row["mean"],
      y,
      xerr=row["ci95"],
      markersize=5,
      capsize=2.5,
      elinewidth=1.5,
      **look,
    )


def _name(panel: Any, names: Sequence[str]) -> None:
  panel.set_yticks(range(len(names)), names)
  panel.set_ylim(len(names) - 0.5, -0.5)
  panel.tick_params(axis="y", length=0, labelcolor=svg.INK)
  panel.spines["left"].set_visible(False)
  panel.grid(axis="x")


def _legend(
  figure: Any, panel: Any, looks: Mapping[str, Mapping[str, Any]]
) -> None:
  keys = [
    panel.plot([], [], linestyle="none", label=label, **look)[0]
    for label, look in looks.items()
  ]
  svg.legend(figure, keys)
