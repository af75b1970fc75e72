"""Hand-made results of a few episodes, for tests of what is made of them."""

import numpy as np

from fsl_jax import types

EVIL = "a <script>alert('1')</script> & \"b\" $x_1$"

# Of four episodes.
ACCURACY = {
  "support_init": [0.4, 0.6, 0.5, 0.5],
  "finetune": [0.5, 0.8, 0.4, 0.7],
}
HARDNESS = [1.0, 0.0, 1.0, 0.5]

# Two episodes of two ways, two queries per class: data set classes 3 and 1,
# then 0 and 3. The last place of each row is padding.
CLASS_IDS = [[3, 1, -1], [0, 3, -1]]
LABELS = [[0, 0, 1, 1, -1], [0, 0, 1, 1, -1]]
BEFORE = [[0, 1, 1, 1, -1], [0, 1, 0, 1, -1]]
AFTER = [[0, 0, 1, 1, -1], [0, 0, 0, 0, -1]]


def result(
  method="m",
  accuracy=None,
  *,
  labels=None,
  predictions=None,
  **fields,
):
  """A result; what is not given follows from the rest.

  Args:
    method: name.
    accuracy: [n]; None: that of the predictions.
    labels: [n, T]; None: two queries of each of five classes.
    predictions: [n, T]; None: class 0 throughout.
    **fields: of `types.EvalResult`.
  """
  if labels is None:
    labels = np.tile(np.repeat(np.arange(5), 2), (len(accuracy), 1))
  labels = np.asarray(labels)
  n = len(labels)
  if predictions is None:
    predictions = np.zeros_like(labels)
  predictions = np.asarray(predictions)
  if accuracy is None:
    is_query = labels >= 0
    accuracy = ((predictions == labels) & is_query).sum(1) / is_query.sum(1)
  made = {
    "method": method,
    "query_use": "none",
    "protocol": {"ways": 5, "shots": 1, "queries": 2},
    "protocol_name": "5-way 1-shot",
    "protocol_text": "2 queries per class",
    "index": np.arange(10, 10 + n),
    "digests": np.arange(n).astype(str),
    "class_ids": np.tile(np.arange(labels.max(initial=0) + 1), (n, 1)),
    "labels": labels,
    "accuracy": np.asarray(accuracy, np.float64),
    "hardness": np.full(n, np.nan),
    "predictions": predictions,
    "initial_predictions": predictions,
    "support_accuracy": np.ones(n),
    "curves": {},
  }
  arrays = ("class_ids", "hardness", "initial_predictions", "support_accuracy")
  fields |= {k: np.asarray(fields[k]) for k in arrays if k in fields}
  return types.EvalResult(**made | fields)


def section(accuracies, **fields):
  """Methods on the same episodes, of their accuracies."""
  return {name: result(name, a, **fields) for name, a in accuracies.items()}


def adapted(**fields):
  """The two episodes above, before and after adaptation."""
  fields = {
    "labels": LABELS,
    "class_ids": CLASS_IDS,
    "initial_predictions": BEFORE,
    "hardness": [0.5, 2.0],
    "support_accuracy": [1.0, 0.5],
    "protocol": {"ways": [2, 3], "shots": "any"},
    "protocol_name": "2 to 3 ways, any shots",
  } | fields
  return {
    name: result(name, predictions=predictions, **fields)
    for name, predictions in (("support_init", BEFORE), ("finetune", AFTER))
  }


def long(n, shift, seed=0):
  """Two methods on n episodes of the same three classes; the second has
  `shift` more accuracy."""
  rng = np.random.default_rng(seed)
  accuracy = rng.uniform(0.4, 0.6, n)
  return {
    name: result(
      name, accuracy + more, hardness=np.linspace(0, 1, n), curves={}
    )
    for name, more in (("support_init", 0.0), ("finetune", shift))
  }
