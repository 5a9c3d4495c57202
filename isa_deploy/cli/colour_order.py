"""Frames as an engine takes them: ours are BGR, and an engine may want RGB."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.manifest import Manifest

__all__ = ["in_colour_order"]

UInt8 = npt.NDArray[np.uint8]


def in_colour_order(frame_hwc: UInt8, manifest: Manifest) -> UInt8:
    """The frame (H x W x 3, BGR) in the order of the manifest's input; itself where that is BGR."""
    if manifest.input.colour_order == "BGR":
        return frame_hwc
    return np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2RGB), dtype=np.uint8)
