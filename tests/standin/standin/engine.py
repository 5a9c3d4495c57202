"""Runtime, engine, context and inspector."""

from __future__ import annotations

import hashlib
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from standin.memory import Access
from standin.model import ITEM_BYTES, Model, Tensor
from standin.plan import BrokenPlanError, Plan, read_plan
from standin.reporting import Link, Reporter
from standin.streams import Job
from standin.values import Dims, sides
from standin.world import WORLD

__all__ = ["make_runtime_class"]

SCRATCH_BYTES_PER_INPUT_BYTE = 4


def make_runtime_class(library: Any) -> type:
    """``Runtime`` of a library (:class:`standin.library.Library`)."""

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: Any) -> None:
            if not WORLD.device_asked:
                WORLD.violate("a Runtime was made before cudaGetDeviceCount was called: without a GPU that crashes")
            self._reporter = Reporter(logger, library.ILogger, library.ErrorCodeTRT)
            if not library.is_rtx and not library.has_device():
                self._reporter.log_error(
                    "createInferRuntime: Error Code 6: API Usage Error (CUDA initialization failure with error: "
                    f"{35 if WORLD.knobs.driver_too_old else 100}. Please check your CUDA installation.)"
                )
                raise TypeError("pybind11::init(): factory function returned nullptr")

        @property
        def error_recorder(self) -> Any:
            return self._reporter.recorder

        @error_recorder.setter
        def error_recorder(self, recorder: Any) -> None:
            self._reporter.set_recorder(recorder)

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            self._reporter.alive()
            WORLD.calls["deserialize_cuda_engine"] += 1
            try:
                plan = read_plan(bytes(serialized_engine))
            except BrokenPlanError as error:
                self._reporter.error(f"IRuntime::deserializeCudaEngine: Error Code 1: {error}")
                return None
            refusal = _refusal(plan, library, self.engine_host_code_allowed)
            if refusal:
                self._reporter.error(f"IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error ({refusal})")
                return None
            size = len(plan.onnx)
            used = WORLD.device.bytes_live + WORLD.weights_bytes
            if used + size > WORLD.knobs.device_memory:
                self._reporter.error(_out_of_memory(size), "FAILED_ALLOCATION")
                return None
            kind = _RtxEngine if library.is_rtx else _Engine
            return kind(plan, library, self, self._reporter)

    return Runtime


def _out_of_memory(size: int) -> str:
    return (
        f"Requested amount of GPU memory ({size} bytes) could not be allocated. There may not be enough free memory "
        "for allocation to succeed."
    )


def _refusal(plan: Plan, library: Any, host_code: bool) -> str | None:
    if not library.has_device():
        return "Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
    if plan.library != library.name:
        return "Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match"
    if plan.version_compatible and not host_code:
        return "The engine contains host code, and engine host code is not allowed: see setEngineHostCodeAllowed"
    same_major = plan.version.split(".")[0] == library.version.split(".")[0]
    if plan.version != library.version and not (plan.version_compatible and same_major):
        return (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version "
            f"{library.version} got {plan.version}, please rebuild."
        )
    here = WORLD.knobs.compute_capability
    ampere_plus = plan.hardware_compatible and int(here.split(".")[0]) >= 8
    if plan.compute_capabilities and here not in plan.compute_capabilities and not ampere_plus:
        return (
            f"The engine plan file is generated on an incompatible device, expecting compute {here} got compute "
            f"{', '.join(plan.compute_capabilities)}, please rebuild."
        )
    return None


def _give_back_weights(size: int) -> None:
    WORLD.weights_bytes -= size


class _Engine:
    """``ICudaEngine``."""

    def __init__(self, plan: Plan, library: Any, runtime: Any, reporter: Reporter) -> None:
        self._plan = plan
        self._library = library
        self._runtime = Link(runtime, "runtime")
        self._reporter = reporter
        self._model = Model(plan.onnx)
        self._tensors = {each.name: each for each in self._model.tensors}
        WORLD.weights_bytes += len(plan.onnx)
        weakref.finalize(self, _give_back_weights, len(plan.onnx))

    def _alive(self) -> None:
        self._runtime.get()
        self._reporter.alive()

    def _tensor(self, name: str, what: str) -> Tensor:
        self._alive()
        if name not in self._tensors:
            WORLD.violate(f"{what} was given {name!r}, which the plan has not; it has {', '.join(self._tensors)}")
        return self._tensors[name]

    def _ranges(self, tensor: Tensor, profile: int) -> tuple[tuple[int, ...], ...]:
        ranges = self._plan.profiles[profile].get(tensor.name) if self._plan.profiles else None
        return tuple(tuple(shape) for shape in ranges) if ranges else (tensor.shape,) * 3

    @property
    def num_io_tensors(self) -> int:
        self._alive()
        return len(self._tensors)

    @property
    def num_layers(self) -> int:
        self._alive()
        return len(self._model.proto.graph.node)

    @property
    def num_optimization_profiles(self) -> int:
        self._alive()
        return max(len(self._plan.profiles), 1)

    def get_tensor_name(self, index: int) -> str:
        self._alive()
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self._library.TensorIOMode
        return modes.INPUT if self._tensor(name, "get_tensor_mode").is_input else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self._library.DataType, self._tensor(name, "get_tensor_dtype").dtype)

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._tensor(name, "get_tensor_shape").shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        tensor = self._tensor(name, "get_tensor_profile_shape")
        if not tensor.is_input:
            WORLD.violate(f"get_tensor_profile_shape was asked for the output {name!r}")
        if not 0 <= profile_index < self.num_optimization_profiles:
            WORLD.violate(f"get_tensor_profile_shape was asked for profile {profile_index}, which is none")
        return [Dims(shape) for shape in self._ranges(tensor, profile_index)]

    def create_execution_context(self, strategy: Any) -> Any:
        self._alive()
        if strategy is not self._library.ExecutionContextAllocationStrategy.USER_MANAGED:
            WORLD.violate(f"create_execution_context was given the strategy {strategy!r}")
        return _Context(self)

    def create_engine_inspector(self) -> Any:
        self._alive()
        return _Inspector(self)


class _RuntimeConfig:
    """How a context of TensorRT-RTX is to run."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None  # RTX: lazily, in the background

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._strategy = strategy

    def _check(self) -> None:
        if self._strategy is not self._library.ExecutionContextAllocationStrategy.USER_MANAGED:
            WORLD.violate(f"create_execution_context was given a config with the strategy {self._strategy!r}")

    def _is_eager(self) -> bool:
        eager = self._library.DynamicShapesKernelSpecializationStrategy.EAGER
        return self.dynamic_shapes_kernel_specialization_strategy is eager


class _RtxEngine(_Engine):
    """An engine of TensorRT-RTX: a context is made with a runtime config, or with a strategy as elsewhere."""

    def create_runtime_config(self) -> _RuntimeConfig:
        self._alive()
        return _RuntimeConfig(self._library)

    def create_execution_context(self, strategy: Any) -> Any:
        self._alive()
        if not isinstance(strategy, _RuntimeConfig):
            if strategy is not self._library.ExecutionContextAllocationStrategy.USER_MANAGED:
                WORLD.violate(f"create_execution_context was given the strategy {strategy!r}")
            return _RtxContext(self, False)
        strategy._check()
        return _RtxContext(self, strategy._is_eager())


class _Inspector:
    """``EngineInspector``."""

    def __init__(self, engine: _Engine) -> None:
        self._engine = Link(engine, "engine")

    def get_engine_information(self, format: Any) -> str:
        engine = self._engine.get()
        engine._alive()
        if format is not engine._library.LayerInformationFormat.JSON:
            WORLD.violate(f"get_engine_information was given the format {format!r}")
        layers = engine._model.layers()
        bindings = list(engine._tensors)
        if not engine._plan.detailed:
            return json.dumps({"Layers": [each.name for each in layers], "Bindings": bindings})
        return json.dumps(
            {
                "Layers": [
                    {
                        "Name": each.name,
                        "LayerType": each.kind,
                        "Inputs": each.inputs,
                        "Outputs": each.outputs,
                        "TacticName": f"standin_{each.kind.lower()}",
                        "TacticValue": "0x" + hashlib.sha256(each.name.encode()).hexdigest()[:16],
                        "StreamId": 0,
                        "Metadata": f"[ONNX Layer: {each.name}]",
                    }
                    for each in layers
                ],
                "Bindings": bindings,
            }
        )


class _Context:
    """``IExecutionContext``, for one thread at a time."""

    def __init__(self, engine: _Engine) -> None:
        self._engine_link = Link(engine, "engine")
        self._profile: int | None = None
        self._profile_set: tuple[int, int] | None = None  # stream and piece of work that switch the profile
        self._last_execution: tuple[int, int] | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._inferred = False
        self._sized = False
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._generation = 0
        self._enqueued_plainly = False  # with the shapes that are set
        self._thread: int | None = None

    @contextmanager
    def _call(self, what: str) -> Iterator[_Engine]:
        """One call: of one thread at a time, on an engine that lives."""
        me = threading.get_ident()
        busy, self._thread = self._thread, me
        if busy is not None:
            WORLD.violate(f"{what} was called while another thread was in the same context")
        try:
            if WORLD.knobs.context_call_s:
                time.sleep(WORLD.knobs.context_call_s)
            engine = self._engine_link.get()
            engine._alive()
            with WORLD.lock:
                WORLD.calls[what] += 1
                yield engine
        finally:
            self._thread = None

    def _changed(self, resets_enqueue: bool) -> None:
        self._generation += 1
        if resets_enqueue:
            self._enqueued_plainly = False

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        with self._call("set_optimization_profile_async") as engine:
            stream = WORLD.stream(stream_handle, "set_optimization_profile_async")
            if stream.capture is not None:
                WORLD.violate("set_optimization_profile_async in a capture")
            if not 0 <= profile_index < max(len(engine._plan.profiles), 1):
                engine._reporter.error(
                    "IExecutionContext::setOptimizationProfileAsync: Error Code 3: API Usage Error (Parameter check "
                    f"failed, condition: profileIndex < nbProfiles. {profile_index} is no profile)",
                    "INVALID_ARGUMENT",
                )
                return False
            self._after(stream, self._last_execution, "set_optimization_profile_async", "this context's last work")
            if profile_index != self._profile:
                self._profile = profile_index
                self._shapes = {}
                self._inferred = self._sized = False
                self._changed(True)
            WORLD.submit(stream, Job("set_optimization_profile_async", (), lambda: _nothing))
            self._profile_set = (stream.number, stream.sequence)
            return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        wanted = sides(shape)
        with self._call("set_input_shape") as engine:
            if self._profile is None:
                WORLD.violate("set_input_shape before set_optimization_profile_async")
            tensor = engine._tensors.get(name)
            if tensor is None or not tensor.is_input:
                engine._reporter.error(
                    f"IExecutionContext::setInputShape: Error Code 3: API Usage Error (Given invalid tensor name: "
                    f"{name})",
                    "INVALID_ARGUMENT",
                )
                return False
            least, _, most = engine._ranges(tensor, self._profile)
            if len(wanted) != len(least) or any(not a <= b <= c for a, b, c in zip(least, wanted, most, strict=True)):
                engine._reporter.error(
                    "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check failed. Set "
                    f"dimensions are {list(wanted)} for tensor {name}. Valid range for profile {self._profile}: "
                    f"{list(least)}..{list(most)}.)",
                    "INVALID_ARGUMENT",
                )
                return False
            if self._shapes.get(name) != wanted:
                self._shapes[name] = wanted
                self._inferred = self._sized = False
                self._changed(True)
            return True

    def infer_shapes(self) -> list[str]:
        with self._call("infer_shapes") as engine:
            missing = [e.name for e in engine._tensors.values() if e.is_input and e.name not in self._shapes]
            self._inferred = not missing
            return missing

    def get_tensor_shape(self, name: str) -> Dims:
        with self._call("get_tensor_shape") as engine:
            tensor = engine._tensor(name, "get_tensor_shape")
            if tensor.is_input:
                return Dims(self._shapes.get(name, tensor.shape))
            if not self._inferred:
                return Dims(tensor.shape)
            return Dims(engine._model.output_shapes(self._shapes)[name])

    def update_device_memory_size_for_shapes(self) -> int:
        with self._call("update_device_memory_size_for_shapes"):
            if not self._inferred:
                WORLD.violate("update_device_memory_size_for_shapes before every shape is set and infer_shapes called")
            self._sized = True
            return self._scratch_bytes()

    def set_device_memory(self, memory: int, size: int) -> None:
        with self._call("set_device_memory"):
            if not self._sized:
                WORLD.violate("set_device_memory before update_device_memory_size_for_shapes told its size")
            self._device_range(int(memory), int(size), "set_device_memory")
            if int(size) < self._scratch_bytes():
                WORLD.violate(f"set_device_memory was given {size} bytes, and {self._scratch_bytes()} are needed")
            if self._scratch != (int(memory), int(size)):
                self._scratch = (int(memory), int(size))
                self._changed(False)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        with self._call("set_tensor_address") as engine:
            engine._tensor(name, "set_tensor_address")
            self._device_range(int(memory), 1, "set_tensor_address")
            if self._addresses.get(name) != int(memory):
                self._addresses[name] = int(memory)
                self._changed(False)
            return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        with self._call("execute_async_v3") as engine:
            stream = WORLD.stream(stream_handle, "execute_async_v3")
            accesses = self._ready(engine)
            WORLD.executions += 1
            if WORLD.executions == WORLD.knobs.fail_execute:
                engine._reporter.error(
                    "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (invalid resource handle)",
                    "FAILED_EXECUTION",
                )
                return False
            if WORLD.lost is not None:
                engine._reporter.error(
                    f"IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime ({WORLD.lost})", "FAILED_EXECUTION"
                )
                return False
            self._after(stream, self._profile_set, "execute_async_v3", "set_optimization_profile_async")
            if stream.capture is not None and not self._enqueued_plainly:
                # the first enqueue for a shape does deferred work, which cannot be captured
                stream.capture.broken = "cudaErrorStreamCaptureInvalidated"
                engine._reporter.error(
                    "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (operation not permitted when stream is "
                    "capturing)",
                    "FAILED_EXECUTION",
                )
                return False
            WORLD.submit(stream, self._job(engine, accesses, stream.capture is not None))
            if stream.capture is None:
                self._enqueued_plainly = True
                self._last_execution = (stream.number, stream.sequence)
            return True

    def _after(self, stream: Any, earlier: tuple[int, int] | None, what: str, of: str) -> None:
        """A violation unless work on ``stream`` comes after an earlier piece of work."""
        if earlier is None or stream.number == earlier[0]:
            return
        if stream.clock.get(earlier[0], 0) < earlier[1] and not WORLD.done(*earlier):
            WORLD.violate(f"{what} on stream {stream.number} is not ordered after {of} on stream {earlier[0]}")

    def _scratch_bytes(self) -> int:
        sizes = [np.prod(shape, dtype=np.int64) for shape in self._shapes.values()]
        return -(-int(sum(sizes)) * SCRATCH_BYTES_PER_INPUT_BYTE // 256) * 256

    def _device_range(self, address: int, size: int, what: str) -> None:
        if address % 256:
            WORLD.violate(f"{what} was given 0x{address:x}, which is not aligned to 256 bytes")
        WORLD.range(address, size, WORLD.device, True, what)

    def _ready(self, engine: _Engine) -> dict[str, Access]:
        """The memory that an execution touches, by tensor and "scratch"; a violation where any is unset."""
        what = "execute_async_v3"
        if self._profile is None:
            WORLD.violate(f"{what} before set_optimization_profile_async")
        unset = [e.name for e in engine._tensors.values() if e.is_input and e.name not in self._shapes]
        if unset:
            WORLD.violate(f"{what} while the shape of {', '.join(unset)} is not set")
        if not self._inferred:
            WORLD.violate(f"{what} before infer_shapes was called for the shapes that are set")
        if not self._sized or self._scratch is None:
            WORLD.violate(f"{what} before set_device_memory gave scratch memory for the shapes that are set")
        if self._scratch[1] < self._scratch_bytes():
            WORLD.violate(
                f"{what} with {self._scratch[1]} bytes of scratch memory, and {self._scratch_bytes()} are needed"
            )
        shapes = {**self._shapes, **engine._model.output_shapes(self._shapes)}
        accesses = {}
        for tensor in engine._tensors.values():
            if tensor.name not in self._addresses:
                WORLD.violate(f"{what} while the address of {tensor.name} is not set")
            size = int(np.prod(shapes[tensor.name], dtype=np.int64)) * ITEM_BYTES[tensor.dtype]
            accesses[tensor.name] = WORLD.range(
                self._addresses[tensor.name], size, WORLD.device, not tensor.is_input, f"{what} ({tensor.name})"
            )
        accesses["scratch"] = WORLD.range(*self._scratch, WORLD.device, True, f"{what} (scratch memory)")
        return accesses

    def _job(self, engine: _Engine, accesses: dict[str, Access], captured: bool) -> Job:
        model = engine._model
        shapes = dict(self._shapes)
        generation = self._generation
        context, alive_engine = weakref.ref(self), weakref.ref(engine)

        def prepare() -> Callable[[], None]:
            mine = context()
            if mine is None:
                WORLD.violate("a graph was launched whose context was freed")
            if captured and mine._generation != generation:
                WORLD.violate("a graph was launched whose context was changed since the capture: keep one a graph")

            def run() -> None:
                if context() is None or alive_engine() is None:
                    WORLD.violate("a context or its engine was freed while its work was pending")
                inputs = {
                    name: model.numpy_input(name, WORLD.bytes_at(accesses[name]), shape)
                    for name, shape in shapes.items()
                }
                for name, array in model.run(inputs).items():
                    WORLD.bytes_at(accesses[name])[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

            return run

        return Job("execute_async_v3", tuple(accesses.values()), prepare, WORLD.knobs.execute_ms)


class _RtxContext(_Context):
    """A stream can capture what needs no memory at run time and has all its kernels."""

    def __init__(self, engine: _Engine, eager: bool) -> None:
        super().__init__(engine)
        self._eager = eager

    def is_stream_capturable(self, stream: int) -> bool:
        with self._call("is_stream_capturable") as engine:
            WORLD.stream(stream, "is_stream_capturable")
            ready = self._enqueued_plainly and self._eager and engine._plan.user_allocation
            return ready and not WORLD.knobs.refuse_capture


def _nothing() -> None:
    """What a job does that has no effect on memory."""
