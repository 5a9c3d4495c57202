"""OpenVINO's requests: what runs, what waits for its turn, and what comes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from isa_deploy.errors import EngineError
from isa_deploy.runtime.backends.base import Arrays, UInt8

__all__ = ["PendingInference", "RequestPool", "reason"]


LONGEST_WAIT_MS = (1 << 31) - 1
"""OpenVINO takes it as a C int; 24 days."""


class RequestPool:
    """The requests of one compiled model, made when they are needed and used again.

    A request holds inputs and outputs alone: activations belong to the model's streams.
    """

    def __init__(self, compiled: Any, outputs: int) -> None:
        """``compiled``: an ``openvino.CompiledModel``; ``outputs``: how many it has."""
        self.compiled = compiled
        self._outputs = outputs
        self._idle: list[Any] = []

    def take(self, image_nhwc: UInt8) -> PendingInference:
        """A batch of frames with a request that is idle, which :meth:`PendingInference.begin` starts."""
        request = self._idle.pop() if self._idle else self.compiled.create_infer_request()
        return PendingInference(self, request, image_nhwc, self._outputs)

    def give_back(self, request: Any) -> None:
        """Take back a request that is idle again."""
        self._idle.append(request)


class PendingInference:
    """A batch of frames for OpenVINO, which must be kept from before :meth:`begin` until :meth:`done`."""

    def __init__(self, pool: RequestPool, request: Any, image_nhwc: UInt8, outputs: int) -> None:
        self._pool = pool
        self._request: Any = request
        self._image_nhwc: UInt8 | None = image_nhwc  # the request knows only its address
        self._outputs = outputs
        self._arrays: Arrays = []
        self._failure: str | None = None

    def begin(self, input_name: str) -> None:
        """Give the frames to OpenVINO, which reads them where they lie.

        Raises :class:`EngineError` where it refuses them.
        """
        try:
            self._request.start_async({input_name: self._image_nhwc}, share_inputs=True)
        except RuntimeError as error:
            assert self._image_nhwc is not None
            self._failure = _failure(self._image_nhwc, error)
            self._request = self._image_nhwc = None
            raise EngineError(self._failure) from error

    def done(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        return self._collect(0)

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        if not self._collect(timeout_s):
            raise TimeoutError(f"OpenVINO was not done with these frames after {timeout_s} s; wait again")
        if self._failure is not None:
            raise EngineError(self._failure)
        return self._arrays

    def finish(self) -> None:
        """Wait until OpenVINO is done, well or not."""
        self._collect(None)

    def _collect(self, timeout_s: float | None) -> bool:
        """Take the answer off the request, so that other frames can use it; False where it is not there in time."""
        request, image_nhwc = self._request, self._image_nhwc
        if request is None:
            return True
        assert image_nhwc is not None
        try:
            if timeout_s is None:
                request.wait()
            elif not request.wait_for(math.ceil(min(timeout_s * 1000, LONGEST_WAIT_MS))):
                return False
            # copied, because the next frames overwrite the engine's own buffers
            self._arrays = [np.array(request.get_output_tensor(index).data) for index in range(self._outputs)]
        except RuntimeError as error:
            self._failure = _failure(image_nhwc, error)
        # ours no more before it is anybody else's: Ctrl-C may come between any two lines
        self._request = self._image_nhwc = None
        if self._failure is None:
            self._pool.give_back(request)
        return True


def reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with its own source position; the last line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _failure(image_nhwc: UInt8, error: RuntimeError) -> str:
    return f"OpenVINO failed on frames of shape {image_nhwc.shape} ({reason(error)}); a smaller --resize needs less"
