"""How long a frame takes, from host memory to labels in host memory: the plan and the other ways, in turn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.onnxruntime_cuda import open_on_cuda
from gpu.scenes import clip
from gpu.timing import alternate, ratio, summary
from gpu.torch_ways import labels_on_gpu, need_torch_cuda, torch_module
from gpu.zoo import MODELS, frame_size
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]

UInt8 = npt.NDArray[np.uint8]
Way = Callable[[], UInt8]

PLAN, BUFFERED, ONNXRUNTIME = "plan", "plan, frame buffer", "onnxruntime cuda"


def run(context: StepContext) -> None:
    """Record medians, 99th percentiles and ratios of every way that is here.

    Raises :class:`NotRunError` where none is.
    """
    size_hw = frame_size(context.model, context.scale)
    frame = clip(size_hw)[0]
    ways: dict[str, Way] = {}
    left_out: dict[str, str] = {}
    with ExitStack() as stack:
        try:
            plan = context.plan(context.model)
            segmenter = stack.enter_context(Segmenter.open(plan, backend="tensorrt", device=0, resize="none"))
            ways.update(_plan_ways(segmenter, frame))
            # alone first: if another way fails, this is known
            alone = alternate(ways, context.scale.rounds)
            context.record(library=plan.parts[-3], alone={name: summary(seconds) for name, seconds in alone.items()})
        except NotRunError as error:
            left_out[PLAN] = str(error)
        try:
            other = stack.enter_context(open_on_cuda(context.onnx(context.model)))
            ways[ONNXRUNTIME] = lambda: other.segment(frame)
        except NotRunError as error:
            left_out[ONNXRUNTIME] = str(error)
        ways.update(_torch_ways(context, frame, left_out))
        context.record(size_hw=list(size_hw), rounds=context.scale.rounds, left_out=left_out)
        if not ways:
            raise NotRunError("; ".join(left_out.values()))
        times = alternate(ways, context.scale.rounds)
        first = next(iter(ways))
        right = ways[first]()
        agreement = {name: round(100 * float((way() == right).mean()), 3) for name, way in ways.items()}
    medians = {name: summary(seconds) for name, seconds in times.items()}
    fastest = min(each["median_ms"] for each in medians.values())
    context.record(
        ways=medians,
        times_the_plan={name: ratio(times, name, PLAN) for name in ways if PLAN in ways and name != PLAN},
        agreement_percent={"with": first, **agreement},
        **_roofline(context, size_hw, fastest),
    )


def _plan_ways(segmenter: Segmenter, frame: UInt8) -> dict[str, Way]:
    """A frame as it comes, and one in memory from which the GPU reads directly."""
    buffer = segmenter.frame_buffer(frame.shape[0], frame.shape[1])
    buffer[:] = frame
    return {PLAN: lambda: segmenter.segment(frame), BUFFERED: lambda: segmenter.segment(buffer)}


def _torch_ways(context: StepContext, frame: UInt8, left_out: dict[str, str]) -> dict[str, Way]:
    """torch eager as it is mostly run, and in the types and the layout that suit a GPU better."""
    try:
        need_torch_cuda()
    except NotRunError as error:
        left_out["torch"] = str(error)
        return {}
    return {
        "torch float32 eager": labels_on_gpu(torch_module(context, "fp32", False), frame),
        "torch float16 eager": labels_on_gpu(torch_module(context, "fp16", False), frame),
        "torch float16 channels last": labels_on_gpu(torch_module(context, "fp16", True), frame),
    }


def _roofline(context: StepContext, size_hw: tuple[int, int], fastest_ms: float) -> dict[str, float | None]:
    """The operations of a frame, and the fastest way's share of the device's peak, for networks of standard width."""
    depth = MODELS[context.model].depth
    if depth is None:
        return {}
    from gpu.flops import count_gflop, roofline_ms

    gflop = count_gflop(depth, size_hw)
    least = roofline_ms(gflop, context.device_name)
    return {
        "gflop": round(gflop, 1),
        "roofline_ms": None if least is None else round(least, 3),
        "roofline_share": None if least is None else round(least / fastest_ms, 4),
    }
