"""What a Segmenter asks of an engine library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.backends.device_array import DeviceArray, DeviceFrames

__all__ = ["Arrays", "Backend", "DeviceBackend", "Finished", "Pending", "UInt8"]

UInt8 = npt.NDArray[np.uint8]

Arrays = list[npt.NDArray[np.generic]]


class Pending(Protocol):
    """Work that an engine was given."""

    def wait(self) -> Arrays:
        """The wanted outputs, in the order asked for; once they are there.

        The arrays belong to the caller.  Raises :class:`isa_deploy.errors.EngineError` where the engine failed.
        """


@dataclass(frozen=True)
class Finished:
    """Work that was done when it was given: what engines without a queue of their own answer."""

    arrays: Arrays

    def wait(self) -> Arrays:
        """See :class:`Pending`."""
        return self.arrays


class Backend(Protocol):
    """One opened engine.  Its library's exceptions end here, as :class:`isa_deploy.errors.IsaError`.

    ``name`` is the backend's, as the commands take it; ``precision`` what the arithmetic runs in;
    ``device`` what it runs on, in words.
    ``fast_argmax`` says whether the graph's own labels come sooner than its logits and our argmax.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def fast_argmax(self) -> bool: ...

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Pending:
        """Give the engine a batch of frames (uint8, N x H x W x 3) and name the outputs that are wanted.

        The frames stay as they are until the answer was waited for.  Raises
        :class:`isa_deploy.errors.EngineError` where the engine refuses the frames or fails, and
        :class:`isa_deploy.errors.InputError` for a size that it was not built for.
        """

    def largest_batch(self, height: int, width: int) -> int | None:
        """The most frames of a size that are worth giving at once; None: as many as there is memory for."""

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Memory for frames from which the engine reads them without another copy on the host."""

    def close(self) -> None:
        """Give the engine's memory back.  The backend is not used afterwards."""


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
