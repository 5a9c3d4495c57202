"""Interlaced sparse self-attention (Huang et al., arXiv 1907.12273), as mmsegmentation's ISAHead runs it.

Dense attention over h x w positions costs (h w)^2.  ISA factors it into two sparse ones: a *global* one
among the positions that share (row mod p, column mod q), then a *local* one inside each p x q block.  Both
are reshapes and permutes around an ordinary attention block.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["ConvModule", "ISAHead", "InterlacedAttention", "SelfAttentionBlock"]


class ConvModule(nn.Module):
    """Convolution (no bias), batch norm, ReLU, under mmcv's parameter names ``conv`` and ``bn``."""

    def __init__(self, cin: int, cout: int, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)
        self.activate = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.activate(self.bn(self.conv(x)))
        return out


class SelfAttentionBlock(nn.Module):
    """softmax(K^T Q / sqrt(isa_channels)) applied to V, inside each of the B groups of x.

    x: B x channels x h x w, returned in the same shape.
    """

    def __init__(self, channels: int, isa_channels: int) -> None:
        super().__init__()
        self.key_project = nn.Sequential(ConvModule(channels, isa_channels), ConvModule(isa_channels, isa_channels))
        self.query_project = nn.Sequential(ConvModule(channels, isa_channels), ConvModule(isa_channels, isa_channels))
        self.value_project = nn.Conv2d(channels, channels, 1)
        self.output_project = ConvModule(channels, channels)
        self.scale = float(isa_channels) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        # The scale goes onto the query, not onto the product: in float16 the unscaled product of two
        # 256-channel vectors overflows (65504) long before the scaled one does.
        query = (self.query_project(x) * self.scale).flatten(2).transpose(1, 2)
        key = self.key_project(x).flatten(2)
        value = self.value_project(x).flatten(2).transpose(1, 2)
        similarity = torch.matmul(query, key)
        # softmax in float32 whatever the network's own type: its sums run over thousands of positions
        attention = torch.softmax(similarity.float(), dim=-1).to(value.dtype)
        context = torch.matmul(attention, value).transpose(1, 2).reshape(b, c, h, w)
        out: torch.Tensor = self.output_project(context)
        return out


class InterlacedAttention(nn.Module):
    """Global then local relation over an N x C x h x w map, any h and w.

    A map whose sides are no multiples of ``down_factor`` is padded with zeros, the smaller half first; the
    padded positions take part in the attention (mmsegmentation has no mask) and are cut off afterwards.
    The two blocks are handed in because a checkpoint keeps them in its head.
    """

    def __init__(self, down_factor: tuple[int, int]) -> None:
        super().__init__()
        self.down_factor = down_factor

    def forward(self, x: torch.Tensor, global_relation: nn.Module, local_relation: nn.Module) -> torch.Tensor:
        n, c, h, w = x.shape
        p, q = self.down_factor
        rows, cols = (h + p - 1) // p, (w + q - 1) // q
        pad_h, pad_w = rows * p - h, cols * q - w
        top, left = pad_h // 2, pad_w // 2
        # padded and cut unconditionally: a test of the size would fix the size when the graph is traced
        x = F.pad(x, (left, pad_w - left, top, pad_h - top))

        # global: positions (i, j) with the same (i mod p, j mod q) form one group of rows x cols
        x = x.view(n, c, rows, p, cols, q).permute(0, 3, 5, 1, 2, 4)
        x = global_relation(x.reshape(n * p * q, c, rows, cols))

        # local: each p x q block forms one group
        x = x.view(n, p, q, c, rows, cols).permute(0, 4, 5, 3, 1, 2)
        x = local_relation(x.reshape(n * rows * cols, c, p, q))

        x = x.view(n, rows, cols, c, p, q).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(n, c, rows * p, cols * q)
        return x[:, :, top : top + h, left : left + w]


class ISAHead(nn.Module):
    """Features N x in_channels x h x w to logits N x num_classes x h x w."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        isa_channels: int,
        num_classes: int,
        down_factor: tuple[int, int] = (8, 8),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_conv = ConvModule(in_channels, channels, 3)
        self.interlace = InterlacedAttention(down_factor)
        self.global_relation = SelfAttentionBlock(channels, isa_channels)
        self.local_relation = SelfAttentionBlock(channels, isa_channels)
        self.out_conv = ConvModule(channels * 2, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.in_conv(features)
        context = self.interlace(x, self.global_relation, self.local_relation)
        out: torch.Tensor = self.conv_seg(self.dropout(self.out_conv(torch.cat([context, x], dim=1))))
        return out
