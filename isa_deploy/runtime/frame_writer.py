"""A video file in the making: named when it is complete, gone when it fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import Replacement, os_errors
from isa_deploy.runtime.video import FALLBACK_RATE, load_av

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

__all__ = ["FrameWriter"]

UInt8 = npt.NDArray[np.uint8]
Self = TypeVar("Self", bound="FrameWriter")


class FrameWriter(ABC):
    """A video file, written under a temporary name and renamed when it is complete.

    Use it in a ``with``: at the end of the block, and on Ctrl-C, the file is finished and renamed, playable;
    on any other exception nothing stays.  Without a single frame no file is made.  It serves one thread at a
    time, not always the same one.

    ``time_base``: seconds to a tick of :meth:`write`.  ``frame_rate``: an average, for players that ask.

    Raises :class:`BackendUnavailableError` where PyAV is missing.
    """

    def __init__(self, path: Path, time_base: Fraction, frame_rate: Fraction | None) -> None:
        self.path = path
        self.time_base = time_base
        self.frame_rate = frame_rate
        self._av = load_av()
        self._replacement = Replacement(path)
        self._container: OutputContainer | None = None
        self._stream: av.VideoStream | None = None
        self._last_pts = -1
        self._step = max(1, round(1 / ((frame_rate or FALLBACK_RATE) * time_base)))

    def write(self, picture: UInt8, pts: int) -> None:
        """Append a picture, shown at ``pts`` ticks; ``pts`` rises from picture to picture.

        Raises :class:`InputError` where the picture is none or comes too early, the format cannot hold its size,
        or the file cannot be written; nothing of the file is left then.
        """
        with self._failures():
            self._check(picture)
            if pts <= self._last_pts:
                raise InputError(f"{self.path}: a frame at tick {pts} after one at {self._last_pts}; pass rising times")
            if self._container is None:
                self._container = self._make_container(self._replacement.temporary)  # _failures closes it
                self._stream = self._make_stream(self._container, picture)
                # the file is made now: what the system has against it is heard at once
                self._container.start_encoding()
            self._mux(self._encodable(picture, pts))
            if self._last_pts >= 0:
                self._step = pts - self._last_pts
            self._last_pts = pts
            self._written(pts)

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises :class:`InputError` where it cannot be written; nothing of it is left then.
        """
        if self._container is not None:
            with self._failures():
                self._all_written()
        self._finish()

    def discard(self) -> None:
        """Give up the file; nothing of it is left."""
        if self._container is not None:
            # closing writes the index, and fails again where writing failed
            with suppress(self._av.error.FFmpegError):
                self._container.close()
        self._forget()
        self._replacement.discard()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self._finish()
        else:
            self.discard()

    @abstractmethod
    def _check(self, picture: UInt8) -> None:
        """Raise :class:`InputError` for an array that is no picture of this file's kind."""

    @abstractmethod
    def _make_container(self, temporary: Path) -> OutputContainer: ...

    @abstractmethod
    def _make_stream(self, container: OutputContainer, picture: UInt8) -> av.VideoStream:
        """The stream, its encoder opened for pictures such as this first one."""

    @abstractmethod
    def _encodable(self, picture: UInt8, pts: int) -> av.VideoFrame:
        """What the encoder takes; it shares no memory with a picture that the caller may change."""

    @abstractmethod
    def _stamp(self, packet: av.Packet[Any]) -> None:
        """Complete a packet's times before it is written."""

    def _written(self, pts: int) -> None:  # noqa: B027  most formats have nothing more to do
        """A picture was written."""

    def _all_written(self) -> None:  # noqa: B027
        """No picture will follow; not called on Ctrl-C."""

    def _closed(self, temporary: Path) -> None:  # noqa: B027
        """The file is complete, and not yet named."""

    def _forget(self) -> None:
        self._container = self._stream = None

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        assert self._stream is not None
        for packet in self._stream.encode(frame):
            self._stamp(packet)
            self._container.mux(packet)

    def _finish(self) -> None:
        if self._container is None:
            return
        try:
            with self._failures():
                self._mux(None)
                self._container.close()
                self._forget()
                self._closed(self._replacement.temporary)
                self._replacement.commit()
        finally:
            # a second Ctrl-C in the middle of this
            self._replacement.discard()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            with os_errors(self.path, "write the video"):
                yield
        except InputError:
            self.discard()
            raise
        except self._av.error.FFmpegError as error:
            self.discard()
            raise InputError(f"{self.path}: cannot write the video: {error.strerror}; try another --out") from error
