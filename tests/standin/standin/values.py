"""What TensorRT answers with: shapes and host memory."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

__all__ = ["Dims", "host_memory", "sides"]


class Dims:
    """A shape: a sequence that equals a tuple or list of the same sides and is neither."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._sides = tuple(shape)

    def __len__(self) -> int:
        return len(self._sides)

    def __getitem__(self, index: Any) -> Any:
        return self._sides[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._sides)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, list)):
            raise TypeError("__eq__(): incompatible function arguments: Dims compare with a list or a tuple")
        return self._sides == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._sides)


def sides(shape: Any) -> tuple[int, ...]:
    """A shape that a program gave.  Raises :class:`TypeError` where the bindings would."""
    if not isinstance(shape, (tuple, list, Dims)):
        raise TypeError(f"incompatible function arguments: {shape!r} is no shape")
    return tuple(side.__index__() for side in shape)


def host_memory(content: bytes) -> Any:
    """An ``IHostMemory``: it has ``nbytes`` and the buffer protocol, nothing else."""
    # pure Python cannot offer a buffer before 3.12; an array of ctypes has no public names of its own
    kind = type("IHostMemory", (ctypes.c_ubyte * len(content),), {"nbytes": property(lambda self: ctypes.sizeof(self))})
    return kind.from_buffer_copy(content)
