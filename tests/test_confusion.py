"""Pixels are counted exactly, whatever the classes, the size and the memory layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isa_deploy.errors import InputError
from isa_deploy.evaluate import confusion
from isa_deploy.evaluate.confusion import ConfusionMatrix

UInt8 = npt.NDArray[np.uint8]

sides = hnp.array_shapes(min_dims=2, max_dims=2, max_side=19)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, UInt8, UInt8]:
    """Classes, ground truth of any values, labels of the same size below the classes."""
    classes = draw(st.one_of(st.sampled_from([1, 2, 19, 150, 254, 255]), st.integers(1, 255)))
    shape = draw(sides)
    truth_hw = draw(hnp.arrays(np.uint8, shape, elements=st.one_of(st.integers(0, 255), st.integers(0, classes - 1))))
    labels_hw = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, classes - 1)))
    return classes, truth_hw, labels_hw


def one_by_one(classes: int, truth_hw: UInt8, labels_hw: UInt8) -> npt.NDArray[np.int64]:
    counts_tl = np.zeros((classes + 1, classes), dtype=np.int64)
    for truth, label in zip(truth_hw.ravel().tolist(), labels_hw.ravel().tolist(), strict=True):
        if truth != 255:
            counts_tl[min(truth, classes), label] += 1
    return counts_tl


@settings(max_examples=60)
@given(pictures())
def test_counts_are_those_of_counting_one_by_one(picture: tuple[int, UInt8, UInt8]) -> None:
    classes, truth_hw, labels_hw = picture
    matrix = ConfusionMatrix(classes)
    counted = matrix.add(truth_hw, labels_hw)
    assert counted.dtype == matrix.counts_tl.dtype == np.int64
    np.testing.assert_array_equal(counted, one_by_one(classes, truth_hw, labels_hw))
    np.testing.assert_array_equal(matrix.counts_tl, counted)


@settings(max_examples=40)
@given(pictures(), st.integers(1, 40))
def test_strips_of_any_size_give_the_same_counts(picture: tuple[int, UInt8, UInt8], strip: int) -> None:
    classes, truth_hw, labels_hw = picture
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "STRIP_PIXELS", strip)
        counted = ConfusionMatrix(classes).add(truth_hw, labels_hw)
    np.testing.assert_array_equal(counted, one_by_one(classes, truth_hw, labels_hw))


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 200))
def test_strips_partition_the_picture_and_none_is_too_large(height: int, width: int, strip: int) -> None:
    covered = np.zeros((height, width), dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confusion, "STRIP_PIXELS", strip)
        for part in confusion._strips(height, width):
            assert 1 <= covered[part].size <= strip
            covered[part] += 1
    assert (covered == 1).all()


def test_a_count_beyond_the_integers_of_float32_is_exact() -> None:
    pixels = (1 << 24) + 3  # as float32 it would be 2^24 + 4
    truth_hw = np.zeros((1, pixels), dtype=np.uint8)
    assert ConfusionMatrix(2).add(truth_hw, truth_hw)[0, 0] == pixels


def test_no_strip_is_larger_than_float32_counts_exactly() -> None:
    assert confusion.STRIP_PIXELS <= 1 << 24


def test_pictures_add_up_and_each_gives_its_own_counts() -> None:
    rng = np.random.default_rng(0)
    matrix, total = ConfusionMatrix(5), np.zeros((6, 5), dtype=np.int64)
    for side in (3, 8, 13):
        truth_hw, labels_hw = rng.integers(0, 5, (2, side, side + 1), dtype=np.uint8)
        own = matrix.add(truth_hw, labels_hw)
        np.testing.assert_array_equal(own, one_by_one(5, truth_hw, labels_hw))
        total += own
        own[:] = -1  # the caller's own
        np.testing.assert_array_equal(matrix.counts_tl, total)


@pytest.mark.parametrize("layout", ["window", "mirrored", "transposed", "read-only", "every other", "memory map"])
def test_every_memory_layout_is_counted(layout: str, tmp_path: Path) -> None:
    both = np.random.default_rng(1).integers(0, 7, (2, 40, 41), dtype=np.uint8)
    if layout == "memory map":
        np.save(tmp_path / "both.npy", both)
        both = np.load(tmp_path / "both.npy", mmap_mode="r")
    both.flags.writeable = layout not in ("read-only", "memory map")
    layouts = {"window": both[:, 3:31, 5:30], "mirrored": both[:, :, ::-1], "transposed": both.transpose(0, 2, 1)}
    truth_hw, labels_hw = (layouts | {"every other": both[:, ::2, 1::2]}).get(layout, both)
    expected = one_by_one(7, np.array(truth_hw), np.array(labels_hw))
    np.testing.assert_array_equal(ConfusionMatrix(7).add(truth_hw, labels_hw), expected)


@pytest.mark.parametrize("truth", [0, 200, 255])
@pytest.mark.parametrize("label", [19, 255])
def test_a_label_that_is_no_class_is_refused_and_nothing_is_counted(
    truth: int, label: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confusion, "STRIP_PIXELS", 8)  # the label stands in the last strip
    truth_hw, labels_hw = np.full((6, 8), truth, dtype=np.uint8), np.zeros((6, 8), dtype=np.uint8)
    labels_hw[-1, -1] = label
    matrix = ConfusionMatrix(19)
    with pytest.raises(InputError, match=rf"labels of up to {label}, and 19 classes: labels are 0 to 18"):
        matrix.add(truth_hw, labels_hw)
    assert not matrix.counts_tl.any()


def test_void_is_in_no_row_and_unknown_ground_truth_in_the_last() -> None:
    truth_hw = np.array([[0, 1, 2, 254, 255]], dtype=np.uint8)
    labels_hw = np.array([[1, 1, 0, 1, 1]], dtype=np.uint8)
    assert ConfusionMatrix(2).add(truth_hw, labels_hw).tolist() == [[0, 1], [0, 1], [1, 1]]


def test_all_of_255_classes_leave_nothing_outside() -> None:
    truth_hw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    counts_tl = ConfusionMatrix(255).add(truth_hw, np.minimum(truth_hw, 254))
    np.testing.assert_array_equal(counts_tl, np.eye(256, 255, dtype=np.int64))


@pytest.mark.parametrize("classes", [-1, 0, 256])
def test_a_number_of_classes_that_uint8_does_not_hold_is_refused(classes: int) -> None:
    with pytest.raises(InputError, match=f"{classes} classes: pass 1 to 255"):
        ConfusionMatrix(classes)


@pytest.mark.parametrize(
    ("truth_hw", "labels_hw", "message"),
    [
        (np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8), r"ground truth of 4x6 and labels of 6x4"),
        (np.zeros((4, 6), np.int64), np.zeros((4, 6), np.uint8), r"ground truth of dtype int64: pass uint8"),
        (np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.bool_), r"labels of dtype bool: pass uint8"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8), r"ground truth of shape \(4, 6, 3\)"),
        (np.zeros((0, 6), np.uint8), np.zeros((0, 6), np.uint8), r"ground truth of shape \(0, 6\).*at least 1 x 1"),
        ([[0]], np.zeros((1, 1), np.uint8), r"ground truth of type list"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(truth_hw: UInt8, labels_hw: UInt8, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ConfusionMatrix(3).add(truth_hw, labels_hw)
