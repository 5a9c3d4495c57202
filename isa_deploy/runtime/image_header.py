"""What an image file says about itself before anything is decoded: its format and its size.

A few bytes can claim a picture of terabytes, and decoders believe them.  So the size is read here, with
bounds on every step, and checked before a decoder sees the file.  PNG and JPEG are walked to their end as
well: it costs little, and a file that is cut off is then told from one that is broken.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HeaderError", "ImageHeader", "read_header"]


class HeaderError(Exception):
    """What is wrong with the file, in a few words; :func:`isa_deploy.runtime.images.read_image` names the file."""


@dataclass(frozen=True)
class ImageHeader:
    """``size_wh`` is as stored, in pixels: before any rotation that the file asks for."""

    format: str
    size_wh: tuple[int, int]


def read_header(data: bytes) -> ImageHeader:
    """Format and size of a PNG, JPEG, BMP, WebP or TIFF file, whose whole content is ``data``.

    Raises :class:`HeaderError` where it is none of these, is cut off, or holds no picture.
    """
    if not data:
        raise HeaderError("the file is empty (0 bytes)")
    for signature, name, parse in _FORMATS:
        if signature.match(data):
            try:
                size_wh = parse(data)
            except (struct.error, IndexError):
                raise HeaderError(f"the {name} file is cut off") from None
            if min(size_wh) < 1:
                raise HeaderError(f"the {name} file holds no pixels ({size_wh[0]}x{size_wh[1]})")
            return ImageHeader(name, size_wh)
    raise HeaderError("not an image that isa-deploy reads (PNG, JPEG, BMP, WebP, TIFF)")


_PNG_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})


def _png(data: bytes) -> tuple[int, int]:
    """ISO/IEC 15948: chunks of length, type, data and CRC, from IHDR to IEND."""
    size_wh: tuple[int, int] | None = None
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        # the other chunks are the decoder's to forgive
        if kind in _PNG_CRITICAL and zlib.crc32(memoryview(data)[at + 4 : at + 8 + length]) != checksum:
            raise HeaderError(f"the PNG file is damaged (checksum of {kind.decode('latin-1')})")
        if kind == b"IHDR":
            size_wh = struct.unpack_from(">II", data, at + 8)
        elif kind == b"IEND":
            break
        at += 12 + length
    if size_wh is None:
        raise HeaderError("the PNG file has no header")
    return size_wh


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI: markers without a length
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # inside a scan: a stuffed zero and RST are its own


def _jpeg(data: bytes) -> tuple[int, int]:
    """ITU-T T.81 annex B: marker segments, scans among them, up to EOI."""
    size_wh: tuple[int, int] | None = None
    at = 2
    while True:
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            raise HeaderError("the JPEG file is cut off")
        code, at = data[marker.end() - 1], marker.end()
        if code == 0xD9:  # EOI; what follows (a phone's second picture, its notes) is not this picture
            break
        if code in _JPEG_BARE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if code in _JPEG_FRAMES and size_wh is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size_wh = (width, height)
        at += length
    if size_wh is None:
        raise HeaderError("the JPEG file holds no picture")
    return size_wh


def _bmp(data: bytes) -> tuple[int, int]:
    """BITMAPCOREHEADER (12 bytes, 16-bit sizes) or BITMAPINFOHEADER and its children; top-down: height < 0."""
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", data, 18)
        return width, height
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    """RFC 9649: the first chunk is a lossy or a lossless picture, or says how large the canvas is."""
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if len(data) < 8 + riff_bytes:
        raise HeaderError("the WebP file is cut off")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        extent = struct.unpack_from("<6B", data, 24)
        width, height = (low | mid << 8 | high << 16 for low, mid, high in (extent[:3], extent[3:]))
        return width + 1, height + 1
    raise HeaderError("the WebP file holds no picture")


_TIFF_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
MAX_TIFF_TAGS = 4096


def _tiff(data: bytes) -> tuple[int, int]:
    """TIFF 6.0 and BigTIFF: ImageWidth (256) and ImageLength (257) of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    offset_at, offset_code, count_code, entry_bytes, value_at = (8, "Q", "Q", 20, 12) if big else (4, "I", "H", 12, 8)
    (directory,) = struct.unpack_from(order + offset_code, data, offset_at)
    (count,) = struct.unpack_from(order + count_code, data, directory)
    if count > MAX_TIFF_TAGS:
        raise HeaderError(f"the TIFF file has {count} tags, more than {MAX_TIFF_TAGS}")
    entry = directory + struct.calcsize(order + count_code)
    sizes: dict[int, int] = {}
    for _ in range(count):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in (256, 257) and kind in _TIFF_VALUES:
            (sizes[tag],) = struct.unpack_from(order + _TIFF_VALUES[kind], data, entry + value_at)
        entry += entry_bytes
    if len(sizes) < 2:
        raise HeaderError("the TIFF file gives no size")
    return sizes[256], sizes[257]


_FORMATS: tuple[tuple[re.Pattern[bytes], str, Callable[[bytes], tuple[int, int]]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg),
    (re.compile(rb"BM"), "BMP", _bmp),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _webp),
    (re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"), "TIFF", _tiff),
)
