"""OpenVINO's requests: what runs, what waits for its turn, and what comes of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from isa_deploy.errors import EngineError
from isa_deploy.runtime.backends.base import Arrays, UInt8

__all__ = ["PendingInference", "RequestPool", "reason"]


class RequestPool:
    """The requests of one compiled model, made when they are needed and used again.

    A request holds inputs and outputs alone: activations belong to the model's streams.
    """

    def __init__(self, compiled: Any, outputs: int) -> None:
        """``compiled``: an ``openvino.CompiledModel``; ``outputs``: how many it has."""
        self.compiled = compiled
        self._outputs = outputs
        self._idle: list[Any] = []

    def start(self, input_name: str, image_nhwc: UInt8) -> PendingInference:
        """Give a batch of frames to a request that is idle.  The frames are read where they lie.

        Raises :class:`EngineError` where OpenVINO refuses them.
        """
        request = self._idle.pop() if self._idle else self.compiled.create_infer_request()
        try:
            request.start_async({input_name: image_nhwc}, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(_failure(image_nhwc, error)) from error
        return PendingInference(self, request, image_nhwc, self._outputs)

    def give_back(self, request: Any) -> None:
        """Take back a request that is idle again."""
        self._idle.append(request)


class PendingInference:
    """A batch of frames that OpenVINO was given."""

    def __init__(self, pool: RequestPool, request: Any, image_nhwc: UInt8, outputs: int) -> None:
        self._pool = pool
        self._request: Any = request
        self._image_nhwc: UInt8 | None = image_nhwc  # the request knows only its address
        self._outputs = outputs
        self._arrays: Arrays = []
        self._failure: str | None = None

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
            elif not request.wait_for(math.ceil(timeout_s * 1000)):
                return False
            # copied, because the next frames overwrite the engine's own buffers
            self._arrays = [np.array(request.get_output_tensor(index).data) for index in range(self._outputs)]
        except RuntimeError as error:
            self._failure = _failure(image_nhwc, error)
        else:
            self._pool.give_back(request)
        self._request = self._image_nhwc = None
        return True


def reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with its own source position; the last line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _failure(image_nhwc: UInt8, error: RuntimeError) -> str:
    return f"OpenVINO failed on frames of shape {image_nhwc.shape} ({reason(error)}); a smaller --resize needs less"
