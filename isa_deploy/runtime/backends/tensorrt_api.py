"""The part of TensorRT's Python API that isa-deploy uses, as protocols.

TensorRT ships no type stubs and three libraries have to fit: ``tensorrt`` 10.3 and later, ``tensorrt`` 11
and ``tensorrt_rtx``.  The module is chosen once (:mod:`isa_deploy.runtime.backends.tensorrt_library`) and
passed down as a :class:`TensorRTModule`, so mypy refuses any name that is not written here, and
``tests/test_tensorrt_api.py`` holds every name, enum member and parameter that is written here to the
genuine bindings of 10.3, 10.16, 11.4 and RTX 1.7.

A protocol is named as the class it describes with an ``I`` before it where the class has none.
Enum members are opaque: their ordinals moved between majors, so only names are used, never numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = [
    "IBuilder",
    "IBuilderConfig",
    "ICudaEngine",
    "IEngineInspector",
    "IExecutionContext",
    "IHostMemory",
    "INetworkDefinition",
    "IOnnxParser",
    "IOptimizationProfile",
    "IParserError",
    "IRtxBuilderConfig",
    "IRtxCudaEngine",
    "IRtxExecutionContext",
    "IRtxRuntimeConfig",
    "IRuntime",
    "ITensor",
    "ITimingCache",
    "RtxModule",
    "TensorRTModule",
]


class Severities(Protocol):
    """``ILogger.Severity``'s members, which the class ``ILogger`` carries itself.  Lower is worse."""

    INTERNAL_ERROR: Any
    ERROR: Any
    WARNING: Any


class BuilderFlags(Protocol):
    """``BuilderFlag``."""

    TF32: Any
    VERSION_COMPATIBLE: Any


class RtxBuilderFlags(BuilderFlags, Protocol):
    """``BuilderFlag`` of TensorRT-RTX.

    REQUIRE_USER_ALLOCATION: the engine asks for all its memory before it runs, which CUDA graphs need.
    """

    REQUIRE_USER_ALLOCATION: Any


class NetworkFlags(Protocol):
    """``NetworkDefinitionCreationFlag``.  ``create_network`` takes ``1 << int(flag)``."""

    STRONGLY_TYPED: Any


class MemoryPools(Protocol):
    """``MemoryPoolType``."""

    WORKSPACE: Any


class HardwareLevels(Protocol):
    """``HardwareCompatibilityLevel``."""

    AMPERE_PLUS: Any


class ProfilingVerbosities(Protocol):
    """``ProfilingVerbosity``.  DETAILED lets the inspector tell layers' types and tactics."""

    DETAILED: Any


class InformationFormats(Protocol):
    """``LayerInformationFormat``."""

    JSON: Any


class ContextStrategies(Protocol):
    """``ExecutionContextAllocationStrategy``.  USER_MANAGED: scratch memory is ours to allocate and share."""

    USER_MANAGED: Any


class IOModes(Protocol):
    """``TensorIOMode``."""

    INPUT: Any
    OUTPUT: Any


class DataTypes(Protocol):
    """``DataType``."""

    FLOAT: Any
    HALF: Any
    BF16: Any
    INT8: Any
    INT32: Any
    INT64: Any
    BOOL: Any
    UINT8: Any


class ErrorCodes(Protocol):
    """``ErrorCodeTRT``, what an error recorder is told."""

    FAILED_ALLOCATION: Any


class SpecializationStrategies(Protocol):
    """``DynamicShapesKernelSpecializationStrategy`` of TensorRT-RTX.

    EAGER: the kernels of a shape are compiled before it runs, not in the background while others stand in.
    """

    EAGER: Any


class ComputeCapabilities(Protocol):
    """``ComputeCapability`` of TensorRT-RTX.  The targets are SM75, SM80, ... : found by name."""

    CURRENT: Any


class IHostMemory(Protocol):
    """A buffer of TensorRT's; ``memoryview`` reads it."""

    @property
    def nbytes(self) -> int: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


class ITensor(Protocol):
    """A network's input or output.  ``shape`` has -1 where a side is free."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def shape(self) -> Sequence[int]: ...


class INetworkDefinition(Protocol):
    """A parsed network."""

    @property
    def num_layers(self) -> int: ...

    @property
    def num_inputs(self) -> int: ...

    @property
    def num_outputs(self) -> int: ...

    def get_input(self, index: int) -> ITensor: ...

    def get_output(self, index: int) -> ITensor: ...


class IParserError(Protocol):
    """One thing that the ONNX parser refused (``ParserError``)."""

    def desc(self) -> str: ...

    def node(self) -> int: ...

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...


class IOnnxParser(Protocol):
    """``OnnxParser``.  ``parse`` returns True for an empty buffer: check the network too."""

    @property
    def num_errors(self) -> int: ...

    def get_error(self, index: int) -> IParserError: ...

    def parse(self, model: bytes) -> bool: ...


class IOptimizationProfile(Protocol):
    """Ranges of a dynamic input's shape.  ``set_shape`` never fails; adding the profile does."""

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None: ...


class ITimingCache(Protocol):
    """Measured tactics, to be kept from build to build on one card and version."""

    def serialize(self) -> IHostMemory: ...


class IBuilderConfig(Protocol):
    """What a build is to do."""

    progress_monitor: Any
    profiling_verbosity: Any
    hardware_compatibility_level: Any

    def set_flag(self, flag: Any) -> None: ...

    def clear_flag(self, flag: Any) -> None: ...

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int: ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None: ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool: ...

    def get_timing_cache(self) -> ITimingCache | None: ...


class IRtxBuilderConfig(IBuilderConfig, Protocol):
    """TensorRT-RTX builds for cards that are not here."""

    num_compute_capabilities: int

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool: ...


class IBuilder(Protocol):
    """``Builder``."""

    error_recorder: Any

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def is_network_supported(self, network: INetworkDefinition, config: IBuilderConfig) -> bool: ...

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None: ...


class IEngineInspector(Protocol):
    """``EngineInspector``."""

    def get_engine_information(self, format: Any) -> str: ...


class IExecutionContext(Protocol):
    """One way of running an engine, with shapes and addresses of its own.  For one thread at a time."""

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool: ...

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...

    def infer_shapes(self) -> list[str]: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def update_device_memory_size_for_shapes(self) -> int: ...

    def set_device_memory(self, memory: int, size: int) -> None: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class IRtxExecutionContext(IExecutionContext, Protocol):
    """TensorRT-RTX compiles kernels when it first runs them, which must not happen inside a capture."""

    def is_stream_capturable(self, stream: int) -> bool: ...


class ICudaEngine(Protocol):
    """A deserialised plan.  Many contexts, of many threads, share one."""

    @property
    def num_io_tensors(self) -> int: ...

    @property
    def num_layers(self) -> int: ...

    @property
    def num_optimization_profiles(self) -> int: ...

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Any: ...

    def get_tensor_dtype(self, name: str) -> Any: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None: ...

    def create_engine_inspector(self) -> IEngineInspector | None: ...


class IRtxRuntimeConfig(Protocol):
    """How a context of TensorRT-RTX is to run (``IRuntimeConfig``)."""

    dynamic_shapes_kernel_specialization_strategy: Any

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...


class IRtxCudaEngine(ICudaEngine, Protocol):
    """``create_execution_context`` of TensorRT-RTX takes a runtime config in the strategy's place as well."""

    def create_runtime_config(self) -> IRtxRuntimeConfig: ...


class IRuntime(Protocol):
    """``Runtime``.  Without a GPU the process must have asked CUDA for one before it is made, or it crashes."""

    engine_host_code_allowed: bool
    error_recorder: Any

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None: ...


class TensorRTModule(Protocol):
    """``tensorrt`` or ``tensorrt_rtx``.

    ``ILogger``, ``IProgressMonitor`` and ``IErrorRecorder`` are base classes to derive from; whoever makes
    an object of a derived class keeps a reference to it while TensorRT may call it.
    """

    __version__: str

    BuilderFlag: BuilderFlags
    NetworkDefinitionCreationFlag: NetworkFlags
    MemoryPoolType: MemoryPools
    HardwareCompatibilityLevel: HardwareLevels
    ProfilingVerbosity: ProfilingVerbosities
    LayerInformationFormat: InformationFormats
    ExecutionContextAllocationStrategy: ContextStrategies
    TensorIOMode: IOModes
    DataType: DataTypes
    ErrorCodeTRT: ErrorCodes

    @property
    def ILogger(self) -> Any: ...

    @property
    def IProgressMonitor(self) -> Any: ...

    @property
    def IErrorRecorder(self) -> Any: ...

    def Builder(self, logger: Any) -> IBuilder: ...

    def OnnxParser(self, network: INetworkDefinition, logger: Any) -> IOnnxParser: ...

    def Runtime(self, logger: Any) -> IRuntime: ...


class RtxModule(TensorRTModule, Protocol):
    """``tensorrt_rtx`` has targets; ``tensorrt`` builds for the card that is there."""

    BuilderFlag: RtxBuilderFlags
    ComputeCapability: ComputeCapabilities
    DynamicShapesKernelSpecializationStrategy: SpecializationStrategies
