"""A checkpoint's network as an int8 graph: traced in floats, calibrated, searched, quantised."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from isa_deploy.errors import ExportError
from isa_deploy.export.calibration import collect
from isa_deploy.export.calibration_frames import CalibrationSet
from isa_deploy.export.int8_options import Int8Rest
from isa_deploy.export.int8_search import Int8Choice, choose_int8
from isa_deploy.export.quantisation import (
    calibrated_tensors,
    convolutions,
    quantise,
    split_concatenations,
    take_weights,
)
from isa_deploy.files import os_errors
from isa_deploy.manifest import QuantisationSpec

__all__ = ["calibrate_and_choose", "int8_graph"]

TELL_EVERY_S = 1.0

JUDGED_FRAMES = 16
JUDGED_PIXELS = 16 * 1024 * 2048
"""Calibration frames that ranges and layers are judged on, spread evenly, and the most pixels in them."""


def calibrate_and_choose(
    float_graph: ir.Model,
    frames: CalibrationSet,
    max_miou_drop: float,
    work: Path,
    journal: Path,
    progress: Callable[[str], None],
) -> tuple[onnx.ModelProto, Int8Choice]:
    """The float32 graph in the form that is quantised, and the choice for it.

    ``work``: a folder for a passing file; ``journal``: see :func:`isa_deploy.export.calibration.collect`; the caller
    removes it when the export is there.  Raises as that function and :func:`choose_int8`.
    """
    model: onnx.ModelProto = ir.to_proto(float_graph)
    split_concatenations(model)
    passing = work / "float.onnx"
    with os_errors(passing, "write the graph to calibrate"):
        onnx.save(model, passing)
    told_s = 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        if done in (0, total) or time.monotonic() - told_s > TELL_EVERY_S:
            told_s = time.monotonic()
            progress(f"int8: calibration, {done} of {total} frames")

    try:
        histograms = collect(passing, calibrated_tensors(model), frames, journal, tell, progress)
    finally:
        passing.unlink()
    return model, choose_int8(model, histograms, _judged(frames), max_miou_drop, progress)


def int8_graph(
    model: onnx.ModelProto, choice: Int8Choice, rest: Int8Rest, rest_graph: ir.Model | None, frames: int
) -> tuple[ir.Model, QuantisationSpec]:
    """The graph to save, and what its manifest says of it.

    ``model``: of :func:`calibrate_and_choose`; ``rest_graph``: the same network traced in ``rest``, None where that is
    float32.  Raises :class:`ExportError` where the two are not of the same convolutions, or none would be int8.
    """
    names = convolutions(model)
    if len(choice.wide) == len(names):
        raise ExportError(
            f"no convolution can be int8 within {choice.budget:g} points of mIoU; allow more with --max-miou-drop, or "
            "export fp16 or bf16"
        )
    quantised = quantise(model, choice.threshold_of, choice.wide)
    if rest_graph is not None:
        typed: onnx.ModelProto = ir.to_proto(rest_graph)
        split_concatenations(typed)
        exact, quantised = quantised, quantise(typed, _renamed(model, typed, choice.threshold_of), choice.wide)
        take_weights(quantised, exact)
    spec = QuantisationSpec(
        rest=rest,
        ranges=choice.ranges,
        frames=frames,
        layers=len(names) - len(choice.wide),
        kept=choice.wide,
    )
    return ir.from_proto(quantised), spec


def _renamed(model: onnx.ModelProto, typed: onnx.ModelProto, threshold_of: Mapping[str, float]) -> dict[str, float]:
    """Thresholds by the tensors' names in a graph of another type, found at the same convolutions."""
    ends = [{node.name: (node.input[0], node.output[0]) for node in each.graph.node} for each in (model, typed)]
    if convolutions(model) != convolutions(typed):
        raise ExportError("the graphs in float32 and in the rest's type have different convolutions; use --rest fp32")
    renamed = {}
    for name in convolutions(model):
        for here, there in zip(ends[0][name], ends[1][name], strict=True):
            if here in threshold_of:
                renamed[there] = threshold_of[here]
    return renamed


def _judged(frames: CalibrationSet) -> list[npt.NDArray[np.uint8]]:
    """Frames to judge on, spread evenly over the set."""
    largest = max(height * width for height, width in frames.sizes_hw)
    count = max(1, min(JUDGED_FRAMES, len(frames), JUDGED_PIXELS // largest))
    wanted = {round(index * (len(frames) - 1) / max(1, count - 1)) for index in range(count)}
    return [frame for index, frame in enumerate(frames.frames()) if index in wanted]
