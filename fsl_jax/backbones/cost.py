"""Floating-point operations of a network, counted in its program."""

import math

import jax
import numpy as np
from jax.extend import core

from fsl_jax import types


def forward_flop(backbone: types.Backbone, channels: int = 3) -> int:
  """Floating-point operations of one image's forward pass.

  Convolutions and matrix products alone, a multiplication and an addition
  each; a training step is three times as much. Counted as the network is
  written, so a faster algorithm for the same convolution changes nothing.

  Args:
    backbone: of a fixed image size.
    channels: C of the images.
  """
  size = backbone.image_size_px
  images = jax.ShapeDtypeStruct((1, size, size, channels), np.float32)
  variables = jax.eval_shape(
    lambda x: backbone.init(jax.random.key(0), x), images
  )
  program = jax.make_jaxpr(lambda v, x: backbone.apply(v, x, train=False)[0])(
    variables, images
  )
  return 2 * _multiplications(program.jaxpr)


def _multiplications(jaxpr: core.Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    # Typed as abstract values, some kinds of which have no shape.
    out, *inputs = (
      getattr(v.aval, "shape", ())
      for v in (equation.outvars[0], *equation.invars)
    )
    if name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      total += math.prod(out) * math.prod(inputs[0][i] for i in contracted)
    elif name == "conv_general_dilated":
      outputs, *rest = equation.params["dimension_numbers"].rhs_spec
      del outputs  # They are counted in `out`.
      total += math.prod(out) * math.prod(inputs[1][i] for i in rest)
    else:
      inner = [_multiplications(j) for j in _inner(equation.params)]
      # Of the branches for different platforms the last is the plain one.
      if name == "cond":
        inner = inner[-1:]
      total += sum(inner) * equation.params.get("length", 1)  # a scan's
  return total


def _inner(parameters):
  for value in parameters.values():
    for part in value if isinstance(value, tuple | list) else [value]:
      if isinstance(part, core.ClosedJaxpr):
        yield part.jaxpr
      elif isinstance(part, core.Jaxpr):
        yield part
