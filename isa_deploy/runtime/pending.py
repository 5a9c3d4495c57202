"""Answers that are on their way: the engine's calls for them, and what is made of those."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.backends.base import Arrays, Pending

__all__ = ["Call", "Calls", "PendingBatch", "PendingLabels", "PendingLogits"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call:
    """One call of the engine.  ``wanted``: how many of its frames count; the others fill up a fixed batch."""

    pending: Pending
    wanted: int


@dataclass(frozen=True)
class Calls:
    """The calls for a number of frames, in their order."""

    calls: Sequence[Call]

    def done(self) -> bool:
        """Whether all of them have ended, well or not."""
        return all(call.pending.done() for call in self.calls)

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """The wanted outputs of all frames, each along its first axis, once they are there.

        Raises as :meth:`isa_deploy.runtime.backends.base.Pending.wait`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parts: list[Arrays] = []
        for call in self.calls:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            parts.append([array[: call.wanted] for array in call.pending.wait(left)])
        return parts[0] if len(parts) == 1 else [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


class _PendingAnswer(Generic[Answer]):
    """What comes of some calls.  It holds the frames until the first :meth:`result`, and then its answer."""

    def __init__(self, calls: Calls, finish: Callable[[Arrays], Answer]) -> None:
        self._calls = calls
        self._finish: Callable[[Arrays], Answer] | None = finish
        self._answer: Answer

    def done(self) -> bool:
        """Whether the engine is done with it, so that :meth:`result` waits for nothing more."""
        return self._calls.done()

    def result(self, timeout_s: float | None = None) -> Answer:
        """The answer, once it is there; the same one every time.

        What is left to do after the engine is done in the calling thread, here.  Raises
        :class:`isa_deploy.errors.EngineError` where the engine failed, or was closed before this was done, and
        TimeoutError where the engine takes longer than ``timeout_s`` seconds: the work goes on, and it can be
        asked for again.
        """
        if self._finish is not None:
            self._answer = self._finish(self._calls.wait(timeout_s))
            self._finish, self._calls = None, Calls(())
        return self._answer


class PendingLabels(_PendingAnswer[UInt8]):
    """The labels of a frame, uint8 H x W; made by :meth:`isa_deploy.Segmenter.submit`."""


class PendingBatch(_PendingAnswer[list[UInt8]]):
    """The labels of several frames, each uint8 H x W; made by :meth:`isa_deploy.Segmenter.submit_batch`."""


class PendingLogits(_PendingAnswer[list[Float32]]):
    """The logits of several images, each float32 C x h x w; made by :meth:`isa_deploy.Segmenter.submit_logits`."""
