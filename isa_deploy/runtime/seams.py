"""How well the labels on both sides of a seam agree with a tile that has no seam there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiled import PictureRows, TilePlan, segment_tiled
from isa_deploy.runtime.tiling import Span, TileGrid, Tiling

__all__ = ["NEAR", "SeamAgreement", "measure_seams", "near_seams", "seam_places"]

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

NEAR = 16
"""Pixels on each side of a seam that count as near it: two cells of the logits, whose stride is 8."""

PLACES = 16

NO_LABEL = 255


@dataclass(frozen=True)
class SeamAgreement:
    """The part of the pixels, 0 to 1, in which written labels equal those of tiles centred on seams.

    ``near``: within :data:`NEAR` pixels of a seam; ``elsewhere``: in the rest of the tiles' inner parts.  None where
    there are no such pixels.  ``places``: how many tiles were compared.
    """

    near: float | None
    elsewhere: float | None
    places: int


def seam_places(grid: TileGrid, most: int = PLACES) -> list[tuple[int, int]]:
    """Up to ``most`` crossings of seams as (row, column), spread over the picture, in reading order.

    Where the seams of one direction are missing, the picture's middle stands for them; without any there is none.
    """
    rows, cols = ([block[0] for block in axis.blocks[1:]] for axis in (grid.rows, grid.cols))
    if not rows and not cols:
        return []
    rows, cols = rows or [grid.rows.length // 2], cols or [grid.cols.length // 2]
    across = min(len(cols), max(most // len(rows), round(most**0.5)))
    down = min(len(rows), most // across)
    return [(row, col) for row in _spread(rows, down) for col in _spread(cols, across)]


def near_seams(rows: Span, cols: Span, grid: TileGrid, distance: int = NEAR) -> Bool:
    """Which pixels of a rectangle are among the ``distance`` pixels on either side of a seam, bool h x w."""
    near_row, near_col = (
        np.any([_within(span, block[0], distance) for block in axis.blocks[1:]], axis=0)
        if len(axis.blocks) > 1
        else np.zeros(span[1] - span[0], dtype=np.bool_)
        for span, axis in ((rows, grid.rows), (cols, grid.cols))
    )
    return np.asarray(near_row[:, None] | near_col[None, :], dtype=np.bool_)


def measure_seams(
    segmenter: Segmenter, picture: PictureRows, plan: TilePlan, written: Callable[[Span, Span], UInt8]
) -> SeamAgreement:
    """Compare the labels of a picture with tiles that are centred on its seams.

    ``picture``: the whole of it, not read yet.  ``written``: the labels of a rectangle of rows and columns, uint8
    h x w; label 255 is left out.  Raises what these raise, and as :meth:`Segmenter.segment`.
    """
    places = seam_places(plan.grid)
    window_hw, halo = plan.grid.window_hw, plan.tiling.halo or 0
    tiling = Tiling("tiles", window_hw, halo=0, batch=1)
    equal, seen = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    for rows, cols, image_hwc in _windows(picture, places, window_hw):
        # a direction without seams may be shorter than the halo
        inner_rows, inner_cols = (
            (start + halo, stop - halo) if len(axis.blocks) > 1 else (start, stop)
            for (start, stop), axis in ((rows, plan.grid.rows), (cols, plan.grid.cols))
        )
        expected_hw = segment_tiled(segmenter, image_hwc, tiling)[
            inner_rows[0] - rows[0] : inner_rows[1] - rows[0], inner_cols[0] - cols[0] : inner_cols[1] - cols[0]
        ]
        written_hw = written(inner_rows, inner_cols)
        near = near_seams(inner_rows, inner_cols, plan.grid)
        for index, part in enumerate((near, ~near)):
            part &= written_hw != NO_LABEL
            seen[index] += np.count_nonzero(part)
            equal[index] += np.count_nonzero(part & (written_hw == expected_hw))
    near_share, elsewhere_share = (int(e) / int(s) if s else None for e, s in zip(equal, seen, strict=True))
    return SeamAgreement(near_share, elsewhere_share, len(places))


def _spread(numbers: list[int], count: int) -> list[int]:
    """``count`` of them, the first ones of as many equal parts' middles."""
    return [numbers[(2 * index + 1) * len(numbers) // (2 * count)] for index in range(count)]


def _within(span: Span, seam: int, distance: int) -> Bool:
    pixel = np.arange(*span)
    return np.asarray((pixel >= seam - distance) & (pixel < seam + distance), dtype=np.bool_)


def _windows(
    picture: PictureRows, places: list[tuple[int, int]], window_hw: tuple[int, int]
) -> Iterator[tuple[Span, Span, UInt8]]:
    """The window round each place, moved so far that it lies inside the picture.  Rows are read once."""
    height, width = picture.size_hw
    band_hwc = np.empty((0, width, 3), dtype=np.uint8)
    band: Span = (0, 0)
    for row, col in places:
        rows, cols = _centred(row, window_hw[0], height), _centred(col, window_hw[1], width)
        if rows != band:
            kept = band_hwc[max(rows[0] - band[0], 0) :]
            read = picture.read_rows(max(rows[0], band[1]), rows[1])
            band_hwc, band = np.concatenate([kept, read]), rows
        yield rows, cols, np.ascontiguousarray(band_hwc[:, cols[0] : cols[1]])


def _centred(middle: int, length: int, whole: int) -> Span:
    start = min(max(middle - length // 2, 0), whole - length)
    return start, start + length
