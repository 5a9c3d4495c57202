"""ONNX files in ONNX Runtime, on the CPU or with CUDA."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from isa_deploy.errors import BackendUnavailableError, EngineError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.base import Arrays, UInt8
from isa_deploy.runtime.backends.signature import TensorSpec, check_signature

__all__ = ["OnnxRuntimeBackend", "first_line", "session_errors"]

REQUESTS = 2
"""One is computed, and the next lies ready."""

SHAPES_KEPT = 16


class OnnxRuntimeBackend:
    """A session of ONNX Runtime.

    Computes in the types of the graph; on the CPU it has no float16 arithmetic and computes a float16
    graph in float32 between casts, which is right and slow.  Convolutions between QuantizeLinear and DequantizeLinear
    become int8 ones.

    A session computes in the thread that calls it, so one thread of ours does, and frames wait for it in a queue.
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
        if device == "cpu" and manifest.precision == "int8" and manifest.float_type == "fp16":
            # ONNX Runtime 1.31 fuses float16 Q/DQ nodes into CPU kernels that are wrong: of the golden model's labels
            # 95.5 % were float32's, without the fusion 99.3 %, in less time
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._errors = session_errors()
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except self._errors as error:
            raise EngineError(
                f"{path}: ONNX Runtime {ort.__version__} cannot load it ({first_line(error)}); "
                "copy or export it again, or try --backend openvino"
            ) from error
        specs = _specs(self._session.get_outputs())
        check_signature(path, manifest, _specs(self._session.get_inputs()), specs)
        if device != "cpu" and self._session.get_providers()[0] != "CUDAExecutionProvider":
            raise BackendUnavailableError(
                f"device {device}: ONNX Runtime has CUDA and could not start it; its CUDA and cuDNN libraries must be "
                "of the versions that it was built for (--device cpu runs without)"
            )
        self._input = manifest.input.name
        self._dtypes = {name: spec.dtype for name, spec in specs.items()}
        self._shapes: dict[tuple[tuple[int, ...], tuple[str, ...]], list[tuple[int, ...]]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="isa-onnxruntime")
        self._under_way: list[Future[Arrays]] = []
        self._run_options = ort.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self.precision = manifest.precision
        # measured, benchmarks/results/labels.json: on a CPU isa_deploy.runtime.assemble is the faster one
        self.fast_argmax = device != "cpu"
        self.device = "cpu" if device == "cpu" else f"cuda:{providers[0][1]['device_id']}"

    @property
    def capacity(self) -> int:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return REQUESTS

    def has_room(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        self._under_way = [each for each in self._under_way if not each.done()]
        return len(self._under_way) < REQUESTS

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> PendingRun:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        while not self.has_room():
            concurrent.futures.wait(self._under_way, return_when=concurrent.futures.FIRST_COMPLETED)
        future = self._worker.submit(self._run, image_nhwc, tuple(outputs))
        self._under_way.append(future)
        return PendingRun(future)

    def _run(self, image_nhwc: UInt8, outputs: tuple[str, ...]) -> Arrays:
        """One call of the session, in the worker's thread."""
        try:
            binding = self._session.io_binding()
            binding.bind_cpu_input(self._input, image_nhwc)
            shapes = self._shapes.get((image_nhwc.shape, outputs))
            if shapes is not None:
                arrays: Arrays = []
                for name, shape in zip(outputs, shapes, strict=True):
                    array = np.empty(shape, self._dtypes[name])
                    binding.bind_output(name, "cpu", 0, array.dtype.type, shape, array.ctypes.data)
                    arrays.append(array)
                self._session.run_with_iobinding(binding, self._run_options)
                return arrays
            for name in outputs:
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding, self._run_options)
            arrays = binding.copy_outputs_to_cpu()
        except self._errors as error:
            raise EngineError(
                f"ONNX Runtime failed on frames of shape {image_nhwc.shape} ({first_line(error)}); "
                "a smaller --resize needs less"
            ) from error
        if len(self._shapes) >= SHAPES_KEPT:
            self._shapes.pop(next(iter(self._shapes)))
        # only a run tells the shapes of the outputs; from the next on they are written where they stay
        self._shapes[image_nhwc.shape, outputs] = [array.shape for array in arrays]
        return arrays

    def largest_batch(self, height: int, width: int) -> int | None:
        """One on a CPU, where a batch is no faster and its activations would multiply the memory."""
        return 1 if self.device == "cpu" else None

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Plain memory: the engine reads frames where they lie."""
        return np.empty(shape, np.uint8)

    def close(self) -> None:
        """Wait for what was given, then drop the session.  The answers can still be taken."""
        self._worker.shutdown()
        self._session = None


class PendingRun:
    """A batch of frames that the worker was given."""

    def __init__(self, future: Future[Arrays]) -> None:
        self._future = future

    def done(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        return self._future.done()

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        try:
            return self._future.result(timeout_s)
        except concurrent.futures.TimeoutError:  # Python 3.10 has one of its own
            raise TimeoutError(f"ONNX Runtime was not done with these frames after {timeout_s} s; wait again") from None


def _specs(nodes: Sequence[Any]) -> dict[str, TensorSpec]:
    """A session's inputs or outputs by name."""
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    return {
        node.name: TensorSpec(
            types.get(node.type, node.type), tuple(side if isinstance(side, int) else None for side in node.shape)
        )
        for node in nodes
    }


def session_errors() -> tuple[type[BaseException], ...]:
    """What a session raises: its own exception classes have no common base but Exception.

    ONNX Runtime must be installed.
    """
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


def first_line(error: BaseException) -> str:
    """An exception in one line: its message's first, or its type's name where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
