"""``cuda.bindings.runtime`` over host memory."""

# ruff: noqa: N802, N803, N816 (the names are NVIDIA's)

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from standin.members import Member, enumeration
from standin.memory import Access
from standin.streams import Capture, Event, Graph, Job, Stream
from standin.world import WORLD

__all__ = ["NAMES"]

_TEXTS = {
    "cudaSuccess": "no error",
    "cudaErrorMemoryAllocation": "out of memory",
    "cudaErrorNotReady": "device not ready",
    "cudaErrorNoDevice": "no CUDA-capable device is detected",
    "cudaErrorInsufficientDriver": "CUDA driver version is insufficient for CUDA runtime version",
    "cudaErrorInvalidDevice": "invalid device ordinal",
    "cudaErrorInvalidValue": "invalid argument",
    "cudaErrorAssert": "device-side assert triggered",
    "cudaErrorContextIsDestroyed": "context is destroyed",
    "cudaErrorECCUncorrectable": "uncorrectable ECC error encountered",
    "cudaErrorHardwareStackError": "hardware stack error",
    "cudaErrorIllegalAddress": "an illegal memory access was encountered",
    "cudaErrorIllegalInstruction": "an illegal instruction was encountered",
    "cudaErrorInvalidAddressSpace": "operation not supported on global/shared address space",
    "cudaErrorInvalidPc": "invalid program counter",
    "cudaErrorLaunchFailure": "unspecified launch failure",
    "cudaErrorLaunchTimeout": "the launch timed out and was terminated",
    "cudaErrorMisalignedAddress": "misaligned address",
    "cudaErrorNvlinkUncorrectable": "uncorrectable NVLink error detected during the execution",
    "cudaErrorUnknown": "unknown error",
    "cudaErrorStreamCaptureUnsupported": "operation not permitted when stream is capturing",
    "cudaErrorStreamCaptureInvalidated": "operation failed due to a previous error during capture",
}

_NO_PART = ("cudaErrorInvalidDevice", "cudaErrorStreamCaptureUnsupported", "cudaErrorStreamCaptureInvalidated")
"""What can be answered and is not in the protocol has no public name."""

cudaError_t = enumeration("cudaError_t", *(name for name in _TEXTS if name not in _NO_PART))
cudaMemcpyKind = enumeration(
    "cudaMemcpyKind", "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost", "cudaMemcpyDeviceToDevice"
)
cudaDeviceAttr = enumeration("cudaDeviceAttr", "cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
cudaStreamCaptureMode = enumeration("cudaStreamCaptureMode", "cudaStreamCaptureModeThreadLocal")
cudaMemoryType = enumeration("cudaMemoryType", "cudaMemoryTypeDevice", "cudaMemoryTypeManaged")
_HOST, _UNREGISTERED = (Member("cudaMemoryType", f"cudaMemoryType{name}") for name in ("Host", "Unregistered"))

_ERRORS = {name: getattr(cudaError_t, name, None) or Member("cudaError_t", name) for name in _TEXTS}
_NAMES_OF_ERRORS = {member: name for name, member in _ERRORS.items()}


def _fail(name: str) -> Any:
    if name != "cudaSuccess":
        WORLD.last_error = name
    return _ERRORS[name]


def _function(outputs: int, unsafe: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function of the runtime with so many results besides the error.

    The wrapped function returns the name of an error, or a tuple of its results.  ``unsafe``: not to be called
    by a thread that captures.
    """

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            with WORLD.lock:
                WORLD.calls[function.__name__] += 1
                broken = WORLD.begin_unsafe_call() if unsafe else False
                missing = _missing_device()
                if WORLD.lost is None and missing is None and broken:
                    result: Any = "cudaErrorStreamCaptureUnsupported"
                else:
                    result = WORLD.lost or missing
                if result is None and function.__name__ == WORLD.knobs.fail_call:
                    result = WORLD.knobs.fail_call_as
                if result is None or (result == WORLD.lost and function.__name__ in _GIVE_BACK):
                    answer = function(*args, **kwargs)
                    result = WORLD.lost or answer
                if isinstance(result, str):
                    return (_fail(result), *([None] * outputs))
                return (_ERRORS["cudaSuccess"], *result)

        return call

    return wrap


_GIVE_BACK = (
    "cudaFree",
    "cudaFreeHost",
    "cudaStreamDestroy",
    "cudaEventDestroy",
    "cudaGraphDestroy",
    "cudaGraphExecDestroy",
)


def _missing_device() -> str | None:
    if WORLD.knobs.driver_too_old:
        return "cudaErrorInsufficientDriver"
    return None if WORLD.knobs.device_count else "cudaErrorNoDevice"


def cudaGetErrorName(error: Any) -> tuple[Any, bytes]:
    return _ERRORS["cudaSuccess"], _NAMES_OF_ERRORS[error].encode()


def cudaGetErrorString(error: Any) -> tuple[Any, bytes]:
    return _ERRORS["cudaSuccess"], _TEXTS[_NAMES_OF_ERRORS[error]].encode()


def cudaGetLastError() -> tuple[Any]:
    with WORLD.lock:
        name = WORLD.lost or WORLD.last_error
        WORLD.last_error = "cudaSuccess"
        return (_ERRORS[name],)


def cudaGetDeviceCount() -> tuple[Any, int | None]:
    with WORLD.lock:
        WORLD.device_asked = True
        if WORLD.knobs.no_driver_library:
            raise RuntimeError('Failed to dlopen "libcuda.so.1"')
        missing = WORLD.lost or _missing_device()
        return (_fail(missing), None) if missing else (_ERRORS["cudaSuccess"], WORLD.knobs.device_count)


@_function(1)
def cudaGetDevice() -> Any:
    return (WORLD.current_device,)


@_function(0)
def cudaSetDevice(device: int) -> Any:
    if not 0 <= device < WORLD.knobs.device_count:
        return "cudaErrorInvalidDevice"
    WORLD.current_device = device
    return ()


@_function(1)
def cudaPointerGetAttributes(ptr: int) -> Any:
    of_device, of_host = WORLD.device.holding(int(ptr)), WORLD.pinned.holding(int(ptr))
    if of_device is not None and of_device.live:
        kind = cudaMemoryType.cudaMemoryTypeManaged if of_device.managed else cudaMemoryType.cudaMemoryTypeDevice
        return (SimpleNamespace(type=kind, device=of_device.device),)
    if of_host is not None and of_host.live:
        return (SimpleNamespace(type=_HOST, device=of_host.device),)
    return (SimpleNamespace(type=_UNREGISTERED, device=-2),)


@_function(1)
def cudaDeviceGetAttribute(attr: Any, device: int) -> Any:
    if not 0 <= device < WORLD.knobs.device_count:
        return "cudaErrorInvalidDevice"
    major, minor = (int(part) for part in WORLD.knobs.compute_capability.split("."))
    values = {
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor: major,
        cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor: minor,
    }
    return (values[attr],)


@_function(1)
def cudaGetDeviceProperties(device: int) -> Any:
    if not 0 <= device < WORLD.knobs.device_count:
        return "cudaErrorInvalidDevice"
    return (SimpleNamespace(name=WORLD.knobs.device_name.encode()),)


def cudaDriverGetVersion() -> tuple[Any, int]:
    return _ERRORS["cudaSuccess"], 11040 if WORLD.knobs.driver_too_old else 13000 * bool(WORLD.knobs.device_count)


def cudaRuntimeGetVersion() -> tuple[Any, int]:
    return _ERRORS["cudaSuccess"], 13050


@_function(2)
def cudaMemGetInfo() -> Any:
    used = WORLD.device.bytes_live + WORLD.weights_bytes
    return max(WORLD.knobs.device_memory - used, 0), WORLD.knobs.device_memory


@_function(1, unsafe=True)
def cudaMalloc(size: int) -> Any:
    if WORLD.device.bytes_live + WORLD.weights_bytes + size > WORLD.knobs.device_memory:
        return "cudaErrorMemoryAllocation"
    return (WORLD.device.allocate(int(size), WORLD.current_device),)


@_function(0, unsafe=True)
def cudaFree(devPtr: int) -> Any:
    WORLD.free(WORLD.device, int(devPtr), "cudaFree")
    return ()


@_function(1, unsafe=True)
def cudaHostAlloc(size: int, flags: int) -> Any:
    if flags != cudaHostAllocDefault:
        WORLD.violate(f"cudaHostAlloc was given the flags {flags}, which the stand-in does not know")
    if WORLD.pinned.bytes_live + size > WORLD.knobs.pinned_memory:
        return "cudaErrorMemoryAllocation"
    return (WORLD.pinned.allocate(int(size), WORLD.current_device),)


@_function(0, unsafe=True)
def cudaFreeHost(ptr: int) -> Any:
    WORLD.free(WORLD.pinned, int(ptr), "cudaFreeHost")
    return ()


@_function(1)
def cudaStreamCreateWithFlags(flags: int) -> Any:
    if flags != cudaStreamNonBlocking:
        WORLD.violate("a stream was made that blocks on the default stream; use cudaStreamNonBlocking")
    return (WORLD.give("cudaStream_t", WORLD.new_stream()),)


@_function(0)
def cudaStreamDestroy(stream: Any) -> Any:
    found = WORLD.stream(stream, "cudaStreamDestroy")
    if found.queue and WORLD.lost is None:
        WORLD.violate(f"cudaStreamDestroy destroys a stream with {len(found.queue)} pieces of pending work")
    if found.capture is not None:
        WORLD.violate("cudaStreamDestroy destroys a stream that captures")
    WORLD.drop(stream)
    return ()


@_function(0, unsafe=True)
def cudaStreamSynchronize(stream: Any) -> Any:
    found = WORLD.stream(stream, "cudaStreamSynchronize")
    WORLD.synchronize(found, found.sequence, dict(found.clock), found.ends_ms)
    return ()


@_function(0)
def cudaStreamWaitEvent(stream: Any, event: Any, flags: int) -> Any:
    waiting = WORLD.any_stream(stream, "cudaStreamWaitEvent")
    mark = WORLD.take(event, Event, "cudaStreamWaitEvent")
    if waiting.capture is not None or mark.captured:
        WORLD.violate("cudaStreamWaitEvent in a capture: ours capture the compute alone")
    WORLD.wait(waiting, mark)
    return ()


@_function(1)
def cudaEventCreateWithFlags(flags: int) -> Any:
    known = (cudaEventDisableTiming, cudaEventDisableTiming | cudaEventBlockingSync, cudaEventBlockingSync)
    if flags not in known:
        WORLD.violate(f"an event was made with the flags {flags}: one that keeps time is to be waited for asleep")
    keeps_time = not flags & cudaEventDisableTiming
    WORLD.timed_events += keeps_time
    return (WORLD.give("cudaEvent_t", Event(keeps_time=keeps_time)),)


@_function(0)
def cudaEventRecord(event: Any, stream: Any) -> Any:
    mark = WORLD.take(event, Event, "cudaEventRecord")
    found = WORLD.any_stream(stream, "cudaEventRecord")
    if found.capture is not None:
        mark.captured = True
        return ()
    mark.captured = False
    WORLD.record(found, mark)
    return ()


@_function(0)
def cudaEventQuery(event: Any) -> Any:
    mark = WORLD.take(event, Event, "cudaEventQuery")
    if mark.captured:
        WORLD.violate("cudaEventQuery asks an event of a capture")
    if mark.mark is None or WORLD.done(mark.mark[0].number, mark.mark[1]):
        return ()
    mark.queries += 1
    if mark.queries <= WORLD.knobs.event_queries:
        return "cudaErrorNotReady"
    WORLD.synchronize(*mark.mark, mark.clock, mark.at_ms)
    return ()


@_function(0, unsafe=True)
def cudaEventSynchronize(event: Any) -> Any:
    mark = WORLD.take(event, Event, "cudaEventSynchronize")
    if mark.captured:
        WORLD.violate("cudaEventSynchronize waits for an event of a capture")
    if mark.mark is not None:
        WORLD.synchronize(*mark.mark, mark.clock, mark.at_ms)
    return ()


@_function(1)
def cudaEventElapsedTime(start: Any, end: Any) -> Any:
    marks = [WORLD.take(each, Event, "cudaEventElapsedTime") for each in (start, end)]
    for each in marks:
        if not each.keeps_time:
            WORLD.violate("cudaEventElapsedTime was given an event that keeps no time")
        if each.mark is None or each.captured:
            WORLD.violate("cudaEventElapsedTime was given an event that stands in no stream")
        if not WORLD.done(each.mark[0].number, each.mark[1]):
            return "cudaErrorNotReady"
    return (marks[1].at_ms - marks[0].at_ms,)


@_function(0)
def cudaEventDestroy(event: Any) -> Any:
    WORLD.take(event, Event, "cudaEventDestroy")
    WORLD.drop(event)
    return ()


@_function(0)
def cudaMemcpyAsync(dst: int, src: int, count: int, kind: Any, stream: Any) -> Any:
    _copy("cudaMemcpyAsync", dst, count, src, count, count, 1, kind, stream)
    return ()


@_function(0)
def cudaMemcpy2DAsync(
    dst: int, dpitch: int, src: int, spitch: int, width: int, height: int, kind: Any, stream: Any
) -> Any:
    if width > dpitch or width > spitch:
        WORLD.violate(f"cudaMemcpy2DAsync: rows of {width} bytes are wider than their pitch ({dpitch}, {spitch})")
    _copy("cudaMemcpy2DAsync", dst, dpitch, src, spitch, width, height, kind, stream)
    return ()


def _copy(
    what: str, dst: int, dpitch: int, src: int, spitch: int, width: int, height: int, kind: Any, stream: Any
) -> None:
    found = WORLD.stream(stream, what)
    dst, src = int(dst), int(src)
    kinds = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: (WORLD.pinned, WORLD.device),
        cudaMemcpyKind.cudaMemcpyDeviceToHost: (WORLD.device, WORLD.pinned),
        cudaMemcpyKind.cudaMemcpyDeviceToDevice: (WORLD.device, WORLD.device),
    }
    if kind not in kinds:
        WORLD.violate(f"{what} was given the direction {kind!r}")
    if width == 0 or height == 0:
        return
    source_kind, target_kind = kinds[kind]
    source = WORLD.range(src, (height - 1) * spitch + width, source_kind, False, f"{what} ({kind})")
    target = WORLD.range(dst, (height - 1) * dpitch + width, target_kind, True, f"{what} ({kind})")
    if source.start < target.end and target.start < source.end:
        WORLD.violate(f"{what} copies between ranges that overlap")

    def prepare() -> Callable[[], None]:
        # what the host wrote before it queued the copy is what has to arrive
        expected = _checksum(source) if source_kind is WORLD.pinned else None
        if target_kind is WORLD.pinned:
            WORLD.poison(target)

        def run() -> None:
            if expected is not None and _checksum(source) != expected:
                WORLD.violate(f"the host wrote into pinned memory 0x{src:x} while {what} from it was pending")
            rows_in, rows_out = WORLD.bytes_at(source), WORLD.bytes_at(target)
            for row in range(height):
                rows_out[row * dpitch : row * dpitch + width] = rows_in[row * spitch : row * spitch + width]

        return run

    times = {
        cudaMemcpyKind.cudaMemcpyHostToDevice: WORLD.knobs.upload_ms,
        cudaMemcpyKind.cudaMemcpyDeviceToHost: WORLD.knobs.download_ms,
    }
    WORLD.submit(found, Job(f"{what} ({kind})", (source, target), prepare, times.get(kind, 0.0)))


def _checksum(access: Access) -> int:
    return zlib.adler32(WORLD.bytes_at(access))


@_function(0)
def cudaStreamBeginCapture(stream: Any, mode: Any) -> Any:
    found = WORLD.stream(stream, "cudaStreamBeginCapture")
    if mode is not cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal:
        WORLD.violate(f"cudaStreamBeginCapture was given the mode {mode!r}")
    if found.capture is not None:
        WORLD.violate("cudaStreamBeginCapture on a stream that captures already")
    found.capture = Capture(threading.get_ident())
    return ()


@_function(1)
def cudaStreamEndCapture(stream: Any) -> Any:
    found = WORLD.stream(stream, "cudaStreamEndCapture")
    capture, found.capture = found.capture, None
    if capture is None:
        WORLD.violate("cudaStreamEndCapture on a stream that does not capture")
    if capture.thread != threading.get_ident():
        WORLD.violate("cudaStreamEndCapture by another thread than the one that began")
    if WORLD.knobs.refuse_capture:
        return "cudaErrorStreamCaptureUnsupported"
    if capture.broken:
        return capture.broken
    return (WORLD.give("cudaGraph_t", Graph(tuple(capture.jobs), executable=False)),)


@_function(1, unsafe=True)
def cudaGraphInstantiate(graph: Any, flags: int) -> Any:
    found = _graph(graph, False, "cudaGraphInstantiate")
    return (WORLD.give("cudaGraphExec_t", Graph(found.jobs, executable=True)),)


@_function(0)
def cudaGraphLaunch(graphExec: Any, stream: Any) -> Any:
    found = _graph(graphExec, True, "cudaGraphLaunch")
    target: Stream = WORLD.stream(stream, "cudaGraphLaunch")
    if target.capture is not None:
        WORLD.violate("cudaGraphLaunch in a capture")
    for job in found.jobs:
        WORLD.submit(target, job)
    return ()


@_function(0)
def cudaGraphExecDestroy(graphExec: Any) -> Any:
    _graph(graphExec, True, "cudaGraphExecDestroy")
    WORLD.drop(graphExec)
    return ()


@_function(0)
def cudaGraphDestroy(graph: Any) -> Any:
    _graph(graph, False, "cudaGraphDestroy")
    WORLD.drop(graph)
    return ()


def _graph(handle: Any, executable: bool, what: str) -> Graph:
    found = WORLD.take(handle, Graph, what)
    if found.executable != executable:
        WORLD.violate(f"{what} was given {'a graph' if executable else 'an executable graph'}")
    return found


cudaStreamNonBlocking = 1
cudaEventDisableTiming = 2
cudaEventBlockingSync = 1
cudaHostAllocDefault = 0

NAMES = {name: value for name, value in list(globals().items()) if name.startswith("cuda")}
