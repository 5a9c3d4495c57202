"""The work of isa-infer: every source through the engine, and what is made of it into files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.progress import FileProgress
from isa_deploy.cli.results import Product, StatsFile, class_shares, open_sink, result_path
from isa_deploy.cli.run import one_line
from isa_deploy.cli.sources import Source
from isa_deploy.errors import InputError
from isa_deploy.runtime.images import read_image, write_png
from isa_deploy.runtime.segmenter import PendingLabels, Segmenter
from isa_deploy.runtime.video import VideoFrame, VideoReader

__all__ = ["Inference", "Tally"]

UInt8 = npt.NDArray[np.uint8]

FRAMES_AHEAD = 1


@dataclass
class Tally:
    """What was done so far.

    ``engine_s``: seconds inside the Segmenter, which on a GPU are fewer than the engine's own; ``total_s``: from
    the first file on.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    failed: int = 0
    engine_s: float = 0.0
    total_s: float = 0.0

    def __str__(self) -> str:
        done = " and ".join(
            f"{count} {thing}{'s' if count != 1 else ''}"
            for count, thing in ((self.images, "image"), (self.videos, "video"))
            if count
        )
        text = f"{done or 'nothing'}, {self.frames} frame{'s' if self.frames != 1 else ''} in {self.total_s:.1f} s"
        if self.frames:
            waited = self.engine_s / self.total_s
            text += f": {self.frames / self.total_s:.2f} frames/s, {waited:.0%} of the time waiting for the engine"
        if self.failed:
            text += f"; {self.failed} input{'s' if self.failed != 1 else ''} could not be used"
        return text


class _UnusableInputError(InputError):
    """This input cannot be used, which says nothing about the others (an output that fails would)."""


@dataclass
class Inference:
    """One run over all sources.

    :meth:`run` goes on after an input that cannot be used, and stops at anything else.
    """

    segmenter: Segmenter
    products: Sequence[Product]
    out: Path
    stats: StatsFile | None
    progress: FileProgress
    interruption: Interruption
    tally: Tally

    def run(self, sources: Sequence[Source]) -> None:
        """Infer all sources; :attr:`tally` counts.

        Raises :class:`InputError` where an output cannot be written or no source at all can be used,
        :class:`EngineError` where the engine fails, :class:`KeyboardInterrupt` after Ctrl-C.
        """
        begun = time.perf_counter()
        try:
            for source in sources:
                self.progress.begin(source.path.name)
                try:
                    self._infer(source)
                except _UnusableInputError as error:
                    if len(sources) == 1:
                        raise
                    self.tally.failed += 1
                    self.progress.end("skipped")
                    self.progress.note(f"isa-infer: skipped: {one_line(error)}")
            self.interruption.check()  # one that came during the last input's last frame
            if self.tally.failed == len(sources):
                raise InputError(f"none of the {len(sources)} inputs could be used; each is named above")
        finally:
            self.tally.total_s = time.perf_counter() - begun

    def _infer(self, source: Source) -> None:
        with self.stats.one_input() if self.stats is not None else nullcontext():
            if source.kind == "image":
                self._infer_image(source)
            else:
                self._infer_video(source)

    def _infer_image(self, source: Source) -> None:
        self.interruption.check()
        with _input_errors():
            frame_hwc = read_image(source.path)
            labels_hw = self._segment(frame_hwc)
        self.interruption.check()
        for product in self.products:
            write_png(result_path(product, source, self.out), product.draw(frame_hwc, labels_hw))
        if self.stats is not None:
            self.stats.write(source, None, class_shares(labels_hw, self.segmenter.manifest.classes.names))
        self.tally.images += 1
        height, width = labels_hw.shape
        self.progress.end(f"{width}x{height}, {result_path(self.products[0], source, self.out)}")

    def _infer_video(self, source: Source) -> None:
        with _input_errors():
            reader = VideoReader(source.path)
        frames = 0
        with reader, ExitStack() as stack:
            sinks = [stack.enter_context(open_sink(product, source, reader, self.out)) for product in self.products]
            # a frame is given to the engine before the last one's labels are drawn: a GPU works meanwhile
            under_way: deque[tuple[VideoFrame, PendingLabels]] = deque()
            source_frames = iter(reader)
            while True:
                self.interruption.check()
                following = next(source_frames, None)
                if following is not None:
                    with _input_errors():
                        under_way.append((following, self._submit(following.frame_hwc)))
                    if len(under_way) <= FRAMES_AHEAD:
                        continue
                if not under_way:
                    break
                frame, pending = under_way.popleft()
                with _input_errors():
                    labels_hw = self._labels(pending)
                for product, sink in zip(self.products, sinks, strict=True):
                    sink.write(product.draw(frame.frame_hwc, labels_hw), frame)
                if self.stats is not None:
                    self.stats.write(source, frame, class_shares(labels_hw, self.segmenter.manifest.classes.names))
                frames += 1
                self.progress.advance(_part(frame.time_s, reader.duration_s), frames)
        self.tally.videos += 1
        self.progress.end(f"{frames} frames, {result_path(self.products[0], source, self.out)}")
        if reader.damaged:
            self.progress.note(
                f"isa-infer: {source.path}: {reader.damaged} damaged frame{'s' if reader.damaged != 1 else ''} left out"
            )

    def _segment(self, frame_hwc: UInt8) -> UInt8:
        return self._labels(self._submit(frame_hwc))

    def _submit(self, frame_hwc: UInt8) -> PendingLabels:
        if self.segmenter.manifest.input.colour_order == "RGB":
            frame_hwc = np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        begun = time.perf_counter()
        pending = self.segmenter.submit(frame_hwc)
        self.tally.engine_s += time.perf_counter() - begun
        return pending

    def _labels(self, pending: PendingLabels) -> UInt8:
        begun = time.perf_counter()
        labels_hw = pending.result()
        self.tally.engine_s += time.perf_counter() - begun
        self.tally.frames += 1
        return labels_hw


def _part(time_s: float, duration_s: float | None) -> float | None:
    return min(1.0, time_s / duration_s) if duration_s else None


@contextmanager
def _input_errors() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise _UnusableInputError(str(error)) from error
