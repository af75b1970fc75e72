"""Synthetic data: known, repeatable, and as hard as asked for."""

import numpy as np
import pytest

from fsl_jax import data, types


def test_is_deterministic_and_known():
  made = data.synthetic.make(5, [3, 0, 4, 1, 2], seed=1)
  again = data.synthetic.make(5, [3, 0, 4, 1, 2], seed=1)
  assert np.array_equal(made.images, again.images)
  assert made.images.shape == (10, 16, 16, 3)
  assert np.diff(made.class_offsets()).tolist() == [3, 0, 4, 1, 2]
  assert made.num_classes == 5
  assert list(made.image_ids) == sorted(made.image_ids)
  # A class depends neither on the others nor on how many images it has.
  more = data.synthetic.make(6, 4, seed=1)
  assert np.array_equal(more.images[:3], made.images[:3])


def test_splits_and_seeds_differ():
  made = [
    data.synthetic.make(2, 1, seed=seed, split=split)
    for seed, split in [(0, "base"), (0, "novel"), (1, "base")]
  ]
  assert len({one.images.tobytes() for one in made}) == 3
  assert not set(made[0].class_names) & set(made[1].class_names)


@pytest.mark.parametrize(
  ("noise", "expected"), [(0.0, 1.0), (0.1, 1.0), (0.6, 0.6), (30.0, 0.2)]
)
def test_noise_is_the_difficulty(noise, expected):
  made = data.synthetic.make(50, 21, noise=noise)
  images = made.images.reshape(10, 5, 21, -1).astype(np.float64)
  support, queries = images[:, :, :1], images[:, :, 1:]
  squared = ((queries[:, :, :, None] - support[:, None, None, :, 0]) ** 2).sum(
    -1
  )
  correct = squared.argmin(-1) == np.arange(5)[:, None]
  assert correct.mean() == pytest.approx(expected, abs=0.06)


def test_wrong_numbers_are_refused():
  with pytest.raises(types.InputError, match="images_per_class"):
    data.synthetic.make(3, [1, 2])
  with pytest.raises(types.InputError, match="noise"):
    data.synthetic.make(3, 1, noise=-1.0)
