"""Pictures of any size, read from the top in as many rows as are wanted.

The files are untrusted.  GDAL reads them, through rasterio, with one driver: that of the format that the file's first
bytes name.  So a .tif that holds a VRT, which could name other files and addresses, is refused, and nothing beside the
picture is read.  Its size is checked before GDAL sees it, and how it is stored before anything is decoded.

What a network sees here is what :func:`isa_deploy.runtime.images.read_image` would show it: exactly for 8-bit PNG and
TIFF, and for JPEG within the few levels by which two JPEG decoders differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors
from isa_deploy.runtime.image_header import HeaderError, ImageHeader, peek_header
from isa_deploy.runtime.images import MAX_PIXELS, read_image
from isa_deploy.runtime.raster_library import gdal, local_name
from isa_deploy.runtime.raster_values import ToBytes, ValueRange, byte_scale

__all__ = [
    "MAX_RASTER_PIXELS",
    "RASTER_SUFFIXES",
    "Georeference",
    "LargePicture",
    "RasterReader",
    "WholePicture",
    "open_large_picture",
]

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
Span = tuple[int, int]

RASTER_SUFFIXES = frozenset({".j2k", ".jp2"})
"""Endings, in small letters, of the files that only this module reads, beside those of ``IMAGE_SUFFIXES``."""

MAX_RASTER_PIXELS = 4_000_000_000
"""The largest picture that is read in rows by default: 80,000 x 50,000."""

STRIP_BYTES = 256 << 20
"""What the rows that the file keeps together may take as 8-bit BGR; 40,000 columns in tiles of 2048 rows fit."""

CODED_BYTES = 128 << 20
"""The longest JPEG 2000 file whose pieces may be larger than ``CODED_PIXELS``: OpenJPEG holds about four times what is
coded of a piece, however little of it is wanted."""

CODED_PIXELS = 1 << 26

CHUNK_BYTES = 16 << 20
"""Decoded at once: with what GDAL makes of it, well within GDAL's cache, so that no block is decoded twice."""

_IN_TILES = "save it in tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE INPUT tiled.tif"

_DRIVERS = {"TIFF": "GTiff", "JPEG 2000": "JP2OpenJPEG", "PNG": "PNG", "JPEG": "JPEG"}


@dataclass(frozen=True)
class Georeference:
    """Where a picture lies on Earth, in rasterio's terms; None or empty where the file does not say.

    ``transform`` goes from pixels to ``crs``; ``gcps`` are ground control points in ``gcps_crs``; ``rpcs`` the
    coefficients of a satellite's camera.  ``pixel_is``: "Area" or "Point".
    """

    crs: Any
    transform: Any
    gcps: tuple[Any, ...]
    gcps_crs: Any
    rpcs: Any
    pixel_is: str | None

    @property
    def is_known(self) -> bool:
        """Whether there is anything in it."""
        return not (
            self.crs is None
            and self.transform is None
            and not self.gcps
            and self.gcps_crs is None
            and self.rpcs is None
        )


class LargePicture(Protocol):
    """A picture that is read from the top, inside a ``with``."""

    def __enter__(self) -> LargePicture: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def georeference(self) -> Georeference | None:
        """Where it lies, or None for a picture that is no map."""

    @property
    def has_voids(self) -> bool:
        """Whether pixels without data are possible."""

    def read_rows(self, start: int, stop: int) -> UInt8:
        """Some rows, uint8 (stop - start) x W x 3, BGR.  Asked for in rising order, each at most once."""

    def valid(self, rows: Span, cols: Span) -> Bool | None:
        """Which pixels of a rectangle hold data, bool h x w; None where all do.

        Its rows were read, and no rectangle was asked for that begins below it.
        """


def open_large_picture(
    path: Path, max_pixels: int = MAX_RASTER_PIXELS, value_range: ValueRange | None = None
) -> LargePicture:
    """A picture, read in rows where its format allows that, and decoded at once where it does not.

    At once: BMP, WebP, interlaced PNG, progressive JPEG, TIFF with each colour as one compressed piece, and pictures
    that a tag turns.  OpenCV reads them, up to ``MAX_PIXELS`` pixels; maps among them are refused.  Raises as
    :class:`RasterReader`.
    """
    header = _checked_header(path, max_pixels)
    turned = header.orientation != 1
    if header.format in _DRIVERS and header.by_rows and not turned:
        return RasterReader(path, max_pixels, value_range)
    width, height = header.size_wh
    # a map that is turned while it is read would lie wrongly; OpenCV does not read where it lies
    if width * height > MAX_PIXELS or header.georeferenced:
        what = "is turned by a tag" if turned else f"is a {header.format} that is not stored row by row"
        raise InputError(
            f"{path}: {width}x{height} pixels, and {what}, so it would be decoded as a whole; save it upright as "
            "tiled TIFF (gdal_translate -co TILED=YES), or as PNG or JPEG that is neither interlaced nor progressive"
        )
    return WholePicture(path, max_pixels)


class WholePicture:
    """A :class:`LargePicture` that lies in memory.  Raises :class:`InputError` as ``read_image``."""

    georeference: Georeference | None = None
    has_voids = False

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self._frame_hwc = read_image(path, min(max_pixels, MAX_PIXELS))

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self._frame_hwc.shape[0]), int(self._frame_hwc.shape[1])

    def read_rows(self, start: int, stop: int) -> UInt8:
        """Some rows, uint8 (stop - start) x W x 3, BGR."""
        return self._frame_hwc[start:stop]

    def valid(self, rows: Span, cols: Span) -> Bool | None:
        """None: all pixels hold data."""
        return None

    def __enter__(self) -> WholePicture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class RasterReader:
    """A TIFF, JPEG 2000, PNG or JPEG file as a :class:`LargePicture`.

    ``max_pixels``: more are refused before anything is decoded.  ``value_range``: what becomes black and white where
    the file has more than 8 bits (:func:`isa_deploy.runtime.raster_values.byte_scale`).

    One band is grey, or a palette; two are grey and alpha; three are colours; of four the last is alpha, or is left
    out (near infrared).  Pixels whose alpha is 0, that a mask in the file hides, that hold the file's no-data value in
    every band or that are not a number hold no data.

    Raises :class:`InputError` where the file is missing, damaged, too large, of another kind, turned by a tag, or
    stored so that it can only be decoded as a whole; :class:`BackendUnavailableError` without rasterio.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_RASTER_PIXELS, value_range: ValueRange | None = None) -> None:
        header = _checked_header(path, max_pixels)
        driver = _DRIVERS.get(header.format)
        if driver is None:
            raise InputError(f"{path}: a {header.format} is not read in rows; save it as TIFF, PNG or JPEG")
        if header.orientation != 1:
            raise InputError(f"{path}: a tag turns it (orientation {header.orientation}); save it upright")
        self._path = path
        with gdal(path, f"open it as {header.format}") as rasterio:
            self._file = rasterio.open(local_name(path), driver=driver)
            # within the settings still: GDAL reads tags, and looks for files beside the picture, when it is asked
            try:
                if (self._file.width, self._file.height) != header.size_wh:
                    raise InputError(
                        f"{path}: says {header.size_wh[0]}x{header.size_wh[1]} pixels in one place and "
                        f"{self._file.width}x{self._file.height} in another; save it anew"
                    )
                self._layout = _layout(path, self._file, value_range)
                self._check_storage(header)
                self.georeference: Georeference | None = _georeference(self._file)
            except BaseException:
                self._file.close()
                raise
        self._kept_hwc = np.empty((0, self._file.width, 3), dtype=np.uint8)
        self._kept_from = 0
        self._valid_rows: deque[tuple[int, UInt8]] = deque()

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self._file.height), int(self._file.width)

    @property
    def has_voids(self) -> bool:
        """Whether pixels without data are possible."""
        return self._layout.has_voids

    def read_rows(self, start: int, stop: int) -> UInt8:
        """Some rows, uint8 (stop - start) x W x 3, BGR.  Asked for in rising order, each at most once.

        Raises :class:`InputError` where they cannot be decoded.
        """
        height, width = self.size_hw
        if not self._kept_from <= start < stop <= height:
            raise ValueError(f"rows {start} to {stop} of {height}, after row {self._kept_from}")
        rows_hwc = np.empty((stop - start, width, 3), dtype=np.uint8)
        kept = self._kept_hwc[start - self._kept_from :][: stop - start]
        rows_hwc[: len(kept)] = kept
        at = start + len(kept)
        if at == stop:
            return rows_hwc
        self._kept_hwc, self._kept_from = self._kept_hwc[:0], stop
        for first, last in self._strips(at, stop):
            if start <= first and last <= stop:
                self._decode(first, last, rows_hwc[first - start : last - start])
                continue
            strip_hwc = np.empty((last - first, width, 3), dtype=np.uint8)
            self._decode(first, last, strip_hwc)
            inside = slice(max(first, start), min(last, stop))
            rows_hwc[inside.start - start : inside.stop - start] = strip_hwc[inside.start - first : inside.stop - first]
            if last > stop:
                self._kept_hwc, self._kept_from = strip_hwc, first
        return rows_hwc

    def valid(self, rows: Span, cols: Span) -> Bool | None:
        """Which pixels of a rectangle hold data, bool h x w; None where all do."""
        if not self.has_voids:
            return None
        found_hw = np.ones((rows[1] - rows[0], cols[1] - cols[0]), dtype=np.bool_)
        byte = cols[0] // 8
        while self._valid_rows and self._valid_rows[0][0] + len(self._valid_rows[0][1]) <= rows[0]:
            self._valid_rows.popleft()
        for first, packed in self._valid_rows:
            top, bottom = max(first, rows[0]), min(first + len(packed), rows[1])
            if top < bottom:
                bits = np.unpackbits(packed[top - first : bottom - first, byte : -(-cols[1] // 8)], axis=1)
                found_hw[top - rows[0] : bottom - rows[0]] = bits[:, cols[0] - byte * 8 :][:, : cols[1] - cols[0]]
        return found_hw

    def close(self) -> None:
        """Close the file.  Closing twice is harmless."""
        self._file.close()

    def __enter__(self) -> RasterReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_storage(self, header: ImageHeader) -> None:
        if header.tile_wh is not None:
            tile_w, tile_h = (min(pair) for pair in zip(header.tile_wh, header.size_wh, strict=True))
            with os_errors(self._path, "read"):
                coded = self._path.stat().st_size
            if tile_w * tile_h > CODED_PIXELS and coded > CODED_BYTES:
                raise InputError(
                    f"{self._path}: is coded in pieces of {tile_w}x{tile_h} pixels and {coded >> 20} MiB long, and "
                    f"JPEG 2000 like that is read up to {CODED_BYTES >> 20} MiB; {_IN_TILES}"
                )
        block_h, block_w = self._layout.block_hw
        height, width = self.size_hw
        strip = min(block_h, height) * width * 3
        block = block_h * block_w * self._layout.bytes_per_pixel
        if max(strip, block) > STRIP_BYTES:
            raise InputError(
                f"{self._path}: is stored in pieces of {block_w}x{block_h} pixels, which would take "
                f"{max(strip, block) >> 20} MiB at a time; {_IN_TILES}"
            )

    def _strips(self, start: int, stop: int) -> Iterator[Span]:
        """Rows to decode together, which begin and end where the file's blocks do."""
        block_h = self._layout.block_hw[0]
        row_bytes = self.size_hw[1] * self._layout.bytes_per_pixel
        step = max(CHUNK_BYTES // (row_bytes * block_h), 1) * block_h
        at = start // block_h * block_h
        end = -(-stop // block_h) * block_h
        while at < end:
            yield at, min(at + step, end, self.size_hw[0])
            at += step

    def _decode(self, first: int, last: int, out_hwc: UInt8) -> None:
        block_h, block_w = self._layout.block_hw
        width = self.size_hw[1]
        column_bytes = max(last - first, block_h) * self._layout.bytes_per_pixel
        step = max(CHUNK_BYTES // (column_bytes * block_w), 1) * block_w
        valid_hw = np.empty((last - first, width), dtype=np.bool_) if self.has_voids else None
        for left in range(0, width, step):
            rows, cols = (first, last), (left, min(left + step, width))
            try:
                bands, mask_hw = self._bands(rows, cols)
            except InputError:
                self._blame_block(rows, cols)
                raise
            out_hwc[:, slice(*cols)] = self._layout.colours(bands)
            if valid_hw is not None:
                valid_hw[:, slice(*cols)] = self._layout.validity(bands, mask_hw)
        if valid_hw is not None:
            self._valid_rows.append((first, np.packbits(valid_hw, axis=1)))

    def _bands(self, rows: Span, cols: Span) -> tuple[npt.NDArray[Any], UInt8 | None]:
        """Bands x h x w of a rectangle, and the mask that the file holds for it."""
        where = f"rows {rows[0]} to {rows[1] - 1}, columns {cols[0]} to {cols[1] - 1}"
        with gdal(self._path, f"decode {where}: the file is damaged or cut off") as rasterio:
            window = rasterio.windows.Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
            bands = self._file.read(list(self._layout.bands), window=window)
            return bands, self._file.read_masks(1, window=window) if self._layout.masked else None

    def _blame_block(self, rows: Span, cols: Span) -> None:
        """Raise for the first piece of the file in a rectangle that cannot be decoded."""
        block_h, block_w = self._layout.block_hw
        for top in range(rows[0], rows[1], block_h):
            for left in range(cols[0], cols[1], block_w):
                self._bands((top, min(top + block_h, rows[1])), (left, min(left + block_w, cols[1])))


def _checked_header(path: Path, max_pixels: int) -> ImageHeader:
    try:
        with os_errors(path, "read"):
            header = peek_header(path)
    except HeaderError as error:
        raise InputError(f"{path}: {error}; replace or remove the file") from None
    width, height = header.size_wh
    if width * height > max_pixels:
        raise InputError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} million pixels, more than the "
            f"{max_pixels / 1e6:.0f} million that are read; allow more with --max-pixels"
        )
    return header


@dataclass(frozen=True)
class _Layout:
    """What the bands of a file mean.

    ``bands``: rasterio's numbers of those that are read, the colours first.  ``palette_bgr``: for a band of indices the
    table of each channel, 256 or 65536 long.  ``voids``: the value of each colour that marks no data.
    """

    bands: tuple[int, ...]
    colour_count: int
    has_alpha: bool
    masked: bool
    palette_bgr: tuple[UInt8, ...] | None
    to_bytes: ToBytes | None
    inverted: bool
    voids: tuple[float, ...] | None
    is_float: bool
    block_hw: tuple[int, int]
    bytes_per_pixel: int

    @property
    def has_voids(self) -> bool:
        return self.has_alpha or self.masked or self.voids is not None or self.is_float

    def colours(self, bands: npt.NDArray[Any]) -> UInt8:
        """uint8 h x w x 3 (BGR) of bands x h x w."""
        planes = bands[: self.colour_count]
        if self.palette_bgr is not None:
            return np.asarray(cv2.merge([_look_up(planes[0], table) for table in self.palette_bgr]), dtype=np.uint8)
        eight: UInt8 = planes if self.to_bytes is None else self.to_bytes(planes)
        if self.inverted:
            eight = 255 - eight
        blue, green, red = (eight[0],) * 3 if self.colour_count == 1 else (eight[2], eight[1], eight[0])
        return np.asarray(cv2.merge((blue, green, red)), dtype=np.uint8)

    def validity(self, bands: npt.NDArray[Any], mask_hw: UInt8 | None) -> Bool:
        """bool h x w of bands x h x w and the file's mask, 0 where it hides."""
        planes = bands[: self.colour_count]
        valid = np.ones(planes.shape[1:], dtype=np.bool_) if mask_hw is None else mask_hw != 0
        if self.has_alpha:
            valid &= bands[self.colour_count] != 0
        if self.voids is not None:
            shown = np.zeros_like(valid)
            for plane, void in zip(planes, self.voids, strict=True):
                shown |= plane != void
            valid &= shown
        if self.is_float:
            valid &= ~np.isnan(planes).any(axis=0)
        return valid


def _layout(path: Path, file: Any, value_range: ValueRange | None) -> _Layout:
    names = [each.name for each in file.colorinterp]
    colours, alpha = _colour_bands(path, names)
    if len({*file.dtypes}) > 1:
        raise InputError(f"{path}: its bands are of different types ({', '.join(file.dtypes)}); save it with one")
    dtype = np.dtype(file.dtypes[0])
    storage = {key.upper(): value for key, value in file.tags(ns="IMAGE_STRUCTURE").items()}
    bits = file.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", storage.get("NBITS"))
    palette_bgr = None
    to_bytes: ToBytes | None = None
    if len(colours) == 1 and names[colours[0] - 1] == "palette":
        if dtype not in (np.uint8, np.uint16):
            raise InputError(f"{path}: a palette with indices of type {dtype}; save it in colours")
        palette_bgr = _palette(file.colormap(colours[0]), 1 << dtype.itemsize * 8)
    else:
        try:
            to_bytes = byte_scale(dtype, int(bits) if bits is not None and bits.isdigit() else None, value_range)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    nodata = [file.nodatavals[band - 1] for band in colours]
    masked = alpha is None and any(flag.name == "per_dataset" for flag in file.mask_flag_enums[0])
    bands = (*colours, alpha) if alpha is not None else colours
    return _Layout(
        bands=bands,
        colour_count=len(colours),
        has_alpha=alpha is not None,
        masked=masked,
        palette_bgr=palette_bgr,
        to_bytes=to_bytes,
        inverted=storage.get("MINISWHITE") == "YES",
        voids=None if None in nodata else tuple(nodata),
        is_float=dtype.kind == "f",
        block_hw=file.block_shapes[0],
        # a file that keeps a pixel's bands together is decoded with all of them
        bytes_per_pixel=file.count * dtype.itemsize,
    )


_MEANINGS = "1 (grey or palette), 2 (grey and alpha), 3 (colours) or 4 (colours and alpha or near infrared)"


def _colour_bands(path: Path, names: list[str]) -> tuple[tuple[int, ...], int | None]:
    """Which bands, counted from 1, are red, green and blue, or grey; and which is alpha."""
    count = len(names)
    if {"cyan", "magenta", "yellow", "black"} & {*names}:
        raise InputError(f"{path}: its colours are inks (CMYK); save it as RGB")
    if count == 1:
        return (1,), None
    if count == 2 and names[1] == "alpha" and names[0] != "palette":
        return (1,), 2
    if count in (3, 4):
        alpha = 4 if count == 4 and names[3] == "alpha" else None
        rgb = ("red", "green", "blue")
        if all(names.count(name) == 1 for name in rgb):
            red, green, blue = (names.index(name) + 1 for name in rgb)
            if alpha is None and "alpha" in names:
                alpha = names.index("alpha") + 1
            return (red, green, blue), alpha
        return (1, 2, 3), alpha
    raise InputError(
        f"{path}: {count} bands ({', '.join(names[:8])}), and pictures have {_MEANINGS}; pick the colours: "
        "gdal_translate -b 1 -b 2 -b 3"
    )


def _palette(colours_rgba: dict[int, tuple[int, int, int, int]], size: int) -> tuple[UInt8, UInt8, UInt8]:
    """A table a channel; an index without a colour is black."""
    blue, green, red = (np.zeros(size, dtype=np.uint8) for _ in range(3))
    for index, colour in colours_rgba.items():
        red[index], green[index], blue[index] = colour[:3]
    return blue, green, red


def _look_up(indices_hw: npt.NDArray[Any], table: UInt8) -> UInt8:
    if indices_hw.dtype == np.uint8:
        return np.asarray(cv2.LUT(indices_hw, table), dtype=np.uint8)
    return np.asarray(table[indices_hw], dtype=np.uint8)


def _georeference(file: Any) -> Georeference | None:
    gcps, gcps_crs = file.gcps
    found = Georeference(
        crs=file.crs or None,
        transform=None if file.transform.is_identity else file.transform,
        gcps=tuple(gcps),
        gcps_crs=gcps_crs or None,
        rpcs=file.rpcs,
        pixel_is=file.tags().get("AREA_OR_POINT"),
    )
    return found if found.is_known else None
