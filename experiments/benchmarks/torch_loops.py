"""The same methods as plain PyTorch loops, one episode after another.

Written as a careful user would: channels-last, everything on the device, the
random views made on whole batches by tensor operations.
"""

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import torch_networks
from fsl_jax import augment, types

MICRO_BATCH = 75


@dataclasses.dataclass(frozen=True)
class Setting:
  """How a loop runs. The paper's code is `Setting("cuda", False, False)`."""

  device: str = "cpu"
  channels_last: bool = True
  bfloat16: bool = False  # autocast; parameters and Adam stay float32

  @property
  def name(self) -> str:
    kind = "bfloat16 autocast" if self.bfloat16 else "float32"
    return kind + (", channels-last" if self.channels_last else "")


def network(
  name: str, variables: Any, setting: Setting, **options: int
) -> nn.Module:
  """Our network with our weights, on the device."""
  made = torch_networks.create(name, **options)
  torch_networks.load(made, variables)
  if setting.channels_last:
    made = made.to(memory_format=torch.channels_last)
  return made.to(setting.device)


def prepare(images: torch.Tensor, setting: Setting) -> torch.Tensor:
  """[M, H, W, 3] uint8 -> normalised [M, 3, H, W] float32."""
  return _normalise(images.float() / 255, setting)


def random_views(images: torch.Tensor, setting: Setting) -> torch.Tensor:
  """The random views of `augment.random_views`, with PyTorch's own draws."""
  m, height, width, _ = images.shape
  pad = augment.AugmentConfig().pad_px
  device = images.device

  def window(size):
    start = torch.randint(0, 2 * pad + 1, (m, 1), device=device) - pad
    index = (start + torch.arange(size, device=device)).abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)

  rows, columns = window(height), window(width)
  flip = torch.rand(m, 1, device=device) < 0.5
  columns = torch.where(flip, columns.flip(1), columns)
  batch = torch.arange(m, device=device)[:, None, None]
  views = images[batch, rows[:, :, None], columns[:, None, :]]
  shift = torch.logit(0.1 + 0.8 * torch.rand(m, 1, 1, 1, device=device))
  low, high = math.log(0.6), math.log(1.4)
  factor = torch.exp(low + (high - low) * torch.rand(m, 1, 1, 1, device=device))
  pixels = (views.float() / 255).clamp(1e-7, 1 - 1e-7)
  return _normalise(
    torch.sigmoid((torch.logit(pixels) + shift) * factor), setting
  )


def _normalise(pixels: torch.Tensor, setting: Setting) -> torch.Tensor:
  mean, std = (
    torch.tensor(x, device=pixels.device) for x in (augment.MEAN, augment.STD)
  )
  # NHWC storage seen as NCHW is what PyTorch calls channels-last.
  x = ((pixels - mean) / std).permute(0, 3, 1, 2)
  return x if setting.channels_last else x.contiguous()


class Episodes:
  """Tasks as tensors on the device."""

  def __init__(self, tasks: types.Task, setting: Setting):
    def put(x):
      return torch.from_numpy(np.array(x)).to(setting.device)

    self._support = put(tasks.support_images)
    self._labels = put(tasks.support_labels).long()
    self._query = put(tasks.query_images)
    self.num_ways = tasks.num_ways

  def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
    return zip(self._support, self._labels, self._query, strict=True)


def adapt(
  pretrained: nn.Module,
  episodes: Episodes,
  setting: Setting,
  *,
  steps: int,
  transductive: bool,
  views: bool,
  learning_rate: float = 5e-5,
) -> list[torch.Tensor]:
  """Initialisation, then `steps` epochs on each episode: [T, N] logits each.

  No step for support-based initialisation; `views` are the random ones.
  """
  return [
    _adapt_one(
      copy.deepcopy(pretrained),
      episode,
      episodes.num_ways,
      setting,
      steps=steps,
      transductive=transductive,
      views=random_views if views else prepare,
      learning_rate=learning_rate,
    )
    for episode in episodes
  ]


def _adapt_one(
  net, episode, num_ways, setting, *, steps, transductive, views, learning_rate
):
  support, labels, query = episode
  net.eval()
  with torch.no_grad():
    embedded = torch.cat(
      [_embed(net, prepare(x, setting), setting) for x in _split(support)]
    )
    member = F.one_hot(labels, num_ways).float()
    means = member.T @ embedded / member.sum(0)[:, None].clamp(min=1)
  weight = nn.Parameter(F.normalize(means))
  bias = nn.Parameter(torch.zeros(num_ways, device=weight.device))

  def classify(images):
    embedded = _embed(net, images, setting)
    return F.linear(F.normalize(embedded), weight, bias)

  net.train()
  adam = torch.optim.Adam(
    [*net.parameters(), weight, bias], lr=learning_rate, fused=True
  )
  for _ in range(steps):
    adam.zero_grad()
    for x, y in zip(_split(support), _split(labels), strict=True):
      loss = F.cross_entropy(classify(views(x, setting)), y, reduction="sum")
      (loss / len(support)).backward()
    adam.step()
    if not transductive:
      continue
    adam.zero_grad()
    for x in _split(query):
      log_p = F.log_softmax(classify(views(x, setting)), -1)
      (-(log_p.exp() * log_p).sum() / len(query)).backward()
    adam.step()
  net.eval()
  with torch.no_grad():
    return torch.cat([classify(prepare(x, setting)) for x in _split(query)])


def _embed(net, images, setting):
  with torch.autocast(setting.device, torch.bfloat16, enabled=setting.bfloat16):
    logits = net(images).logits
  return F.relu(logits.float())


def _split(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
  return x.split(MICRO_BATCH)


def extract(net: nn.Module, images: torch.Tensor, setting: Setting, batch: int):
  """Logits of [n, H, W, 3] uint8 images, in batches."""
  net.eval()
  with torch.no_grad():
    return torch.cat(
      [
        _embed(net, prepare(x.to(setting.device), setting), setting)
        for x in images.split(batch)
      ]
    )


class Pretraining:
  """The recipe of `pretrain.recipe` as a loop over a `DataLoader`."""

  def __init__(
    self,
    net: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    batch: int,
    setting: Setting,
  ):
    self._net, self._setting = net, setting
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim == 1]
    self._optimizer = torch.optim.SGD(
      [{"params": kernels, "weight_decay": 1e-4}, {"params": others}],
      lr=0.1,
      momentum=0.9,
      nesterov=True,
      fused=True,
    )
    data = torch.utils.data.TensorDataset(
      torch.from_numpy(images), torch.from_numpy(labels).long()
    )
    # Whole batches are indexed at once: no stacking of single images.
    self._loader = torch.utils.data.DataLoader(
      data,
      batch_size=None,
      sampler=torch.utils.data.BatchSampler(
        torch.utils.data.RandomSampler(data), batch, drop_last=True
      ),
    )
    self._batches = self._endless()

  def _endless(self):
    while True:
      yield from self._loader

  def run(self, steps: int) -> None:
    """Some steps of training, random views and mixup included."""
    setting = self._setting
    self._net.train()
    beta = torch.distributions.Beta(0.25, 0.25)
    for _ in range(steps):
      images, labels = (x.to(setting.device) for x in next(self._batches))
      views = random_views(images, setting)
      share = beta.sample((len(images),)).to(setting.device)
      share = torch.maximum(share, 1 - share)
      partner = torch.randperm(len(images), device=setting.device)
      weight = share[:, None, None, None]
      views = weight * views + (1 - weight) * views[partner]
      self._optimizer.zero_grad()
      with torch.autocast(
        setting.device, torch.bfloat16, enabled=setting.bfloat16
      ):
        logits = self._net(views).logits
      logits = logits.float()

      def loss(y, logits=logits):
        return F.cross_entropy(logits, y, label_smoothing=0.1, reduction="none")

      values = share * loss(labels) + (1 - share) * loss(labels[partner])
      values.mean().backward()
      self._optimizer.step()


def prototypes(
  features: torch.Tensor,
  rows: list[tuple[torch.Tensor, ...]],
  num_ways: int,
) -> list[float]:
  """Accuracy of the nearest class mean, one episode after another."""
  accuracies = []
  for support, support_labels, query, query_labels in rows:
    member = F.one_hot(support_labels, num_ways).float()
    means = member.T @ features[support] / member.sum(0)[:, None]
    predicted = torch.cdist(features[query], means).argmin(1)
    accuracies.append((predicted == query_labels).float().mean().item())
  return accuracies


def synchronize(setting: Setting) -> None:
  """Waits for the device."""
  if setting.device != "cpu":
    torch.cuda.synchronize()
