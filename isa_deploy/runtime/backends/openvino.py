"""ONNX files in OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.base import Finished, UInt8
from isa_deploy.runtime.backends.signature import TensorSpec, check_signature

__all__ = ["OpenVINOBackend", "cpu_has_bf16"]


class OpenVINOBackend:
    """A compiled model of OpenVINO's CPU plugin.

    Runs bfloat16 where the CPU has it in hardware (AMX or AVX512-BF16) and float32 elsewhere, whatever
    the graph's own type.  float16 is never asked of it: on a CPU it is slow, and it was measured wrong.
    Each set of outputs is compiled when it is first asked for, so that a video that needs labels never
    copies logits.
    """

    name = "openvino"

    def __init__(self, path: Path, manifest: Manifest, device: str, precision: str) -> None:
        """Read the file.

        ``device``: "cpu".  ``precision``: "auto", "fp32" or "bf16".  Raises
        :class:`BackendUnavailableError` where openvino is not installed, :class:`InputError` for another
        device or precision, and :class:`EngineError` where OpenVINO refuses the file.
        """
        try:
            import openvino as ov
        except ImportError:
            raise BackendUnavailableError("OpenVINO is not installed; pip install 'isa-deploy[cpu]'") from None
        if device != "cpu":
            raise InputError(f"backend openvino runs on the CPU, not on device {device}; use --device cpu")
        self._ov = ov
        self._core = ov.Core()
        bf16 = cpu_has_bf16(self._core)
        if precision == "bf16" and not bf16:
            raise InputError("this CPU has neither AMX nor AVX512-BF16; use --precision fp32")
        self.precision = "bf16" if bf16 and precision != "fp32" else "fp32"
        self.device = "cpu"
        # measured in float32, benchmarks/results/labels.json: ArgMax becomes a TopK that takes longer than
        # isa_deploy.runtime.assemble.  On CPUs with bfloat16 it was 2 ms of 640.
        self.fast_argmax = self.precision == "bf16"
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise EngineError(
                f"{path}: OpenVINO {ov.__version__} cannot read it ({_reason(error)}); copy or export it again"
            ) from error
        check_signature(path, manifest, _specs(self._model.inputs), _specs(self._model.outputs))
        self._path = path
        self._input = manifest.input.name
        self._requests: dict[tuple[str, ...], Any] = {}

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Finished:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        request = self._request(tuple(outputs))
        try:
            # the frame is read where it lies; only the results are copied, because the next frame
            # overwrites the engine's own buffers
            made = request.infer({self._input: image_nhwc}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed on frames of shape {image_nhwc.shape} ({_reason(error)}); "
                "a smaller --resize needs less"
            ) from error
        return Finished([np.array(made[position]) for position in range(len(outputs))])

    def _request(self, outputs: tuple[str, ...]) -> Any:
        request = self._requests.get(outputs)
        if request is None:
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if self.precision == "bf16" else "f32",
                "PERFORMANCE_HINT": "LATENCY",
            }
            try:
                wanted = [self._model.output(name) for name in outputs]
                model = self._ov.Model(wanted, self._model.get_parameters())
                compiled = self._core.compile_model(model, "CPU", settings)
            except RuntimeError as error:
                raise EngineError(
                    f"{self._path}: OpenVINO {self._ov.__version__} cannot compile it ({_reason(error)}); export again"
                ) from error
            request = compiled.create_infer_request()
            self._requests[outputs] = request
        return request

    def largest_batch(self, height: int, width: int) -> int | None:
        """One: on a CPU a batch is no faster, and its activations would multiply the memory."""
        return 1

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Plain memory: the engine reads frames where they lie."""
        return np.empty(shape, np.uint8)

    def close(self) -> None:
        """Drop the compiled models."""
        self._requests.clear()
        self._model = None


def _specs(ports: Sequence[Any]) -> dict[str, TensorSpec]:
    """A model's inputs or outputs by name."""
    types = {"u8": "uint8", "f32": "float32"}
    found = {}
    for port in ports:
        sides = tuple(side.get_length() if side.is_static else None for side in port.get_partial_shape())
        kind = port.get_element_type().get_type_name()
        found.update({name: TensorSpec(types.get(kind, kind), sides) for name in port.get_names()})
    return found


def cpu_has_bf16(core: Any = None) -> bool:
    """Whether OpenVINO finds bfloat16 instructions on this CPU.  ``core``: an ``openvino.Core``, if at hand."""
    if core is None:
        import openvino as ov

        core = ov.Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with its own source position; the last line says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
