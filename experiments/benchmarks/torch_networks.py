"""The networks in PyTorch, with the weights of ours, for comparison."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class Outputs(NamedTuple):
  logits: torch.Tensor  # [M, P]
  features: torch.Tensor  # [M, D]


def create(name: str, *, num_classes: int, image_size_px: int) -> nn.Module:
  """A network that takes [M, 3, H, W] float32 and gives `Outputs`."""
  if name == "conv64":
    width = 64 * (image_size_px // 16) ** 2
    return _Network(
      [(f"block{i}", _ConvBlock(64 if i else 3, 64)) for i in range(4)],
      nn.Linear(width, num_classes),
      lambda x: x.permute(0, 2, 3, 1).flatten(1),
    )
  if name == "resnet12":
    widths = (3, 64, 128, 256, 512)
    return _Network(
      [(f"block{i}", _ResidualBlock(*widths[i : i + 2])) for i in range(4)],
      nn.Linear(512, num_classes),
      lambda x: x.mean((2, 3)),
    )
  blocks, widen = {"wrn_16_4": (2, 4), "wrn_28_10": (4, 10)}[name]
  layers: list[tuple[str, nn.Module]] = [("stem", _conv(3, 16))]
  width = 16
  for group in range(3):
    for block in range(blocks):
      stride = 2 if group > 0 and block == 0 else 1
      wider = 16 * 2**group * widen
      layers.append(
        (f"group{group}_block{block}", _WideBlock(width, wider, stride))
      )
      width = wider
  layers += [("norm", nn.BatchNorm2d(width)), ("relu", nn.ReLU())]
  return _Network(
    layers, nn.Linear(width, num_classes), lambda x: x.mean((2, 3))
  )


def load(network: nn.Module, variables: Any) -> None:
  """Copies our variables into a network of `create`; the names are the same."""
  state = {}

  def walk(tree, path):
    for key, value in tree.items():
      if isinstance(value, dict):
        walk(value, [*path, key])
        continue
      array = np.asarray(value)
      if key == "kernel":  # HWIO, or [in, out]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
      name = {
        "kernel": "weight",
        "scale": "weight",
        "bias": "bias",
        "mean": "running_mean",
        "var": "running_var",
      }[key]
      state[".".join([*path, name])] = torch.tensor(np.ascontiguousarray(array))

  walk(variables["params"], [])
  walk(variables["batch_stats"], [])
  missing, unexpected = network.load_state_dict(state, strict=False)
  left = [name for name in missing if "num_batches_tracked" not in name]
  if left or unexpected:
    raise ValueError(f"networks differ: {left} missing, {unexpected} unknown")


class _Network(nn.Module):
  def __init__(self, layers, classifier, flatten):
    super().__init__()
    for name, layer in layers:
      self.add_module(name, layer)
    self._names = [name for name, _ in layers]
    self.classifier = classifier
    self._flatten = flatten

  def forward(self, x: torch.Tensor) -> Outputs:
    for name in self._names:
      x = self.get_submodule(name)(x)
    features = self._flatten(x)
    return Outputs(self.classifier(features), features)


def _conv(inputs: int, width: int, stride: int = 1) -> nn.Conv2d:
  return nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)


class _ConvBlock(nn.Module):
  def __init__(self, inputs: int, width: int):
    super().__init__()
    self.conv = nn.Conv2d(inputs, width, 3, padding=1)
    self.norm = nn.BatchNorm2d(width)

  def forward(self, x):
    return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)


class _ResidualBlock(nn.Module):
  def __init__(self, inputs: int, width: int):
    super().__init__()
    for i in range(3):
      self.add_module(f"conv{i}", _conv(width if i else inputs, width))
      self.add_module(f"norm{i}", nn.BatchNorm2d(width))
    self.shortcut_conv = nn.Conv2d(inputs, width, 1, bias=False)
    self.shortcut_norm = nn.BatchNorm2d(width)

  def forward(self, x):
    y = F.relu(self.norm0(self.conv0(x)))
    y = F.relu(self.norm1(self.conv1(y)))
    y = self.norm2(self.conv2(y))
    return F.max_pool2d(
      F.relu(y + self.shortcut_norm(self.shortcut_conv(x))), 2
    )


class _WideBlock(nn.Module):
  def __init__(self, inputs: int, width: int, stride: int):
    super().__init__()
    self.norm0 = nn.BatchNorm2d(inputs)
    self.conv0 = _conv(inputs, width, stride)
    self.norm1 = nn.BatchNorm2d(width)
    self.conv1 = _conv(width, width)
    self._reshapes = inputs != width or stride != 1
    if self._reshapes:
      self.shortcut_conv = nn.Conv2d(inputs, width, 1, stride, bias=False)

  def forward(self, x):
    shortcut = activated = F.relu(self.norm0(x))
    if self._reshapes:
      shortcut = self.shortcut_conv(activated)
    branch = self.conv0(activated)
    return shortcut + 0.2 * self.conv1(F.relu(self.norm1(branch)))
