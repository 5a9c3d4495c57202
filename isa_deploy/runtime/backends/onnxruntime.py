"""ONNX files in ONNX Runtime, on the CPU or with CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, EngineError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.base import Finished, UInt8
from isa_deploy.runtime.backends.signature import TensorSpec, check_signature

__all__ = ["OnnxRuntimeBackend"]


class OnnxRuntimeBackend:
    """A session of ONNX Runtime.

    Computes in the types of the graph; on the CPU it has no float16 arithmetic and computes a float16
    graph in float32 between casts, which is right and slow.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, manifest: Manifest, device: str) -> None:
        """Open a session.

        ``device``: "cpu", or "cuda" or a number for a GPU.  Raises :class:`BackendUnavailableError` where
        onnxruntime, or its CUDA provider, is not installed, and :class:`EngineError` where it refuses the
        file.
        """
        try:
            import onnxruntime as ort
        except ImportError:
            raise BackendUnavailableError(
                "ONNX Runtime is not installed; pip install 'isa-deploy[cpu]' (or onnxruntime-gpu for CUDA)"
            ) from None
        providers: list[Any] = ["CPUExecutionProvider"]
        if device != "cpu":
            if "CUDAExecutionProvider" not in ort.get_available_providers():
                raise BackendUnavailableError(
                    f"device {device} needs ONNX Runtime's CUDA provider, which is not installed; "
                    "pip install 'isa-deploy[cuda]', or use --device cpu"
                )
            index = 0 if device == "cuda" else int(device)
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": index}))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # a video keeps one size: patterns of that size would be kept for every size ever seen
        options.enable_mem_pattern = False
        self._errors = _session_errors()
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except self._errors as error:
            raise EngineError(
                f"{path}: ONNX Runtime {ort.__version__} cannot load it ({_first_line(error)}); "
                "copy or export it again, or try --backend openvino"
            ) from error
        check_signature(path, manifest, _specs(self._session.get_inputs()), _specs(self._session.get_outputs()))
        if device != "cpu" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise BackendUnavailableError(
                f"device {device}: ONNX Runtime has CUDA and could not start it; its CUDA and cuDNN libraries must be "
                "of the versions that it was built for (--device cpu runs without)"
            )
        self._input = manifest.input.name
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self.precision = manifest.precision
        # measured, benchmarks/results/labels.json: on a CPU isa_deploy.runtime.assemble is the faster one
        self.fast_argmax = device != "cpu"
        self.device = "cpu" if device == "cpu" else f"cuda:{providers[0][1]['device_id']}"

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Finished:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        try:
            made: list[npt.NDArray[np.generic]] = self._session.run(
                list(outputs), {self._input: image_nhwc}, self._run_options
            )
        except self._errors as error:
            raise EngineError(
                f"ONNX Runtime failed on frames of shape {image_nhwc.shape} ({_first_line(error)}); "
                "a smaller --resize needs less"
            ) from error
        return Finished(made)

    def largest_batch(self, height: int, width: int) -> int | None:
        """One on a CPU, where a batch is no faster and its activations would multiply the memory."""
        return 1 if self.device == "cpu" else None

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Plain memory: the engine reads frames where they lie."""
        return np.empty(shape, np.uint8)

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _specs(nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    """A session's inputs or outputs by name."""
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    return {
        node.name: TensorSpec(
            types.get(node.type, node.type), tuple(side if isinstance(side, int) else None for side in node.shape)
        )
        for node in nodes
    }


def _session_errors() -> tuple[type[BaseException], ...]:
    """What a session raises: its own exception classes have no common base but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "EPFail",
        "EngineError",
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "ModelLoaded",
        "NoModel",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    own = tuple(getattr(state, name) for name in names if hasattr(state, name))
    return (*own, RuntimeError, ValueError, MemoryError)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
