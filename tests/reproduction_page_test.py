"""Results become text and figures: every number from the files, none lost."""

import copy
import json
import pathlib
import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from reproduction import figures, page, programme, tables, wording

from fsl_jax import types

ROOT = pathlib.Path(__file__).parent.parent
METHODS = ("support_init", "finetune", "transductive_finetune")


def _result(target="table1", backbone="conv64", budget="full", **changes):
  factor = 1 if budget == "full" else 20
  network = f"cifar_fs-{backbone}-train"
  ablation = "joint" if target == "ablation" else None
  return {
    "name": "-".join(filter(None, [target, ablation, network])),
    "target": target,
    "ablation": ablation,
    "dataset": "cifar_fs",
    "backbone": backbone,
    "split": "train",
    "evaluated_on": "novel",
    "dtype": "float32",
    "whole_batch_norm": False,
    "hardness": "logits of something",
    "budget": {
      "name": budget,
      "pretrain_factor": factor,
      "episode_factor": factor,
    },
    "rows": [],
    "paired": [],
    "lines": [],
    "points": [],
    "times": [],
    "provenance": {
      "command": f"python experiments/reproduce.py --of={target}",
      "date": "2026-11-22",
      "commits": ["abc1234"],
      "versions": {"jax": "0.10.2"},
      "devices": ["2 x86_64 CPU cores"],
      "data": {"name": "cifar_fs", "fingerprint": "0123456789abcdef"},
      "networks": {network: {"digest": "fedcba9876543210"}},
      "hours": {"pretrain": 1.25, "finetune": 0.5, "support_init": 0.25},
    },
  } | changes


def _row(variant, shots, mean, **changes):
  return {
    "variant": variant,
    "method": variant if variant in METHODS else "transductive_finetune",
    "options": {},
    "query_use": f"use of {variant}",
    "ways": 5,
    "shots": shots,
    "queries": 15,
    "num_episodes": 1000,
    "num_non_finite": 0,
    "mean": mean,
    "std": 10.5,
    "ci95": 0.65,
    "paper": None,
    "difference": None,
    "verdict": "none",
    "reason": "no published value",
  } | changes


def _pair(variant, against, shots, mean, **changes):
  return {
    "variant": variant,
    "against": against,
    "ways": 5,
    "shots": shots,
    "queries": 15,
    "num_episodes": 900,
    "mean": mean,
    "ci95": 0.35,
    "paper": None,
    "verified": False,
    "verdict": "none",
    "reason": "no published value",
  } | changes


def _paper(mean, *, verified):
  return {"mean": mean, "ci95": 0.7, "source": "x", "verified": verified}


def _table1(**changes):
  return _result(**changes) | {
    "rows": [
      _row(method, shots, 50 + 10 * shots / 5 + place)
      for shots in (1, 5)
      for place, method in enumerate(METHODS)
    ],
    "paired": [_pair("transductive_finetune", "support_init", 1, 3.21)],
  }


def _figure3():
  hardness = [0.5, 1.0, 1.5, None]
  lines = [
    {
      "variant": variant,
      "num_episodes": 6,
      "slope": -20.5,
      "intercept": 90.25,
      "area": 198.7,
      "paper_area": 295,
      "protocols": [
        {
          "ways": 5,
          "shots": 1,
          "num_episodes": 3,
          "slope": slope,
          "intercept": 91.0,
        }
        for slope in (-30.25, -22.75)
      ],
    }
    for variant in ("support_init", "transductive_finetune")
  ]
  points = [
    {
      "variant": line["variant"],
      "ways": ways,
      "shots": 1,
      "hardness": hardness,
      "accuracy": [80.0 + rise, 70.0 + rise, None, 50.0],
    }
    for line, rise in zip(lines, (0.0, 5.0), strict=True)
    for ways in (5, 10)
  ]
  return _result("figure3") | {"lines": lines, "points": points}


def _figure2():
  protocols = [(5, 1, q) for q in (1, 15)]
  protocols += [(20, 1, 15), (5, 10, 15)]
  return _result("figure2") | {
    "rows": [
      _row(method, shots, 60 - ways, ways=ways, queries=queries)
      for ways, shots, queries in protocols
      for method in METHODS
    ]
  }


def _ablation():
  return _result("ablation", evaluated_on="val") | {
    "rows": [
      _row(name, shots, 40 + shots)
      for shots in (1, 5)
      for name in ("support_init", "reference", "joint")
    ],
    "paired": [
      _pair("joint", "reference", 1, -1.25),
      _pair("joint", "reference", 5, 0.75),
      _pair("reference", "support_init", 1, 9.99),
    ],
  }


def _compute():
  time = {"what": "prototypes", "seconds_per_episode": 0.0123, "paper": 0.07}
  times = [time | {"episodes_together": 8}]
  result = _result("compute") | {"times": times}
  del result["provenance"]["data"]
  result["provenance"] |= {"networks": {}, "hours": {}}
  return result


ALL = {
  "table1": _table1,
  "figure2": _figure2,
  "figure3": _figure3,
  "ablation": _ablation,
  "compute": _compute,
}


def _write(folder, *results):
  folder.mkdir(exist_ok=True)
  for result in results:
    budget = result["budget"]["name"]
    suffix = "" if budget == "full" else f"-{budget}"
    path = folder / f"{result['name']}{suffix}.json"
    path.write_text(json.dumps(result))
  return folder


def _lines(table):
  """The rows of a Markdown table as lists of cells."""
  rows = [line for line in table.splitlines() if line.startswith("|")]
  return [[c.strip() for c in row.strip("|").split("|")] for row in rows[2:]]


def _numbers(value, path=()):
  """Where the numbers of results that tables show are, and what they are."""
  if isinstance(value, dict):
    for key, inner in value.items():
      yield from _numbers(inner, (*path, key))
  elif isinstance(value, list):
    for key, inner in enumerate(value):
      yield from _numbers(inner, (*path, key))
  elif isinstance(value, int | float):
    yield path, value


def _with(result, path, value):
  result = copy.deepcopy(result)
  inner = result
  for key in path[:-1]:
    inner = inner[key]
  inner[path[-1]] = value
  return result


# Of the rest of the protocol and of its lines not all tables tell all.
_NOT_SHOWN = {"ways", "queries", "verified"}


def _is_shown(result, path):
  if path[-1] in _NOT_SHOWN:
    return False
  if "protocols" in path:
    return path[-1] == "slope"
  if result["target"] == "ablation":
    entry = result[path[0]][path[1]]
    return entry["variant"] == "joint" and path[-1] in ("mean", "ci95")
  return True


@pytest.mark.parametrize("target", ALL)
def test_every_number_comes_from_the_results(target):
  result = ALL[target]()
  if target == "table1":
    for row in result["rows"]:
      row |= {"paper": _paper(66.6, verified=True), "difference": 1.5}
    result["paired"][0] |= {"paper": 6.5}
  before = page.render([result])
  numbers = {key: result[key] for key in ("rows", "paired", "lines", "times")}
  shown = [p for p in _numbers(numbers) if _is_shown(result, p[0])]
  assert shown
  for path, value in shown:
    assert page.render([_with(result, path, value + 2)]) != before, path


def test_table1_by_hand():
  result = _table1()
  row = result["rows"][0]
  row |= {"paper": _paper(53.0, verified=True), "difference": -1.0}
  row |= {"verdict": "reproduced", "reason": "near"}
  lines = _lines(tables.outcomes([result], "table1"))
  assert lines[0] == [
    "CIFAR-FS, conv64, train",
    "support-based initialisation",
    "1",
    "52.00 ± 0.65 (10.5)",
    "1,000",
    "53.00 ± 0.70",
    "-1.00",
    "reproduced",
  ]
  # The cell is named once; a verdict of none has its reason in the notes.
  assert lines[1][0] == ""
  assert lines[1][-1] == "none (1)"
  assert "(1) no published value." in tables.outcomes([result], "table1")


def test_unverified_values_have_a_dagger_and_a_note():
  result = _table1()
  assert wording.UNVERIFIED not in tables.outcomes([result], "table1")
  result["rows"][0]["paper"] = _paper(53.0, verified=False)
  result["rows"][0]["difference"] = -1.0
  text = tables.outcomes([result], "table1")
  assert _lines(text)[0][5] == "(53.00 ± 0.70)†"
  assert "† from the appendix, not checked" in text


def test_lost_episodes_and_undefined_means_are_told():
  result = _table1()
  result["rows"][0] |= {"num_non_finite": 1000, "mean": None, "ci95": None}
  result["rows"][0]["std"] = None
  line = _lines(tables.outcomes([result], "table1"))[0]
  assert line[3:5] == ["n/a (n/a)", "1,000 (1,000 not finite)"]


def test_quick_results_are_labelled_wherever_they_stand():
  label = "quick: pre-training and episodes /20"
  result = _table1(budget="quick")
  full = page.render([_table1()])
  quick = page.render([result])
  for name in ("table1", "paired", "provenance"):
    assert label in quick[name]
    assert "quick" not in full[name]
  # What is shortened is not shown first.
  assert tables.readme([result]) == tables.readme([])
  # A heading may be broken into lines anywhere.
  drawn = "".join(next(figures.of_results([result])).draw().split())
  assert "".join(label.split()) in drawn
  result["budget"]["episode_factor"] = 10
  assert "quick: pre-training /20, episodes /10" in tables.outcomes(
    [result], "table1"
  )


def test_what_is_not_of_novel_classes_or_float32_says_so():
  result = _table1(evaluated_on="val", dtype="bfloat16")
  assert wording.cell(result).endswith("train, evaluated on val, bfloat16")


def test_readme_has_the_papers_numbers_for_its_own_network_alone():
  small, large = _table1(), _table1(backbone="wrn_28_10")
  for result in (small, large):
    for row in result["rows"]:
      row["paper"] = _paper(77.77, verified=result is large)
  assert "77.8" not in tables.readme([small])
  lines = _lines(tables.readme([small, large]))
  assert lines[0] == [
    *("CIFAR-FS, conv64, train", "support-based initialisation"),
    *("52.0 ± 0.7", "", "60.0 ± 0.7", "", "1,000"),
  ]
  assert lines[3][2:6] == [
    *("52.0 ± 0.7", "77.8 ± 0.7"),
    "60.0 ± 0.7",
    lines[3][3],
  ]
  assert "Commit abc1234; jax 0.10.2; 2 x86_64 CPU" in tables.readme([small])


def test_signs_by_hand():
  result = _table1()
  result["paired"][0] |= {"paper": 6.32, "verified": True}
  result["paired"][0] |= {"verdict": "same sign"}
  assert _lines(tables.paired([result])) == [
    [
      *("CIFAR-FS, conv64, train", "TFT minus SBI", "1"),
      *("+3.21 ± 0.35", "900", "+6.32", "same sign"),
    ]
  ]


def test_analyses_by_hand():
  (line, other) = _lines(tables.lines([_figure3()]))
  assert line[2:] == [
    *("199", "", "(295)", "-20.5", "-30.2 to -22.8", "90.2", "6"),
  ]
  # Through (0.5, 80), (1, 70) and, five points above, (0.5, 85), (1, 75): 90^2
  # and 95^2 over 40. Resamples of two episodes may be of a single one.
  assert other[3] == "+23.1"
  (line,) = _lines(tables.ablations([_ablation()]))
  assert line == [
    "`joint`: one update of both losses instead of two in turn",
    "CIFAR-FS, conv64, train, evaluated on val",
    *("41.00 ± 0.65", "-1.25 ± 0.35", "45.00 ± 0.65", "+0.75 ± 0.35"),
    "1,000",
  ]
  (line,) = _lines(tables.compute([_compute()]))
  assert line[1:5] == ["prototypes", "8", "0.0123", "0.07"]


def test_every_ablation_is_described():
  assert set(wording.ABLATIONS) == set(programme.ABLATIONS)


def test_provenance_by_hand():
  line, bare = _lines(tables.provenance([_table1(), _compute()]))
  assert line[1] == "`python experiments/reproduce.py --of=table1`"
  assert line[5:] == ["1.25 + 0.75", "`fedcba987654`", "`0123456789ab`"]
  assert bare[5:] == ["", "", ""]
  result = _table1()
  result["provenance"]["hours"]["finetune"] = None
  assert _lines(tables.provenance([result]))[0][5] == "1.25 + n/a"


@pytest.mark.parametrize("target", ALL)
def test_tables_of_one_result(target):
  """A table for each list of the result that has rows, and no other."""
  result = ALL[target]()
  text = tables.of_cell(result)
  filled = [k for k in ("rows", "paired", "lines", "times") if result[k]]
  assert sum(line.startswith("|---") for line in text.splitlines()) == len(
    filled
  )
  # Differences may be missing, as of a single variant.
  assert "|" not in tables.paired([_result()])


def test_without_results_every_block_says_so():
  blocks = page.render([])
  assert all(
    block.startswith("Nothing was measured") for block in blocks.values()
  )


@pytest.mark.parametrize("target", [t for t in ALL if t != "compute"])
def test_figures_tell_what_they_show(target):
  figure, *_ = figures.of_results([ALL[target]()])
  text = figure.draw()
  tree = ElementTree.fromstring(text)
  title, description = (
    tree.find(f"{{http://www.w3.org/2000/svg}}{tag}").text
    for tag in ("title", "desc")
  )
  assert title
  assert description
  assert "n = " in text
  assert "CIFAR-FS, conv64, train" in text
  assert text == figure.draw()


def test_results_are_loaded_by_name_full_before_quick(tmp_path):
  results = [_table1(budget="quick"), _table1(), _ablation()]
  loaded = page.load(_write(tmp_path, *results))
  assert loaded == [results[2], results[1], results[0]]
  assert page.load(tmp_path / "none") == []


def test_broken_results_are_named(tmp_path):
  path = _write(tmp_path, _table1()) / "table1-cifar_fs-conv64-train.json"
  whole = json.loads(path.read_text())

  def refused(text, *words):
    path.write_text(text)
    with pytest.raises(types.InputError) as caught:
      page.load(tmp_path)
    assert all(word in str(caught.value) for word in (path.name, *words))

  refused("{", "cannot read")
  refused("[]", "must be a JSON object")
  refused(json.dumps(whole | {"rows": [{}]}), "rows[0] lacks variant")
  refused(json.dumps(whole | {"name": "other"}), "'other'")
  del whole["split"]
  refused(json.dumps(whole), "lacks split")


TEXT = "a\n<!-- results: x -->\nold\n<!-- end -->\nb\n"


def test_fill_replaces_what_is_between_and_nothing_else():
  once = page.fill(TEXT, {"x": "new"})
  assert once == "a\n<!-- results: x -->\n\nnew\n\n<!-- end -->\nb\n"
  assert page.fill(once, {"x": "new"}) == once
  assert page.fill("no <!-- end -->", {}) == "no <!-- end -->"


def test_fill_refuses_unknown_and_unended_blocks():
  with pytest.raises(types.InputError, match=r"'x'.*known: y"):
    page.fill(TEXT, {"y": ""})
  with pytest.raises(types.InputError, match="'x' does not end"):
    page.fill("<!-- results: x -->\n" + TEXT, {"x": ""})


def test_update_writes_what_differs_and_is_then_not_stale(tmp_path):
  results = _write(tmp_path / "results", _table1(), _figure3())
  readme, docs = tmp_path / "README.md", tmp_path / "docs"
  docs.mkdir()
  readme.write_text("<!-- results: readme -->\n<!-- end -->\n")
  (docs / "reproduction.md").write_text(
    "<!-- results: figure3 -->\n<!-- end -->\n"
  )
  drawn = {
    docs / "figures" / f"{name}.svg"
    for name in ("against-paper", "figure3-cifar_fs-conv64-train")
  }
  everything = {readme, docs / "reproduction.md", *drawn}
  assert set(page.Generated(results, tmp_path).stale()) == everything
  assert set(page.update(results, tmp_path)) == everything
  assert page.update(results, tmp_path) == []
  assert page.Generated(results, tmp_path).stale() == []
  shown = re.findall(r"\((\S+\.svg)\)", (docs / "reproduction.md").read_text())
  assert [(docs / name).exists() for name in shown] == [True]
  changed = _table1()
  changed["rows"][0]["mean"] += 1
  _write(results, changed)
  assert page.Generated(results, tmp_path).stale() == [readme]
  (docs / "figures" / "against-paper.svg").unlink()
  assert len(page.Generated(results, tmp_path).stale()) == 2


def test_figures_whose_results_are_gone_are_removed(tmp_path):
  results = _write(tmp_path / "results", _table1(), _figure3())
  folder = tmp_path / "docs" / "figures"
  curve = ROOT / "results" / "curves" / "ways-icons-conv64.json"
  (results / "curves").mkdir()
  shutil.copy(curve, results / "curves")
  page.update(results, tmp_path)
  own = folder / "drawn_by_hand.svg"
  own.write_text("<svg/>")
  gone = [
    folder / "figure3-cifar_fs-conv64-train.svg",
    folder / "ways-icons-conv64.svg",
  ]
  assert all(path.exists() for path in gone)
  (results / "figure3-cifar_fs-conv64-train.json").unlink()
  (results / "curves" / curve.name).unlink()
  assert page.Generated(results, tmp_path).stale() == gone
  assert page.update(results, tmp_path) == gone
  assert sorted(folder.iterdir()) == [folder / "against-paper.svg", own]


def test_curves_are_drawn_from_what_is_kept():
  """Means, differences and hardness of the files in results/curves."""
  kept = {c["file"]: c for c in page.load_curves(ROOT / "results" / "curves")}
  drawn = {
    figure.name: figure.draw for figure in figures.of_curves([*kept.values()])
  }
  assert drawn.keys() == kept.keys()
  text = drawn["ways-cifar_fs-conv64"]()
  row = kept["ways-cifar_fs-conv64"]["points"][0]["methods"]["finetune"]
  assert (
    f"fine-tuning {100 * row['mean']:.2f} ± {100 * row['ci95']:.2f}" in text
  )
  assert "CIFAR-FS, conv64" in text
  hardness = kept["hardness-icons-conv64"]
  line = hardness["lines"]["finetune"]
  assert f"area {line['area']:.1f} %·nats" in drawn["hardness-icons-conv64"]()
  for point in hardness["points"]:
    del point["hardness"]
  assert not list(figures.of_curves([hardness]))


def test_a_column_that_no_row_fills_is_left_out():
  table = wording.table(["a", "b", "c"], [["1", "", ""], ["2", "", "3"]])
  assert table.splitlines() == [
    "| a | c |",
    "|---|---|",
    "| 1 |  |",
    "| 2 | 3 |",
  ]


def test_an_unknown_block_is_refused_with_the_document(tmp_path):
  (tmp_path / "README.md").write_text("<!-- results: tabel1 -->\n<!-- end -->")
  with pytest.raises(types.InputError, match=r"README\.md: .*'table1'"):
    page.Generated(tmp_path / "results", tmp_path)


def test_a_document_without_blocks_is_left_alone(tmp_path):
  (tmp_path / "README.md").write_text("text")
  assert page.Generated(tmp_path, tmp_path).documents == {}


def test_documents_of_the_repository_hold_its_results():
  """If this fails: python experiments/reproduce.py --report."""
  for document in ("README.md", "docs/reproduction.md"):
    assert "<!-- results: " in (ROOT / document).read_text(encoding="utf-8")
  assert page.Generated(ROOT / "results", ROOT).stale() == []


@pytest.mark.parametrize(
  "document",
  [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))],
  ids=lambda path: path.name,
)
def test_pictures_of_a_document_are_there(document):
  text = document.read_text(encoding="utf-8")
  for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
    assert (document.parent / target).is_file(), target
