"""A Segmenter whose device times every call: the upload, the engine and the download of a frame, told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from isa_deploy.runtime.backends.base import Arrays, DeviceTimes, TimedBackend, UInt8
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["TimedSegmenter"]

Result = TypeVar("Result")


class TimedSegmenter:
    """The same engine behind a Segmenter that gives it one call after another.

    Frames in windows take several calls, and graphs of a fixed batch take frames that are thrown away: the calls are
    those that the Segmenter itself makes.
    """

    def __init__(self, segmenter: Segmenter, backend: TimedBackend) -> None:
        """Watch the engine of ``segmenter``, which is ``backend`` and stays the caller's to close."""
        self._calls = _TimedCalls(backend)
        self.segmenter = Segmenter(self._calls, segmenter.manifest, segmenter.resize)

    def times(self, call: Callable[[Segmenter], object]) -> DeviceTimes:
        """What the device does in ``call``, which uses the Segmenter that it is given; the sum over its calls."""
        self._calls.times.clear()
        call(self.segmenter)
        return DeviceTimes(
            upload_ms=sum(each.upload_ms for each in self._calls.times),
            compute_ms=sum(each.compute_ms for each in self._calls.times),
            download_ms=sum(each.download_ms for each in self._calls.times),
        )


class _TimedCalls:
    """A backend that is done with each call when :meth:`start` returns, and keeps its times."""

    def __init__(self, backend: TimedBackend) -> None:
        self._backend = backend
        self.times: list[DeviceTimes] = []
        self.name = backend.name
        self.precision = backend.precision
        self.device = backend.device
        self.fast_argmax = backend.fast_argmax
        self.capacity = 1

    def has_room(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return True

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> _Answer:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        arrays, times = self._backend.time_call(image_nhwc, outputs)
        self.times.append(times)
        return _Answer(arrays)

    def largest_batch(self, height: int, width: int) -> int | None:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return self._backend.largest_batch(height, width)

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return self._backend.frame_buffer(shape)

    def close(self) -> None:
        """Leave the engine to the Segmenter that opened it."""


@dataclass(frozen=True)
class _Answer:
    arrays: Arrays

    def done(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        return True

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        return self.arrays
