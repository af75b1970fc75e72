"""Cells of the paper's tables: what they are made of, what becomes of them."""

import dataclasses
import json
import math
import pathlib
import re

import made_results
import numpy as np
import pytest
from reproduction import cells, cost, outcome, programme, store, work

import fsl_jax as fsl
from fsl_jax import backbones, episodes, pretrain, types
from fsl_jax.backbones import cost as network_cost

_CONV = cells.Network("cifar_fs", "conv64", "train")
_OTHER = ("cifar_fs", "conv64", "train+val")
_FULL, _QUICK, _TOY = (cells.budget(name) for name in ("full", "quick", "toy"))


def _place(root: pathlib.Path, budget: cells.Budget = _FULL) -> work.Place:
  return work.Place(root, budget, str(root / "data"))


def _cell(target: str, network: cells.Network = _CONV, **options) -> cells.Cell:
  (cell,) = programme.of_target(target, network, **options)
  return cell


def _everything() -> list[cells.Cell]:
  return [
    cell
    for target in programme.TARGETS
    for network in programme.networks(target)
    for cell in programme.of_target(target, network)
  ]


class TestProgramme:
  def test_table_1_is_whole(self):
    networks = programme.networks("table1")
    assert len(networks) == 4 * 3 * 2  # data sets, nets, splits
    for network in networks:
      jobs = _cell("table1", network).jobs
      assert {
        (j.variant.method, j.protocol.shots, j.num_episodes) for j in jobs
      } == {
        (method, shots, 1000)
        for method in ("support_init", "finetune", "transductive_finetune")
        for shots in (1, 5)
      }
      assert {(j.protocol.ways, j.protocol.queries) for j in jobs} == {(5, 15)}

  def test_names_are_unique_and_good_for_files(self):
    names = [cell.name for cell in _everything()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[\w+-]+", name) for name in names)

  def test_command_names_the_cell(self):
    network = dataclasses.replace(_CONV, dtype="bfloat16")
    assert _cell("table1", network).command == (
      "python experiments/reproduce.py --table=1 --dataset=cifar_fs "
      "--backbone=conv64 --split=train --dtype=bfloat16"
    )
    cell = _cell("ablation", ablation="joint")
    assert "--ablation=joint" in cell.command
    assert "--compute" in _cell("compute").command

  def test_table_2_leaves_out_the_relu_and_weighs_by_log_ways(self):
    (network,) = programme.networks("table2")
    assert network.dataset == "imagenet21k"
    jobs = _cell("table2", network).jobs
    assert {j.protocol.ways for j in jobs} == {5, 10, 20, 40, 80, 160}
    assert {j.num_episodes for j in jobs} == {80}
    assert all(j.variant.options["relu"] is False for j in jobs)
    assert {
      j.variant.options.get("entropy_weight")
      for j in jobs
      if j.variant.is_transductive
    } == {"inverse_log_ways"}
    with pytest.raises(types.InputError, match="table 2 is of imagenet21k"):
      programme.of_target("table2", _CONV)

  def test_episodes_of_table_1_are_points_of_the_figures(self, tmp_path):
    place = _place(tmp_path)

    def places(cell):
      return {
        (
          place.episodes(j, cell.evaluated_on),
          j.protocol,
        )
        for j in cell.jobs
      }

    table = places(_cell("table1"))
    assert table <= places(_cell("figure2"))
    assert len(table & places(_cell("figure3"))) == 4  # no fine-tuning
    # What is chosen on `val` never meets a novel class.
    for ablation in programme.ABLATIONS.keys() - {"10000_episodes"}:
      cell = _cell("ablation", ablation=ablation)
      assert cell.evaluated_on == "val"
      assert not places(cell) & table

  @pytest.mark.parametrize("name", programme.ABLATIONS)
  def test_ablation_changes_one_thing(self, name):
    cell = _cell("ablation", ablation=name)
    reference = [j for j in cell.jobs if j.variant.name == "reference"]
    if name == "10000_episodes":
      assert {j.num_episodes for j in cell.jobs} == {10_000}
      return
    changed = [j for j in cell.jobs if j.variant.name == name]
    assert [j.protocol for j in reference] == [j.protocol for j in changed]
    a, b = reference[0], changed[0]
    assert (a.variant.options != b.variant.options) != (a.network != b.network)
    backbone = backbones.create("conv64", num_classes=4, image_size_px=16)
    fsl.adapt.create(b.variant.method, backbone, **b.variant.options)
    assert (name, "reference") in programme.pairs(cell)

  def test_ablation_refuses_a_network_that_knows_val(self):
    network = dataclasses.replace(_CONV, split="train+val")
    with pytest.raises(types.InputError, match="must be of --split=train"):
      programme.of_target("ablation", network, ablation="joint")

  def test_imagenet21k_is_compared_with_its_own_table_alone(self):
    (network,) = programme.networks("figure3", dataset="imagenet21k")
    assert network.split == "train"
    assert _cell("figure3", network).jobs == _cell("table2", network).jobs
    both = dataclasses.replace(network, split="train+val")
    with pytest.raises(types.InputError, match="no validation classes"):
      programme.of_target("figure3", both)

  def test_a_network_is_not_compared_with_itself(self):
    network = cells.Network("cifar_fs", "wrn_16_4", "train")
    with pytest.raises(types.InputError, match="a larger --backbone"):
      programme.of_target("ablation", network, ablation="wrn_16_4")

  def test_unknown_names(self):
    with pytest.raises(types.InputError, match="did you mean 'joint'"):
      programme.of_target("ablation", _CONV, ablation="jiont")
    with pytest.raises(types.InputError, match="did you mean 'conv64'"):
      programme.networks("table1", backbone="conf64")
    with pytest.raises(types.InputError, match="unknown data set"):
      programme.networks("table1", dataset="cifarfs")

  def test_fewer_episodes_by_request(self):
    cell = _FULL.shorten(_cell("table1"), 500, 300)
    assert {(j.variant.name, j.num_episodes) for j in cell.jobs} == {
      ("support_init", 500),
      ("finetune", 500),
      ("transductive_finetune", 300),
    }
    assert _FULL.shorten(cell) == cell
    assert _FULL.shorten(cell, 2000) == cell
    # What is asked for is what there will be at most, whatever the budget.
    assert {j.num_episodes for j in _QUICK.shorten(cell, 10).jobs} == {10}


class TestBudget:
  def test_full_is_the_published_recipe(self):
    def recipe(dataset="cifar_fs", **changes):
      return _FULL.recipe(
        dataclasses.replace(_CONV, dataset=dataset, **changes)
      )

    assert recipe() == pretrain.PretrainConfig(batch_norm_group=32)
    assert recipe(whole_batch_norm=True) == pretrain.PretrainConfig()
    assert recipe("fc100", mixup=False).mixup_alpha == 0
    large = recipe("imagenet21k")
    assert large.cycles == (8, 16)
    assert large.batch_norm_group == large.batch_size // 8 == 128
    assert _FULL.shorten(_cell("table1")) == _cell("table1")

  def test_a_third_rounds_the_cycles(self):
    third = cells.budget("third")
    assert third.recipe(_CONV).cycles == (13, 27)
    assert third.shorten(_cell("table1")) == _cell("table1")

  def test_quick_divides_by_what_it_says(self):
    recipe = _QUICK.recipe(_CONV)
    assert recipe.cycles == (2, 4)
    assert recipe.num_epochs * _QUICK.pretrain_factor == 120
    (num_episodes,) = {
      j.num_episodes for j in _QUICK.shorten(_cell("table1")).jobs
    }
    assert num_episodes * _QUICK.episode_factor == 1000
    # All else is as published.
    full = _FULL.recipe(_CONV)
    assert (
      dataclasses.replace(recipe, cycles=full.cycles, validate_every_epochs=1)
      == full
    )

  def test_budgets_do_not_share_folders(self, tmp_path):
    folders = {
      _place(tmp_path, budget).pretrain(_CONV)
      for budget in (_FULL, _QUICK, _TOY)
    }
    assert len(folders) == 3

  def test_unknown(self):
    with pytest.raises(types.InputError, match="did you mean 'quick'"):
      cells.budget("quik")


class TestCost:
  def test_of_a_job_by_hand(self, tmp_path):
    place = _place(tmp_path)
    forward = network_cost.forward_flop(
      backbones.create("conv64", num_classes=64, image_size_px=32)
    )
    jobs = {(j.variant.name, j.protocol.shots): j for j in _cell("table1").jobs}
    # 25 epochs, 5 support and 75 query images, 3 passes each; then one to
    # predict.
    tft = cost.of_job(jobs["transductive_finetune", 1], place)
    assert tft == forward * (25 * 3 * 80 + 80) * 1000
    finetune = cost.of_job(jobs["finetune", 5], place)
    assert finetune == forward * (25 * 3 * 25 + 100) * 1000
    init = cost.of_job(jobs["support_init", 1], place)
    assert init == forward * 80 * 1000

  def test_of_pretraining_by_hand(self, tmp_path):
    forward = network_cost.forward_flop(
      backbones.create("conv64", num_classes=64, image_size_px=32)
    )
    # 150 batches of 256 in each of 120 epochs, all 38,400 judged after each.
    flop = cost.of_cell(_cell("table1"), _place(tmp_path))
    assert flop["pretrain"] == forward * 120 * 3 * 150 * 256
    assert flop["judge"] == forward * 120 * 38_400
    quick = cost.of_cell(_cell("table1"), _place(tmp_path, _QUICK))
    assert quick["pretrain"] == forward * 6 * 3 * 150 * 256
    assert quick["judge"] == forward * 38_400

  @pytest.mark.parametrize(("name", "size"), cost._FORWARD)
  def test_table_of_networks_is_what_they_do(self, name, size):
    network = backbones.create(name, num_classes=7, image_size_px=size)
    assert cost._forward_of(name, 7, size) == network_cost.forward_flop(network)

  def test_what_cells_share_is_counted_once(self, tmp_path):
    place, counted = _place(tmp_path), cost.Counted()
    table, figure = _cell("table1"), _cell("figure3")
    alone = [sum(cost.of_cell(c, place).values()) for c in (table, figure)]
    first, second = (cost.of_cell(c, place, counted) for c in (table, figure))
    assert sum(first.values()) == alone[0]
    assert "pretrain" not in second
    # Two methods at 5 ways are those of the table; 1,000 episodes of each.
    shared = [job for job in figure.jobs if job in table.jobs]
    assert len(shared) == 4
    assert sum(second.values()) == pytest.approx(
      alone[1]
      - first["pretrain"]
      - first["judge"]
      - sum(cost.of_job(job, place) for job in shared)
    )
    assert not any(cost.of_cell(table, place, counted).values())
    # A run of another budget has files of its own.
    quick = cost.of_cell(table, _place(tmp_path, _QUICK), counted)
    assert quick["pretrain"] > 0

  def test_a_frozen_backbone_is_cheaper(self, tmp_path):
    cell = _cell("ablation", ablation="frozen_backbone")
    flop = cost.of_cell(cell, _place(tmp_path))
    assert flop["frozen_backbone"] < 0.4 * flop["reference"]

  def test_main_net_agrees_with_the_paper_derived_figures(self, tmp_path):
    network = cells.Network("cifar_fs", "wrn_28_10", "train")
    flop = cost.of_cell(_cell("table1", network), _place(tmp_path))
    assert flop["pretrain"] == pytest.approx(1.4e17, rel=0.05)
    one_shot = [
      j
      for j in _cell("table1", network).jobs
      if j.variant.is_transductive and j.protocol.shots == 1
    ]
    tft = cost.of_job(one_shot[0], _place(tmp_path))
    assert tft == pytest.approx(6.3e16, rel=0.05)


def _measured_job(
  job: cells.Job, accuracy: list[float], hardness: list[float] | None = None
) -> work.Measured:
  if hardness is None:
    hardness = [1.0] * len(accuracy)
  result = made_results.result(
    job.variant.method,
    accuracy,
    protocol=job.protocol._asdict(),
    index=np.arange(len(accuracy)),
    hardness=hardness,
  )
  return work.Measured(job, result, pathlib.Path("nowhere"))


def _measured(target: str, **accuracies: list[float]) -> list[work.Measured]:
  """The 5-way jobs, each with these accuracies, hardness 1, 2, 3, ..."""
  return [
    _measured_job(job, found, list(range(1, len(found) + 1)))
    for job in _cell(target).jobs
    if job.protocol.ways == 5
    for found in [accuracies.get(job.variant.name)]
    if found
  ]


class TestOutcome:
  def test_rows_by_hand(self):
    (measured, *_) = _measured("table1", support_init=[0.5, 0.7])
    row = outcome.row(_cell("table1"), _FULL, measured)
    assert (row["ways"], row["shots"], row["queries"]) == (5, 1, 15)
    assert row["mean"] == 60
    assert row["std"] == 10
    assert row["ci95"] == pytest.approx(1.96 * 10 / math.sqrt(2), abs=1e-4)
    assert row["paper"]["verified"] is False  # conv64 is in the appendix
    assert row["difference"] == pytest.approx(60 - row["paper"]["mean"])
    assert row["verdict"] == "none"

  def test_verdict_needs_the_full_budget_and_its_finite_episodes(self):
    network = cells.Network("cifar_fs", "wrn_28_10", "train")
    cell = _cell("table1", network)
    job = next(j for j in cell.jobs if j.variant.is_transductive)

    def word(accuracy, budget):
      return outcome.row(cell, budget, _measured_job(job, accuracy))["verdict"]

    assert word([0.7658] * 1000, _FULL) == "reproduced"
    assert word([0.7658] * 999, _FULL) == "none"
    assert word([0.7658] * 999 + [math.nan], _FULL) == "none"
    assert word([0.7658] * 1000, _QUICK) == "none"

  def test_paired_by_hand_on_the_episodes_that_both_met(self):
    measured = _measured(
      "table1",
      support_init=[0.5, 0.7, 0.9, 0.1],
      transductive_finetune=[0.6, 0.7, math.nan],
    )
    pairs = list(outcome.paired(_cell("table1"), _FULL, measured))
    assert [(p["variant"], p["against"], p["shots"]) for p in pairs] == [
      ("transductive_finetune", "support_init", 1),
      ("transductive_finetune", "support_init", 5),
    ]
    # Differences 10 and 0; the third is not finite, the fourth has no other.
    assert pairs[0]["num_episodes"] == 2
    assert pairs[0]["mean"] == 5
    assert pairs[0]["std"] == 5

  def test_line_by_hand(self):
    measured = _measured(
      "figure3", support_init=[0.9, 0.7, 0.5], transductive_finetune=[1.0, 0.6]
    )
    comparable = outcome._comparable(measured)
    lines = outcome.lines(_cell("figure3"), comparable)
    by_name = {line["variant"]: line for line in lines}
    # The first two episodes of both protocols: (1, 90) and (2, 70).
    line = by_name["support_init"]
    assert line["num_episodes"] == 4
    assert line["slope"] == pytest.approx(-20)
    assert line["intercept"] == pytest.approx(110)
    assert line["area"] == pytest.approx(110**2 / 40)
    assert by_name["transductive_finetune"]["slope"] == pytest.approx(-40)

  def test_validation_classes_are_not_compared_with_the_paper(self):
    cell = _cell("ablation", ablation="joint")
    job = cell.jobs[1]
    row = outcome.row(cell, _FULL, _measured_job(job, [0.5] * 3))
    assert row["paper"] is None
    assert row["reason"] == "the paper's is of novel classes"


class TestStore:
  def _written(self, folder: pathlib.Path, num_episodes: int) -> cells.Cell:
    cell = _FULL.shorten(_cell("table1"), num_episodes)
    rows = [
      dict.fromkeys(("method", "query_use", "num_non_finite", "mean", "std"))
      | dict.fromkeys(("ci95", "paper", "difference", "verdict", "reason"))
      | {
        "variant": job.variant.name,
        "options": dict(job.variant.options),
        "ways": job.protocol.ways,
        "shots": job.protocol.shots,
        "queries": job.protocol.queries,
        "num_episodes": num_episodes,
      }
      for job in cell.jobs
    ]
    recipe = dataclasses.asdict(_FULL.recipe(_CONV))
    result = outcome.head(cell, _FULL) | {
      "rows": rows,
      "provenance": dict.fromkeys(
        ("command", "date", "commits", "versions", "devices", "hours")
      )
      | {"networks": {_CONV.name: {"pretrain": recipe}}},
    }
    store.write(result, store.path(cell, _FULL, folder))
    return cell

  def test_round_trip_with_a_line_per_row(self, tmp_path):
    cell = self._written(tmp_path, 300)
    result = store.read(cell, _FULL, tmp_path)
    assert result is not None
    assert len(result["rows"]) == 6
    path = store.path(cell, _FULL, tmp_path)
    assert path.name == "table1-cifar_fs-conv64-train.json"
    assert sum("num_episodes" in s for s in path.read_text().splitlines()) == 6

  def test_fewer_episodes_than_asked_for_are_not_done(self, tmp_path):
    self._written(tmp_path, 300)
    result = store.read(_cell("table1"), _FULL, tmp_path)
    assert result is not None
    assert not store.is_done(result, _cell("table1"))
    few = _FULL.shorten(_cell("table1"), 200)
    assert store.is_done(result, few)
    # Nothing that was computed is thrown away.
    mixed = _FULL.shorten(_cell("table1"), 500, 200)
    assert {
      (j.variant.name, j.num_episodes)
      for j in store.widened(mixed, result).jobs
    } == {
      ("support_init", 500),
      ("finetune", 500),
      ("transductive_finetune", 300),
    }
    # Another budget has a file of its own.
    assert store.read(few, _QUICK, tmp_path) is None

  @pytest.mark.parametrize(
    ("old", "new"),
    [('"options": {}', '"options": {"steps": 1}'), ("[40, 80]", "[20, 80]")],
  )
  def test_what_other_options_gave_is_not_the_cells(self, tmp_path, old, new):
    cell = self._written(tmp_path, 1000)
    path = store.path(cell, _FULL, tmp_path)
    assert store.read(cell, _FULL, tmp_path) is not None
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert store.read(cell, _FULL, tmp_path) is None

  def test_damaged_file_is_named(self, tmp_path):
    cell = self._written(tmp_path, 300)
    path = store.path(cell, _FULL, tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(types.InputError, match="table1-cifar_fs-conv64"):
      store.read(cell, _FULL, tmp_path)
    path.write_text("[]")
    with pytest.raises(types.InputError, match="must be a JSON object"):
      store.read(cell, _FULL, tmp_path)
    table = store.status([cell], _place(tmp_path), tmp_path)
    assert "damaged" in table

  def test_seconds_are_those_of_this_device(self):
    cell = _cell("compute")
    here = outcome.here("x")
    result = {"times": [{}], "provenance": here}
    assert store.is_done(result, cell)
    assert not store.is_done(result | {"times": []}, cell)
    other = here | {"devices": ["1 NVIDIA H200"]}
    assert not store.is_done(result | {"provenance": other}, cell)

  def test_episodes_are_counted_again_when_the_file_grows(self, tmp_path):
    path, job = tmp_path / "episodes.jsonl", _cell("table1").jobs[0]
    assert work.num_stored(tmp_path, job) == 0
    (tmp_path / "config.json").write_text("{}")
    line = json.dumps({"protocol": job.protocol._asdict()}) + "\n"
    for count in (1, 2):
      path.write_text(line * count)
      assert work.num_stored(tmp_path, job) == count
    path.write_text("{}\n")
    with pytest.raises(types.InputError, match="not episodes"):
      work.num_stored(tmp_path, job)


class TestStatus:
  def test_missing_part_and_done(self, tmp_path):
    place, cell = _place(tmp_path), _cell("table1")

    def state():
      table = store.status([cell], place, tmp_path / "results")
      return table.splitlines()[1]

    assert "missing" in state()
    folder = place.pretrain(_CONV)
    folder.mkdir(parents=True)
    recipe = dataclasses.asdict(_FULL.recipe(_CONV))
    (folder / "config.json").write_text(json.dumps({"pretrain": recipe}))
    (folder / pretrain.LOG).write_text('{"epoch": 1}\n' * 7)
    assert "epoch 7 of 120" in state()
    (folder / pretrain.LOG).write_text('{"epoch": 1}\n' * 120)
    job = cell.jobs[0]
    episodes_of = place.episodes(job, "novel")
    episodes_of.mkdir(parents=True)
    (episodes_of / "config.json").write_text("{}")
    record = {"protocol": job.protocol._asdict(), "index": 0}
    other = {"protocol": dataclasses.asdict(episodes.Protocol(7)), "index": 0}
    (episodes_of / "episodes.jsonl").write_text(
      (json.dumps(record) + "\n") * 40 + json.dumps(other) + "\n"
    )
    assert "pre-trained, 40 of 6,000 episodes" in state()
    TestStore()._written(tmp_path / "results", 300)
    assert "done, n = 300" in state()
    TestStore()._written(tmp_path / "results", 1000)
    assert "done, n = 1,000" in state()

  def test_a_folder_of_another_recipe(self, tmp_path):
    """One from before the recipe had `batch_norm_group` is not another."""
    network = dataclasses.replace(_CONV, whole_batch_norm=True)
    place, cell = _place(tmp_path), _cell("table1", network)
    folder = place.pretrain(network)
    folder.mkdir(parents=True)
    (folder / pretrain.LOG).write_text('{"epoch": 1}\n' * 7)
    recipe = dataclasses.asdict(_FULL.recipe(network))
    del recipe["batch_norm_group"]
    for batch_size, words in ((256, "epoch 7 of 120"), (64, "another recipe")):
      config = {"pretrain": recipe | {"batch_size": batch_size}}
      (folder / "config.json").write_text(json.dumps(config))
      line = store.status([cell], place, tmp_path / "results").splitlines()[1]
      assert words in line

  def test_every_file_of_results_is_done(self, tmp_path):
    """Whatever its target and budget; those of the repository are."""
    results = pathlib.Path(__file__).parents[1] / "results"
    paths = sorted(results.glob("*.json"))
    wanted = [_cell("table1"), _cell("table1", cells.Network(*_OTHER))]
    lines = store.status(wanted, _place(tmp_path), results).splitlines()[1:]
    assert [line.split()[0] for line in lines[: len(paths)]] == [
      path.stem for path in paths
    ]
    for line in lines[: len(paths)]:
      assert "done, " in line
      assert ("quick" in line.split("done, ")[1]) == ("-quick" in line)
      assert "recipe" not in line
      assert line.split()[-1] != "?"
    # Wanted cells that are not among them, the sum, what it means.
    stems = {path.stem for path in paths}
    missing = [cell.name for cell in wanted if cell.name not in stems]
    rest = lines[len(paths) :]
    assert [line.split()[0] for line in rest[: len(missing)]] == missing
    assert all("missing" in line for line in rest[: len(missing)])
    assert rest[len(missing)].startswith("all ")
    assert len(rest) == len(missing) + 2

    def is_figure(result):
      return result["target"] == "figure3"

    table = store.status([], _place(tmp_path), results, is_figure)
    assert "figure3-fc100" in table
    assert "table1" not in table

  def test_results_of_another_recipe_say_so(self, tmp_path):
    cell = TestStore()._written(tmp_path, 1000)
    path = store.path(cell, _FULL, tmp_path)
    path.write_text(path.read_text().replace("[40, 80]", "[20, 80]"))
    (line,) = [
      line
      for line in store.status([cell], _place(tmp_path), tmp_path).splitlines()
      if line.startswith(cell.name)
    ]
    assert "done" in line
    assert "another recipe" in line


def test_toy_takes_the_first_images_of_each_class():
  dataset = fsl.data.synthetic.make(3, 10, image_size_px=8)
  few = work.first_of_each_class(dataset, 4)
  assert np.bincount(few.class_ids).tolist() == [4, 4, 4]
  np.testing.assert_array_equal(few.images[4:8], dataset.images[10:14])
  assert list(few.image_ids[4:8]) == [
    dataset.image_ids[i] for i in range(10, 14)
  ]
