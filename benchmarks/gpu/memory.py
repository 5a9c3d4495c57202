"""How much of the GPU's memory a plan takes: differences of what CUDA says is free."""

from __future__ import annotations

from gpu.context import StepContext
from gpu.scenes import clip
from gpu.zoo import frame_size
from isa_deploy.runtime.backends.cuda import Cuda, load_cuda
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]


def run(context: StepContext) -> None:
    """Record MiB above what the CUDA context alone takes.

    Fails where memory still grows after the second frame of a shape, by which all of it was allocated.
    Other programs on the GPU would show here: the suite expects to have it for itself.
    """
    plan = context.plan(context.model)
    frames = clip(frame_size(context.model, context.scale))
    cuda = Cuda(load_cuda(), 0)
    before = cuda.free_bytes()[0]
    taken: dict[str, int] = {}
    with Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as segmenter:
        taken["opened"] = before - cuda.free_bytes()[0]
        for name in ("first_frame", "second_frame", "third_frame", "fourth_frame"):
            segmenter.submit(frames[0]).result()
            taken[name] = before - cuda.free_bytes()[0]
        for number in range(context.scale.frames):
            segmenter.submit(frames[number % len(frames)]).result()
        taken["after_all_frames"] = before - cuda.free_bytes()[0]
    taken["closed"] = before - cuda.free_bytes()[0]
    context.record(
        taken_mib={name: round(size / 2**20, 1) for name, size in taken.items()},
        peak_mib=round(max(taken.values()) / 2**20, 1),
        frames=context.scale.frames,
    )
    if taken["after_all_frames"] > taken["fourth_frame"]:
        raise RuntimeError(
            f"the GPU's memory grew by {taken['after_all_frames'] - taken['fourth_frame']} bytes over "
            f"{context.scale.frames} frames of one size; it should be allocated once"
        )
