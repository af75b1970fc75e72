"""The networks of `extractors` once more, in PyTorch, as their authors say it.

Layers have the names of the published weights, so that state dicts load.
"""

import torch
from torch import nn
from torch.nn import functional


def _same(x, size, stride):
  """TensorFlow's padding: ceil(n / stride) outputs, the odd zero at the end."""
  pads = []
  for n in reversed(x.shape[2:]):
    total = max((-(-n // stride) - 1) * stride + size - n, 0)
    pads += [total // 2, total - total // 2]
  return functional.pad(x, pads)


class _Block(nn.Module):
  def __init__(self, inputs, outputs, size, stride, expansion):
    super().__init__()
    wide = inputs * expansion
    if expansion > 1:
      self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
      self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
    self._depthwise_conv = nn.Conv2d(
      wide, wide, size, stride, groups=wide, bias=False
    )
    self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
    self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
    self._bn2 = nn.BatchNorm2d(outputs, eps=1e-3)
    self.expands, self.size, self.stride = expansion > 1, size, stride
    self.skips = stride == 1 and inputs == outputs

  def forward(self, x):
    y = x
    if self.expands:
      y = functional.relu6(self._bn0(self._expand_conv(y)))
    y = self._depthwise_conv(_same(y, self.size, self.stride))
    y = functional.relu6(self._bn1(y))
    y = self._bn2(self._project_conv(y))
    return x + y if self.skips else y


class EfficientNetLite0(nn.Module):
  def __init__(self):
    super().__init__()
    self._conv_stem = nn.Conv2d(3, 32, 3, 2, bias=False)
    self._bn0 = nn.BatchNorm2d(32, eps=1e-3)
    blocks, inputs = [], 32
    for repeats, stride, size, outputs in zip(
      (1, 2, 2, 3, 3, 4, 1),
      (1, 2, 2, 2, 1, 2, 1),
      (3, 3, 5, 3, 5, 5, 3),
      (16, 24, 40, 80, 112, 192, 320),
      strict=True,
    ):
      for i in range(repeats):
        expansion = 6 if blocks else 1
        first = stride if i == 0 else 1
        blocks.append(_Block(inputs, outputs, size, first, expansion))
        inputs = outputs
    self._blocks = nn.ModuleList(blocks)
    self._conv_head = nn.Conv2d(320, 1280, 1, bias=False)
    self._bn1 = nn.BatchNorm2d(1280, eps=1e-3)
    self._fc = nn.Linear(1280, 1000)

  def forward(self, x):
    x = functional.relu6(self._bn0(self._conv_stem(_same(x, 3, 2))))
    for block in self._blocks:
      x = block(x)
    x = functional.relu6(self._bn1(self._conv_head(x)))
    return self._fc(x.mean((2, 3)))


class _Bottleneck(nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = nn.BatchNorm2d(4 * width)
    if stride > 1 or inputs != 4 * width:
      self.downsample = nn.Sequential(
        nn.Conv2d(inputs, 4 * width, 1, stride, bias=False),
        nn.BatchNorm2d(4 * width),
      )
    else:
      self.downsample = nn.Identity()

  def forward(self, x):
    y = functional.relu(self.bn1(self.conv1(x)))
    y = functional.relu(self.bn2(self.conv2(y)))
    return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet152(nn.Module):
  """Without a call of torchvision, whose `resnet152` it is."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
    self.bn1 = nn.BatchNorm2d(64)
    inputs = 64
    for group, repeats in enumerate((3, 8, 36, 3)):
      width, blocks = 64 * 2**group, []
      for i in range(repeats):
        stride = 2 if group > 0 and i == 0 else 1
        blocks.append(_Bottleneck(inputs, width, stride))
        inputs = 4 * width
      setattr(self, f"layer{group + 1}", nn.Sequential(*blocks))
    self.fc = nn.Linear(2048, 1000)

  def forward(self, x):
    x = functional.relu(self.bn1(self.conv1(x)))
    x = functional.max_pool2d(x, 3, 2, padding=1)
    for group in range(4):
      x = getattr(self, f"layer{group + 1}")(x)
    return self.fc(x.mean((2, 3)))


def randomise(network: nn.Module) -> None:
  """Weights by which activations neither vanish nor overflow, and images get
  logits that differ by about 1; statistics away from 0 and 1."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, module in network.named_modules():
      if isinstance(module, nn.BatchNorm2d):
        low = 0.1 if name.endswith("bn3") else 0.7
        module.weight.uniform_(low, 2 * low, generator=generator)
        module.bias.normal_(0, 0.1, generator=generator)
        module.running_mean.normal_(0, 0.1, generator=generator)
        module.running_var.uniform_(0.5, 1.5, generator=generator)
      elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, generator=generator)
    network.fc.weight.normal_(0, 0.02, generator=generator)
