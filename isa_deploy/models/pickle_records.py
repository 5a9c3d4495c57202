"""What a checkpoint's pickle is read into: descriptions of tensors and arrays, checked but not loaded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from isa_deploy.models.pickle_names import GlobalName, printable

__all__ = ["ITEM_BYTES", "NumpyArray", "NumpyDtype", "Opaque", "StorageRef", "TensorRef", "storage_dtype"]

MAX_DIMENSIONS = 16
MAX_COUNT = 1 << 48
MAX_LIST_BYTES = 1 << 16

ITEM_BYTES: dict[str, int] = {
    **dict.fromkeys(("complex128",), 16),
    **dict.fromkeys(("float64", "int64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}
"""Bytes of one element, by torch's name of the type."""

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


def storage_dtype(kind: object) -> str | None:
    """The element type of ``torch.FloatStorage`` and its like; None for any other name."""
    if not isinstance(kind, GlobalName) or kind.module not in ("torch", "torch.cuda", "torch.storage"):
        return None
    return _STORAGE_DTYPES.get(kind.name)


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < MAX_COUNT


@dataclass(frozen=True)
class StorageRef:
    """Where a tensor's numbers are: ``numel`` elements of ``dtype`` under ``key`` in the file.

    The legacy format has views of storages: ``start`` and ``length`` give the visible part, in elements.
    """

    key: str
    dtype: str
    numel: int
    start: int
    length: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole storage in the file."""
        return self.numel * ITEM_BYTES[self.dtype]

    @classmethod
    def from_id(cls, identifier: tuple[Any, ...]) -> StorageRef:
        """From torch's persistent id: ("storage", type, key, device, numel) and, in legacy files, a view.

        Raises ValueError where it is malformed or the view reaches outside.
        """
        if len(identifier) not in (5, 6):
            raise ValueError("a storage is described by too few values")
        kind, key, _, numel = identifier[1:5]
        dtype = storage_dtype(kind)
        if dtype is None:
            raise ValueError(f"a storage has the unknown type {kind if isinstance(kind, GlobalName) else '?'}")
        if not isinstance(key, str) or not _is_count(numel):
            raise ValueError("a storage has no key or no size")
        start, length = 0, numel
        view = identifier[5] if len(identifier) == 6 else None
        if view is not None:
            if not isinstance(view, tuple) or len(view) != 3 or not all(_is_count(n) for n in view[1:]):
                raise ValueError("a view of a storage is malformed")
            start, length = view[1:]
            if length > numel - start:
                raise ValueError(f"a view of storage {printable(key)} reaches outside it")
        return cls(key, dtype, numel, start, length)


@dataclass(frozen=True)
class TensorRef:
    """A tensor not read yet: offset and strides count elements of the storage, and stay inside it."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's elements in the file's type."""
        return self.numel * ITEM_BYTES[self.storage.dtype]

    @classmethod
    def from_arguments(cls, arguments: tuple[Any, ...] | list[Any]) -> TensorRef:
        """From the arguments of ``torch._utils._rebuild_tensor_v2``: storage, offset, size, stride, ...

        Raises ValueError where an index would fall outside the storage, or where the tensor has more
        elements than its storage (an expanded tensor: a few bytes of file, any amount of memory).
        """
        if len(arguments) < 4:
            raise ValueError("a tensor is rebuilt from too few arguments")
        storage, offset, shape, stride = arguments[:4]
        if not isinstance(storage, StorageRef):
            raise ValueError("a tensor has no storage")
        if not isinstance(shape, (tuple, list)) or not isinstance(stride, (tuple, list)):
            raise ValueError("a tensor has no shape")
        if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
            raise ValueError(f"a tensor has {len(shape)} dimensions and {len(stride)} strides")
        if not all(_is_count(n) for n in (offset, *shape, *stride)):
            raise ValueError("a tensor has a size, stride or offset that is no count")
        numel = math.prod(shape)
        end = offset + 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if numel else 0
        if end > storage.length or numel > storage.length:
            raise ValueError(
                f"a tensor of shape {tuple(shape)}, strides {tuple(stride)} and offset {offset} reaches outside its "
                f"storage of {storage.length} elements"
            )
        return cls(storage, storage.start + offset, tuple(shape), tuple(stride))


class Opaque:
    """What stands in for an object of a class that is not read."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class NumpyDtype:
    """numpy's type of an array as the file spells it: code ``f8``, order ``<``."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


class NumpyArray:
    """An array as the file describes it; shape, type and data have not been checked against each other."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self, data: object = b"", dtype: object = None, shape: object = ()) -> None:
        self.data = data
        self.dtype = dtype
        self.shape = shape
        self.fortran: object = False

    def tolist(self) -> Any:
        """The numbers as nested lists.

        Raises ValueError where it is no small array of integers or floats, or shape and data do not agree.
        """
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data  # Python 2's bytes
        if not isinstance(data, (bytes, bytearray)) or len(data) > MAX_LIST_BYTES:
            raise ValueError("no array of moderate size")
        if not isinstance(self.dtype, NumpyDtype) or not re.fullmatch(r"[iuf][1248]", self.dtype.code):
            raise ValueError("no array of numbers")
        if not isinstance(self.shape, tuple) or not all(_is_count(n) for n in self.shape) or self.fortran:
            raise ValueError("no array in C order")
        order = ">" if self.dtype.order == ">" else "<"
        return np.frombuffer(data, dtype=order + self.dtype.code).reshape(self.shape).tolist()
