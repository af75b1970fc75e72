"""Tables, JSON and page of a data set's hardness."""

import html as html_lib
import json
import math
import re

import numpy as np
import pytest

from fsl_jax import dataset_hardness, report, types
from fsl_jax.report import dataset_page, dataset_tables, template

EVIL = "a <script>alert('1')</script> & \"b\" $x_1$"


def make_judged(num_classes=5, num_episodes=21, name="5-way 1-shot"):
  """Class c has log-odds c / 100; each query is taken for the class before it.

  Episode i has the hardness i, which is told apart from the mean of its
  queries so that tables show which of the two they are made of.
  """
  rng = np.random.default_rng(0)
  class_ids = np.stack([rng.permutation(num_classes) for _ in range(21)])
  class_ids = class_ids[:num_episodes, : min(num_classes, 5)]
  labels = np.tile(np.arange(class_ids.shape[1]), (num_episodes, 1))
  predictions = np.maximum(labels - 1, 0)
  result = types.EvalResult(
    method=dataset_hardness.METHOD,
    query_use="nothing",
    protocol={"ways": 5},
    protocol_name=name,
    protocol_text="1 query a class",
    index=np.arange(num_episodes),
    digests=np.arange(num_episodes).astype(str),
    class_ids=class_ids,
    labels=labels,
    accuracy=np.full(num_episodes, 0.2),
    hardness=np.arange(num_episodes, dtype=float),
    predictions=predictions,
    initial_predictions=predictions,
    support_accuracy=np.full(num_episodes, np.nan),
    curves={},
  )
  return dataset_hardness.Judged(result, class_ids / 100)


def galleries(judged):
  labels = np.repeat(np.arange(5), 2)
  images = np.zeros((10, 8, 8, 3), np.uint8)
  exhibit = report.Exhibit(images, labels, images, labels, (EVIL, *"bcde"))
  return [
    report.Gallery(selection, [exhibit] * len(selection.episodes))
    for selection in report.extremes(dataset_tables.section(judged))
  ]


def test_numbers_by_hand():
  found = dataset_tables.numbers(make_judged())
  # Of 0 to 20: squares about the mean sum to 770.
  assert found.mean == found.median == 10
  assert found.std == pytest.approx(math.sqrt(770 / 21))
  assert found.ci95 == pytest.approx(1.96 * math.sqrt(770 / 21 / 21))
  assert (found.percentile_5, found.percentile_95) == pytest.approx((1, 19))
  assert found.uniform == pytest.approx(math.log(4))


def test_uniform_is_of_each_episodes_own_ways():
  judged = make_judged(num_episodes=2)
  judged.result.class_ids[1, 3:] = -1
  found = dataset_tables.numbers(judged)
  assert found.uniform == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_one_episode_has_no_spread():
  found = dataset_tables.numbers(make_judged(num_episodes=1))
  assert math.isnan(found.std)
  assert dataset_tables.protocols([make_judged(num_episodes=1)]).rows[0][
    3
  ].text == ("n/a")


def test_terminal_shows_both_ends():
  names = [f"class{i:02d}." for i in range(40)]
  judged = make_judged(num_classes=40)
  seen = dataset_hardness.by_class(judged).class_ids
  assert len(seen) > 20
  text = dataset_tables.terminal([judged], names)
  block = text[text.index("Classes, hardest") : text.index("Pairs")]
  found = [int(i) for i in re.findall(r"^class(\d\d)\.", block, re.M)]
  assert found == [*seen[:10], *seen[:-11:-1]]
  assert all(len(line) <= 80 for line in text.splitlines())


def test_terminal_of_few_classes_names_each_once():
  text = dataset_tables.terminal([make_judged()], [f"c{i}." for i in range(5)])
  block = text[text.index("Classes, all") : text.index("Pairs")]
  assert re.findall(r"^c(\d)\.", block, re.M) == list("43210")


def test_long_table_has_both_ends():
  rng = np.random.default_rng(0)
  judged = make_judged(num_classes=300)
  class_ids = rng.integers(0, 300, (200, 5))
  long = dataset_hardness.Judged(
    types.EvalResult(
      **{
        **vars(judged.result),
        "class_ids": class_ids,
        "labels": np.tile(np.arange(5), (200, 1)),
        "predictions": np.zeros((200, 5), int),
        "accuracy": np.full(200, 0.2),
      }
    ),
    class_ids / 100,
  )
  shown, note = dataset_tables.classes(long, [str(i) for i in range(300)])
  assert len(shown.rows) == 100
  assert note.startswith("The 50 hardest and the 50 easiest of ")
  values = [row[1].value for row in shown.rows]
  assert values == sorted(values, reverse=True)
  assert shown.rows[-1][0].text == str(class_ids.min())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("page")
  sections = [make_judged(), make_judged(name="5-way 5-shot")]
  paths = dataset_page.write(
    folder / "run",
    sections,
    (EVIL, *"bcde"),
    title=EVIL,
    provenance={"config": {"name": EVIL}},
    notes=[EVIL],
    galleries=[galleries(judged) for judged in sections],
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


def test_page_is_self_contained_and_escaped(written):
  page = (written[0] / "hardness.html").read_text()
  assert template.POLICY in page
  assert "<script>alert" not in page
  assert html_lib.escape(EVIL) in page
  assert page.count("<script>") == 1
  assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
  ids = re.findall(r'\sid="([^"]+)"', page)
  assert len(ids) == len(set(ids))
  for name in ("5-way 1-shot", "5-way 5-shot"):
    assert f"The hardest episodes, {name}" in page
    assert f"{name}: 5 classes, hardest first." in page
  # Protocols; classes and pairs of two protocols.
  assert page.count("<table>") == 5


def test_page_without_pictures(tmp_path):
  judged = make_judged(num_episodes=1)
  paths = dataset_page.write(tmp_path, [judged], "abcde", title="one")
  assert [path.name for path in paths] == [
    "result.json",
    "hardness.svg",
    "hardness.html",
  ]


def test_histogram_says_what_it_shows():
  drawn = dataset_page.hardness_by_protocol([make_judged(name=EVIL)])
  assert html_lib.escape(f"{EVIL}: mean 10.000 nats") in drawn


def test_nothing_is_refused(tmp_path):
  with pytest.raises(types.InputError, match="needs a protocol"):
    dataset_page.write(tmp_path, [], "a", title="none")
