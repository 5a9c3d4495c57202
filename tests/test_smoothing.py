"""Labels over time: the majority, its ties, and what starts anew."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.runtime.smoothing import MAX_SMOOTHED, STRIP_PIXELS, Smoother

UInt8 = npt.NDArray[np.uint8]


def majority(column: list[int]) -> int:
    """The most frequent value, of several the one that was seen last."""
    counts = Counter(column)
    return next(value for value in reversed(column) if counts[value] == max(counts.values()))


@given(
    st.integers(1, 9),
    st.lists(st.lists(st.sampled_from([0, 1, 2, 255]), min_size=6, max_size=6), min_size=1, max_size=25),
)
def test_each_pixel_gets_the_most_frequent_of_its_last_labels(frames: int, rows: list[list[int]]) -> None:
    smoother = Smoother(frames)
    for number, row in enumerate(rows):
        smoothed = smoother.add(np.array(row, np.uint8).reshape(2, 3))
        assert smoothed.dtype == np.uint8
        window = rows[max(0, number + 1 - frames) : number + 1]
        assert smoothed.ravel().tolist() == [majority([past[pixel] for past in window]) for pixel in range(6)]


def test_pictures_of_many_strips_are_smoothed_throughout() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 3, (3, STRIP_PIXELS + 5), dtype=np.uint8) for _ in range(5)]
    smoother = Smoother(3)
    for labels_hw in frames:
        smoothed = smoother.add(labels_hw)
    expected = [majority([int(value) for value in column]) for column in np.stack(frames[2:]).reshape(3, -1).T]
    assert np.array_equal(smoothed.ravel(), np.array(expected))


def test_one_and_two_frames_change_nothing() -> None:
    for frames in (1, 2):
        smoother = Smoother(frames)
        for value in (1, 2, 1):
            labels_hw = np.full((2, 2), value, np.uint8)
            assert np.array_equal(smoother.add(labels_hw), labels_hw)


def test_another_size_starts_anew() -> None:
    smoother = Smoother(3)
    for _ in range(3):
        smoother.add(np.zeros((4, 6), np.uint8))
    # as many pixels, and another shape
    assert np.array_equal(smoother.add(np.ones((6, 4), np.uint8)), np.ones((6, 4)))


def test_what_was_given_and_answered_stays_as_it_was() -> None:
    smoother = Smoother(3)
    given_hw = [np.full((2, 2), value, np.uint8) for value in (1, 2, 2, 3)]
    answers = [smoother.add(labels_hw) for labels_hw in given_hw]
    assert [int(labels_hw[0, 0]) for labels_hw in given_hw] == [1, 2, 2, 3]
    assert [int(labels_hw[0, 0]) for labels_hw in answers] == [1, 2, 2, 2]


@pytest.mark.parametrize("frames", [0, -1, MAX_SMOOTHED + 1])
def test_a_senseless_number_of_frames_is_refused(frames: int) -> None:
    with pytest.raises(InputError, match=f"over {frames} frames"):
        Smoother(frames)


def test_what_are_no_labels_is_refused() -> None:
    with pytest.raises(InputError, match="height x width"):
        Smoother(3).add(np.zeros((2, 2, 3), np.uint8))
