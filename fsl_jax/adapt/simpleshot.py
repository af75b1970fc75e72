"""SimpleShot: nearest class mean of centred, normalised features.

Source: Wang, Chao, Weinberger and van der Maaten (arXiv 1911.04623), section 3.
"""

from fsl_jax import types
from fsl_jax.adapt import entries, frozen_features, heads


def adapter(
  backbone: types.Backbone,
  config: frozen_features.TransformedConfig,
  *,
  name: str,
) -> types.Adapter:
  """Means of transformed support features, not normalised again; the nearest
  in Euclidean distance is predicted."""
  extractor = frozen_features.Extractor(
    backbone, config.micro_batch, config.transform, name
  )

  def init(key, variables, task):
    del key  # Nothing here is random.
    support = extractor.support(variables, task)
    return frozen_features.ClassMeans(variables, support.means, support.present)

  def predict(state, task):
    queries = extractor.queries(state.variables, task)
    return heads.nearest(queries, state.means, state.present)

  return frozen_features.without_steps(init, predict, name, "none")


SIMPLESHOT = entries.Entry(
  "simpleshot",
  adapter,
  frozen_features.TransformedConfig,
  label="SimpleShot",
  reads="features",
  needs_base_statistics=frozen_features.needs_base_mean,
)
