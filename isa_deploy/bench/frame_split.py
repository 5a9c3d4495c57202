"""Where a video frame's time goes: each step of isa-infer's way by itself, on the code that isa-infer runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.bench.clip import CLIP_FRAMES, drawn_frames, write_clip
from isa_deploy.bench.figures import median
from isa_deploy.bench.timed_calls import TimedSegmenter
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime.assemble import labels_from_logits
from isa_deploy.runtime.backends.base import TimedBackend
from isa_deploy.runtime.palette import overlay
from isa_deploy.runtime.preprocess import resize_frame
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video import VideoReader

__all__ = ["FrameSplit", "Stage", "split_frame"]

UInt8 = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Sample = TypeVar("Sample")

PASS_S = 2.0
MIN_SAMPLES = 3


@dataclass(frozen=True)
class Stage:
    """One step.  ``ms``: milliseconds a frame; None where they cannot be told apart.  ``how``: what was measured."""

    name: str
    ms: float | None
    how: str


@dataclass(frozen=True)
class FrameSplit:
    """The steps of a frame, in order.  ``frame_hw``: the clip's; ``network_hw``: what the network is shown."""

    frame_hw: tuple[int, int]
    network_hw: tuple[int, int]
    clip: str
    stages: tuple[Stage, ...]


def split_frame(segmenter: Segmenter, network_hw: tuple[int, int], clip: Path | None) -> FrameSplit:
    """Time the steps from a video's packets to a coloured video's packets, one after another.

    ``segmenter`` resizes frames to ``network_hw``.  ``clip``: a video; None: one that is drawn, of that size.  At most
    24 frames are taken of it.  Raises :class:`InputError` for a clip that cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="isa-bench-") as folder:
        frames, decode = _decode(clip, network_hw, Path(folder))
        frame_hw = _size(frames[0])
        stages = [decode, *_network_stages(segmenter, frames, network_hw)]
        labels_hw = segmenter.segment(frames[0])
        palette_rgb = segmenter.manifest.classes.palette_rgb
        colour_ms = _median_ms(lambda frame_hwc: overlay(frame_hwc, labels_hw, palette_rgb), frames)
        stages.append(Stage("colour", colour_ms, "the classes over the frame, opacity 0.5"))
        painted = [overlay(frame_hwc, labels_hw, palette_rgb) for frame_hwc in frames]
        stages.append(_encode(painted, Path(folder)))
    return FrameSplit(frame_hw, network_hw, "a drawn clip" if clip is None else clip.name, tuple(stages))


def _network_stages(segmenter: Segmenter, frames: Sequence[UInt8], network_hw: tuple[int, int]) -> list[Stage]:
    is_rgb = segmenter.manifest.input.colour_order == "RGB"

    def prepare(frame_hwc: UInt8) -> UInt8:
        if is_rgb:
            frame_hwc = np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        return resize_frame(frame_hwc, network_hw)

    images = [prepare(frame_hwc) for frame_hwc in frames]
    work = [*(["BGR to RGB"] if is_rgb else []), *(["resize"] if frames[0].shape[:2] != network_hw else [])]
    preprocess = Stage("preprocess", _median_ms(prepare, frames), " and ".join(work) or "nothing to do")
    # the Segmenter's own choice of way
    in_graph = segmenter._backend.fast_argmax and segmenter._graph_labels_fit(images[0], _size(frames[0]))
    if in_graph:
        engine_ms, how = _median_ms(segmenter.segment, images), "frame to labels, by the graph itself"
        result: npt.NDArray[np.generic] = segmenter.segment(images[0])
        labels = Stage("labels", 0.0, "none: in the graph")
    else:
        engine_ms, how = _median_ms(segmenter.logits_grid, images), "frame to logits"
        grids = [segmenter.logits_grid(frame_hwc) for frame_hwc in frames[:MIN_SAMPLES]]
        result = grids[0].logits_chw
        labels = Stage("labels", _median_ms(labels_from_logits, grids), "logits resized to the frame, and argmax")
    if isinstance(segmenter._backend, TimedBackend):
        one_frame = Segmenter.segment if in_graph else Segmenter.logits_grid
        return [
            preprocess,
            *_device_stages(TimedSegmenter(segmenter, segmenter._backend), one_frame, images, engine_ms),
            labels,
        ]
    if segmenter.device != "cpu":
        kept = "not separable: in the engine's time"
        upload, download = Stage("upload", None, kept), Stage("download", None, kept)
    else:
        upload = Stage("upload", 0.0, "none: the engine reads the frame where it lies")
        download = Stage("download", 0.0, "none: the engine writes its result where it stays")
        if segmenter.backend_name == "openvino":
            copy_ms = _median_ms(np.array, [result])
            engine_ms, how = engine_ms - copy_ms, f"{how}, less the download"
            download = Stage("download", copy_ms, "a copy of the result, whose memory the next frame takes")
    return [preprocess, upload, Stage("engine", engine_ms, how), download, labels]


def _device_stages(
    timed: TimedSegmenter, one_frame: Callable[[Segmenter, UInt8], object], images: Sequence[UInt8], frame_ms: float
) -> list[Stage]:
    """What a device and the host have of ``frame_ms``, a frame's time from the prepared image to the result."""
    samples = _samples(lambda image_hwc: timed.times(lambda segmenter: one_frame(segmenter, image_hwc)), images)
    upload_ms = median([each.upload_ms for each in samples])
    engine_ms = median([each.compute_ms for each in samples])
    download_ms = median([each.download_ms for each in samples])
    # from another pass over the frames, with a clock of its own: noise can make the device's part the larger
    host_ms = max(frame_ms - upload_ms - engine_ms - download_ms, 0.0)
    return [
        Stage("upload", upload_ms, "page-locked memory to the device's, by its own clock"),
        Stage("engine", engine_ms, "from there to the results in the device's memory, by its own clock"),
        Stage("download", download_ms, "the results to page-locked memory, by its own clock"),
        Stage("host", host_ms, "the rest of a call: copies to and from page-locked memory, launches, waking up"),
    ]


def _decode(clip: Path | None, size_hw: tuple[int, int], folder: Path) -> tuple[list[UInt8], Stage]:
    try:
        if clip is None:
            clip = folder / "clip.mp4"
            write_clip(clip, drawn_frames(CLIP_FRAMES, *size_hw))
        with VideoReader(clip) as reader:
            # the first frame was decoded by the opening
            frames = [next(iter(reader)).frame_hwc]
            begun = time.perf_counter()
            for frame in reader:
                frames.append(frame.frame_hwc)
                if len(frames) == CLIP_FRAMES:
                    break
            seconds = time.perf_counter() - begun
    except (BackendUnavailableError, InputError) as error:
        if clip is not None and clip.parent != folder:
            raise
        return drawn_frames(CLIP_FRAMES, *size_hw), Stage("decode", None, str(error))
    if len(frames) == 1:
        return frames, Stage("decode", None, "a video of one frame tells nothing")
    how = f"packets to BGR, mean of {len(frames) - 1} frames, with its own threads"
    return frames, Stage("decode", seconds / (len(frames) - 1) * 1e3, how)


def _encode(frames: list[UInt8], folder: Path) -> Stage:
    begun = time.perf_counter()
    try:
        write_clip(folder / "coloured.mp4", frames)
    except (BackendUnavailableError, InputError) as error:
        return Stage("encode", None, str(error))
    seconds = time.perf_counter() - begun
    how = f"BGR to an H.264 file, mean of {len(frames)} frames, finishing the file included, with its own threads"
    return Stage("encode", seconds / len(frames) * 1e3, how)


def _size(frame_hwc: UInt8) -> tuple[int, int]:
    return int(frame_hwc.shape[0]), int(frame_hwc.shape[1])


def _median_ms(call: Callable[[Item], object], items: Sequence[Item]) -> float:
    """The median of a call's milliseconds over the items."""

    def ms(item: Item) -> float:
        begun = time.perf_counter()
        call(item)
        return (time.perf_counter() - begun) * 1e3

    return median(_samples(ms, items))


def _samples(measure: Callable[[Item], Sample], items: Sequence[Item]) -> list[Sample]:
    """What ``measure`` gives for the items, the first one once more before: all, or those of two seconds."""
    measure(items[0])
    taken: list[Sample] = []
    begun = time.perf_counter()
    while len(taken) < MIN_SAMPLES or (len(taken) < len(items) and time.perf_counter() - begun < PASS_S):
        taken.append(measure(items[len(taken) % len(items)]))
    return taken
