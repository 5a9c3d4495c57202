"""Window arithmetic, as properties."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.runtime.tiling import AxisCut, TileGrid, Tiling, cut_axis, slide_grid, slide_spans


@given(length=st.integers(1, 5000), crop=st.integers(1, 1100), stride=st.integers(1, 1100))
def test_slide_covers_everything_with_windows_of_one_size(length: int, crop: int, stride: int) -> None:
    stride = min(stride, crop)
    spans = slide_spans(length, crop, stride)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert {stop - start for start, stop in spans} == {min(crop, length)}
    assert len(spans) == max(length - crop + stride - 1, 0) // stride + 1
    for (_, stop), (start, _) in itertools.pairwise(spans):
        assert start <= stop


def test_the_published_769_models_take_8_windows_of_a_1025_x_2049_frame() -> None:
    grid = slide_grid((1025, 2049), (769, 769), (513, 513))
    assert grid.rows == ((0, 769), (256, 1025))
    assert grid.cols == ((0, 769), (513, 1282), (1026, 1795), (1280, 2049))


def test_windows_equal_those_that_mmsegmentation_cut(golden: Path) -> None:
    with np.load(golden / "tiny_r50_slide.npz") as wanted:
        for picture, size in enumerate(((64, 128), (65, 97), (129, 257))):
            made = [(y0, x0, y1, x1) for (y0, y1), (x0, x1) in slide_grid(size, (97, 97), (65, 65)).windows()]
            boxes = [tuple(box) for box in wanted[f"windows_{picture}"].tolist()]
            assert made == boxes


@pytest.mark.parametrize(("crop", "stride"), [(0, 1), (8, 0), (8, 9)])
def test_windows_that_cannot_be_are_errors(crop: int, stride: int) -> None:
    with pytest.raises(ValueError, match=r"at least 1|gaps"):
        slide_spans(100, crop, stride)


MODES = st.sampled_from(["slide", "tiles", "blend"])


@st.composite
def cuts(draw: st.DrawFn) -> AxisCut:
    """An axis, cut in any of the ways that make sense."""
    window = draw(st.integers(1, 200))
    return cut_axis(draw(st.integers(1, 1000)), window, draw(st.integers(0, window - 1)), draw(MODES))


@given(cut=cuts())
def test_blocks_partition_the_axis(cut: AxisCut) -> None:
    assert cut.blocks[0][0] == 0
    assert len(cut.blocks) == len(cut.windows)
    for (start, stop), (following, _) in itertools.pairwise([*cut.blocks, (cut.length, cut.length)]):
        assert start < stop == following


@given(cut=cuts())
def test_a_block_is_decided_by_windows_that_came_before_it_or_with_it(cut: AxisCut) -> None:
    total = np.zeros(cut.length)
    block_of = np.repeat(np.arange(len(cut.blocks)), [last - first for first, last in cut.blocks])
    for number, (start, stop) in enumerate(cut.windows):
        weights = cut.weights(number)
        assert weights.min() >= 0
        total[start:stop] += weights
        for block in np.unique(block_of[start:stop][weights > 0]).tolist():
            assert number in cut.windows_of(block)
            assert number <= block
    assert total.min() > 0


@given(length=st.integers(1, 3000), window=st.integers(1, 300), halo=st.integers(0, 149))
def test_a_tiles_labels_stay_away_from_its_edges_unless_they_are_the_pictures(
    length: int, window: int, halo: int
) -> None:
    halo = min(halo, (window - 1) // 2)
    cut = cut_axis(length, window, 2 * halo, "tiles")
    for (start, stop), (first, last) in zip(cut.windows, cut.blocks, strict=True):
        assert start <= first
        assert last <= stop
        assert start == 0 or first - start >= halo
        assert stop == length or stop - last >= halo


def test_the_flanks_of_two_blended_neighbours_add_up_to_one() -> None:
    cut = cut_axis(64 + 48, 64, 16, "blend")
    first, second = cut.weights(0), cut.weights(1)
    np.testing.assert_allclose(first[-16:] + second[:16], 1)
    assert np.all(np.diff(first[-16:]) < 0)
    assert np.all(first[16:-16] == 1)


@given(cut=cuts(), data=st.data())
def test_the_windows_of_a_row_that_are_wanted_are_those_of_blocks_not_done(cut: AxisCut, data: st.DataObject) -> None:
    grid = TileGrid(cut_axis(300, 120, 40, cut.mode), cut_axis(250, 100, 40, cut.mode))
    shape = len(grid.rows.blocks), len(grid.cols.blocks)
    undone = data.draw(
        st.lists(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0])
    )
    wanted = {
        (row, col)
        for block_row in range(shape[0])
        for block_col in range(shape[1])
        if undone[block_row][block_col]
        for row in grid.rows.windows_of(block_row)
        for col in grid.cols.windows_of(block_col)
    }
    made = {(row, col) for row in range(shape[0]) for col in grid.windows_wanted(row, undone)}
    assert made == wanted


def test_blocks_count_in_reading_order_and_partition_the_picture() -> None:
    grid = TileGrid(cut_axis(300, 120, 40, "tiles"), cut_axis(250, 100, 40, "tiles"))
    seen = np.zeros(grid.size_hw, dtype=int)
    for index in range(grid.blocks):
        block = grid.block(index)
        assert block.index == index
        seen[slice(*block.rows), slice(*block.cols)] += 1
    assert np.all(seen == 1)
    with pytest.raises(IndexError):
        grid.block(grid.blocks)


@pytest.mark.parametrize(
    "mistake",
    [
        {"mode": "mosaic"},
        {"tile_hw": (0, 64)},
        {"halo": -1},
        {"tile_hw": (64, 64), "halo": 32},
        {"batch": 0},
    ],
)
def test_a_tiling_that_makes_no_sense_is_an_input_error(mistake: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Tiling(**mistake)
