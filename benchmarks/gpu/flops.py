"""How much a network computes, and how long a GPU at its measured peak would take for that."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from isa_deploy.models.isanet import ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig

__all__ = ["count_gflop", "roofline_ms"]

PEAK_TFLOPS = {"H200": 790.0}
"""16-bit matrix products, measured, by a part of the device's name."""


def count_gflop(depth: int, size_hw: tuple[int, int]) -> float:
    """Floating-point operations of one frame, in 10^9; a multiplication and its addition are two."""
    with torch.device("meta"):
        network = ISANet(ISANetConfig(19, BackboneConfig(depth, 64, 64), 512, 256)).eval()
        picture = torch.empty(1, 3, *size_hw)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(picture)
    return float(counter.get_total_flops()) / 1e9


def roofline_ms(gflop: float, device: str) -> float | None:
    """Milliseconds at the device's peak, None for a device whose peak was not measured."""
    for part, tflops in PEAK_TFLOPS.items():
        if part in device:
            return gflop / tflops
    return None
