"""How much a graph computes, counted on the graph itself.

Convolutions and matrix products, a multiplication and its addition as two operations, as torch's FlopCounterMode and
the papers count; what else a graph does (resize, softmax, normalisation) is under one percent.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from isa_deploy.manifest import Manifest
from isa_deploy.runtime.tiling import slide_grid

__all__ = ["count_gflop"]


def count_gflop(graph: Path, manifest: Manifest, size_hw: tuple[int, int]) -> float | None:
    """10^9 floating-point operations for one frame of ``size_hw`` (height, width) on the way to its logits.

    Windows that the runtime cuts are counted as often as they are cut.  None where OpenVINO, which reads the graph and
    infers its shapes, is not installed or does not take the graph.
    """
    try:
        import openvino as ov
    except ImportError:
        return None
    windows, shown_hw = _windows(manifest, size_hw)
    # a batch that the graph fixes is counted whole and divided
    batch = manifest.input.shape_nhw[0] or 1
    try:
        model = ov.Core().read_model(graph)
        if model.input(manifest.input.name).get_partial_shape().is_dynamic:
            model.reshape({manifest.input.name: [batch, *shown_hw, 3]})
        wanted = ov.Model([model.output(manifest.outputs.logits)], model.get_parameters())
    except RuntimeError:
        return None
    operations = sum(_operations(node) for node in wanted.get_ordered_ops())
    return windows * operations / batch / 1e9


def _windows(manifest: Manifest, size_hw: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """How many pieces of a frame the graph sees, and their size."""
    inference = manifest.inference
    if inference.mode == "whole" or inference.windows_in_graph:
        return 1, size_hw
    assert inference.crop_hw is not None
    assert inference.stride_hw is not None
    grid = slide_grid(size_hw, inference.crop_hw, inference.stride_hw)
    (y0, y1), (x0, x1) = grid.rows[0], grid.cols[0]
    return len(grid.rows) * len(grid.cols), (y1 - y0, x1 - x0)


def _operations(node: Any) -> int:
    kind = node.get_type_name()
    if kind == "MatMul":
        shape = list(node.input(0).get_shape())
        summed = shape[-2] if node.get_attributes()["transpose_a"] and len(shape) > 1 else shape[-1]
        return 2 * int(math.prod(node.output(0).get_shape())) * int(summed)
    if kind in ("Convolution", "GroupConvolution"):
        # weights are (groups,) outputs, inputs, kernel
        kernel = list(node.input(1).get_shape())[1 if kind == "Convolution" else 2 :]
        return 2 * int(math.prod(node.output(0).get_shape())) * int(math.prod(kernel))
    return 0
