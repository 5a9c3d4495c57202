"""The legend names what is in the picture, fits it, and leaves the rest of it alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.runtime import legend
from isa_deploy.runtime.datasets import dataset_palette
from isa_deploy.runtime.legend import draw_legend

STREETS = dataset_palette("cityscapes")
assert STREETS is not None
NAMES, COLOURS = STREETS.names, STREETS.palette_rgb


def shows(picture: np.ndarray, colour_rgb: tuple[int, int, int]) -> bool:
    # smoothed letters hold a few pixels of any grey; a swatch holds more
    return bool((picture == np.array(colour_rgb[::-1], dtype=np.uint8)).all(axis=-1).sum() > 100)


def test_swatches_of_the_classes_present_and_of_no_others() -> None:
    labels_hw = np.zeros((512, 1024), dtype=np.uint8)
    labels_hw[:100] = 10
    labels_hw[:50, :50] = 13
    labels_hw[500:] = 255
    drawn = draw_legend(np.full((512, 1024, 3), 90, dtype=np.uint8), labels_hw, NAMES, COLOURS)
    present = {label for label in range(19) if shows(drawn, COLOURS[label])}
    assert present == {0, 10, 13}


def test_classes_stand_in_the_order_of_their_share() -> None:
    labels_hw = np.full((512, 1024), 8, dtype=np.uint8)
    labels_hw[:200] = 2
    labels_hw[:10] = 0
    drawn = draw_legend(np.zeros((512, 1024, 3), dtype=np.uint8), labels_hw, NAMES, COLOURS)
    first_rows = [
        np.nonzero((drawn == np.array(COLOURS[label][::-1])).all(axis=-1).any(axis=1))[0][0] for label in (8, 2, 0)
    ]
    assert first_rows == sorted(first_rows)


def test_many_classes_are_bounded_and_the_rest_is_counted() -> None:
    labels_hw = np.arange(19, dtype=np.uint8).repeat(1024 * 30).reshape(-1, 1024)
    rows = legend._rows(labels_hw, NAMES, np.array(COLOURS, dtype=np.uint8), 12)
    assert len(rows) == 12
    assert [row.text for row in rows[:2]] == ["road", "sidewalk"]
    assert rows[-1].text == "8 more"
    assert rows[-1].colour_bgr is None


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 19), st.text(max_size=300))
def test_any_frame_size_and_any_name_draws_within_the_allowed_part(
    height: int, width: int, classes: int, name: str
) -> None:
    labels_hw = (np.arange(height * width) % classes).astype(np.uint8).reshape(height, width)
    frame_hwc = np.full((height, width, 3), 200, dtype=np.uint8)
    drawn = draw_legend(frame_hwc, labels_hw, [name, *NAMES[1:]], COLOURS)
    assert drawn.shape == frame_hwc.shape
    assert (frame_hwc == 200).all()
    changed_rows = np.nonzero((drawn != 200).any(axis=(1, 2)))[0]
    changed_columns = np.nonzero((drawn != 200).any(axis=(0, 2)))[0]
    if changed_rows.size:
        assert changed_rows[-1] < height * legend.MAX_PART
        assert changed_columns[-1] < width * legend.MAX_PART


def test_a_tiny_frame_comes_back_without_a_legend() -> None:
    frame_hwc = np.full((24, 40, 3), 77, dtype=np.uint8)
    drawn = draw_legend(frame_hwc, np.zeros((24, 40), dtype=np.uint8), NAMES, COLOURS)
    np.testing.assert_array_equal(drawn, frame_hwc)


def test_out_may_be_the_frame_or_a_part_of_a_larger_picture() -> None:
    labels_hw = np.zeros((200, 300), dtype=np.uint8)
    frame_hwc = np.full((200, 300, 3), 50, dtype=np.uint8)
    expected = draw_legend(frame_hwc, labels_hw, NAMES, COLOURS)
    side_by_side = np.zeros((200, 600, 3), dtype=np.uint8)
    draw_legend(frame_hwc, labels_hw, NAMES, COLOURS, out=side_by_side[:, 300:])
    np.testing.assert_array_equal(side_by_side[:, 300:], expected)
    assert draw_legend(frame_hwc, labels_hw, NAMES, COLOURS, out=frame_hwc) is frame_hwc
    np.testing.assert_array_equal(frame_hwc, expected)


def test_names_that_do_not_match_the_palette_are_refused() -> None:
    with pytest.raises(InputError, match="18 names for 19 colours"):
        draw_legend(np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), NAMES[1:], COLOURS)
