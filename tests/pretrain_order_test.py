"""The order of the images in an epoch, and the sums over its steps."""

import hashlib
import json

import numpy as np

from fsl_jax.pretrain import order, progress, recipe


class TestOrder:
  def _of(self, seed: int = 0, epoch: int = 0, n: int = 103, batch: int = 10):
    return order.of_epoch(seed, epoch, num_images=n, batch_size=batch)

  def test_no_image_twice(self):
    for epoch in range(5):
      rows = self._of(epoch=epoch)
      assert (rows.shape, rows.dtype) == ((10, 10), np.int32)
      assert len(np.unique(rows)) == 100
      assert rows.min() >= 0
      assert rows.max() < 103

  def test_batch_size_only_cuts(self):
    whole = self._of(batch=1)
    assert sorted(whole.ravel()) == list(range(103))
    assert np.array_equal(self._of(batch=7).ravel(), whole.ravel()[:98])
    assert self._of(batch=104).shape == (0, 104)

  def test_epochs_and_seeds_differ(self):
    orders = [self._of(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders.append(self._of(seed=11, epoch=0))
    orders.append(self._of(seed=1, epoch=10))
    assert len({rows.tobytes() for rows in orders}) == len(orders)
    assert np.array_equal(self._of(2, 1), self._of(2, 1))

  def test_every_image_is_as_likely_everywhere(self):
    first = np.stack(
      [self._of(epoch=epoch, n=5, batch=5)[0] for epoch in range(1000)]
    )
    counts = np.stack([(first == i).sum(0) for i in range(5)])
    # 200 of 1000 each; the standard deviation is 12.6.
    assert np.abs(counts - 200).max() < 65

  def test_it_is_the_same_everywhere_and_forever(self):
    # A run that goes on with another version must meet the same batches.
    assert self._of()[0].tolist() == _GOLDEN[0]
    assert self._of(seed=7, epoch=3)[9].tolist() == _GOLDEN[1]
    # By hand, from the raw output of the generator.
    key = hashlib.sha256(b"order/7/3").digest()[:16]
    bits = np.random.Philox(key=int.from_bytes(key, "little"))
    words = [int(bits.random_raw()) for _ in range(103)]
    by_hand = sorted(range(103), key=lambda i: words[i])
    assert self._of(seed=7, epoch=3).ravel().tolist() == by_hand[:100]


_GOLDEN = (
  [50, 99, 84, 54, 45, 32, 40, 80, 62, 72],
  [82, 99, 56, 54, 48, 72, 87, 21, 36, 7],
)


class TestTally:
  def _infos(self, *losses: float) -> recipe.TrainInfo:
    values = np.asarray(losses, np.float32)
    return recipe.TrainInfo(values, values / 7, values + 1)

  def test_sums_do_not_depend_on_grouping_or_interruption(self):
    losses = np.random.default_rng(0).uniform(1, 3, 9).astype(np.float32)
    whole = progress.Tally()
    whole.add(self._infos(*losses))
    parts = progress.Tally()
    for loss in losses[:4]:
      parts.add(self._infos(loss))
    # As a checkpoint keeps it.
    kept = json.loads(json.dumps(parts.read()._asdict()))
    parts = progress.Tally(progress.Sums(**kept))
    assert parts.num_steps == 4
    parts.add(self._infos(*losses[4:6]))
    parts.add(self._infos(*losses[6:]))
    assert parts.num_steps == 9
    assert parts.means() == whole.means()
    assert parts.read() == whole.read()

  def test_means_by_hand(self):
    tally = progress.Tally()
    tally.add(self._infos(7.0, 14.0))
    tally.add(self._infos(21.0))
    assert tally.means() == {"loss": 14, "accuracy": 2, "learning_rate": 8}
