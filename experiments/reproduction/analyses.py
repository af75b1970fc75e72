"""Tables of analyses as Markdown: lines, ablations, costs, provenance.

As in `tables`, each function takes what `page.load` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fsl_jax import hardness
from reproduction import wording


def lines(results: Sequence[wording.Result]) -> str:
  """The lines of figure 3: area and slope per cell and method."""
  found = wording.of(results, "figure3")
  if not found:
    return wording.nothing("figure3")
  cells = [
    [
      place,
      wording.method({"method": line["variant"], **line}),
      wording.number(line["area"], ".0f"),
      _area_difference(result, line["variant"]),
      "" if line["paper_area"] is None else f"({line['paper_area']:g})",
      wording.number(line["slope"], ".1f"),
      _slopes(line["protocols"]),
      wording.number(line["intercept"], ".1f"),
      wording.number(line["num_episodes"], ",d"),
    ]
    for result in found
    for place, line in wording.placed(result, result["lines"])
  ]
  head = ("data, network, trained on", "method", "area, % nats")
  return wording.with_notes(
    wording.table(
      [
        *(*head, "less that of initialisation", "paper", "slope, %/nat"),
        *("within a protocol", "at 0 nats, %", "n"),
      ],
      cells,
    ),
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
  parts = {
    name: [p for p in result["points"] if p["variant"] == name]
    for name in ("support_init", variant)
  }
  if variant == "support_init" or not parts["support_init"]:
    return ""

  found = hardness.area_difference(
    [np.array(p["hardness"], np.float64) for p in parts[variant]],
    *(
      [np.array(p["accuracy"], np.float64) / 100 for p in parts[name]]
      for name in (variant, "support_init")
    ),
  )
  return wording.area_difference(found and found._asdict())


def _slopes(protocols: Sequence[Mapping[str, Any]]) -> str:
  slopes = [p["slope"] for p in protocols if wording.is_number(p["slope"])]
  if not slopes:
    return ""
  ends = (f"{slope:.1f}" for slope in (min(slopes), max(slopes)))
  return " to ".join(dict.fromkeys(ends))


def ablations(results: Sequence[wording.Result]) -> str:
  """One change each: accuracy, and the paired difference to the reference."""
  found = wording.of(results, "ablation")
  if not found:
    return wording.nothing("ablation")
  cells = []
  for result in found:
    name = result["ablation"]
    what = f"`{name}`: {wording.ABLATIONS.get(name, name)}"
    pairs = [p for p in result["paired"] if p["against"] == "reference"]
    for variant in dict.fromkeys(row["variant"] for row in result["rows"]):
      if variant in ("reference", "support_init"):
        continue
      line, counts = [what, wording.cell(result)], []
      for row in wording.at_shots(result["rows"], variant):
        line.append(wording.plus_minus(row["mean"], row["ci95"]) if row else "")
        line.append(_to_reference(pairs, row))
        counts += [wording.episodes(row)] if row else []
      cells.append([*line, wording.listed(counts)])
  head = ("change", "data, network, trained on", "1 shot, %", "difference")
  return wording.with_notes(
    wording.table([*head, "5 shots, %", "difference", "n (1, 5 shots)"], cells),
    "Transductive fine-tuning with one change each. Difference: in points, to "
    "the unchanged method on the same episodes; ± is 1.96 std / √n.",
  )


def _to_reference(
  pairs: Sequence[Mapping[str, Any]], row: Mapping[str, Any] | None
) -> str:
  """The paired difference at the row's shots."""
  for pair in pairs:
    if row and all(pair[key] == row[key] for key in ("variant", "shots")):
      return wording.difference(pair)[0]
  return ""


def compute(results: Sequence[wording.Result]) -> str:
  """Seconds per episode beside the paper's."""
  found = wording.of(results, "compute")
  if not found:
    return wording.nothing("compute")
  cells = [
    [
      place,
      time["what"],
      f"{time['episodes_together']}",
      wording.number(time["seconds_per_episode"], ".3g"),
      "" if time["paper"] is None else f"{time['paper']:g}",
      wording.listed(result["provenance"]["devices"]),
    ]
    for result in found
    for place, time in wording.placed(result, result["times"])
  ]
  head = ("data, network, trained on", "what", "episodes in one call")
  return wording.with_notes(
    wording.table(
      [*head, "ours, s per episode", "paper, s", "our device"], cells
    )
  )


def provenance(results: Sequence[wording.Result]) -> str:
  """Where every number comes from: a row per file of results."""
  if not results:
    return "Nothing was measured yet."
  cells = []
  for result in results:
    made = result["provenance"]
    cells.append(
      [
        ", ".join([f"`{result['name']}`", *wording.budget(result)]),
        f"`{made['command']}`",
        made["date"],
        wording.listed(map(wording.commit, made["commits"])),
        wording.listed(made["devices"]),
        _hours(made.get("hours")),
        wording.listed(
          _digest(network, "digest") for network in made["networks"].values()
        ),
        _digest(made.get("data"), "fingerprint"),
      ]
    )
  head = ("cell", "command", "date", "commit", "device")
  return wording.with_notes(
    wording.table([*head, "hours", "checkpoint", "data"], cells),
    "Hours: of the steps of pre-training and of all methods; n/a where not all "
    "of it was timed. Checkpoint and data: the first 12 letters of their "
    "digests.",
  )


def _hours(hours: Mapping[str, float | None] | None) -> str:
  """Of pre-training and of the methods together, "1.20 + 0.31"."""
  if not hours:
    return ""
  methods = [spent for what, spent in hours.items() if what != "pretrain"]
  known = [spent for spent in methods if spent is not None]
  return " + ".join(
    (
      wording.number(hours.get("pretrain")),
      wording.number(sum(known) if len(known) == len(methods) else None),
    )
  )


def _digest(of_what: Mapping[str, Any] | None, key: str) -> str:
  return f"`{of_what[key][:12]}`" if of_what and of_what.get(key) else ""
