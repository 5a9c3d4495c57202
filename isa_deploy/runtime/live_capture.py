"""A camera's frames into a slot, from a thread that connects again whenever they stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from queue import SimpleQueue
from types import TracebackType
from typing import Protocol

from isa_deploy.runtime.live_source import ArrivedFrame, LiveSource, LiveStream, StreamError
from isa_deploy.runtime.newest_frame import NewestFrame

__all__ = ["LiveCapture", "Stream", "retry_delays"]

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 10.0  # a camera that restarts is back within seconds, and is not stormed
END_WAIT_S = 1.0  # for a thread inside FFmpeg, which cannot be woken


class Stream(Protocol):
    """One connection to a source: :class:`LiveStream`, or a test's."""

    def __iter__(self) -> Iterator[ArrivedFrame]: ...


Opener = Callable[[LiveSource, Callable[[float], bool]], AbstractContextManager[Stream]]


def retry_delays() -> Iterator[float]:
    """Seconds before each attempt to connect again: doubled up to :data:`LONGEST_DELAY_S`, without end."""
    delay = FIRST_DELAY_S
    while True:
        yield delay
        delay = min(2 * delay, LONGEST_DELAY_S)


class LiveCapture:
    """Fills :attr:`slot` with the newest frame of a source, inside a ``with``.

    A stream that ends, fails or falls silent is connected again, with :func:`retry_delays` between the attempts,
    until the block ends.  Each outage is one line in :attr:`news`, and one more when it is over.  The first
    connection has to give a frame: an address that is wrong is heard at once, as a :class:`StreamError` from
    ``slot.take``.  A file that ends, ends the slot.
    """

    def __init__(self, source: LiveSource, open_stream: Opener = LiveStream) -> None:
        self.slot: NewestFrame[ArrivedFrame] = NewestFrame()
        self.news: SimpleQueue[str] = SimpleQueue()
        self.outages = 0
        self.connected = False
        self._source = source
        self._open_stream = open_stream
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live capture", daemon=True)

    def __enter__(self) -> LiveCapture:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(END_WAIT_S)

    def _run(self) -> None:
        with self.slot:
            self.deliver(self._stop.wait)

    def deliver(self, wait: Callable[[float], bool]) -> None:
        """Fill the slot until ``wait(seconds)`` says to end, or a file has ended."""
        delays = retry_delays()
        lost_s: float | None = None
        while True:
            try:
                with self._open_stream(self._source, wait) as stream:
                    for frame in stream:
                        if wait(0):
                            return
                        if lost_s is not None:
                            self.news.put(f"{self._source.label}: back after {time.monotonic() - lost_s:.0f} s")
                            lost_s, delays = None, retry_delays()
                        self.connected = True
                        self.slot.put(frame)
                raise StreamError(self._source, "the stream ended", "check the camera")
            except StreamError as error:
                if lost_s is None and not self.connected:
                    raise
                if self._source.kind == "file":
                    return
                if self.connected:
                    self.connected = False
                    self.outages += 1
                    lost_s = time.monotonic()
                    self.news.put(f"{self._source.label}: {error.reason}; connecting again until it is back")
            if wait(next(delays)):
                return
