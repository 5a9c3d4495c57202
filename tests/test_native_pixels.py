"""The C++ runtime's pixels are OpenCV's and the Python runtime's, byte by byte, with all vector instructions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_build import built

from isa_deploy.runtime import palette
from isa_deploy.runtime.native import _labels, _pixels

UInt8 = npt.NDArray[np.uint8]

MODEL, BGR, RGB = 0, 1, 2  # isa.h, ISA_ORDER_...
PORTABLE, AVX2, AVX512 = 0, 1, 2  # cpu.hpp, Simd

sides = st.integers(1, 300)
seeds = st.integers(0, 2**32 - 1)
alphas = st.one_of(st.just(0.5), st.floats(0, 1))


def as_picture(pixels_hwc: UInt8, order: int) -> Any:
    return ctypes.byref(_pixels(pixels_hwc, order))


def as_labels(labels_hw: UInt8) -> Any:
    return ctypes.byref(_labels(labels_hw))


class Native:
    """runtime/tests/internals_pixels.cpp with one set of vector instructions."""

    def __init__(self, library: ctypes.CDLL, simd: int) -> None:
        self._library = library
        self._simd = ctypes.c_int(simd)

    def copy_frame(self, frame_hwc: UInt8, swap: bool = False) -> UInt8:
        image = np.empty(frame_hwc.shape, dtype=np.uint8)
        self._library.isa_internals_copy_frame(
            as_picture(frame_hwc, MODEL), ctypes.c_int(swap), self._simd, ctypes.c_void_p(image.ctypes.data)
        )
        return image

    def resize(self, frame_hwc: UInt8, size_hw: tuple[int, int], swap: bool = False) -> UInt8:
        image = np.empty((*size_hw, 3), dtype=np.uint8)
        failed = self._library.isa_internals_resize(
            as_picture(frame_hwc, MODEL), ctypes.c_int(swap), self._simd, *size_hw, ctypes.c_void_p(image.ctypes.data)
        )
        assert not failed
        return image

    def colorize(self, labels_hw: UInt8, palette_rgb: UInt8, order: int = BGR) -> UInt8:
        picture = np.empty((*labels_hw.shape, 3), dtype=np.uint8)
        self._library.isa_internals_colorize(
            as_labels(labels_hw),
            ctypes.c_void_p(palette_rgb.ctypes.data),
            ctypes.c_size_t(len(palette_rgb)),
            self._simd,
            as_picture(picture, order),
        )
        return picture

    def overlay(
        self,
        frame_hwc: UInt8,
        labels_hw: UInt8,
        palette_rgb: UInt8,
        alpha: float,
        orders: tuple[int, int] = (BGR, BGR),
        out: UInt8 | None = None,
    ) -> UInt8:
        """``orders``: the frame's and the picture's."""
        picture = np.empty((*labels_hw.shape, 3), dtype=np.uint8) if out is None else out
        self._library.isa_internals_overlay(
            as_picture(frame_hwc, orders[0]),
            as_labels(labels_hw),
            ctypes.c_void_p(palette_rgb.ctypes.data),
            ctypes.c_size_t(len(palette_rgb)),
            ctypes.c_double(alpha),
            self._simd,
            as_picture(picture, orders[1]),
        )
        return picture


@pytest.fixture(scope="module", params=[PORTABLE, AVX2, AVX512], ids=["portable", "avx2", "avx512"])
def native(request: pytest.FixtureRequest) -> Native:
    library = ctypes.CDLL(str(built("libisa_internals.so")))
    widest = library.isa_internals_simd()
    if request.param > widest:
        pytest.skip(f"this processor (or ISA_SIMD) has vector instructions of level {widest} of cpu.hpp, no more")
    return Native(library, request.param)


def random_frame(seed: int, height: int, width: int) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth_frame(height: int, width: int) -> UInt8:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 37 + y / 61), np.cos(x / 23 - y / 47), np.sin((x + y) / 101)]
    return np.stack([127.5 * wave + 127.5 for wave in waves], axis=2).astype(np.uint8)


def opencv_resize(frame_hwc: UInt8, size_hw: tuple[int, int]) -> UInt8:
    return np.asarray(cv2.resize(frame_hwc, size_hw[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


@settings(max_examples=80, deadline=None)
@given(seed=seeds, from_hw=st.tuples(sides, sides), to_hw=st.tuples(sides, sides))
@example(seed=0, from_hw=(1, 1), to_hw=(300, 300))
@example(seed=0, from_hw=(1, 300), to_hw=(7, 299))
@example(seed=0, from_hw=(300, 1), to_hw=(299, 7))
@example(seed=0, from_hw=(300, 200), to_hw=(1, 1))
def test_resize_equals_opencv(native: Native, seed: int, from_hw: tuple[int, int], to_hw: tuple[int, int]) -> None:
    frame = random_frame(seed, *from_hw)
    np.testing.assert_array_equal(native.resize(frame, to_hw), opencv_resize(frame, to_hw))


@settings(max_examples=25, deadline=None)
@given(
    seed=seeds,
    height=st.integers(1, 100),
    width=st.integers(1, 100),
    ratio=st.sampled_from([(2, 2), (2, 1), (1, 2), (3, 3), (4, 2)]),
)
def test_resize_by_whole_ratios_equals_opencv(
    native: Native, seed: int, height: int, width: int, ratio: tuple[int, int]
) -> None:
    large, small = (height * ratio[0], width * ratio[1]), (height, width)
    for from_hw, to_hw in [(large, small), (small, large), ((large[0] + 1, large[1]), small)]:
        frame = random_frame(seed, *from_hw)
        np.testing.assert_array_equal(native.resize(frame, to_hw), opencv_resize(frame, to_hw))


@pytest.mark.parametrize("frame_of", [lambda h, w: random_frame(5, h, w), smooth_frame], ids=["random", "smooth"])
@pytest.mark.parametrize(
    ("from_hw", "to_hw"),
    [
        ((1024, 2048), (512, 1024)),
        ((720, 1280), (1024, 2048)),
        ((720, 1280), (512, 1024)),
        ((150, 310), (1024, 2116)),
        ((1080, 1920), (769, 1367)),
        ((480, 640), (480, 853)),
    ],
    ids=lambda size: "x".join(map(str, size)),
)
def test_resize_of_whole_frames_equals_opencv(
    native: Native, frame_of: Callable[[int, int], UInt8], from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> None:
    frame = frame_of(*from_hw)
    np.testing.assert_array_equal(native.resize(frame, to_hw), opencv_resize(frame, to_hw))


@settings(max_examples=15, deadline=None)
@given(seed=seeds, from_hw=st.tuples(sides, sides), to_hw=st.tuples(sides, sides))
def test_resize_and_copy_take_rows_of_any_stride_and_turn_the_order_round(
    native: Native, seed: int, from_hw: tuple[int, int], to_hw: tuple[int, int]
) -> None:
    height, width = from_hw
    wide = random_frame(seed, height, width + 3)
    for frame in (wide[:, 1 : width + 1], wide[::-1, :width]):
        plain = np.ascontiguousarray(frame)
        expected = opencv_resize(plain, to_hw)
        np.testing.assert_array_equal(native.resize(frame, to_hw), expected)
        np.testing.assert_array_equal(native.resize(frame, to_hw, swap=True), expected[:, :, ::-1])
        np.testing.assert_array_equal(native.copy_frame(frame), plain)
        np.testing.assert_array_equal(native.copy_frame(frame, swap=True), plain[:, :, ::-1])


def random_painting(seed: int, height: int, width: int, colours: int) -> tuple[UInt8, UInt8, UInt8]:
    """Frame, labels (those of the palette, its border and beyond) and palette."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, colours + 1, (height, width)).clip(0, 255)
    labels = np.where(rng.random((height, width)) < 0.1, rng.integers(0, 256, (height, width)), labels)
    return (
        rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        labels.astype(np.uint8),
        rng.integers(0, 256, (colours, 3), dtype=np.uint8),
    )


@settings(max_examples=50, deadline=None)
@given(seed=seeds, height=st.integers(1, 5), width=st.integers(1, 300), colours=st.integers(1, 256), alpha=alphas)
@example(seed=0, height=2, width=2500, colours=19, alpha=0.5)
@example(seed=0, height=2, width=2500, colours=256, alpha=0.3)
def test_pictures_equal_python(native: Native, seed: int, height: int, width: int, colours: int, alpha: float) -> None:
    frame, labels, palette_rgb = random_painting(seed, height, width, colours)
    colours_bgr = palette.colorize(labels, palette_rgb)
    np.testing.assert_array_equal(native.colorize(labels, palette_rgb), colours_bgr)
    np.testing.assert_array_equal(native.colorize(labels, palette_rgb, RGB), colours_bgr[:, :, ::-1])
    expected = palette.overlay(frame, labels, palette_rgb, alpha)
    np.testing.assert_array_equal(native.overlay(frame, labels, palette_rgb, alpha), expected)
    in_place = frame.copy()
    assert native.overlay(in_place, labels, palette_rgb, alpha, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, expected)


@pytest.mark.parametrize("alpha", [0, 1, 0.5, 0.1, 0.25, 0.3, 0.35, 1 / 3, 0.7, 0.9, 0.999, 1e-9, 1 - 1e-9, 5e-324])
def test_an_overlay_of_every_value_and_colour_equals_python(native: Native, alpha: float) -> None:
    values = np.arange(256, dtype=np.uint8)
    frame = np.repeat(np.repeat(values[:, None, None], 256, axis=1), 3, axis=2)
    labels = np.tile(values, (256, 1))
    palette_rgb = np.repeat(values[:, None], 3, axis=1)
    np.testing.assert_array_equal(
        native.overlay(frame, labels, palette_rgb, alpha), palette.overlay(frame, labels, palette_rgb, alpha)
    )


@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_a_frame_in_another_order_than_the_picture_is_turned_round(native: Native, alpha: float) -> None:
    frame_bgr, labels, palette_rgb = random_painting(1, 40, 333, 19)
    frame_rgb = np.ascontiguousarray(frame_bgr[:, :, ::-1])
    expected_bgr = palette.overlay(frame_bgr, labels, palette_rgb, alpha)
    for frame, order in [(frame_bgr, BGR), (frame_rgb, RGB)]:
        for picture_order, expected in [(BGR, expected_bgr), (MODEL, expected_bgr), (RGB, expected_bgr[:, :, ::-1])]:
            picture = native.overlay(frame, labels, palette_rgb, alpha, (order, picture_order))
            np.testing.assert_array_equal(picture, expected)
    for frame, picture_order, expected in [
        (frame_bgr, BGR, expected_bgr),
        (frame_bgr, MODEL, expected_bgr),
        (frame_rgb, RGB, expected_bgr[:, :, ::-1]),
    ]:
        picture = native.overlay(frame, labels, palette_rgb, alpha, (MODEL, picture_order))
        np.testing.assert_array_equal(picture, expected)


def test_pictures_are_written_to_rows_of_any_stride_and_no_further(native: Native) -> None:
    height, width = 7, 101
    frame, labels, palette_rgb = random_painting(2, height, width, 19)
    expected = palette.overlay(frame, labels, palette_rgb)
    for upside_down in (False, True):
        memory = np.full((height, width + 5, 3), 77, dtype=np.uint8)
        picture = memory[::-1, 2 : width + 2] if upside_down else memory[:, 2 : width + 2]
        native.overlay(frame, labels, palette_rgb, 0.5, out=picture)
        np.testing.assert_array_equal(picture, expected)
        assert (memory[:, :2] == 77).all()
        assert (memory[:, width + 2 :] == 77).all()
        flipped = native.overlay(frame[::-1], np.ascontiguousarray(labels)[::-1], palette_rgb, 0.5)
        np.testing.assert_array_equal(flipped, expected[::-1])
