"""Always the newest frame of a camera through the engine.

Three threads, with one place between each two: one decodes, one segments, and the caller's shows.  Nothing queues, so
the age of a shown frame is the time that the engine takes and little else, however fast the camera.  Where showing is
slower than the engine, results are left out in the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.live_capture import LiveCapture, Opener
from isa_deploy.runtime.live_source import ArrivedFrame, BgrConverter, LiveSource, LiveStream
from isa_deploy.runtime.newest_frame import NewestFrame
from isa_deploy.runtime.pipeline import wait_for_end

__all__ = ["LiveResult", "LiveSegmentation", "segment_newest"]

UInt8 = npt.NDArray[np.uint8]

POLL_S = 0.5  # how soon a thread hears that it should end


@dataclass(frozen=True)
class LiveResult:
    """A frame (uint8 H x W x 3, BGR), its labels (uint8 H x W), and when it came, of :func:`time.monotonic`."""

    frame_hwc: UInt8
    labels_hw: UInt8
    arrived_s: float


def segment_newest(
    frames: NewestFrame[ArrivedFrame],
    results: NewestFrame[LiveResult],
    convert: Callable[..., UInt8 | None],
    segment: Callable[[UInt8], UInt8],
    timeout_s: float = POLL_S,
) -> None:
    """Take the newest frame, if one comes in time, and put its labels: one step of the engine's thread.

    Only frames that are taken are converted to BGR.
    """
    frame = frames.take(timeout_s)
    if frame is None:
        return
    frame_hwc = convert(frame.picture)
    if frame_hwc is not None:
        results.put(LiveResult(frame_hwc, segment(frame_hwc), frame.arrived_s))


class LiveSegmentation:
    """A camera's newest frames with their labels, inside a ``with``; :meth:`take` gives the latest result.

    ``segment``: labels of a frame, such as ``segmenter.segment``; called from one thread, which is not the caller's.
    """

    def __init__(self, segment: Callable[[UInt8], UInt8], source: LiveSource, open_stream: Opener = LiveStream) -> None:
        self._segment = segment
        self._capture = LiveCapture(source, open_stream)
        self._results: NewestFrame[LiveResult] = NewestFrame()
        self._stop = threading.Event()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live engine", daemon=True)

    @property
    def arrived(self) -> int:
        """Frames that the camera has sent."""
        return self._capture.slot.put_count

    @property
    def outages(self) -> int:
        """How often the camera went away."""
        return self._capture.outages

    @property
    def connected(self) -> bool:
        """Whether frames are coming."""
        return self._capture.connected

    @property
    def ended(self) -> bool:
        """Whether the source was a file, and all of it has been taken."""
        return self._results.ended

    def take(self, timeout_s: float) -> LiveResult | None:
        """The newest result, waiting for one; None where none came in time.

        Raises :class:`StreamError` where the first connection fails, and what ``segment`` raises.
        """
        return self._results.take(timeout_s)

    def news(self) -> list[str]:
        """Lines about outages since the last call."""
        lines = []
        while True:
            try:
                lines.append(self._capture.news.get_nowait())
            except Empty:
                return lines

    def __enter__(self) -> LiveSegmentation:
        self._capture.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        try:
            self._capture.__exit__(kind, error, trace)
        finally:  # a Ctrl-C meanwhile
            self._capture.slot.end()  # a capture that hangs in FFmpeg does not hold the engine up
            wait_for_end(self._gone)  # the engine must not be closed under a frame

    def _run(self) -> None:
        try:
            with self._results:
                convert = BgrConverter().convert
                while not (self._stop.is_set() or self._capture.slot.ended):
                    segment_newest(self._capture.slot, self._results, convert, self._segment)
        finally:
            self._gone.set()
