"""Tables, JSON and page of a data set's hardness."""

import html as html_lib
import json
import math
import re

import made_results
import numpy as np
import pytest
from made_results import EVIL

from fsl_jax import dataset_hardness, report, types
from fsl_jax.report import dataset


def make(num_classes=5, num_episodes=21, name="5-way 1-shot", names=None):
  """Class c has log-odds c / 100; each query is predicted as the class before.

  Episode i has the hardness i, which differs from the mean of its queries so
  that tables show which of the two they are made of.
  """
  rng = np.random.default_rng(0)
  class_ids = np.stack([rng.permutation(num_classes) for _ in range(21)])
  class_ids = class_ids[:num_episodes, : min(num_classes, 5)]
  labels = np.tile(np.arange(class_ids.shape[1]), (num_episodes, 1))
  result = made_results.result(
    dataset_hardness.METHOD,
    np.full(num_episodes, 0.2),
    labels=labels,
    predictions=np.maximum(labels - 1, 0),
    class_ids=class_ids,
    hardness=np.arange(num_episodes, dtype=float),
    index=np.arange(num_episodes),
    protocol_name=name,
  )
  found = dataset_hardness.EpisodeHardness(result, class_ids / 100)
  names = names or [f"c{i}." for i in range(num_classes)]
  return dataset.Protocol(found, names)


def galleries(protocol):
  labels = np.repeat(np.arange(5), 2)
  images = np.zeros((10, 8, 8, 3), np.uint8)
  exhibit = report.Exhibit(images, labels, images, labels, (EVIL, *"bcde"))
  return [
    report.Gallery(selection, [exhibit] * len(selection.episodes))
    for selection in report.extremes(protocol.section)
  ]


def test_numbers():
  found = make().hardness
  # Of 0 to 20: squares about the mean sum to 770.
  assert found.mean == found.median == 10
  assert found.std == pytest.approx(math.sqrt(770 / 21))
  assert found.ci95 == pytest.approx(1.96 * math.sqrt(770 / 21 / 21))
  assert (found.percentile_5, found.percentile_95) == pytest.approx((1, 19))
  assert found.uniform == pytest.approx(math.log(4))
  assert math.isnan(make(num_episodes=1).hardness.std)


def test_uniform_is_of_each_episodes_own_ways():
  protocol = make(num_episodes=2)
  protocol.result.class_ids[1, 3:] = -1
  expected = (math.log(4) + math.log(2)) / 2
  assert protocol.hardness.uniform == pytest.approx(expected)


def test_terminal_shows_both_ends():
  names = [f"class{i:02d}." for i in range(40)]
  protocol = make(num_classes=40, names=names)
  seen = dataset_hardness.by_class(protocol.found).class_ids
  assert len(seen) > 20
  text = dataset.terminal([protocol])
  block = text[text.index("Classes, hardest") : text.index("Pairs")]
  found = [int(i) for i in re.findall(r"^class(\d\d)\.", block, re.M)]
  assert found == [*seen[:10], *seen[:-11:-1]]
  assert all(len(line) <= 80 for line in text.splitlines())


def test_terminal_of_few_classes_names_each_once():
  text = dataset.terminal([make()])
  block = text[text.index("Classes, all") : text.index("Pairs")]
  assert re.findall(r"^c(\d)\.", block, re.M) == list("43210")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("page")
  names = (EVIL, *"bcde")
  protocols = [make(names=names), make(name="5-way 5-shot", names=names)]
  paths = dataset.write(
    folder / "run",
    protocols,
    title=EVIL,
    provenance={"config": {"name": EVIL}},
    notes=[EVIL],
    galleries=[galleries(protocol) for protocol in protocols],
  )
  return folder / "run", paths


def test_files(written):
  folder, paths = written
  names = ["hardest_1", "easiest_1", "hardest_2", "easiest_2"]
  assert [path.relative_to(folder).as_posix() for path in paths] == [
    "result.json",
    *(f"figures/{name}.svg" for name in ["hardness", *names]),
    "hardness.html",
  ]
  assert all(path.exists() for path in paths)
  drawn = (folder / "figures" / "hardness.svg").read_text()
  assert "5-way 5-shot: mean 10.000 nats" in drawn


def test_json_has_all_numbers(written):
  def refuse(constant):
    raise AssertionError(constant)

  text = (written[0] / "result.json").read_text()
  result = json.loads(text, parse_constant=refuse)
  first = result["sections"][0]
  assert first["hardness"]["mean"] == 10
  assert first["accuracy"]["mean"] == pytest.approx(0.2)
  assert [row["name"] for row in first["classes"]] == [*"edcb", EVIL]
  assert first["classes"][0]["log_odds"] == pytest.approx(0.04)
  assert first["classes"][0]["num_queries"] == 21
  assert first["episodes"]["hardness"] == list(range(21))
  pair = first["pairs"][0]
  assert pair["num_queries"] == 2 * 21
  assert pair["share"] == pytest.approx(pair["num_confused"] / 42)
  assert sum(p["num_confused"] for p in first["pairs"]) == 4 * 21


def test_page_is_escaped_and_complete(written):
  page = (written[0] / "hardness.html").read_text()
  assert page.count("<script") == 1
  assert html_lib.unescape(page).count(EVIL) > 5
  assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
  for name in ("5-way 1-shot", "5-way 5-shot"):
    assert f"The hardest episodes, {name}" in page
    assert f"{name}: 5 classes, hardest first." in page
  # Protocols; classes and pairs of two protocols.
  assert page.count("<table>") == 5


def test_page_without_images(tmp_path):
  paths = dataset.write(tmp_path, [make(num_episodes=1)], title="one")
  assert [path.name for path in paths] == [
    "result.json",
    "hardness.svg",
    "hardness.html",
  ]
  assert "n/a" in paths[-1].read_text()


def test_nothing_is_refused(tmp_path):
  with pytest.raises(types.InputError, match="needs a protocol"):
    dataset.write(tmp_path, [], title="none")
