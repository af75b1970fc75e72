"""The data set `icons`: its classes, its drawings, and its script."""

import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from fsl_jax import data, types
from fsl_jax.data import fingerprint
from fsl_jax.data.builders import icon_glyphs
from fsl_jax.data.builders import icons as icons_lib

_ROOT = pathlib.Path(__file__).parent.parent
_SCRIPT = [sys.executable, str(_ROOT / "experiments" / "prepare_data.py")]


class Icons(NamedTuple):
  data_dir: pathlib.Path
  output: str  # of the script
  drawings: list[icons_lib.Drawing]  # of a second, independent build


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  command = [*_SCRIPT, "--dataset=icons", f"--data_dir={data_dir}"]
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    drawings = icons_lib.build()
    output, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  return Icons(data_dir, output, drawings)


def test_classes_and_splits(icons):
  sizes: dict[str, int] = {}
  packs: dict[str, set[str]] = {}
  for drawing in icons.drawings:
    sizes[drawing.class_name] = sizes.get(drawing.class_name, 0) + 1
    packs.setdefault(drawing.class_name, set()).add(drawing.pack)
  # Another Pillow may move a class or two over the threshold.
  assert len(sizes) == pytest.approx(269, abs=3)
  assert sum(sizes.values()) == pytest.approx(4145, abs=40)
  assert min(sizes.values()) >= icons_lib.MIN_IMAGES
  assert min(map(len, packs.values())) >= icons_lib.MIN_PACKS

  splits = icons_lib.split_classes(sizes)
  joined = [name for names in splits.values() for name in names]
  assert sorted(joined) == sorted(sizes)
  assert len(splits["base"]) == pytest.approx(0.65 * len(sizes), abs=1)
  assert len(splits["val"]) == pytest.approx(0.15 * len(sizes), abs=1)
  # A class less moves only those at the two borders.
  fewer = icons_lib.split_classes(sorted(sizes)[1:])
  assert len(set(splits["novel"]) ^ set(fewer["novel"])) <= 3


def test_drawings_are_centred_whole_and_distinct(icons):
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
def test_class_name(pack, raw_name, expected):
  assert icon_glyphs.class_name(pack, raw_name) == expected


def test_two_builds_have_the_same_fingerprint(icons):
  found = data.describe("icons", icons.data_dir)
  assert found is not None
  by_class: dict[str, list[np.ndarray]] = {}
  for drawing in icons.drawings:
    rgb = np.stack([drawing.pixels] * 3, -1)
    by_class.setdefault(drawing.class_name, []).append(rgb)
  for split, names in icons_lib.split_classes(by_class).items():
    assert found.class_names[split] == names
    images = [image for name in names for image in by_class[name]]
    class_ids = [i for i, name in enumerate(names) for _ in by_class[name]]
    again = fingerprint.of_split(images, class_ids, names)
    assert found.fingerprints[split] == again


def test_missing_and_wrong_packages_are_named(monkeypatch, tmp_path):
  wrong = {"tkinter-icons-bs": "0.0.1", "tkinter-icons-none": "1.0"}
  monkeypatch.setattr(icon_glyphs, "PACKAGES", wrong)
  with pytest.raises(
    types.InputError,
    match=r"pip install tkinter-icons-bs==0.0.1 tkinter-icons-none==1.0$",
  ):
    data.prepare("icons", data_dir=tmp_path)
  assert data.describe("icons", tmp_path) is None


def test_loaded_images_are_the_drawings(icons):
  drawings = {drawing.image_id: drawing for drawing in icons.drawings}
  novel = data.load("icons", "novel", data_dir=icons.data_dir)
  assert novel.images.shape[1:] == (64, 64, 3)
  assert np.array_equal(novel.images[..., 0], novel.images[..., 2])
  assert np.diff(novel.class_offsets()).min() >= icons_lib.MIN_IMAGES
  for row, image_id in enumerate(novel.image_ids):
    drawing = drawings[image_id]
    assert np.array_equal(novel.images[row, :, :, 0], drawing.pixels)
    assert novel.class_names[novel.class_ids[row]] == drawing.class_name


def test_script_reports_what_it_made(icons):
  found = data.describe("icons", icons.data_dir)
  assert found is not None
  assert found.fingerprint in icons.output
  assert f"{found.num_images['base']:,}" in icons.output
  assert str(found.folder) in icons.output
  assert set(found.made_with) == {"pillow", *icon_glyphs.PACKAGES}
  # No drawing is in two classes.
  assert found.repeated["num_pairs"] == 0


def test_the_build_of_published_numbers(icons):
  """The recorded numbers of images are those of the recorded fingerprint."""
  found = data.describe("icons", icons.data_dir)
  assert found is not None
  expected = data.prepared.builder_class("icons")
  if f"Pillow {found.made_with['pillow']}" not in expected.REFERENCE_NOTE:
    pytest.skip("another Pillow may draw otherwise")
  assert found.fingerprint == expected.REFERENCE_FINGERPRINT
  assert found.num_images == expected.REFERENCE_NUM_IMAGES
