"""Tables of results as Markdown, made from the files of results alone.

Each public function takes what `page.load` returns and gives Markdown that
ends without a newline; one line if its target has no results.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reproduction import wording

_ACCURACY = (
  "Accuracy in percent: mean ± 1.96 std / √n over n episodes (std over "
  "episodes)."
)
_OUTCOME = ("ours, %", "n", "paper, %", "difference", "verdict")


class _Reasons:
  """Numbers the reasons for which there is no verdict, for notes below."""

  def __init__(self) -> None:
    self._numbers: dict[str, int] = {}

  def verdict(self, row: Mapping[str, Any]) -> str:
    if row["verdict"] != "none":
      return row["verdict"]
    reason = row["reason"]
    return f"none ({self._numbers.setdefault(reason, len(self._numbers) + 1)})"

  def note(self) -> str:
    reasons = "; ".join(f"({n}) {why}" for why, n in self._numbers.items())
    return f"No verdict: {reasons}." if reasons else ""


def table1(results: Sequence[wording.Result]) -> str:
  """Table 1 beside the paper's: a row per cell, shots and method."""
  return _outcomes(
    results,
    "table1",
    ("method", "shots"),
    lambda row: [wording.method(row), str(row["shots"])],
  )


def table2(results: Sequence[wording.Result]) -> str:
  """Table 2 beside the paper's: a row per cell, protocol and method."""
  return _by_protocol(results, "table2")


def figure2(results: Sequence[wording.Result]) -> str:
  """The numbers of figure 2: a row per cell, protocol and method."""
  return _by_protocol(results, "figure2")


def _by_protocol(results: Sequence[wording.Result], target: str) -> str:
  return _outcomes(
    results,
    target,
    ("ways", "shots", "queries", "method"),
    lambda row: [
      *(str(row[key]) for key in ("ways", "shots", "queries")),
      wording.method(row),
    ],
  )


def _outcomes(
  results: Sequence[wording.Result],
  target: str,
  head: Sequence[str],
  start: Callable[[Mapping[str, Any]], list[str]],
) -> str:
  found = wording.of(results, target)
  if not found:
    return wording.nothing(target)
  reasons = _Reasons()
  lines = [
    [place, *start(row), *_outcome(row, reasons)]
    for result in found
    for place, row in wording.placed(result, result["rows"])
  ]
  return wording.with_notes(
    wording.table(["data, network, trained on", *head, *_OUTCOME], lines),
    _ACCURACY,
    _query_use(found),
    reasons.note(),
  )


def _outcome(row: Mapping[str, Any], reasons: _Reasons) -> list[str]:
  ours = wording.plus_minus(row["mean"], row["ci95"])
  return [
    f"{ours} ({wording.number(row['std'], '.1f')})",
    wording.episodes(row),
    _paper(row["paper"]),
    "" if row["difference"] is None else wording.signed(row["difference"]),
    reasons.verdict(row),
  ]


def _paper(paper: Mapping[str, Any] | None, form: str = ".2f") -> str:
  if paper is None:
    return ""
  text = wording.plus_minus(paper["mean"], paper["ci95"], form)
  return wording.published(text, paper["verified"])


def paired(results: Sequence[wording.Result]) -> str:
  """Differences of methods on the same episodes of Table 1: the signs."""
  found = wording.of(results, "table1")
  if not found:
    return wording.nothing("table1")
  reasons = _Reasons()
  lines = [
    [
      place,
      " minus ".join(wording.short(pair[k]) for k in ("variant", "against")),
      str(pair["shots"]),
      *wording.difference(pair),
      reasons.verdict(pair),
    ]
    for result in found
    for place, pair in wording.placed(result, result["paired"])
  ]
  head = ("data, network, trained on", "difference", "shots")
  return wording.with_notes(
    wording.table([*head, "ours, points", "n", "paper", "verdict"], lines),
    "Mean ± 1.96 std / √n of the differences over the same n episodes. SBI: "
    "support-based initialisation, FT: fine-tuning, TFT: transductive "
    "fine-tuning.",
    reasons.note(),
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
  with_paper = any(r["backbone"] == "wrn_28_10" for r in found)
  columns = ["1 shot, %", "5 shots, %"]
  if with_paper:
    columns = ["1 shot, %", "paper", "5 shots, %", "paper"]
  lines = []
  for result in found:
    methods = {row["variant"]: wording.method(row) for row in result["rows"]}
    for place, variant in wording.placed(result, list(methods)):
      line, counts = [place, methods[variant]], []
      for row in wording.at_shots(result["rows"], variant):
        if row is None:
          line += [""] * (1 + with_paper)
          continue
        line.append(wording.plus_minus(row["mean"], row["ci95"], ".1f"))
        counts.append(wording.episodes(row))
        if with_paper:
          known = result["backbone"] == "wrn_28_10"
          line.append(_paper(row["paper"], ".1f") if known else "")
      lines.append([*line, wording.listed(counts)])
  head = ["data, network, trained on", "method", *columns, "n (1, 5 shots)"]
  return wording.with_notes(
    wording.table(head, lines),
    f"Accuracy on novel classes, {_protocol(found)}; ± is 1.96 std / √n over n "
    f"episodes. {_made_by(found)}",
    "Where n differs, so do the episodes: compare methods by the paired "
    "differences in docs/reproduction.md.",
    _query_use(found),
  )


def _protocol(results: Sequence[wording.Result]) -> str:
  return wording.listed(
    f"{row['ways']} ways and {row['queries']} queries a class"
    for result in results
    for row in result["rows"]
  )


def _made_by(results: Sequence[wording.Result]) -> str:
  """ "Commit 63085cd; jax 0.10.2; 2 x86_64 CPU cores." """
  made = [result["provenance"] for result in results]
  return (
    f"Commit {_commits(made)}; "
    f"jax {wording.listed(p['versions']['jax'] for p in made)}; "
    f"{wording.listed(d for p in made for d in p['devices'])}."
  )


def _commits(made: Sequence[Mapping[str, Any]]) -> str:
  return wording.listed(wording.commit(c) for p in made for c in p["commits"])


def _query_use(results: Sequence[wording.Result]) -> str:
  uses = wording.listed(
    f"{wording.method(row)} ({row['query_use']})"
    for result in results
    for row in result["rows"]
  )
  return f"Use of the queries: {uses}."
