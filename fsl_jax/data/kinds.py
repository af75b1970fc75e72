"""The kind of a file by its first bytes, since names are often wrong."""

import importlib.util
import re

from fsl_jax import types

NUM_BYTES = 256
"""Number of bytes from which a kind is determined."""

PICTURE = "picture"
HEIC = "HEIC image"
NONE = "no image of a known format"

# Position and value of some bytes, and the kind of such a file.
_SIGNATURES = (
  # Before TIFF and other containers, whose beginnings they share.
  (8, b"CR", "RAW photograph"),
  (0, b"IIRO", "RAW photograph"),
  (0, b"IIRS", "RAW photograph"),
  (0, b"MMOR", "RAW photograph"),
  (0, b"IIU\0", "RAW photograph"),
  (0, b"FUJIFILMCCD-RAW", "RAW photograph"),
  (0, b"\xff\xd8\xff", PICTURE),
  (0, b"\x89PNG\r\n\x1a\n", PICTURE),
  (0, b"GIF87a", PICTURE),
  (0, b"GIF89a", PICTURE),
  (0, b"II*\0", PICTURE),
  (0, b"MM\0*", PICTURE),
  (8, b"WEBP", PICTURE),
  (0, b"\0\0\0\x0cjP  ", PICTURE),
  (0, b"\xff\x4f\xff\x51", PICTURE),
  (0, b"\xff\x0a", "JPEG XL image"),
  (0, b"\0\0\0\x0cJXL ", "JPEG XL image"),
  (8, b"AVI ", "video"),
  (0, b"\x1a\x45\xdf\xa3", "video"),
  (0, b"\0\0\1\xba", "video"),
  (0, b"\0\0\1\xb3", "video"),
  (0, b"FLV\1", "video"),
  (0, b"OggS", "video or sound"),
  (0, b"8BPS", "Photoshop document"),
  (0, b"%PDF", "PDF document"),
  (0, b"version https://git-lfs", "Git LFS pointer"),
  (0, b"PK\3\4", "zip archive"),
  (0, b"\x1f\x8b", "compressed file"),
)

# Brands of the container format of HEIC, AVIF, MP4 and others.
_BRANDS = {
  **dict.fromkeys((b"avif", b"avis"), PICTURE),
  **dict.fromkeys(
    (*(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), b"mif1", b"msf1"),
    HEIC,
  ),
  b"crx ": "RAW photograph",
}

# PBM, PGM and PPM: a number, comments, width and height.
_PORTABLE = re.compile(rb"P[1-6]\s+(#[^\n]*\s+)*\d+\s+\d+\s")

_RAW = (
  *("3fr", "arw", "cr2", "cr3", "crw", "dng", "erf", "kdc", "mrw", "nef"),
  *("nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srw", "x3f"),
)

_REMEDIES = {
  HEIC: "install pillow-heif, or convert it to JPEG or PNG",
  "RAW photograph": "develop it to JPEG, PNG or TIFF",
  "JPEG XL image": "convert it to JPEG or PNG",
  "SVG drawing": "draw it as PNG",
  "Photoshop document": "save it as PNG",
  "PDF document": "save its pages as PNG",
  "video": "save its frames as JPEG or PNG",
  "Git LFS pointer": "fetch what it stands for with git lfs pull",
  "zip archive": "unpack it",
  "compressed file": "unpack it",
}


def of(name: str, head: bytes) -> str:
  """The kind of a file, such as `PICTURE`, "video" or `NONE`.

  Args:
    name: with an ending, since most RAW photographs begin as TIFF does.
    head: the first `NUM_BYTES` of it.
  """
  if name.rpartition(".")[2].lower() in _RAW:
    return "RAW photograph"
  if not head:
    return "empty file"
  if head[4:8] == b"ftyp":
    return _BRANDS.get(head[8:12], "video")
  for at, signature, kind in _SIGNATURES:
    if head[at:].startswith(signature):
      return kind
  if _is_other_picture(head):
    return PICTURE
  text = head.lower()
  if b"<svg" in text:
    return "SVG drawing"
  if text.lstrip().startswith((b"<!doctype html", b"<html")):
    return "HTML page"
  return NONE


def is_readable(kind: str) -> bool:
  """Whether files of a kind can be decoded, with what is installed."""
  return kind == PICTURE or (kind == HEIC and has_heif())


def remedy(kind: str) -> str:
  """The kind of a file, and what can be done about it."""
  found = _REMEDIES.get(kind)
  return f"{kind}; {found}" if found else kind


def has_heif() -> bool:
  """Whether the package that decodes HEIC is installed."""
  return importlib.util.find_spec("pillow_heif") is not None


def register_heif() -> None:
  """Makes Pillow open HEIC.

  Raises:
    InputError: if that needs a package that is not installed.
  """
  if not has_heif():
    raise types.InputError(remedy(HEIC))
  import pillow_heif

  pillow_heif.register_heif_opener()


def _is_other_picture(head: bytes) -> bool:
  """Formats with short signatures, of which more of the header is checked."""
  if head[:2] == b"BM":
    return head[6:10] == b"\0\0\0\0"
  return _PORTABLE.match(head) is not None
