"""What an image file says about itself before anything is decoded: its format, its size and how it lies.

A few bytes can claim a picture of terabytes, and decoders believe them.  So the size is read here, with
bounds on every step, and checked before a decoder sees the file.  PNG and JPEG that are in memory are walked to
their end as well: it costs little, and a file that is cut off is then told from one that is broken.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["HeaderError", "ImageHeader", "peek_header", "read_header"]


class HeaderError(Exception):
    """What is wrong with the file, in a few words; :func:`isa_deploy.runtime.images.read_image` names the file."""


@dataclass(frozen=True)
class ImageHeader:
    """``size_wh`` is as stored, in pixels: before any rotation that the file asks for.

    ``orientation``: that rotation, 1 (none) to 8, as EXIF and TIFF number it; of WebP it is not looked for.
    ``by_rows``: a decoder can give the upper rows without keeping the whole picture (no interlaced PNG, no
    progressive JPEG, no TIFF with each colour as one compressed strip).  ``georeferenced``: a TIFF that says where
    on Earth it is.  ``tile_wh``: the pieces that a JPEG 2000 is coded in; None for the others.
    """

    format: str
    size_wh: tuple[int, int]
    orientation: int = 1
    by_rows: bool = True
    georeferenced: bool = False
    tile_wh: tuple[int, int] | None = None


def read_header(data: bytes) -> ImageHeader:
    """Header of a PNG, JPEG, BMP, WebP, TIFF or JPEG 2000 file, whose whole content is ``data``.

    Raises :class:`HeaderError` where it is none of these, is cut off, or holds no picture.
    """
    if not data:
        raise HeaderError("the file is empty (0 bytes)")
    return _parse(_InMemory(data), checked_to_end=data)


START_BYTES = 16 << 20
"""What :func:`peek_header` reads of a file: more than the colour profiles, notes and previews before a picture."""


def peek_header(path: Path) -> ImageHeader:
    """The same of a file that need not fit into memory; only its start is read, and a TIFF's first directory.

    Raises :class:`HeaderError` as :func:`read_header`, and where ``path`` is no ordinary file; OSError where it
    cannot be read.
    """
    status = path.stat()
    # a device or a pipe has no end that could be checked
    if not stat.S_ISREG(status.st_mode):
        raise HeaderError(f"this is {'a folder' if stat.S_ISDIR(status.st_mode) else 'no ordinary file'}")
    if status.st_size == 0:
        raise HeaderError("the file is empty (0 bytes)")
    return _parse(_OnDisk(path), checked_to_end=None)


class _Bytes(Protocol):
    """A file's bytes.  ``start``: the first of them, at least :data:`START_BYTES` where there are as many."""

    @property
    def start(self) -> bytes: ...

    def read(self, at: int, size: int) -> bytes: ...


@dataclass(frozen=True)
class _InMemory:
    start: bytes

    def read(self, at: int, size: int) -> bytes:
        return self.start[at : at + size]


class _OnDisk:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.start = self.read(0, START_BYTES)

    def read(self, at: int, size: int) -> bytes:
        with self._path.open("rb") as file:
            # an offset beyond what a file can have
            if at >= 1 << 63:
                return b""
            file.seek(at)
            return file.read(size)


@dataclass(frozen=True)
class _Found:
    size_wh: tuple[int, int]
    orientation: int = 1
    by_rows: bool = True
    georeferenced: bool = False
    tile_wh: tuple[int, int] | None = None


def _parse(file: _Bytes, checked_to_end: bytes | None) -> ImageHeader:
    for form in _FORMATS:
        if form.signature.match(file.start):
            try:
                found = form.find(file)
                if checked_to_end is not None and form.walk is not None:
                    form.walk(checked_to_end)
            except (struct.error, IndexError):
                raise HeaderError(f"the {form.name} file is cut off") from None
            width, height = found.size_wh
            if min(width, height) < 1:
                raise HeaderError(f"the {form.name} file holds no pixels ({width}x{height})")
            return ImageHeader(
                form.name, found.size_wh, found.orientation, found.by_rows, found.georeferenced, found.tile_wh
            )
    raise HeaderError("not an image that isa-deploy reads (PNG, JPEG, BMP, WebP, TIFF, JPEG 2000)")


_PNG_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """ISO/IEC 15948: chunks of length, type, data and CRC.  Type, first byte of the data and length of each."""
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, length
        at += 12 + length


def _png(file: _Bytes) -> _Found:
    size_wh: tuple[int, int] | None = None
    orientation, by_rows = 1, True
    for kind, at, length in _png_chunks(file.start):
        if kind == b"IHDR":
            width, height, interlace = struct.unpack_from(">II4xB", file.start, at)
            size_wh, by_rows = (width, height), interlace == 0
        elif kind == b"eXIf":
            orientation = _exif_orientation(file.start[at : at + length])
        elif kind in (b"IDAT", b"IEND"):
            break
    if size_wh is None:
        raise HeaderError("the PNG file has no header")
    return _Found(size_wh, orientation, by_rows)


def _walk_png(data: bytes) -> None:
    for kind, at, length in _png_chunks(data):
        (checksum,) = struct.unpack_from(">I", data, at + length)
        # the other chunks are the decoder's to forgive
        if kind in _PNG_CRITICAL and zlib.crc32(memoryview(data)[at - 4 : at + length]) != checksum:
            raise HeaderError(f"the PNG file is damaged (checksum of {kind.decode('latin-1')})")
        if kind == b"IEND":
            return


_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI: markers without a length
# Inside a scan a stuffed zero and RST are its own.  Fill bytes before a marker are stepped over one by one: as \xff+,
# a long run of them would be tried from each of its bytes.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """ITU-T T.81 annex B: the marker segments up to EOI.  Code and place of the length of each."""
    at = 2
    while True:
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            raise HeaderError("the JPEG file is cut off")
        code, at = data[marker.end() - 1], marker.end()
        if code == 0xD9:  # EOI; what follows (a phone's second picture, its notes) is not this picture
            return
        if code in _JPEG_BARE:
            continue
        yield code, at
        (length,) = struct.unpack_from(">H", data, at)
        at += length


def _jpeg(file: _Bytes) -> _Found:
    data = file.start
    size_wh: tuple[int, int] | None = None
    orientation, by_rows = 1, True
    for code, at in _jpeg_segments(data):
        if code in _JPEG_FRAMES and size_wh is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size_wh, by_rows = (width, height), code not in _JPEG_PROGRESSIVE
        elif code == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            (length,) = struct.unpack_from(">H", data, at)
            orientation = _exif_orientation(data[at + 8 : at + length])
        elif code == 0xDA:  # the pixels begin
            break
    if size_wh is None:
        raise HeaderError("the JPEG file holds no picture")
    return _Found(size_wh, orientation, by_rows)


def _walk_jpeg(data: bytes) -> None:
    for _ in _jpeg_segments(data):
        pass


def _bmp(file: _Bytes) -> _Found:
    """BITMAPCOREHEADER (12 bytes, 16-bit sizes) or BITMAPINFOHEADER and its children; top-down: height < 0."""
    (header_bytes,) = struct.unpack_from("<I", file.start, 14)
    if header_bytes == 12:
        width, height = struct.unpack_from("<HH", file.start, 18)
        return _Found((width, height))
    width, height = struct.unpack_from("<ii", file.start, 18)
    return _Found((width, abs(height)))


def _webp(file: _Bytes) -> _Found:
    """RFC 9649: the first chunk is a lossy or a lossless picture, or says how large the canvas is."""
    data = file.start
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return _Found((width & 0x3FFF, height & 0x3FFF))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return _Found(((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if kind == b"VP8X":
        extent = struct.unpack_from("<6B", data, 24)
        width, height = (low | mid << 8 | high << 16 for low, mid, high in (extent[:3], extent[3:]))
        return _Found((width + 1, height + 1))
    raise HeaderError("the WebP file holds no picture")


def _walk_webp(data: bytes) -> None:
    (riff_bytes,) = struct.unpack_from("<I", data, 4)
    if len(data) < 8 + riff_bytes:
        raise HeaderError("the WebP file is cut off")


_TIFF_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # BYTE, SHORT, LONG, LONG8
MAX_TIFF_TAGS = 4096

_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION, _TIFF_ORIENTATION = 256, 257, 259, 274
_TIFF_STRIP_HEIGHT, _TIFF_PLANES, _TIFF_TILE_WIDTH = 278, 284, 322
_TIFF_PLACES = frozenset({33550, 33922, 34264, 34735, 50844})
"""ModelPixelScale, ModelTiepoint, ModelTransformation and GeoKeyDirectory of GeoTIFF 1.1, and GDAL's RPCs."""


def _tiff(file: _Bytes) -> _Found:
    tags = _first_directory(file)
    width, height = tags.get(_TIFF_WIDTH), tags.get(_TIFF_HEIGHT)
    if width is None or height is None:
        raise HeaderError("the TIFF file gives no size")
    one_strip = _TIFF_TILE_WIDTH not in tags and (tags.get(_TIFF_STRIP_HEIGHT) or height) >= height
    by_rows = not (one_strip and tags.get(_TIFF_PLANES) == 2 and tags.get(_TIFF_COMPRESSION) != 1)
    return _Found((width, height), _upright_or(tags), by_rows, not _TIFF_PLACES.isdisjoint(tags))


def _first_directory(file: _Bytes) -> dict[int, int | None]:
    """TIFF 6.0 and BigTIFF: the tags of the first directory; their first value where it is a whole number."""
    order = "<" if file.start[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", file.start, 2)[0] == 43
    offset_at, offset_code, count_code, entry_bytes, value_at = (8, "Q", "Q", 20, 12) if big else (4, "I", "H", 12, 8)
    (directory,) = struct.unpack_from(order + offset_code, file.start, offset_at)
    count_bytes = struct.calcsize(order + count_code)
    (count,) = struct.unpack(order + count_code, file.read(directory, count_bytes))
    if count > MAX_TIFF_TAGS:
        raise HeaderError(f"the TIFF file has {count} tags, more than {MAX_TIFF_TAGS}")
    entries = file.read(directory + count_bytes, count * entry_bytes)
    tags: dict[int, int | None] = {}
    for entry in range(0, count * entry_bytes, entry_bytes):
        tag, kind = struct.unpack_from(order + "HH", entries, entry)
        if tag in tags:
            continue  # libtiff takes the first, too
        if kind in _TIFF_VALUES:
            (tags[tag],) = struct.unpack_from(order + _TIFF_VALUES[kind], entries, entry + value_at)
        else:
            tags[tag] = None
    return tags


def _exif_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, which is a small TIFF file; 1 where it is damaged, as decoders take it."""
    if exif[:2] not in (b"II", b"MM"):
        return 1
    try:
        return _upright_or(_first_directory(_InMemory(exif)))
    except (struct.error, HeaderError):
        return 1


def _upright_or(tags: dict[int, int | None]) -> int:
    found = tags.get(_TIFF_ORIENTATION)
    return found if found is not None and 1 <= found <= 8 else 1


MAX_JP2_BOXES = 256


def _jpeg2000(file: _Bytes) -> _Found:
    """ISO/IEC 15444-1: the SIZ marker at the start of the codestream, which the JP2 format keeps in a box."""
    at = 0 if file.start[:2] == b"\xff\x4f" else _jp2_codestream(file)
    marks, right, lower, left, upper, *tile = struct.unpack(">I4x6I", file.read(at, 32))
    if marks != 0xFF4FFF51:
        raise HeaderError("the JPEG 2000 file holds no picture")
    return _Found((right - left, lower - upper), tile_wh=(tile[0], tile[1]))


_JP2_SUPERBOXES = frozenset({b"jp2h", b"asoc", b"res "})


def _jp2_codestream(file: _Bytes) -> int:
    """Where the codestream of a JP2 file begins (annex I: boxes of length, type and content)."""
    codestream: int | None = None
    at = 0
    for _ in range(MAX_JP2_BOXES):
        head = file.read(at, 8)
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        content = 8
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(at + 8, 8))
            content = 16
        if kind == b"jp2c" and codestream is None:
            codestream = at + content
        elif kind in _JP2_SUPERBOXES:
            _check_jp2_boxes(file, at + content, at + length)
        if length < content:  # 0: up to the end of the file
            break
        at += length
    if codestream is None:
        raise HeaderError("the JPEG 2000 file holds no picture")
    return codestream


def _check_jp2_boxes(file: _Bytes, at: int, end: int) -> None:
    """The boxes inside of a box fill it, each with a length of its own: in others GDAL 3.10 goes round for ever."""
    ends = [end]
    for _ in range(MAX_JP2_BOXES):
        while ends and at == ends[-1]:
            ends.pop()
        if not ends:
            return
        length, kind = struct.unpack(">I4s", file.read(at, 8))
        if length < 8 or at + length > ends[-1]:
            break
        if kind in _JP2_SUPERBOXES:
            ends.append(at + length)
        at += 8 if kind in _JP2_SUPERBOXES else length
    raise HeaderError("the JPEG 2000 file is damaged (lengths of its boxes)")


@dataclass(frozen=True)
class _Format:
    """``find`` reads the header; ``walk`` goes through the whole file, and raises where it is cut off or damaged."""

    signature: re.Pattern[bytes]
    name: str
    find: Callable[[_Bytes], _Found]
    walk: Callable[[bytes], None] | None = None


_FORMATS = (
    _Format(re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG", _png, _walk_png),
    _Format(re.compile(rb"\xff\xd8\xff"), "JPEG", _jpeg, _walk_jpeg),
    _Format(re.compile(rb"BM"), "BMP", _bmp),
    _Format(re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP", _webp, _walk_webp),
    _Format(re.compile(rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]"), "TIFF", _tiff),
    _Format(re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), "JPEG 2000", _jpeg2000),
)
