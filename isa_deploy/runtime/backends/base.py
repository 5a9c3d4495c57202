"""What a Segmenter asks of an engine library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Backend", "UInt8"]

UInt8 = npt.NDArray[np.uint8]


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

    def run(self, image_nhwc: UInt8, outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
        """The wanted outputs for a batch of frames (uint8, N x H x W x 3), in the order asked for.

        The arrays belong to the caller.  Raises :class:`isa_deploy.errors.EngineError` where the engine
        refuses the frames or fails.
        """

    def close(self) -> None:
        """Give the engine's memory back.  The backend is not used afterwards."""
