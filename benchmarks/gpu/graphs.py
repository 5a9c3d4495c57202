"""Whether the engine goes into a CUDA graph, and gives the same labels from there."""

from __future__ import annotations

import warnings

import numpy as np

from gpu.bare_engine import BareEngine
from gpu.context import StepContext
from gpu.scenes import clip
from gpu.zoo import frame_size
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]

ROUNDS = 6
"""Both of a shape's slots run, plainly at first and as a graph then; a capture is tried three times."""


def run(context: StepContext) -> None:
    """Record whether capture works, or the warning that the runtime gives instead.

    Fails where labels change once a graph runs, or where the runtime falls back without a warning.
    """
    plan = context.plan(context.model)
    height, width = frame_size(context.model, context.scale)
    frames = clip((height, width))[:2]
    with (
        warnings.catch_warnings(record=True) as caught,
        Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as segmenter,
    ):
        warnings.simplefilter("always")
        runs = []
        for _ in range(ROUNDS):
            under_way = [segmenter.submit(frame) for frame in frames]  # one slot each
            runs.append([each.result() for each in under_way])
    told = [str(each.message) for each in caught if "CUDA graph" in str(each.message)]
    engine = BareEngine(plan, (1, height, width, 3))
    engine.close()
    context.record(captured=not told, warning=told[0] if told else None, bare_engine_captured=engine.captured)
    for later in runs[1:]:
        if not all(np.array_equal(a, b) for a, b in zip(later, runs[0], strict=True)):
            raise RuntimeError("the labels of a frame changed once the engine ran as a CUDA graph")
    if not told and not engine.captured:
        raise RuntimeError("the bare engine cannot be captured and the runtime did not warn; it must have fallen back")
