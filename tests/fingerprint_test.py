"""The fingerprint: what it depends on, what it does not, and its rule."""

import hashlib

import numpy as np

from fsl_jax.data import fingerprint

_IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
_IDS = (0, 0, 1, 1, 2, 2)
_NAMES = ("cat", "dog", "owl")


def test_does_not_depend_on_order():
  order = [3, 0, 5, 1, 4, 2]
  # Classes in another order too: dog, owl, cat.
  renumbered = [(2, 0, 1)[_IDS[i]] for i in order]
  assert fingerprint.of_split(_IMAGES, _IDS, _NAMES) == fingerprint.of_split(
    _IMAGES[order], renumbered, ("dog", "owl", "cat")
  )


def test_depends_on_pixels_classes_shape_and_number():
  pixel = _IMAGES.copy()
  pixel[2, 1, 1, 1] ^= 1
  twice = np.concatenate([_IMAGES, _IMAGES[:1]])
  thrice = np.concatenate([twice, _IMAGES[:1]])
  variants = [
    (_IMAGES, _IDS, _NAMES),
    (pixel, _IDS, _NAMES),
    (_IMAGES, (0, 1, 0, 1, 2, 2), _NAMES),
    (_IMAGES, _IDS, ("cat", "dog", "cow")),
    (_IMAGES, _IDS, (*_NAMES, "empty")),
    (_IMAGES.reshape(6, 5, 4, 3), _IDS, _NAMES),
    (_IMAGES[:4], _IDS[:4], _NAMES),
    # Exclusive or, instead of a sum, would take two equal images for none.
    (twice, (*_IDS, 0), _NAMES),
    (thrice, (*_IDS, 0, 0), _NAMES),
    ([], [], _NAMES),
    ([], [], []),
  ]
  assert len({fingerprint.of_split(*v) for v in variants}) == len(variants)


def test_image_by_image_is_the_same_as_at_once():
  accumulator = fingerprint.Accumulator()
  for i in (5, 2, 0, 1, 4, 3):
    digest = fingerprint.of_image(_IMAGES[i])
    accumulator.add(_NAMES[_IDS[i]], digest)
  assert accumulator.hexdigest(_NAMES) == fingerprint.of_split(
    _IMAGES, _IDS, _NAMES
  )


def test_memory_layout_does_not_matter():
  turned = np.asfortranarray(_IMAGES[0])
  assert fingerprint.of_image(turned) == fingerprint.of_image(_IMAGES[0])
  wide = np.zeros((4, 10, 3), np.uint8)
  wide[:, ::2] = _IMAGES[0]
  assert fingerprint.of_image(wide[:, ::2]) == fingerprint.of_image(_IMAGES[0])


def test_the_rule_by_hand():
  def sha(data):
    return hashlib.sha256(data).digest()

  black = np.zeros((1, 2, 3), np.uint8)
  white = np.full((2, 1, 3), 255, np.uint8)
  digests = [
    sha(b"(1, 2, 3)\n" + b"\0" * 6),
    sha(b"(2, 1, 3)\n" + b"\xff" * 6),
  ]
  assert fingerprint.of_image(black) == digests[0]
  terms = [sha(b"dog\n" + digests[0]), sha(b"cat\n" + digests[1])]
  total = sum(int.from_bytes(term, "big") for term in terms) % 2**256
  expected = sha(sha_input := b"cat\ndog" + b"\0" + total.to_bytes(32, "big"))
  assert len(sha_input) == 7 + 1 + 32
  found = fingerprint.of_split([black, white], [0, 1], ["dog", "cat"])
  assert found == expected.hex()
  empty = sha(b"" + b"\0" + b"\0" * 32).hex()
  assert fingerprint.of_split([], [], []) == empty


def test_the_sum_wraps_at_2_to_the_256():
  # Ten terms exceed 2^256 many times; the sum must still be of 32 bytes.
  accumulator, total = fingerprint.Accumulator(), 0
  for i in range(10):
    digest = bytes([i]) * 32
    accumulator.add("cat", digest)
    term = hashlib.sha256(b"cat\n" + digest).digest()
    total += int.from_bytes(term, "big")
  assert total >= 2**256
  whole = b"cat\0" + (total % 2**256).to_bytes(32, "big")
  expected = hashlib.sha256(whole).hexdigest()
  assert accumulator.hexdigest(["cat"]) == expected


def test_of_splits_depends_on_which_is_which():
  one = fingerprint.of_splits({"base": "a", "novel": "b"})
  assert one == fingerprint.of_splits({"novel": "b", "base": "a"})
  assert one != fingerprint.of_splits({"base": "b", "novel": "a"})
