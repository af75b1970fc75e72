"""Tables of results and of curves as Markdown, made from their files alone.

Each public function takes what `page.load` returns and gives Markdown without a
newline at its end; one sentence if there are no such results.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import hardness
from reproduction import wording
from reproduction.wording import number, plus_minus

_CELL = "data, network, trained on"


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
  """The verdict of each row; where there is none, the number of its reason in
  the note that is also returned."""
  reasons = [row["reason"] for row in rows if row["verdict"] == "none"]
  numbers = {why: n for n, why in enumerate(dict.fromkeys(reasons), 1)}
  words = [
    f"none ({numbers[row['reason']]})"
    if row["verdict"] == "none"
    else row["verdict"]
    for row in rows
  ]
  note = "; ".join(f"({n}) {why}" for why, n in numbers.items())
  return words, f"No verdict: {note}." if note else ""


def of_cell(result: wording.Result) -> str:
  """The tables that one result fills, for a terminal."""
  target = result["target"]
  makers = {
    "rows": lambda: outcomes([result], target),
    "paired": lambda: paired([result], target),
    "lines": lambda: lines([result]),
    "times": lambda: compute([result]),
  }
  return "\n\n".join(make() for name, make in makers.items() if result[name])


def outcomes(results: Sequence[wording.Result], target: str) -> str:
  """A target beside the paper's: a row per cell, protocol and method."""
  found = wording.of(results, target)
  if not found:
    return wording.nothing(target)
  placed = wording.placed(found, "rows")
  verdicts, note = _verdicts([row for _, row in placed])
  is_table1 = target == "table1"  # always 5 ways, 15 queries
  return wording.table(
    [
      *(_CELL, "method", "ways", "shots", "queries", "ours, %", "n"),
      *("paper, %", "difference", "verdict"),
    ],
    [
      [
        *(place, wording.method(row), "" if is_table1 else str(row["ways"])),
        *(str(row["shots"]), "" if is_table1 else str(row["queries"])),
        f"{plus_minus(row['mean'], row['ci95'])} ({number(row['std'], '.1f')})",
        wording.episodes(row),
        _paper(row["paper"]),
        "" if row["difference"] is None else wording.signed(row["difference"]),
        verdict,
      ]
      for (place, row), verdict in zip(placed, verdicts, strict=True)
    ],
    "Accuracy in percent: mean ± 1.96 std / √n over n episodes (std over "
    "episodes).",
    *(_query_use(found), note),
  )


def _paper(paper: Mapping[str, Any] | None, form: str = ".2f") -> str:
  if paper is None:
    return ""
  text = plus_minus(paper["mean"], paper["ci95"], form)
  return wording.published(text, paper["verified"])


def paired(results: Sequence[wording.Result], target: str = "table1") -> str:
  """Differences of methods on the same episodes, by default of Table 1."""
  found = wording.of(results, target)
  if not found:
    return wording.nothing(target)
  placed = wording.placed(found, "paired")
  verdicts, note = _verdicts([pair for _, pair in placed])
  return wording.table(
    [_CELL, "difference", "shots", "ours, points", "n", "paper", "verdict"],
    [
      [
        place,
        " minus ".join(wording.short(pair[k]) for k in ("variant", "against")),
        str(pair["shots"]),
        wording.signed(pair["mean"], pair["ci95"]),
        f"{pair['num_episodes']:,}",
        ""
        if pair["paper"] is None
        else wording.published(wording.signed(pair["paper"]), pair["verified"]),
        verdict,
      ]
      for (place, pair), verdict in zip(placed, verdicts, strict=True)
    ],
    "Mean ± 1.96 std / √n of the differences over the same n episodes. SBI: "
    "support-based initialisation, FT: fine-tuning, TFT: transductive "
    "fine-tuning.",
    note,
  )


def readme(results: Sequence[wording.Result]) -> str:
  """Table 1 in short: a row per cell of the full budget and method.

  The paper's numbers stand beside those of its own network, WRN-28-10.
  """
  found = [
    result
    for result in wording.of(results, "table1")
    if result["budget"]["name"] == "full"
  ]
  if not found:
    return wording.nothing("table1")
  lines = []
  for result in found:
    methods = {row["variant"]: wording.method(row) for row in result["rows"]}
    known = result["backbone"] == "wrn_28_10"
    for position, (variant, method) in enumerate(methods.items()):
      line, counts = [wording.cell(result) * (not position), method], []
      for row in _at_shots(result["rows"], variant):
        if row is None:
          line += ["", ""]
          continue
        line.append(plus_minus(row["mean"], row["ci95"], ".1f"))
        line.append(_paper(row["paper"], ".1f") if known else "")
        counts.append(wording.episodes(row))
      lines.append([*line, wording.listed(counts)])
  made = [result["provenance"] for result in found]
  protocol = wording.listed(
    f"{row['ways']} ways and {row['queries']} queries per class"
    for result in found
    for row in result["rows"]
  )
  return wording.table(
    [
      *(_CELL, "method", "1 shot, %", "paper", "5 shots, %", "paper"),
      "n (1, 5 shots)",
    ],
    lines,
    f"Accuracy on novel classes, {protocol}; ± is 1.96 std / √n over n "
    f"episodes. Commit {_commits(made)}; "
    f"jax {wording.listed(p['versions']['jax'] for p in made)}; "
    f"{wording.listed(d for p in made for d in p['devices'])}.",
    "Where n differs, so do the episodes: compare methods by the paired "
    "differences in docs/reproduction.md.",
    _query_use(found),
  )


def _at_shots(rows: Sequence[Mapping[str, Any]], variant: str) -> list[Any]:
  """The rows of a variant at 1 and at 5 shots; None where there is none."""
  found = {row["shots"]: row for row in rows if row["variant"] == variant}
  return [found.get(1), found.get(5)]


def _commits(made: Iterable[Mapping[str, Any]]) -> str:
  """The first letters of each, and "+" where the checkout was changed."""
  return wording.listed(
    commit.rstrip("+")[:7] + "+" * commit.endswith("+")
    for one in made
    for commit in one["commits"]
    if commit
  )


def _query_use(results: Sequence[wording.Result]) -> str:
  uses = wording.listed(
    f"{wording.method(row)} ({row['query_use']})"
    for result in results
    for row in result["rows"]
  )
  return f"Use of the queries: {uses}."


def lines(results: Sequence[wording.Result]) -> str:
  """The lines of figure 3: area and slope per cell and method."""
  found = wording.of(results, "figure3")
  if not found:
    return wording.nothing("figure3")

  def cells(place, result, line):
    slopes = [p["slope"] for p in line["protocols"]]
    slopes = [slope for slope in slopes if wording.is_number(slope)]
    ends = [f"{end(slopes):.1f}" for end in (min, max)] if slopes else []
    return [
      place,
      wording.method({"method": line["variant"], **line}),
      number(line["area"], ".0f"),
      _area_difference(result, line["variant"]),
      "" if line["paper_area"] is None else f"({line['paper_area']:g})",
      number(line["slope"], ".1f"),
      " to ".join(dict.fromkeys(ends)),
      number(line["intercept"], ".1f"),
      number(line["num_episodes"], ",d"),
    ]

  return wording.table(
    [
      *(_CELL, "method", "area, % nats", "less that of initialisation"),
      *("paper", "slope, %/nat", "within a protocol", "at 0 nats, %", "n"),
    ],
    [
      cells(place, result, line)
      for result in found
      for place, line in wording.placed([result], "lines")
    ],
    f"Hardness by the {wording.listed(r['hardness'] for r in found)}, at the "
    "size of the data; the paper's area, in brackets, is of the hardness by a "
    "ResNet-152.",
    "Least squares through the n episodes of all protocols; area: between the "
    "line and both axes; less that of initialisation: with a 95 % bootstrap "
    "interval, paired over the episodes. Within a protocol: the least and the "
    "greatest slope of lines through the episodes of one protocol each.",
  )


def _area_difference(result: wording.Result, variant: str) -> str:
  """To the initialisation, on the same episodes."""

  def of(name, key):
    return [
      np.array(point[key], np.float64)
      for point in result["points"]
      if point["variant"] == name
    ]

  others = of("support_init", "accuracy")
  if variant == "support_init" or not others:
    return ""
  found = hardness.area_difference(
    of(variant, "hardness"),
    [percent / 100 for percent in of(variant, "accuracy")],
    [percent / 100 for percent in others],
  )
  return wording.area_difference(found and found._asdict())


def ablations(results: Sequence[wording.Result]) -> str:
  """One change each: accuracy, and the paired difference to the reference."""
  found = wording.of(results, "ablation")
  if not found:
    return wording.nothing("ablation")
  rows = []
  for result in found:
    name = result["ablation"]
    what = f"`{name}`: {wording.ABLATIONS.get(name, name)}"
    pairs = {
      (p["variant"], p["shots"]): p for p in wording.to_reference(result)
    }
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
      if variant in ("reference", "support_init"):
        continue
      line, counts = [what, wording.cell(result)], []
      for row in _at_shots(result["rows"], variant):
        if row is None:
          line += ["", ""]
          continue
        pair = pairs.get((variant, row["shots"]))
        line.append(plus_minus(row["mean"], row["ci95"]))
        line.append(wording.signed(pair["mean"], pair["ci95"]) if pair else "")
        counts.append(wording.episodes(row))
      rows.append([*line, wording.listed(counts)])
  return wording.table(
    [
      *("change", _CELL, "1 shot, %", "difference", "5 shots, %"),
      *("difference", "n (1, 5 shots)"),
    ],
    rows,
    "Transductive fine-tuning with one change each. Difference: in points, to "
    "the unchanged method on the same episodes; ± is 1.96 std / √n.",
  )


def compute(results: Sequence[wording.Result]) -> str:
  """Seconds per episode beside the paper's."""
  found = wording.of(results, "compute")
  if not found:
    return wording.nothing("compute")
  return wording.table(
    [
      *(_CELL, "what", "episodes in one call", "ours, s per episode"),
      *("paper, s", "our device"),
    ],
    [
      [
        place,
        time["what"],
        f"{time['episodes_together']}",
        number(time["seconds_per_episode"], ".3g"),
        "" if time["paper"] is None else f"{time['paper']:g}",
        wording.listed(result["provenance"]["devices"]),
      ]
      for result in found
      for place, time in wording.placed([result], "times")
    ],
  )


def provenance(results: Sequence[wording.Result]) -> str:
  """Where every number comes from: a row per file of results."""
  if not results:
    return "Nothing was measured yet."

  def digest(of_what, key):
    return f"`{of_what[key][:12]}`" if of_what and of_what.get(key) else ""

  return wording.table(
    [
      *("cell", "command", "date", "commit", "device", "hours"),
      *("checkpoint", "data"),
    ],
    [
      [
        ", ".join([f"`{result['name']}`", *wording.budget(result)]),
        f"`{made['command']}`",
        made["date"],
        _commits([made]),
        wording.listed(made["devices"]),
        _hours(made["hours"]),
        wording.listed(
          digest(network, "digest") for network in made["networks"].values()
        ),
        digest(made.get("data"), "fingerprint"),
      ]
      for result in results
      for made in [result["provenance"]]
    ],
    "Hours: of the steps of pre-training and of all methods; n/a where not all "
    "of it was timed. Checkpoint and data: the first 12 letters of their "
    "digests.",
  )


def _hours(hours: Mapping[str, float | None]) -> str:
  """Of pre-training and of the methods together, "1.20 + 0.31"."""
  if not hours:
    return ""
  methods = [spent for what, spent in hours.items() if what != "pretrain"]
  known = [spent for spent in methods if spent is not None]
  total = sum(known) if len(known) == len(methods) else None
  return f"{number(hours.get('pretrain'))} + {number(total)}"


def curves(kept: Sequence[Mapping[str, Any]]) -> str:
  """A row per point: initialisation, and what the others gain over it."""
  if not kept:
    return wording.nothing("curves")

  def gain(row):
    if row is None or row["difference"] is None:
      return ""
    of_row = row["difference"]
    return wording.signed(100 * of_row["mean"], 100 * of_row["ci95"])

  rows = []
  for curve in kept:
    for position, point in enumerate(curve["points"]):
      methods = point["methods"]
      start = methods.get("support_init")
      rows.append(
        [
          f"{wording.curve_title(curve)}: {curve['curve']}" * (not position),
          point["label"],
          f"{point['name']}, {point['text']}",
          f"{point['num_classes']}",
          plus_minus(100 * start["mean"], 100 * start["ci95"]) if start else "",
          *map(gain, map(methods.get, ("finetune", "transductive_finetune"))),
          f"{min(row['num_finite'] for row in methods.values()):,}",
        ]
      )
  table = wording.table(
    [
      *("data, network: varied", "value", "episodes", "classes"),
      *("initialisation, %", "fine-tuning, pp", "transductive, pp", "n"),
    ],
    rows,
    "Mean ± 1.96 std / √n over n episodes; pp: difference to the "
    "initialisation on the same episodes, percentage points. Classes: those "
    "with enough images. "
    "Fine-tuning and initialisation use no query, transductive fine-tuning "
    "all jointly (entropy and batch statistics).",
    f"Commit {_commits(kept)}; {wording.listed(c['device'] for c in kept)}.",
  )
  commands = "\n".join(f"    {curve['command']}" for curve in kept)
  return f"{table}\n\n{commands}"


def curve_lines(kept: Sequence[Mapping[str, Any]]) -> str:
  """Accuracy against hardness: a row per data set and method."""
  found = [curve for curve in kept if curve["curve"] == "hardness"]
  if not found:
    return "Nothing was measured yet."

  def between(line, key, scale, form):
    interval = line.get("interval")
    if not interval or None in interval[key]:
      return "no interval"
    low, high = (scale * value for value in interval[key])
    return f"{low:{form}} to {high:{form}}"

  rows = [
    [
      wording.curve_title(curve) if not position else "",
      wording.method({"method": name, "variant": name}),
      f"{line['area']:.0f} ({between(line, 'area', 1, '.0f')})",
      wording.area_difference(line.get("area_difference")),
      f"{100 * line['slope']:.1f} ({between(line, 'slope', 100, '.1f')})",
      f"{line['num_episodes']:,}",
    ]
    for curve in found
    for position, (name, line) in enumerate(curve["lines"].items())
    if line is not None and line["area"] is not None
  ]
  extractors = wording.listed(
    f"{c['hardness']['extractor']} at {c['hardness']['image_size_px']} px"
    for c in found
  )
  return wording.table(
    [
      *("data, network", "method", "area, % nats"),
      *("less that of initialisation", "slope, pp/nat", "n"),
    ],
    rows,
    f"Hardness by {extractors}. Least squares through the episodes of all "
    "protocols; in brackets 95 % bootstrap intervals over episodes, of "
    "differences paired.",
  )
