"""One camera position: where metres fall on the picture, and the drawing of planes and sprites there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streetscenes.colours import Floats, to_bytes
from streetscenes.labels import NOTHING, Picture
from streetscenes.planes import Plane
from streetscenes.sprites import Sprite

__all__ = ["Canvas", "View"]


@dataclass(frozen=True)
class Canvas:
    """The picture (uint8 BGR) and its labels (uint8) while they are painted, far things first."""

    frame_hwc: Picture
    labels_hw: Picture

    @property
    def height(self) -> int:
        return int(self.labels_hw.shape[0])

    @property
    def width(self) -> int:
        return int(self.labels_hw.shape[1])


@dataclass(frozen=True)
class View:
    """A pinhole camera that looks along z.

    ``focal``, and the vanishing point's column ``u0`` and row ``v0``, in pixels; ``x``, ``y`` and ``z`` the
    camera's place in metres; ``haze`` the colour that distance turns to, over ``fog`` metres.
    """

    focal: float
    u0: float
    v0: float
    x: float
    y: float
    z: float
    haze: Floats
    fog: float

    def contrast(self, distance: float) -> float:
        """What is left of contrast at ``distance`` metres, 0..1."""
        return float(np.exp(-distance / self.fog))

    def hazy(self, frame_hwc: Picture, distance: float) -> Picture:
        """A picture as it is seen from ``distance`` metres."""
        keep = self.contrast(distance)
        haze = np.broadcast_to(to_bytes(self.haze), frame_hwc.shape).copy()
        return np.asarray(cv2.addWeighted(frame_hwc, keep, haze, 1 - keep, 0), np.uint8)

    def draw_plane(self, canvas: Canvas, plane: Plane) -> None:
        """The part of ``plane`` that lies 0.9 m and more ahead, in perspective."""
        near = self.z + 0.9
        texture = plane.texture.frame_hwc
        rows, columns = texture.shape[:2]
        z0, first_column = plane.z0, 0.0
        if plane.across:
            if z0 < near:
                return
        else:
            z0 = max(z0, near)
            if plane.z1 <= z0 + 0.05:
                return
            first_column = (z0 - plane.z0) / (plane.z1 - plane.z0) * columns
        corners_xyz = (
            (plane.x0, plane.height, z0),
            (plane.x1, plane.height, plane.z1),
            (plane.x1, 0, plane.z1),
            (plane.x0, 0, z0),
        )
        source = ((first_column, 0), (columns, 0), (columns, rows), (first_column, rows))
        target = np.array(
            [
                (self.u0 + self.focal * (x - self.x) / (z - self.z), self.v0 + self.focal * (self.y - y) / (z - self.z))
                for x, y, z in corners_xyz
            ],
            np.float32,
        )
        left, top = (max(int(v), 0) for v in np.floor(target.min(0)))
        right, bottom = (int(v) + 1 for v in np.ceil(target.max(0)))
        right, bottom = min(right, canvas.width), min(bottom, canvas.height)
        if right - left < 1 or bottom - top < 1:
            return

        local = target - np.array([left, top], np.float32)
        matrix = cv2.getPerspectiveTransform(np.array(source, np.float32), local)
        size_wh = (right - left, bottom - top)
        mask = np.zeros(size_wh[::-1], np.uint8)
        # 1/16 pixel; the clip keeps corners close to the camera from overflowing OpenCV's fixed point
        outline = np.clip(np.rint(local * 16), -(2**24), 2**24).astype(np.int32)
        cv2.fillConvexPoly(mask, outline, 1, shift=4)
        seen = cv2.warpPerspective(texture, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if plane.texture.mask_hw is not None:
            opaque = cv2.warpPerspective(plane.texture.mask_hw, matrix, size_wh, flags=cv2.INTER_NEAREST)
            mask &= opaque.astype(np.uint8)
        frame = self.hazy(np.asarray(seen, np.uint8), (z0 + plane.z1) / 2 - self.z)
        region = np.s_[top:bottom, left:right]
        if plane.labels_hw is None:
            canvas.labels_hw[region][mask > 0] = plane.label
        else:
            labels = cv2.warpPerspective(
                plane.labels_hw, matrix, size_wh, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
            )
            mask &= (labels != NOTHING).astype(np.uint8)
            canvas.labels_hw[region][mask > 0] = labels[mask > 0]
        cv2.copyTo(frame, mask, canvas.frame_hwc[region])

    def draw_sprite(self, canvas: Canvas, sprite: Sprite, x: float, z: float) -> None:
        """``sprite`` with its foot at (x, 0, z), unless it is smaller than a pixel or absurdly large."""
        scale = self.focal / (z - self.z)
        width, height = round(sprite.width * scale), round(sprite.height * scale)
        if width < 1 or height < 2 or width > 4 * canvas.width or height > 6 * canvas.height:
            return
        u = round(self.u0 + scale * (x - self.x) - width / 2)
        v = round(self.v0 + scale * self.y) - height
        left, top = max(u, 0), max(v, 0)
        right, bottom = min(u + width, canvas.width), min(v + height, canvas.height)
        if right <= left or bottom <= top:
            return
        shrinks = width < sprite.labels_hw.shape[1]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        frame = cv2.resize(sprite.frame_hwc, (width, height), interpolation=method)
        labels = cv2.resize(sprite.labels_hw, (width, height), interpolation=cv2.INTER_NEAREST)
        visible = np.s_[top - v : bottom - v, left - u : right - u]
        labels = np.ascontiguousarray(labels[visible])
        mask = (labels != NOTHING).astype(np.uint8)
        region = np.s_[top:bottom, left:right]
        cv2.copyTo(self.hazy(np.asarray(frame[visible], np.uint8), z - self.z), mask, canvas.frame_hwc[region])
        cv2.copyTo(labels, mask, canvas.labels_hw[region])

    def draw_shadow(self, canvas: Canvas, width: float, x: float, z: float) -> None:
        """A dark strip on the ground below something ``width`` metres wide."""
        scale = self.focal / (z - self.z)
        u, v = int(self.u0 + scale * (x - self.x)), int(self.v0 + scale * self.y)
        across, along = int(width * scale * 0.55), max(1, int(width * scale * 0.09))
        left, right = max(u - across, 0), min(u + across + 1, canvas.width)
        top, bottom = max(v - along, 0), min(v + along + 1, canvas.height)
        if right > left and bottom > top:
            strip = canvas.frame_hwc[top:bottom, left:right]
            strip[:] = (strip * 0.62).astype(np.uint8)
