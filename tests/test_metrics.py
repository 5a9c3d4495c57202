"""The scores are mmsegmentation's: against its formulas in torch, torchmetrics, and figures that it measured."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isa_deploy.errors import InputError
from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.metrics import Scores, percent, scores

UInt8 = npt.NDArray[np.uint8]
Pair = tuple[UInt8, UInt8]
NAN = float("nan")


def areas(truth_hw: UInt8, labels_hw: UInt8, classes: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """What IoUMetric takes of a picture: areas of intersect, union, prediction and ground truth, by ``torch.histc``."""
    truth, labels = torch.from_numpy(truth_hw), torch.from_numpy(labels_hw)
    counted = truth != 255
    truth, labels = truth[counted], labels[counted]

    def area(values: torch.Tensor) -> torch.Tensor:
        return torch.histc(values.to(dtype), bins=classes, min=0, max=classes - 1)

    intersect, predicted, true = area(labels[labels == truth]), area(labels), area(truth)
    return intersect, predicted + true - intersect, predicted, true


def scores_in_torch(pairs: list[Pair], classes: int, dtype: torch.dtype = torch.float64) -> Scores:
    """IoUMetric's summary over pictures; mmsegmentation computes it in float32."""
    intersect, union, _, true = (
        sum(parts, start=torch.zeros(classes, dtype=dtype))
        for parts in zip(*(areas(*pair, classes, dtype) for pair in pairs), strict=True)
    )
    iou, acc = (intersect / union).numpy(), (intersect / true).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing
        miou, macc = np.nanmean(iou), np.nanmean(acc)
    aacc = intersect.sum() / true.sum()
    return Scores(tuple(iou.tolist()), tuple(acc.tolist()), float(miou), float(macc), float(aacc))


def scores_here(pairs: list[Pair], classes: int) -> Scores:
    matrix = ConfusionMatrix(classes)
    for truth_hw, labels_hw in pairs:
        matrix.add(truth_hw, labels_hw)
    return scores(matrix.counts_tl)


def assert_same(found: Scores, expected: Scores) -> None:
    for name in ("iou", "acc", "miou", "macc", "aacc"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@st.composite
def sets(draw: st.DrawFn) -> tuple[int, list[Pair]]:
    """Classes (one alone is another matter: the module's docstring) and pictures, with void and unknown pixels."""
    classes = draw(st.sampled_from([2, 3, 7, 19, 150]))
    values = st.one_of(st.integers(0, classes - 1), st.integers(0, 2).map(lambda n: min(n, classes - 1)))
    pairs = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
        truth_hw = draw(hnp.arrays(np.uint8, shape, elements=st.one_of(values, st.sampled_from([255, 254, classes]))))
        pairs.append((truth_hw, draw(hnp.arrays(np.uint8, shape, elements=values))))
    return classes, pairs


@settings(max_examples=40)
@given(sets())
def test_scores_equal_those_of_mmsegmentations_formulas(drawn: tuple[int, list[Pair]]) -> None:
    classes, pairs = drawn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scores_here(pairs, classes)
    assert_same(found, scores_in_torch(pairs, classes))


@pytest.fixture(scope="module")
def street_pairs(golden: Path) -> list[Pair]:
    """Ground truth of the golden street scenes, and the labels that mmsegmentation gave them."""
    with np.load(golden / "streets.npz", allow_pickle=False) as expected:
        return [
            (cv2.imread(str(golden / f"scene_{k}_gt.png"), cv2.IMREAD_UNCHANGED), expected[f"labels_{k}"])
            for k in range(6)
        ]


def test_pixel_accuracy_is_what_mmsegmentation_measured_on_the_golden_scenes(
    street_pairs: list[Pair], golden_index: dict[str, Any]
) -> None:
    case = next(case for case in golden_index["cases"] if case["name"] == "streets")
    found = [round(scores_here([pair], 19).aacc, 4) for pair in street_pairs]
    assert found == [picture["pixel_accuracy"] for picture in case["inputs"]]


def test_the_reported_figures_are_those_of_mmsegmentations_float32(street_pairs: list[Pair]) -> None:
    found, theirs = scores_here(street_pairs, 19), scores_in_torch(street_pairs, 19, torch.float32)
    for name in ("miou", "macc", "aacc"):
        assert percent(getattr(found, name)) == percent(getattr(theirs, name))
    for name in ("iou", "acc"):
        ours, expected = ([percent(value) for value in getattr(side, name)] for side in (found, theirs))
        np.testing.assert_array_equal(ours, expected, err_msg=name)


def test_confusion_and_iou_equal_those_of_torchmetrics(street_pairs: list[Pair]) -> None:
    from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

    truth, labels = (torch.from_numpy(np.stack(pictures)) for pictures in zip(*street_pairs, strict=True))
    matrix = ConfusionMatrix(19)
    for truth_hw, labels_hw in street_pairs:
        matrix.add(truth_hw, labels_hw)
    theirs_tl = multiclass_confusion_matrix(labels, truth.long(), num_classes=19, ignore_index=255)
    np.testing.assert_array_equal(matrix.counts_tl[:-1], theirs_tl.numpy())
    jaccard = multiclass_jaccard_index(labels, truth.long(), num_classes=19, average=None, ignore_index=255)
    found = scores(matrix.counts_tl)
    assert not np.isnan(found.iou).any()
    np.testing.assert_array_equal(np.float32(found.iou), jaccard.numpy())  # theirs is float32


def test_a_class_that_never_occurs_is_nan_and_left_out_of_the_means() -> None:
    truth_hw, labels_hw = np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8)
    found = scores_here([(truth_hw, labels_hw)], 4)
    np.testing.assert_array_equal(found.iou, [1 / 2, 1 / 2, NAN, NAN])
    np.testing.assert_array_equal(found.acc, [1 / 2, 1, NAN, NAN])
    assert (found.miou, found.macc, found.aacc) == (0.5, 0.75, 2 / 3)


def test_a_class_that_is_predicted_and_never_true_has_iou_0_and_no_accuracy() -> None:
    found = scores_here([(np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 1]], np.uint8))], 2)
    np.testing.assert_array_equal(found.iou, [3 / 4, 0])
    np.testing.assert_array_equal(found.acc, [3 / 4, NAN])
    assert (found.miou, found.macc) == (3 / 8, 3 / 4)


def test_unknown_ground_truth_counts_against_the_predicted_class_alone() -> None:
    truth_hw, labels_hw = np.array([[0, 0, 9]], np.uint8), np.array([[0, 0, 0]], np.uint8)
    found = scores_here([(truth_hw, labels_hw)], 2)
    np.testing.assert_array_equal(found.iou, [2 / 3, NAN])
    assert (found.acc[0], found.aacc) == (1, 1)


def test_nothing_but_void_has_no_scores_and_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scores(np.zeros((4, 3), dtype=np.int64))
    assert all(math.isnan(value) for value in (*found.iou, *found.acc, found.miou, found.macc, found.aacc))


def test_counts_far_beyond_float32_are_exact() -> None:
    large = 1 << 40
    found = scores(np.array([[large, 1], [0, large], [0, 0]], dtype=np.int64))
    assert found.iou == (large / (large + 1), large / (large + 1))
    assert found.aacc == 2 * large / (2 * large + 1) < 1


@pytest.mark.parametrize(
    ("fraction", "reported"), [(0.633749, 63.37), (0.0, 0.0), (1.0, 100.0), (0.123450001, 12.35), (1 / 3, 33.33)]
)
def test_percent_has_two_decimals(fraction: float, reported: float) -> None:
    assert percent(fraction) == reported
    assert type(percent(fraction)) is float


def test_percent_of_nan_is_nan() -> None:
    assert math.isnan(percent(NAN))


@pytest.mark.parametrize("counts_tl", [np.zeros((3, 3), np.int64), np.zeros((4, 3)), np.zeros(4, np.int64)])
def test_an_array_that_is_no_confusion_matrix_is_refused(counts_tl: npt.NDArray[np.int64]) -> None:
    with pytest.raises(
        InputError, match=r"counts of dtype \w+ and shape .*: pass integers, \(classes \+ 1\) x classes"
    ):
        scores(counts_tl)
