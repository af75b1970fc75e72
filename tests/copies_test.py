"""Copies of an image within a class: counted, and kept apart in episodes."""

import io
import shutil

import numpy as np
import pytest
import tiny_source
from PIL import Image

from fsl_jax import data, dataset_hardness, types
from fsl_jax.data import description, near_copies
from fsl_jax.episodes import protocols, sampler
from fsl_jax.episodes import source as source_lib


def noise(num_classes=20, different=8, copies=2, size_px=8):
  """Classes of noise, from which nothing can be learned; each image twice."""
  rng = np.random.default_rng(0)
  shape = (num_classes, different, size_px, size_px, 3)
  images = np.repeat(rng.integers(0, 256, shape, np.uint8), copies, axis=1)
  each = different * copies
  ids = [f"{c}/{i}" for c in range(num_classes) for i in range(each)]
  return types.ClassIndexed(
    images=images.reshape(-1, *shape[2:]),
    class_ids=np.repeat(np.arange(num_classes, dtype=np.int32), each),
    class_names=tuple(f"c{c}" for c in range(num_classes)),
    image_ids=tuple(ids),
    name="noise",
    split="novel",
  )


def _accuracy(dataset, **protocol):
  """Of the nearest class mean of pixels, 5 ways, 5 shots."""
  made = protocols.make(ways=5, shots=5, queries=3, **protocol)
  pixels = np.asarray(dataset.images, np.float32).reshape(
    len(dataset.images), -1
  )
  judged = dataset_hardness.of_source(
    source_lib.Drawn(dataset, made, seed=0), pixels - 127.5, 300
  )
  return float(judged.result.accuracy.mean())


class TestEpisodes:
  def test_noise_is_at_chance_only_without_copies(self):
    # So many classes that hardly an image is drawn often: with 20 of them one
    # data set of noise differs from another by 2.4 points.
    dataset = noise(300)
    assert _accuracy(dataset) > 0.38
    assert _accuracy(dataset, copies="apart") == pytest.approx(0.2, abs=0.03)

  @pytest.mark.parametrize(
    "values",
    [
      {},
      {"shots": "uneven:1:5"},
      {"queries": "rest"},
      {"queries": "dirichlet:3:1"},
      {"reuse": False},
    ],
  )
  def test_no_image_twice_in_an_episode(self, values):
    dataset = noise()
    digests = dataset.image_digests()
    values = {"ways": 4, "shots": 3, "queries": 3, "copies": "apart"} | values
    protocol = protocols.make(**values)
    seen = set()
    num_episodes = 10 if protocol.reuse else 5
    for index in range(num_episodes):
      rows = sampler.draw(dataset, protocol, seed=0, index=index)
      taken = digests[[*rows.support, *rows.query]]
      assert len(set(taken.tolist())) == len(taken)
      for part in ("support", "query"):
        classes = rows.class_ids[getattr(rows, f"{part}_labels")]
        assert (dataset.class_ids[getattr(rows, part)] == classes).all()
      seen.update(taken.tolist())
    if values["queries"] == "rest":
      assert len(rows.support) + len(rows.query) == 4 * 8
    if not protocol.reuse:
      assert len(seen) == 5 * 4 * 6

  def test_groups_apart_as_well(self):
    dataset = noise(4, different=8)
    group = [f"{i % 4}/{i}" for i in range(len(dataset.class_ids))]
    dataset = types.ClassIndexed(
      **{**vars_of(dataset), "image_ids": tuple(group)}
    )
    protocol = protocols.make(
      ways=3, shots=2, queries=2, copies="apart", groups="apart"
    )
    digests = dataset.image_digests()
    for index in range(20):
      rows = sampler.draw(dataset, protocol, seed=0, index=index)
      assert not set(digests[rows.support]) & set(digests[rows.query])

  def test_copies_do_not_count_as_images_of_a_class(self):
    with pytest.raises(types.InputError) as caught:
      sampler.check(noise(), protocols.make(shots=5, queries=5, copies="apart"))
    message = str(caught.value)
    assert "10 different images" in message
    assert "has 8 " in message
    assert "skip" not in message
    sampler.check(noise(), protocols.make(shots=5, queries=5))

  def test_features_give_the_same_episodes(self):
    """Different images may have equal features."""
    dataset = noise()
    features = np.zeros((len(dataset.class_ids), 4), np.float32)
    protocol = protocols.make(shots=3, queries=3, copies="apart")
    of_images, of_features = (
      sampler.draw(one, protocol, seed=0, index=3)
      for one in (dataset, dataset.with_features(features))
    )
    np.testing.assert_array_equal(of_images.query, of_features.query)
    np.testing.assert_array_equal(of_images.support, of_features.support)

  def test_it_is_recorded_and_named(self):
    protocol = protocols.make(copies="apart")
    assert protocol.values()["copies"] == "apart"
    assert "copies" in protocol.text
    assert protocols.from_values(protocol.values()) == protocol
    assert "copies" not in protocols.make().values()


def vars_of(dataset):
  names = ("images", "class_ids", "class_names", "image_ids", "name", "split")
  return {name: getattr(dataset, name) for name in names}


class TestNearCopies:
  def test_of_every_kind(self):
    """Smooth patterns, and what becomes of them on the way through the web."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (9, 4, 4, 3), np.uint8)
    size = (64, 64)
    one, *others = [
      Image.fromarray(d).resize(size, Image.Resampling.BICUBIC) for d in drawn
    ]
    buffer = io.BytesIO()
    one.save(buffer, "JPEG", quality=40)
    flipped = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    images = [
      one,
      one,  # the very same is no near copy
      Image.open(buffer),
      one.resize((40, 40), Image.Resampling.BILINEAR).resize(size),
      flipped,
      *others,
      Image.new("RGB", size, (7, 7, 7)),
      Image.new("RGB", size, (8, 8, 8)),
    ]
    dataset = types.ClassIndexed(
      images=np.stack(
        [np.asarray(image) for image in images] + [np.asarray(one)]
      ),
      class_ids=np.asarray([0] * len(images) + [2], np.int32),
      class_names=("a", "none", "b"),
      image_ids=[str(i) for i in range(len(images) + 1)],
      name="patterns",
      split="base",
    )
    found = near_copies.find(dataset)
    assert (found.num_images, found.num_mirrored) == (3, 1)
    assert sorted(later for _, later in found.examples) == [2, 3, 4]
    assert {earlier for earlier, _ in found.examples} <= {0, 1, 2, 3}

  def test_features_have_none(self):
    dataset = noise().with_features(np.zeros((320, 4), np.float32))
    with pytest.raises(types.InputError, match="has features"):
      near_copies.find(dataset)


class TestPrepared:
  @pytest.fixture
  def found(self, tmp_path, monkeypatch):
    tiny_source.register(monkeypatch)
    source = tiny_source.write(tmp_path / "source")
    for i in range(2):
      shutil.copy(source / "base/ant/2.png", source / f"base/ant/copy{i}.png")
    shutil.copy(source / "novel/fox/0.png", source / "novel/fox/copy.png")
    return tiny_source.prepare(source, tmp_path / "data")

  def test_they_are_counted(self, found):
    assert found.repeated["num_within"] == {"base": 2, "val": 0, "novel": 1}
    assert found.repeated["num_pairs"] == 0
    pairs = found.repeated["examples_within"]
    assert ["novel: novel/fox/0.png", "novel: novel/fox/copy.png"] in pairs
    assert len(pairs) == 3
    assert description.copies(found).startswith("3 of 24 images repeat")
    assert description.copies(found, "base+val").startswith("2 of 17 images")

  def test_verify_counts_them_again(self, found, tmp_path):
    """Also of what was prepared before they were counted."""
    where = tmp_path / "data"
    assert data.verify("tiny", data_dir=where) == found
    metadata = found.folder / "metadata.json"
    metadata.write_text(
      metadata.read_text().replace('"num_within"', '"num_other"')
    )
    old = data.describe("tiny", where)
    assert old is not None
    assert "not counted" in description.copies(old)
    assert data.verify("tiny", data_dir=where).repeated == found.repeated

  @pytest.mark.parametrize("in_memory", [True, False])
  def test_episodes_of_arrays_and_of_files_are_the_same(
    self, found, tmp_path, in_memory
  ):
    base = data.load(
      "tiny", "base", data_dir=tmp_path / "data", in_memory=in_memory
    )
    digests = base.image_digests()
    ant = digests[base.class_ids == 0]
    assert len(ant) == 7
    assert len(np.unique(ant)) == 5
    images = np.asarray(base.images[np.arange(len(digests))])
    same = (images[:, None] == images[None]).all(axis=(2, 3, 4))
    np.testing.assert_array_equal(digests[:, None] == digests, same)

  def test_files_without_digests(self, found, tmp_path):
    """Of data sets that were made before."""
    index = found.folder / "base.digests.npy"
    index.unlink()
    with pytest.raises(types.InputError, match="is damaged"):
      data.load("tiny", "base", data_dir=tmp_path / "data", in_memory=False)
