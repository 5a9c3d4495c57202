"""The pictures of an evaluation's page: small, inside the HTML, and no more of them than a browser likes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.evaluate.dataset import VOID
from isa_deploy.evaluate.evaluation import WorstPicture
from isa_deploy.pages.figures import HIGHLIGHT_BGR, Figure, dimmed, jpeg_figure, resized, shown_wh
from isa_deploy.runtime.palette import PaletteRGB, overlay

__all__ = ["PictureFigures", "error_share", "picture_figures"]

UInt8 = npt.NDArray[np.uint8]

MAX_WH = (560, 840)  # a picture on the page
MAX_CHARACTERS = 4_000_000  # of all pictures together, in base64
JPEG_QUALITY = 82

VOID_BGR = (90, 90, 90)


@dataclass(frozen=True)
class PictureFigures:
    """A picture of the data set: itself, its truth, the prediction, and where the two differ."""

    picture: WorstPicture
    figures: tuple[Figure, ...]


def picture_figures(
    pictures: Sequence[WorstPicture], palette_rgb: PaletteRGB, max_characters: int = MAX_CHARACTERS
) -> list[PictureFigures]:
    """The figures of the first pictures, as many as fit into ``max_characters`` of base64."""
    kept: list[PictureFigures] = []
    room = max_characters
    for picture in pictures:
        made = _figures(picture, palette_rgb)
        room -= sum(len(figure.uri) for figure in made)
        if room < 0:
            break
        kept.append(PictureFigures(picture, made))
    return kept


def error_share(picture: WorstPicture) -> float:
    """The share of the counted pixels whose label is not the truth, 0 to 1; 0 where none is counted."""
    is_counted = picture.truth_hw != VOID
    return float(_wrong(picture).sum() / max(1, int(is_counted.sum())))


def _wrong(picture: WorstPicture) -> npt.NDArray[np.bool_]:
    wrong: npt.NDArray[np.bool_] = (picture.truth_hw != VOID) & (picture.truth_hw != picture.labels_hw)
    return wrong


def _figures(picture: WorstPicture, palette_rgb: PaletteRGB) -> tuple[Figure, ...]:
    name = picture.result.name
    height, width = picture.truth_hw.shape
    size_wh = shown_wh(height, width, MAX_WH)
    frame = resized(picture.frame_hwc, size_wh, cv2.INTER_AREA)
    truth = resized(picture.truth_hw, size_wh, cv2.INTER_NEAREST)
    labels = resized(picture.labels_hw, size_wh, cv2.INTER_NEAREST)
    over_truth = overlay(frame, truth, palette_rgb)
    over_truth[truth == VOID] = VOID_BGR
    share = error_share(picture)
    return (
        _figure(frame, "The picture", f"The picture {name}"),
        _figure(over_truth, "The truth; void is grey", f"The picture {name} with the truth in colour over it"),
        _figure(
            overlay(frame, labels, palette_rgb),
            "The prediction",
            f"The picture {name} with the predicted classes in colour over it",
        ),
        _figure(
            _wrong_in_yellow(frame, _wrong(picture)),
            f"Wrong, yellow: {share:.1%} of the counted pixels",
            f"The wrong pixels of {name}, {share:.1%} of those counted, yellow on the dimmed picture",
        ),
    )


def _wrong_in_yellow(small_hwc: UInt8, wrong_hw: npt.NDArray[np.bool_]) -> UInt8:
    height, width = small_hwc.shape[:2]
    grey = dimmed(small_hwc)[:, :, None]
    # a small pixel is as yellow as the share of wrong pixels in it: the area on the page is the true one
    share = cv2.resize(wrong_hw.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)[:, :, None]
    mixed = grey * (1 - share) + np.array(HIGHLIGHT_BGR, np.float32) * share
    return np.rint(mixed).astype(np.uint8)


def _figure(picture_hwc: UInt8, caption: str, alt: str) -> Figure:
    return jpeg_figure(picture_hwc, caption, alt, JPEG_QUALITY)
