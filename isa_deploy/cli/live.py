"""``isa-infer --live``: a camera through the engine, to a window, to browsers, and into a file."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.colour_order import in_colour_order
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.live_status import LiveStatus, open_status
from isa_deploy.cli.results import Product
from isa_deploy.cli.window import Window
from isa_deploy.files import result_folder
from isa_deploy.runtime.frame_ages import FrameAges
from isa_deploy.runtime.live import LiveSegmentation
from isa_deploy.runtime.live_source import LiveSource
from isa_deploy.runtime.newest_frame import NewestFrame
from isa_deploy.runtime.pipeline import wait_for_end
from isa_deploy.runtime.preview_server import PreviewServer
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video_writer import VideoWriter

__all__ = ["LiveOptions", "run_live"]

UInt8 = npt.NDArray[np.uint8]

POLL_S = 0.2  # how soon Ctrl-C is heard
WINDOW_POLL_S = 0.05  # how soon a window answers
STATUS_EVERY_S = 0.5
RECORD_CLOCK = Fraction(1, 1000)  # a gap in a finer clock would pass the 32 bits of MP4 after 71 minutes


@dataclass(frozen=True)
class LiveOptions:
    """Where the pictures go.  ``preview``: a port (0: any free one), or None."""

    show: bool = False
    preview: int | None = None
    preview_host: str = "127.0.0.1"
    record: bool = False


def run_live(
    segmenter: Segmenter,
    source: LiveSource,
    product: Product,
    out: Path,
    options: LiveOptions,
    interruption: Interruption,
) -> None:
    """Segment a camera's newest frames until the window is closed, or a file that stands for a camera ends.

    Raises :class:`KeyboardInterrupt` after an interruption, with what is recorded in place;
    :class:`isa_deploy.errors.InputError` where the first connection fails, or there is no display, no such port or no
    place for the recording; :class:`isa_deploy.errors.EngineError` where the engine fails.
    """
    with ExitStack() as stack:
        # first what can fail at once: nothing is connected then, and no folder made
        window = stack.enter_context(Window(f"{source.label} - isa-infer")) if options.show else None
        preview: PreviewServer | None = None
        if options.preview is not None:
            preview = stack.enter_context(PreviewServer(options.preview_host, options.preview))
        status = stack.enter_context(open_status())
        if preview is not None:
            who = ", for anybody who reaches this machine" if preview.is_public else ""
            status.note(f"preview at {preview.url}{who}")

        def segment(frame_hwc: UInt8) -> UInt8:
            return segmenter.segment(in_colour_order(frame_hwc, segmenter.manifest))

        live = LiveSegmentation(segment, source)
        recording = _Recording(out / f"{source.name}_{product.name}.mp4") if options.record else None
        show = _Show(source, product, live, status, window, preview, recording)
        stack.callback(show.say_summary)  # when the recording is finished
        if recording is not None:
            stack.enter_context(result_folder(out))
            stack.enter_context(recording)
        stack.enter_context(live)
        show.run(interruption)


@dataclass
class _Show:
    """Results to where they are looked at, and what is said about them."""

    source: LiveSource
    product: Product
    live: LiveSegmentation
    status: LiveStatus
    window: Window | None
    preview: PreviewServer | None
    recording: _Recording | None
    ages: FrameAges = field(default_factory=FrameAges)
    _updated_s: float = 0.0

    def run(self, interruption: Interruption) -> None:
        while not (self.live.ended or (self.window is not None and self.window.closed)):
            interruption.check()
            if self.recording is not None:
                self.recording.check()
            result = self.live.take(POLL_S if self.window is None else WINDOW_POLL_S)
            if result is not None:
                self._out(self.product.draw(result.frame_hwc, result.labels_hw), result.arrived_s)
            if self.window is not None:
                self.window.keep_alive()
            for line in self.live.news():
                self.status.note(line)
            self._update()

    def say_summary(self) -> None:
        whole = self.ages.whole()
        if whole is None:
            return
        left_out = self.live.arrived - whole.frames
        text = (
            f"{self.source.label}: {whole.frames} of {self.live.arrived} frames shown, {whole.per_s:.1f} frames/s, "
            f"{left_out} left out; {whole}, longest {whole.max_s * 1e3:.0f} ms"
        )
        if self.live.outages:
            text += f"; {self.live.outages} outage{'s' if self.live.outages != 1 else ''}"
        if self.recording is not None:
            text += f"; {self.recording}"
        self.status.note(text)

    def _out(self, picture_hwc: UInt8, arrived_s: float) -> None:
        if self.window is not None:
            self.window.show(picture_hwc)
        if self.preview is not None:
            self.preview.publish(picture_hwc)
        if self.recording is not None:
            self.recording.put(picture_hwc, arrived_s)
        now_s = time.monotonic()
        self.ages.add(now_s, now_s - arrived_s)

    def _update(self) -> None:
        now_s = time.monotonic()
        if now_s - self._updated_s < STATUS_EVERY_S:
            return
        self._updated_s = now_s
        recent = self.ages.recent(now_s)
        whole = self.ages.whole()
        shown = 0 if whole is None else whole.frames
        if recent is None or not self.live.connected:
            line = f"{self.source.label}: waiting for the camera"
        else:
            line = f"{self.source.label}: {recent.per_s:.1f} frames/s, {recent}, {self.live.arrived - shown} left out"
        self.status.update(line, now_s)
        if self.preview is None:
            return
        stats: dict[str, Any] = {
            "camera": self.source.label,
            "line": line,
            "connected": self.live.connected,
            "frames_arrived": self.live.arrived,
            "frames_shown": shown,
            "outages": self.live.outages,
            "frames_per_s": None if recent is None else round(recent.per_s, 2),
            "age_median_ms": None if recent is None else round(recent.median_s * 1e3, 1),
            "age_p99_ms": None if recent is None else round(recent.p99_s * 1e3, 1),
        }
        self.preview.report(stats)


class _Recording:
    """The shown pictures into a video, in a thread of its own, so that encoding makes no picture older.

    What the encoder is too slow for is left out.  The file is finished however the block ends, for hours of a camera
    cannot be recorded again; only where it cannot be written nothing stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slot: NewestFrame[tuple[UInt8, float]] = NewestFrame()
        self._failed: NewestFrame[None] = NewestFrame()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live recording", daemon=True)
        self._writer = VideoWriter(path, RECORD_CLOCK)
        self._written = 0
        self._kept = False

    def __str__(self) -> str:
        return f"{self._written} frames recorded in {self._path}" if self._kept else "nothing recorded"

    def put(self, picture_hwc: UInt8, arrived_s: float) -> None:
        self._slot.put((picture_hwc, arrived_s))

    def check(self) -> None:
        """Raise :class:`isa_deploy.errors.InputError` where the file could not be written."""
        self._failed.take(0)

    def __enter__(self) -> _Recording:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slot.end()
        wait_for_end(self._gone)  # through a second Ctrl-C too, or the file would never get its name
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.check()

    def _run(self) -> None:
        try:
            with self._failed:
                with self._writer as writer:
                    self._write_all(writer)
                self._kept = self._written > 0
        finally:
            self._gone.set()

    def _write_all(self, writer: VideoWriter) -> None:
        begun_s: float | None = None
        last = -1
        while not self._slot.ended:
            taken = self._slot.take(POLL_S)
            if taken is None:
                continue
            picture_hwc, arrived_s = taken
            begun_s = arrived_s if begun_s is None else begun_s
            ticks = round((arrived_s - begun_s) / RECORD_CLOCK)
            if ticks > last:
                writer.write(picture_hwc, ticks)
                last = ticks
                self._written += 1
