"""The contestants at work, inside their own processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.bench.clip import drawn_frames
from isa_deploy.bench.contestants import Contestant, Engine, Product, Shape, TorchModel
from isa_deploy.bench.pace import WarmUp, calls_in_turn, pipelined_turn, sequential_turn, warm_up
from isa_deploy.bench.race import Turn
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["EngineRunner", "Runner", "open_runner"]

UInt8 = npt.NDArray[np.uint8]

DIFFERENT_CALLS = 4
"""Calls that get frames of their own, so that no frame is in the caches from the call before."""

CONVOLUTION = (256, 256, 64, 128)  # inputs, outputs, height, width: the head's own size at 512 x 1024
MATRIX_SIDE = 2048


class Runner(Protocol):
    """One contestant, opened.

    ``name``: what the table calls it.  ``library``, ``precision``, ``device``: in words.  ``gflop``: of one call, where
    that is the runner's to know.
    """

    name: str
    library: str
    precision: str
    device: str
    in_flight: int
    gflop: float | None

    def warm_up(self) -> WarmUp:
        """Run until it runs as it will; sets how long a turn is."""

    def turn(self) -> Turn:
        """One turn."""


def open_runner(contestant: Contestant, shape: Shape) -> Runner:
    """Open a contestant for calls of ``shape``.  Raises what its library's absence and its files give reason for."""
    if isinstance(contestant, Engine):
        return EngineRunner(contestant, shape)
    if isinstance(contestant, TorchModel):
        return TorchRunner(contestant, shape)
    return ProductRunner(contestant)


class EngineRunner:
    """Frames in host memory through a Segmenter to labels in host memory."""

    gflop: float | None = None

    def __init__(self, engine: Engine, shape: Shape) -> None:
        batch, height, width = shape
        frames = drawn_frames(batch * DIFFERENT_CALLS, height, width)
        calls = [frames[first : first + batch] for first in range(0, len(frames), batch)]
        self._frames = itertools.cycle(calls)
        self.segmenter = Segmenter.open(
            engine.path,
            backend=engine.backend,
            device=engine.device,
            precision=engine.precision,
            # as it is: the frames have this size.  A clip of another size is brought to it
            resize=(height, width),
            schedule=engine.schedule,
            allow_engine_code=engine.allow_engine_code,
        )
        self.library, self.precision = self.segmenter.backend_name, self.segmenter.precision
        self.device = self.segmenter.device
        self.name = " ".join([self.library, self.precision, *([] if self.device == "cpu" else ["gpu"])])
        self.in_flight = self.segmenter.capacity if engine.schedule == "throughput" else 1
        self._batch = batch
        self._calls = 1

    def warm_up(self) -> WarmUp:
        """See :class:`Runner`."""
        warmed = warm_up(self._call)
        self._calls = calls_in_turn(warmed.call_s / self.in_flight, self.in_flight)
        return warmed

    def turn(self) -> Turn:
        """See :class:`Runner`."""
        if self.in_flight > 1:
            return pipelined_turn(self._submit, self.in_flight, self._calls, self._batch)
        return sequential_turn(self._call, self._calls, self._batch)

    def _submit(self) -> Any:
        frames = next(self._frames)
        return self.segmenter.submit(frames[0]) if self._batch == 1 else self.segmenter.submit_batch(frames)

    def _call(self) -> object:
        return self._submit().result()


class TorchRunner:
    """The checkpoint as mmsegmentation runs it: float32, eager, one frame after another, on the CPU."""

    library, precision, device, name = "torch", "fp32", "cpu", "torch fp32 eager"
    gflop: float | None = None
    in_flight = 1

    def __init__(self, model: TorchModel, shape: Shape) -> None:
        try:
            import torch
        except ImportError:
            raise BackendUnavailableError(
                "--compare torch needs torch, which is not installed; pip install 'isa-deploy[export]'"
            ) from None
        from isa_deploy.export.reference import Reference
        from isa_deploy.models.checkpoint import build_network, read_checkpoint

        checkpoint = read_checkpoint(Path(model.checkpoint), allow_hash_mismatch=True)
        if checkpoint.sha256 != model.sha256:
            raise InputError(
                f"{model.checkpoint}: is not the checkpoint that the engine was exported from (SHA-256 "
                f"{checkpoint.sha256[:12]}..., not {model.sha256[:12]}...); name that one with --ckpt"
            )
        reference = Reference(build_network(checkpoint), checkpoint)
        batch, height, width = shape
        frames = itertools.cycle(drawn_frames(batch * DIFFERENT_CALLS, height, width))

        def call() -> None:
            for frame_hwc in itertools.islice(frames, batch):
                full, _ = reference.full_logits(frame_hwc, (height, width))
                full.argmax(1).to(torch.uint8).numpy()

        self._call: Callable[[], None] = call
        self._batch = batch
        self._calls = 1

    def warm_up(self) -> WarmUp:
        """See :class:`Runner`."""
        warmed = warm_up(self._call)
        self._calls = calls_in_turn(warmed.call_s, 1)
        return warmed

    def turn(self) -> Turn:
        """See :class:`Runner`."""
        return sequential_turn(self._call, self._calls, self._batch)


class ProductRunner:
    """A product that leaves the processor nothing to wait for: in OpenVINO, or in numpy's BLAS where that is missing.

    Its "frames" are products.
    """

    device = "cpu"
    in_flight = 1

    def __init__(self, product: Product) -> None:
        self.precision = product.precision
        self.gflop: float | None
        try:
            import openvino as ov
        except ImportError:
            if product.kind != "matrix product" or product.precision != "fp32":
                raise BackendUnavailableError(
                    f"a {product.kind} in {product.precision} is measured in OpenVINO; pip install 'isa-deploy[cpu]'"
                ) from None
            self._call, self.gflop = _numpy_product()
            self.library = f"numpy {np.__version__}"
            self.name = f"matrix product of {MATRIX_SIDE}x{MATRIX_SIDE}"
        else:
            self._call, self.gflop = _openvino_product(ov, product)
            self.library = f"openvino {ov.__version__.partition('-')[0]}"
            inputs, _, height, width = CONVOLUTION
            self.name = (
                f"matrix product of {MATRIX_SIDE}x{MATRIX_SIDE}"
                if product.kind == "matrix product"
                else f"3x3 convolution of {inputs}x{height}x{width}"
            )
        self._calls = 1

    def warm_up(self) -> WarmUp:
        """See :class:`Runner`."""
        warmed = warm_up(self._call)
        self._calls = calls_in_turn(warmed.call_s, 1)
        return warmed

    def turn(self) -> Turn:
        """See :class:`Runner`."""
        return sequential_turn(self._call, self._calls, 1)


def _numpy_product() -> tuple[Callable[[], object], float]:
    rng = np.random.default_rng(0)
    left, right = (rng.random((MATRIX_SIDE, MATRIX_SIDE), dtype=np.float32) for _ in range(2))
    made = np.empty_like(left)
    return (lambda: np.matmul(left, right, out=made)), 2 * MATRIX_SIDE**3 / 1e9


def _openvino_product(ov: Any, product: Product) -> tuple[Callable[[], object], float]:
    from openvino import opset13

    rng = np.random.default_rng(0)
    if product.kind == "matrix product":
        shape: tuple[int, ...] = (MATRIX_SIDE, MATRIX_SIDE)
        parameter = opset13.parameter(shape, np.float32)
        weights = opset13.constant(rng.random((MATRIX_SIDE, MATRIX_SIDE), dtype=np.float32))
        made = opset13.matmul(parameter, weights, False, False)
        gflop = 2 * MATRIX_SIDE**3 / 1e9
    else:
        inputs, outputs, height, width = CONVOLUTION
        shape = (1, inputs, height, width)
        parameter = opset13.parameter(shape, np.float32)
        weights = opset13.constant(rng.random((outputs, inputs, 3, 3), dtype=np.float32))
        made = opset13.convolution(parameter, weights, [1, 1], [1, 1], [1, 1], [1, 1])
        gflop = 2 * inputs * outputs * 9 * height * width / 1e9
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if product.precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(ov.Model([made], [parameter]), "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.random(shape, dtype=np.float32)))
    return request.infer, gflop
