"""ONNX files in OpenVINO, on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.base import UInt8
from isa_deploy.runtime.backends.openvino_queue import PendingInference, RequestPool, reason
from isa_deploy.runtime.backends.signature import TensorSpec, check_signature

__all__ = ["OpenVINOBackend", "cpu_has_bf16"]

LATENCY_REQUESTS = 2
"""One is computed, and the next lies ready: the engine goes on while the host works on the first one's logits."""


class OpenVINOBackend:
    """A compiled model of OpenVINO's CPU plugin.

    Runs bfloat16 where the CPU has it in hardware (AMX or AVX512-BF16) and float32 elsewhere, whatever
    the graph's own type.  float16 is never asked of it: on a CPU it is slow, and it was measured wrong.
    The int8 layers of an int8 graph run in int8 either way; that choice is about the rest of it.
    Each set of outputs is compiled when it is first asked for, so that a video that needs labels never
    copies logits.

    In the schedule "latency" all cores work on one frame.  In "throughput" the plugin chooses how many frames
    run at once, each on a stream of its own with its own activations.
    """

    name = "openvino"

    def __init__(self, path: Path, manifest: Manifest, device: str, precision: str, schedule: str) -> None:
        """Read the file.

        ``device``: "cpu".  ``precision``: "auto", "fp32" or "bf16", of what is not int8.  ``schedule``: "latency" or
        "throughput".  Raises :class:`BackendUnavailableError` where openvino is not installed, :class:`InputError` for
        another device or precision, and :class:`EngineError` where OpenVINO refuses the file.
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
        self._float_type = "bf16" if bf16 and precision != "fp32" else "fp32"
        self.precision = "int8" if manifest.precision == "int8" else self._float_type
        self.device = "cpu"
        # measured in float32, benchmarks/results/labels.json: ArgMax becomes a TopK that takes longer than
        # isa_deploy.runtime.assemble.  On CPUs with bfloat16 it was 2 ms of 640.  int8 layers change neither of them.
        self.fast_argmax = self._float_type == "bf16"
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise EngineError(
                f"{path}: OpenVINO {ov.__version__} cannot read it ({reason(error)}); copy or export it again"
            ) from error
        check_signature(path, manifest, _specs(self._model.inputs), _specs(self._model.outputs))
        self._path = path
        self._input = manifest.input.name
        self._throughput = schedule == "throughput"
        self._usual = manifest.outputs.labels if self.fast_argmax else manifest.outputs.logits
        self._pools: dict[tuple[str, ...], RequestPool] = {}
        self._under_way: list[PendingInference] = []
        # OpenVINO would go on reading frames that are gone
        self._finalizer = weakref.finalize(self, _finish, self._under_way)

    @property
    def capacity(self) -> int:
        """See :class:`isa_deploy.runtime.backends.base.Backend`.

        In "throughput" only a compiled model tells: raises :class:`EngineError` where it cannot be compiled.
        """
        if not self._throughput:
            return LATENCY_REQUESTS
        pool = next(iter(self._pools.values()), None) or self._pool((self._usual,))
        return int(pool.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))

    def has_room(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        self._under_way[:] = [each for each in self._under_way if not each.done()]
        return len(self._under_way) < self.capacity

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> PendingInference:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        pool = self._pool(tuple(outputs))
        while not self.has_room():
            self._under_way[0].finish()
        pending = pool.take(image_nhwc)
        self._under_way.append(pending)  # first: Ctrl-C's exception must not let go of frames that are being read
        pending.begin(self._input)
        return pending

    def _pool(self, outputs: tuple[str, ...]) -> RequestPool:
        pool = self._pools.get(outputs)
        if pool is None:
            settings = {
                "INFERENCE_PRECISION_HINT": "bf16" if self._float_type == "bf16" else "f32",
                "PERFORMANCE_HINT": "THROUGHPUT" if self._throughput else "LATENCY",
            }
            try:
                wanted = [self._model.output(name) for name in outputs]
                model = self._ov.Model(wanted, self._model.get_parameters())
                compiled = self._core.compile_model(model, "CPU", settings)
            except RuntimeError as error:
                raise EngineError(
                    f"{self._path}: OpenVINO {self._ov.__version__} cannot compile it ({reason(error)}); export again"
                ) from error
            pool = self._pools[outputs] = RequestPool(compiled, len(outputs))
        return pool

    def largest_batch(self, height: int, width: int) -> int | None:
        """One: on a CPU a batch is no faster, and its activations would multiply the memory."""
        return 1

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        """Plain memory: the engine reads frames where they lie."""
        return np.empty(shape, np.uint8)

    def close(self) -> None:
        """Wait for what runs, then drop the compiled models.  The answers can still be taken."""
        self._finalizer()
        self._pools.clear()
        self._model = None


def _finish(under_way: list[PendingInference]) -> None:
    for pending in under_way:
        pending.finish()
    under_way.clear()


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
