"""The types that the stages exchange, and the legend of their shapes.

Legend, used by name in every docstring of the library:

  B  episodes in a batch          H W C  height, width, channels of an image
  N  ways: classes of an episode  D      width of the features
  K  shots: support images/class  P      width of the base-class logits
  Q  queries per class            M      images in any batch
  S  support images, N * K when every class has K
  T  query images, N * Q when every class has Q

Shapes are those of one episode; a batch of episodes is the same type with a
leading B on every array.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array | np.ndarray
"""Episodes are NumPy arrays until they are placed on a device."""

Variables = Mapping[str, Any]
"""Collections by name, each a nested dict of float32 arrays: "params", which
training updates; in a network with batch norm "batch_stats"; in a checkpoint
perhaps "base_statistics", which describes the base classes to methods."""


def collections(variables: Variables) -> dict[str, Any]:
  """The collections of a network beside its parameters."""
  others = ("params", "base_statistics")
  return {k: v for k, v in variables.items() if k not in others}


class InputError(ValueError):
  """Wrong input from the user. The message is one sentence: what was wrong,
  where, and what was expected. Scripts print it without a traceback."""


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
  """The error for a name that is in no table, suggesting the nearest."""
  known = sorted(known)
  near = difflib.get_close_matches(given, known, n=1)
  hint = f"did you mean {near[0]!r}? " if near else ""
  return InputError(
    f"unknown {kind} {given!r}; {hint}known: {', '.join(known)}"
  )


def check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
  """Raises InputError unless `value` is one of the allowed ones."""
  allowed = tuple(allowed)
  if value not in allowed:
    raise unknown_name(name, str(value), allowed)


def check_whole(
  name: str, value: Any, *, at_least: int = 0, below: int = 2**31
) -> None:
  """Raises InputError unless `value` is an int in [at_least, below)."""
  whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not whole or not at_least <= value < below:
    limit = "2^31" if below == 2**31 else str(below)
    raise InputError(
      f"{name} must be at least {at_least}, whole and below {limit}, got "
      f"{value!r}"
    )


def check_positive(name: str, value: Any, *, above: float = 0) -> None:
  """Raises InputError unless `value` is a finite number above `above`."""
  number = isinstance(value, int | float | np.number)
  if not number or isinstance(value, bool) or not above < value < math.inf:
    what = "positive" if above == 0 else f"above {above:g}"
    raise InputError(f"{name} must be {what}, got {value!r}")


def check_size_px(name: str, value: Any, *, at_least: int = 1) -> None:
  """Raises InputError unless `value` is a height of images, below 4097.

  Beyond it a single image takes 50 MB, and a batch of activations terabytes.
  """
  check_whole(name, value, at_least=at_least, below=4097)


def is_concrete(*arrays: Array) -> bool:
  """Whether values can be read: not traced, nor held by other processes."""
  return not any(
    isinstance(x, jax.core.Tracer)
    or (isinstance(x, jax.Array) and not x.is_fully_addressable)
    for x in arrays
  )


def check_labels(name: str, labels: Array, mask: Array, num_ways: int) -> None:
  """Raises InputError unless the labels of a mask are whole, in [0, num_ways).

  Values that are not concrete are not checked.
  """
  if labels.shape != mask.shape or labels.dtype.kind not in "iu":
    raise InputError(
      f"{name} must be {list(mask.shape)} integers, as its mask, got "
      f"{list(labels.shape)} {labels.dtype}"
    )
  if not is_concrete(labels, mask):
    return
  labels, mask = jax.device_get((labels, mask))
  used = labels[mask]
  if used.size and not 0 <= used.min() <= used.max() < num_ways:
    raise InputError(
      f"{name} must lie in [0, {num_ways}), got {used.min()} to {used.max()}"
    )


class Images(Protocol):
  """[n, H, W, 3] uint8 in [0, 255], or [n, D] float32 features: an array, or
  an object that is indexed like one."""

  @property
  def shape(self) -> tuple[int, ...]: ...

  @property
  def dtype(self) -> np.dtype: ...

  @property
  def ndim(self) -> int: ...

  def __len__(self) -> int: ...

  def __getitem__(self, rows: Any, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class ClassIndexed:
  """One split of a data set, indexed by class.

  Attributes:
    images: [n, H, W, 3] uint8 in [0, 255]: an array, or for what does not fit
      in memory `data.streamed.StreamedImages`, which decodes the rows that it
      is indexed with. Or [n, D] float32, what `features.extract` made of them.
    class_ids: [n] int32 in [0, num_classes), ascending.
    class_names: one name per class of this split.
    image_ids: one name per image, which identifies its source. The order within
      a class follows the pixels and not the names, so that episodes do not
      depend on the container that the data came in.
    name: data set, such as "icons".
    split: "base", "val", "novel" or "base+val".
    fingerprint: hex digest of the pixels and labels of the prepared data set,
      before resizing; empty for a data set made on the fly.
    digests: [n] uint64, equal where two images are the same, before resizing;
      None: to be computed, see `image_digests`.
  """

  images: "Images"
  class_ids: np.ndarray
  class_names: tuple[str, ...]
  image_ids: Sequence[str]
  name: str
  split: str
  fingerprint: str = ""
  digests: np.ndarray | None = None

  def __post_init__(self) -> None:
    n = len(self.class_ids)
    if self.digests is not None and self.digests.shape != (n,):
      raise InputError(
        f"digests must be [{n}], one per image, got {list(self.digests.shape)}"
      )
    kind = (self.images.ndim, np.dtype(self.images.dtype))
    if kind not in ((4, np.dtype(np.uint8)), (2, np.dtype(np.float32))):
      raise InputError(
        "images must be [n, H, W, 3] uint8 (or [n, D] float32 features), got "
        f"{list(self.images.shape)} {self.images.dtype}"
      )
    if self.images.ndim == 4 and (
      self.images.shape[3] != 3 or self.images.shape[1] != self.images.shape[2]
    ):
      raise InputError(
        "images must be square with 3 channels, got "
        f"{list(self.images.shape[1:])}"
      )
    if len(self.images) != n or len(self.image_ids) != n:
      raise InputError(
        f"images ({len(self.images)}), class_ids ({n}) and image_ids "
        f"({len(self.image_ids)}) must be equally many"
      )
    if n and np.any(np.diff(self.class_ids) < 0):
      raise InputError("class_ids must be sorted in ascending order")
    if n and not 0 <= self.class_ids[0] <= self.class_ids[-1] < len(
      self.class_names
    ):
      raise InputError(
        f"class_ids must lie in [0, {len(self.class_names)}), got "
        f"{self.class_ids[0]} to {self.class_ids[-1]}"
      )

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def image_size_px(self) -> int:
    """Height of the images; they are square."""
    return self.images.shape[1]

  @property
  def is_in_memory(self) -> bool:
    """Whether the images are an array, and not decoded when asked for."""
    return isinstance(self.images, np.ndarray)

  def group_ids(self) -> np.ndarray:
    """[n] int64, the group of each image as an index into `group_names`."""
    return self._groups[1]

  def group_names(self) -> tuple[str, ...]:
    """Sorted prefixes of the ids, up to the first "/", such as the pack of an
    icon."""
    return self._groups[0]

  @functools.cached_property
  def _groups(self) -> tuple[tuple[str, ...], np.ndarray]:
    of_image = [str(name).split("/", 1)[0] for name in self.image_ids]
    names, ids = np.unique(np.asarray(of_image), return_inverse=True)
    ids.flags.writeable = False
    return tuple(names.tolist()), ids

  def image_digests(self) -> np.ndarray:
    """[n] uint64: `digests`, or else computed from the images.

    Raises:
      InputError: if there are none and the images stay on disk, where all of
        them would have to be decoded.
    """
    return self._image_digests

  @functools.cached_property
  def _image_digests(self) -> np.ndarray:
    if self.digests is not None:
      return self.digests
    if not self.is_in_memory:
      raise InputError(
        f"{self.name} was prepared when copies of images were not looked for; "
        "make it again with overwrite=True"
      )
    digests = np.empty(len(self.images), np.uint64)
    for row in range(len(digests)):
      image = np.ascontiguousarray(self.images[row])
      digest = hashlib.blake2b(image.data, digest_size=8).digest()
      digests[row] = int.from_bytes(digest, "big")
    digests.flags.writeable = False
    return digests

  def with_features(
    self, features: np.ndarray, fingerprint: str | None = None
  ) -> "ClassIndexed":
    """The same split, with the same episodes.

    Args:
      features: [n, D] float32, in place of the images.
      fingerprint: of the result; None is that of the images.
    """
    return dataclasses.replace(
      self,
      images=features,
      fingerprint=self.fingerprint if fingerprint is None else fingerprint,
      # Those of the images: different images may have equal features.
      digests=self.image_digests() if self.is_in_memory else self.digests,
    )

  @functools.cached_property
  def pools(self) -> dict[Any, Any]:
    """Cache of `episodes.pools`, by protocol."""
    return {}

  def class_offsets(self) -> np.ndarray:
    """[num_classes + 1] int64: class c is rows offsets[c]:offsets[c + 1]."""
    return self._class_offsets

  @functools.cached_property
  def _class_offsets(self) -> np.ndarray:
    offsets = np.searchsorted(
      self.class_ids, np.arange(self.num_classes + 1)
    ).astype(np.int64)
    offsets.flags.writeable = False
    return offsets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Task:
  """The part of an episode that a method receives: no query labels.

  Padding comes last, because random views and micro-batches depend on the
  position; a masked-out image then changes nothing, whatever its pixels and
  label. A class without a support image is absent and never predicted: its
  logits are -1e30.

  Attributes:
    support_images: [S, H, W, C] uint8 in [0, 255], or float32 that is taken as
      already normalised (features [S, D] with the identity backbone).
    support_labels: [S] int32 in [0, N).
    support_mask: [S] bool, False where the image is padding.
    query_images: [T, H, W, C], as support_images.
    query_mask: [T] bool.
    num_ways: N, static.
  """

  support_images: Array
  support_labels: Array
  support_mask: Array
  query_images: Array
  query_mask: Array
  num_ways: int = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Episode:
  """A task together with the query labels, which only the evaluation receives.

  Attributes:
    task: for the method.
    query_labels: [T] int32 in [0, N); 0 where `task.query_mask` is False.
    index: [] int32, i of this episode.
    class_ids: [N] int32, data set classes behind the labels 0 to N - 1.
    support_rows: [S] int32 rows of `ClassIndexed.images`; 0 where padded.
    query_rows: [T] int32.
  """

  task: Task
  query_labels: Array
  index: Array
  class_ids: Array
  support_rows: Array
  query_rows: Array


class Outputs(NamedTuple):
  """What a backbone returns for a batch of images."""

  # [M, P] float32, of the base classes, unnormalised; None if there are none.
  logits: jax.Array | None
  features: jax.Array  # [M, D] float32, the input of the last linear layer.


class ApplyFn(Protocol):
  def __call__(
    self,
    variables: Variables,
    images: jax.Array,
    *,
    train: bool,
    mask: jax.Array | None = None,
  ) -> tuple[Outputs, Any]:
    """Runs the network.

    Args:
      variables: as made by `Backbone.init`.
      images: [M, H, W, C] float32, as `augment.prepare` makes them.
      train: True normalises with the statistics of this batch and returns
        updated running statistics; False uses the running statistics.
      mask: [M] bool; images where it is False do not enter the statistics.

    Networks of `backbones.create` also take `groups: int`, a divisor G of M: in
    training, each of G consecutive parts of the batch is normalised with its
    own statistics, and those of the first part update the running ones. Only
    pre-training with `batch_norm_group` passes it.

    Returns:
      `Outputs`, and the collections of `collections(variables)`, updated if
      `train`.
    """


class Preprocess(NamedTuple):
  """How uint8 images become the input of a network; see `augment.prepare`.

  The default is ImageNet's mean and deviation, used for every data set as in
  the paper's code, and no resizing.
  """

  mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of pixels / 255, by channel
  std: tuple[float, ...] = (0.229, 0.224, 0.225)
  size_px: int | None = None  # H = W to which images are resized, bilinearly


class Backbone(NamedTuple):
  """A network as a pair of pure functions.

  `init(key, images) -> variables` consumes the key and needs only the shape
  of `images` [M, H, W, C]; it also runs under `jax.eval_shape`. The variables
  are random, or those the network was created with.
  """

  init: Callable[[jax.Array, jax.Array], Variables]
  apply: ApplyFn
  name: str = "custom"
  num_classes: int | None = None  # P, if fixed
  image_size_px: int | None = None  # H = W, if fixed
  # What `backbones.create` made it of, as JSON values; stored with checkpoints.
  config: Mapping[str, Any] | None = None
  preprocess: Preprocess = Preprocess()
  # Whether the images of a batch are coupled through batch-norm statistics,
  # which makes the joint use of queries another one.
  has_batch_stats: bool = True

  def __hash__(self) -> int:
    """Hash of the functions, since `config` is a dict."""
    return hash((self.init, self.apply))


def logits_of(outputs: Outputs) -> jax.Array:
  """The logits; InputError if the network has none."""
  if outputs.logits is None:
    raise InputError(
      "the network has no base-class logits, only features; expected one with "
      'logits, or input="features"'
    )
  return outputs.logits


class AdaptInfo(NamedTuple):
  """Measurements of one step of adaptation; [] float32 unless stated.

  Losses are those before the step's update, on the input of the step
  (augmented, batch statistics). A field that a method does not have is None,
  since `jax.debug_nans` would raise for NaN.
  """

  support_loss: jax.Array | None  # cross-entropy, nats
  support_accuracy: jax.Array | None  # fraction
  query_entropy: jax.Array | None  # nats, mean over queries
  is_finite: jax.Array  # [] bool: losses and all parameters are finite


class Diagnosis(NamedTuple):
  """Predictions before adaptation and fit to the support, for one episode."""

  initial_predictions: jax.Array  # [T] int32 in [0, N), before the first step
  # [] float32, fraction of the support that is classified correctly after the
  # last step, not augmented.
  support_accuracy: jax.Array


class Streamable(NamedTuple):
  """What `adapt.streamed` needs of a method that starts from class means.

  `embed(variables, images [M, ...]) -> [M, P]`, which the means are of.
  `start(key, variables, means [N, P], present [N] bool) -> state` consumes the
  key; `present` is False for a class without support. If the method takes
  steps, the state has a field `key`, from which the order of images is drawn.
  """

  embed: Callable[[Variables, jax.Array], jax.Array]
  start: Callable[[jax.Array, Variables, jax.Array, jax.Array], Any]
  micro_batch: int  # images that have batch statistics of their own
  uses_queries: bool  # whether `step` does


class Adapter(NamedTuple):
  """A few-shot method as three pure functions of one episode (unbatched).

  `init(key, variables, task) -> state` consumes the key.
  `step(state, task) -> (state, AdaptInfo)`, called `num_steps` times.
  `predict(state, task) -> [T, N]` float32 logits, unnormalised.
  """

  init: Callable[[jax.Array, Variables, Task], Any]
  step: Callable[[Any, Task], tuple[Any, AdaptInfo]]
  predict: Callable[[Any, Task], jax.Array]
  num_steps: int
  name: str
  query_use: str  # which query information is used: "none" is inductive
  config: Mapping[str, Any] | None = None  # its options, as JSON values
  streamable: Streamable | None = None  # if it is
  # Raises InputError for tasks that the method cannot take (one, or several
  # with a leading B), where values can be looked at. None: it takes all.
  check: Callable[[Task], None] | None = None

  def __hash__(self) -> int:
    """Hash of the functions, since `config` is a dict."""
    return hash((self.init, self.step, self.predict))


@dataclasses.dataclass(frozen=True)
class EvalResult:
  """One method on n episodes, in the order of `index`.

  An episode whose losses or parameters diverged (NaN or Inf) has accuracy NaN:
  it is counted in `num_non_finite` and excluded from the mean.

  Episodes may differ in size: T and N are those of the largest.

  Attributes:
    method: name.
    query_use: which query information the method used.
    protocol: JSON values of the `episodes.Protocol`.
    protocol_name: for headings, such as "5-way 1-shot".
    protocol_text: its other settings, such as "15 queries per class".
    index: [n] int64, the episodes.
    digests: [n] text, of the images of each episode: equal for equal episodes
      of a data set, whatever their source.
    class_ids: [n, N] int64, data set classes behind the labels; -1 beyond an
      episode's own.
    labels: [n, T] int64 in [0, N), of the queries; -1 beyond an episode's own.
    accuracy: [n] float64 fractions in [0, 1].
    hardness: [n] float64, nats; NaN where it was not computed.
    predictions: [n, T] int64 in [0, N); -1 as `labels`.
    initial_predictions: [n, T] int64, before the first step; -1 as `labels`.
    support_accuracy: [n] float64, fraction of the support images, not
      augmented, that the adapted network classifies correctly.
    curves: per-step infos, each [n, steps] float64: "support_loss",
      "support_accuracy", "query_entropy"; NaN if a method does not have it.
  """

  method: str
  query_use: str
  protocol: Mapping[str, Any]
  protocol_name: str
  protocol_text: str
  index: np.ndarray
  digests: np.ndarray
  class_ids: np.ndarray
  labels: np.ndarray
  accuracy: np.ndarray
  hardness: np.ndarray
  predictions: np.ndarray
  initial_predictions: np.ndarray
  support_accuracy: np.ndarray
  curves: Mapping[str, np.ndarray]

  def at(self, positions: np.ndarray) -> "EvalResult":
    """The result of some episodes: [k] integers, positions in `index`."""
    arrays = {
      field.name: getattr(self, field.name)[positions]
      for field in dataclasses.fields(self)
      if isinstance(getattr(self, field.name), np.ndarray)
    }
    curves = {name: curve[positions] for name, curve in self.curves.items()}
    return dataclasses.replace(self, **arrays, curves=curves)

  @property
  def num_episodes(self) -> int:
    return len(self.index)

  @property
  def num_non_finite(self) -> int:
    return int((~np.isfinite(self.accuracy)).sum())

  @property
  def mean(self) -> float:
    """Fraction, over the finite episodes; NaN if there is none."""
    return float(_finite(self.accuracy).mean())

  @property
  def std(self) -> float:
    """Population standard deviation over episodes, as the paper's code."""
    return float(_finite(self.accuracy).std())

  @property
  def ci95(self) -> float:
    """Half-width of the 95 % interval, 1.96 std / sqrt(n) (section 4.1)."""
    return half_width(_finite(self.accuracy))


def half_width(values: np.ndarray) -> float:
  """1.96 std / sqrt(n), std of the population: the paper's 95 % interval.

  NaN for fewer than two values.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return float("nan")
  return float(1.96 * values.std() / np.sqrt(len(values)))


def _finite(values: np.ndarray) -> np.ndarray:
  finite = values[np.isfinite(values)]
  return finite if len(finite) else np.full(1, np.nan)
