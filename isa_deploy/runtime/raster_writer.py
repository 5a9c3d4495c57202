"""Label maps of any size as files: a tiled palette TIFF with overviews, or a palette PNG.

Both take strips of rows from the top and hold one row of tiles; both are written whole or not at all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import replacing
from isa_deploy.manifest import ClassesSpec
from isa_deploy.runtime.raster_library import gdal, local_name
from isa_deploy.runtime.raster_reader import Georeference

__all__ = ["NO_LABEL", "Strips", "write_label_png", "write_label_tiff"]

UInt8 = npt.NDArray[np.uint8]
Size = tuple[int, int]

Strips = Callable[[], Iterable[UInt8]]
"""Gives a label map from the top, in strips of any height, each uint8 h x W."""

NO_LABEL = 255
"""The label of pixels that hold no data: mmsegmentation's ignore index."""

TILE = 512

SMALLEST_OVERVIEW = 256
"""Overviews are halved until the longer side is no longer than this; GDAL's own rule (gdaladdo)."""

DEFLATE_LEVEL = 6

_COMPRESSION = {"compress": "deflate", "zlevel": DEFLATE_LEVEL}
"""Every TIFF reader has it since 1996.  On label maps of street scenes LZW is 2.3 times as large, and Zstandard, which
libtiff before 4.0.10 lacks, 0.6 times."""


def write_label_tiff(
    path: Path,
    strips: Strips,
    size_hw: Size,
    classes: ClassesSpec,
    *,
    georeference: Georeference | None = None,
    has_voids: bool = False,
    description: Mapping[str, str] | None = None,
) -> None:
    """Write labels as TIFF: 8 bits, one band, the classes' colours as palette, tiles of 512, DEFLATE, overviews inside.

    BigTIFF where it might pass 4 GiB.  An overview's pixel has the most frequent label of the four below it.  The
    classes' names are GDAL metadata: CLASS_0 and so on.  ``has_voids``: label 255 is declared to be no data.

    Raises :class:`InputError` where it cannot be written, a full disk included; what was written is read back and
    compared before it gets its name.
    """
    height, width = size_hw
    with replacing(path) as temporary:
        checksum = 0
        with gdal(path, "write the labels") as rasterio:
            profile: dict[str, Any] = {
                "driver": "GTiff",
                "width": width,
                "height": height,
                "count": 1,
                "dtype": "uint8",
                "tiled": True,
                "blockxsize": TILE,
                "blockysize": TILE,
                "bigtiff": "IF_SAFER",
                **_COMPRESSION,
            }
            if georeference is not None:
                places = {"crs": georeference.crs, "transform": georeference.transform}
                profile |= {name: place for name, place in places.items() if place is not None}
            if has_voids:
                profile["nodata"] = NO_LABEL
            with rasterio.open(
                local_name(temporary), "w", **{k: v for k, v in profile.items() if v is not None}
            ) as file:
                _describe(file, classes, georeference, description or {})
                for top, rows_hw in _tile_rows(strips(), size_hw):
                    checksum = zlib.crc32(rows_hw.data, checksum)
                    file.write(rows_hw, 1, window=rasterio.windows.Window(0, top, width, len(rows_hw)))
        factors = _overview_factors(size_hw)
        if factors:
            name = local_name(temporary)
            with gdal(path, "write the overviews") as rasterio, rasterio.open(name, "r+", driver="GTiff") as file:
                file.build_overviews(factors, rasterio.enums.Resampling.mode)
        # GDAL tells of a disk that is full only where it happens to notice
        with gdal(path, "read back what was written: the disk may be full") as rasterio:
            if _checksum(rasterio, temporary, size_hw) != checksum:
                raise InputError(f"{path}: what was written reads back differently; check the disk, and run it again")
            for level in range(len(factors)):
                _read_through(rasterio, temporary, level)


def _describe(
    file: Any, classes: ClassesSpec, georeference: Georeference | None, description: Mapping[str, str]
) -> None:
    colours = dict.fromkeys(range(256), (0, 0, 0, 255)) | {
        label: (*colour, 255) for label, colour in enumerate(classes.palette_rgb)
    }
    file.write_colormap(1, colours)
    file.set_band_description(1, "class")
    file.update_tags(**{f"CLASS_{label}": name for label, name in enumerate(classes.names)}, **description)
    if georeference is None:
        return
    if georeference.gcps:
        file.gcps = (list(georeference.gcps), georeference.gcps_crs)
    if georeference.rpcs is not None:
        file.rpcs = georeference.rpcs
    if georeference.pixel_is is not None:
        file.update_tags(AREA_OR_POINT=georeference.pixel_is)


def _overview_factors(size_hw: Size) -> list[int]:
    factors = []
    factor = 2
    while max(size_hw) * 2 > SMALLEST_OVERVIEW * factor and max(size_hw) > SMALLEST_OVERVIEW:
        factors.append(factor)
        factor *= 2
    return factors


def _tile_rows(strips: Iterable[UInt8], size_hw: Size) -> Iterator[tuple[int, UInt8]]:
    """Strips of any height as strips of whole tiles, each with its first row."""
    height, width = size_hw
    rows_hw = np.empty((TILE, width), dtype=np.uint8)
    top = filled = 0
    for strip in strips:
        at = 0
        while at < len(strip):
            taken = min(len(strip) - at, TILE - filled)
            rows_hw[filled : filled + taken] = strip[at : at + taken]
            at += taken
            filled += taken
            if filled == TILE:
                yield top, rows_hw
                top, filled = top + TILE, 0
    if filled:
        yield top, rows_hw[:filled]
    if top + filled != height:
        raise ValueError(f"{top + filled} rows of labels for a picture of {height}")


def _checksum(rasterio: Any, path: Path, size_hw: Size) -> int:
    height, width = size_hw
    checksum = 0
    with rasterio.open(local_name(path), driver="GTiff") as file:
        for top in range(0, height, TILE):
            window = rasterio.windows.Window(0, top, width, min(TILE, height - top))
            checksum = zlib.crc32(np.ascontiguousarray(file.read(1, window=window)).data, checksum)
    return checksum


def _read_through(rasterio: Any, path: Path, level: int) -> None:
    with rasterio.open(local_name(path), driver="GTiff", overview_level=level) as file:
        for top in range(0, file.height, TILE):
            file.read(1, window=rasterio.windows.Window(0, top, file.width, min(TILE, file.height - top)))


def write_label_png(
    path: Path, strips: Strips, size_hw: Size, classes: ClassesSpec, *, has_voids: bool = False
) -> None:
    """Write labels as PNG, one byte a pixel, the classes' colours as palette.

    ``has_voids``: label 255 is transparent.  Raises :class:`InputError` where it cannot be written.
    """
    height, width = size_hw
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(classes.palette_rgb)] = classes.palette_rgb
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        # eight bits, a palette (colour type 3), deflate, adaptive filters, not interlaced
        _png_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        _png_chunk(file, b"PLTE", colours.tobytes())
        if has_voids:
            _png_chunk(file, b"tRNS", b"\xff" * 255 + b"\0")
        deflate = zlib.compressobj(DEFLATE_LEVEL)
        for _, rows_hw in _tile_rows(strips(), size_hw):
            # a byte before each row names its filter: 0, none, which suits indices best (PNG specification, 12.7)
            data = deflate.compress(np.pad(rows_hw, ((0, 0), (1, 0))).tobytes())
            if data:
                _png_chunk(file, b"IDAT", data)
        _png_chunk(file, b"IDAT", deflate.flush())
        _png_chunk(file, b"IEND", b"")


def _png_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))
