"""The whole network: backbone, ISA head, and the auxiliary head that only training uses."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from isa_deploy.models.isa import ConvModule, ISAHead
from isa_deploy.models.resnet import BackboneConfig, ResNetV1c

__all__ = ["AuxiliaryConfig", "FCNHead", "ISANet", "ISANetConfig"]


@dataclass(frozen=True)
class AuxiliaryConfig:
    """The auxiliary FCN head: one 3x3 convolution over stage 3's features."""

    channels: int = 256


@dataclass(frozen=True)
class ISANetConfig:
    """Everything that fixes the shapes and the arithmetic of an ISANet.

    The defaults are those of mmsegmentation's ``isanet_r50-d8``.  ``align_corners`` does not change the
    network, only how its logits are resized.
    """

    num_classes: int
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: int = 512
    isa_channels: int = 256
    down_factor: tuple[int, int] = (8, 8)
    align_corners: bool = False
    dropout: float = 0.1
    auxiliary: AuxiliaryConfig | None = None

    @property
    def name(self) -> str:
        """A short human name, such as ``ISANet R50-D8`` (``w16`` where the width is not the usual 64)."""
        width = "" if self.backbone.base_channels == 64 else f" w{self.backbone.base_channels}"
        return f"ISANet R{self.backbone.depth}-D{self.stride}{width}"

    @property
    def stride(self) -> int:
        """Pixels of the picture to one position of the logits: 4 from the stem, then the stages' strides."""
        total = 4
        for s in self.backbone.strides:
            total *= s
        return total


class FCNHead(nn.Module):
    """Auxiliary head: features N x in_channels x h x w to logits N x num_classes x h x w."""

    def __init__(self, in_channels: int, channels: int, num_classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.convs = nn.Sequential(ConvModule(in_channels, channels, 3))
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv_seg(self.dropout(self.convs(features)))
        return out


class ISANet(nn.Module):
    """Images N x 3 x H x W (RGB, normalised, float) to logits N x num_classes x ceil(H/8) x ceil(W/8).

    Module names equal the keys of an mmsegmentation state dict (``backbone.*``, ``decode_head.*``,
    ``auxiliary_head.*``), so that a checkpoint loads without a renaming table.
    """

    def __init__(self, config: ISANetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ResNetV1c(config.backbone)
        self.decode_head = ISAHead(
            config.backbone.stage_channels(3),
            config.channels,
            config.isa_channels,
            config.num_classes,
            config.down_factor,
            config.dropout,
        )
        self.auxiliary_head = (
            None
            if config.auxiliary is None
            else FCNHead(
                config.backbone.stage_channels(2), config.auxiliary.channels, config.num_classes, config.dropout
            )
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.decode_head(self.backbone(image)[-1])
        return out

    def forward_train(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of the decode head and, where there is one, of the auxiliary head, both at stride 8."""
        features = self.backbone(image)
        auxiliary = None if self.auxiliary_head is None else self.auxiliary_head(features[2])
        return self.decode_head(features[-1]), auxiliary
