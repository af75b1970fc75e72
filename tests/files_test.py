"""Files that are replaced all at once, and streams of random words."""

import os

import numpy as np
import pytest

from fsl_jax import files, random_words


def test_the_old_file_is_kept_until_the_new_one_is_complete(tmp_path):
  path = tmp_path / "a.txt"
  files.write(path, "old ü")
  assert path.read_bytes() == "old ü".encode()
  files.write(path, b"older")

  def fail():
    with files.replacing(path) as file:
      file.write(b"new")
      assert path.read_bytes() == b"older"
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    fail()
  assert path.read_bytes() == b"older"
  assert os.listdir(tmp_path) == ["a.txt"]
  # As any file that this process makes, and not readable by its owner only.
  (tmp_path / "other").touch()
  assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_words_do_not_change():
  """Episodes and orders of training depend on them."""
  assert random_words.stream("order/0/3").random_raw(2).tolist() == [
    3881991797426472520,
    2000921760870787160,
  ]
  assert random_words.permutation("order/0/3", 6).tolist() == [5, 1, 4, 2, 0, 3]
  assert random_words.permutation([1, 2, 3], 6).tolist() == [1, 2, 4, 5, 0, 3]
  for name in ("a", [7]):
    order = random_words.permutation(name, 50)
    assert np.array_equal(np.sort(order), np.arange(50))
