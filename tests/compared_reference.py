"""The compared methods once more, in NumPy float64, with loops over images and
classes and gradients by hand, written from the formulas in docs/methods.md.

Each function takes support features xs [S, D] with labels ys [S] in [0, N) and
query features xq [T, D], all of them present, and returns logits [T, N].
"""

import numpy as np
import scipy.optimize

ADAM = (0.9, 0.999, 1e-8)
EPSILON = 1e-12


def unit(x):
  return np.stack([row / np.linalg.norm(row) for row in x])


def softmax(logits):
  p = np.exp(logits - logits.max())
  return p / p.sum()


def softmax_rows(logits):
  return np.stack([softmax(row) for row in logits])


def means_of(xs, ys):
  return np.stack([xs[ys == k].mean(0) for k in range(ys.max() + 1)])


def negative_distances(xq, means):
  return np.array([[-((q - m) ** 2).sum() for m in means] for q in xq])


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def transformed(xs, xq, transform, base_mean):
  if transform == "cl2n":
    xs, xq = xs - base_mean, xq - base_mean
  return (xs, xq) if transform == "un" else (unit(xs), unit(xq))


def simpleshot(xs, ys, xq, *, base_mean=None, transform="cl2n"):
  xs, xq = transformed(xs, xq, transform, base_mean)
  return negative_distances(xq, means_of(xs, ys))


def rectified(xs, ys, shifted, scale, mean):
  means = means_of(xs, ys)
  num_ways = len(means)
  sums, counts = np.zeros_like(means), np.zeros(num_ways)
  for x in [*xs, *shifted]:
    cosines = np.array([cosine(x, m) for m in means])
    c = cosines.argmax()
    if mean == "count":
      weight, count = softmax(scale * cosines)[c], 1.0
    else:
      weight = count = np.exp(scale * cosines[c])
    sums[c] += weight * x
    counts[c] += count
  return np.stack(
    [sums[k] / counts[k] if counts[k] else means[k] for k in range(num_ways)]
  )


def bd_cspn(
  xs,
  ys,
  xq,
  *,
  base_mean=None,
  transform="cl2n",
  classify="shifted",
  mean="count",
  distance="euclidean",
  scale=10.0,
):
  xs, xq = transformed(xs, xq, transform, base_mean)
  shifted = xq + xs.mean(0) - xq.mean(0)
  prototypes = rectified(xs, ys, shifted, scale, mean)
  queries = shifted if classify == "shifted" else xq
  if distance == "cosine":
    return np.array([[cosine(q, p) for p in prototypes] for q in queries])
  return negative_distances(queries, prototypes)


def laplacian_shot(
  xs,
  ys,
  xq,
  *,
  base_mean=None,
  transform="cl2n",
  laplacian_weight=0.7,
  neighbours=3,
  rectify=True,
):
  xs, xq = transformed(xs, xq, transform, base_mean)
  xq = xq + xs.mean(0) - xq.mean(0)
  prototypes = rectified(xs, ys, xq, 10, "count") if rectify else None
  if not rectify:
    prototypes = means_of(xs, ys)
  a = -negative_distances(xq, prototypes)
  nearest = []
  for i, q in enumerate(xq):
    others = [j for j in range(len(xq)) if j != i]
    others.sort(key=lambda j, q=q: ((q - xq[j]) ** 2).sum())
    nearest.append(others[: neighbours - 1])
  y = softmax_rows(-a)
  energy = None
  for i in range(20):
    pull = np.stack([y[near].sum(0) for near in nearest])
    logits = laplacian_weight * pull - a
    y = softmax_rows(logits)
    before, energy = energy, 0.0
    for q in range(len(xq)):
      for k in range(a.shape[1]):
        neighbouring = sum(y[j, k] for j in nearest[q])
        energy += y[q, k] * np.log(max(y[q, k], 1e-20)) + a[q, k] * y[q, k]
        energy -= laplacian_weight * y[q, k] * neighbouring
    if i > 1 and abs(energy - before) <= 1e-6 * abs(before):
      break
  return logits


def adam(weight, gradient, iterations, learning_rate):
  """The weight after that many steps of Adam on `gradient(weight)`."""
  b1, b2, epsilon = ADAM
  first, second = np.zeros_like(weight), np.zeros_like(weight)
  for t in range(1, iterations + 1):
    g = gradient(weight)
    first = b1 * first + (1 - b1) * g
    second = b2 * second + (1 - b2) * g**2
    step = first / (1 - b1**t)
    weight = weight - learning_rate * step / (
      np.sqrt(second / (1 - b2**t)) + epsilon
    )
  return weight


def tim_logits(x, weight, scale):
  return scale / 2 * negative_distances(x, weight)


def through_softmax(p, slope):
  """Gradient by the logits of one image, from that by its probabilities."""
  return p * (slope - (p * slope).sum())


def tim_gradient(zs, ys, zq, weight, scale, weights, alpha):
  """Of ce * CE - marginal * H(mean p) + conditional * mean H(p)."""
  ce, marginal, conditional = weights
  gradient = np.zeros_like(weight)

  def add(z, by_logits):
    for k in range(len(weight)):
      gradient[k] += by_logits[k] * scale * (z - weight[k])

  for z, y in zip(zs, ys, strict=True):
    p = softmax(tim_logits(z[None], weight, scale)[0])
    slope = np.zeros(len(weight))
    slope[y] = -1 / (p[y] + EPSILON)
    add(z, ce / len(zs) * through_softmax(p, slope))
  ps = softmax_rows(tim_logits(zq, weight, scale))
  mean = ps.mean(0)
  for z, p in zip(zq, ps, strict=True):
    if alpha is None:
      of_mean = -(np.log(mean) + 1)
      of_one = -(np.log(p + EPSILON) + p / (p + EPSILON))
    else:
      of_mean = -alpha * mean ** (alpha - 1) / (alpha - 1)
      of_one = -alpha * p ** (alpha - 1) / (alpha - 1)
    slope = (conditional * of_one - marginal * of_mean) / len(zq)
    add(z, through_softmax(p, slope))
  return gradient


def tim_gd(
  xs,
  ys,
  xq,
  *,
  iterations,
  learning_rate,
  scale=15.0,
  weights=(0.1, 1.0, 0.1),
  alpha=None,
):
  zs, zq = unit(xs), unit(xq)
  weight = adam(
    means_of(zs, ys),
    lambda w: tim_gradient(zs, ys, zq, w, scale, weights, alpha),
    iterations,
    learning_rate,
  )
  return tim_logits(zq, weight, scale)


def alpha_tim(xs, ys, xq, *, alpha="by_shots", **options):
  if alpha == "by_shots":
    alpha = 2.0 if len(ys) / len(set(ys)) < 5 else 7.0
  return tim_gd(xs, ys, xq, weights=(1, 1, 1), alpha=alpha, **options)


def entropy_head(xs, ys, xq, **options):
  return tim_gd(xs, ys, xq, weights=(1, 0, 1), **options)


def tim_adm(xs, ys, xq, *, iterations=150, weights=(0.1, 1.0, 0.1)):
  zs, zq = unit(xs), unit(xq)
  ce, marginal, conditional = weights
  w = means_of(zs, ys)
  num_ways = len(w)
  a, b = ce / (1 + conditional), len(zs) / len(zq)
  for _ in range(iterations):
    ps = softmax_rows(tim_logits(zs, w, 15))
    pq = softmax_rows(tim_logits(zq, w, 15))
    power = pq ** (1 + conditional)
    q = power / power.sum(0) ** (marginal / (marginal + 1))
    q = q / q.sum(1, keepdims=True)
    new = np.zeros_like(w)
    for k in range(num_ways):
      top, bottom = np.zeros(w.shape[1]), 0.0
      for z, y, p in zip(zs, ys, ps, strict=True):
        top += a * ((y == k) * z + p[k] * (w[k] - z))
        bottom += a * (y == k)
      for z, target, p in zip(zq, q, pq, strict=True):
        top += b * (target[k] * z + p[k] * (w[k] - z))
        bottom += b * target[k]
      new[k] = top / bottom
    w = new
  return tim_logits(zq, w, 15)


def cosine_head(xs, ys, xq, *, iterations, learning_rate=1e-3, scale=15.0):
  zs, zq = unit(xs), unit(xq)

  def logits(z, weight):
    return scale * np.array([cosine(z, w) for w in weight])

  def gradient(weight):
    total = np.zeros_like(weight)
    for z, y in zip(zs, ys, strict=True):
      p = softmax(logits(z, weight))
      for k, w in enumerate(weight):
        size = np.linalg.norm(w)
        slope = scale * (z / size - (z @ w) * w / size**3)
        total[k] += (p[k] - (y == k)) * slope / len(zs)
    return total

  weight = adam(means_of(zs, ys), gradient, iterations, learning_rate)
  return np.stack([logits(z, weight) for z in zq])


def power_transformed(x, negative):
  if negative == "signed":
    x = np.sign(x) * np.abs(x) ** 0.5
  else:
    x = (x + 1e-6) ** 0.5
  x = unit(x)
  return unit(x - x.mean(0))


def pt_ncm(xs, ys, xq, *, negative="refuse"):
  xs, xq = (power_transformed(x, negative) for x in (xs, xq))
  return negative_distances(xq, means_of(xs, ys))


def pt_map(xs, ys, xq, *, negative="refuse", balance="told", iterations=20):
  xs, xq = (power_transformed(x, negative) for x in (xs, xq))
  means = means_of(xs, ys)
  num_queries, num_ways = len(xq), len(means)

  def plan():
    logits = 10 * negative_distances(xq, means)
    if balance == "unknown":
      return softmax_rows(logits)
    p = np.exp(logits)
    p = p / p.sum()
    before = np.zeros(num_queries)
    for _ in range(1000):
      if np.abs(p.sum(1) - before).max() <= 1e-6:
        break
      before = p.sum(1)
      for i in range(num_queries):
        p[i] = p[i] / before[i]
      for k in range(num_ways):
        p[:, k] = p[:, k] * num_queries / num_ways / p[:, k].sum()
    return p

  for _ in range(iterations):
    p = plan()
    new = np.stack(
      [
        (xs[ys == k].sum(0) + p[:, k] @ xq) / ((ys == k).sum() + p[:, k].sum())
        for k in range(num_ways)
      ]
    )
    means = means + 0.2 * (new - means)
  return np.log(plan())


def ridge(xs, ys, xq, *, rule="r2d2"):
  """In the primal, where the library computes the dual."""
  y = np.eye(ys.max() + 1)[ys]
  l2 = 50.0
  if rule == "big_vision":
    mean, deviation = xs.mean(0), xs.std(0) + 1e-5
    xs, xq = (
      np.append((x - mean) / deviation, np.full((len(x), 1), 100.0), 1)
      for x in (xs, xq)
    )
    y, l2 = 2 * y - 1, 2.0**10
  weight = np.linalg.inv(xs.T @ xs + l2 * np.eye(xs.shape[1])) @ xs.T @ y
  return xq @ weight


def logistic(xs, ys, xq, *, c=1.0):
  """By a quasi-Newton method of SciPy."""
  zs, zq = unit(xs), unit(xq)
  y = np.eye(ys.max() + 1)[ys]
  shape = y.shape[1], zs.shape[1]

  def split(flat):
    return flat[: -shape[0]].reshape(shape), flat[-shape[0] :]

  def objective(flat):
    weight, bias = split(flat)
    logits = zs @ weight.T + bias
    value, residual = (weight**2).sum() / 2, np.zeros_like(logits)
    for i, row in enumerate(logits):
      p = softmax(row)
      value -= c * np.log(p[ys[i]])
      residual[i] = c * (p - y[i])
    return value, np.append(residual.T @ zs + weight, residual.sum(0))

  found = scipy.optimize.minimize(
    objective,
    np.zeros(shape[0] * (shape[1] + 1)),
    jac=True,
    method="BFGS",
    options={"gtol": 1e-9, "maxiter": 1000},
  )
  weight, bias = split(found.x)
  return zq @ weight.T + bias


def paddle(xs, ys, xq, *, class_weight=75.0, iterations=100):
  size = xq.max(0) - xq.min(0)
  xs, xq = (xs - xq.min(0)) / size, (xq - xq.min(0)) / size
  means = means_of(xs, ys)
  v = np.zeros(len(means))
  for _ in range(iterations):
    logits = negative_distances(xq, means) / 2 + class_weight / len(xq) * v
    u = softmax_rows(logits)
    v = np.log(u.mean(0) + 1e-6) + 1
    means = np.stack(
      [
        (xs[ys == k].sum(0) + u[:, k] @ xq) / ((ys == k).sum() + u[:, k].sum())
        for k in range(len(means))
      ]
    )
  return logits
