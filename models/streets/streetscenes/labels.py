"""The classes of a scene: Cityscapes' 19 train ids, their names and their colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["CLASSES", "NOTHING", "PALETTE", "VOID", "Picture"]

Picture = npt.NDArray[np.uint8]
"""H x W x 3 (BGR) where it is a picture, H x W where it holds labels or a mask."""

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN = range(10)
SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = range(10, 19)

VOID = 255
"""The label of pixels that belong to no class (here: the bonnet of the camera's own car)."""

NOTHING = 254
"""Marks a sprite's transparent pixels; no finished label picture holds it."""

CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
"""Names by train id."""

PALETTE = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)
"""Cityscapes' own colours, RGB, by train id."""
