"""torch.compile against the plan, in turn."""

from __future__ import annotations

import time

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.scenes import clip
from gpu.timing import alternate, ratio, summary
from gpu.torch_ways import labels_on_gpu, need_torch_cuda, torch_module
from gpu.zoo import frame_size
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]

MODE = "reduce-overhead"
"""CUDA graphs; "max-autotune" tries kernels for longer than the suite has."""

PLAN, COMPILED = "plan", "torch float16 channels last, compiled"


def run(context: StepContext) -> None:
    """Record the compiled network's times, and the plan's beside them where there is one."""
    need_torch_cuda()
    import torch

    frame = clip(frame_size(context.model, context.scale))[0]
    compiled = torch.compile(torch_module(context, "fp16", True), mode=MODE, dynamic=False)
    segment = labels_on_gpu(compiled, frame)
    started = time.perf_counter()
    segment()
    context.record(mode=MODE, compile_seconds=round(time.perf_counter() - started, 1))
    context.record(alone={COMPILED: summary(alternate({COMPILED: segment}, context.scale.rounds)[COMPILED])})
    try:
        plan = context.plan(context.model)
    except NotRunError as error:
        context.record(left_out={PLAN: str(error)})
        return
    with Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as segmenter:
        times = alternate({PLAN: lambda: segmenter.segment(frame), COMPILED: segment}, context.scale.rounds)
    context.record(
        rounds=context.scale.rounds,
        ways={name: summary(seconds) for name, seconds in times.items()},
        times_the_plan={COMPILED: ratio(times, COMPILED, PLAN)},
    )
