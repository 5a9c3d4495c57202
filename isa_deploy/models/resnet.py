"""ResNetV1c, the dilated residual backbone of ISANet, with mmsegmentation's parameter names.

"V1c" is a ResNet whose 7x7 stem is replaced by three 3x3 convolutions (He et al., "Bag of Tricks for
Image Classification with Convolutional Neural Networks", 2019, section 4.1).  "d8" means that the last
two stages trade their stride for dilation, so that the last feature map is 1/8 of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["STAGE_BLOCKS", "BackboneConfig", "ResNetV1c"]

STAGE_BLOCKS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
"""Residual blocks in each of the four stages, by depth (He et al. 2015, table 1)."""


@dataclass(frozen=True)
class BackboneConfig:
    """What a ResNetV1c is made of.

    ``depth`` one of 18, 34 (basic blocks), 50, 101 (bottlenecks); ``stem_channels`` the width of the
    stem's first two convolutions times two; ``base_channels`` the width of stage 1;
    ``strides``/``dilations`` one entry a stage; ``contract_dilation`` halves the dilation of the first
    block of a dilated stage.
    """

    depth: int = 50
    stem_channels: int = 64
    base_channels: int = 64
    strides: tuple[int, int, int, int] = (1, 2, 1, 1)
    dilations: tuple[int, int, int, int] = (1, 1, 2, 4)
    contract_dilation: bool = True

    @property
    def bottleneck(self) -> bool:
        """Whether the blocks are bottlenecks (1x1, 3x3, 1x1), which widen their output four times."""
        return self.depth >= 50

    def stage_channels(self, stage: int) -> int:
        """Output channels of stage 0..3."""
        return int(self.base_channels * 2**stage * (4 if self.bottleneck else 1))


def conv3x3(cin: int, cout: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(cin, cout, 3, stride, padding=dilation, dilation=dilation, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity (depth 18 and 34).  Only the first one is dilated."""

    def __init__(self, cin: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(cin, width, stride, dilation)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(cin, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + identity
        activated: torch.Tensor = self.relu(out)
        return activated


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and the identity (depth 50 and 101), with the stride on the 3x3 ("pytorch" style)."""

    def __init__(self, cin: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        cout = width * 4
        self.conv1 = nn.Conv2d(cin, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, cout, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(cout)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(cin, cout, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out)) + identity
        activated: torch.Tensor = self.relu(out)
        return activated


def projection(cin: int, cout: int, stride: int) -> nn.Sequential | None:
    """The 1x1 convolution of the identity branch, or None where the shapes already agree."""
    if stride == 1 and cin == cout:
        return None
    return nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))


class ResNetV1c(nn.Module):
    """Images N x 3 x H x W (normalised, RGB) to the four stages' features.

    The last two have ``base_channels * 4`` and ``* 8`` (times four for bottlenecks) channels and, with the
    strides and dilations of a d8 model, ceil(H/8) x ceil(W/8) positions.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        half = config.stem_channels // 2
        self.stem = nn.Sequential(
            conv3x3(3, half, stride=2),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            conv3x3(half, half),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            conv3x3(half, config.stem_channels),
            nn.BatchNorm2d(config.stem_channels),
            nn.ReLU(inplace=True),
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        block = Bottleneck if config.bottleneck else BasicBlock
        cin = config.stem_channels
        for stage, count in enumerate(STAGE_BLOCKS[config.depth]):
            dilation = config.dilations[stage]
            first = dilation // 2 if config.contract_dilation and dilation > 1 else dilation
            width = config.base_channels * 2**stage
            blocks: list[nn.Module] = [block(cin, width, config.strides[stage], first)]
            cin = config.stage_channels(stage)
            blocks += [block(cin, width, 1, dilation) for _ in range(count - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = self.maxpool(self.stem(image))
        features = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            features.append(x)
        return tuple(features)
