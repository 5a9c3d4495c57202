"""Label maps as pictures: every class in its colour, alone or over the frame.

How it is done was measured: ``benchmarks/palette.py``, 1024 x 2048, one core; the milliseconds of one machine,
beside those of a plain copy, stand in ``benchmarks/results/palette.json``.  As multiples of the way taken:

===============================================================  ====
colorize: pairs of labels through ``cv2.LUT``, in strips            1
... single labels, in strips (taken where OpenCV is old)          1.3
... ``cv2.applyColorMap``                                         1.6
... one ``cv2.LUT`` a channel, then ``cv2.merge``                 2.9
... ``numpy.take``                                                  6
overlay at alpha 0.5: these strips, halves added as integers        1
... the same, into the frame itself                              0.85
... these strips, ``cv2.addWeighted`` (taken for other alphas)    1.2
... ``cv2.applyColorMap`` and ``cv2.addWeighted``                 1.7
... these colours, sums in uint16, the whole picture at once      2.9
... the formula in numpy                                           29
===============================================================  ====

So labels are read two at a time, as uint16, from a table of 65536 entries of which a picture touches few,
and a strip is small enough to stay in a core's second-level cache from lookup to blend.

What is left of an overlay is a plain copy's memory traffic (the frame halved into the picture) and three passes
within the cache: lookup, packing to 3 bytes, sum.  Neither library has one call for two of them that is as fast:
halving by ``numpy.floor_divide``, by a mask and a shift of uint64, and strips of a quarter to four times the
size took as long or longer.  A routine of one pass, in AVX2, took a third of the time, as long as the copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = ["PaletteRGB", "UInt8", "checked_frame", "checked_labels", "checked_palette", "colorize", "overlay"]

UInt8 = npt.NDArray[np.uint8]
PaletteRGB = Sequence[Sequence[int]] | npt.NDArray[np.integer]
"""One (red, green, blue), 0 to 255, for each class, in the order of the labels; at most 256."""

STRIP_PIXELS = 1 << 15  # frame, colours and blend of a strip: 0.4 MB, under half of a usual L2


def colorize(labels_hw: UInt8, palette_rgb: PaletteRGB, out: UInt8 | None = None) -> UInt8:
    """The labels in their classes' colours: uint8 H x W x 3, BGR.

    ``labels_hw`` is uint8 H x W; a label that the palette lacks (255, void) becomes black.  ``out``, where
    given, is a C-contiguous uint8 H x W x 3 array that receives the picture and is returned: a loop over
    frames saves the allocation.  Raises :class:`InputError` where an array or the palette does not fit.
    """
    checked_labels(labels_hw)
    table = _colour_table(_bgrx(checked_palette(palette_rgb)).tobytes())
    picture = _checked_out(out, labels_hw)
    pixels = picture.reshape(1, -1, 3)
    for colours, piece in table.strips(labels_hw):
        cv2.cvtColor(colours, cv2.COLOR_BGRA2BGR, pixels[:, piece])
    return picture


def overlay(
    frame_hwc: npt.NDArray[Any], labels_hw: UInt8, palette_rgb: PaletteRGB, alpha: float = 0.5, out: UInt8 | None = None
) -> UInt8:
    """The frame with the classes' colours laid over it: uint8 H x W x 3, BGR.

    ``frame * (1 - alpha) + colour * alpha`` as in mmsegmentation, black where the palette lacks the label.
    The result is within one half of that formula, a nearest integer; mmsegmentation cuts the fraction off,
    so a value here equals its own or is one more.

    ``frame_hwc`` is uint8 H x W x 3 (BGR) of the size of ``labels_hw`` (uint8 H x W), ``alpha`` is 0 (the
    frame) to 1 (the colours).  ``out`` as in :func:`colorize`, and it may be ``frame_hwc`` itself.
    Raises :class:`InputError` where an array, the palette or ``alpha`` does not fit.
    """
    checked_labels(labels_hw)
    checked_frame(frame_hwc, labels_hw)
    if not 0 <= alpha <= 1:  # NaN fails this too
        raise InputError(f"alpha {alpha}: an overlay's opacity is 0 (the frame) to 1 (the colours)")
    colours_rgb = checked_palette(palette_rgb)
    picture = _checked_out(out, labels_hw)
    if alpha == 0.5:
        _add_halves(frame_hwc, labels_hw, colours_rgb, picture)
    else:
        _add_weighted(frame_hwc, labels_hw, colours_rgb, alpha, picture)
    return picture


def _add_halves(frame_hwc: UInt8, labels_hw: UInt8, colours_rgb: UInt8, picture: UInt8) -> None:
    # the frame's half is cut, the colour's rounded up: with both odd or both even the sum is exact, else it
    # is off by one half, and no carry leaves a byte (127 + 128)
    table = _colour_table(_bgrx((colours_rgb >> 1) + (colours_rgb & 1)).tobytes())
    frame, blend = np.ascontiguousarray(frame_hwc).reshape(-1, 3), picture.reshape(-1, 3)
    scratch = np.empty((1, min(STRIP_PIXELS, len(frame)), 3), dtype=np.uint8)
    for colours, piece in table.strips(labels_hw):
        half_colours = cv2.cvtColor(colours, cv2.COLOR_BGRA2BGR, scratch[:, : colours.shape[1]])[0]
        blended = np.right_shift(frame[piece], 1, out=blend[piece])
        np.add(blended, half_colours, out=blended)


def _add_weighted(frame_hwc: UInt8, labels_hw: UInt8, colours_rgb: UInt8, alpha: float, picture: UInt8) -> None:
    table = _colour_table(_bgrx(colours_rgb).tobytes())
    frame, blend = np.ascontiguousarray(frame_hwc).reshape(1, -1, 3), picture.reshape(1, -1, 3)
    scratch = np.empty((1, min(STRIP_PIXELS, frame.shape[1]), 3), dtype=np.uint8)
    for colours, piece in table.strips(labels_hw):
        colours_bgr = cv2.cvtColor(colours, cv2.COLOR_BGRA2BGR, scratch[:, : colours.shape[1]])
        cv2.addWeighted(frame[:, piece], 1 - alpha, colours_bgr, alpha, 0, blend[:, piece])


@dataclass(frozen=True)
class _ColourTable:
    """Colours (B, G, R and an unused byte) of one label, or of two neighbouring labels read as one number.

    ``entries`` is what ``cv2.LUT`` copies for an index of ``index_dtype``: an int32 is one pixel, a float64
    two (only moved, never computed with; its exponent bits are the unused byte, so it is no NaN either).
    """

    entries: npt.NDArray[np.int32] | npt.NDArray[np.float64]
    index_dtype: npt.DTypeLike

    def strips(self, labels_hw: UInt8) -> Iterator[tuple[UInt8, slice]]:
        """The picture strip by strip: colours as 1 x n x 4, and the pixels (in reading order) they are for.

        The colours are valid until the next strip.
        """
        labels = np.ascontiguousarray(labels_hw).reshape(1, -1)
        pixels = labels.size
        if pixels % 2:
            labels = np.append(labels, labels[:, -1:], axis=1)  # the last pixel becomes a pair with itself
        # aligned: a frame of a batch may begin at an odd address
        index = np.require(labels.view(self.index_dtype), requirements=["A"])
        pixels_per_index = labels.size // index.size
        colours = np.empty((1, min(STRIP_PIXELS, labels.size), 4), dtype=np.uint8)
        looked_up = colours.reshape(1, -1).view(self.entries.dtype)
        step = STRIP_PIXELS // pixels_per_index
        for first in range(0, pixels, STRIP_PIXELS):
            start = first // pixels_per_index
            piece = index[:, start : start + step]
            if first + STRIP_PIXELS > pixels:
                looked_up, colours = looked_up[:, : piece.size], colours[:, : pixels - first]
            cv2.LUT(piece, self.entries, looked_up)
            yield colours, slice(first, first + colours.shape[1])


@lru_cache(maxsize=8)
def _colour_table(bgrx: bytes) -> _ColourTable:
    """``bgrx``: four bytes for each of 256 labels."""
    colours = np.frombuffer(bgrx, dtype=np.uint8).reshape(256, 4)
    if not _lut_takes_uint16():
        return _ColourTable(colours.view(np.int32), np.uint8)
    labels = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)  # in this machine's byte order
    return _ColourTable(colours[labels].reshape(-1, 8).view(np.float64), np.uint16)


@cache
def _lut_takes_uint16() -> bool:
    """OpenCV 4.13 and 5.0 added lookup by uint16 (opencv/opencv pull request 27890)."""
    try:
        cv2.LUT(np.zeros((1, 1), dtype=np.uint16), np.zeros((1 << 16, 1), dtype=np.float64))
    except cv2.error:
        return False
    return True


def _bgrx(colours_rgb: UInt8) -> UInt8:
    table = np.zeros((256, 4), dtype=np.uint8)
    table[: len(colours_rgb), :3] = colours_rgb[:, ::-1]
    return table


def checked_labels(labels_hw: UInt8) -> None:
    """Raise :class:`InputError` unless the labels are a uint8 array H x W with at least one pixel."""
    if not isinstance(labels_hw, np.ndarray):
        raise InputError(f"labels of type {type(labels_hw).__name__}: pass a uint8 array, height x width")
    if labels_hw.dtype != np.uint8:
        raise InputError(f"labels of dtype {labels_hw.dtype}: pass uint8, one byte a pixel")
    if labels_hw.ndim != 2 or labels_hw.size == 0:
        raise InputError(f"labels of shape {labels_hw.shape}: pass height x width, at least 1 x 1")


def checked_frame(frame_hwc: UInt8, labels_hw: UInt8) -> None:
    """Raise :class:`InputError` unless the frame is a uint8 array H x W x 3 of the labels' size."""
    if not isinstance(frame_hwc, np.ndarray):
        raise InputError(f"a frame of type {type(frame_hwc).__name__}: pass a uint8 array, height x width x 3")
    if frame_hwc.dtype != np.uint8:
        raise InputError(f"a frame of dtype {frame_hwc.dtype}: pass uint8, 0 to 255")
    if frame_hwc.ndim != 3 or frame_hwc.shape[2] != 3:
        raise InputError(f"a frame of shape {frame_hwc.shape}: pass height x width x 3 (BGR)")
    if frame_hwc.shape[:2] != labels_hw.shape:
        height, width = frame_hwc.shape[:2]
        raise InputError(
            f"a frame of {height}x{width} and labels of {labels_hw.shape[0]}x{labels_hw.shape[1]} "
            "(height x width): pass the labels of this frame"
        )


def checked_palette(palette_rgb: PaletteRGB) -> UInt8:
    """The palette as uint8 n x 3.  Raises :class:`InputError` unless it is 1 to 256 colours of 0 to 255."""
    try:
        colours = np.asarray(palette_rgb)
    except ValueError:  # rows of different lengths
        raise InputError("a palette whose colours differ in length: pass (red, green, blue) for each class") from None
    if colours.ndim != 2 or colours.shape[1] != 3 or not 1 <= len(colours) <= 256:
        raise InputError(f"a palette of shape {colours.shape}: pass (red, green, blue) for 1 to 256 classes")
    if colours.dtype.kind not in "iu":
        raise InputError(f"a palette of dtype {colours.dtype}: pass integers, 0 to 255")
    if colours.dtype != np.uint8 and (colours.min() < 0 or colours.max() > 255):
        raise InputError(f"a palette with values {colours.min()} to {colours.max()}: pass 0 to 255")
    return colours.astype(np.uint8, copy=False)


def _checked_out(out: UInt8 | None, labels_hw: UInt8) -> UInt8:
    shape = (*labels_hw.shape, 3)
    if out is None:
        return np.empty(shape, dtype=np.uint8)
    if out.dtype != np.uint8 or out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError(
            f"out of dtype {out.dtype} and shape {out.shape}: pass a writeable, contiguous uint8 array of shape {shape}"
        )
    return out
