"""A deserialised plan, shared by every Segmenter of this process that opens the same one."""

from __future__ import annotations

import hashlib
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from isa_deploy.errors import BackendUnavailableError, EngineError, EngineIncompatibleError
from isa_deploy.manifest import EngineSpec
from isa_deploy.runtime.backends.cuda import Cuda
from isa_deploy.runtime.backends.signature import TensorSpec
from isa_deploy.runtime.backends.tensorrt_api import (
    ICudaEngine,
    IExecutionContext,
    IRtxCudaEngine,
    IRtxExecutionContext,
    IRuntime,
    RtxModule,
)
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary
from isa_deploy.runtime.backends.tensorrt_log import TensorRTLog, make_error_recorder, make_logger
from isa_deploy.runtime.backends.tensorrt_types import tensor_spec
from isa_deploy.runtime.plan import rebuild_command

__all__ = ["ONE_AT_A_TIME", "EngineTensor", "SharedEngine", "share_engine"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EngineTensor:
    """An input or output of an engine; ``shape`` has None where a side is free."""

    name: str
    is_input: bool
    spec: TensorSpec


class SharedEngine:
    """A plan's engine with everything of TensorRT's that has to live as long.

    Engines are read by any number of threads; contexts are not (TensorRT's own rule).  ``tensors``: inputs
    and outputs by name.  ``profiles``: for each optimisation profile the smallest, the best and the largest
    shape of ``input_name``; a fixed input has one with its shape three times.
    """

    def __init__(
        self,
        plan: bytes,
        origin: Path,
        spec: EngineSpec | None,
        library: TensorRTLibrary,
        cuda: Cuda,
        allow_engine_code: bool,
    ) -> None:
        trt = library.module
        self.library = library
        self.log = TensorRTLog()
        self._logger = make_logger(trt, self.log)
        self._recorder = make_error_recorder(trt, self.log)
        # no local names for TensorRT's objects: where this raises, they must go as __del__ has it
        self._runtime = _make_runtime(library, self._logger, self.log)
        self._runtime.error_recorder = self._recorder
        # False is TensorRT's default too; said here because a plan is somebody else's program
        self._runtime.engine_host_code_allowed = allow_engine_code
        self.engine: ICudaEngine = self._deserialize(plan, origin, spec, cuda)
        self.tensors = {each.name: each for each in _tensors(library, self.engine)}
        inputs = [each for each in self.tensors.values() if each.is_input]
        if len(inputs) != 1:
            raise EngineError(
                f"{origin}: the plan has {len(inputs)} inputs, and ours have one; build it from our graph"
            )
        self.input_name = inputs[0].name
        sides = tuple(side for side in inputs[0].spec.shape if side is not None)
        # what TensorRT answers for the profile of a fixed input is written nowhere
        is_fixed = len(sides) == len(inputs[0].spec.shape)
        self.profiles: tuple[tuple[Shape, ...], ...] = ((sides,) * 3,) if is_fixed else self._read_profiles()

    def _read_profiles(self) -> tuple[tuple[Shape, ...], ...]:
        return tuple(
            tuple(
                tuple(int(side) for side in shape)
                for shape in self.engine.get_tensor_profile_shape(self.input_name, index)
            )
            for index in range(self.engine.num_optimization_profiles)
        )

    def __del__(self) -> None:
        # TensorRT's objects call the logger and the recorder while they are freed, and hold plain pointers
        for name in ("engine", "_runtime"):
            self.__dict__.pop(name, None)

    def create_context(self) -> IExecutionContext:
        """A context whose scratch memory is the caller's to allocate.  Raises :class:`EngineError`."""
        with ONE_AT_A_TIME:
            self.log.clear()
            context = self.engine.create_execution_context(self._how_to_run())
        if context is None:
            if self.log.out_of_memory is not None:
                raise EngineError(
                    f"out of device memory while the engine was made ready ({self.log.out_of_memory}); end other "
                    "programs, or build the plan for smaller frames"
                )
            raise EngineError(f"{self.library.title} could not make the engine ready: {self.log.reason()}")
        return context

    def _how_to_run(self) -> Any:
        """What a context is made with: its memory is ours to give, and RTX compiles before it runs."""
        module = self.library.module
        strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.library.name != "tensorrt_rtx":
            return strategy
        config = cast(IRtxCudaEngine, self.engine).create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        specialization = cast(RtxModule, module).DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        return config

    def _deserialize(self, plan: bytes, origin: Path, spec: EngineSpec | None, cuda: Cuda) -> ICudaEngine:
        with ONE_AT_A_TIME:
            engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise _refused(origin, spec, self.library, cuda, self.log)
        return engine

    def can_capture(self, context: IExecutionContext, stream_address: int) -> bool:
        """Whether a stream may capture this context's work now.  TensorRT always lets it be tried; RTX says."""
        if self.library.name != "tensorrt_rtx":
            return True
        return cast(IRtxExecutionContext, context).is_stream_capturable(stream_address)

    def information(self) -> str:
        """What the engine inspector tells of the layers, as JSON; "{}" where it tells nothing."""
        inspector = self.engine.create_engine_inspector()
        if inspector is None:
            return "{}"
        return inspector.get_engine_information(self.library.module.LayerInformationFormat.JSON)

    def profile_for(self, shape: Shape) -> int | None:
        """The profile whose ranges hold ``shape``: the one whose best shape is nearest in size."""
        fitting = [
            (abs(_volume(best) - _volume(shape)), index)
            for index, (least, best, most) in enumerate(self.profiles)
            if len(shape) == len(least) and all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))
        ]
        return min(fitting)[1] if fitting else None

    def largest_batch(self, height: int, width: int) -> int | None:
        """How many frames of a size one call takes, where it also takes any fewer; None where it takes none."""
        held = [
            (least[0], most[0])
            for least, _, most in self.profiles
            if least[1] <= height <= most[1] and least[2] <= width <= most[2]
        ]
        batch = 0
        for least_n, most_n in sorted(held):
            if least_n <= batch + 1:
                batch = max(batch, most_n)
        return batch or None


ONE_AT_A_TIME = threading.Lock()
"""Held while a stream is captured, a plan loaded or a context made: a capture fails where another thread of the
process synchronises the device meanwhile, which the other two do."""

_ENGINES: weakref.WeakValueDictionary[tuple[Any, ...], SharedEngine] = weakref.WeakValueDictionary()
_LOCK = threading.Lock()


def share_engine(
    plan: bytes,
    origin: Path,
    spec: EngineSpec | None,
    library: TensorRTLibrary,
    cuda: Cuda,
    allow_engine_code: bool,
) -> SharedEngine:
    """The engine of a plan: the one that another Segmenter of this process has open, or a new one.

    Plans are told apart by their content, so that a file that was replaced is read again.  Raises
    :class:`EngineError` where TensorRT refuses it, and :class:`EngineIncompatibleError` where that is because
    it was built for something else.
    """
    # where there is a record, its reader has held the plan against it
    content = spec.plan_sha256 if spec is not None else hashlib.sha256(plan).hexdigest()
    key = (content, library.name, library.version, cuda.index, allow_engine_code, id(library.module))
    with _LOCK:
        shared = _ENGINES.get(key)
        if shared is None:
            shared = SharedEngine(plan, origin, spec, library, cuda, allow_engine_code)
            _ENGINES[key] = shared
    return shared


def _make_runtime(library: TensorRTLibrary, logger: Any, log: TensorRTLog) -> IRuntime:
    """A ``Runtime``.  Raises :class:`BackendUnavailableError` where the library cannot use this driver."""
    try:
        return library.module.Runtime(logger)
    except (RuntimeError, TypeError) as error:  # pybind11 says TypeError where TensorRT gave a null pointer
        raise BackendUnavailableError(
            f"{library.title} cannot use the GPU ({log.reason()}); install the driver that this version asks for, or "
            "run the graph (.onnx) on the CPU"
        ) from error


def _tensors(library: TensorRTLibrary, engine: ICudaEngine) -> list[EngineTensor]:
    module = library.module
    found = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
        spec = tensor_spec(module, engine.get_tensor_dtype(name), engine.get_tensor_shape(name))
        found.append(EngineTensor(name, is_input, spec))
    return found


def _refused(
    origin: Path, spec: EngineSpec | None, library: TensorRTLibrary, cuda: Cuda, log: TensorRTLog
) -> EngineError:
    """Why a plan was refused, with what it was built by and what this is."""
    if log.out_of_memory is not None:
        return EngineError(
            f"{origin}: out of device memory while the plan was loaded ({log.out_of_memory}); end other programs, or "
            "use a card with more memory"
        )
    built = "its manifest does not say by what it was built"
    if spec is not None:
        card = spec.compute_capability
        kind = "every card from Ampere on" if card is None else f"compute capability {card}"
        built = f"it is of {spec.builder} {spec.builder_version} for {kind}"
    return EngineIncompatibleError(
        f"{origin}: {library.title} on {cuda.title} refuses the plan ({log.reason()}); {built}; build it again "
        f"here: {rebuild_command(origin)}"
    )


def _volume(shape: Shape) -> int:
    volume = 1
    for side in shape:
        volume *= side
    return volume
