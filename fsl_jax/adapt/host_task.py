"""A task of any size, whose images stay in host memory and are read by rows."""

import dataclasses

import numpy as np

from fsl_jax import types


@dataclasses.dataclass(frozen=True)
class HostTask:
  """A `types.Task` without padding, whose images are read batch by batch.

  Attributes:
    support_images: [S, H, W, C], as in `types.Task`: an array, a memory map, or
      anything that gives an array for an array of rows.
    support_labels: [S] integers in [0, N). A class may have no image.
    query_images: [T, H, W, C], as `support_images`.
    num_ways: N.

  Raises:
    InputError: if they do not match.
  """

  support_images: types.Images
  support_labels: np.ndarray
  query_images: types.Images
  num_ways: int

  def __post_init__(self) -> None:
    support, query = self.support_images, self.query_images
    labels = self.support_labels
    types.check_whole("num_ways", self.num_ways, at_least=1)
    for name, images in (("support", support), ("query", query)):
      if not len(images):
        raise types.InputError(f"the {name} set must not be empty")
    if (support.shape[1:], support.dtype) != (query.shape[1:], query.dtype):
      raise types.InputError(
        "query images must be like the support images, "
        f"{list(support.shape[1:])} {support.dtype}, got "
        f"{list(query.shape[1:])} {query.dtype}"
      )
    if labels.dtype.kind not in "iu" or labels.shape != (len(support),):
      raise types.InputError(
        f"support_labels must be [{len(support)}] integers, one an image, got "
        f"{list(labels.shape)} {labels.dtype}"
      )
    if not 0 <= labels.min() <= labels.max() < self.num_ways:
      raise types.InputError(
        f"support_labels must lie in [0, {self.num_ways}), got "
        f"{labels.min()} to {labels.max()}"
      )
