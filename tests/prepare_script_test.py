"""experiments/prepare_data.py from the command line."""

import pathlib
import shutil
import subprocess
import sys

import pytest
import tiny_source

from fsl_jax import data

_ROOT = pathlib.Path(__file__).parent.parent
_SCRIPT = [sys.executable, str(_ROOT / "experiments" / "prepare_data.py")]


@pytest.fixture
def source(tmp_path):
  return tiny_source.write(tmp_path / "source")


@pytest.fixture
def data_dir(tmp_path):
  return tmp_path / "data"


def _run(*arguments):
  return subprocess.run(
    [*_SCRIPT, *arguments], capture_output=True, text=True, timeout=120
  )


def test_from_the_source_to_the_account(source, data_dir):
  shutil.copy(source / "base/ant/0.png", source / "novel/fox/copy.png")
  (source / "val/eel/0.png").write_bytes(b"")
  name, where = "--dataset=image_folder/mine", f"--data_dir={data_dir}"
  start = f"--source={source}"
  refused = _run(name, where, start)
  assert refused.returncode == 1
  assert refused.stderr.count("\n") == 2
  assert "error: 1 of 22 images in" in refused.stderr
  assert "val/eel/0.png: the file is empty" in refused.stderr

  done = _run(name, where, start, "--skip_bad", "--size_px=12")
  assert done.returncode == 0, done.stderr
  found = data.describe("image_folder/mine", data_dir)
  assert found is not None
  assert found.size == (12, 12)
  text = " ".join(done.stdout.split())
  for part in (
    found.fingerprint,
    str(found.folder),
    "left out 1: val/eel/0.png: the file is empty",
    "copies 0 of 21 images repeat one of their class; in two classes: 1,",
    "12 x 12; centre square, resized to 12 px, antialiased bilinear; 21",
    "base 3 9 1 to 5",
  ):
    assert part in text

  listed = _run("--list", where)
  assert "image_folder/mine" in listed.stdout
  assert found.fingerprint[:12] in listed.stdout
  verified = _run("--verify=image_folder/mine", where)
  assert "all 21 images are as they were" in verified.stdout
  again = _run(name, where, start)
  assert "already prepared" in again.stdout
  assert not again.stderr


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((), "error: give one of --dataset=NAME, "),
    (("--dataset=icons", "--seed=3"), "error: --seed has no effect on icons"),
  ],
)
def test_wrong_arguments_end_in_one_sentence(arguments, message, data_dir):
  result = _run(*arguments, f"--data_dir={data_dir}")
  assert result.returncode == 1
  assert message in result.stderr
  assert result.stderr.count("\n") == 1
  assert not result.stdout
