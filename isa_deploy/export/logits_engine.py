"""A graph in memory, run for its logits: what the search for an int8 graph tries its candidates in."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from isa_deploy.errors import BackendUnavailableError, ExportError

__all__ = ["LogitsEngine"]

FUSED = "/WithoutBiases"  # OpenVINO names a convolution so where the bias was an addition of its own


class LogitsEngine:
    """OpenVINO on the CPU, float32 where the graph is not int8.  A context manager.

    OpenVINO, because it is the engine on a CPU that int8 makes faster; so what it does with the graph is what counts.
    Raises :class:`BackendUnavailableError` where it is not installed, :class:`ExportError` where it refuses the graph.
    """

    def __init__(self, model: onnx.ModelProto, *, timed: bool = False) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise BackendUnavailableError("OpenVINO is not installed; pip install 'isa-deploy[export]'") from None
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": timed}
        core = ov.Core()
        try:
            read = core.read_model(model.SerializeToString())
            batch = read.inputs[0].get_partial_shape()[0]
            self._batch = batch.get_length() if batch.is_static else 1
            only_logits = ov.Model([read.output("logits")], read.get_parameters())
            self._request: Any = core.compile_model(only_logits, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            raise ExportError(f"OpenVINO {ov.__version__} refuses the int8 graph ({line}); export fp32") from error
        self._version = ov.__version__

    def logits(self, frame_hwc: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The logits of a frame (uint8 H x W x 3), float32 C x h x w; a graph of several gets it as often."""
        frames_nhwc = np.repeat(frame_hwc[None], self._batch, axis=0)
        try:
            self._request.infer([frames_nhwc], share_inputs=False)
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1]
            raise ExportError(f"OpenVINO {self._version} cannot run the int8 graph ({line})") from error
        return np.array(self._request.get_output_tensor(0).data[0], np.float32)

    def layer_ms(self) -> dict[str, float]:
        """Milliseconds of each of the graph's nodes in the last run, by its name; of a ``timed`` engine only."""
        times: dict[str, float] = {}
        for node in self._request.get_profiling_info():
            name = node.node_name.removesuffix(FUSED)
            times[name] = times.get(name, 0.0) + node.real_time.total_seconds() * 1e3
        return times

    def close(self) -> None:
        """Give the memory back."""
        self._request = None

    def __enter__(self) -> LogitsEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
