"""The bench: ratios, spreads, table; and that PyTorch's side is the same."""

import pathlib
import sys
import time

import pytest

sys.path.insert(
  0, str(pathlib.Path(__file__).resolve().parents[1] / "experiments")
)

from benchmarks import adaptation, cases, measure


@pytest.fixture
def clock(monkeypatch):
  """Time that passes only where a run says so."""
  now = [0.0]
  monkeypatch.setattr(time, "perf_counter", lambda: now[0])

  def passing(*seconds):
    left = list(seconds)

    def run():
      now[0] += left.pop(0)

    return run

  return passing


def test_paired_runs_by_hand(clock):
  """The first run of each is not counted; ratios are of neighbours."""
  case = measure.Case(
    name="a thing",
    unit="episodes",
    units=4,
    flop=8e9,
    ours=clock(99, 2, 4, 8),
    # Half as many episodes a run.
    others={"torch": measure.Other(clock(99, 3, 4, 8), 2)},
  )
  row = measure.compare(case, repeats=3, product_rate=10e9)
  assert row["seconds_per_unit"] == 1  # of 0.5, 1, 2
  assert row["rate"] == 1
  assert row["gflop_per_s"] == 2  # 2 GFLOP an episode
  assert row["of_products"] == 0.2
  other = row["others"]["torch"]
  assert other["seconds_per_unit"] == 2  # of 1.5, 2, 4
  assert other["ratio"] == {"median": 2, "min": 2, "max": 3}


def test_table_shows_ratio_spread_and_rates(clock):
  case = measure.Case(
    name="a thing",
    unit="images",
    units=1000,
    flop=1e12,
    ours=clock(99, 2),
    compile_s=1.25,
    memory_bytes=3_000_000,
    others={"torch": measure.Other(clock(99, 1), 1000)},
    note="half of it",
  )
  text = measure.markdown([measure.compare(case, repeats=1, product_rate=1e12)])
  assert text.splitlines()[-1] == (
    "| a thing (half of it) | float32 | 500 images/s | 500 | 50% | 1.2 | 3 | "
    "0.50x (0.50-0.50) torch, 1,000 images/s |"
  )


def test_useful_work_of_an_episode_by_hand():
  """conv64 at 16 px, 5 ways, 1 shot, 15 queries, 2 epochs: 80 images trained
  on twice at three passes, and seen once more."""
  setup = adaptation.Setup("conv64", 16, epochs=2, episodes=3)
  products = 9 * 64 * (3 * 16**2 + 64 * (8**2 + 4**2 + 2**2)) + 64 * 64
  assert setup.flop() == 2 * products * (3 * 2 * 80 + 80) * 3


def test_initialisation_sees_each_image_once():
  setup = adaptation.Setup("conv64", 16, "support_init")
  whole = adaptation.Setup("conv64", 16, epochs=1)
  assert whole.flop() == 4 * setup.flop()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_line_names_differ(platform):
  for choose in (cases.of_platform, cases.toy):
    assert choose(platform, against_torch=False)


@pytest.mark.parametrize(
  ("backbone", "method"),
  [
    ("conv64", "finetune"),
    ("conv64", "transductive_finetune"),
    ("resnet12", "transductive_finetune"),
    ("wrn_16_4", "support_init"),
  ],
)
def test_pytorch_computes_the_same(backbone, method):
  pytest.importorskip("torch")
  from benchmarks import torch_loops

  setup = adaptation.Setup(backbone, 16, method, ways=3, shots=2)
  assert adaptation.check(setup, torch_loops.Setting()) < 1e-3


def test_another_method_is_noticed(monkeypatch):
  """The check can fail."""
  torch = pytest.importorskip("torch")
  from benchmarks import torch_loops

  from fsl_jax import types

  monkeypatch.setattr(torch_loops.F, "relu", torch.abs)
  setup = adaptation.Setup("conv64", 16, ways=3)
  with pytest.raises(types.InputError, match="differ from PyTorch"):
    adaptation.check(setup, torch_loops.Setting())
