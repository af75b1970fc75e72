"""Plain NumPy float64 reference of transductive fine-tuning.

Slow, written from the method's description alone and sharing no code with the
library, so that agreement of the two means something. Trees are nested dicts
of arrays, images NHWC, convolution kernels HWIO, linear kernels [in, out].

Letters in shapes: M images of a batch, S support and T query images, N ways,
C outputs of the backbone (its last linear layer), F its input width.

Running the file compares the hand-written gradients with finite differences.
"""

import numpy as np

BN_EPSILON = 1e-5
BN_MOMENTUM = 0.1
NORM_EPSILON = 1e-12
ADAM_BETA1 = 0.9
ADAM_BETA2 = 0.999
ADAM_EPSILON = 1e-8
WIDE_RESIDUAL_SCALE = 0.2
WIDE_STRIDES = (1, 2, 2)
NUM_BLOCKS = 4


# --- trees ----------------------------------------------------------------


def tree_map(function, tree, *others):
  """Apply `function` to corresponding leaves of trees of one structure."""
  if isinstance(tree, dict):
    for other in others:
      if set(other) != set(tree):
        raise ValueError(f"keys differ: {sorted(tree)} and {sorted(other)}")
    return {
      key: tree_map(function, tree[key], *(other[key] for other in others))
      for key in tree
    }
  return function(tree, *others)


def float64_copy(tree):
  """Copy a tree as NumPy float64; the leaves keep their shapes."""
  return tree_map(lambda leaf: np.array(leaf, dtype=np.float64), tree)


# --- layers ---------------------------------------------------------------


def conv_forward(images, kernel, bias=None, stride=1):
  """Cross-correlate with zeros (kh - 1) / 2 wide on every side.

  images [M, H, W, I], kernel [kh, kw, I, O], bias [O] -> [M, H', W', O].
  """
  kernel_height, kernel_width, _, outputs = kernel.shape
  pad_h, pad_w = (kernel_height - 1) // 2, (kernel_width - 1) // 2
  padded = np.pad(images, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)))
  height = (padded.shape[1] - kernel_height) // stride + 1
  width = (padded.shape[2] - kernel_width) // stride + 1
  out = np.zeros((images.shape[0], height, width, outputs))
  for i in range(kernel_height):
    for j in range(kernel_width):
      window = padded[
        :, i : i + stride * height : stride, j : j + stride * width : stride
      ]
      out += window @ kernel[i, j]
  if bias is not None:
    out += bias
  return out


def conv_backward(images, kernel, d_out):
  """Gradients of the stride-1 convolution above.

  images [M, H, W, I], kernel [kh, kw, I, O], d_out [M, H, W, O]
  -> d_images [M, H, W, I], d_kernel [kh, kw, I, O], d_bias [O].
  """
  kernel_height, kernel_width, _, _ = kernel.shape
  pad_h, pad_w = (kernel_height - 1) // 2, (kernel_width - 1) // 2
  padded = np.pad(images, ((0, 0), (pad_h, pad_h), (pad_w, pad_w), (0, 0)))
  _, height, width, _ = images.shape
  d_padded = np.zeros_like(padded)
  d_kernel = np.zeros_like(kernel)
  for i in range(kernel_height):
    for j in range(kernel_width):
      window = padded[:, i : i + height, j : j + width]
      d_kernel[i, j] = np.tensordot(window, d_out, axes=([0, 1, 2], [0, 1, 2]))
      d_padded[:, i : i + height, j : j + width] += d_out @ kernel[i, j].T
  d_images = d_padded[:, pad_h : pad_h + height, pad_w : pad_w + width]
  return d_images, d_kernel, d_out.sum(axis=(0, 1, 2))


def norm_forward(inputs, params, stats, *, train, mask=None):
  """BatchNorm over images and positions.

  inputs [M, H, W, O], params {"scale", "bias"} [O], stats {"mean", "var"} [O],
  mask [M] -> outputs [M, H, W, O], new stats, cache for `norm_backward`.
  """
  if not train:
    inverse = 1.0 / np.sqrt(stats["var"] + BN_EPSILON)
    outputs = (inputs - stats["mean"]) * inverse * params["scale"]
    return outputs + params["bias"], stats, None
  if mask is None:
    mask = np.ones(inputs.shape[0], dtype=bool)
  counted = inputs[mask]
  count = counted.shape[0] * counted.shape[1] * counted.shape[2]
  if count < 2:
    raise ValueError("batch statistics need more than one value per channel")
  mean = counted.sum(axis=(0, 1, 2)) / count
  squares = ((counted - mean) ** 2).sum(axis=(0, 1, 2))
  biased, unbiased = squares / count, squares / (count - 1)
  inverse = 1.0 / np.sqrt(biased + BN_EPSILON)
  centred = inputs - mean
  outputs = centred * inverse * params["scale"] + params["bias"]
  new_stats = {
    "mean": (1 - BN_MOMENTUM) * stats["mean"] + BN_MOMENTUM * mean,
    "var": (1 - BN_MOMENTUM) * stats["var"] + BN_MOMENTUM * unbiased,
  }
  return outputs, new_stats, (centred, inverse, mask, count)


def norm_backward(params, cache, d_outputs):
  """Gradients of training-mode BatchNorm, statistics included.

  d_outputs [M, H, W, O] -> d_inputs [M, H, W, O], {"scale", "bias"} [O].
  """
  centred, inverse, mask, count = cache
  axes = (0, 1, 2)
  grads = {
    "scale": (d_outputs * centred * inverse).sum(axis=axes),
    "bias": d_outputs.sum(axis=axes),
  }
  d_normal = d_outputs * params["scale"]
  d_mean = -inverse * d_normal.sum(axis=axes)
  d_var = -0.5 * inverse**3 * (d_normal * centred).sum(axis=axes)
  d_inputs = d_normal * inverse
  # Only the counted images enter the mean and the variance. That the variance
  # depends on the mean adds nothing: the centred values sum to zero.
  d_inputs[mask] += d_mean / count + d_var * 2.0 * centred[mask] / count
  return d_inputs, grads


def relu(values):
  """max(values, 0), any shape."""
  return np.maximum(values, 0.0)


def relu_backward(values, d_outputs):
  """Gradient of `relu` at `values`, 0 at 0; any shape."""
  return np.where(values > 0, d_outputs, 0.0)


def pool_forward(inputs):
  """2x2 max-pool, an odd last row or column dropped.

  inputs [M, H, W, O] -> outputs [M, H // 2, W // 2, O], argmax likewise.
  """
  height, width = inputs.shape[1] // 2, inputs.shape[2] // 2
  corners = np.stack(
    [
      inputs[:, i : 2 * height : 2, j : 2 * width : 2]
      for i in range(2)
      for j in range(2)
    ]
  )
  return corners.max(axis=0), corners.argmax(axis=0)


def pool_backward(input_shape, argmax, d_outputs):
  """Gradient of `pool_forward`: all of it to the (first) maximum.

  argmax and d_outputs [M, H // 2, W // 2, O] -> [M, H, W, O].
  """
  height, width = argmax.shape[1], argmax.shape[2]
  d_inputs = np.zeros(input_shape)
  for i in range(2):
    for j in range(2):
      d_inputs[:, i : 2 * height : 2, j : 2 * width : 2] = np.where(
        argmax == 2 * i + j, d_outputs, 0.0
      )
  return d_inputs


# --- conv64 ---------------------------------------------------------------


def conv64_forward(params, batch_stats, images, *, train, mask=None):
  """Four times convolution with bias, BatchNorm, ReLU, max-pool; then linear.

  images [M, H, W, 3], mask [M] -> logits [M, C], features [M, F], new stats,
  cache for `conv64_backward`.
  """
  x, new_stats, block_caches = images, {}, []
  for index in range(NUM_BLOCKS):
    name = f"block{index}"
    block = params[name]
    conv = conv_forward(x, block["conv"]["kernel"], block["conv"]["bias"])
    norm, stats, norm_cache = norm_forward(
      conv, block["norm"], batch_stats[name]["norm"], train=train, mask=mask
    )
    new_stats[name] = {"norm": stats}
    pooled, argmax = pool_forward(relu(norm))
    block_caches.append((x, norm_cache, norm, argmax))
    x = pooled
  features = x.reshape(x.shape[0], -1)
  last = params["classifier"]
  logits = features @ last["kernel"] + last["bias"]
  return logits, features, new_stats, (block_caches, x.shape, features)


def conv64_backward(params, cache, d_logits):
  """Gradient tree of a loss whose gradient at the logits is d_logits [M, C]."""
  block_caches, shape, features = cache
  grads = {"classifier": linear_grads(features, d_logits)}
  d_x = (d_logits @ params["classifier"]["kernel"].T).reshape(shape)
  for index in reversed(range(NUM_BLOCKS)):
    name = f"block{index}"
    block = params[name]
    x, norm_cache, norm, argmax = block_caches[index]
    d_norm = relu_backward(norm, pool_backward(norm.shape, argmax, d_x))
    d_conv, norm_grads = norm_backward(block["norm"], norm_cache, d_norm)
    d_x, d_kernel, d_bias = conv_backward(x, block["conv"]["kernel"], d_conv)
    grads[name] = {
      "conv": {"kernel": d_kernel, "bias": d_bias},
      "norm": norm_grads,
    }
  return grads


def linear_grads(features, d_logits):
  """features [M, F], d_logits [M, C] -> {"kernel" [F, C], "bias" [C]}."""
  return {"kernel": features.T @ d_logits, "bias": d_logits.sum(axis=0)}


# --- resnet12 -------------------------------------------------------------


def resnet12_forward(params, batch_stats, images, *, train, mask=None):
  """Four blocks of three convolutions beside a 1x1 one; average; linear.

  images [M, H, W, 3], mask [M] -> logits [M, C], features [M, F], new stats,
  cache for `resnet12_backward`.
  """
  x, new_stats, block_caches = images, {}, []
  for index in range(NUM_BLOCKS):
    name = f"block{index}"
    block, old_stats, stats = params[name], batch_stats[name], {}
    branch, layer_caches = x, []
    for layer in range(3):
      layer_input = branch
      conv = conv_forward(layer_input, block[f"conv{layer}"]["kernel"])
      norm, stats[f"norm{layer}"], norm_cache = norm_forward(
        conv,
        block[f"norm{layer}"],
        old_stats[f"norm{layer}"],
        train=train,
        mask=mask,
      )
      layer_caches.append((layer_input, norm_cache, norm))
      # The third ReLU comes after the addition.
      branch = relu(norm) if layer < 2 else norm
    conv = conv_forward(x, block["shortcut_conv"]["kernel"])
    shortcut, stats["shortcut_norm"], shortcut_cache = norm_forward(
      conv,
      block["shortcut_norm"],
      old_stats["shortcut_norm"],
      train=train,
      mask=mask,
    )
    new_stats[name] = stats
    total = branch + shortcut
    pooled, argmax = pool_forward(relu(total))
    block_caches.append((x, layer_caches, shortcut_cache, total, argmax))
    x = pooled
  features = x.mean(axis=(1, 2))
  last = params["classifier"]
  logits = features @ last["kernel"] + last["bias"]
  return logits, features, new_stats, (block_caches, x.shape, features)


def resnet12_backward(params, cache, d_logits):
  """Gradient tree of a loss whose gradient at the logits is d_logits [M, C]."""
  block_caches, shape, features = cache
  grads = {"classifier": linear_grads(features, d_logits)}
  d_features = d_logits @ params["classifier"]["kernel"].T
  positions = shape[1] * shape[2]
  d_x = np.broadcast_to(d_features[:, None, None, :] / positions, shape)
  for index in reversed(range(NUM_BLOCKS)):
    name = f"block{index}"
    block, block_grads = params[name], {}
    x, layer_caches, shortcut_cache, total, argmax = block_caches[index]
    d_total = relu_backward(total, pool_backward(total.shape, argmax, d_x))

    d_conv, block_grads["shortcut_norm"] = norm_backward(
      block["shortcut_norm"], shortcut_cache, d_total
    )
    d_shortcut, d_kernel, _ = conv_backward(
      x, block["shortcut_conv"]["kernel"], d_conv
    )
    block_grads["shortcut_conv"] = {"kernel": d_kernel}

    d_branch = d_total
    for layer in reversed(range(3)):
      layer_input, norm_cache, norm = layer_caches[layer]
      d_norm = relu_backward(norm, d_branch) if layer < 2 else d_branch
      d_conv, block_grads[f"norm{layer}"] = norm_backward(
        block[f"norm{layer}"], norm_cache, d_norm
      )
      d_branch, d_kernel, _ = conv_backward(
        layer_input, block[f"conv{layer}"]["kernel"], d_conv
      )
      block_grads[f"conv{layer}"] = {"kernel": d_kernel}
    d_x = d_branch + d_shortcut
    grads[name] = block_grads
  return grads


# --- wide_resnet ----------------------------------------------------------


def wide_resnet_forward(params, batch_stats, images, *, train, mask=None):
  """Pre-activation blocks whose shortcut, too, starts from the activation.

  images [M, H, W, 3], mask [M] -> logits [M, C], features [M, F], new stats,
  None (no backward pass is written for this net).
  """
  new_stats = {}
  x = conv_forward(images, params["stem"]["kernel"])
  for group, group_stride in enumerate(WIDE_STRIDES):
    index = 0
    while f"group{group}_block{index}" in params:
      name = f"group{group}_block{index}"
      block, old_stats, stats = params[name], batch_stats[name], {}
      stride = group_stride if index == 0 else 1
      norm, stats["norm0"], _ = norm_forward(
        x, block["norm0"], old_stats["norm0"], train=train, mask=mask
      )
      active = relu(norm)
      branch = conv_forward(active, block["conv0"]["kernel"], stride=stride)
      norm, stats["norm1"], _ = norm_forward(
        branch, block["norm1"], old_stats["norm1"], train=train, mask=mask
      )
      branch = conv_forward(relu(norm), block["conv1"]["kernel"])
      shortcut = active
      if "shortcut_conv" in block:
        kernel = block["shortcut_conv"]["kernel"]
        shortcut = conv_forward(active, kernel, stride=stride)
      x = shortcut + WIDE_RESIDUAL_SCALE * branch
      new_stats[name] = stats
      index += 1
  norm, new_stats["norm"], _ = norm_forward(
    x, params["norm"], batch_stats["norm"], train=train, mask=mask
  )
  features = relu(norm).mean(axis=(1, 2))
  last = params["classifier"]
  logits = features @ last["kernel"] + last["bias"]
  return logits, features, new_stats, None


# --- any net --------------------------------------------------------------

FORWARD = {
  "conv64": conv64_forward,
  "resnet12": resnet12_forward,
  "wide_resnet": wide_resnet_forward,
}
BACKWARD = {"conv64": conv64_backward, "resnet12": resnet12_backward}


def forward(net, params, batch_stats, images, *, train, mask=None):
  """Run a net ("conv64", "resnet12" or "wide_resnet") in float64.

  In training mode BatchNorm uses the statistics of the images whose mask is
  True, in eval mode the running ones, which then come back unchanged. Masked
  images still get outputs.

  images [M, H, W, 3], mask [M] -> logits [M, C], features [M, F], new stats.
  """
  if mask is not None:
    mask = np.asarray(mask, dtype=bool)
  logits, features, new_stats, _ = FORWARD[net](
    float64_copy(params),
    float64_copy(batch_stats),
    np.asarray(images, dtype=np.float64),
    train=train,
    mask=mask,
  )
  return logits, features, new_stats


def gradients(net, params, batch_stats, images, d_logits, *, mask=None):
  """Gradient tree of a loss through the net in training mode.

  images [M, H, W, 3], d_logits [M, C] (the loss's gradient at the logits),
  mask [M] -> a tree like params.
  """
  if mask is not None:
    mask = np.asarray(mask, dtype=bool)
  params = float64_copy(params)
  *_, cache = FORWARD[net](
    params,
    float64_copy(batch_stats),
    np.asarray(images, dtype=np.float64),
    train=True,
    mask=mask,
  )
  return BACKWARD[net](params, cache, np.asarray(d_logits, dtype=np.float64))


# --- classifier head ------------------------------------------------------


def l2_normalise(vector):
  """vector [C] divided by its length, or by 1e-12 where that is longer."""
  return vector / max(np.sqrt((vector * vector).sum()), NORM_EPSILON)


def init_head(logits, labels, num_ways, *, relu_logits=True, mask=None):
  """Support-based initialisation from the backbone's eval-mode logits.

  The mean is of the un-normalised activations; only it is normalised.

  logits [S, C], labels [S], mask [S] -> weight [N, C], bias [N].
  """
  logits = np.asarray(logits, dtype=np.float64)
  rows = relu(logits) if relu_logits else logits
  weight = np.zeros((num_ways, logits.shape[1]))
  for way in range(num_ways):
    members = [
      rows[i]
      for i in range(len(rows))
      if labels[i] == way and (mask is None or mask[i])
    ]
    if not members:
      raise ValueError(f"class {way} has no support image")
    weight[way] = l2_normalise(sum(members) / len(members))
  return weight, np.zeros(num_ways)


def head_forward(logits, weight, bias, *, relu_logits=True):
  """W normalise(ReLU(z)) + b: logits z [M, C], weight [N, C] -> [M, N]."""
  out = np.zeros((len(logits), len(weight)))
  for i, row in enumerate(logits):
    out[i] = weight @ l2_normalise(relu(row) if relu_logits else row) + bias
  return out


def head_backward(logits, weight, d_out, *, relu_logits=True):
  """Gradients of `head_forward`.

  logits [M, C], weight [N, C], d_out [M, N]
  -> d_logits [M, C], d_weight [N, C], d_bias [N].
  """
  d_logits = np.zeros_like(logits)
  d_weight = np.zeros_like(weight)
  d_bias = np.zeros(len(weight))
  for i, row in enumerate(logits):
    active = relu(row) if relu_logits else row
    length = np.sqrt((active * active).sum())
    unit = l2_normalise(active)
    d_weight += np.outer(d_out[i], unit)
    d_bias += d_out[i]
    d_unit = weight.T @ d_out[i]
    if length > NORM_EPSILON:
      d_active = (d_unit - unit * (unit @ d_unit)) / length
    else:
      # The divisor is the constant here.
      d_active = d_unit / NORM_EPSILON
    d_logits[i] = relu_backward(row, d_active) if relu_logits else d_active
  return d_logits, d_weight, d_bias


def log_softmax(row):
  """row [N] -> log-probabilities [N]."""
  shifted = row - row.max()
  return shifted - np.log(np.exp(shifted).sum())


def cross_entropy(out, labels, mask=None):
  """Mean of -log p(label) over the images whose mask is True, and gradient.

  out [M, N], labels [M], mask [M] -> scalar, [M, N].
  """
  used = [i for i in range(len(out)) if mask is None or mask[i]]
  loss, d_out = 0.0, np.zeros(np.shape(out))
  for i in used:
    log_p = log_softmax(out[i])
    loss += -log_p[labels[i]] / len(used)
    d_out[i] = np.exp(log_p) / len(used)
    d_out[i, labels[i]] -= 1.0 / len(used)
  return loss, d_out


def entropy(out, mask=None):
  """Mean Shannon entropy (nats) over images whose mask is True, and gradient.

  out [M, N], mask [M] -> scalar, [M, N].
  """
  used = [i for i in range(len(out)) if mask is None or mask[i]]
  value, d_out = 0.0, np.zeros(np.shape(out))
  for i in used:
    log_p = log_softmax(out[i])
    p = np.exp(log_p)
    image_entropy = -(p * log_p).sum()
    value += image_entropy / len(used)
    d_out[i] = -p * (log_p + image_entropy) / len(used)
  return value, d_out


# --- fine-tuning ----------------------------------------------------------


class Adam:
  """Adam with a constant learning rate and one count of steps."""

  def __init__(self, tree, learning_rate):
    self.learning_rate = learning_rate
    self.step = 0
    self.first = tree_map(np.zeros_like, tree)
    self.second = tree_map(np.zeros_like, tree)

  def update(self, tree, grads):
    """Return the tree after one step; every tree has the same structure."""
    self.step += 1
    self.first = tree_map(
      lambda m, g: ADAM_BETA1 * m + (1 - ADAM_BETA1) * g, self.first, grads
    )
    self.second = tree_map(
      lambda v, g: ADAM_BETA2 * v + (1 - ADAM_BETA2) * g * g,
      self.second,
      grads,
    )
    first_share = 1 - ADAM_BETA1**self.step
    second_share = 1 - ADAM_BETA2**self.step
    return tree_map(
      lambda p, m, v: (
        p
        - self.learning_rate
        * (m / first_share)
        / (np.sqrt(v / second_share) + ADAM_EPSILON)
      ),
      tree,
      self.first,
      self.second,
    )


def accumulate(
  net, model, batch_stats, images, objective, micro_batch, relu_logits
):
  """Loss and gradient of a whole batch, in micro-batches.

  model is {"params", "weight" [N, C], "bias" [N]}, objective(out [m, N],
  positions [m]) -> scalar, [m, N]. BatchNorm sees one micro-batch at a time
  and moves its running statistics once for each.

  images [M, H, W, 3] -> scalar, a tree like model, new stats.
  """
  total = len(images)
  loss, grads = 0.0, tree_map(np.zeros_like, model)
  for start in range(0, total, micro_batch):
    chunk = images[start : start + micro_batch]
    share = len(chunk) / total
    logits, _, batch_stats, cache = FORWARD[net](
      model["params"], batch_stats, chunk, train=True
    )
    out = head_forward(
      logits, model["weight"], model["bias"], relu_logits=relu_logits
    )
    value, d_out = objective(out, np.arange(start, start + len(chunk)))
    d_logits, d_weight, d_bias = head_backward(
      logits, model["weight"], d_out, relu_logits=relu_logits
    )
    chunk_grads = {
      "params": BACKWARD[net](model["params"], cache, d_logits),
      "weight": d_weight,
      "bias": d_bias,
    }
    loss += share * value
    grads = tree_map(lambda a, b, s=share: a + s * b, grads, chunk_grads)
  return loss, grads, batch_stats


def transductive_finetune(
  net,
  params,
  batch_stats,
  support_images,
  support_labels,
  query_images,
  *,
  num_ways,
  epochs=25,
  learning_rate=5e-5,
  micro_batch=75,
  entropy_weight=1.0,
  relu=True,
  query=True,
):
  """Adapt all weights to one episode and classify its query images.

  Each epoch makes one Adam step on the support cross-entropy, then, where
  `query` holds, one on entropy_weight times the query entropy. No
  augmentation. The inputs are left as they are.

  support_images [S, H, W, 3], support_labels [S], query_images [T, H, W, 3]
  -> query logits [T, N], params, batch_stats, weight [N, C], bias [N], history
  {"support_loss" [epochs], "query_entropy" [epochs]}. The values are those
  before the epoch's step on them, in training mode; the entropy comes without
  entropy_weight, and its array is empty where `query` does not hold.
  """
  params, batch_stats = float64_copy(params), float64_copy(batch_stats)
  support_images = np.asarray(support_images, dtype=np.float64)
  query_images = np.asarray(query_images, dtype=np.float64)
  support_labels = np.asarray(support_labels)

  logits, _, _ = forward(net, params, batch_stats, support_images, train=False)
  weight, bias = init_head(logits, support_labels, num_ways, relu_logits=relu)
  model = {"params": params, "weight": weight, "bias": bias}
  adam = Adam(model, learning_rate)

  def support_objective(out, positions):
    return cross_entropy(out, support_labels[positions])

  def query_objective(out, positions):
    del positions
    value, d_out = entropy(out)
    return value, entropy_weight * d_out

  support_loss, query_entropy = [], []
  for _ in range(epochs):
    loss, grads, batch_stats = accumulate(
      net,
      model,
      batch_stats,
      support_images,
      support_objective,
      micro_batch,
      relu,
    )
    model = adam.update(model, grads)
    support_loss.append(loss)
    if query:
      value, grads, batch_stats = accumulate(
        net,
        model,
        batch_stats,
        query_images,
        query_objective,
        micro_batch,
        relu,
      )
      model = adam.update(model, grads)
      query_entropy.append(value)

  logits, _, _ = forward(
    net, model["params"], batch_stats, query_images, train=False
  )
  out = head_forward(logits, model["weight"], model["bias"], relu_logits=relu)
  history = {
    "support_loss": np.array(support_loss),
    "query_entropy": np.array(query_entropy),
  }
  return (
    out,
    model["params"],
    batch_stats,
    model["weight"],
    model["bias"],
    history,
  )


# --- hardness -------------------------------------------------------------


def hardness(
  logits_support, support_labels, logits_query, query_labels, num_ways
):
  """Mean log-odds of a query image being classified wrongly.

  Cosine classifier on an independent net's raw logits, without a ReLU.

  logits_support [S, C], support_labels [S], logits_query [T, C],
  query_labels [T] -> scalar.
  """
  weight, _ = init_head(
    logits_support, support_labels, num_ways, relu_logits=False
  )
  total = 0.0
  for row, label in zip(logits_query, query_labels, strict=True):
    unit = l2_normalise(np.asarray(row, dtype=np.float64))
    scores = [np.exp((weight[way] * unit).sum()) for way in range(num_ways)]
    probability = scores[label] / sum(scores)
    total += np.log((1 - probability) / probability)
  return total / len(logits_query)


# --- self-check -----------------------------------------------------------


def random_norm(rng, width):
  """Parameters and statistics of one BatchNorm, away from 1 and 0."""
  params = {
    "scale": rng.uniform(0.5, 1.5, width),
    "bias": rng.normal(0.0, 0.3, width),
  }
  stats = {
    "mean": rng.normal(0.0, 0.3, width),
    "var": rng.uniform(0.5, 1.5, width),
  }
  return params, stats


def random_conv(rng, size, inputs, outputs):
  """Kernel [size, size, inputs, outputs] of variance 2 / fan-in."""
  deviation = np.sqrt(2.0 / (size * size * inputs))
  return rng.normal(0.0, deviation, (size, size, inputs, outputs))


def random_model(net, rng, widths, outputs, image_size, blocks=1):
  """Random params and batch_stats of a small net.

  widths are those of the four blocks, or, for "wide_resnet" (`blocks` per
  group), of the stem and the three groups.
  """
  params, stats = {}, {}
  if net == "wide_resnet":
    inputs = widths[0]
    params["stem"] = {"kernel": random_conv(rng, 3, 3, inputs)}
    for group, width in enumerate(widths[1:]):
      for index in range(blocks):
        block, block_stats = {}, {}
        block["norm0"], block_stats["norm0"] = random_norm(rng, inputs)
        block["conv0"] = {"kernel": random_conv(rng, 3, inputs, width)}
        block["norm1"], block_stats["norm1"] = random_norm(rng, width)
        block["conv1"] = {"kernel": random_conv(rng, 3, width, width)}
        stride = WIDE_STRIDES[group] if index == 0 else 1
        if inputs != width or stride != 1:
          kernel = random_conv(rng, 1, inputs, width)
          block["shortcut_conv"] = {"kernel": kernel}
        name = f"group{group}_block{index}"
        params[name], stats[name] = block, block_stats
        inputs = width
    params["norm"], stats["norm"] = random_norm(rng, inputs)
    features = inputs
  else:
    inputs = 3
    for index, width in enumerate(widths):
      block, block_stats = {}, {}
      if net == "conv64":
        block["conv"] = {
          "kernel": random_conv(rng, 3, inputs, width),
          "bias": rng.normal(0.0, 0.1, width),
        }
        block["norm"], block_stats["norm"] = random_norm(rng, width)
      else:
        for layer in range(3):
          kernel = random_conv(rng, 3, inputs if layer == 0 else width, width)
          block[f"conv{layer}"] = {"kernel": kernel}
          key = f"norm{layer}"
          block[key], block_stats[key] = random_norm(rng, width)
        kernel = random_conv(rng, 1, inputs, width)
        block["shortcut_conv"] = {"kernel": kernel}
        key = "shortcut_norm"
        block[key], block_stats[key] = random_norm(rng, width)
      params[f"block{index}"], stats[f"block{index}"] = block, block_stats
      inputs = width
    positions = (image_size // 16) ** 2 if net == "conv64" else 1
    features = inputs * positions
  params["classifier"] = {
    "kernel": rng.normal(0.0, np.sqrt(1.0 / features), (features, outputs)),
    "bias": rng.normal(0.0, 0.1, outputs),
  }
  return params, stats


def leaves(tree, path=()):
  """List (path, array) of every leaf."""
  if not isinstance(tree, dict):
    return [("/".join(path), tree)]
  return [pair for key in tree for pair in leaves(tree[key], (*path, key))]


def check_gradients(net, objective_name, *, relu_logits=True, step=1e-6):
  """Largest difference to central finite differences, every parameter."""
  rng = np.random.default_rng(0)
  params, stats = random_model(net, rng, (3, 4, 4, 5), 6, 19)
  images = rng.normal(size=(7, 19, 19, 3))
  labels = rng.integers(0, 4, 7)
  mask = np.array([True, True, False, True, True, True, False])
  model = {
    "params": params,
    "weight": rng.normal(size=(4, 6)),
    "bias": rng.normal(size=4),
  }

  def objective(out):
    if objective_name == "entropy":
      return entropy(out, mask)
    return cross_entropy(out, labels, mask)

  def value():
    logits, _, _ = forward(
      net, model["params"], stats, images, train=True, mask=mask
    )
    out = head_forward(
      logits, model["weight"], model["bias"], relu_logits=relu_logits
    )
    return objective(out)[0]

  logits, _, _ = forward(net, params, stats, images, train=True, mask=mask)
  out = head_forward(
    logits, model["weight"], model["bias"], relu_logits=relu_logits
  )
  d_logits, d_weight, d_bias = head_backward(
    logits, model["weight"], objective(out)[1], relu_logits=relu_logits
  )
  grads = {
    "params": gradients(net, params, stats, images, d_logits, mask=mask),
    "weight": d_weight,
    "bias": d_bias,
  }
  worst, largest = 0.0, 0.0
  by_path = dict(leaves(grads))
  for path, array in leaves(model):
    flat, flat_grad = array.reshape(-1), by_path[path].reshape(-1)
    for i in range(flat.size):
      kept = flat[i]
      flat[i] = kept + step
      above = value()
      flat[i] = kept - step
      below = value()
      flat[i] = kept
      numeric = (above - below) / (2 * step)
      worst = max(worst, abs(numeric - flat_grad[i]))
      largest = max(largest, abs(flat_grad[i]))
  return worst, largest


if __name__ == "__main__":
  for net_name in BACKWARD:
    for loss_name in ("cross_entropy", "entropy"):
      for with_relu in (True, False):
        error, size = check_gradients(
          net_name, loss_name, relu_logits=with_relu
        )
        print(
          f"{net_name} {loss_name} relu={with_relu}: "
          f"largest difference {error:.2e}, largest gradient {size:.2e}"
        )
