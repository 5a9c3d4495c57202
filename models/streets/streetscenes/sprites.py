"""A flat picture with labels, drawn in metres: what faces the camera in a scene."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from streetscenes.colours import Colour, to_bytes
from streetscenes.labels import NOTHING, Picture

__all__ = ["Sprite"]

Point = tuple[float, float]


class Sprite:
    """A picture ``width`` x ``height`` metres large; x goes right and y up from its lower left corner.

    ``frame_hwc`` is uint8 BGR and ``labels_hw`` uint8, NOTHING where one sees through.  The drawing
    methods change the picture, and the labels where they are given one: without a label they paint what
    is there already (a lamp on a car is still car).
    """

    def __init__(self, width: float, height: float, pixels_per_metre: float) -> None:
        self.width, self.height, self.pixels_per_metre = width, height, pixels_per_metre
        columns = max(4, round(width * pixels_per_metre))
        rows = max(4, round(height * pixels_per_metre))
        self.frame_hwc: Picture = np.zeros((rows, columns, 3), np.uint8)
        self.labels_hw: Picture = np.full((rows, columns), NOTHING, np.uint8)

    def _pixel(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self.pixels_per_metre), round((self.height - y) * self.pixels_per_metre)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, label: int | None = None) -> None:
        """A filled rectangle between two corners."""
        upper_left, lower_right = self._pixel(x0, y1), self._pixel(x1, y0)
        cv2.rectangle(self.frame_hwc, upper_left, lower_right, colour, -1)
        if label is not None:
            cv2.rectangle(self.labels_hw, upper_left, lower_right, label, -1)

    def polygon(self, corners: Sequence[Point], colour: Colour, label: int | None = None) -> None:
        """A filled polygon."""
        pixels = np.array([self._pixel(*corner) for corner in corners], np.int32)
        cv2.fillPoly(self.frame_hwc, [pixels], colour)
        if label is not None:
            cv2.fillPoly(self.labels_hw, [pixels], label)

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour, label: int | None = None) -> None:
        """A filled ellipse with the half axes ``rx`` and ``ry``."""
        centre = self._pixel(x, y)
        axes = max(1, round(rx * self.pixels_per_metre)), max(1, round(ry * self.pixels_per_metre))
        cv2.ellipse(self.frame_hwc, centre, axes, 0, 0, 360, colour, -1)
        if label is not None:
            cv2.ellipse(self.labels_hw, centre, axes, 0, 0, 360, label, -1)

    def line(
        self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour, label: int | None = None
    ) -> None:
        """A line ``width`` metres wide, at least one pixel."""
        thickness = max(1, round(width * self.pixels_per_metre))
        start, end = self._pixel(x0, y0), self._pixel(x1, y1)
        cv2.line(self.frame_hwc, start, end, colour, thickness)
        if label is not None:
            cv2.line(self.labels_hw, start, end, label, thickness)

    def shaded(self, rng: np.random.RandomState, grain: float = 12) -> Sprite:
        """This sprite, its picture made lighter above, darker below and grainy."""
        rows, columns = self.labels_hw.shape
        light = np.linspace(1.08, 0.9, rows, dtype=np.float32)[:, None, None]
        noise = rng.randn(rows, columns, 1).astype(np.float32) * grain * 0.5
        self.frame_hwc = to_bytes(self.frame_hwc * light + noise)
        return self

    def mirrored(self) -> Sprite:
        """A copy with left and right exchanged."""
        copy = Sprite(self.width, self.height, self.pixels_per_metre)
        copy.frame_hwc = self.frame_hwc[:, ::-1].copy()
        copy.labels_hw = self.labels_hw[:, ::-1].copy()
        return copy
