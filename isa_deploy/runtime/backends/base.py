"""What a Segmenter asks of an engine library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.backends.device_array import DeviceArray, DeviceFrames

__all__ = ["Arrays", "Backend", "DeviceBackend", "DeviceTimes", "Pending", "TimedBackend", "UInt8"]

UInt8 = npt.NDArray[np.uint8]

Arrays = list[npt.NDArray[np.generic]]


class Pending(Protocol):
    """Work that an engine was given."""

    def done(self) -> bool:
        """Whether the engine is done with it, well or not, so that :meth:`wait` does not wait."""

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """The wanted outputs, in the order asked for; once they are there.

        The arrays belong to the caller.  Raises :class:`isa_deploy.errors.EngineError` where the engine failed, or
        was closed before this was done, and TimeoutError where it takes longer than ``timeout_s`` seconds: the
        work goes on, and can be waited for again.
        """


class Backend(Protocol):
    """One opened engine.  Its library's exceptions end here, as :class:`isa_deploy.errors.IsaError`.

    ``name`` is the backend's, as the commands take it; ``precision`` what the arithmetic runs in;
    ``device`` what it runs on, in words.
    ``fast_argmax`` says whether the graph's own labels come sooner than its logits and our argmax.
    ``capacity`` is how many calls it takes before :meth:`start` waits: those that it computes, and those that lie
    ready so that it need not wait for the next.

    A call makes room for another when the engine is done with it, whether its answer was taken or not, so a
    caller who takes none never waits for himself.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def fast_argmax(self) -> bool: ...

    @property
    def capacity(self) -> int: ...

    def has_room(self) -> bool:
        """Whether :meth:`start` would not wait now."""

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Pending:
        """Give the engine a batch of frames (uint8, N x H x W x 3, C-contiguous) and name the wanted outputs.

        Waits while there is no room.  The frames are read where they lie: they stay as they are until the answer
        was waited for, and the engine keeps them alive until it is done.  Raises
        :class:`isa_deploy.errors.EngineError` where the engine refuses the frames or fails, here or from
        :meth:`Pending.wait`, and :class:`isa_deploy.errors.InputError` for a size that it was not built for.
        """

    def largest_batch(self, height: int, width: int) -> int | None:
        """The most frames of a size that are worth giving at once; None: as many as there is memory for."""

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Memory for frames from which the engine reads them without another copy on the host."""

    def close(self) -> None:
        """Give the engine's memory back.  The backend is not used afterwards.

        Answers that are pending either come to their end first, or :meth:`Pending.wait` raises for them.
        """


@runtime_checkable
class DeviceBackend(Backend, Protocol):
    """A backend that also takes frames that lie on its GPU."""

    def read_device_frames(self, frame: Any) -> DeviceFrames:
        """A frame or a batch of another library's on this GPU (uint8, H x W x 3 or N x H x W x 3), where it lies.

        Work of others that makes it is waited for, on the GPU.  Raises :class:`isa_deploy.errors.InputError` for
        another type or layout, or memory that is not this GPU's.
        """

    def run_on_device(self, frames: DeviceFrames, outputs: Sequence[str]) -> list[DeviceArray]:
        """The wanted outputs for frames on this GPU (uint8, N x H x W x 3), complete, left there.

        Raises as :meth:`Backend.start`.
        """


@dataclass(frozen=True)
class DeviceTimes:
    """How long the parts of a call took on a device, in milliseconds by its own clock.

    Each part begins where the one before ends, so their sum is the time from the first byte up to the last byte
    down.  ``compute_ms`` holds what the device waits for the host to launch the engine, where it has to.
    """

    upload_ms: float
    compute_ms: float
    download_ms: float


@runtime_checkable
class TimedBackend(Backend, Protocol):
    """A backend that can tell apart what its device does for a call."""

    def time_call(self, image_nhwc: UInt8, outputs: Sequence[str]) -> tuple[Arrays, DeviceTimes]:
        """:meth:`Backend.start` and :meth:`Pending.wait` for frames that the device has to itself, with its times.

        Waits first for what the device was given before.  For measurements, of which the first calls do not count: the
        clock costs time of its own, and what an engine makes ready in its first calls is in their times.
        Raises as :meth:`Backend.start`.
        """
