"""Frames that already lie on a GPU, and results that stay there, without a copy through the host.

Two protocols carry them between libraries: ``__cuda_array_interface__`` (version 3, Numba's
specification) and DLPack (dmlc/dlpack, the unversioned capsule ``dltensor``).  pycuda, CuPy, torch and
NVDEC surfaces speak one or both.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa_deploy.errors import InputError
from isa_deploy.runtime.backends.cuda import Cuda, DeviceMemory

__all__ = ["DeviceArray", "DeviceFrames", "read_device_frames"]

Shape = tuple[int, ...]

DL_CUDA, DL_CUDA_MANAGED = 2, 13
DL_UINT = 1
"""Device and type codes of dlpack.h."""

STREAM_LEGACY = 1
"""How both protocols write CUDA's default stream, because 0 could be taken for none."""

MAX_AXES = 4


class _DLDevice(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DLDataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _DLDevice),
        ("ndim", ctypes.c_int32),
        ("dtype", _DLDataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (("dl_tensor", _DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", _Deleter))


_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_CAPSULE_NAME = b"dltensor"


class _HostView:
    """Memory of a GPU described to numpy as if it were the host's.  Nothing may read what numpy makes of it."""

    def __init__(self, memory: DeviceMemory, shape: Shape, dtype: np.dtype[Any]) -> None:
        self._memory = memory  # numpy holds this object, and so the memory, for as long as its array lives
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (memory.address, False),
        }


class DeviceArray:
    """A result on a GPU: packed, and complete for every stream.

    Give it to CuPy (``cupy.asarray``), torch (``torch.from_dlpack``) or pycuda; the memory lives as long as
    this object or what was made of it.  ``shape`` in elements, ``dtype`` uint8 or float32, ``address`` on GPU
    ``device``.
    """

    def __init__(self, memory: DeviceMemory, shape: Shape, dtype: np.dtype[Any], device: int) -> None:
        self._memory = memory
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.address = memory.address

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,  # complete: nothing to wait for
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return DL_CUDA, self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A DLPack capsule.  ``stream`` needs no waiting for, and every version reads the unversioned capsule.

        Raises :class:`BufferError`, as the protocol asks, where a copy or another device is wanted.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"this result is given as it lies, on GPU {self.device}: copy it afterwards")
        # numpy's capsule has a destructor and a deleter in C: callbacks in Python would fail wherever the capsule
        # is dropped while an exception is on its way.  Only its device has to be set right.
        capsule = np.asarray(_HostView(self._memory, self.shape, self.dtype)).__dlpack__()
        managed = _DLManagedTensor.from_address(_capsule_pointer(capsule, _CAPSULE_NAME))
        managed.dl_tensor.device = _DLDevice(DL_CUDA, self.device)
        return capsule

    def first(self) -> DeviceArray:
        """The first of a batch: the same memory without its first axis."""
        return DeviceArray(self._memory, self.shape[1:], self.dtype, self.device)


@dataclass(frozen=True)
class DeviceFrames:
    """Frames on a GPU, uint8 N x H x W x 3.

    ``batched``: whether they were given with an axis for the batch.  ``pitch``: bytes from one row to the
    next.  ``stream``: the stream that they were made on and that has to be waited for, or None.  ``owner``
    keeps them alive.
    """

    address: int
    shape: Shape
    batched: bool
    pitch: int
    stream: int | None
    owner: object

    @property
    def packed(self) -> bool:
        """Whether row follows row without a gap."""
        return self.pitch == self.shape[2] * 3


def read_device_frames(frame: Any, stream: int, cuda: Cuda) -> DeviceFrames:
    """A frame (H x W x 3) or a batch (N x H x W x 3) of uint8 on GPU ``cuda``, where it lies.

    To be called while that GPU is current: torch gives nothing away otherwise.  ``stream``: the stream that will
    read it; DLPack's producers order their work before it.  Raises :class:`InputError` for another type or
    layout, or memory that is not that GPU's.
    """
    if hasattr(frame, "__dlpack__") and hasattr(frame, "__dlpack_device__"):
        return _from_dlpack(frame, stream, cuda.index)
    if hasattr(frame, "__cuda_array_interface__"):
        return _from_interface(frame, cuda)
    raise InputError(
        f"a {type(frame).__name__} is no frame on a GPU: it has neither __cuda_array_interface__ nor DLPack"
    )


def _from_interface(frame: Any, cuda: Cuda) -> DeviceFrames:
    record = frame.__cuda_array_interface__
    shape = tuple(int(side) for side in record["shape"])
    given = record.get("strides")
    strides = None if given is None else tuple(int(step) for step in given)
    # before version 3 nothing said which stream; what libraries then used is the default one
    made_on = record.get("stream", STREAM_LEGACY)
    if record["typestr"] not in ("|u1", "<u1", "=u1"):
        raise InputError(f"frames on a GPU must be uint8, not {record['typestr']}; convert them before")
    if record.get("mask") is not None:
        raise InputError("frames on a GPU must be whole, and this one has a mask; give an array without it")
    frames = _frames(int(record["data"][0]), shape, strides, made_on, frame)
    # the interface names no GPU, and the address may be anything
    found = cuda.memory_gpu(frames.address)
    if found is None:
        raise InputError(
            f"the frame's address {frames.address:#x} is no memory of a GPU; use segment() for frames in the host's "
            "memory"
        )
    _check_gpu(found, cuda.index)
    return frames


def _check_gpu(found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(f"the frames lie on GPU {found} and this engine on GPU {wanted}; open it with device={found}")


def _from_dlpack(frame: Any, stream: int, gpu: int) -> DeviceFrames:
    # asked first: a producer elsewhere refuses a GPU's stream with an exception of its own
    kind, index = (int(part) for part in frame.__dlpack_device__())
    if kind not in (DL_CUDA, DL_CUDA_MANAGED):
        raise InputError(
            f"frames must lie on a GPU, and this {type(frame).__name__} does not (DLPack device type {kind}); use "
            "segment() for frames in the host's memory"
        )
    _check_gpu(index, gpu)
    try:
        capsule = frame.__dlpack__(stream=stream)
    except BufferError as error:
        raise InputError(f"the frame cannot be taken by DLPack ({error}); make a plain array of it before") from error
    # the capsule stays ours: its own destructor ends it, so the memory lives as long as these frames
    pointer = _capsule_pointer(capsule, _CAPSULE_NAME)
    tensor = _DLManagedTensor.from_address(pointer).dl_tensor
    if (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) != (DL_UINT, 8, 1):
        raise InputError(
            f"frames on a GPU must be uint8, not DLPack type {tensor.dtype.code} of {tensor.dtype.bits} bits; "
            "convert them before"
        )
    if not 0 <= tensor.ndim <= MAX_AXES:
        raise InputError(f"frames on a GPU must be H x W x 3 or N x H x W x 3, not of {tensor.ndim} axes")
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else None
    address = int(tensor.data or 0) + int(tensor.byte_offset)
    return _frames(address, shape, strides, None, (frame, capsule))


def _frames(address: int, shape: Shape, strides: Shape | None, stream: int | None, owner: object) -> DeviceFrames:
    if len(shape) not in (3, 4) or shape[-1] != 3 or min(shape) < 1:
        raise InputError(f"frames on a GPU must be H x W x 3 or N x H x W x 3, not {'x'.join(map(str, shape))}")
    n, h, w = (1, *shape[:2]) if len(shape) == 3 else shape[:3]
    if strides is None:
        return DeviceFrames(address, (n, h, w, 3), len(shape) == 4, w * 3, stream, owner)
    # the stride of an axis with one entry means nothing, and libraries write what they like there
    pitch = strides[-3] if h > 1 else w * 3
    pixel = strides[-2] if w > 1 else 3
    channel = strides[-1]
    whole = strides[0] if len(shape) == 4 and n > 1 else h * pitch
    if (pixel, channel) != (3, 1) or pitch < w * 3 or whole != h * pitch:
        raise InputError(
            f"frames on a GPU must have their rows in one piece each and at one distance, not strides {strides} for "
            f"{'x'.join(map(str, shape))}; make them contiguous before"
        )
    return DeviceFrames(address, (n, h, w, 3), len(shape) == 4, pitch, stream, owner)
