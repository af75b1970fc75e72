"""Cosine head of Baseline++, trained on frozen features.

Source: Chen, Liu, Kira, Wang and Huang (ICLR 2019), section 3.2; optimiser and
scale are those of the code of alpha-TIM.
"""

import dataclasses

from fsl_jax import types
from fsl_jax.adapt import frozen_features, head_training, heads, losses


@dataclasses.dataclass(frozen=True)
class CosineHeadConfig(head_training.Config):
  """Logits are scale * cos(x, w); the weights start as class means."""


def adapter(
  backbone: types.Backbone, config: CosineHeadConfig, *, name: str
) -> types.Adapter:
  """Cross-entropy of the support; the queries are not used."""

  def logits(weight, x, present):
    return config.scale * heads.cosines(x, weight, present)

  def loss(support, support_logits, query_logits, query_mask):
    del query_logits, query_mask
    values = losses.cross_entropy(support_logits, support.y.argmax(-1))
    return losses.masked_mean(values, support.mask)

  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, "l2n", name
  )
  return head_training.Trainer(
    extractor, config, logits, loss, "none"
  ).adapter()


COSINE_HEAD = head_training.entry(
  "cosine_head",
  adapter,
  CosineHeadConfig,
  "cosine head (Baseline++)",
  "cosine head",
)
