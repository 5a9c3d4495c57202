"""Pictures from files and into files.

Files are untrusted.  They are decoded by OpenCV in the way mmsegmentation decodes them (``cv2.imdecode``
with ``IMREAD_COLOR``), so a network sees here the very pixels that it was trained and measured on:

- a rotation in the EXIF block is applied, in JPEG, PNG, TIFF and, from OpenCV 5 on, WebP;
- grey becomes three equal channels, a palette its colours, CMYK and YCCK (as Adobe writes them) BGR;
- alpha is dropped, not blended: what a transparent pixel shows is its stored colour;
- 16 bits become 8 by OpenCV's own rule, which keeps the high byte (colour TIFF: to the nearest).  Keeping
  the high byte is exact for both ways of storing 8 bits in 16 (x * 257 and x << 8); dividing by 257 is exact
  for the first only, and either way the difference is one level.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors, replacing
from isa_deploy.runtime.image_header import HeaderError, read_header

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "ReadingAdvice", "read_image", "write_png"]

UInt8 = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, in small letters, of the files that :func:`read_image` reads."""

MAX_PIXELS = 1 << 28
"""The largest picture read by default: 16384 x 16384, 768 MiB as BGR."""

BYTES_PER_PIXEL = 8  # a file may not be longer than its pixels as 16-bit RGBA, plus what surrounds them
SURROUNDINGS_BYTES = 64 << 20


@dataclass(frozen=True)
class ReadingAdvice:
    """What a message tells to do about a picture that is not read as a whole; a caller with options names them."""

    too_large: str = "cut it into smaller ones"
    jpeg_2000: str = "save it as TIFF or PNG"


NO_OPTIONS = ReadingAdvice()


def read_image(path: Path, max_pixels: int = MAX_PIXELS, advice: ReadingAdvice = NO_OPTIONS) -> UInt8:
    """The picture in a PNG, JPEG, BMP, WebP or TIFF file: uint8 H x W x 3, BGR, C-contiguous.

    Raises :class:`InputError` where the file is missing, not an image, empty, cut off or damaged, or where
    it says, before it is decoded, that it has more than ``max_pixels`` pixels; what the message of that one tells to do
    is ``advice``.
    """
    data = _read_bounded(path, max_pixels * BYTES_PER_PIXEL + SURROUNDINGS_BYTES, advice)
    try:
        header = read_header(data)
    except HeaderError as error:
        raise InputError(f"{path}: {error}; replace or remove the file") from None
    if header.format == "JPEG 2000":
        raise InputError(f"{path}: JPEG 2000 is read in tiles only; {advice.jpeg_2000}")
    width, height = header.size_wh
    if width * height > max_pixels:
        raise InputError(
            f"{path}: {width}x{height} is {width * height / 1e6:.0f} million pixels, more than the "
            f"{max_pixels / 1e6:.0f} million that are read at once; {advice.too_large}"
        )
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(
            f"{path}: OpenCV cannot decode the {width}x{height} {header.format} file ({error.err}); save it anew"
        ) from None
    if decoded is None:
        raise InputError(
            f"{path}: the {width}x{height} {header.format} file is damaged, cut off, or of a kind that OpenCV "
            "does not decode; save it anew, as 8-bit PNG or JPEG"
        )
    return np.ascontiguousarray(decoded, dtype=np.uint8)


def write_png(path: Path, picture: UInt8) -> None:
    """Write a PNG, whole or not at all: uint8 H x W x 3 (BGR), or H x W (grey, or a label a pixel).

    Raises :class:`InputError` where the array is none of these or the file cannot be written.
    """
    shape_fits = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not shape_fits or picture.size == 0:
        raise InputError(
            f"{path}: a {picture.dtype} array of shape {picture.shape} is no picture; pass uint8, "
            "height x width or height x width x 3"
        )
    try:
        _, encoded = cv2.imencode(".png", picture)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot encode a picture of shape {picture.shape} ({error.err})") from None
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.data)


def _read_bounded(path: Path, max_bytes: int, advice: ReadingAdvice) -> bytes:
    with os_errors(path, "read"):
        status = path.stat()
        # a device or a pipe has no end that could be checked
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
            raise InputError(f"{path}: this is {kind}; name an image file")
        if status.st_size > max_bytes:
            raise InputError(
                f"{path}: {status.st_size / 1e9:.1f} GB, more than the {max_bytes / 1e9:.1f} GB that the "
                f"largest picture that is read at once takes; {advice.too_large}"
            )
        return path.read_bytes()
