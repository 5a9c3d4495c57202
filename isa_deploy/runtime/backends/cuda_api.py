"""The part of the CUDA runtime's API (``cuda.bindings.runtime`` of cuda-python) that isa-deploy uses.

As with :mod:`isa_deploy.runtime.backends.tensorrt_api`: mypy holds the sources to this protocol, and
``tests/test_tensorrt_api.py`` holds the protocol to the genuine bindings.

Every function returns a tuple whose first entry is a ``cudaError_t``.  Streams, events and graphs are
opaque handles; ``int(handle)`` is the address that TensorRT takes.  Device and host addresses are plain
integers.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["CudaRuntimeModule"]


class CudaErrors(Protocol):
    """``cudaError_t``."""

    cudaSuccess: Any
    cudaErrorMemoryAllocation: Any
    cudaErrorNotReady: Any
    cudaErrorNoDevice: Any
    cudaErrorInsufficientDriver: Any
    cudaErrorInvalidValue: Any
    cudaErrorAssert: Any
    cudaErrorContextIsDestroyed: Any
    cudaErrorECCUncorrectable: Any
    cudaErrorHardwareStackError: Any
    cudaErrorIllegalAddress: Any
    cudaErrorIllegalInstruction: Any
    cudaErrorInvalidAddressSpace: Any
    cudaErrorInvalidPc: Any
    cudaErrorLaunchFailure: Any
    cudaErrorLaunchTimeout: Any
    cudaErrorMisalignedAddress: Any
    cudaErrorNvlinkUncorrectable: Any
    cudaErrorUnknown: Any


class MemcpyKinds(Protocol):
    """``cudaMemcpyKind``."""

    cudaMemcpyHostToDevice: Any
    cudaMemcpyDeviceToHost: Any
    cudaMemcpyDeviceToDevice: Any


class DeviceAttributes(Protocol):
    """``cudaDeviceAttr``."""

    cudaDevAttrComputeCapabilityMajor: Any
    cudaDevAttrComputeCapabilityMinor: Any


class CaptureModes(Protocol):
    """``cudaStreamCaptureMode``."""

    cudaStreamCaptureModeThreadLocal: Any


class MemoryTypes(Protocol):
    """``cudaMemoryType``."""

    cudaMemoryTypeDevice: Any
    cudaMemoryTypeManaged: Any


class PointerAttributes(Protocol):
    """``cudaPointerAttributes``; ``type`` is a ``cudaMemoryType``."""

    @property
    def type(self) -> Any: ...

    @property
    def device(self) -> int: ...


class DeviceProperties(Protocol):
    """``cudaDeviceProp``."""

    @property
    def name(self) -> bytes: ...


class CudaRuntimeModule(Protocol):
    """``cuda.bindings.runtime``."""

    cudaError_t: CudaErrors
    cudaMemcpyKind: MemcpyKinds
    cudaDeviceAttr: DeviceAttributes
    cudaStreamCaptureMode: CaptureModes
    cudaMemoryType: MemoryTypes
    cudaStreamNonBlocking: int
    cudaEventDisableTiming: int
    cudaEventBlockingSync: int
    cudaHostAllocDefault: int

    def cudaGetErrorName(self, error: Any) -> tuple[Any, bytes]: ...

    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]: ...

    def cudaGetLastError(self) -> tuple[Any]: ...

    def cudaGetDeviceCount(self) -> tuple[Any, int]: ...

    def cudaGetDevice(self) -> tuple[Any, int]: ...

    def cudaSetDevice(self, device: int) -> tuple[Any]: ...

    def cudaDeviceGetAttribute(self, attr: Any, device: int) -> tuple[Any, int]: ...

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, DeviceProperties]: ...

    def cudaDriverGetVersion(self) -> tuple[Any, int]: ...

    def cudaRuntimeGetVersion(self) -> tuple[Any, int]: ...

    def cudaMemGetInfo(self) -> tuple[Any, int, int]: ...

    def cudaPointerGetAttributes(self, ptr: int) -> tuple[Any, PointerAttributes]: ...

    def cudaMalloc(self, size: int) -> tuple[Any, int]: ...

    def cudaFree(self, devPtr: int) -> tuple[Any]: ...

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, int]: ...

    def cudaFreeHost(self, ptr: int) -> tuple[Any]: ...

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, Any]: ...

    def cudaStreamDestroy(self, stream: Any) -> tuple[Any]: ...

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any]: ...

    def cudaStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> tuple[Any]: ...

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, Any]: ...

    def cudaEventRecord(self, event: Any, stream: Any) -> tuple[Any]: ...

    def cudaEventQuery(self, event: Any) -> tuple[Any]: ...

    def cudaEventSynchronize(self, event: Any) -> tuple[Any]: ...

    def cudaEventElapsedTime(self, start: Any, end: Any) -> tuple[Any, float]: ...

    def cudaEventDestroy(self, event: Any) -> tuple[Any]: ...

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Any) -> tuple[Any]: ...

    def cudaMemcpy2DAsync(
        self, dst: int, dpitch: int, src: int, spitch: int, width: int, height: int, kind: Any, stream: Any
    ) -> tuple[Any]: ...

    def cudaStreamBeginCapture(self, stream: Any, mode: Any) -> tuple[Any]: ...

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, Any]: ...

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, Any]: ...

    def cudaGraphLaunch(self, graphExec: Any, stream: Any) -> tuple[Any]: ...

    def cudaGraphExecDestroy(self, graphExec: Any) -> tuple[Any]: ...

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any]: ...
