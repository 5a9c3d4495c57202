"""Label pictures: PNG files of one channel, in which a pixel's number is its class.

The numbers are those that mmsegmentation reads (Pillow, without any conversion): of a palette picture the index, not
the colour.  OpenCV decodes a palette to colours only, so it is shown the file as a grey one, which differs in nothing
but the header.  Pillow would give the indices, and takes a picture whose pixels end early for one that ends in zeros.

Two things differ from mmsegmentation: 2 and 4 bits of grey are not stretched to 8, and numbers above 255 are refused,
not cut to their low byte.
"""

from __future__ import annotations

import stat
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.dataset import VOID, UInt8
from isa_deploy.files import os_errors
from isa_deploy.runtime.image_header import HeaderError, read_header
from isa_deploy.runtime.images import MAX_PIXELS

__all__ = ["read_indices", "translated", "without_zero"]

VOID_16 = 65535
SURROUNDINGS_BYTES = 16 << 20  # colour profiles and texts round 16-bit pixels

_GREY, _PALETTE = 0, 3  # ISO/IEC 15948, table 11.1, as the others
_OTHERS = {2: "RGB colours", 4: "grey and alpha", 6: "RGB colours and alpha"}


def read_indices(path: Path, max_pixels: int = MAX_PIXELS) -> UInt8:
    """The numbers in a PNG of one channel (grey of 1 to 16 bits, or a palette's indices): uint8 H x W, C-contiguous.

    Of 16 bits, 65535 is void and becomes 255.  Raises :class:`InputError` where the file is missing, cut off, damaged
    or no PNG, where it holds colours or a number above 255, and where it says, before it is decoded, that it has more
    than ``max_pixels`` pixels.
    """
    data = _read_bounded(path, 2 * max_pixels + SURROUNDINGS_BYTES)
    try:
        header = read_header(data)
    except HeaderError as error:
        raise InputError(f"{path}: {error}; replace or remove the file") from None
    if header.format != "PNG":
        raise InputError(f"{path}: a {header.format} file; labels are class indices in a PNG of one channel")
    width, height = header.size_wh
    if width * height > max_pixels:
        raise InputError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} million pixels, more than the "
            f"{max_pixels / 1e6:.0f} million that are read at once; cut the picture into smaller ones"
        )
    # a second header would be believed by whoever comes to it first
    if data[8:24] != struct.pack(">I4sII", 13, b"IHDR", width, height):
        raise InputError(f"{path}: the PNG file is damaged (its header is not its start); replace or remove the file")
    depth, kind = data[24], data[25]
    if kind not in (_GREY, _PALETTE):
        raise InputError(
            f"{path}: holds {_OTHERS.get(kind, f'colours of kind {kind}')}; labels are class indices in one "
            "channel, so save the indices, not the colours that they are drawn in"
        )
    numbers_hw = _decode(path, _as_grey(data), (width, height))
    if depth == 16:
        return _narrowed(path, numbers_hw)
    labels_hw = numbers_hw.astype(np.uint8, copy=False)
    if depth < 8:
        # decoders stretch grey to 0..255: the number in the file times this
        labels_hw //= 255 // ((1 << depth) - 1)
    return labels_hw


def translated(labels_hw: UInt8, table: UInt8) -> UInt8:
    """Every number replaced by ``table`` (uint8, 256): uint8 H x W."""
    # 2.8 ms against 14.6 of table[labels_hw] at 1024 x 2048
    return np.asarray(cv2.LUT(labels_hw, table), dtype=np.uint8)


def without_zero(labels_hw: UInt8) -> UInt8:
    """Classes from 1 become classes from 0, and 0 becomes void: uint8 H x W.

    This is mmsegmentation's ``reduce_zero_label`` (``LoadAnnotations``): 0 -> 255, less one, 254 -> 255.
    """
    return translated(labels_hw, _WITHOUT_ZERO)


def _without_zero() -> UInt8:
    table = np.arange(256, dtype=np.int64) - 1
    table[[0, VOID]] = VOID
    return table.astype(np.uint8)


_WITHOUT_ZERO = _without_zero()


def _as_grey(data: bytes) -> bytes:
    """The header, its colours called grey, and the pixels: a PNG of the same numbers and without a palette.

    Texts, profiles and animations stay behind; they say nothing of labels, and decoders were led astray by them.
    ``data`` was walked to its end before.
    """
    header = b"IHDR" + data[16:25] + bytes([_GREY]) + data[26:29]
    pieces = [data[:12], header, struct.pack(">I", zlib.crc32(header))]
    at, content = 33, memoryview(data)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in (b"IDAT", b"IEND"):
            pieces.append(bytes(content[at:end]))
        if kind == b"IEND":
            break
        at = end
    return b"".join(pieces)


def _decode(path: Path, png: bytes, size_wh: tuple[int, int]) -> npt.NDArray[np.generic]:
    try:
        decoded = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot decode the PNG file ({error.err}); save it anew") from None
    if decoded is None or decoded.shape != size_wh[::-1]:
        raise InputError(f"{path}: the PNG file is damaged (its pixels cannot be read); replace or remove the file")
    return np.asarray(decoded)


def _narrowed(path: Path, values_hw: npt.NDArray[np.generic]) -> UInt8:
    values = values_hw.astype(np.int64)
    values[values == VOID_16] = VOID
    largest = int(values.max())
    if largest > VOID:
        raise InputError(
            f"{path}: holds the number {largest}; labels are 0 to 255, and 65535 for void, so save class indices "
            "(not instances)"
        )
    return values.astype(np.uint8)


def _read_bounded(path: Path, max_bytes: int) -> bytes:
    with os_errors(path, "read the labels"):
        status = path.stat()
        # a device or a pipe has no end that could be checked
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise InputError(f"{path}: this is {kind}; labels are PNG files")
        if status.st_size > max_bytes:
            raise InputError(
                f"{path}: {status.st_size / 1e9:.1f} GB, more than the {max_bytes / 1e9:.1f} GB of the largest label "
                "picture; replace or remove the file"
            )
        return path.read_bytes()
