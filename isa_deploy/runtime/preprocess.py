"""Frames to the size that the network is shown, as mmsegmentation does it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.manifest import ResizeSpec

__all__ = ["ResizeRule", "check_frame", "fit_size", "network_size", "parse_resize", "resize_frame", "scaled_box"]

UInt8 = npt.NDArray[np.uint8]

ResizeRule: TypeAlias = Literal["test", "none"] | tuple[int, int]
"""``test``: the model's own test scale.  ``none``: the frame as it is.  (height, width): that size."""

MAX_SIDE = 65536


MAX_DIGITS = 32  # Python takes numbers of thousands of digits for an attack, with an exception of its own


def parse_resize(text: str) -> ResizeRule:
    """A resize rule from a command line: ``test``, ``none`` or ``HxW``.

    Raises :class:`InputError` for anything else.
    """
    if text == "test":
        return "test"
    if text == "none":
        return "none"
    height, cross, width = text.lower().partition("x")
    if cross and height.isdecimal() and width.isdecimal() and len(text) <= MAX_DIGITS:
        size = int(height), int(width)
        if all(1 <= side <= MAX_SIDE for side in size):
            return size
    raise InputError(f"resize '{text}' is none of: test, none, HEIGHTxWIDTH such as 512x1024")


def check_frame(frame_hwc: npt.NDArray[Any]) -> UInt8:
    """The frame itself, if it is uint8, H x W x 3 and not empty; raises :class:`InputError` otherwise."""
    if not isinstance(frame_hwc, np.ndarray):
        raise InputError(f"a frame must be a numpy array, not {type(frame_hwc).__name__}")
    if frame_hwc.dtype != np.uint8 or frame_hwc.ndim != 3 or frame_hwc.shape[2] != 3:
        raise InputError(f"a frame must be uint8 of shape H x W x 3, not {frame_hwc.dtype} of shape {frame_hwc.shape}")
    if frame_hwc.size == 0:
        raise InputError(f"a frame of shape {frame_hwc.shape} has no pixels")
    return frame_hwc


def fit_size(frame_hw: tuple[int, int], box_wh: tuple[int, int]) -> tuple[int, int]:
    """The size (height, width) of a frame scaled, keeping its ratio, to fit a box.

    ``factor = min(long side of the box / long side of the frame, short / short)``, each side then
    ``int(side * factor + 0.5)``: mmcv's ``rescale_size``, which ``Resize(keep_ratio=True)`` calls.  The
    box has no orientation: (2048, 1024) serves a portrait as well.
    """
    height, width = frame_hw
    factor = min(max(box_wh) / max(height, width), min(box_wh) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def scaled_box(frame_hw: tuple[int, int], ratio: float) -> tuple[int, int]:
    """The box (width, height) of mmcv's ``Resize(scale_factor=ratio)``: ``int(side * ratio + 0.5)``."""
    return max(int(frame_hw[1] * ratio + 0.5), 1), max(int(frame_hw[0] * ratio + 0.5), 1)


def network_size(frame_hw: tuple[int, int], rule: ResizeRule, spec: ResizeSpec | None) -> tuple[int, int]:
    """The size (height, width) at which the network sees a frame.

    ``spec`` is the model's own test scale; a model without one sees frames as they are.
    """
    if rule == "none" or (rule == "test" and spec is None):
        return frame_hw
    if rule == "test":
        assert spec is not None
        return fit_size(frame_hw, spec.scale_wh) if spec.keep_ratio else (spec.scale_wh[1], spec.scale_wh[0])
    return rule


def resize_frame(frame_hwc: UInt8, size_hw: tuple[int, int]) -> UInt8:
    """Bilinear resize with OpenCV, the arithmetic of mmcv's default; the frame itself where sizes agree."""
    if frame_hwc.shape[:2] == size_hw:
        return frame_hwc
    resized = cv2.resize(frame_hwc, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.uint8)
