"""The C++ runtime's windows, maps and labels are Python's: to the last bit, with all vector instructions."""

from __future__ import annotations

import ctypes
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_build import built

from isa_deploy.runtime import assemble
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits, margins_from_logits
from isa_deploy.runtime.preprocess import fit_size
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear, weigh_windows
from isa_deploy.runtime.tiling import CutMode, Span, cut_axis, slide_spans

CASES = Path(__file__).resolve().parent.parent / "runtime" / "tests" / "cases"

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

SIMD = ("portable", "avx2", "avx512")  # cpu.hpp, Simd
MODES: tuple[CutMode, ...] = ("slide", "tiles", "blend")  # tiling.hpp, CutMode
MOST_TAPS = 1 << 16

sides = st.integers(1, 200)
seeds = st.integers(0, 2**32 - 1)


class Map(ctypes.Structure):
    """isa_arithmetic_map."""

    _fields_ = (
        ("inputs", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("taps", ctypes.c_int32),
        ("index", ctypes.c_void_p),
        ("weight", ctypes.c_void_p),
    )


class Native:
    """runtime/tests/internals.cpp."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.isa_arithmetic_error.restype = ctypes.c_char_p
        self._library.isa_arithmetic_plan.restype = ctypes.c_void_p
        self.simd = int(self._library.isa_arithmetic_simd())

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self._library, f"isa_arithmetic_{name}")(*arguments) != 0:
            raise ValueError(self._library.isa_arithmetic_error().decode())

    def _map(self, name: str, *arguments: Any) -> AxisMap:
        shape = (ctypes.c_int32 * 3)()
        index, weight = np.empty(MOST_TAPS, dtype=np.int32), np.empty(MOST_TAPS)
        room = ctypes.c_int64(MOST_TAPS)
        self._call(name, *arguments, room, shape, _pointer(index), _pointer(weight))
        inputs, outputs, taps = shape
        size = outputs * taps
        return AxisMap(
            inputs, index[:size].reshape(outputs, taps).astype(np.intp), weight[:size].reshape(outputs, taps).copy()
        )

    def bilinear(self, inputs: int, outputs: int, align: bool) -> AxisMap:
        return self._map("bilinear", inputs, outputs, int(align))

    def average(self, spans: Sequence[Span], cells: int, length: int, frame: int, align: bool) -> AxisMap:
        flat = np.array(spans, dtype=np.int32)
        return self._map("average", _pointer(flat), len(spans), cells, length, frame, int(align))

    def weigh(
        self, spans: Sequence[Span], weights: Sequence[npt.NDArray[np.float64]], cells: int, align: bool, pixels: Span
    ) -> AxisMap:
        flat, shares = np.array(spans, dtype=np.int32), np.concatenate(weights)
        return self._map(
            "weigh", _pointer(flat), len(spans), _pointer(shares), cells, len(weights[0]), int(align), *pixels
        )

    def slide_spans(self, length: int, crop: int, stride: int) -> tuple[Span, ...]:
        spans, count = np.empty((length, 2), dtype=np.int32), ctypes.c_int()
        self._call("slide_spans", length, crop, stride, length, _pointer(spans), ctypes.byref(count))
        return _spans(spans, count.value)

    def cut_axis(self, length: int, window: int, overlap: int, mode: CutMode) -> tuple[tuple[Span, ...], ...]:
        """Windows, blocks, and the windows that have a say in each block."""
        parts, count = np.empty((3, length, 2), dtype=np.int32), ctypes.c_int()
        self._call(
            "cut_axis", length, window, overlap, MODES.index(mode), length, *map(_pointer, parts), ctypes.byref(count)
        )
        return tuple(_spans(part, count.value) for part in parts)

    def fit_size(self, frame: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
        size = (ctypes.c_int32 * 2)()
        self._call("fit_size", *frame, *box, size)
        return size[0], size[1]

    def labels(self, grid: LogitsGrid, simd: str) -> UInt8:
        made = np.full(grid.frame_hw, 255, dtype=np.uint8)
        self._assemble(grid, simd, "labels", made, ctypes.c_ssize_t(made.shape[1]))
        return made

    def full_logits(self, grid: LogitsGrid, simd: str) -> Float32:
        made = np.full((len(grid.logits_chw), *grid.frame_hw), np.nan, dtype=np.float32)
        self._assemble(grid, simd, "full_logits", made)
        return made

    def _assemble(self, grid: LogitsGrid, simd: str, name: str, made: npt.NDArray[Any], *more: Any) -> None:
        if SIMD.index(simd) > self.simd:
            pytest.skip(f"this processor, or ISA_SIMD, has no {simd}")
        logits = np.ascontiguousarray(grid.logits_chw)
        maps = [_Kept(axis) for axis in (grid.rows, grid.cols)]
        plan = self._library.isa_arithmetic_plan(*(ctypes.byref(kept.map) for kept in maps), len(logits))
        assert plan is not None, self._library.isa_arithmetic_error()
        plan = ctypes.c_void_p(plan)
        try:
            function = getattr(self._library, f"isa_arithmetic_{name}")
            function(plan, SIMD.index(simd), _pointer(logits), _pointer(made), *more)
        finally:
            self._library.isa_arithmetic_free_plan(plan)


class _Kept:
    """An axis map as C sees it, and its memory."""

    def __init__(self, axis: AxisMap) -> None:
        self._index = np.ascontiguousarray(axis.index, dtype=np.int32)
        self._weight = np.ascontiguousarray(axis.weight)
        self.map = Map(axis.inputs, axis.outputs, axis.index.shape[1], _pointer(self._index), _pointer(self._weight))


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _spans(pairs: npt.NDArray[np.int32], count: int) -> tuple[Span, ...]:
    return tuple((int(start), int(stop)) for start, stop in pairs[:count])


@pytest.fixture(scope="module")
def native() -> Native:
    return Native(built("libisa_internals.so"))


@pytest.fixture(scope="module", params=SIMD)
def simd(request: pytest.FixtureRequest, native: Native) -> str:
    if SIMD.index(request.param) > native.simd:
        pytest.skip(f"this processor, or ISA_SIMD, has no {request.param}")
    return str(request.param)


def assert_same_map(made: AxisMap, wanted: AxisMap) -> None:
    assert made.inputs == wanted.inputs
    np.testing.assert_array_equal(made.index, wanted.index)
    np.testing.assert_array_equal(made.weight, wanted.weight)


# The table


def make_windows() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_windows", CASES / "make_windows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_that_cpp_is_held_to_is_pythons() -> None:
    made = json.loads(make_windows().text())
    wanted = json.loads((CASES / "windows.json").read_text(encoding="utf-8"))
    for one, stored in zip(made.pop("weights"), wanted.pop("weights"), strict=True):
        assert one["case"] == stored["case"]
        # numpy's sine is another one with other vector instructions
        numbers = [[float.fromhex(word) for word in case["weights"].split()] for case in (one, stored)]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-15)
    assert made == wanted


# Windows and maps


@given(length=sides, crop=st.integers(1, 250), stride=st.integers(1, 250))
def test_slide_spans_equal_pythons(native: Native, length: int, crop: int, stride: int) -> None:
    stride = min(stride, crop)
    assert native.slide_spans(length, crop, stride) == slide_spans(length, crop, stride)


@given(length=sides, window=st.integers(1, 250), overlap=st.integers(0, 249), mode=st.sampled_from(MODES))
def test_cut_axes_equal_pythons(native: Native, length: int, window: int, overlap: int, mode: CutMode) -> None:
    overlap = min(overlap, window - 1)
    cut = cut_axis(length, window, overlap, mode)
    windows, blocks, windows_of = native.cut_axis(length, window, overlap, mode)
    assert windows == cut.windows
    assert blocks == cut.blocks
    assert [range(*of) for of in windows_of] == [cut.windows_of(block) for block in range(len(cut.blocks))]


@given(inputs=st.integers(1, 5000), outputs=st.integers(1, 5000), align=st.booleans())
@example(inputs=256, outputs=2048, align=False)
@example(inputs=256, outputs=2048, align=True)
def test_bilinear_maps_equal_pythons(native: Native, inputs: int, outputs: int, align: bool) -> None:
    assert_same_map(native.bilinear(inputs, outputs, align), bilinear(inputs, outputs, align))


@given(length=sides, crop=st.integers(1, 100), stride=st.integers(1, 100), frame=sides, align=st.booleans())
def test_averages_of_windows_equal_pythons(
    native: Native, length: int, crop: int, stride: int, frame: int, align: bool
) -> None:
    spans = slide_spans(length, crop, max(min(stride, crop), crop // 4))
    cells = -(-(spans[0][1] - spans[0][0]) // 8)
    wanted = average_windows(spans, cells, length, align)
    if frame != length:
        wanted = bilinear(length, frame, align).after(wanted)
    assert_same_map(native.average(spans, cells, length, frame, align), wanted)


@given(
    length=sides,
    window=st.integers(1, 100),
    overlap=st.integers(0, 80),
    mode=st.sampled_from(MODES),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    align=st.booleans(),
)
def test_weighed_windows_equal_pythons(
    native: Native, length: int, window: int, overlap: int, mode: CutMode, cut: tuple[float, float], align: bool
) -> None:
    axis = cut_axis(length, window, min(overlap, window * 3 // 4), mode)
    first, last = sorted(int(part * (length - 1)) for part in cut)
    weights = [axis.weights(number) for number in range(len(axis.windows))]
    cells = -(-axis.window // 8)
    wanted = weigh_windows(axis.windows, weights, bilinear(cells, axis.window, align), (first, last + 1))
    assert_same_map(native.weigh(axis.windows, weights, cells, align, (first, last + 1)), wanted)


@given(
    frame=st.tuples(st.integers(1, 20000), st.integers(1, 20000)),
    box=st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
)
def test_fitted_sizes_equal_pythons(native: Native, frame: tuple[int, int], box: tuple[int, int]) -> None:
    assert native.fit_size(frame, box) == fit_size(frame, (box[1], box[0]))


def test_a_failure_says_what_python_says(native: Native) -> None:
    with pytest.raises(ValueError, match="a stride of 6 leaves gaps between windows of 5") as wanted:
        slide_spans(10, 5, 6)
    with pytest.raises(ValueError, match=f"^{wanted.value}$"):
        native.slide_spans(10, 5, 6)


# Labels


@dataclass(frozen=True)
class Picture:
    """Random logits and how they become a frame's; a small thing to print, for hypothesis."""

    classes: int
    grid_hw: tuple[int, int]
    frame_hw: tuple[int, int]
    align: bool
    kind: str
    seed: int
    windows: bool = False

    def grid(self) -> LogitsGrid:
        rows, cols = (self._axis(*axis) for axis in zip(self.grid_hw, self.frame_hw, strict=True))
        return LogitsGrid(self._logits((self.classes, rows.inputs, cols.inputs)), rows, cols)

    def _axis(self, cells: int, frame: int) -> AxisMap:
        if not self.windows:
            return bilinear(cells, frame, self.align)
        spans = slide_spans(8 * cells, 8 * max(cells * 2 // 3, 1), 8 * max(cells // 2, 1))
        made = average_windows(spans, (spans[0][1] - spans[0][0]) // 8, 8 * cells, self.align)
        return bilinear(8 * cells, frame, self.align).after(made)

    def _logits(self, shape: tuple[int, int, int]) -> Float32:
        random = np.random.default_rng(self.seed)
        if self.kind == "ties":
            logits = random.integers(-2, 3, size=shape)
        elif self.kind == "equal":
            logits = np.full(shape, self.seed % 7 - 3)
        elif self.kind == "regions":  # as in a picture: one class far ahead, in patches
            patches = random.normal(size=(shape[0], -(-shape[1] // 4), -(-shape[2] // 4))) * 6
            logits = patches.repeat(4, axis=1).repeat(4, axis=2)[:, : shape[1], : shape[2]]
            logits = logits + random.normal(size=shape) * 0.3
        else:
            logits = random.normal(size=shape) * 5
        return np.ascontiguousarray(logits, dtype=np.float32)


kinds = st.sampled_from(["ties", "equal", "regions", "random"])
classes = st.one_of(st.integers(1, 24), st.integers(1, 256))


@st.composite
def enlarged(draw: st.DrawFn) -> Picture:
    """Frames two to ten times as large as the logits, as all heads make them."""
    grid = draw(st.tuples(st.integers(1, 12), st.integers(2, 24)))
    height, width = (max(int(cells * draw(st.floats(2, 10))), 2) for cells in grid)
    # not one class of one row: numpy multiplies a vector with other functions of BLAS
    count = max(draw(classes), 2 if grid[0] == 1 else 1)
    return Picture(count, grid, (height, width), draw(st.booleans()), draw(kinds), draw(seeds))


@st.composite
def of_any_size(draw: st.DrawFn) -> Picture:
    """Frames smaller than the logits too, and windows that overlap."""
    grid, frame = draw(st.tuples(st.integers(1, 40), st.integers(1, 60))), draw(st.tuples(sides, sides))
    count = draw(st.integers(1, 24))
    return Picture(count, grid, frame, draw(st.booleans()), draw(kinds), draw(seeds), draw(st.booleans()))


def blas_is_a_chain() -> bool:
    """Whether a product's sums are fused multiply-adds of rising inputs, one after the other, as in the C++ runtime."""
    random = np.random.default_rng(0)
    weights, values = (random.normal(size=size).astype(np.float32) for size in ((64, 10), (10, 64)))
    sums = np.zeros((64, 64), dtype=np.float32)
    for weight, value in zip(weights.T, values, strict=True):
        exact = weight[:, None].astype(np.longdouble) * value + sums
        sums = exact.astype(np.float32)
    return bool((weights @ values == sums).all())


needs_chain = pytest.mark.skipif(
    not blas_is_a_chain(),
    reason="numpy's BLAS adds in another order on this processor (OpenBLAS does without AVX-512): last bits differ",
)


@needs_chain
@settings(max_examples=40)
@given(picture=enlarged())
@example(picture=Picture(19, (46, 81), (361, 641), False, "regions", 0))
@example(picture=Picture(19, (9, 17), (65, 129), True, "ties", 0))
@example(picture=Picture(19, (64, 128), (512, 1024), False, "regions", 1))
def test_labels_equal_pythons(native: Native, simd: str, picture: Picture) -> None:
    grid = picture.grid()
    np.testing.assert_array_equal(native.labels(grid, simd), labels_from_logits(grid))


@needs_chain
@settings(max_examples=25)
@given(picture=enlarged())
@example(picture=Picture(19, (46, 81), (361, 641), False, "random", 0))
def test_interpolated_logits_equal_pythons_to_the_bit(native: Native, simd: str, picture: Picture) -> None:
    grid = picture.grid()
    made = native.full_logits(grid, simd)
    for rows, logits_chw in assemble._strips(grid):
        np.testing.assert_array_equal(made[:, rows], logits_chw)


@settings(max_examples=40)
@given(picture=of_any_size())
@example(picture=Picture(19, (200, 300), (60, 70), False, "random", 0))
def test_labels_differ_from_pythons_by_a_rounding_at_most(native: Native, simd: str, picture: Picture) -> None:
    grid = picture.grid()
    margin, _ = margins_from_logits(grid)
    other = native.labels(grid, simd) != labels_from_logits(grid)
    assert other.mean() < 0.01 or picture.kind in ("ties", "equal")  # where most pixels are as close as that
    assert margin[other].max(initial=0) <= 2e-6 * np.abs(grid.logits_chw).max()


@settings(max_examples=40)
@given(picture=of_any_size())
def test_labels_are_the_winners_of_the_interpolated_logits(native: Native, simd: str, picture: Picture) -> None:
    grid = picture.grid()
    np.testing.assert_array_equal(native.labels(grid, simd), native.full_logits(grid, simd).argmax(axis=0))


@settings(max_examples=40)
@given(picture=of_any_size())
def test_all_vector_instructions_give_the_same_logits(native: Native, simd: str, picture: Picture) -> None:
    grid = picture.grid()
    np.testing.assert_array_equal(native.full_logits(grid, simd), native.full_logits(grid, "portable"))
