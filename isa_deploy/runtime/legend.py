"""The classes that a picture shows, written into a corner of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from isa_deploy.errors import InputError
from isa_deploy.runtime.palette import PaletteRGB, UInt8, checked_frame, checked_labels, checked_palette

__all__ = ["draw_legend"]

MAX_ROWS = 12
MIN_LINE_PX = 13  # Hershey letters in a lower line are blots
LINES_PER_FRAME = 32  # a line's height is this part of the frame's shorter side
MAX_PART = 0.6  # of the frame's width and of its height that the panel may cover
MAX_NAME = 24  # characters
PANEL_LIGHT = 0.3  # what the dark panel leaves of the frame under it

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22  # a capital of the font is this high at scale 1
_WHITE_BGR = (240, 240, 240)


@dataclass(frozen=True)
class _Row:
    text: str
    colour_bgr: tuple[int, int, int] | None  # None: no swatch


def draw_legend(
    frame_hwc: UInt8, labels_hw: UInt8, names: Sequence[str], palette_rgb: PaletteRGB, out: UInt8 | None = None
) -> UInt8:
    """The frame with swatches and names of the classes present, on a dark panel in the upper left corner.

    Classes stand in the order of their share of ``labels_hw`` (uint8 H x W), the largest first, at most 12
    and as many as fit; where some are left out the last row says how many.  Size follows the frame's, and a
    frame too small for a readable legend comes back without one.

    ``frame_hwc`` is uint8 H x W x 3 (BGR); ``out``, of the same shape, may be ``frame_hwc`` itself.
    Raises :class:`InputError` where an array, the palette or the number of names does not fit.
    """
    checked_labels(labels_hw)
    checked_frame(frame_hwc, labels_hw)
    colours_rgb = checked_palette(palette_rgb)
    if len(names) != len(colours_rgb):
        raise InputError(f"{len(names)} names for {len(colours_rgb)} colours: pass one name for each class")
    if out is None:
        out = frame_hwc.copy()
    elif out is not frame_hwc:
        if out.shape != frame_hwc.shape or out.dtype != np.uint8:
            raise InputError(f"out of dtype {out.dtype} and shape {out.shape}: pass uint8 {frame_hwc.shape}")
        out[:] = frame_hwc

    height, width = labels_hw.shape
    line = max(MIN_LINE_PX, round(min(height, width) / LINES_PER_FRAME))
    margin = line // 2
    room = int(height * MAX_PART - margin) // line - 1  # half a line of panel above the rows and below
    rows = _rows(labels_hw, names, colours_rgb, min(MAX_ROWS, room)) if room > 0 else []
    scale = line * 0.55 / _FONT_PX
    thickness = max(1, round(line / 18))
    text_px = max((cv2.getTextSize(row.text, _FONT, scale, thickness)[0][0] for row in rows), default=0)
    panel_wh = (round(2.4 * line) + text_px, (len(rows) + 1) * line)
    if not rows or margin + panel_wh[0] > width * MAX_PART:
        return out

    panel = out[margin : margin + panel_wh[1], margin : margin + panel_wh[0]]
    panel[:] = cv2.convertScaleAbs(panel, alpha=PANEL_LIGHT)
    # drawn apart and put back: cv2 draws into a contiguous array, and out need not be one
    drawn = np.ascontiguousarray(panel)
    for number, row in enumerate(rows):
        top = round((number + 0.5) * line)
        if row.colour_bgr is not None:
            swatch = (line // 2, top + round(line * 0.15)), (line // 2 + line, top + round(line * 0.85))
            cv2.rectangle(drawn, *swatch, row.colour_bgr, cv2.FILLED)
            cv2.rectangle(drawn, *swatch, _WHITE_BGR, 1)  # a black swatch has an edge
        origin = (round(1.9 * line), top + round(line * 0.72))
        cv2.putText(drawn, row.text, origin, _FONT, scale, _WHITE_BGR, thickness, cv2.LINE_AA)
    panel[:] = drawn
    return out


def _rows(labels_hw: UInt8, names: Sequence[str], colours_rgb: UInt8, limit: int) -> list[_Row]:
    pixels = cv2.calcHist([np.ascontiguousarray(labels_hw)], [0], None, [256], [0, 256]).ravel()[: len(names)]
    order = np.argsort(-pixels, kind="stable")
    present = [int(label) for label in order if pixels[label] > 0]
    if len(present) > limit == 1:
        return []  # it would only say how many there are
    # the row that tells of the others takes the place of one of them
    shown = present if len(present) <= limit else present[: limit - 1]
    rows = []
    for label in shown:
        red, green, blue = (int(value) for value in colours_rgb[label])
        rows.append(_Row(_one_line(names[label]), (blue, green, red)))
    if len(shown) < len(present):
        rows.append(_Row(f"{len(present) - len(shown)} more", None))
    return rows


def _one_line(name: str) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in name).strip()
    return text if len(text) <= MAX_NAME else text[: MAX_NAME - 3] + "..."
