"""Builder, network, ONNX parser, configuration, profiles and timing caches."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from standin.members import Member
from standin.model import typed_tensors
from standin.plan import Plan, write_plan
from standin.reporting import Link, Reporter, call_back
from standin.values import Dims, host_memory, sides
from standin.world import WORLD

__all__ = ["make_builder_class", "make_parser_class"]

CACHE_MAGIC = b"SITC"


class _Canceled(Exception):  # noqa: N818  # it is no error
    """The progress monitor said stop."""


class _Tensor:
    """``ITensor``."""

    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        self._name = name
        self._dtype = dtype
        self._shape = shape

    @property
    def name(self) -> str:
        return self._name

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def shape(self) -> Dims:
        return Dims(self._shape)


class _Network:
    """``INetworkDefinition``; empty until something was parsed into it."""

    def __init__(self, builder: Any, library: Any) -> None:
        self._builder = Link(builder, "builder")
        self._library = library
        self._parser = Link(None, "parser")
        self._model: bytes = b""
        self._graph = onnx.GraphProto()

    def _alive(self) -> None:
        self._builder.get()
        self._parser.get()

    def _tensors(self, inputs: bool) -> list[_Tensor]:
        self._alive()
        types = self._library.DataType
        found = [each for each in typed_tensors(self._graph) if each.is_input == inputs]
        return [_Tensor(each.name, getattr(types, each.dtype), each.shape) for each in found]

    @property
    def num_layers(self) -> int:
        self._alive()
        return len(self._graph.node)

    @property
    def num_inputs(self) -> int:
        return len(self._tensors(True))

    @property
    def num_outputs(self) -> int:
        return len(self._tensors(False))

    def get_input(self, index: int) -> _Tensor:
        return self._tensors(True)[index]

    def get_output(self, index: int) -> _Tensor:
        return self._tensors(False)[index]


class _ParserError:
    """``ParserError``."""

    def __init__(self, text: str, index: int, node_name: str, operator: str) -> None:
        self._text = text
        self._index = index
        self._node_name = node_name
        self._operator = operator

    def desc(self) -> str:
        return self._text

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node_name

    def node_operator(self) -> str:
        return self._operator


def make_parser_class(library: Any) -> type:
    """``OnnxParser`` of a library."""

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            if not isinstance(network, _Network):
                raise TypeError(f"incompatible constructor arguments: {network!r} is no network")
            if network._builder.get().error_recorder is not None:
                WORLD.violate("a parser was made on a builder that has an error recorder already: RTX 1.7 crashes then")
            self._network = Link(network, "network")
            self._reporter = Reporter(logger, library.ILogger, library.ErrorCodeTRT)
            self._errors: list[_ParserError] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> _ParserError:
            return self._errors[index]

        def parse(self, model: bytes) -> bool:
            network = self._network.get()
            network._alive()
            content = bytes(model)
            WORLD.calls["parse"] += 1
            try:
                proto = onnx.load_from_string(content)
            except (DecodeError, ValueError):
                text = "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model."
                self._refuse(text, -1, "", "")
                return False
            for index, node in enumerate(proto.graph.node):
                if node.op_type == WORLD.knobs.refuse_op or node.domain not in ("", "ai.onnx"):
                    text = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
                    self._refuse(text, index, node.name, node.op_type)
                    return False
            network._model = content
            network._graph = proto.graph
            network._parser = Link(self, "parser")  # it owns the weights until the build is done
            return True

        def _refuse(self, text: str, index: int, node_name: str, operator: str) -> None:
            self._errors.append(_ParserError(text, index, node_name, operator))
            self._reporter.log_error(f"ModelImporter.cpp:140: While parsing node number {index} [{operator}]: {text}")

    return OnnxParser


class _Profile:
    """``IOptimizationProfile``; nothing is checked before it is added."""

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self._ranges[input] = (sides(min), sides(opt), sides(max))


class _TimingCache:
    """``ITimingCache``: a header with the library, version and card, and an entry a build."""

    def __init__(self, header: dict[str, str], entries: list[str]) -> None:
        self._header = header
        self._entries = entries

    def serialize(self) -> Any:
        return host_memory(CACHE_MAGIC + json.dumps([self._header, self._entries]).encode())


class _Config:
    """``IBuilderConfig``."""

    def __init__(self, builder: Any, library: Any, reporter: Reporter) -> None:
        self._builder = Link(builder, "builder")
        self._library = library
        self._reporter = reporter
        self._monitor = Link(None, "progress monitor")
        self._verbosity: Any = None
        self._hardware: Any = None
        self._flags: set[Any] = {library.BuilderFlag.TF32}
        self._profiles: list[_Profile] = []
        self._pools: dict[Any, int] = {}
        self._cache = Link(None, "timing cache")
        self._own_cache: _TimingCache | None = None
        self._capabilities: list[Any] = []

    @property
    def progress_monitor(self) -> Any:
        return self._monitor.get()

    @progress_monitor.setter
    def progress_monitor(self, monitor: Any) -> None:
        if monitor is not None and not isinstance(monitor, self._library.IProgressMonitor):
            raise TypeError(f"{monitor!r} is no IProgressMonitor")
        if monitor is not None and not getattr(monitor, "_made", False):
            raise TypeError("IProgressMonitor.__init__() must be called when overriding __init__")
        self._monitor = Link(monitor, "progress monitor")

    @property
    def profiling_verbosity(self) -> Any:
        return self._verbosity

    @profiling_verbosity.setter
    def profiling_verbosity(self, verbosity: Any) -> None:
        self._member(verbosity, self._library.ProfilingVerbosity)
        self._verbosity = verbosity

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._hardware

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level: Any) -> None:
        self._member(level, self._library.HardwareCompatibilityLevel)
        if self._library.is_rtx:
            self._reporter.warning("setHardwareCompatibilityLevel() is unsupported in TensorRT-RTX.")
            return
        self._hardware = level

    def set_flag(self, flag: Any) -> None:
        self._member(flag, self._library.BuilderFlag)
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._member(flag, self._library.BuilderFlag)
        self._flags.discard(flag)

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._member(pool, self._library.MemoryPoolType)
        if pool_size <= 0:
            WORLD.violate(f"set_memory_pool_limit was given {pool_size} bytes")
        self._pools[pool] = int(pool_size)

    def add_optimization_profile(self, profile: _Profile) -> int:
        self._builder.get()
        for name, (least, best, most) in profile._ranges.items():
            same_rank = len(least) == len(best) == len(most)
            if not same_rank or any(not 0 <= a <= b <= c for a, b, c in zip(least, best, most, strict=True)):
                self._reporter.error(
                    "IOptimizationProfile::isValid: Error Code 4: API Usage Error (Invalid optimization profiles for "
                    f"input tensors {name}, please ensure that the optimization profiles satisfy MIN<=OPT<=MAX.)",
                    "INVALID_CONFIG",
                )
                return -1
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> _TimingCache | None:
        content = bytes(serialized_timing_cache)
        if not content:
            return _TimingCache(_cache_header(self._library), [])
        if not content.startswith(CACHE_MAGIC):
            self._reporter.error(
                "IBuilderConfig::createTimingCache: Error Code 1: Serialization (the timing cache is not valid)",
                "INVALID_ARGUMENT",
            )
            return None
        header, entries = json.loads(content[len(CACHE_MAGIC) :])
        return _TimingCache(header, entries)

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        if not isinstance(cache, _TimingCache):
            raise TypeError(f"incompatible function arguments: {cache!r} is no timing cache")
        here = _cache_header(self._library)
        same_version = {**cache._header, "card": ""} == {**here, "card": ""}
        if not same_version or (cache._header != here and not ignore_mismatch):
            self._reporter.error(
                "IBuilderConfig::setTimingCache: Error Code 3: API Usage Error (the timing cache was made by another "
                "version or on another device)",
                "INVALID_ARGUMENT",
            )
            return False
        self._cache = Link(cache, "timing cache")
        return True

    def get_timing_cache(self) -> _TimingCache | None:
        if self._library.is_rtx:
            return None  # timing caches are no-ops there
        return self._cache.get() or self._own_cache

    def _member(self, value: Any, enumeration: Any) -> None:
        if value not in vars(enumeration).values():
            raise TypeError(f"incompatible function arguments: {value!r} is no {enumeration.__name__}")


class _RtxConfig(_Config):
    """With TensorRT-RTX's targets."""

    @property
    def num_compute_capabilities(self) -> int:
        return len(self._capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count: int) -> None:
        self._capabilities = (self._capabilities + [None] * count)[:count]

    def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
        self._member(compute_capability, self._library.ComputeCapability)
        if not 0 <= index < len(self._capabilities):
            self._reporter.error(
                "IBuilderConfig::setComputeCapability: Error Code 3: API Usage Error (Index of compute capability is "
                "not in a valid range.)",
                "INVALID_ARGUMENT",
            )
            return False
        self._capabilities[index] = compute_capability
        return True


def _cache_header(library: Any) -> dict[str, str]:
    card = f"{WORLD.knobs.device_name} {WORLD.knobs.compute_capability}"
    return {"library": library.name, "version": library.version, "card": card}


def make_builder_class(library: Any) -> type:
    """``Builder`` of a library."""

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._reporter = Reporter(logger, library.ILogger, library.ErrorCodeTRT)
            if not library.is_rtx and not library.has_device():
                self._reporter.log_error(
                    "createInferBuilder: Error Code 6: API Usage Error (CUDA initialization failure with error: "
                    f"{35 if WORLD.knobs.driver_too_old else 100}. Please check your CUDA installation.)"
                )
                raise TypeError("pybind11::init(): factory function returned nullptr")

        @property
        def error_recorder(self) -> Any:
            return self._reporter.recorder

        @error_recorder.setter
        def error_recorder(self, recorder: Any) -> None:
            self._reporter.set_recorder(recorder)

        def create_network(self, flags: int) -> _Network:
            self._reporter.alive()
            strong = 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            if flags & ~strong:
                WORLD.violate(f"create_network was given the flags {flags}, which {library.name} has not")
            if not library.always_strongly_typed and not flags & strong:
                WORLD.violate("create_network without STRONGLY_TYPED: TensorRT 10 would choose precisions of its own")
            return _Network(self, library)

        def create_builder_config(self) -> _Config:
            self._reporter.alive()
            return (_RtxConfig if library.is_rtx else _Config)(self, library, self._reporter)

        def create_optimization_profile(self) -> _Profile:
            self._reporter.alive()
            return _Profile()

        def is_network_supported(self, network: _Network, config: _Config) -> bool:
            self._reporter.alive()
            problem = _problem(network, config)
            if problem:
                self._reporter.error(
                    f"IBuilder::isNetworkSupported: Error Code 4: API Usage Error ({problem})", "INVALID_CONFIG"
                )
            return problem is None

        def build_serialized_network(self, network: _Network, config: _Config) -> Any:
            self._reporter.alive()
            config._builder.get()
            network._alive()
            config._cache.get()
            WORLD.calls["build_serialized_network"] += 1
            what = "IBuilder::buildSerializedNetwork"
            problem = _problem(network, config)
            if problem:
                self._reporter.error(f"{what}: Error Code 4: API Usage Error ({problem})", "INVALID_CONFIG")
                return None
            current = getattr(library, "ComputeCapability", None) and library.ComputeCapability.CURRENT
            if current in config._capabilities and not library.has_device():
                self._reporter.error(f"{what}: Error Code 1: Cuda Runtime (In generateForCurrent (cudaError 35))")
                return None
            try:
                with _Interrupts() as interrupts:
                    _Phases(config, len(network._graph.node), interrupts).run()
            except _Canceled:
                self._reporter.error(
                    f"{what}: Error Code 7: BuildCanceled (Build canceled by user)", "FAILED_EXECUTION"
                )
                return None
            if WORLD.knobs.builder_out_of_memory:
                self._reporter.error(
                    f"Requested amount of GPU memory ({WORLD.knobs.builder_out_of_memory} bytes) could not be "
                    "allocated. There may not be enough free memory for allocation to succeed.",
                    "FAILED_ALLOCATION",
                )
                return None
            return host_memory(_finish(network, config, library))

    return Builder


def _problem(network: _Network, config: _Config) -> str | None:
    """Why a network cannot be built, in TensorRT's words."""
    network._alive()
    if not network.num_outputs:
        return "Network must have at least one output."
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if not config._profiles:
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
        for number, profile in enumerate(config._profiles):
            if tensor.name not in profile._ranges:
                return f"Dynamic input tensor {tensor.name} is missing dimensions in profile {number}."
            for ends in profile._ranges[tensor.name]:
                if len(ends) != len(shape):
                    return (
                        f"Dynamic-shaped input tensor {tensor.name} has {len(shape)} dimensions but profile {number} "
                        f"has {len(ends)} dimensions."
                    )
                for axis, (side, end) in enumerate(zip(shape, ends, strict=True)):
                    if side not in (-1, end):
                        return (
                            f"Dimension mismatch for tensor {tensor.name} and profile {number}. At dimension axis "
                            f"{axis}, profile has {end} but tensor has {side}."
                        )
    return None


def _finish(network: _Network, config: _Config, library: Any) -> bytes:
    """The plan of a build that was not stopped."""
    content = network._model
    profiles = tuple({name: list(ranges) for name, ranges in each._ranges.items()} for each in config._profiles)
    if library.is_rtx:
        capabilities = tuple(_capability(each) for each in config._capabilities)
    else:
        capabilities = (WORLD.knobs.compute_capability,)
        cache = config._cache.get()
        if cache is None:
            cache = config._own_cache = _TimingCache(_cache_header(library), [])
        entry = hashlib.sha256(content + repr(profiles).encode()).hexdigest()
        if entry not in cache._entries:
            cache._entries.append(entry)
    return write_plan(
        Plan(
            library=library.name,
            version=library.version,
            compute_capabilities=capabilities,
            hardware_compatible=config._hardware is library.HardwareCompatibilityLevel.AMPERE_PLUS,
            version_compatible=library.BuilderFlag.VERSION_COMPATIBLE in config._flags,
            detailed=config._verbosity is library.ProfilingVerbosity.DETAILED,
            user_allocation=library.is_rtx and library.BuilderFlag.REQUIRE_USER_ALLOCATION in config._flags,
            profiles=profiles,
            onnx=content,
        )
    )


def _capability(member: Member | None) -> str:
    name = str(member).rpartition(".")[2]
    if not name.startswith("SM"):
        return WORLD.knobs.compute_capability
    return f"{name[2:-1]}.{name[-1]}"


class _Interrupts:
    """The builder is native code: where it runs in the main thread, a signal's handler waits for a callback there.

    Where the program builds in another thread, signals reach it as ever.
    """

    def __init__(self) -> None:
        self._handler: Any = None
        self._pending: tuple[int, Any] | None = None

    def __enter__(self) -> _Interrupts:
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and callable(handler):
            self._handler = handler
            signal.signal(signal.SIGINT, self._defer)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self.deliver()

    def deliver(self) -> None:
        """Python runs again: in the main thread the handler is called now, and may raise."""
        if self._pending is not None and threading.current_thread() is threading.main_thread():
            number, frame = self._pending
            self._pending = None
            self._handler(number, frame)

    def _defer(self, number: int, frame: Any) -> None:
        self._pending = (number, frame)


class _Phases:
    """The phases that the genuine builder reports, nested alike; some from a thread of its own."""

    def __init__(self, config: _Config, layers: int, interrupts: _Interrupts) -> None:
        self._config = config
        self._layers = layers
        self._interrupts = interrupts
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Report all of a build.  Raises :class:`_Canceled`."""
        self._phase("Building engine", None, 6, self._engine)

    def _engine(self) -> None:
        self._phase("Cloning network graph", "Building engine", self._layers + 3, None)
        self._phase("Preparing graph for optimization", "Building engine", 4, None)
        self._phase("Building engine from subgraph", "Building engine", 1, self._subgraph)

    def _subgraph(self) -> None:
        parent = "Building engine from subgraph"
        self._phase("Optimizing graph", parent, 30, None)
        self._phase("Computing profile costs", parent, 5, self._costs)

    def _costs(self) -> None:
        self._phase("Timing tactics", "Computing profile costs", 3, self._tactics)
        self._phase("Determining refit engines", "Computing profile costs", 1, None)

    def _tactics(self) -> None:
        seconds = WORLD.knobs.build_step_s
        self._phase("Timing graph nodes", "Timing tactics", WORLD.knobs.build_steps, None, seconds)
        self._in_thread(lambda: self._phase("Timing tensor reformats", "Timing tactics", 4, None, seconds))

    def _phase(
        self, name: str, parent: str | None, steps: int, inside: Callable[[], None] | None, seconds: float = 0.0
    ) -> None:
        self._tell("phase_start", name, parent, steps)
        try:
            if inside:
                inside()
            for step in range(steps):
                time.sleep(seconds)
                if self._tell("step_complete", name, step) is not True:
                    raise _Canceled
        finally:
            self._tell("phase_finish", name)

    def _tell(self, method: str, *args: Any) -> Any:
        monitor = self._config.progress_monitor
        if monitor is None:
            return True

        def call() -> Any:
            self._interrupts.deliver()
            return getattr(monitor, method)(*args)

        return call_back(call, method)

    def _in_thread(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except (_Canceled, AssertionError) as error:
                self._failure = error

        thread = threading.Thread(target=run, name="builder")
        thread.start()
        thread.join()
        if self._failure is not None:
            raise self._failure
