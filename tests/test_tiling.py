"""Window arithmetic, as properties."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.runtime.tiling import slide_grid, slide_spans


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
