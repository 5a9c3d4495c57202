"""Labels of the classes that can win are the labels of all classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa_deploy.runtime import assemble
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear
from isa_deploy.runtime.tiling import slide_spans

Float32 = npt.NDArray[np.float32]


def labels_of_every_class(grid: LogitsGrid) -> npt.NDArray[np.intp]:
    """Nothing left out: all logits of all pixels, then argmax, which prefers the lower of equal classes."""
    return np.concatenate([logits_chw.argmax(axis=0) for _, logits_chw in assemble._strips(grid)])


@st.composite
def axes(draw: st.DrawFn) -> AxisMap:
    """A whole axis, or one of averaged windows, perhaps resized once more to a picture."""
    pixels, align = draw(st.integers(1, 200)), draw(st.booleans())
    if draw(st.booleans()):
        axis = bilinear(-(-pixels // 8), pixels, align)
    else:
        crop = draw(st.integers(1, 80))
        spans = slide_spans(pixels, crop, draw(st.integers(1, crop)))
        axis = average_windows(spans, -(-(spans[0][1] - spans[0][0]) // 8), pixels, align)
    if draw(st.booleans()):
        axis = bilinear(pixels, draw(st.integers(1, 300)), align).after(axis)
    return axis


def patches(rng: np.random.Generator, classes: int, size_hw: tuple[int, int], lead: int) -> Float32:
    """Small whole numbers, so that many are equal, and patches in which some class is ahead by up to ``lead``."""
    logits_chw = rng.integers(-2, 3, (classes, *size_hw)).astype(np.float32)
    for _ in range(6):
        top, left = (int(rng.integers(0, length)) for length in size_hw)
        logits_chw[rng.integers(0, classes), top : top + 9, left : left + 9] += rng.integers(0, lead + 1)
    return logits_chw


@settings(deadline=None)
@given(axes(), axes(), st.integers(1, 8), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_classes_that_are_left_out_win_no_pixel(
    rows: AxisMap, cols: AxisMap, classes: int, lead: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grid = LogitsGrid(patches(rng, classes, (rows.inputs, cols.inputs), lead), rows, cols)
    np.testing.assert_array_equal(labels_from_logits(grid), labels_of_every_class(grid))


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("align", [False, True])
def test_near_and_equal_logits_are_decided_as_among_all_classes(noise: float, align: bool) -> None:
    rng = np.random.default_rng(5)
    logits_chw = np.repeat(patches(rng, 7, (40, 64), 8), 2, axis=0)  # every class has an equal
    logits_chw += (rng.standard_normal(logits_chw.shape) * noise).astype(np.float32)
    grid = LogitsGrid(logits_chw, bilinear(40, 317, align), bilinear(64, 509, align))
    np.testing.assert_array_equal(labels_from_logits(grid), labels_of_every_class(grid))


@pytest.mark.parametrize("share", [0.0, 2.0])
def test_strips_are_the_same_whole_and_picked(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "WORTH_PICKING", share)
    logits_chw = patches(np.random.default_rng(2), 19, (64, 128), 12)
    grid = LogitsGrid(logits_chw, bilinear(64, 500, False), bilinear(128, 1013, False))
    np.testing.assert_array_equal(labels_from_logits(grid), labels_of_every_class(grid))


def test_where_one_class_is_ahead_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("logits were widened")

    logits_chw = np.zeros((5, 8, 16), dtype=np.float32)
    logits_chw[3] = 1
    monkeypatch.setattr(assemble, "_widen", refuse)
    labels_hw = labels_from_logits(LogitsGrid(logits_chw, bilinear(8, 64, False), bilinear(16, 128, False)))
    assert (labels_hw == 3).all()
    logits_chw[1, 7, 15] = 1 - 1e-6
    with pytest.raises(AssertionError, match="widened"):
        labels_from_logits(LogitsGrid(logits_chw, bilinear(8, 64, False), bilinear(16, 128, False)))


def test_logits_that_are_no_numbers_leave_no_class_out() -> None:
    logits_chw = np.zeros((3, 4, 40), dtype=np.float32)
    logits_chw[2] = 9
    logits_chw[0, :, :3] = np.nan
    grid = LogitsGrid(logits_chw, bilinear(4, 32, False), bilinear(40, 320, False))
    np.testing.assert_array_equal(labels_from_logits(grid), labels_of_every_class(grid))
