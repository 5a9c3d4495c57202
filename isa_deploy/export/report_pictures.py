"""The pictures of a proof: small enough to stand inside the report's HTML, and one lone pixel still shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.export.parity import FramePictures
from isa_deploy.export.report_words import THE_CHECKPOINT, Sides
from isa_deploy.pages.figures import HIGHLIGHT_BGR, Figure, dimmed, jpeg_figure, resized, shown_wh
from isa_deploy.runtime.palette import PaletteRGB, overlay

__all__ = ["FrameFigures", "frame_figures"]

UInt8 = npt.NDArray[np.uint8]

MAX_WH = (640, 960)  # a picture in the report
MAX_CHARACTERS = 2_500_000  # of all pictures together, in base64: the page stays under 3 MB
JPEG_QUALITY = 85


@dataclass(frozen=True)
class FrameFigures:
    """The pictures of one frame, side by side in the report."""

    frame: str
    height: int
    width: int
    figures: tuple[Figure, ...]


def frame_figures(
    pictures: Sequence[FramePictures], palette_rgb: PaletteRGB, stage: str | None, sides: Sides = THE_CHECKPOINT
) -> list[FrameFigures]:
    """The frames with their overlays and differences, as many as the page has room for.

    For each: the frame, the yardstick's labels over it, those of ``stage`` over it, and where these two
    differ; for any other stage that differs anywhere, where it does.  Where there are too many frames for
    the page, those that differ most are kept; their order is that of ``pictures``.
    """
    room = MAX_CHARACTERS
    kept: dict[int, FrameFigures] = {}
    for number in sorted(range(len(pictures)), key=lambda number: -_most_differing(pictures[number])):
        made = _figures(pictures[number], palette_rgb, stage, sides)
        room -= sum(len(figure.uri) for figure in made.figures)
        if room < 0:
            break
        kept[number] = made
    return [kept[number] for number in sorted(kept)]


def _most_differing(picture: FramePictures) -> float:
    return max((_differing(picture, stage).mean() for stage in picture.stage_labels_hw), default=0.0)


def _differing(picture: FramePictures, stage: str) -> npt.NDArray[np.bool_]:
    differing: npt.NDArray[np.bool_] = picture.stage_labels_hw[stage] != picture.reference_hw
    return differing


def _figures(picture: FramePictures, palette_rgb: PaletteRGB, stage: str | None, sides: Sides) -> FrameFigures:
    height, width = picture.reference_hw.shape
    size_wh = shown_wh(height, width, MAX_WH)
    frame = resized(picture.frame_hwc, size_wh, cv2.INTER_AREA)

    def over_frame(labels_hw: UInt8) -> UInt8:
        return overlay(frame, resized(labels_hw, size_wh, cv2.INTER_NEAREST), palette_rgb)

    figures = [
        _figure(frame, "The frame", f"The frame {picture.frame}"),
        _figure(
            over_frame(picture.reference_hw),
            f"{sides.yardstick[:1].upper()}{sides.yardstick[1:]}’s labels ({sides.engine})",
            f"The frame {picture.frame} with {sides.yardstick}'s labels in colour over it",
        ),
    ]
    if stage in picture.stage_labels_hw:
        figures.append(
            _figure(
                over_frame(picture.stage_labels_hw[stage]),
                f"The {sides.subject}’s labels ({stage})",
                f"The frame {picture.frame} with the labels of {stage} in colour over it",
            )
        )
    # the stage that is shown first, the others in their order
    for each in sorted(picture.stage_labels_hw, key=lambda name: name != stage):
        differing = _differing(picture, each)
        if each == stage or differing.any():
            figures.append(_difference_figure(frame, differing, each, picture.frame, sides))
    return FrameFigures(picture.frame, height, width, tuple(figures))


def _difference_figure(
    small_hwc: UInt8, differing_hw: npt.NDArray[np.bool_], stage: str, frame: str, sides: Sides
) -> Figure:
    count = int(differing_hw.sum())
    if count:
        where = "1 pixel differs" if count == 1 else f"{count:,} pixels differ"
        caption = f"Where {stage} differs: {where}, yellow, drawn larger than life"
        alt = f"{where} between {sides.yardstick} and {stage} on {frame}, highlighted on the dimmed frame"
    else:
        caption = f"Where {stage} differs: nowhere"
        alt = f"No pixel differs between {sides.yardstick} and {stage} on {frame}: the dimmed frame alone"
    return _figure(_highlighted(small_hwc, differing_hw), caption, alt)


def _highlighted(small_hwc: UInt8, differing_hw: npt.NDArray[np.bool_]) -> UInt8:
    height, width = small_hwc.shape[:2]
    picture = cv2.cvtColor(dimmed(small_hwc), cv2.COLOR_GRAY2BGR)
    # a lone pixel becomes some five of the small picture on a side: one would be lost between its samples,
    # and two on a screen
    shrunk = max(differing_hw.shape[0] / height, differing_hw.shape[1] / width)
    side = 2 * math.ceil(2.5 * shrunk) - 1
    grown = cv2.dilate(differing_hw.astype(np.uint8), np.ones((side, side), dtype=np.uint8))
    mask = resized(grown.astype(np.uint8, copy=False), (width, height), cv2.INTER_NEAREST)
    picture[mask > 0] = HIGHLIGHT_BGR
    return picture.astype(np.uint8, copy=False)


def _figure(picture_hwc: UInt8, caption: str, alt: str) -> Figure:
    return jpeg_figure(picture_hwc, caption, alt, JPEG_QUALITY)
