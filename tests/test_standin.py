"""The stand-in for TensorRT and CUDA: it has the protocols' surface, it runs plans, and it enforces the rules.

What a rule is for is told in ``tests/standin``; here each is broken once by raw calls.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from isa_deploy.runtime.backends import cuda_api, tensorrt_api

pytest_plugins = ("standin_fixtures",)

LIBRARIES = ("tensorrt", "tensorrt_rtx")


def small_onnx(shape: tuple[Any, ...] = ("n", "h", "w", 3)) -> bytes:
    """A graph with our inputs and outputs: labels are the channel of the largest value."""
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("ArgMax", ["values"], ["index"], name="largest", axis=3, keepdims=0),
        helper.make_node("Cast", ["index"], ["labels"], name="to_labels", to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, shape[:3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class Rig:
    """The pretended machine used by raw calls, with every object that has to live."""

    def __init__(self, gpu: Any, name: str = "tensorrt") -> None:
        self.gpu = gpu
        self.trt = importlib.import_module(name)
        self.cuda = importlib.import_module("cuda.bindings.runtime")
        self.logged: list[str] = []
        self.recorded: list[tuple[Any, str]] = []
        self.logger = self.make_logger()
        self.recorder = self.make_recorder()
        self.kept: list[Any] = []

    def make_logger(self) -> Any:
        rig = self

        class Logger(self.trt.ILogger):
            def log(self, severity: Any, msg: str) -> None:
                if severity in (rig.trt.ILogger.ERROR, rig.trt.ILogger.INTERNAL_ERROR):
                    rig.logged.append(msg)

        return Logger()

    def make_recorder(self) -> Any:
        rig = self

        class Recorder(self.trt.IErrorRecorder):
            def report_error(self, code: Any, text: str) -> bool:
                rig.recorded.append((code, text))
                return False

        return Recorder()

    def ok(self, answer: tuple[Any, ...]) -> Any:
        """The results of a call that has to succeed."""
        assert answer[0] is self.cuda.cudaError_t.cudaSuccess, answer
        return answer[1] if len(answer) == 2 else answer[1:]

    def error(self, answer: tuple[Any, ...]) -> str:
        """The name of a call's error."""
        return self.cuda.cudaGetErrorName(answer[0])[1].decode()

    def network(self, content: bytes) -> SimpleNamespace:
        """Builder, network, parser and configuration with ``content`` parsed."""
        builder = self.trt.Builder(self.logger)
        network = builder.create_network(1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = self.trt.OnnxParser(network, self.logger)
        builder.error_recorder = self.recorder
        parsed = parser.parse(content)
        made = SimpleNamespace(
            builder=builder, network=network, parser=parser, parsed=parsed, config=builder.create_builder_config()
        )
        self.kept.append(made)
        return made

    def profile(self, made: SimpleNamespace, *ends: tuple[int, ...]) -> int:
        """Add a profile; its least, best and largest shape."""
        profile = made.builder.create_optimization_profile()
        profile.set_shape("image", *ends)
        return made.config.add_optimization_profile(profile)

    def plan(self, content: bytes | None = None, change: Callable[[Any], None] | None = None) -> bytes:
        """A plan of a graph for 1 to 4 frames of up to 64x64."""
        made = self.network(content or small_onnx())
        made.config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
        assert self.profile(made, (1, 8, 8, 3), (1, 16, 16, 3), (4, 64, 64, 3)) == 0
        if change:
            change(made.config)
        built = made.builder.build_serialized_network(made.network, made.config)
        assert built is not None, self.recorded
        assert built.nbytes == len(bytes(built)) == len(memoryview(built))
        return bytes(built)

    def runtime(self) -> Any:
        self.cuda.cudaGetDeviceCount()
        runtime = self.trt.Runtime(self.logger)
        runtime.error_recorder = self.recorder
        self.kept.append(runtime)
        return runtime

    def engine(self, content: bytes | None = None) -> Any:
        engine = self.runtime().deserialize_cuda_engine(self.plan(content))
        assert engine is not None, self.recorded
        self.kept.append(engine)
        return engine

    def context(self, engine: Any = None) -> Any:
        return (engine or self.engine()).create_execution_context(
            self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )

    def stream(self) -> Any:
        return self.ok(self.cuda.cudaStreamCreateWithFlags(self.cuda.cudaStreamNonBlocking))

    def event(self) -> Any:
        return self.ok(self.cuda.cudaEventCreateWithFlags(self.cuda.cudaEventDisableTiming))

    def timed_event(self, stream: Any) -> Any:
        """An event that keeps its time, recorded on a stream."""
        event = self.ok(self.cuda.cudaEventCreateWithFlags(self.cuda.cudaEventBlockingSync))
        self.ok(self.cuda.cudaEventRecord(event, stream))
        return event

    def device(self, size: int) -> int:
        return self.ok(self.cuda.cudaMalloc(size))

    def pinned(self, size: int) -> tuple[int, np.ndarray]:
        """Pinned memory: its address and a view of it as uint8."""
        address = self.ok(self.cuda.cudaHostAlloc(size, self.cuda.cudaHostAllocDefault))
        holder = SimpleNamespace(
            __array_interface__={"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, False)}
        )
        return address, np.asarray(holder)

    def copy(self, target: int, source: int, size: int, direction: str, stream: Any) -> tuple[Any, ...]:
        kind = getattr(self.cuda.cudaMemcpyKind, f"cudaMemcpy{direction}")
        return self.cuda.cudaMemcpyAsync(target, source, size, kind, stream)


class Run:
    """A context that is ready to run 1x8x8 frames, in the order of calls that TensorRT asks for."""

    def __init__(self, rig: Rig, engine: Any = None, shape: tuple[int, ...] = (1, 8, 8, 3)) -> None:
        self.rig = rig
        self.stream = rig.stream()
        self.engine = engine or rig.engine()
        self.context = rig.context(self.engine)
        assert self.context.set_optimization_profile_async(0, int(self.stream))
        rig.ok(rig.cuda.cudaStreamSynchronize(self.stream))
        assert self.context.set_input_shape("image", shape)
        assert self.context.infer_shapes() == []
        self.scratch_bytes = self.context.update_device_memory_size_for_shapes()
        self.scratch = rig.device(self.scratch_bytes)
        self.context.set_device_memory(self.scratch, self.scratch_bytes)
        self.frame = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
        self.label_bytes = int(np.prod(self.context.get_tensor_shape("labels")))
        self.device_in, self.device_out = rig.device(self.frame.size), rig.device(self.label_bytes)
        assert self.context.set_tensor_address("image", self.device_in)
        assert self.context.set_tensor_address("labels", self.device_out)
        (self.host_in, self.pinned_in), (self.host_out, self.pinned_out) = (
            rig.pinned(self.frame.size),
            rig.pinned(self.label_bytes),
        )
        self.pinned_in[:] = self.frame.reshape(-1)

    def upload(self, stream: Any = None) -> None:
        self.rig.ok(self.rig.copy(self.device_in, self.host_in, self.frame.size, "HostToDevice", stream or self.stream))

    def execute(self, stream: Any = None) -> bool:
        return self.context.execute_async_v3(int(stream or self.stream))

    def download(self, stream: Any = None) -> None:
        self.rig.ok(
            self.rig.copy(self.host_out, self.device_out, self.label_bytes, "DeviceToHost", stream or self.stream)
        )

    def synchronize(self, stream: Any = None) -> None:
        self.rig.ok(self.rig.cuda.cudaStreamSynchronize(stream or self.stream))

    def all(self) -> np.ndarray:
        self.upload()
        assert self.execute()
        self.download()
        self.synchronize()
        return self.pinned_out.copy()

    def capture(self) -> tuple[Any, Any]:
        """What the end of a capture of one execution answers."""
        cuda = self.rig.cuda
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.rig.ok(cuda.cudaStreamBeginCapture(self.stream, mode))
        self.execute()
        return cuda.cudaStreamEndCapture(self.stream)

    def graph(self) -> Any:
        graph = self.rig.ok(self.capture())
        executable = self.rig.ok(self.rig.cuda.cudaGraphInstantiate(graph, 0))
        self.rig.ok(self.rig.cuda.cudaGraphDestroy(graph))
        return executable

    def close(self) -> None:
        cuda, ok = self.rig.cuda, self.rig.ok
        for address in (self.scratch, self.device_in, self.device_out):
            ok(cuda.cudaFree(address))
        for address in (self.host_in, self.host_out):
            ok(cuda.cudaFreeHost(address))
        ok(cuda.cudaStreamDestroy(self.stream))

    @property
    def expected(self) -> np.ndarray:
        return self.frame.argmax(3).reshape(-1)


@pytest.fixture
def rig(gpu: Any) -> Iterator[Rig]:
    made = Rig(gpu)
    yield made
    made.kept.clear()


@pytest.fixture
def run(rig: Rig) -> Run:
    return Run(rig)


# the surface


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def members(protocol: type) -> set[str]:
    """The public names that a protocol and its bases have."""
    names: set[str] = set()
    for base in protocol.__mro__:
        if getattr(base, "_is_protocol", False) and base is not Protocol:
            names |= {*base.__annotations__, *vars(base)} if "__annotations__" in vars(base) else set(vars(base))
    return {name for name in names if not name.startswith("_")}


def surface_difference(protocol: type, thing: Any) -> list[str]:
    """In what the public names and parameters of an object differ from its protocol's."""
    wanted, found = members(protocol), public(thing)
    problems = [f"lacks {name}" for name in wanted - found] + [f"has {name} besides" for name in found - wanted]
    for name in wanted & found:
        described = inspect.getattr_static(protocol, name, None)
        if not inspect.isfunction(described):
            continue
        theirs = [each for each in inspect.signature(described).parameters if each != "self"]
        ours = list(inspect.signature(getattr(thing, name)).parameters)
        if ours != theirs and not inspect.isclass(getattr(thing, name)):
            problems.append(f"{name} takes {ours} and not {theirs}")
        elif ours != theirs:
            problems.append(f"{name} is made of {ours} and not of {theirs}")
    return problems


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_surface_of_tensorrt_is_the_protocols_and_no_more(gpu: Any, name: str) -> None:
    rtx = name == "tensorrt_rtx"
    rig = Rig(gpu, name)
    trt = rig.trt
    made = rig.network(small_onnx())
    refused = rig.network(b"rubbish")
    engine = rig.engine()
    context = rig.context(engine)
    things: dict[type, Any] = {
        tensorrt_api.RtxModule if rtx else tensorrt_api.TensorRTModule: trt,
        tensorrt_api.IBuilder: made.builder,
        tensorrt_api.INetworkDefinition: made.network,
        tensorrt_api.ITensor: made.network.get_input(0),
        tensorrt_api.IOnnxParser: made.parser,
        tensorrt_api.IParserError: refused.parser.get_error(0),
        tensorrt_api.IRtxBuilderConfig if rtx else tensorrt_api.IBuilderConfig: made.config,
        tensorrt_api.IOptimizationProfile: made.builder.create_optimization_profile(),
        tensorrt_api.ITimingCache: made.config.create_timing_cache(b""),
        tensorrt_api.IHostMemory: made.config.create_timing_cache(b"").serialize(),
        tensorrt_api.IRuntime: rig.runtime(),
        tensorrt_api.IRtxCudaEngine if rtx else tensorrt_api.ICudaEngine: engine,
        tensorrt_api.IRtxExecutionContext if rtx else tensorrt_api.IExecutionContext: context,
        tensorrt_api.IEngineInspector: engine.create_engine_inspector(),
        tensorrt_api.Severities: trt.ILogger,
    }
    if rtx:
        things[tensorrt_api.IRtxRuntimeConfig] = engine.create_runtime_config()
    for attribute, protocol in typing.get_type_hints(
        tensorrt_api.RtxModule if rtx else tensorrt_api.TensorRTModule
    ).items():
        if attribute not in ("__version__", "ComputeCapability"):
            things[protocol] = getattr(trt, attribute)
    described = {each for each in vars(tensorrt_api).values() if getattr(each, "_is_protocol", False)} - {Protocol}
    only_rtx = {
        tensorrt_api.RtxModule,
        tensorrt_api.IRtxBuilderConfig,
        tensorrt_api.IRtxCudaEngine,
        tensorrt_api.IRtxExecutionContext,
        tensorrt_api.IRtxRuntimeConfig,
        tensorrt_api.RtxBuilderFlags,
        tensorrt_api.SpecializationStrategies,
        tensorrt_api.ComputeCapabilities,
    }
    based = {
        tensorrt_api.TensorRTModule,
        tensorrt_api.IBuilderConfig,
        tensorrt_api.ICudaEngine,
        tensorrt_api.IExecutionContext,
        tensorrt_api.BuilderFlags,
    }
    unchecked = described - set(things) - (based | {tensorrt_api.ComputeCapabilities} if rtx else only_rtx)
    assert unchecked == set()
    differences = {protocol.__name__: surface_difference(protocol, thing) for protocol, thing in things.items()}
    assert {name: found for name, found in differences.items() if found} == {}
    assert isinstance(trt.__version__, str)
    if rtx:  # the targets are found by name, and are these
        targets = {"SM75", "SM80", "SM86", "SM89", "SM120", "SM121"}
        assert public(trt.ComputeCapability) == targets | members(tensorrt_api.ComputeCapabilities)


def test_the_surface_of_cuda_is_the_protocols_and_no_more(gpu: Any) -> None:
    cuda = Rig(gpu).cuda
    assert surface_difference(cuda_api.CudaRuntimeModule, cuda) == []
    hints = typing.get_type_hints(cuda_api.CudaRuntimeModule)
    enumerations = {name: kind for name, kind in hints.items() if getattr(kind, "_is_protocol", False)}
    assert len(enumerations) == 5
    for name, protocol in enumerations.items():
        assert surface_difference(protocol, getattr(cuda, name)) == []


def test_a_difference_in_the_surface_is_found() -> None:
    class Described(Protocol):
        def same(self, first: int) -> None: ...

        def renamed(self, first: int) -> None: ...

        def lost(self) -> None: ...

    class Thing:
        def same(self, first: int) -> None: ...

        def renamed(self, other: int) -> None: ...

        def extra(self) -> None: ...

    found = sorted(surface_difference(Described, Thing()))
    assert found == ["has extra besides", "lacks lost", "renamed takes ['other'] and not ['first']"]


def test_enumeration_members_are_no_numbers(rig: Rig) -> None:
    assert rig.trt.DataType.HALF != 1
    with pytest.raises(TypeError):
        int(rig.trt.DataType.HALF)


@pytest.mark.parametrize(("version", "number"), [("10.16.1.11", 1), ("11.4.0.106", 0)])
def test_the_number_of_the_strongly_typed_flag_is_the_versions(rig: Rig, version: str, number: int) -> None:
    rig.gpu.knobs.tensorrt_version = version
    assert rig.trt.__version__ == version
    assert int(rig.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) == number
    assert int(importlib.import_module("tensorrt_rtx").NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0


# running


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_order_of_calls_that_tensorrt_asks_for_gives_onnxruntimes_labels(
    gpu: Any, streets_onnx: Path, name: str
) -> None:
    rig = Rig(gpu, name)
    content = (streets_onnx / "model.onnx").read_bytes()
    run = Run(rig, rig.engine(content), (1, 40, 56, 3))
    logits_shape = tuple(run.context.get_tensor_shape("logits"))
    logits = rig.device(int(np.prod(logits_shape)) * 4)
    assert run.context.set_tensor_address("logits", logits)
    labels = run.all()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected_labels, expected_logits = session.run(["labels", "logits"], {"image": run.frame})
    assert np.array_equal(labels, expected_labels.reshape(-1))
    assert expected_logits.shape == logits_shape
    found = np.frombuffer(gpu.read(logits, expected_logits.nbytes), np.float32)
    assert np.allclose(found, expected_logits.reshape(-1), atol=1e-4)
    executable = run.graph()
    run.pinned_in[:] = 255 - run.frame.reshape(-1)
    run.upload()
    rig.ok(rig.cuda.cudaGraphLaunch(executable, run.stream))
    run.download()
    run.synchronize()
    (negative,) = session.run(["labels"], {"image": 255 - run.frame})
    assert np.array_equal(run.pinned_out, negative.reshape(-1))
    assert not np.array_equal(negative, expected_labels)
    rig.ok(rig.cuda.cudaGraphExecDestroy(executable))
    rig.ok(rig.cuda.cudaFree(logits))
    run.close()
    assert gpu.live_allocations() == []
    assert gpu.live_handles() == []


def test_three_streams_with_events_between_them_overlap_two_frames(rig: Rig) -> None:
    engine = rig.engine()
    slots = [Run(rig, engine) for _ in range(2)]
    upload, compute, download = rig.stream(), slots[0].stream, rig.stream()
    for slot in slots:  # one scratch memory for both
        slot.context.set_device_memory(slots[0].scratch, slots[0].scratch_bytes)
    events = [(rig.event(), rig.event(), rig.event()) for _ in slots]
    results = []
    for number in range(6):
        slot, (uploaded, computed, downloaded) = slots[number % 2], events[number % 2]
        if number >= 2:
            rig.ok(rig.cuda.cudaEventSynchronize(downloaded))
            results.append(slot.pinned_out.copy())
        slot.pinned_in[:] = np.roll(slot.frame.reshape(-1), number)
        slot.upload(upload)
        rig.ok(rig.cuda.cudaEventRecord(uploaded, upload))
        rig.ok(rig.cuda.cudaStreamWaitEvent(compute, uploaded, 0))
        assert slot.execute(compute)
        rig.ok(rig.cuda.cudaEventRecord(computed, compute))
        rig.ok(rig.cuda.cudaStreamWaitEvent(download, computed, 0))
        slot.download(download)
        rig.ok(rig.cuda.cudaEventRecord(downloaded, download))
    frames = [np.roll(slots[0].frame.reshape(-1), number).reshape(slots[0].frame.shape) for number in range(4)]
    for result, frame in zip(results, frames, strict=True):
        assert np.array_equal(result, frame.argmax(3).reshape(-1))
    rig.ok(rig.cuda.cudaStreamSynchronize(download))


def test_nothing_is_there_before_it_is_waited_for(run: Run) -> None:
    run.upload()
    run.execute()
    run.download()
    assert (run.pinned_out == 0xA5).all()
    run.synchronize()
    assert np.array_equal(run.pinned_out, run.expected)
    run.download()  # what was there is rubbish again until it is waited for
    assert (run.pinned_out == 0xA5).all()
    run.synchronize()


def test_waiting_for_an_event_runs_no_more_than_is_before_it(run: Run) -> None:
    event = run.rig.event()
    run.upload()
    run.execute()
    run.rig.ok(run.rig.cuda.cudaEventRecord(event, run.stream))
    run.download()
    run.rig.ok(run.rig.cuda.cudaEventSynchronize(event))
    assert (run.pinned_out == 0xA5).all()
    run.synchronize()
    assert np.array_equal(run.pinned_out, run.expected)


def set_times(rig: Rig, upload_ms: float, execute_ms: float, download_ms: float) -> None:
    knobs = rig.gpu.knobs
    knobs.upload_ms, knobs.execute_ms, knobs.download_ms = upload_ms, execute_ms, download_ms


def test_work_takes_its_time_on_the_pretended_clock(run: Run) -> None:
    rig = run.rig
    set_times(rig, 3, 5, 2)
    run.all()
    graph = run.graph()
    ways: list[Callable[[], Any]] = [run.execute, lambda: rig.ok((*rig.cuda.cudaGraphLaunch(graph, run.stream), None))]
    for execute in ways:
        marks = [rig.timed_event(run.stream)]
        run.upload()
        marks.append(rig.timed_event(run.stream))
        execute()
        marks.append(rig.timed_event(run.stream))
        run.download()
        marks.append(rig.timed_event(run.stream))
        not_ready, nothing = rig.cuda.cudaEventElapsedTime(marks[0], marks[-1])
        assert not_ready == rig.cuda.cudaError_t.cudaErrorNotReady
        assert nothing is None
        run.synchronize()
        parts = [rig.ok(rig.cuda.cudaEventElapsedTime(*pair)) for pair in itertools.pairwise(marks)]
        assert parts == [3, 5, 2]
        assert rig.ok(rig.cuda.cudaEventElapsedTime(marks[-1], marks[0])) == -10


def test_streams_overlap_on_the_pretended_clock_where_no_event_orders_them(rig: Rig) -> None:
    set_times(rig, 3, 5, 2)
    one, other = rig.stream(), rig.stream()
    begun = rig.timed_event(one)
    device, (host, _) = rig.device(16), rig.pinned(16)
    second_device, (second_host, _) = rig.device(16), rig.pinned(16)
    kind = rig.cuda.cudaMemcpyKind
    rig.ok(rig.cuda.cudaMemcpyAsync(device, host, 16, kind.cudaMemcpyHostToDevice, one))
    uploaded = rig.timed_event(one)
    rig.ok(rig.cuda.cudaMemcpyAsync(second_host, second_device, 16, kind.cudaMemcpyDeviceToHost, other))
    beside = rig.timed_event(other)
    rig.ok(rig.cuda.cudaStreamWaitEvent(other, uploaded, 0))
    rig.ok(rig.cuda.cudaMemcpyAsync(second_host, device, 16, kind.cudaMemcpyDeviceToHost, other))
    after = rig.timed_event(other)
    rig.ok(rig.cuda.cudaEventSynchronize(after))
    ends = [rig.ok(rig.cuda.cudaEventElapsedTime(begun, each)) for each in (uploaded, beside, after)]
    assert ends == [3, 2, 5]
    late = rig.timed_event(rig.stream())  # on an idle stream: not before the host had seen the other's end
    assert rig.ok(rig.cuda.cudaEventElapsedTime(after, late)) == 0


def test_an_event_that_has_no_time_is_a_violation(run: Run) -> None:
    rig = run.rig
    timed = rig.timed_event(run.stream)
    untimed = rig.event()
    rig.ok(rig.cuda.cudaEventRecord(untimed, run.stream))
    unrecorded = rig.ok(rig.cuda.cudaEventCreateWithFlags(rig.cuda.cudaEventBlockingSync))
    with rig.gpu.expect_violation("keeps no time"):
        rig.cuda.cudaEventElapsedTime(timed, untimed)
    with rig.gpu.expect_violation("stands in no stream"):
        rig.cuda.cudaEventElapsedTime(unrecorded, timed)
    assert rig.gpu.timed_events == 2


def test_a_pitched_copy_packs_rows(rig: Rig) -> None:
    source = rig.gpu.allocate(bytes(range(60)))
    target, stream = rig.device(12), rig.stream()
    kind = rig.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    rig.ok(rig.cuda.cudaMemcpy2DAsync(target, 4, source + 1, 20, 4, 3, kind, stream))
    rig.ok(rig.cuda.cudaStreamSynchronize(stream))
    assert list(rig.gpu.read(target, 12)) == [1, 2, 3, 4, 21, 22, 23, 24, 41, 42, 43, 44]
    with rig.gpu.expect_violation("wider than their pitch"):
        rig.cuda.cudaMemcpy2DAsync(target, 4, source, 3, 4, 3, kind, stream)


def test_a_callers_frame_needs_an_event_of_the_callers_stream(rig: Rig) -> None:
    caller, mine, target = rig.stream(), rig.stream(), rig.device(64)
    frame = rig.gpu.allocate(bytes(64))
    rig.gpu.write(frame, b"\x07" * 64, caller)
    with rig.gpu.expect_violation("nothing orders the two"):
        rig.copy(target, frame, 64, "DeviceToDevice", mine)
    event = rig.event()
    rig.ok(rig.cuda.cudaEventRecord(event, caller))
    rig.ok(rig.cuda.cudaStreamWaitEvent(1, event, 0))
    rig.gpu.write(frame, b"\x08" * 64, 1)  # CUDA's own default stream, which a caller may use
    rig.ok(rig.cuda.cudaEventRecord(event, 1))
    rig.ok(rig.cuda.cudaStreamWaitEvent(mine, event, 0))
    rig.ok(rig.copy(target, frame, 64, "DeviceToDevice", mine))
    with rig.gpu.expect_violation("while work on it is pending"):
        rig.gpu.read(target, 64)
    rig.ok(rig.cuda.cudaStreamSynchronize(mine))
    assert rig.gpu.read(target, 64) == b"\x08" * 64


# memory


def test_new_memory_is_rubbish_and_aligned(rig: Rig) -> None:
    addresses = [rig.device(size) for size in (1, 1000, 77)]
    assert all(address % 256 == 0 for address in addresses)
    assert rig.gpu.read(addresses[1], 1000) == b"\xa5" * 1000
    assert (rig.pinned(50)[1] == 0xA5).all()
    assert len(rig.gpu.live_allocations()) == 4


def test_memory_is_given_back_once_and_as_what_it_is(rig: Rig) -> None:
    device, (host, _) = rig.device(16), rig.pinned(16)
    with rig.gpu.expect_violation("which is pinned host memory"):
        rig.cuda.cudaFree(host)
    with rig.gpu.expect_violation("which is device memory"):
        rig.cuda.cudaFreeHost(device)
    with rig.gpu.expect_violation("no start of device memory"):
        rig.cuda.cudaFree(device + 4)
    rig.ok(rig.cuda.cudaFree(device))
    rig.ok(rig.cuda.cudaFreeHost(host))
    with rig.gpu.expect_violation("a second time"):
        rig.cuda.cudaFree(device)
    with rig.gpu.expect_violation("a second time"):
        rig.cuda.cudaFreeHost(host)
    assert rig.gpu.live_allocations() == []


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("DeviceToHost", "it is pinned host memory"),
        ("DeviceToDevice", "it is pinned host memory"),
    ],
)
def test_a_copy_in_the_wrong_direction_is_a_violation(rig: Rig, direction: str, words: str) -> None:
    device, (host, _), stream = rig.device(16), rig.pinned(16), rig.stream()
    with rig.gpu.expect_violation(words):
        rig.copy(device, host, 16, direction, stream)


def test_a_copy_that_is_out_of_range_freed_or_not_pinned_is_a_violation(rig: Rig) -> None:
    device, (host, view), stream = rig.device(16), rig.pinned(32), rig.stream()
    view[:] = 0
    with rig.gpu.expect_violation("out of range"):
        rig.copy(device, host, 17, "HostToDevice", stream)
    plain = np.zeros(16, np.uint8)
    with rig.gpu.expect_violation("neither device memory nor pinned host memory"):
        rig.copy(device, plain.ctypes.data, 16, "HostToDevice", stream)
    rig.ok(rig.cuda.cudaFree(device))
    with rig.gpu.expect_violation("that was freed"):
        rig.copy(device, host, 16, "HostToDevice", stream)


def test_freeing_memory_of_pending_work_is_a_violation(run: Run) -> None:
    run.upload()
    for free, address in ((run.rig.cuda.cudaFree, run.device_in), (run.rig.cuda.cudaFreeHost, run.host_in)):
        with run.rig.gpu.expect_violation("which pending work uses"):
            free(address)
    run.synchronize()
    run.rig.ok(run.rig.cuda.cudaFree(run.device_in))


def test_writing_into_a_pinned_buffer_whose_copy_is_pending_is_a_violation(run: Run) -> None:
    run.upload()
    run.pinned_in[5] ^= 1
    with run.rig.gpu.expect_violation("the host wrote into pinned memory"):
        run.synchronize()


def test_more_memory_than_the_device_has_is_an_error_that_passes(rig: Rig) -> None:
    rig.gpu.knobs.device_memory = 4096
    held = rig.device(4000)
    assert rig.error(rig.cuda.cudaMalloc(97)) == "cudaErrorMemoryAllocation"
    assert rig.ok(rig.cuda.cudaMemGetInfo()) == (96, 4096)
    assert rig.error(rig.cuda.cudaGetLastError()) == "cudaErrorMemoryAllocation"
    assert rig.error(rig.cuda.cudaGetLastError()) == "cudaSuccess"
    rig.ok(rig.cuda.cudaFree(held))
    rig.device(4096)
    rig.gpu.knobs.pinned_memory = 10
    assert rig.error(rig.cuda.cudaHostAlloc(11, 0)) == "cudaErrorMemoryAllocation"


# streams


def test_work_on_other_streams_without_an_event_is_a_violation(run: Run) -> None:
    other = run.rig.stream()
    run.upload()
    with run.rig.gpu.expect_violation("nothing orders the two"):
        run.execute(other)
    run.synchronize()
    run.execute()
    with run.rig.gpu.expect_violation("nothing orders the two"):
        run.download(other)
    event = run.rig.event()
    run.rig.ok(run.rig.cuda.cudaStreamWaitEvent(other, event, 0))  # recorded too late: that waits for nothing
    run.rig.ok(run.rig.cuda.cudaEventRecord(event, run.stream))
    with run.rig.gpu.expect_violation("nothing orders the two"):
        run.download(other)


def test_one_scratch_memory_for_two_contexts_at_a_time_is_a_violation(rig: Rig) -> None:
    engine = rig.engine()
    first, second = Run(rig, engine), Run(rig, engine)
    second.context.set_device_memory(first.scratch, first.scratch_bytes)
    first.upload()
    second.upload()
    assert first.execute()
    with rig.gpu.expect_violation("nothing orders the two"):
        second.execute()


def test_the_default_stream_is_a_violation(run: Run) -> None:
    cuda = run.rig.cuda
    for call in (
        lambda: run.context.execute_async_v3(0),
        lambda: cuda.cudaStreamSynchronize(0),
        lambda: run.rig.copy(run.device_in, run.host_in, 4, "HostToDevice", 1),
        lambda: cuda.cudaEventRecord(run.rig.event(), 0),
        lambda: run.context.set_optimization_profile_async(0, 0),
    ):
        with run.rig.gpu.expect_violation("default stream"):
            call()
    with run.rig.gpu.expect_violation("blocks on the default stream"):
        cuda.cudaStreamCreateWithFlags(0)


def test_destroyed_handles_are_violations(rig: Rig) -> None:
    stream, event = rig.stream(), rig.event()
    rig.ok(rig.cuda.cudaStreamDestroy(stream))
    rig.ok(rig.cuda.cudaEventDestroy(event))
    for call in (
        lambda: rig.cuda.cudaStreamSynchronize(stream),
        lambda: rig.cuda.cudaStreamDestroy(stream),
        lambda: rig.cuda.cudaEventSynchronize(event),
        lambda: rig.cuda.cudaEventRecord(event, rig.stream()),
    ):
        with rig.gpu.expect_violation("was destroyed"):
            call()
    with rig.gpu.expect_violation("is none"):
        rig.cuda.cudaStreamSynchronize(12345)


def test_destroying_a_stream_with_pending_work_is_a_violation(run: Run) -> None:
    run.upload()
    with run.rig.gpu.expect_violation("pending work"):
        run.rig.cuda.cudaStreamDestroy(run.stream)
    run.synchronize()
    run.rig.ok(run.rig.cuda.cudaStreamDestroy(run.stream))


# TensorRT's order


def test_a_runtime_before_the_device_check_is_a_violation(rig: Rig) -> None:
    with rig.gpu.expect_violation("before cudaGetDeviceCount"):
        rig.trt.Runtime(rig.logger)


def test_every_step_that_is_left_out_is_a_violation(rig: Rig) -> None:
    expect = rig.gpu.expect_violation
    context, stream = rig.context(), rig.stream()
    execute = lambda: context.execute_async_v3(int(stream))  # noqa: E731
    with expect("before set_optimization_profile_async"):
        context.set_input_shape("image", (1, 8, 8, 3))
    assert context.set_optimization_profile_async(0, int(stream))
    with expect("the shape of image is not set"):
        execute()
    assert context.infer_shapes() == ["image"]
    assert context.get_tensor_shape("labels") == (-1, -1, -1)
    with expect("before every shape is set"):
        context.update_device_memory_size_for_shapes()
    assert context.set_input_shape("image", (1, 8, 8, 3))
    with expect("before infer_shapes"):
        execute()
    assert context.infer_shapes() == []
    assert context.get_tensor_shape("labels") == (1, 8, 8)
    scratch = rig.device(1 << 16)
    with expect("told its size"):
        context.set_device_memory(scratch, 1 << 16)
    size = context.update_device_memory_size_for_shapes()
    with expect("before set_device_memory"):
        execute()
    with expect("not aligned"):
        context.set_device_memory(scratch + 8, size)
    with expect("are needed"):
        context.set_device_memory(scratch, size - 1)
    with expect("out of range"):
        context.set_device_memory(scratch, 1 << 17)
    context.set_device_memory(scratch, size)
    with expect("the address of image is not set"):
        execute()
    image, labels = rig.device(192), rig.device(256)
    assert context.set_tensor_address("image", image)
    with expect("the address of labels is not set"):
        execute()
    with expect("not aligned"):
        context.set_tensor_address("labels", labels + 1)
    with expect("it is pinned host memory"):
        context.set_tensor_address("labels", rig.pinned(64)[0])
    with expect("which the plan has not"):
        context.set_tensor_address("other", labels)
    small = rig.device(63)
    assert context.set_tensor_address("labels", small)
    with expect("out of range"):
        execute()
    assert context.set_tensor_address("labels", labels)
    other = rig.stream()
    with expect("not ordered after set_optimization_profile_async"):
        context.execute_async_v3(int(other))
    assert execute()
    assert context.set_input_shape("image", (4, 64, 64, 3))
    assert context.infer_shapes() == []
    with expect("before set_device_memory"):
        execute()
    assert context.update_device_memory_size_for_shapes() > size
    with expect("of scratch memory"):
        execute()
    rig.ok(rig.cuda.cudaStreamSynchronize(stream))
    rig.ok(rig.cuda.cudaFree(labels))
    with expect("that was freed"):
        context.set_tensor_address("labels", labels)


def test_freed_scratch_memory_is_a_violation(run: Run) -> None:
    run.rig.ok(run.rig.cuda.cudaFree(run.scratch))
    with run.rig.gpu.expect_violation("that was freed"):
        run.execute()


def test_a_shape_outside_the_profile_is_refused_and_explained(run: Run) -> None:
    for shape in ((1, 7, 8, 3), (5, 8, 8, 3), (1, 8, 8, 4), (8, 8, 3)):
        assert not run.context.set_input_shape("image", shape)
        assert "Valid range for profile 0: [1, 8, 8, 3]..[4, 64, 64, 3]" in run.rig.recorded.pop()[1]
    assert not run.context.set_optimization_profile_async(1, int(run.stream))
    assert np.array_equal(run.all(), run.expected)


def test_an_engine_tells_its_tensors_and_profiles(rig: Rig) -> None:
    engine = rig.engine()
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == ["image", "labels"]
    assert engine.get_tensor_mode("image") is rig.trt.TensorIOMode.INPUT
    assert engine.get_tensor_dtype("labels") is rig.trt.DataType.UINT8
    assert engine.get_tensor_shape("image") == (-1, -1, -1, 3)
    assert engine.num_optimization_profiles == 1
    ends = engine.get_tensor_profile_shape("image", 0)
    assert [tuple(each) for each in ends] == [(1, 8, 8, 3), (1, 16, 16, 3), (4, 64, 64, 3)]
    assert engine.num_layers == 3


def test_a_context_in_two_threads_at_a_time_is_a_violation(run: Run) -> None:
    run.rig.gpu.knobs.context_call_s = 0.2
    thread = threading.Thread(target=run.context.infer_shapes)
    thread.start()
    time.sleep(0.05)
    with run.rig.gpu.expect_violation("another thread"):
        run.context.infer_shapes()
    thread.join()


# what has to live


def test_a_freed_logger_is_a_violation(rig: Rig) -> None:
    runtime, plan = rig.runtime(), rig.plan()
    rig.logger = None
    gc.collect()
    with rig.gpu.expect_violation("the logger was freed"):
        runtime.deserialize_cuda_engine(plan)


def test_a_freed_error_recorder_is_a_violation(run: Run) -> None:
    run.rig.recorder = None
    gc.collect()
    with run.rig.gpu.expect_violation("the error recorder was freed"):
        run.execute()


def test_a_freed_runtime_or_engine_is_a_violation(run: Run) -> None:
    run.rig.kept.clear()
    gc.collect()
    with run.rig.gpu.expect_violation("the runtime was freed"):
        run.execute()
    run.engine = None
    gc.collect()
    with run.rig.gpu.expect_violation("the engine was freed"):
        run.execute()


def test_a_context_that_is_freed_with_pending_work_is_a_violation(run: Run) -> None:
    run.upload()
    run.execute()
    run.context = None
    gc.collect()
    with run.rig.gpu.expect_violation("freed while its work was pending"):
        run.synchronize()


@pytest.mark.parametrize(
    ("part", "words"),
    [("parser", "the parser was freed"), ("network", "the network was freed"), ("monitor", "monitor")],
)
def test_a_freed_part_of_a_build_is_a_violation(rig: Rig, part: str, words: str) -> None:
    made = rig.network(small_onnx())
    rig.kept.clear()
    rig.profile(made, (1, 8, 8, 3), (1, 8, 8, 3), (1, 8, 8, 3))
    made.monitor = rig.trt.IProgressMonitor()
    made.config.progress_monitor = made.monitor
    delattr(made, part)
    gc.collect()
    with rig.gpu.expect_violation(words):
        if part == "network":
            made.parser.parse(small_onnx())
        else:
            made.builder.build_serialized_network(made.network, made.config)


def test_a_freed_builder_or_timing_cache_is_a_violation(rig: Rig) -> None:
    made = rig.network(small_onnx())
    rig.kept.clear()
    assert made.config.set_timing_cache(made.config.create_timing_cache(b""), False)
    with rig.gpu.expect_violation("the timing cache was freed"):
        made.builder.build_serialized_network(made.network, made.config)
    del made.builder
    gc.collect()
    with rig.gpu.expect_violation("the builder was freed"):
        _ = made.network.num_layers


def test_a_parser_on_a_builder_with_an_error_recorder_is_a_violation(rig: Rig) -> None:
    builder = rig.trt.Builder(rig.logger)
    builder.error_recorder = rig.recorder
    network = builder.create_network(1 << int(rig.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    with rig.gpu.expect_violation("error recorder already"):
        rig.trt.OnnxParser(network, rig.logger)


def test_an_object_whose_base_was_not_initialised_is_refused(rig: Rig) -> None:
    class Logger(rig.trt.ILogger):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="must be called when overriding"):
        rig.trt.Builder(Logger())


# graphs


def test_a_capture_before_a_plain_execution_fails(run: Run) -> None:
    error, graph = run.capture()
    assert error is not run.rig.cuda.cudaError_t.cudaSuccess
    assert graph is None
    assert np.array_equal(run.all(), run.expected)
    run.rig.ok(run.capture())
    assert run.context.set_input_shape("image", (1, 8, 8, 3))  # nothing new
    run.rig.ok(run.capture())
    assert run.context.set_input_shape("image", (1, 16, 8, 3))
    assert run.context.set_input_shape("image", (1, 8, 8, 3))
    assert run.context.infer_shapes() == []
    run.context.set_device_memory(run.scratch, run.context.update_device_memory_size_for_shapes())
    assert run.rig.error(run.capture()) == "cudaErrorStreamCaptureInvalidated"


def test_a_capture_may_be_refused(run: Run) -> None:
    run.rig.gpu.knobs.refuse_capture = True
    run.all()
    assert run.rig.error(run.capture()) == "cudaErrorStreamCaptureUnsupported"
    assert np.array_equal(run.all(), run.expected)


@pytest.mark.parametrize("unsafe", ["cudaMalloc", "cudaStreamSynchronize"])
def test_waiting_or_allocating_in_a_capture_ends_it(run: Run, unsafe: str) -> None:
    run.all()
    cuda = run.rig.cuda
    run.rig.ok(cuda.cudaStreamBeginCapture(run.stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal))
    call = getattr(cuda, unsafe)
    argument = 16 if unsafe == "cudaMalloc" else run.stream
    elsewhere: list[Any] = []
    if unsafe == "cudaMalloc":  # of another thread it is allowed
        thread = threading.Thread(target=lambda: elsewhere.append(call(argument)))
        thread.start()
        thread.join()
        run.rig.ok(elsewhere[0])
    assert run.rig.error(call(argument)) == "cudaErrorStreamCaptureUnsupported"
    assert run.rig.error(cuda.cudaStreamEndCapture(run.stream)) == "cudaErrorStreamCaptureInvalidated"


@pytest.mark.parametrize("change", ["shape", "address", "memory", "profile"])
def test_launching_a_graph_whose_context_was_changed_is_a_violation(rig: Rig, change: str) -> None:
    made = rig.network(small_onnx())
    for _ in range(2):
        rig.profile(made, (1, 8, 8, 3), (1, 8, 8, 3), (4, 64, 64, 3))
    plan = bytes(made.builder.build_serialized_network(made.network, made.config))
    engine = rig.runtime().deserialize_cuda_engine(plan)
    run = Run(rig, engine)
    run.all()
    executable = run.graph()
    rig.ok(rig.cuda.cudaGraphLaunch(executable, run.stream))
    run.context.set_input_shape("image", (1, 8, 8, 3))  # nothing new
    rig.ok(rig.cuda.cudaGraphLaunch(executable, run.stream))
    if change == "shape":
        run.context.set_input_shape("image", (1, 9, 8, 3))
    elif change == "address":
        run.context.set_tensor_address("labels", rig.device(64))
    elif change == "memory":
        run.context.set_device_memory(rig.device(run.scratch_bytes), run.scratch_bytes)
    else:
        run.context.set_optimization_profile_async(1, int(run.stream))
    with rig.gpu.expect_violation("changed since the capture"):
        rig.cuda.cudaGraphLaunch(executable, run.stream)
    run.synchronize()


def test_a_graph_is_launched_as_an_executable_that_lives(run: Run) -> None:
    run.all()
    graph = run.rig.ok(run.capture())
    with run.rig.gpu.expect_violation("was given a graph"):
        run.rig.cuda.cudaGraphLaunch(graph, run.stream)
    executable = run.rig.ok(run.rig.cuda.cudaGraphInstantiate(graph, 0))
    run.rig.ok(run.rig.cuda.cudaGraphExecDestroy(executable))
    with run.rig.gpu.expect_violation("was destroyed"):
        run.rig.cuda.cudaGraphLaunch(executable, run.stream)


def test_tensorrt_rtx_tells_whether_a_stream_can_capture(gpu: Any) -> None:
    """One that needs no memory at run time, and whose kernels are not compiled in the background."""
    rig = Rig(gpu, "tensorrt_rtx")
    flag, eager = rig.trt.BuilderFlag.REQUIRE_USER_ALLOCATION, rig.trt.DynamicShapesKernelSpecializationStrategy.EAGER
    for allocates, lazy in ((False, False), (True, False), (False, True)):
        plan = rig.plan(change=None if allocates else lambda config: config.set_flag(flag))
        engine = rig.runtime().deserialize_cuda_engine(plan)
        rig.kept.append(engine)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(rig.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if not lazy:
            config.dynamic_shapes_kernel_specialization_strategy = eager
        rig.context = lambda engine, config=config: engine.create_execution_context(config)
        run = Run(rig, engine)
        assert not run.context.is_stream_capturable(int(run.stream))
        run.all()
        assert run.context.is_stream_capturable(int(run.stream)) is not (allocates or lazy)
    gpu.knobs.refuse_capture = True
    assert not run.context.is_stream_capturable(int(run.stream))


def test_what_the_stand_in_does_not_model_is_refused(rig: Rig) -> None:
    """Calls that CUDA or TensorRT may allow and ours have no use for."""
    cuda, run = rig.cuda, Run(rig)
    device, host, kind = rig.device(16), rig.pinned(16)[0], cuda.cudaMemcpyKind
    mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    capturing, event = rig.stream(), rig.event()
    executable_run = Run(rig, run.engine)
    executable_run.all()
    executable = executable_run.graph()
    made = rig.network(small_onnx())
    refused: list[tuple[str, Callable[[], Any]]] = [
        ("cudaHostAlloc was given the flags 4", lambda: cuda.cudaHostAlloc(1, 4)),
        ("one that keeps time is to be waited for asleep", lambda: cuda.cudaEventCreateWithFlags(0)),
        ("was given the direction", lambda: cuda.cudaMemcpyAsync(device, host, 4, 1, run.stream)),
        (
            "ranges that overlap",
            lambda: cuda.cudaMemcpyAsync(device, device + 2, 4, kind.cudaMemcpyDeviceToDevice, run.stream),
        ),
        ("was given the mode", lambda: cuda.cudaStreamBeginCapture(run.stream, 0)),
        ("that does not capture", lambda: cuda.cudaStreamEndCapture(run.stream)),
        ("for the output 'labels'", lambda: run.engine.get_tensor_profile_shape("labels", 0)),
        ("profile 1, which is none", lambda: run.engine.get_tensor_profile_shape("image", 1)),
        ("was given the strategy", lambda: run.engine.create_execution_context(None)),
        ("was given the format", lambda: run.engine.create_engine_inspector().get_engine_information(None)),
        ("given None for a handle", lambda: cuda.cudaStreamSynchronize(None)),
        ("was given 0 bytes", lambda: made.config.set_memory_pool_limit(rig.trt.MemoryPoolType.WORKSPACE, 0)),
    ]
    for words, call in refused:
        with rig.gpu.expect_violation(words):
            call()
    rig.ok(cuda.cudaStreamBeginCapture(capturing, mode))
    rig.ok(cuda.cudaEventRecord(event, capturing))
    refused = [
        ("destroys a stream that captures", lambda: cuda.cudaStreamDestroy(capturing)),
        ("cudaStreamWaitEvent in a capture", lambda: cuda.cudaStreamWaitEvent(run.stream, event, 0)),
        ("captures already", lambda: cuda.cudaStreamBeginCapture(capturing, mode)),
        ("cudaGraphLaunch in a capture", lambda: cuda.cudaGraphLaunch(executable, capturing)),
        (
            "set_optimization_profile_async in a capture",
            lambda: run.context.set_optimization_profile_async(0, int(capturing)),
        ),
    ]
    for words, call in refused:
        with rig.gpu.expect_violation(words):
            call()
    raised: list[str] = []

    def elsewhere() -> None:
        with rig.gpu.expect_violation("waits for an event of a capture"):
            cuda.cudaEventSynchronize(event)
        with rig.gpu.expect_violation("by another thread"):
            cuda.cudaStreamEndCapture(capturing)
        raised.append("both")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert raised == ["both"]


def test_a_graph_whose_context_was_freed_is_a_violation(run: Run) -> None:
    run.all()
    executable = run.graph()
    run.context = None
    gc.collect()
    with run.rig.gpu.expect_violation("whose context was freed"):
        run.rig.cuda.cudaGraphLaunch(executable, run.stream)


# faults


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize(
    ("knob", "value", "error"),
    [("device_count", 0, "cudaErrorNoDevice"), ("driver_too_old", True, "cudaErrorInsufficientDriver")],
)
def test_without_a_device_nothing_runs(gpu: Any, name: str, knob: str, value: Any, error: str) -> None:
    rig = Rig(gpu, name)
    plan = rig.plan()
    setattr(gpu.knobs, knob, value)
    assert rig.cuda.cudaGetDeviceCount()[1] is None
    assert rig.error(rig.cuda.cudaGetDeviceCount()) == error
    assert rig.error(rig.cuda.cudaMalloc(5)) == error
    if name == "tensorrt":
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            rig.trt.Runtime(rig.logger)
        with pytest.raises(TypeError, match="factory function returned nullptr"):
            rig.trt.Builder(rig.logger)
        assert "CUDA initialization failure" in rig.logged[-1]
    else:
        assert rig.runtime().deserialize_cuda_engine(plan) is None
        assert rig.plan(change=lambda config: setattr(config, "num_compute_capabilities", 0))


def test_a_function_that_is_to_fail_fails_alone(rig: Rig) -> None:
    rig.gpu.knobs.fail_call = "cudaMalloc"
    assert rig.error(rig.cuda.cudaMalloc(5)) == rig.error(rig.cuda.cudaGetLastError()) == "cudaErrorInvalidValue"
    rig.stream()
    rig.gpu.knobs.no_driver_library = True
    with pytest.raises(RuntimeError, match="dlopen"):
        rig.cuda.cudaGetDeviceCount()


def test_each_thread_has_a_gpu_of_its_own_and_what_is_made_lies_on_it(rig: Rig) -> None:
    rig.gpu.knobs.device_count = 2
    seen = []
    rig.ok(rig.cuda.cudaSetDevice(1))
    thread = threading.Thread(target=lambda: seen.append(rig.ok(rig.cuda.cudaGetDevice())))
    thread.start()
    thread.join()
    assert (seen, rig.ok(rig.cuda.cudaGetDevice())) == ([0], 1)
    assert rig.error(rig.cuda.cudaSetDevice(2)) == "cudaErrorInvalidDevice"
    address = rig.device(5)
    assert rig.gpu.devices_in_use() == {1}
    attributes = rig.ok(rig.cuda.cudaPointerGetAttributes(address + 3))
    assert (attributes.type, attributes.device) == (rig.cuda.cudaMemoryType.cudaMemoryTypeDevice, 1)
    managed = rig.ok(rig.cuda.cudaPointerGetAttributes(rig.gpu.allocate(b"abc", managed=True)))
    assert managed.type is rig.cuda.cudaMemoryType.cudaMemoryTypeManaged
    pinned, _ = rig.pinned(5)
    rig.ok(rig.cuda.cudaFree(address))
    for other, kind in ((pinned, "Host"), (address, "Unregistered"), (4096, "Unregistered")):
        assert str(rig.ok(rig.cuda.cudaPointerGetAttributes(other)).type) == f"cudaMemoryType.cudaMemoryType{kind}"


def test_work_for_a_gpu_that_is_not_current_is_a_violation(run: Run) -> None:
    run.rig.gpu.knobs.device_count = 2
    run.rig.ok(run.rig.cuda.cudaSetDevice(1))
    with run.rig.gpu.expect_violation("into a stream of GPU 0 while GPU 1 is current"):
        run.execute()
    run.rig.ok(run.rig.cuda.cudaSetDevice(0))
    assert np.array_equal(run.all(), run.expected)


def test_an_execution_that_fails_says_so(run: Run) -> None:
    run.rig.gpu.fail_execute_in(2)
    run.all()
    assert not run.execute()
    assert "enqueueV3" in run.rig.recorded[-1][1]
    assert np.array_equal(run.all(), run.expected)


@pytest.mark.parametrize("how", ["cudaErrorIllegalAddress", "cudaErrorLaunchFailure"])
def test_a_lost_device_stays_lost(run: Run, how: str) -> None:
    cuda = run.rig.cuda
    run.rig.gpu.knobs.lost_as = how
    run.rig.gpu.lose_device_in(2)
    run.all()
    run.upload()
    assert run.rig.error(cuda.cudaStreamSynchronize(run.stream)) == how
    assert run.rig.error(cuda.cudaGetLastError()) == how
    assert run.rig.error(cuda.cudaMalloc(5)) == how
    assert not run.execute()
    assert run.rig.error(cuda.cudaGetDeviceCount()) == how
    for address in (run.scratch, run.device_in, run.device_out):
        assert run.rig.error(cuda.cudaFree(address)) == how
    for address in (run.host_in, run.host_out):
        cuda.cudaFreeHost(address)
    cuda.cudaStreamDestroy(run.stream)
    assert run.rig.gpu.live_allocations() == []
    assert run.rig.gpu.live_handles() == []


# plans


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: b"",
        lambda plan: plan[:10],
        lambda plan: plan[:-1],
        lambda plan: b"ftrt" * 99,
        lambda plan: plan[:-20] + bytes(20),
    ],
)
def test_a_damaged_plan_is_refused(rig: Rig, damage: Callable[[bytes], bytes]) -> None:
    assert rig.runtime().deserialize_cuda_engine(damage(rig.plan())) is None
    assert "deserializeCudaEngine" in rig.recorded[-1][1]


def test_a_plan_of_another_version_card_or_library_is_refused_in_tensorrts_words(rig: Rig) -> None:
    plan, runtime = rig.plan(), rig.runtime()
    rig.gpu.knobs.compute_capability = "9.0"
    assert runtime.deserialize_cuda_engine(plan) is None
    assert "generated on an incompatible device" in rig.recorded[-1][1]
    rig.gpu.knobs.compute_capability = "8.9"
    rig.gpu.knobs.tensorrt_version = "10.13.0.35"
    assert runtime.deserialize_cuda_engine(plan) is None
    assert "expecting library version 10.13.0.35 got 10.16.1.11, please rebuild." in rig.recorded[-1][1]
    rtx = Rig(rig.gpu, "tensorrt_rtx")
    assert rtx.runtime().deserialize_cuda_engine(plan) is None
    assert "Magic tag does not match" in rtx.recorded[-1][1]


def test_a_hardware_compatible_plan_runs_on_other_cards(rig: Rig) -> None:
    def compatible(config: Any) -> None:
        config.hardware_compatibility_level = rig.trt.HardwareCompatibilityLevel.AMPERE_PLUS

    plan, runtime = rig.plan(change=compatible), rig.runtime()
    rig.gpu.knobs.compute_capability = "9.0"
    assert runtime.deserialize_cuda_engine(plan) is not None
    rig.gpu.knobs.compute_capability = "7.5"
    assert runtime.deserialize_cuda_engine(plan) is None


def test_a_version_compatible_plan_holds_host_code(rig: Rig) -> None:
    plan = rig.plan(change=lambda config: config.set_flag(rig.trt.BuilderFlag.VERSION_COMPATIBLE))
    rig.gpu.knobs.tensorrt_version = "10.13.0.35"
    runtime = rig.runtime()
    assert runtime.deserialize_cuda_engine(plan) is None
    assert "host code" in rig.recorded[-1][1]
    runtime.engine_host_code_allowed = True
    assert runtime.deserialize_cuda_engine(plan) is not None
    rig.gpu.knobs.tensorrt_version = "11.4.0.106"
    assert runtime.deserialize_cuda_engine(plan) is None


def test_a_plan_that_does_not_fit_into_memory_is_a_failed_allocation(rig: Rig) -> None:
    plan, runtime = rig.plan(), rig.runtime()
    rig.gpu.knobs.device_memory = 100
    assert runtime.deserialize_cuda_engine(plan) is None
    assert rig.recorded[-1][0] is rig.trt.ErrorCodeTRT.FAILED_ALLOCATION


# building


def test_a_weakly_typed_network_is_a_violation_on_tensorrt_10(rig: Rig) -> None:
    with rig.gpu.expect_violation("without STRONGLY_TYPED"):
        rig.trt.Builder(rig.logger).create_network(0)
    rig.gpu.knobs.tensorrt_version = "11.4.0.106"
    builder = rig.trt.Builder(rig.logger)
    builder.create_network(0)
    with rig.gpu.expect_violation("has not"):
        builder.create_network(2)


def test_the_parser_takes_nothing_for_an_empty_network_and_names_what_it_refuses(rig: Rig) -> None:
    empty = rig.network(b"")
    assert empty.parsed
    assert (empty.network.num_layers, empty.network.num_inputs) == (0, 0)
    assert empty.builder.build_serialized_network(empty.network, empty.config) is None
    assert not rig.network(b"rubbish").parsed
    rig.gpu.knobs.refuse_op = "ArgMax"
    made = rig.network(small_onnx())
    assert not made.parsed
    assert made.parser.num_errors == 1
    error = made.parser.get_error(0)
    assert (error.node(), error.node_name(), error.node_operator()) == (1, "largest", "ArgMax")
    assert "Plugin not found" in error.desc()


def test_a_parsed_network_tells_its_tensors(rig: Rig) -> None:
    network = rig.network(small_onnx()).network
    image, labels = network.get_input(0), network.get_output(0)
    assert (image.name, image.dtype, tuple(image.shape)) == ("image", rig.trt.DataType.UINT8, (-1, -1, -1, 3))
    assert (labels.name, network.num_outputs) == ("labels", 1)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (None, "no optimization profile"),
        (((1, 8, 8, 4),) * 3, "Dimension mismatch"),
        (((8, 8, 3),) * 3, "dimensions but profile"),
    ],
)
def test_a_profile_that_does_not_fit_builds_nothing(rig: Rig, ends: Any, words: str) -> None:
    made = rig.network(small_onnx())
    if ends:
        assert rig.profile(made, *ends) == 0
    assert not made.builder.is_network_supported(made.network, made.config)
    assert words in rig.recorded[-1][1]
    assert made.builder.build_serialized_network(made.network, made.config) is None


def test_a_profile_out_of_order_is_refused_when_it_is_added(rig: Rig) -> None:
    assert rig.profile(rig.network(small_onnx()), (2, 8, 8, 3), (1, 8, 8, 3), (4, 8, 8, 3)) == -1
    assert "MIN<=OPT<=MAX" in " ".join(text for _, text in rig.recorded)


def test_a_fixed_network_needs_no_profile(rig: Rig) -> None:
    made = rig.network(small_onnx((1, 8, 8, 3)))
    plan = bytes(made.builder.build_serialized_network(made.network, made.config))
    engine = rig.runtime().deserialize_cuda_engine(plan)
    assert [tuple(each) for each in engine.get_tensor_profile_shape("image", 0)] == [(1, 8, 8, 3)] * 3
    run = Run(rig, engine)
    assert np.array_equal(run.all(), run.expected)
    assert json.loads(engine.create_engine_inspector().get_engine_information(rig.trt.LayerInformationFormat.JSON)) == {
        "Layers": ["to_float", "largest", "to_labels"],
        "Bindings": ["image", "labels"],
    }


def test_the_inspector_tells_types_and_tactics(rig: Rig) -> None:
    engine = rig.engine()
    text = engine.create_engine_inspector().get_engine_information(rig.trt.LayerInformationFormat.JSON)
    layers = json.loads(text)["Layers"]
    assert [each["LayerType"] for each in layers] == ["Cast", "ArgMax", "Cast"]
    assert layers[0]["Inputs"][0]["Format/Datatype"] == "UInt8"
    assert layers[0]["Outputs"][0]["Format/Datatype"] == "Float"
    assert all(each["TacticName"] for each in layers)


def test_a_timing_cache_grows_and_belongs_to_its_card_and_version(rig: Rig) -> None:
    made = rig.network(small_onnx())
    rig.profile(made, (1, 8, 8, 3), (1, 8, 8, 3), (1, 8, 8, 3))
    cache = made.config.create_timing_cache(b"")
    empty = bytes(cache.serialize())
    assert made.config.set_timing_cache(cache, False)
    assert made.builder.build_serialized_network(made.network, made.config)
    grown = bytes(made.config.get_timing_cache().serialize())
    assert len(grown) > len(empty)
    again = made.config.create_timing_cache(grown)
    assert made.config.set_timing_cache(again, False)
    rig.gpu.knobs.compute_capability = "9.0"
    assert not made.config.set_timing_cache(again, False)
    assert made.config.set_timing_cache(again, True)
    rig.gpu.knobs.tensorrt_version = "10.13.0.35"
    assert not made.config.set_timing_cache(again, True)
    assert made.config.create_timing_cache(b"rubbish") is None


def test_tensorrt_rtx_builds_for_the_cards_it_is_told(gpu: Any) -> None:
    rig = Rig(gpu, "tensorrt_rtx")

    def target(config: Any) -> None:
        assert not config.set_compute_capability(rig.trt.ComputeCapability.SM120, 0)
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(rig.trt.ComputeCapability.SM120, 0)

    plan, runtime = rig.plan(change=target), rig.runtime()
    assert runtime.deserialize_cuda_engine(plan) is None
    gpu.knobs.compute_capability = "12.0"
    assert runtime.deserialize_cuda_engine(plan) is not None


def monitored(rig: Rig, stop_at: str | None = None) -> tuple[Any, list[tuple[Any, ...]]]:
    """What a build gives and what it tells a progress monitor, which stops it in a phase."""
    told: list[tuple[Any, ...]] = []

    class Monitor(rig.trt.IProgressMonitor):
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            told.append(("start", phase_name, parent_phase, num_steps, threading.current_thread()))

        def phase_finish(self, phase_name: str) -> None:
            told.append(("finish", phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            told.append(("step", phase_name, step))
            return phase_name != stop_at

    made = rig.network(small_onnx())
    rig.profile(made, (1, 8, 8, 3), (1, 8, 8, 3), (1, 8, 8, 3))
    made.config.progress_monitor = made.monitor = Monitor()
    return made.builder.build_serialized_network(made.network, made.config), told


def test_progress_is_told_in_nested_phases_from_two_threads(rig: Rig) -> None:
    built, told = monitored(rig)
    assert built is not None
    started = {each[1]: each[2] for each in told if each[0] == "start"}
    assert started["Building engine"] is None
    assert all(parent in started for parent in started.values() if parent)
    assert sorted(each[1] for each in told if each[0] == "finish") == sorted(started)
    assert len({each[4] for each in told if each[0] == "start"}) == 2


@pytest.mark.parametrize("phase", ["Cloning network graph", "Timing graph nodes"])
def test_a_progress_monitor_stops_a_build(rig: Rig, phase: str) -> None:
    built, told = monitored(rig, phase)
    assert built is None
    assert "Build canceled by user" in rig.recorded[-1][1]
    assert ("finish", "Building engine") in told
    assert ("step", phase, 1) not in told


def test_a_build_without_enough_memory_is_a_failed_allocation(rig: Rig) -> None:
    rig.gpu.knobs.builder_out_of_memory = 123456789
    built, _ = monitored(rig)
    assert built is None
    code, text = rig.recorded[-1]
    assert code is rig.trt.ErrorCodeTRT.FAILED_ALLOCATION
    assert "123456789 bytes" in text


# processes


def test_a_subprocess_has_the_stand_in_its_knobs_and_leaves_a_report(
    gpu_environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    code = (
        "import tensorrt, cuda.bindings.runtime as cuda; print(tensorrt.__version__, cuda.cudaGetDeviceCount());"
        "cuda.cudaMalloc(77)"
    )
    environment = gpu_environment(tensorrt_version="10.12.0.1", device_count=3)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "10.12.0.1"
    assert done.stdout.strip().endswith("3)")
    report = json.loads((tmp_path / "standin.json").read_text())
    assert report["calls"] == {"cudaMalloc": 1}
    assert "77 bytes of device memory" in report["live_allocations"][0]


def test_a_variable_of_no_knob_is_an_error(gpu_environment: Callable[..., dict[str, str]]) -> None:
    environment = gpu_environment(colour="red")
    done = subprocess.run([sys.executable, "-c", "import tensorrt"], env=environment, capture_output=True, text=True)
    assert "ISA_STANDIN_COLOUR is no knob" in done.stderr


@pytest.mark.parametrize("handled", [True, False])
def test_ctrl_c_reaches_python_in_a_callback(
    gpu_environment: Callable[..., dict[str, str]], tmp_path: Path, handled: bool
) -> None:
    (tmp_path / "model.onnx").write_bytes(small_onnx((1, 8, 8, 3)))
    code = f"""
import signal, sys, tensorrt as trt
stop = []
if {handled}:
    signal.signal(signal.SIGINT, lambda *_: stop.append(True))
class Log(trt.ILogger):
    def log(self, severity, text): print(text, flush=True)
class Monitor(trt.IProgressMonitor):
    def phase_start(self, name, parent, steps): print(name, flush=True)
    def phase_finish(self, name): pass
    def step_complete(self, name, step): return not stop
logger, monitor = Log(), Monitor()
builder = trt.Builder(logger); network = builder.create_network(2); parser = trt.OnnxParser(network, logger)
parser.parse(open({str(tmp_path / "model.onnx")!r}, "rb").read())
config = builder.create_builder_config(); config.progress_monitor = monitor
print("built", builder.build_serialized_network(network, config), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=gpu_environment(build_step_s=0.1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "Timing graph nodes" in line:
                os.kill(process.pid, signal.SIGINT)
                break
        rest, errors = process.stdout.read(), process.stderr.read()
    assert "Build canceled by user" in rest
    assert "built None" in rest
    assert ("Exception caught in step_complete(): KeyboardInterrupt" in errors) == (not handled)


def test_an_unexpected_violation_is_kept_where_a_finaliser_raised_it(rig: Rig) -> None:
    address = rig.device(5)
    rig.ok(rig.cuda.cudaFree(address))
    with contextlib.suppress(AssertionError):
        rig.cuda.cudaFree(address)
    assert "a second time" in rig.gpu.violations.pop()
