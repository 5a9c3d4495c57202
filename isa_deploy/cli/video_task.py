"""One video on its way through the engine: a thread decodes ahead of it, another draws and encodes behind it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.results import Product, open_writer, result_path
from isa_deploy.cli.sources import Source
from isa_deploy.cli.statistics import InputStatistics, Statistics, count_labels
from isa_deploy.cli.unusable import input_errors
from isa_deploy.cli.video_options import VideoOptions
from isa_deploy.runtime.frame_writer import FrameWriter
from isa_deploy.runtime.pipeline import Ahead, Behind
from isa_deploy.runtime.smoothing import Smoother
from isa_deploy.runtime.video import VideoFrame, VideoReader

__all__ = ["VideoTask"]

UInt8 = npt.NDArray[np.uint8]

DECODED_AHEAD = 3
DRAWN_BEHIND = 3
"""Frames that wait on either side of the engine: enough for a decoder's or an encoder's uneven pace."""


class VideoTask:
    """A video's frames, and what is made of them with their labels into files.

    Inside a ``with``: at its end, or :meth:`finish`, and on Ctrl-C, what was :meth:`put` is drawn and the files
    are finished; on any other exception nothing is left of them.  It serves one thread: every
    exception of the others comes out of its calls.

    ``under_way``: frames that the engine has; its user counts them.  ``is_over``: no frame will follow.
    ``is_closed``: nor will anything be written.
    """

    def __init__(
        self,
        source: Source,
        products: Sequence[Product],
        out: Path,
        statistics: Statistics | None,
        class_names: tuple[str, ...],
        options: VideoOptions,
    ) -> None:
        self.source = source
        self.frames_done = 0
        self.under_way = 0
        self.is_over = False
        self.is_closed = False
        self._products = products
        self._out = out
        self._statistics = statistics
        self._class_names = class_names
        self._options = options
        self._buffers: dict[str, UInt8] = {}
        self._smoother = Smoother(options.smooth)
        self._stack = ExitStack()
        self._rows: InputStatistics | None = None
        self._writers: list[FrameWriter] = []
        self._time_s = 0.0
        self._changed_hw: tuple[int, int] | None = None

    def __enter__(self) -> VideoTask:
        with ExitStack() as stack:
            if self._statistics is not None:
                self._rows = stack.enter_context(self._statistics.one_input(self.source, self._class_names))
            with input_errors():
                self._reader = stack.enter_context(VideoReader(self.source.path, wanted=self._options.range))
            for product in self._products:
                writer = open_writer(product, self.source, self._reader, self._out)
                self._writers.append(stack.enter_context(writer))
            self._decoded = stack.enter_context(Ahead(self._reader, DECODED_AHEAD))
            self._drawing = stack.enter_context(Behind(self._draw, DRAWN_BEHIND))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a task that was finished, or has failed, has given its stack away
        stack, self._stack = self._stack, ExitStack()
        self.is_over = self.is_closed = True
        stack.__exit__(kind, error, trace)

    def next_frame(self) -> VideoFrame | None:
        """The next frame, once it is decoded; None at the end, from which on :attr:`is_over`."""
        with input_errors():
            frame = next(self._decoded, None)
        if frame is None:
            self.is_over = True
        return frame

    def put(self, frame: VideoFrame, labels_hw: UInt8) -> None:
        """Give the labels of the frame that comes next in order, once there is room.

        Raises :class:`InputError` where a result cannot be written.
        """
        self._drawing.put((frame, labels_hw))
        self.frames_done += 1
        self._time_s = frame.time_s

    def finish(self) -> None:
        """Wait until all that was put is drawn, and finish the files."""
        self.__exit__(None, None, None)

    def fail(self, error: BaseException) -> None:
        """Give the files up."""
        self.__exit__(type(error), error, error.__traceback__)

    @property
    def part(self) -> float | None:
        """How much of it is done, 0 to 1; None where its length is unknown."""
        wanted = self._options.range
        ends = [end for end in (self._reader.duration_s, wanted.end_s) if end is not None]
        length_s = float(min(ends)) - float(wanted.start_s) if ends else 0.0
        return min(1.0, max(0.0, self._time_s - float(wanted.start_s)) / length_s) if length_s > 0 else None

    @property
    def result(self) -> str:
        """What came of it, in words."""
        return f"{self.frames_done} frames, {result_path(self._products[0], self.source, self._out)}"

    @property
    def notes(self) -> list[str]:
        """What a user should know about it."""
        notes = []
        damaged = self._reader.damaged
        if damaged:
            notes.append(f"{self.source.path}: {damaged} damaged frame{'s' if damaged != 1 else ''} left out")
        if self._reader.ends_early_s is not None:
            notes.append(
                f"{self.source.path}: its last frame is at {self._reader.ends_early_s:.1f} s, though it says that it "
                f"lasts {self._reader.duration_s:.1f} s; it was cut off, or is damaged"
            )
        if self._changed_hw is not None:
            (height, width), (other_height, other_width) = self._reader.size_hw, self._changed_hw
            notes.append(
                f"{self.source.path}: its size changes from {width}x{height} to {other_width}x{other_height}; the "
                "results have the first size throughout (of the labels the nearest pixels)"
            )
        return notes

    def _draw(self, item: tuple[VideoFrame, UInt8]) -> None:
        """In the drawing thread."""
        frame, raw_hw = item
        labels_hw = self._smoother.add(raw_hw)
        if labels_hw.shape != self._reader.size_hw and self._changed_hw is None:
            self._changed_hw = labels_hw.shape[0], labels_hw.shape[1]
        pts = frame.pts - self._reader.begin_pts
        for product, writer in zip(self._products, self._writers, strict=True):
            buffer = self._buffers.get(product.name)
            fits = buffer is not None and buffer.shape[:2] == labels_hw.shape
            picture = product.draw(frame.frame_hwc, labels_hw, buffer if fits else None)
            if not product.exact:  # the labels are the writer's now; another picture it has copied
                self._buffers[product.name] = picture
            writer.write(picture, pts)
        if self._rows is not None:
            self._rows.write(count_labels(labels_hw), frame.index, frame.time_s)
