"""Pixel values of any kind to the 8 bits that a network was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = ["ToBytes", "ValueRange", "byte_scale", "parse_value_range"]

UInt8 = npt.NDArray[np.uint8]

ToBytes: TypeAlias = Callable[[npt.NDArray[Any]], UInt8]
"""Values of one type, any shape, to uint8 of the same shape."""


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255; those outside become the nearer of the two.

    Raises :class:`InputError` where ``low`` is not below ``high``, one of them is not finite, or they lie so far apart,
    or so near each other, that a float cannot hold it.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"value range {self}: two finite numbers, the lower one first, such as 0:4095")
        if not (math.isfinite(self.high - self.low) and math.isfinite(255 / (self.high - self.low))):
            raise InputError(f"value range {self}: too wide or too narrow for arithmetic; name the values in the file")

    def __str__(self) -> str:
        return f"{self.low:g}:{self.high:g}"


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


def parse_value_range(text: str) -> ValueRange:
    """``LOW:HIGH``.  Raises :class:`InputError` for anything else."""
    found = re.fullmatch(rf"({_NUMBER}):({_NUMBER})", text.strip())
    if found is None:
        raise InputError(f"value range '{text}': write LOW:HIGH, such as 0:4095")
    return ValueRange(float(found[1]), float(found[2]))


def byte_scale(dtype: np.dtype[Any], bits: int | None, value_range: ValueRange | None) -> ToBytes | None:
    """How values of a type become bytes; None where they are bytes already.

    ``bits``: how many of an unsigned type's are in use, where the file says; all of them otherwise.  Without a
    range, unsigned values of up to 16 bits go linearly from 0 and the largest that fits to 0 and 255, to the nearest:
    x / 257 for 16 bits, within one level of what :func:`isa_deploy.runtime.images.read_image` gives.  8 bits stay
    as they are, whatever the range.

    Raises :class:`InputError` for types that need a range and have none, and for complex numbers.
    """
    if dtype == np.uint8 and bits in (None, 8):
        return None
    if dtype.kind not in "uif":
        raise InputError(f"values of type {dtype} are no picture; save it with 8 or 16 bits")
    unsigned = dtype in (np.uint8, np.uint16)
    if value_range is None or dtype == np.uint8:
        if not unsigned:
            raise InputError(
                f"values of type {dtype} have no usual black and white; name both with --value-range LOW:HIGH"
            )
        width = dtype.itemsize * 8
        value_range = ValueRange(0, (1 << (bits if bits and 0 < bits <= width else width)) - 1)
    linear = _linear(value_range)
    if dtype.itemsize > 2 or dtype.kind == "f":
        return linear
    # two bytes have 65536 values: a table is several times faster than the arithmetic
    every_value = np.arange(1 << dtype.itemsize * 8, dtype=f"u{dtype.itemsize}")
    table = linear(every_value.view(dtype))
    return lambda values: table[np.ascontiguousarray(values).view(every_value.dtype)]


def _linear(value_range: ValueRange) -> ToBytes:
    low, scale = value_range.low, 255 / (value_range.high - value_range.low)
    in_float32 = max(abs(low), abs(value_range.high), scale) < float(np.finfo(np.float32).max)

    def convert(values: npt.NDArray[Any]) -> UInt8:
        # float32 holds 24 bits: too few for large integers with a narrow range
        narrow = in_float32 and values.dtype.kind == "f" and values.dtype.itemsize <= 4
        floats: npt.NDArray[Any] = values.astype(np.float32 if narrow else np.float64)
        with np.errstate(over="ignore"):  # beyond the range, which is what infinity says
            scaled = (floats - low) * scale
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
        return np.asarray(np.floor(np.clip(scaled, 0, 255) + 0.5), dtype=np.uint8)

    return convert
