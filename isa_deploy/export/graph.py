"""What the exported graph is: everything from a uint8 frame to uint8 labels, in one wrapper module."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from isa_deploy.export.precision import TORCH_DTYPES, FloatPrecision, cast_network, fold_batch_norms
from isa_deploy.models.isanet import ISANet
from isa_deploy.runtime.resample import average_windows
from isa_deploy.runtime.tiling import WindowGrid

__all__ = ["Normalisation", "SlideGraph", "WholeGraph", "build_graph"]


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / std`` a channel, in the order of the graph's input (see ``colour_order``).

    ``swap_channels`` says that the network wants the other order than the input has.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    swap_channels: bool


class FrameInput(nn.Module):
    """uint8 N x H x W x 3 to normalised N x 3 x H x W in the network's type, the arithmetic in float32."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, normalisation: Normalisation, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("mean", torch.tensor(normalisation.mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, image_nhwc: torch.Tensor) -> torch.Tensor:
        image_nchw = image_nhwc.to(torch.float32).permute(0, 3, 1, 2)
        return ((image_nchw - self.mean) / self.std).to(self.dtype)


class CutWindows(nn.Module):
    """N x 3 x H x W to (windows * N) x 3 x crop x crop, in reading order."""

    def __init__(self, grid: WindowGrid) -> None:
        super().__init__()
        self.windows = grid.windows()

    def forward(self, image_nchw: torch.Tensor) -> torch.Tensor:
        return torch.cat([image_nchw[:, :, y0:y1, x0:x1] for (y0, y1), (x0, x1) in self.windows], dim=0)


class LayWindows(nn.Module):
    """(windows * N) x C x h x w logits to one grid, N x C x (rows * h) x (cols * w)."""

    def __init__(self, grid: WindowGrid) -> None:
        super().__init__()
        self.rows, self.cols = len(grid.rows), len(grid.cols)

    def forward(self, logits_nchw: torch.Tensor) -> torch.Tensor:
        batch, c, h, w = logits_nchw.shape
        n = batch // (self.rows * self.cols)
        grid = logits_nchw.view(self.rows, self.cols, n, c, h, w).permute(2, 3, 0, 4, 1, 5)
        return grid.reshape(n, c, self.rows * h, self.cols * w)


class AverageWindows(nn.Module):
    """A grid of windows' logits to their average at the frame's size, as two matrix products.

    Resizing each window and averaging the overlaps is one matrix for the rows and one for the columns
    (isa_deploy.runtime.resample): 0.4 % of the network's FLOPs for a 1025 x 2049 frame in 769 x 769
    windows, where eight zero-padded maps of the frame's size would need 1.3 GB.
    """

    rows_matrix: torch.Tensor
    cols_matrix: torch.Tensor

    def __init__(self, grid: WindowGrid, stride: int, align_corners: bool) -> None:
        super().__init__()
        window_h, window_w = grid.window_hw
        rows = average_windows(grid.rows, -(-window_h // stride), grid.rows[-1][1], align_corners)
        cols = average_windows(grid.cols, -(-window_w // stride), grid.cols[-1][1], align_corners)
        self.register_buffer("rows_matrix", torch.from_numpy(rows.dense()))
        self.register_buffer("cols_matrix", torch.from_numpy(cols.dense().T.copy()))

    def forward(self, grid_nchw: torch.Tensor) -> torch.Tensor:
        return torch.matmul(self.rows_matrix, torch.matmul(grid_nchw, self.cols_matrix))


class Upsample(nn.Module):
    """Logits to a size (height, width), bilinear."""

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, logits_nchw: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(logits_nchw, size=size_hw, mode="bilinear", align_corners=self.align_corners)


class WinningClass(nn.Module):
    """Logits N x C x H x W to labels, uint8 N x H x W."""

    def forward(self, logits_nchw: torch.Tensor) -> torch.Tensor:
        # TensorRT makes uint8 only from a float, hence the two casts
        return logits_nchw.argmax(1).to(torch.float32).to(torch.uint8)


class WinningShare(nn.Module):
    """Logits N x C x H x W to the winning class's softmax x 255, rounded, uint8 N x H x W."""

    def forward(self, logits_nchw: torch.Tensor) -> torch.Tensor:
        share = torch.softmax(logits_nchw, dim=1).amax(1)
        return torch.round(share * 255).to(torch.uint8)


class FrameNetwork(nn.Module):
    """What both graphs share: the network with its batch norms folded, its input and its outputs.

    A change of the channels' order costs nothing: the stem's first convolution takes its input channels
    in the frame's order.
    """

    def __init__(
        self, network: ISANet, normalisation: Normalisation, precision: FloatPrecision, outputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        network = copy.deepcopy(network).eval()
        network.auxiliary_head = None
        if normalisation.swap_channels:
            stem = cast(nn.Conv2d, network.backbone.stem[0])
            stem.weight = nn.Parameter(stem.weight.detach().flip(1).contiguous())
        cast_network(fold_batch_norms(network), precision)
        self.input = FrameInput(normalisation, TORCH_DTYPES[precision])
        self.backbone = network.backbone
        self.decode_head = network.decode_head
        self.labels = WinningClass()
        self.confidence = WinningShare()
        self.outputs = outputs

    def network_logits(self, image_nchw: torch.Tensor) -> torch.Tensor:
        """Normalised pictures to float32 logits at the head's stride."""
        out: torch.Tensor = self.decode_head(self.backbone(image_nchw)[-1]).to(torch.float32)
        return out

    def results(self, logits: torch.Tensor, full: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The wanted outputs, in their order, from the logits as they are and at the frame's size."""
        made = {"labels": self.labels(full), "logits": logits}
        if "confidence" in self.outputs:
            made["confidence"] = self.confidence(full)
        return tuple(made[name] for name in self.outputs)


class WholeGraph(FrameNetwork):
    """One pass over each frame: image to (labels, logits[, confidence]), any size."""

    def __init__(
        self, network: ISANet, normalisation: Normalisation, precision: FloatPrecision, outputs: tuple[str, ...]
    ) -> None:
        super().__init__(network, normalisation, precision, outputs)
        self.upsample = Upsample(network.config.align_corners)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.network_logits(self.input(image))
        return self.results(logits, self.upsample(logits, (image.shape[1], image.shape[2])))


class SlideGraph(FrameNetwork):
    """mmsegmentation's slide inference on frames of one size, the windows run as one batch.

    ``logits`` are the windows' side by side: N x C x (rows of windows * h) x (columns of windows * w).
    """

    def __init__(
        self,
        network: ISANet,
        normalisation: Normalisation,
        precision: FloatPrecision,
        outputs: tuple[str, ...],
        grid: WindowGrid,
    ) -> None:
        super().__init__(network, normalisation, precision, outputs)
        self.windows = CutWindows(grid)
        self.grid = LayWindows(grid)
        self.average = AverageWindows(grid, network.config.stride, network.config.align_corners)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.grid(self.network_logits(self.windows(self.input(image))))
        return self.results(logits, self.average(logits))


def build_graph(
    network: ISANet,
    normalisation: Normalisation,
    precision: FloatPrecision,
    outputs: tuple[str, ...],
    grid: WindowGrid | None,
) -> WholeGraph | SlideGraph:
    """The module to trace: with its windows inside where ``grid`` is given, else one pass over the frame."""
    graph: WholeGraph | SlideGraph
    if grid is None:
        graph = WholeGraph(network, normalisation, precision, outputs)
    else:
        graph = SlideGraph(network, normalisation, precision, outputs, grid)
    for parameter in graph.parameters():
        parameter.requires_grad_(False)
    return graph.eval()
