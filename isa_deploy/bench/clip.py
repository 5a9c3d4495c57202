"""Frames to measure with where the user names no video: a drawn scene that moves."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.video_writer import VideoWriter

__all__ = ["CLIP_FRAMES", "drawn_frames", "write_clip"]

UInt8 = npt.NDArray[np.uint8]

CLIP_FRAMES = 24
STEP = 8  # pixels that the scene moves from frame to frame, about what a street does


def drawn_frames(count: int, height: int, width: int) -> list[UInt8]:
    """``count`` frames, uint8 H x W x 3, the same every time.

    Coarse and fine noise, which moves sideways: a codec has something to predict and something to code, between a still
    picture and plain noise.  A network takes the same time for any picture.
    """
    rng = np.random.default_rng(0)
    wide = width + STEP * count
    coarse = rng.integers(0, 224, (max(height // 32, 1), max(wide // 32, 1), 3), dtype=np.uint8)
    scene = np.asarray(cv2.resize(coarse, (wide, height), interpolation=cv2.INTER_CUBIC), np.uint8) // 8 * 7
    scene += rng.integers(0, 12, scene.shape, dtype=np.uint8)
    return [np.ascontiguousarray(scene[:, STEP * index : STEP * index + width]) for index in range(count)]


def write_clip(path: Path, frames: list[UInt8]) -> None:
    """The frames as isa-infer writes a video, 25 a second.  Raises as :class:`VideoWriter`."""
    with VideoWriter(path, Fraction(1, 25), Fraction(25)) as writer:
        for index, frame_hwc in enumerate(frames):
            writer.write(frame_hwc, index)
