"""Pictures and words inside an SVG document."""

import base64
import html
import io

import numpy as np

from fsl_jax.report import svg


def picture(
  image: np.ndarray, x: float, y: float, side: float, max_px: int
) -> str:
  """An image with a thin frame.

  Args:
    image: [H, W, 3] uint8.
    x: of its left edge, points.
    y: of its upper edge, points.
    side: width and height on the page, points.
    max_px: a larger image is reduced to this before it is embedded.
  """
  return (
    f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" '
    f'href="{_data_url(image, max_px)}"/>'
    f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" '
    f'fill="none" stroke="{svg.RULE}" stroke-width="0.7"/>'
  )


def text(
  x: float,
  y: float,
  words: str,
  *,
  size: float = 9.5,
  weight: int = 400,
  anchor: str = "start",
  fill: str = svg.INK,
) -> str:
  """Words on a base line at `y`."""
  return (
    f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" font-weight="{weight}" '
    f'text-anchor="{anchor}" fill="{fill}">{html.escape(words)}</text>'
  )


def _data_url(image: np.ndarray, max_px: int) -> str:
  from PIL import Image

  small = Image.fromarray(image)
  small.thumbnail((max_px, max_px))
  buffer = io.BytesIO()
  small.save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
