"""Frames: drawn street scenes, those that the demo model was not trained on."""

from __future__ import annotations

import json
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from streetscenes import draw_scene

from gpu.zoo import STREETS

__all__ = ["clip", "unseen_scenes"]

UInt8 = npt.NDArray[np.uint8]

CLIP_FRAMES = 8


def unseen_scenes(count: int, size_hw: tuple[int, int]) -> list[tuple[UInt8, UInt8]]:
    """The first scenes of those that the model card was measured on: frame H x W x 3 BGR and labels H x W."""
    cv2.setNumThreads(1)
    first = int(json.loads((STREETS / "card.json").read_text(encoding="utf-8"))["unseen_seeds"][0])
    return list(map(partial(_draw, size_hw), range(first, first + count)))


def _draw(size_hw: tuple[int, int], seed: int) -> tuple[UInt8, UInt8]:
    frame_hwc, labels_hw = draw_scene(seed, *size_hw)
    return frame_hwc, labels_hw


def clip(size_hw: tuple[int, int]) -> list[UInt8]:
    """A short clip: one scene that moves sideways, uint8 H x W x 3, each frame in memory of its own."""
    (scene, _), *_ = unseen_scenes(1, (256, 512))
    frame = np.asarray(cv2.resize(scene, (size_hw[1], size_hw[0])), np.uint8)
    return [np.ascontiguousarray(np.roll(frame, 8 * number, axis=1)) for number in range(CLIP_FRAMES)]
