"""A stream of frames through Segmenter.submit: its rate against the engine's own, and what it costs the host.

Decoding is left out: the frames are there.  Three ways in turn: the bare engine; frames as any decoder leaves
them; frames in memory of Segmenter.frame_buffer, into which a decoder can write.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.bare_engine import BareEngine
from gpu.context import StepContext
from gpu.scenes import clip
from gpu.zoo import frame_size
from isa_deploy.runtime.segmenter import PendingLabels, Segmenter

__all__ = ["run"]

UInt8 = npt.NDArray[np.uint8]


def run(context: StepContext) -> None:
    """Record rates in frames a second, the share of the engine's, and the host's CPU time a frame."""
    plan = context.plan(context.model)
    height, width = frame_size(context.model, context.scale)
    count = context.scale.frames
    frames = clip((height, width))
    engine = BareEngine(plan, (1, height, width, 3))
    with Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as segmenter:
        right = [segmenter.segment(frame) for frame in frames]
        buffers = [segmenter.frame_buffer(height, width) for _ in frames]
        for buffer, frame in zip(buffers, frames, strict=True):
            buffer[:] = frame
        ways: dict[str, Sequence[UInt8]] = {"plain_frames": frames, "frame_buffers": buffers}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for given in ways.values():
            _check(segmenter, given, right)
        for _ in range(context.scale.video_rounds):
            started = time.perf_counter()
            engine.run(count)
            alone = (time.perf_counter() - started) / count
            for name, given in ways.items():
                rounds[name].append(_round(segmenter, given, count, alone))
    engine.close()
    context.record(
        size_hw=[height, width],
        frame_count=count,
        rounds=context.scale.video_rounds,
        bare_engine_in_a_graph=engine.captured,
        **{name: _median(each) for name, each in rounds.items()},
    )


def _stream(segmenter: Segmenter, frames: Sequence[UInt8], count: int) -> list[UInt8]:
    """The labels of the last frames: ``count`` frames, each given before the one before it is waited for."""
    labels: list[UInt8] = []
    pending: PendingLabels | None = None
    for number in range(count):
        following = segmenter.submit(frames[number % len(frames)])
        if pending is not None:
            labels = [*labels[1 - len(frames) :], pending.result()]
        pending = following
    if pending is not None:
        labels = [*labels[1 - len(frames) :], pending.result()]
    return labels


def _check(segmenter: Segmenter, frames: Sequence[UInt8], right: Sequence[UInt8]) -> None:
    """Fail where the pipeline mixes frames up.  Also the warm-up."""
    labels = _stream(segmenter, frames, len(frames))
    for number, (got, wanted) in enumerate(zip(labels, right, strict=True)):
        if not np.array_equal(got, wanted):
            raise RuntimeError(f"frame {number} of the stream has other labels than when it was segmented alone")


def _round(segmenter: Segmenter, frames: Sequence[UInt8], count: int, engine_s: float) -> dict[str, float]:
    wall, process, thread = time.perf_counter(), time.process_time(), time.thread_time()
    _stream(segmenter, frames, count)
    each = (time.perf_counter() - wall) / count
    return {
        "engine_frames_per_s": 1 / engine_s,
        "frames_per_s": 1 / each,
        "share_of_engine": engine_s / each,
        "host_cpu_ms": (time.process_time() - process) / count * 1e3,
        "host_thread_ms": (time.thread_time() - thread) / count * 1e3,
    }


def _median(rounds: list[dict[str, float]]) -> dict[str, Any]:
    return {name: round(statistics.median(each[name] for each in rounds), 4) for name in rounds[0]}
