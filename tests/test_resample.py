"""The maps of one axis, against torch's own interpolate and against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits, labels_from_softmax_mean
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear
from isa_deploy.runtime.tiling import slide_grid, slide_spans

side = st.integers(1, 70)


@given(inputs=side, outputs=side, align=st.booleans())
def test_bilinear_equals_torch(inputs: int, outputs: int, align: bool) -> None:
    signal = np.random.default_rng(inputs * 100 + outputs).normal(size=inputs).astype(np.float32)
    wanted = F.interpolate(
        torch.from_numpy(signal)[None, None, None], size=(1, outputs), mode="bilinear", align_corners=align
    )
    made = bilinear(inputs, outputs, align).dense() @ signal
    np.testing.assert_allclose(made, wanted[0, 0, 0].numpy(), atol=2e-5)


@given(inputs=side, middle=side, outputs=side, align=st.booleans())
def test_one_map_after_another_is_their_product(inputs: int, middle: int, outputs: int, align: bool) -> None:
    first, second = bilinear(inputs, middle, align), bilinear(middle, outputs, align)
    np.testing.assert_allclose(second.after(first).dense(), second.dense() @ first.dense(), atol=1e-6)


@given(length=st.integers(1, 120), crop=st.integers(1, 60), step=st.integers(1, 60), align=st.booleans())
def test_averaged_windows_weigh_one_everywhere(length: int, crop: int, step: int, align: bool) -> None:
    spans = slide_spans(length, crop, min(step, crop))
    cells = -(-(spans[0][1] - spans[0][0]) // 8)
    made = average_windows(spans, cells, length, align)
    np.testing.assert_allclose(made.dense().sum(axis=1), 1, atol=1e-6)


def test_a_gap_between_windows_is_an_error() -> None:
    with pytest.raises(ValueError, match="pixel 5"):
        average_windows([(0, 5), (6, 11)], 2, 11, False)


def test_maps_of_other_lengths_do_not_chain() -> None:
    with pytest.raises(ValueError, match="4 inputs cannot follow one of 5"):
        bilinear(4, 8, False).after(bilinear(2, 5, False))


@settings(deadline=None, max_examples=15)
@given(
    frame=st.tuples(st.integers(20, 150), st.integers(20, 300)),
    picture=st.tuples(st.integers(20, 150), st.integers(20, 300)),
    align=st.booleans(),
)
def test_labels_equal_mmsegmentations_slide_with_full_size_maps(
    frame: tuple[int, int], picture: tuple[int, int], align: bool
) -> None:
    """Windows resized, summed, divided, resized again, argmax: the plain way, in torch."""
    grid = slide_grid(frame, (64, 72), (40, 51))
    (h, w), classes = grid.window_hw, 5
    cell_h, cell_w = -(-h // 8), -(-w // 8)
    rows, cols = len(grid.rows), len(grid.cols)
    stack = np.random.default_rng(0).normal(size=(rows * cols, classes, cell_h, cell_w)).astype(np.float32)
    total = torch.zeros((1, classes, *frame))
    count = torch.zeros((1, 1, *frame))
    for number, ((y0, y1), (x0, x1)) in enumerate(grid.windows()):
        window = torch.from_numpy(stack[number : number + 1])
        total[:, :, y0:y1, x0:x1] += F.interpolate(window, (h, w), mode="bilinear", align_corners=align)
        count[:, :, y0:y1, x0:x1] += 1
    full = F.interpolate(total / count, picture, mode="bilinear", align_corners=align)[0].numpy()
    laid = stack.reshape(rows, cols, classes, cell_h, cell_w).transpose(2, 0, 3, 1, 4)
    maps = [
        bilinear(length, size, align).after(average_windows(spans, cells, length, align))
        for spans, cells, length, size in (
            (grid.rows, cell_h, frame[0], picture[0]),
            (grid.cols, cell_w, frame[1], picture[1]),
        )
    ]
    made = LogitsGrid(laid.reshape(classes, rows * cell_h, cols * cell_w), maps[0], maps[1])
    best = np.sort(full, axis=0)
    decided = best[-1] - best[-2] > 1e-4
    labels = labels_from_logits(made)
    assert np.array_equal(labels[decided], full.argmax(0)[decided])
    softmax_labels, confidence = labels_from_softmax_mean([made])
    assert np.array_equal(softmax_labels[decided], labels[decided])
    share = np.exp(full - full.max(0)).sum(0) ** -1
    assert np.abs(confidence - share * 255).max() <= 0.51


def test_of_equal_logits_the_lower_class_wins_and_255_classes_fit() -> None:
    flat = np.zeros((255, 2, 2), np.float32)
    identity = AxisMap(2, np.array([[0], [1]]), np.ones((2, 1)))
    assert (labels_from_logits(LogitsGrid(flat, identity, identity)) == 0).all()
    flat[254] = 1
    assert (labels_from_logits(LogitsGrid(flat, identity, identity)) == 254).all()


def test_predictions_of_other_sizes_are_not_averaged() -> None:
    grids = [
        LogitsGrid(np.zeros((2, 2, 2), np.float32), bilinear(2, size, False), bilinear(2, 4, False)) for size in (4, 5)
    ]
    with pytest.raises(ValueError, match="different frame sizes"):
        labels_from_softmax_mean(grids)
