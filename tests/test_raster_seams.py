"""Where seams are, and what is measured beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cheap_engine import cheap_segmenter
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.runtime.seams import NEAR, SeamAgreement, measure_seams, near_seams, seam_places
from isa_deploy.runtime.tiled import plan_tiles
from isa_deploy.runtime.tiling import Span, TileGrid, Tiling, cut_axis

UInt8 = npt.NDArray[np.uint8]


def grid_of(height: int, width: int, window: int = 64, overlap: int = 16) -> TileGrid:
    return TileGrid(cut_axis(height, window, overlap, "tiles"), cut_axis(width, window, overlap, "tiles"))


@given(height=st.integers(1, 2000), width=st.integers(1, 2000), most=st.integers(1, 20))
def test_places_are_on_seams_few_and_in_reading_order(height: int, width: int, most: int) -> None:
    grid = grid_of(height, width)
    rows, cols = {block[0] for block in grid.rows.blocks[1:]}, {block[0] for block in grid.cols.blocks[1:]}
    places = seam_places(grid, most)
    assert len(places) <= most
    assert bool(places) == bool(rows or cols)
    assert places == sorted(set(places))
    for row, col in places:
        assert row in rows or (not rows and row == height // 2)
        assert col in cols or (not cols and col == width // 2)


def test_places_are_spread_over_a_large_picture() -> None:
    places = seam_places(grid_of(30000, 40000, 1024, 256))
    assert len(places) == 16
    assert min(row for row, _ in places) < 30000 / 4
    assert max(row for row, _ in places) > 30000 * 3 / 4
    assert min(col for _, col in places) < 40000 / 4
    assert max(col for _, col in places) > 40000 * 3 / 4


def test_places_of_a_long_strip_are_all_along_it() -> None:
    assert len(seam_places(grid_of(50, 40000))) == 16
    assert len(seam_places(grid_of(40000, 50))) == 16


@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    top=st.integers(0, 299),
    left=st.integers(0, 299),
    distance=st.integers(0, 40),
)
def test_near_means_at_most_so_many_pixels_from_a_border(
    size: tuple[int, int], top: int, left: int, distance: int
) -> None:
    grid = grid_of(*size)
    rows, cols = (top % size[0], size[0]), (left % size[1], size[1])
    near = near_seams(rows, cols, grid, distance)
    for y in range(*rows, 7):
        for x in range(*cols, 7):
            # the seam lies between pixels: half a pixel from each
            wanted = any(
                abs(at + 0.5 - block[0]) < distance
                for at, axis in ((y, grid.rows), (x, grid.cols))
                for block in axis.blocks[1:]
            )
            assert near[y - rows[0], x - cols[0]] == wanted


class Picture:
    """In memory; says what was asked for."""

    def __init__(self, frame_hwc: UInt8) -> None:
        self.frame_hwc = frame_hwc
        self.asked: list[Span] = []

    @property
    def size_hw(self) -> tuple[int, int]:
        return int(self.frame_hwc.shape[0]), int(self.frame_hwc.shape[1])

    def read_rows(self, start: int, stop: int) -> UInt8:
        assert not self.asked or self.asked[-1][1] <= start < stop
        self.asked.append((start, stop))
        return self.frame_hwc[start:stop]


def measured(spoil: str) -> SeamAgreement:
    """Of cells of 8 x 8 that the cheap engine sees alike from every tile, once the labels were spoilt."""
    cells = np.random.default_rng(0).integers(0, 256, (60, 80, 1), dtype=np.uint8)
    frame_hwc = np.repeat(np.repeat(np.repeat(cells, 8, 0), 8, 1), 3, 2)
    segmenter = cheap_segmenter()
    plan = plan_tiles(segmenter, (480, 640), Tiling("tiles", (128, 128), 16))
    labels_hw = segmenter.segment(frame_hwc)
    near = near_seams((0, 480), (0, 640), plan.grid)
    labels_hw[{"near": near, "elsewhere": ~near, "nothing": near & ~near}[spoil]] = 99
    return measure_seams(segmenter, Picture(frame_hwc), plan, lambda rows, cols: labels_hw[slice(*rows), slice(*cols)])


def test_wrong_labels_at_the_seams_show_there_and_not_elsewhere() -> None:
    good, spoilt_near, spoilt_elsewhere = measured("nothing"), measured("near"), measured("elsewhere")
    assert good.places == 16
    assert good.near is not None
    assert good.elsewhere is not None
    assert min(good.near, good.elsewhere) > 0.9
    assert spoilt_near == SeamAgreement(0.0, good.elsewhere, 16)
    assert spoilt_elsewhere == SeamAgreement(good.near, 0.0, 16)


def test_pixels_without_data_are_left_out() -> None:
    segmenter = cheap_segmenter()
    plan = plan_tiles(segmenter, (200, 200), Tiling("tiles", (64, 64), 8))
    picture = Picture(np.zeros((200, 200, 3), np.uint8))
    void = np.full((200, 200), 255, np.uint8)
    found = measure_seams(segmenter, picture, plan, lambda rows, cols: void[slice(*rows), slice(*cols)])
    assert (found.near, found.elsewhere) == (None, None)
    assert NEAR == 16


def test_a_picture_of_one_tile_has_no_seam() -> None:
    segmenter = cheap_segmenter()
    plan = plan_tiles(segmenter, (50, 60), Tiling("tiles", (64, 64), 8))
    picture = Picture(np.zeros((50, 60, 3), np.uint8))
    found = measure_seams(segmenter, picture, plan, lambda rows, cols: np.zeros((1, 1), np.uint8))
    assert found == SeamAgreement(None, None, 0)
    assert not picture.asked
