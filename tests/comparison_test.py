"""Two runs on the same episodes: the difference, its verdict, the files."""

import dataclasses
import html as html_lib
import json
import math
import xml.etree.ElementTree as ElementTree

import made_results
import numpy as np
import pytest
from made_results import EVIL

from fsl_jax import types
from fsl_jax.report import comparison


def test_numbers():
  first, second = made_results.adapted(), made_results.adapted()
  second["finetune"] = dataclasses.replace(
    second["finetune"], accuracy=np.array([0.5, 0.25])
  )
  second["mine"] = second["finetune"]
  result = comparison.compare([(first, second)], ("x", "y")).as_json()
  methods = result["sections"][0]["methods"]
  assert methods.keys() == {"support_init", "finetune"}
  # 1 and .5 against .5 and .25: differences .5 and .25, mean .375, sd .125.
  found = methods["finetune"]["difference"]
  assert found["mean"] == pytest.approx(0.375)
  assert found["ci95"] == pytest.approx(1.96 * 0.125 / math.sqrt(2))
  assert (found["wins"], found["ties"], found["losses"]) == (2, 0, 0)
  assert methods["support_init"]["difference"]["ties"] == 2
  assert methods["finetune"]["a"]["mean"] == pytest.approx(0.75)
  assert methods["finetune"]["b"]["mean"] == pytest.approx(0.375)
  # t = .375 / (.125 sqrt(2) / sqrt(2)) = 3 with one degree of freedom:
  # p = 1 - 2 atan(3) / pi.
  assert found["p_t"] == pytest.approx(1 - 2 * math.atan(3) / math.pi)
  assert methods["finetune"]["verdict"] == (
    "not significantly different: +37.50 ± 17.32 pp (p = 0.20)"
  )


def test_verdict_names_the_better_run():
  first, second = made_results.long(40, 0.0, 1), made_results.long(40, 0.0, 2)
  better = dataclasses.replace(
    first["finetune"],
    accuracy=second["finetune"].accuracy + np.linspace(0.1, 0.2, 40),
  )
  pairs = [(first | {"finetune": better}, second)]
  output = comparison.terminal(
    comparison.compare(pairs, ("this one", "that one, and more"))
  )
  assert max(map(len, output.splitlines())) <= 80
  words = " ".join(output.split())
  assert "fine-tuning: this one is better by 15.00 ± 0.92 pp (p < 0.001)" in (
    words
  )
  # All episodes are of the same classes, so of others nothing is known.
  assert "with classes n/a." in words
  assert "queries used: none" in words
  turned = [(b, a) for a, b in pairs]
  assert "B is better by 15.00" in comparison.terminal(
    comparison.compare(turned)
  )


def test_long_names_stay_distinct_as_heads():
  pair = (made_results.adapted(), made_results.adapted())
  alike = ("conv64, seed 0, fine-tuning", "conv64, seed 1, fine-tuning")
  heads = (
    comparison.terminal(comparison.compare([pair], alike))
    .splitlines()[4]
    .split()
  )
  assert heads == ["method", "first", "second", "difference"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"protocol": {"ways": 4}}, "mixes protocols"),
    ({"index": np.arange(2)}, "index of"),
    ({"digests": np.array(["a", "b"])}, "digests of"),
  ],
)
def test_other_episodes_are_refused(changes, message):
  pair = (made_results.adapted(), made_results.adapted(**changes))
  with pytest.raises(types.InputError, match=message):
    comparison.compare([pair])


def test_what_cannot_be_compared_is_refused():
  section = made_results.adapted()
  with pytest.raises(types.InputError, match="'A' twice"):
    comparison.compare([(section, section)], ("A", "A"))
  with pytest.raises(types.InputError, match="no method is in both"):
    comparison.compare([(section, {"mine": section["finetune"]})])
  with pytest.raises(types.InputError, match="at least one pair"):
    comparison.compare([])


def test_files(tmp_path):
  section = {EVIL: made_results.result(EVIL, [0.5, 0.7])}
  options = {
    "title": EVIL,
    "provenance_a": {"commit": "abc", "loss": math.nan},
    "provenance_b": {EVIL: [1, 2]},
  }
  found = comparison.compare([(section, section)], (EVIL, "other"))
  paths = comparison.write(tmp_path / "both", found, **options)
  assert [path.relative_to(tmp_path / "both").as_posix() for path in paths] == [
    "comparison.json",
    "figures/differences.svg",
    "comparison.html",
  ]
  result = json.loads(paths[0].read_text())
  assert result["provenance"][EVIL] == {"commit": "abc", "loss": None}
  ElementTree.fromstring(paths[1].read_text())
  page = paths[2].read_text()
  assert page.count("<script") == 1
  assert html_lib.unescape(page).count(EVIL) > 5
  assert "abc" in page
  before = [path.read_bytes() for path in paths]
  comparison.write(tmp_path / "both", found, **options)
  assert [path.read_bytes() for path in paths] == before
