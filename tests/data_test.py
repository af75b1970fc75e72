"""The data stage: the real icons, prepared once for all tests; synthetic."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from fsl_jax import data, types
from fsl_jax.data import fingerprint, prepared
from fsl_jax.data.builders import icon_classes, icon_fonts, icon_names

_ROOT = pathlib.Path(__file__).parent.parent
_SCRIPT = [sys.executable, str(_ROOT / "experiments" / "prepare_data.py")]


class Icons(NamedTuple):
  data_dir: pathlib.Path
  output: str  # of the script
  drawings: list[icon_classes.Drawing]  # of a second, independent build


@pytest.fixture(scope="session")
def icons(tmp_path_factory: pytest.TempPathFactory) -> Icons:
  data_dir = tmp_path_factory.mktemp("data")
  command = [*_SCRIPT, "--dataset=icons", f"--data_dir={data_dir}"]
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    drawings = icon_classes.build()
    output, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  return Icons(data_dir, output, drawings)


@pytest.fixture
def spoilt_dir(icons: Icons, tmp_path: pathlib.Path) -> pathlib.Path:
  """A copy of the prepared data, to be damaged."""
  shutil.copytree(icons.data_dir, tmp_path / "data")
  return tmp_path / "data"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [*_SCRIPT, *arguments], capture_output=True, text=True, timeout=120
  )


class TestIcons:
  def test_classes_and_splits(self, icons: Icons) -> None:
    sizes: dict[str, int] = {}
    packs: dict[str, set[str]] = {}
    for drawing in icons.drawings:
      sizes[drawing.class_name] = sizes.get(drawing.class_name, 0) + 1
      packs.setdefault(drawing.class_name, set()).add(drawing.pack)
    # Another Pillow may move a class or two over the threshold.
    assert len(sizes) == pytest.approx(269, abs=3)
    assert sum(sizes.values()) == pytest.approx(4145, abs=40)
    assert min(sizes.values()) >= icon_classes.MIN_IMAGES
    assert min(map(len, packs.values())) >= icon_classes.MIN_PACKS

    splits = icon_classes.split_classes(sizes)
    joined = [name for names in splits.values() for name in names]
    assert sorted(joined) == sorted(sizes)
    assert len(splits["base"]) == pytest.approx(0.65 * len(sizes), abs=1)
    assert len(splits["val"]) == pytest.approx(0.15 * len(sizes), abs=1)
    # A class less moves only those at the two borders.
    fewer = icon_classes.split_classes(sorted(sizes)[1:])
    assert len(set(splits["novel"]) ^ set(fewer["novel"])) <= 3

  def test_drawings_are_centred_whole_and_distinct(self, icons: Icons) -> None:
    pixels = np.stack([drawing.pixels for drawing in icons.drawings])
    assert pixels.shape[1:] == (64, 64)
    assert pixels.dtype == np.uint8
    assert not pixels[:, :6].any()
    assert not pixels[:, :, -6:].any()
    assert np.all(pixels.max((1, 2)) > 100)
    image_ids = [drawing.image_id for drawing in icons.drawings]
    assert len(set(image_ids)) == len(image_ids)
    assert len({image.tobytes() for image in pixels}) == len(image_ids)
    assert "lucide/umbrella" in image_ids

  @pytest.mark.parametrize(
    ("pack", "raw_name", "expected"),
    [
      ("lucide", "icon-arrow-left", "arrow-left"),
      ("fluent", "ic-fluent-home-20-filled", "home"),
      ("remix", "home-4-line", "home"),
      ("gmi", "lock_open", "lock-open"),
      ("fa", "circle-check", "check-circle"),
      ("bs", "check-circle-fill", "check-circle"),
      ("fa", "bell-slash", "bell-off"),
      ("mat", "alarm-light", "alarm-light"),
      ("mat", "dice-3", "dice-3"),
      ("fluent", "ic-fluent-alert-24-regular", "bell"),
      ("gmi", "tag", None),
    ],
  )
  def test_class_name(
    self, pack: str, raw_name: str, expected: str | None
  ) -> None:
    assert icon_names.class_name(pack, raw_name) == expected

  def test_two_builds_have_the_same_fingerprint(self, icons: Icons) -> None:
    found = data.describe("icons", icons.data_dir)
    assert found is not None
    by_class: dict[str, list[np.ndarray]] = {}
    for drawing in icons.drawings:
      rgb = np.stack([drawing.pixels] * 3, -1)
      by_class.setdefault(drawing.class_name, []).append(rgb)
    for split, names in icon_classes.split_classes(by_class).items():
      assert found.class_names[split] == names
      images = [image for name in names for image in by_class[name]]
      class_ids = [i for i, name in enumerate(names) for _ in by_class[name]]
      again = fingerprint.of_split(images, class_ids, names)
      assert found.fingerprints[split] == again

  def test_missing_and_wrong_packages_are_named(
    self, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
  ) -> None:
    wrong = {"tkinter-icons-bs": "0.0.1", "tkinter-icons-none": "1.0"}
    monkeypatch.setattr(icon_fonts, "PACKAGES", wrong)
    with pytest.raises(
      types.InputError,
      match=r"pip install tkinter-icons-bs==0.0.1 tkinter-icons-none==1.0$",
    ):
      data.prepare("icons", data_dir=tmp_path)
    assert data.describe("icons", tmp_path) is None


class TestFingerprint:
  _IMAGES = np.random.default_rng(0).integers(
    0, 256, (6, 4, 5, 3), dtype=np.uint8
  )
  _IDS = (0, 0, 1, 1, 2, 2)
  _NAMES = ("cat", "dog", "owl")

  def test_does_not_depend_on_order(self) -> None:
    order = [3, 0, 5, 1, 4, 2]
    # Classes in another order too: dog, owl, cat.
    renumbered = [(2, 0, 1)[self._IDS[i]] for i in order]
    assert fingerprint.of_split(
      self._IMAGES, self._IDS, self._NAMES
    ) == fingerprint.of_split(
      self._IMAGES[order], renumbered, ("dog", "owl", "cat")
    )

  def test_depends_on_pixels_classes_and_shape(self) -> None:
    pixel = self._IMAGES.copy()
    pixel[2, 1, 1, 1] ^= 1
    variants = [
      (self._IMAGES, self._IDS, self._NAMES),
      (pixel, self._IDS, self._NAMES),
      (self._IMAGES, (0, 1, 0, 1, 2, 2), self._NAMES),
      (self._IMAGES, self._IDS, ("cat", "dog", "cow")),
      (self._IMAGES, self._IDS, (*self._NAMES, "empty")),
      (self._IMAGES.reshape(6, 5, 4, 3), self._IDS, self._NAMES),
      (self._IMAGES[:4], self._IDS[:4], self._NAMES),
    ]
    assert len({fingerprint.of_split(*v) for v in variants}) == len(variants)

  def test_of_splits_depends_on_which_is_which(self) -> None:
    one = fingerprint.of_splits({"base": "a", "novel": "b"})
    assert one == fingerprint.of_splits({"novel": "b", "base": "a"})
    assert one != fingerprint.of_splits({"base": "b", "novel": "a"})


class TestLoad:
  def test_images_are_sorted_and_grey(self, icons: Icons) -> None:
    novel = data.load("icons", "novel", data_dir=icons.data_dir)
    assert novel.images.shape[1:] == (64, 64, 3)
    assert novel.images.flags["C_CONTIGUOUS"]
    assert np.array_equal(novel.images[..., 0], novel.images[..., 2])
    keys = list(zip(novel.class_ids, novel.image_ids, strict=True))
    assert keys == sorted(keys)
    assert np.diff(novel.class_offsets()).min() >= icon_classes.MIN_IMAGES
    row = 7
    original = {d.image_id: d for d in icons.drawings}[novel.image_ids[row]]
    assert np.array_equal(novel.images[row, :, :, 0], original.pixels)
    assert novel.class_names[novel.class_ids[row]] == original.class_name

  def test_base_and_val_are_concatenated(self, icons: Icons) -> None:
    found = data.describe("icons", icons.data_dir)
    assert found is not None
    num_base = found.num_images["base"]
    val, both = (
      data.load("icons", split, data_dir=icons.data_dir, image_size_px=8)
      for split in ("val", "base+val")
    )
    assert both.split == "base+val"
    assert both.class_names == found.class_names["base"] + val.class_names
    assert both.image_ids[num_base:] == val.image_ids
    assert np.array_equal(both.images[num_base:], val.images)
    shift = both.class_ids[num_base:] - val.class_ids
    assert np.all(shift == found.num_classes["base"])
    assert both.fingerprint == val.fingerprint == found.fingerprint

  def test_resizes_with_antialiasing(self, icons: Icons) -> None:
    large = data.load("icons", "val", data_dir=icons.data_dir)
    small = data.load("icons", "val", data_dir=icons.data_dir, image_size_px=16)
    assert small.images.shape[1:] == (16, 16, 3)
    assert small.fingerprint == large.fingerprint
    expected = Image.fromarray(large.images[3]).resize(
      (16, 16), Image.Resampling.BILINEAR
    )
    assert np.array_equal(small.images[3], np.asarray(expected))
    # Antialiasing keeps the mean; picking pixels does not.
    means = large.images.mean((1, 2, 3)), small.images.mean((1, 2, 3))
    assert np.abs(means[0] - means[1]).max() < 3

  def test_wrong_requests_are_one_sentence(
    self, icons: Icons, tmp_path: pathlib.Path
  ) -> None:
    def load(name: str, split: str = "base", **options: int) -> None:
      data.load(name, split, data_dir=icons.data_dir, **options)

    with pytest.raises(types.InputError, match="'icns'; did you mean 'icons'"):
      load("icns")
    with pytest.raises(types.InputError, match=r"base, val, novel, base.val"):
      load("icons", "train")
    with pytest.raises(types.InputError, match=r"image_size_px .* got 0"):
      load("icons", image_size_px=0)
    with pytest.raises(
      types.InputError,
      match=f"prepare_data.py --dataset=icons --data_dir={tmp_path}$",
    ):
      data.load("icons", "base", data_dir=tmp_path)

  @pytest.mark.parametrize(
    "file_name",
    ["icons-val.array_record-00000-of-00001", "metadata.json", "features.json"],
  )
  def test_truncated_files_are_noticed(
    self, spoilt_dir: pathlib.Path, file_name: str
  ) -> None:
    path = prepared.folder("icons", spoilt_dir) / file_name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(types.InputError, match=r"is damaged .* --overwrite$"):
      data.load("icons", "val", data_dir=spoilt_dir)

  def test_other_pixels_are_noticed(self, spoilt_dir: pathlib.Path) -> None:
    path = prepared.folder("icons", spoilt_dir) / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["fingerprints"]["val"] = "0" * 64
    path.write_text(json.dumps(metadata))
    with pytest.raises(types.InputError, match="fingerprint of split val"):
      data.load("icons", "val", data_dir=spoilt_dir)
    data.load("icons", "novel", data_dir=spoilt_dir)

  def test_a_missing_file_is_noticed(self, spoilt_dir: pathlib.Path) -> None:
    where = prepared.folder("icons", spoilt_dir)
    (where / "icons-val.array_record-00000-of-00001").unlink()
    with pytest.raises(types.InputError, match=r"icons-val.* is missing"):
      data.describe("icons", spoilt_dir)

  def test_importing_the_library_is_light(self) -> None:
    code = (
      "import sys, fsl_jax.data; print([m for m in ('tensorflow_datasets', "
      "'orbax', 'matplotlib') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
    assert output.stdout.strip() == "[]", output.stderr


class TestPrepare:
  def test_script_reports_what_it_made(self, icons: Icons) -> None:
    found = data.describe("icons", icons.data_dir)
    assert found is not None
    assert found.fingerprint in icons.output
    assert f"{found.num_images['base']:,}" in icons.output
    assert str(found.folder) in icons.output
    assert [path.name for path in found.folder.parent.iterdir()] == ["1.0.0"]

  def test_again_does_nothing(self, icons: Icons) -> None:
    where = prepared.folder("icons", icons.data_dir)
    before = where.stat().st_ino
    again = _run("--dataset=icons", f"--data_dir={icons.data_dir}")
    assert again.returncode == 0
    assert "already prepared" in again.stdout
    assert not again.stderr
    assert where.stat().st_ino == before

  def test_no_flag_ends_in_one_sentence(self) -> None:
    result = _run()
    assert result.returncode == 1
    assert result.stderr.startswith("error: give one of --dataset=NAME, ")
    assert result.stderr.count("\n") == 1
    assert not result.stdout

  def test_verify_reads_everything(self, icons: Icons) -> None:
    verified = data.verify("icons", data_dir=icons.data_dir)
    assert verified == data.describe("icons", icons.data_dir)

  def test_interrupted_work_leaves_nothing(
    self, tmp_path: pathlib.Path
  ) -> None:
    def interrupt(glyphs: object) -> Iterator[object]:
      raise KeyboardInterrupt
      yield

    with pytest.raises(KeyboardInterrupt):
      data.prepare("icons", data_dir=tmp_path, progress=interrupt)
    assert data.describe("icons", tmp_path) is None
    assert not list((tmp_path / "icons").iterdir())

  def test_leftovers_of_killed_runs_are_removed(
    self, tmp_path: pathlib.Path
  ) -> None:
    dead, alive = tmp_path / ".unfinished-dead", tmp_path / ".unfinished-alive"
    dead.mkdir()
    (dead / "file").touch()
    alive.mkdir()
    with prepared._lock(alive), prepared._workplace(tmp_path) as place:
      assert sorted(tmp_path.iterdir()) == sorted([alive, place])
    assert list(tmp_path.iterdir()) == [alive]


class TestSynthetic:
  def test_is_deterministic_and_known(self) -> None:
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

  def test_splits_and_seeds_differ(self) -> None:
    made = [
      data.synthetic.make(2, 1, seed=seed, split=split)
      for seed, split in [(0, "base"), (0, "novel"), (1, "base")]
    ]
    assert len({one.images.tobytes() for one in made}) == 3
    assert not set(made[0].class_names) & set(made[1].class_names)

  @pytest.mark.parametrize(
    ("noise", "expected"), [(0.0, 1.0), (0.1, 1.0), (0.6, 0.6), (30.0, 0.2)]
  )
  def test_noise_is_the_difficulty(self, noise: float, expected: float) -> None:
    made = data.synthetic.make(50, 21, noise=noise)
    images = made.images.reshape(10, 5, 21, -1).astype(np.float64)
    support, queries = images[:, :, :1], images[:, :, 1:]
    squared = (
      (queries[:, :, :, None] - support[:, None, None, :, 0]) ** 2
    ).sum(-1)
    correct = squared.argmin(-1) == np.arange(5)[:, None]
    assert correct.mean() == pytest.approx(expected, abs=0.06)

  def test_wrong_numbers_are_refused(self) -> None:
    with pytest.raises(types.InputError, match="images_per_class"):
      data.synthetic.make(3, [1, 2])
    with pytest.raises(types.InputError, match="noise"):
      data.synthetic.make(3, 1, noise=-1.0)
