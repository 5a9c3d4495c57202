"""Pictures that stand inside a page: small JPEGs as ``data:`` URIs."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = ["HIGHLIGHT_BGR", "Figure", "dimmed", "jpeg_figure", "resized", "shown_wh"]

UInt8 = npt.NDArray[np.uint8]

HIGHLIGHT_BGR = (0, 225, 255)
"""Bright yellow, on a frame that is :func:`dimmed`: the strongest contrast of lightness, which every eye sees."""

DIMMED = 0.35


@dataclass(frozen=True)
class Figure:
    """One picture as a ``data:`` URI, with what stands under it and what is read aloud instead of it.

    ``width`` and ``height``: in pixels.
    """

    uri: str
    caption: str
    alt: str
    width: int
    height: int


def jpeg_figure(picture_hwc: UInt8, caption: str, alt: str, quality: int) -> Figure:
    """A picture (uint8 H x W x 3, BGR) as a JPEG of ``quality``, 0 to 100.

    Raises :class:`InputError` where OpenCV cannot encode it.
    """
    # colour at full resolution: the usual half would wash thin classes and lone pixels out
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    try:
        done, data = cv2.imencode(".jpg", picture_hwc, options)
    except cv2.error as error:
        raise InputError(f"a picture of shape {picture_hwc.shape} for a page is no JPEG ({error.err})") from None
    if not done:
        raise InputError(f"a picture of shape {picture_hwc.shape} for a page could not be written as JPEG")
    uri = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
    return Figure(uri, caption, alt, width=picture_hwc.shape[1], height=picture_hwc.shape[0])


def shown_wh(height: int, width: int, max_wh: tuple[int, int]) -> tuple[int, int]:
    """Width and height at which a picture fits into ``max_wh``, with its ratio and never larger than it is."""
    shrink = min(1.0, max_wh[0] / width, max_wh[1] / height)
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def resized(picture: UInt8, size_wh: tuple[int, int], interpolation: int) -> UInt8:
    """A picture, or labels, at another size: ``interpolation`` is OpenCV's."""
    return cv2.resize(picture, size_wh, interpolation=interpolation).astype(np.uint8, copy=False)


def dimmed(picture_hwc: UInt8) -> UInt8:
    """A picture (uint8 H x W x 3, BGR) in dark grey, uint8 H x W."""
    grey = cv2.cvtColor(picture_hwc, cv2.COLOR_BGR2GRAY)
    return cv2.convertScaleAbs(grey, alpha=DIMMED).astype(np.uint8, copy=False)
