"""The CUDA runtime, as far as running an engine needs it: a device, memory, streams, events, graphs.

Through cuda-python (``cuda.bindings.runtime``), which NVIDIA advises since TensorRT 10.14; neither pycuda
nor torch.  CUDA's error codes end here as :class:`isa_deploy.errors.IsaError`.
"""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError
from isa_deploy.runtime.backends.cuda_api import CudaRuntimeModule

__all__ = ["Cuda", "DeviceMemory", "Event", "Graph", "PinnedMemory", "Stream", "gpu_count", "load_cuda"]

MIB = 1 << 20


def load_cuda() -> CudaRuntimeModule:
    """The CUDA runtime's bindings.  Raises :class:`BackendUnavailableError` where cuda-python is missing."""
    try:
        module: Any = importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendUnavailableError(
            f"a GPU needs cuda-python, which cannot be loaded ({error}); pip install 'isa-deploy[tensorrt]'"
        ) from error
    runtime: CudaRuntimeModule = module
    return runtime


def gpu_count(module: CudaRuntimeModule) -> int:
    """How many GPUs CUDA sees, 1 or more.  Nothing is made on any of them.

    Raises :class:`BackendUnavailableError` where there is no driver, one that is too old, or no GPU.
    """
    try:
        error, count = module.cudaGetDeviceCount()
    except RuntimeError as missing:  # what older versions of cuda-python raise without the driver's library
        raise BackendUnavailableError(
            f"CUDA cannot look for GPUs ({missing}); install the NVIDIA driver, or run the graph (.onnx) on the CPU"
        ) from missing
    errors = module.cudaError_t
    if error == errors.cudaErrorInsufficientDriver:
        raise BackendUnavailableError(
            f"the NVIDIA driver is missing or too old for CUDA {_version(module, module.cudaRuntimeGetVersion())} "
            f"(the driver has {_version(module, module.cudaDriverGetVersion())}); install a newer driver, or run "
            "the graph (.onnx) on the CPU"
        )
    if error == errors.cudaErrorNoDevice or (error == errors.cudaSuccess and not count):
        raise BackendUnavailableError("this machine has no NVIDIA GPU that CUDA sees; run the graph (.onnx) on the CPU")
    if error != errors.cudaSuccess:
        raise BackendUnavailableError(
            f"CUDA cannot look for GPUs ({_words(module, error)}); see nvidia-smi, or run the graph (.onnx) on the CPU"
        )
    return count


class Cuda:
    """One GPU.

    ``name``: as the driver calls it; ``compute_capability``: "8.9".
    """

    def __init__(self, module: CudaRuntimeModule, index: int) -> None:
        """Take GPU ``index``, counted from 0.  The calling thread's current GPU stays what it is.

        Raises :class:`BackendUnavailableError` where there is no driver, one that is too old, or no GPU, and
        :class:`InputError` for a number that no GPU has.
        """
        self.module = module
        self.index = index
        # also what has to come before a TensorRT Runtime is made: without a driver that would crash
        count = gpu_count(module)
        if not 0 <= index < count:
            raise InputError(f"device {index} is no GPU of this machine, which has {count} (0 to {count - 1})")
        attributes = module.cudaDeviceAttr
        major = self._get(
            module.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMajor, index), "ask the GPU"
        )
        minor = self._get(
            module.cudaDeviceGetAttribute(attributes.cudaDevAttrComputeCapabilityMinor, index), "ask the GPU"
        )
        self.compute_capability = f"{major}.{minor}"
        properties = self._get(module.cudaGetDeviceProperties(index), "ask the GPU")
        self.name = bytes(properties.name).split(b"\0")[0].decode(errors="replace")

    @property
    def title(self) -> str:
        """The GPU in words: its name and compute capability."""
        return f"{self.name} (compute capability {self.compute_capability})"

    def make_current(self) -> None:
        """Make this the calling thread's GPU; CUDA keeps one for each thread."""
        self.check(*self.module.cudaSetDevice(self.index), "use the GPU")

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this the calling thread's GPU for a while; the one that was current is so again afterwards.

        Memory, streams, events and contexts are made on the current GPU.  Raises :class:`EngineError` where the
        GPU cannot be used.
        """
        before = self._get(self.module.cudaGetDevice(), "tell which GPU is current")
        self.make_current()
        try:
            yield
        finally:
            if before != self.index:
                (error,) = self.module.cudaSetDevice(before)
                if error != self.module.cudaError_t.cudaSuccess:
                    # the other GPU's trouble, which its user meets: what was done here is done
                    self.module.cudaGetLastError()

    def check(self, error: Any, action: str) -> None:
        """Raise :class:`EngineError` for anything but success.  ``action``: what was tried, "copy a frame"."""
        errors = self.module.cudaError_t
        if error == errors.cudaSuccess:
            return
        # otherwise the next library of the process that asks would take it for its own
        self.module.cudaGetLastError()
        words = _words(self.module, error)
        if error == errors.cudaErrorMemoryAllocation:
            raise EngineError(
                f"out of device memory on GPU {self.index}: it could not {action} ({words}); use a smaller --resize, "
                "or end other programs"
            )
        if self._lasts(error):
            raise EngineError(
                f"the GPU could not {action} ({words}); after such an error a process cannot use the GPU again: start "
                "another, and see nvidia-smi and the system's log if it returns"
            )
        raise EngineError(
            f"the GPU could not {action} ({words}); open the engine again, and see nvidia-smi and the system's log "
            "if it returns"
        )

    def _lasts(self, error: Any) -> bool:
        """Whether every later call of the process fails too, as CUDA's documentation says of these errors."""
        errors = self.module.cudaError_t
        return error in (
            errors.cudaErrorAssert,
            errors.cudaErrorContextIsDestroyed,
            errors.cudaErrorECCUncorrectable,
            errors.cudaErrorHardwareStackError,
            errors.cudaErrorIllegalAddress,
            errors.cudaErrorIllegalInstruction,
            errors.cudaErrorInvalidAddressSpace,
            errors.cudaErrorInvalidPc,
            errors.cudaErrorLaunchFailure,
            errors.cudaErrorLaunchTimeout,
            errors.cudaErrorMisalignedAddress,
            errors.cudaErrorNvlinkUncorrectable,
            errors.cudaErrorUnknown,
        )

    def memory_gpu(self, address: int) -> int | None:
        """The number of the GPU whose memory an address is; managed memory is every GPU's, so this one's.

        None for an address that is no memory of a GPU.
        """
        error, attributes = self.module.cudaPointerGetAttributes(address)
        if error == self.module.cudaError_t.cudaErrorInvalidValue:  # no memory that CUDA knows of
            self.module.cudaGetLastError()
            return None
        self.check(error, "tell whose memory an address is")
        kinds = self.module.cudaMemoryType
        if attributes.type == kinds.cudaMemoryTypeManaged:
            return self.index
        return attributes.device if attributes.type == kinds.cudaMemoryTypeDevice else None

    def free_bytes(self) -> tuple[int, int]:
        """Free and total memory of the GPU, in bytes."""
        error, free, total = self.module.cudaMemGetInfo()
        self.check(error, "tell its free memory")
        return free, total

    def allocate(self, size: int, purpose: str) -> DeviceMemory:
        """Device memory of ``size`` bytes, aligned to 256.

        Raises :class:`EngineError` where there is not so much; ``purpose`` says what needs it and what to
        do about it.
        """
        error, address = self.module.cudaMalloc(max(size, 1))
        if error == self.module.cudaError_t.cudaErrorMemoryAllocation:
            self.module.cudaGetLastError()  # this one leaves the process usable: take it off the record
            free, total = self.free_bytes()
            raise EngineError(
                f"out of device memory on GPU {self.index}: {_mib(size)} MiB more are needed for {purpose}, and "
                f"{_mib(free)} of its {_mib(total)} MiB are free; use a smaller --resize, or end other programs"
            )
        self.check(error, "give memory")
        return DeviceMemory(self, address, size)

    def pin(self, size: int) -> PinnedMemory:
        """Page-locked host memory of ``size`` bytes, which copies to and from the GPU read and write directly."""
        error, address = self.module.cudaHostAlloc(max(size, 1), self.module.cudaHostAllocDefault)
        if error == self.module.cudaError_t.cudaErrorMemoryAllocation:
            self.module.cudaGetLastError()
            raise EngineError(
                f"the host has no {_mib(size)} MiB of memory left that can be page-locked; end other programs"
            )
        self.check(error, "lock host memory")
        return PinnedMemory(self, address, size)

    def stream(self) -> Stream:
        """A stream of its own.  The default stream would wait for all others."""
        flags = self.module.cudaStreamNonBlocking
        return Stream(self, self._get(self.module.cudaStreamCreateWithFlags(flags), "make a stream"))

    def event(self) -> Event:
        """An event for ordering streams.  It keeps no time, which would make recording it slow."""
        flags = self.module.cudaEventDisableTiming
        return Event(self, self._get(self.module.cudaEventCreateWithFlags(flags), "make an event"))

    def waited_event(self) -> Event:
        """An event that the host waits for asleep.

        CUDA otherwise spins: a core would be busy for as long as the GPU is.
        """
        flags = self.module.cudaEventDisableTiming | self.module.cudaEventBlockingSync
        return Event(self, self._get(self.module.cudaEventCreateWithFlags(flags), "make an event"))

    def timed_event(self) -> Event:
        """An event that keeps its time, for a measurement; recording it is slow.  The host waits for it asleep."""
        flags = self.module.cudaEventBlockingSync
        return Event(self, self._get(self.module.cudaEventCreateWithFlags(flags), "make an event"))

    def _get(self, answer: tuple[Any, Any], action: str) -> Any:
        error, value = answer
        self.check(error, action)
        return value


class DeviceMemory:
    """Memory of the GPU, given back by :meth:`close` or when nothing refers to it any more."""

    def __init__(self, cuda: Cuda, address: int, size: int) -> None:
        self.address = int(address)
        self.size = size
        # what cudaFree answers is no news: the memory is gone either way, or the GPU is
        self._finalizer = weakref.finalize(self, cuda.module.cudaFree, address)
        self._finalizer.atexit = False  # the driver takes all of it back then

    def close(self) -> None:
        """Give the memory back.  Twice is harmless."""
        self._finalizer()


class PinnedMemory:
    """Page-locked host memory; ``numpy.asarray`` views it as uint8 and keeps it alive."""

    def __init__(self, cuda: Cuda, address: int, size: int) -> None:
        self.address = int(address)
        self.size = size
        self.__array_interface__ = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (self.address, False),
        }
        self._finalizer = weakref.finalize(self, cuda.module.cudaFreeHost, address)
        self._finalizer.atexit = False

    def close(self) -> None:
        """Give the memory back: for memory of which no view was handed out.  Twice is harmless."""
        self._finalizer()


class Event:
    """A point in a stream that others can wait for."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self.handle = handle
        self._finalizer = weakref.finalize(self, cuda.module.cudaEventDestroy, handle)
        self._finalizer.atexit = False

    def record(self, stream: Stream) -> None:
        """Stand behind everything that ``stream`` was given until now."""
        self._cuda.check(*self._cuda.module.cudaEventRecord(self.handle, stream.handle), "record an event")

    def passed(self) -> bool:
        """Whether the event is passed.  Raises :class:`EngineError` where the GPU failed."""
        module = self._cuda.module
        (error,) = module.cudaEventQuery(self.handle)
        if error == module.cudaError_t.cudaErrorNotReady:
            module.cudaGetLastError()  # an answer, and yet on the record
            return False
        self._cuda.check(error, "tell whether it is done")
        return True

    def synchronize(self) -> None:
        """Wait, on the host, until the event is passed.  Raises :class:`EngineError` where the GPU failed."""
        self._cuda.check(*self._cuda.module.cudaEventSynchronize(self.handle), "finish its work")

    def ms_since(self, earlier: Event) -> float:
        """Milliseconds of the GPU's from ``earlier`` to this event, to about 0.0005 (CUDA's documentation).

        Both are of :meth:`Cuda.timed_event`, and passed.  Raises :class:`EngineError` where the GPU failed.
        """
        error, ms = self._cuda.module.cudaEventElapsedTime(earlier.handle, self.handle)
        self._cuda.check(error, "tell how long its work took")
        return float(ms)

    def close(self) -> None:
        """Destroy the event.  Twice is harmless."""
        self._finalizer()


class Stream:
    """Work of the GPU in order.  ``address`` is what TensorRT and array protocols take."""

    def __init__(self, cuda: Cuda, handle: Any) -> None:
        self._cuda = cuda
        self.handle = handle
        self.address = int(handle)
        self._finalizer = weakref.finalize(self, cuda.module.cudaStreamDestroy, handle)
        self._finalizer.atexit = False

    def wait(self, event: Event) -> None:
        """Let what follows in this stream wait for ``event``; the host goes on."""
        self._cuda.check(*self._cuda.module.cudaStreamWaitEvent(self.handle, event.handle, 0), "order its work")

    def wait_for_stream(self, address: int) -> None:
        """Let what follows wait for all that another library's stream was given until now."""
        event = self._cuda.event()
        try:
            self._cuda.check(*self._cuda.module.cudaEventRecord(event.handle, address), "order its work")
            self.wait(event)
        finally:
            event.close()

    def upload(self, device: int, host: int, size: int) -> None:
        """Copy ``size`` bytes of pinned host memory to the device."""
        self._copy(device, host, size, self._cuda.module.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, host: int, device: int, size: int) -> None:
        """Copy ``size`` bytes of the device to pinned host memory."""
        self._copy(host, device, size, self._cuda.module.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def gather(self, packed: int, pitched: int, pitch: int, row: int, rows: int) -> None:
        """Copy ``rows`` rows of ``row`` bytes that lie ``pitch`` bytes apart on the device into one piece there."""
        kind = self._cuda.module.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._cuda.check(
            *self._cuda.module.cudaMemcpy2DAsync(packed, row, pitched, pitch, row, rows, kind, self.handle),
            "copy a frame",
        )

    def capture(self, enqueue: Any) -> Graph | None:
        """What ``enqueue()`` puts into this stream as a CUDA graph, or None where it refuses to be captured.

        ``enqueue`` tells by True that it worked.  Nothing is run.
        """
        module = self._cuda.module
        mode = module.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda.check(*module.cudaStreamBeginCapture(self.handle, mode), "begin a graph")
        success = module.cudaError_t.cudaSuccess
        enqueued = False
        try:
            enqueued = enqueue()
        finally:
            error, graph = module.cudaStreamEndCapture(self.handle)
            if error == success and not enqueued:
                module.cudaGraphDestroy(graph)
        if error != success or not enqueued:
            module.cudaGetLastError()
            return None
        error, executable = module.cudaGraphInstantiate(graph, 0)
        module.cudaGraphDestroy(graph)
        if error != success:
            module.cudaGetLastError()
            return None
        return Graph(self._cuda, executable)

    def synchronize(self) -> None:
        """Wait, on the host, for all of it.  Raises :class:`EngineError` where the GPU failed."""
        self._cuda.check(*self._cuda.module.cudaStreamSynchronize(self.handle), "finish its work")

    def close(self) -> None:
        """Destroy the stream.  Twice is harmless."""
        self._finalizer()

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._cuda.check(
            *self._cuda.module.cudaMemcpyAsync(target, source, size, kind, self.handle), "copy a frame or its labels"
        )


class Graph:
    """Work that was captured once and is launched by one call."""

    def __init__(self, cuda: Cuda, executable: Any) -> None:
        self._cuda = cuda
        self._executable = executable
        self._finalizer = weakref.finalize(self, cuda.module.cudaGraphExecDestroy, executable)
        self._finalizer.atexit = False

    def launch(self, stream: Stream) -> None:
        """Put the captured work into ``stream``."""
        self._cuda.check(*self._cuda.module.cudaGraphLaunch(self._executable, stream.handle), "launch a graph")

    def close(self) -> None:
        """Destroy the graph.  Twice is harmless."""
        self._finalizer()


def _words(module: CudaRuntimeModule, error: Any) -> str:
    """An error's name and text."""
    _, name = module.cudaGetErrorName(error)
    _, text = module.cudaGetErrorString(error)
    return f"{_text(name)}: {_text(text)}"


def _version(module: CudaRuntimeModule, answer: tuple[Any, int]) -> str:
    error, number = answer
    if error != module.cudaError_t.cudaSuccess or not number:
        return "none"
    return f"{number // 1000}.{number % 1000 // 10}"


def _mib(size: int) -> int:
    return -(-size // MIB)


def _text(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
