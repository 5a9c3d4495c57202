"""Precision as a property of the module that is traced: batch norms folded, then weights cast.

A strongly typed graph is the only way to a float16 engine in TensorRT 11, and no later rewriting of an
ONNX file can give one as safely as casting the module before it is traced.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

__all__ = ["TORCH_DTYPES", "FloatPrecision", "Precision", "cast_network", "fold_batch_norms"]

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""What an export may be in; int8 is a float graph that is quantised after it was traced."""

FloatPrecision = Literal["fp32", "fp16", "bf16"]

TORCH_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Fold every BatchNorm2d into the convolution before it, in place, and return the network.

    ``w' = w * g / sqrt(v + eps)`` and ``b' = (b - m) * g / sqrt(v + eps) + beta``, computed in float64 and
    rounded once.  The convolution keeps its name, so an initialiser keeps the checkpoint's; the batch norm
    becomes an Identity.  Raises ValueError where a batch norm follows anything but a convolution, because
    one left behind would be run in the wrong type.
    """
    for parent in network.modules():
        previous: nn.Module | None = None
        for name, child in conv_norm_order(parent):
            if isinstance(child, nn.BatchNorm2d):
                if not isinstance(previous, nn.Conv2d):
                    raise ValueError(f"batch norm {name} does not follow a convolution")
                fold_pair(previous, child)
                setattr(parent, name, nn.Identity())
            previous = child
    return network


def conv_norm_order(parent: nn.Module) -> list[tuple[str, nn.Module]]:
    """The children of a module, each batch norm right after its convolution.

    Registration order is that order in every module of this network (conv1, bn1, conv2, bn2, ...).
    """
    return list(parent.named_children())


def fold_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Fold one batch norm into the convolution before it, in float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    folded_bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
    conv.bias = nn.Parameter(folded_bias.float(), requires_grad=False)


def cast_network(network: nn.Module, precision: str) -> nn.Module:
    """Cast a folded network's weights, in place.  Raises ValueError where a batch norm is left."""
    left = [name for name, module in network.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if left:
        raise ValueError(f"{len(left)} batch norms are not folded, the first is {left[0]}")
    return network.to(TORCH_DTYPES[precision])
