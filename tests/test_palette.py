"""Labels as pictures equal the plain formula, whatever the size, the memory layout and the palette."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isa_deploy.errors import InputError
from isa_deploy.runtime import palette
from isa_deploy.runtime.datasets import dataset_palette
from isa_deploy.runtime.palette import colorize, overlay

UInt8 = npt.NDArray[np.uint8]

labels = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=23))
palettes = hnp.arrays(np.uint8, st.tuples(st.integers(1, 256), st.just(3)))
alphas = st.one_of(st.just(0.5), st.floats(0, 1))


def naive_colours(labels_hw: UInt8, palette_rgb: UInt8) -> UInt8:
    table_bgr = np.zeros((256, 3), dtype=np.uint8)
    table_bgr[: len(palette_rgb)] = palette_rgb[:, ::-1]
    return table_bgr[labels_hw]


@pytest.fixture(params=["pairs", "singles"])
def lookup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of looking colours up: this OpenCV's own, and that of an OpenCV before 4.13."""
    if request.param == "singles":
        monkeypatch.setattr(palette, "_lut_takes_uint16", lambda: False)
    elif not palette._lut_takes_uint16():
        pytest.skip(f"OpenCV {cv2.__version__} has no lookup by uint16; 4.13 and later have it")
    palette._colour_table.cache_clear()
    return str(request.param)


@pytest.fixture(autouse=True)
def _tables_of_this_test_only() -> Any:
    yield
    palette._colour_table.cache_clear()


@given(labels, palettes)
def test_colorize_equals_indexing_the_palette(labels_hw: UInt8, palette_rgb: UInt8) -> None:
    np.testing.assert_array_equal(colorize(labels_hw, palette_rgb), naive_colours(labels_hw, palette_rgb))


@given(labels, palettes, alphas, st.randoms(use_true_random=False))
def test_overlay_is_a_nearest_integer_of_the_formula(
    labels_hw: UInt8, palette_rgb: UInt8, alpha: float, random: Any
) -> None:
    frame_hwc = np.frombuffer(random.randbytes(labels_hw.size * 3), np.uint8).reshape(*labels_hw.shape, 3)
    exact = frame_hwc * (1 - alpha) + naive_colours(labels_hw, palette_rgb) * alpha
    blend = overlay(frame_hwc, labels_hw, palette_rgb, alpha)
    assert np.abs(blend - exact).max() <= 0.5 + 1e-4  # cv2.addWeighted computes in float32


def test_every_half_and_half_blend_is_the_truncated_one_or_one_more() -> None:
    frame_hwc = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 256, axis=1).repeat(3, axis=2)
    labels_hw = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    greys = np.repeat(np.arange(256)[:, None], 3, axis=1)
    truncated = (frame_hwc.astype(int) + labels_hw[:, :, None]) // 2
    more = overlay(frame_hwc, labels_hw, greys, 0.5) - truncated
    assert set(np.unique(more)) == {0, 1}


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 2), (3, 5), (2, 4), (181, 363), (256, 512)])
def test_strips_join_without_a_seam(lookup: str, shape_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(palette, "STRIP_PIXELS", 64)
    rng = np.random.default_rng(shape_hw[1])
    labels_hw = rng.integers(0, 256, shape_hw, dtype=np.uint8)
    frame_hwc = rng.integers(0, 256, (*shape_hw, 3), dtype=np.uint8)
    palette_rgb = rng.integers(0, 256, (150, 3), dtype=np.uint8)
    colours = naive_colours(labels_hw, palette_rgb)
    np.testing.assert_array_equal(colorize(labels_hw, palette_rgb), colours)
    for alpha in (0.5, 0.25):
        exact = frame_hwc * (1 - alpha) + colours * alpha
        assert np.abs(overlay(frame_hwc, labels_hw, palette_rgb, alpha) - exact).max() <= 0.5


def test_a_real_label_picture_at_full_size_equals_indexing(lookup: str, golden: Any) -> None:
    labels_hw = cv2.imread(str(golden / "scene_0_gt.png"), cv2.IMREAD_GRAYSCALE)
    labels_hw = cv2.resize(labels_hw, (2048, 1024), interpolation=cv2.INTER_NEAREST)
    streets = dataset_palette("cityscapes")
    assert streets is not None
    expected = naive_colours(labels_hw, np.array(streets.palette_rgb, dtype=np.uint8))
    np.testing.assert_array_equal(colorize(labels_hw, streets.palette_rgb), expected)


def test_void_and_labels_beyond_the_palette_are_black() -> None:
    labels_hw = np.array([[0, 1, 2, 255]], dtype=np.uint8)
    picture = colorize(labels_hw, [(10, 20, 30), (40, 50, 60)])
    assert picture.tolist() == [[[30, 20, 10], [60, 50, 40], [0, 0, 0], [0, 0, 0]]]
    white = np.full((1, 4, 3), 254, dtype=np.uint8)
    assert overlay(white, labels_hw, [(10, 20, 30), (40, 50, 60)])[0, 3].tolist() == [127, 127, 127]


def test_label_255_has_a_colour_where_the_palette_has_256() -> None:
    greys = [(label, label, label) for label in range(256)]
    assert colorize(np.full((1, 1), 255, dtype=np.uint8), greys).tolist() == [[[255, 255, 255]]]


def test_alpha_0_is_the_frame_and_alpha_1_the_colours() -> None:
    rng = np.random.default_rng(0)
    frame_hwc = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    labels_hw = rng.integers(0, 3, (7, 9), dtype=np.uint8)
    palette_rgb = [(1, 2, 3), (255, 254, 253), (0, 128, 0)]
    np.testing.assert_array_equal(overlay(frame_hwc, labels_hw, palette_rgb, 0), frame_hwc)
    np.testing.assert_array_equal(overlay(frame_hwc, labels_hw, palette_rgb, 1), colorize(labels_hw, palette_rgb))


@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_out_is_filled_and_returned_and_may_be_the_frame(alpha: float) -> None:
    rng = np.random.default_rng(1)
    frame_hwc = rng.integers(0, 256, (33, 35, 3), dtype=np.uint8)
    labels_hw = rng.integers(0, 5, (33, 35), dtype=np.uint8)
    palette_rgb = rng.integers(0, 256, (4, 3), dtype=np.uint8)
    before = frame_hwc.copy()
    expected = overlay(frame_hwc, labels_hw, palette_rgb, alpha)
    np.testing.assert_array_equal(frame_hwc, before)  # without out the frame stays as it was
    out = np.empty_like(frame_hwc)
    assert overlay(frame_hwc, labels_hw, palette_rgb, alpha, out=out) is out
    np.testing.assert_array_equal(out, expected)
    overlay(frame_hwc, labels_hw, palette_rgb, alpha, out=frame_hwc)
    np.testing.assert_array_equal(frame_hwc, expected)


def test_views_and_odd_addresses_are_read_right(lookup: str) -> None:
    rng = np.random.default_rng(2)
    palette_rgb = rng.integers(0, 256, (20, 3), dtype=np.uint8)
    memory = rng.integers(0, 20, 2 * 21 * 30 + 1, dtype=np.uint8)
    at_odd_address = memory[1:].reshape(2, 21, 30)[1, :20]
    frames = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for labels_hw in (at_odd_address, at_odd_address[:, ::2], at_odd_address[::-1], at_odd_address[3:, 5:].T):
        expected = naive_colours(labels_hw, palette_rgb)
        np.testing.assert_array_equal(colorize(labels_hw, palette_rgb), expected)
        height, width = labels_hw.shape
        frame_hwc = np.resize(frames, (width, height, 3)).transpose(1, 0, 2)
        blend = overlay(frame_hwc, labels_hw, palette_rgb)
        assert np.abs(blend - (frame_hwc * 0.5 + expected * 0.5)).max() <= 0.5


@settings(max_examples=20)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=256))
def test_a_palette_may_be_tuples_as_in_the_manifest(colours: list[tuple[int, int, int]]) -> None:
    labels_hw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = naive_colours(labels_hw, np.array(colours, dtype=np.uint8))
    np.testing.assert_array_equal(colorize(labels_hw, tuple(colours)), expected)


FRAME = np.zeros((4, 6, 3), dtype=np.uint8)
LABELS = np.zeros((4, 6), dtype=np.uint8)
RED = [(255, 0, 0)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((LABELS.astype(np.int64), RED), "int64"),
        ((LABELS[:, :, None], RED), r"\(4, 6, 1\)"),
        ((LABELS[:0], RED), r"\(0, 6\)"),
        ((LABELS.tolist(), RED), "list"),
        ((LABELS, []), "shape"),
        ((LABELS, [(1, 2)]), r"\(1, 2\)"),
        ((LABELS, [(1, 2, 3), (1, 2)]), "differ in length"),
        ((LABELS, [(1, 2, 256)]), "1 to 256"),
        ((LABELS, [(-1, 2, 3)]), "-1 to 3"),
        ((LABELS, [(0.5, 2, 3)]), "float64"),
        ((LABELS, [(0, 0, 0)] * 257), r"\(257, 3\)"),
        ((LABELS, RED, FRAME[:3]), r"\(4, 6, 3\)"),
        ((LABELS, RED, FRAME.astype(np.float32)), "float32"),
        ((LABELS, RED, np.zeros((6, 4, 3), dtype=np.uint8).transpose(1, 0, 2)), "contiguous"),
    ],
)
def test_colorize_refuses_what_does_not_fit_and_names_it(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        colorize(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((FRAME.astype(np.uint16), LABELS, RED), "uint16"),
        ((LABELS, LABELS, RED), r"\(4, 6\)"),
        ((FRAME[:, :5], LABELS, RED), "4x5 and labels of 4x6"),
        ((None, LABELS, RED), "NoneType"),
        ((FRAME, LABELS, RED, 1.5), "1.5"),
        ((FRAME, LABELS, RED, -0.1), "-0.1"),
        ((FRAME, LABELS, RED, float("nan")), "nan"),
        ((FRAME, LABELS[None], RED), r"\(1, 4, 6\)"),
    ],
)
def test_overlay_refuses_what_does_not_fit_and_names_it(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        overlay(*arguments)
