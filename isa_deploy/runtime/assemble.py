"""Logits at the head's stride to labels of the frame's size, strip by strip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.resample import AxisMap, Index

__all__ = ["LogitsGrid", "labels_from_logits", "labels_from_softmax_mean", "margins_from_logits"]

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

STRIP_ROWS = 16
BAND_STRIPS = 8
"""The logits are widened to the frame's columns a band of strips at a time, and then to its rows a strip at a
time: the wider axis first, because few rows are wide yet.  16 rows were the fastest of 8, 16 and 32."""

TILE_COLS = 16
"""Of a strip, only the tiles in which more than one class can win are interpolated: in street scenes 4 of 10."""

SURE = np.float32(2.0**-16)
"""By how much of the largest logit a class must be behind to be left out: 128 roundings of float32, more than
an interpolation's few products and sums can be off."""

WORTH_PICKING = 0.8
"""Tiles and classes are picked out of a strip where at most this share of its work is left."""

PRODUCT_COLS = 64
PRODUCT_LIMIT = 1 << 18
"""Products have at most this many multiplications, which BLAS computes in the calling thread.  Larger ones
wake its own threads, which on a busy machine wait for each other: a frame then took 4 s instead of 0.06 s.
Threads of ours gained nothing on two cores, measured: numpy's calls are too short beside Python's lock."""


@dataclass(frozen=True)
class LogitsGrid:
    """Windows' logits side by side, and how they become the frame's.

    ``logits_chw``: float32, C x (window rows * h) x (window columns * w); one window is a grid too.
    ``rows``/``cols``: the maps from the grid's axes to the frame's height and width, whose weights are 0 or
    more and sum to 1, as those of :mod:`isa_deploy.runtime.resample` do.
    """

    logits_chw: Float32
    rows: AxisMap
    cols: AxisMap

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.rows.outputs, self.cols.outputs


def labels_from_logits(grid: LogitsGrid) -> UInt8:
    """The winning class of every pixel, uint8 H x W.  Of equal logits the lower class wins, as in argmax.

    A pixel's logits are weighted means of those round it, so a class wins no pixel of a tile if its largest
    logit there is below another class's smallest.  Only the classes that are left are interpolated, and
    none where one is left.
    """
    height, width = grid.frame_hw
    rows, cols = _cut(grid.rows, STRIP_ROWS), _cut(grid.cols, PRODUCT_COLS)
    tiles_used, _ = _inputs_used(grid.cols, TILE_COLS)
    labels_ytx = np.empty((height, len(tiles_used), TILE_COLS), dtype=np.uint8)
    buffer = np.empty(grid.logits_chw.shape[0] * STRIP_ROWS * labels_ytx[0].size, dtype=np.float32)
    for top in range(0, len(rows), BAND_STRIPS):
        strips = range(top, min(top + BAND_STRIPS, len(rows)))
        possible_tcs = _possible_classes(grid.logits_chw, rows.used[top : strips.stop], tiles_used)
        contested_ts = possible_tcs.sum(axis=1) > 1
        sole_ts = possible_tcs.argmax(axis=1).astype(np.uint8)  # the only one, where the tile is not contested
        left_cs = (possible_tcs & contested_ts[:, None]).any(axis=0)
        band = _Band.widened(grid.logits_chw, left_cs.any(axis=1), rows, strips, cols, contested_ts.any(axis=1))
        for strip, sole, contested, left in zip(strips, sole_ts.T, contested_ts.T, left_cs.T, strict=True):
            strip_ytx = labels_ytx[rows.span(strip)]
            if not contested.all():
                strip_ytx[:] = sole[:, None]
            if contested.any():
                band.settle(strip_ytx, *rows.piece(strip), np.flatnonzero(contested), np.flatnonzero(left), buffer)
    return np.ascontiguousarray(labels_ytx.reshape(height, -1)[:, :width])


def labels_from_softmax_mean(grids: Sequence[LogitsGrid]) -> tuple[UInt8, UInt8]:
    """The winning class of the mean of several predictions' softmaxes, and that mean x 255.

    Both uint8 H x W.  This is mmsegmentation's test-time augmentation (SegTTAModel): probabilities are
    averaged at the frame's size, not logits.  A strip of rows is summed up at a time: beyond the predictions' own
    logits, memory does not grow with the frame's height.  Raises ValueError where the frames' sizes differ.
    """
    sizes = {grid.frame_hw for grid in grids}
    if len(sizes) != 1:
        raise ValueError(f"predictions of different frame sizes cannot be averaged: {sorted(sizes)}")
    (frame_hw,) = sizes
    winner = np.empty(frame_hw, dtype=np.uint8)
    confidence = np.empty_like(winner)
    classes = grids[0].logits_chw.shape[0]
    # a strip's logits are used up before the next prediction's are made, so all predictions share one array
    buffer_chw = np.empty((classes, STRIP_ROWS, frame_hw[1]), dtype=np.float32)
    sum_chw = np.empty_like(buffer_chw)
    predictions = [_strips_into(buffer_chw, grid) for grid in grids]
    for top in range(0, frame_hw[0], STRIP_ROWS):
        rows = slice(top, min(top + STRIP_ROWS, frame_hw[0]))
        mean_chw = sum_chw[:, : rows.stop - top]
        mean_chw[:] = 0
        for prediction in predictions:
            _, shares_chw = next(prediction)
            shares_chw -= shares_chw.max(axis=0)
            np.exp(shares_chw, out=shares_chw)
            shares_chw /= shares_chw.sum(axis=0)
            mean_chw += shares_chw
        mean_chw /= len(grids)
        winner[rows] = mean_chw.argmax(axis=0)
        confidence[rows] = np.rint(mean_chw.max(axis=0) * 255)
    return winner, confidence


def margins_from_logits(grid: LogitsGrid) -> tuple[Float32, Float32]:
    """How certain the labels are: by how much the best logit exceeds the second, and the best one's softmax.

    Both float32 H x W; the margin is infinite where there is one class.
    """
    margin = np.full(grid.frame_hw, np.inf, dtype=np.float32)
    confidence = np.empty(grid.frame_hw, dtype=np.float32)
    for rows, logits_chw in _strips(grid):
        best = logits_chw.max(axis=0)
        confidence[rows] = 1 / np.exp(logits_chw - best).sum(axis=0)
        if logits_chw.shape[0] > 1:
            margin[rows] = best - np.partition(logits_chw, -2, axis=0)[-2]
    return margin, confidence


def _strips(grid: LogitsGrid) -> Iterator[tuple[slice, Float32]]:
    """The frame's logits, C x rows x W, a strip at a time from the top.  A strip's array is used again."""
    return _strips_into(np.empty((grid.logits_chw.shape[0], STRIP_ROWS, grid.frame_hw[1]), dtype=np.float32), grid)


def _strips_into(buffer_chw: Float32, grid: LogitsGrid) -> Iterator[tuple[slice, Float32]]:
    """:func:`_strips`, each written into C x STRIP_ROWS x W that others may use between one strip and the next."""
    width = grid.frame_hw[1]
    classes = grid.logits_chw.shape[0]
    rows, cols = _cut(grid.rows, STRIP_ROWS), _cut(grid.cols, PRODUCT_COLS)
    for top in range(0, len(rows), BAND_STRIPS):
        strips = range(top, min(top + BAND_STRIPS, len(rows)))
        inputs = np.unique(rows.used[top : strips.stop])
        wide_chw = np.empty((classes, inputs.size, width), dtype=np.float32)
        _widen(grid.logits_chw[:, inputs], cols, range(len(cols)), wide_chw)
        for strip in strips:
            used, by_row = rows.piece(strip)
            source = wide_chw[:, _places(inputs, used)]
            yield rows.span(strip), np.matmul(by_row, source, out=buffer_chw[:, : len(by_row)])


@dataclass(frozen=True)
class _Cut:
    """An axis's outputs in pieces of ``step``: which inputs a piece reads, and with what weights.

    ``used``: pieces x most inputs, rising, filled up with the piece's first; ``counts``: how many a piece
    has; ``weights``: float32, outputs x most inputs.
    """

    step: int
    used: Index
    counts: Index
    weights: Float32

    def __len__(self) -> int:
        return len(self.used)

    def span(self, piece: int) -> slice:
        """The outputs of a piece."""
        return slice(piece * self.step, min((piece + 1) * self.step, len(self.weights)))

    def piece(self, piece: int) -> tuple[Index, Float32]:
        """The inputs that a piece reads, and its outputs x these."""
        count = self.counts[piece]
        return self.used[piece, :count], self.weights[self.span(piece), :count]


def _cut(axis: AxisMap, step: int) -> _Cut:
    used, counts = _inputs_used(axis, step)
    piece = np.arange(axis.outputs) // step
    number = np.where(np.arange(used.shape[1]) < counts[:, None], used, -1)[piece]
    weights = ((axis.index[:, :, None] == number[:, None]) * axis.weight[:, :, None]).sum(axis=1)
    return _Cut(step, used, counts, weights.astype(np.float32))


def _inputs_used(axis: AxisMap, step: int) -> tuple[Index, Index]:
    """``used`` and ``counts`` of a :class:`_Cut`."""
    missing = -axis.outputs % step  # outputs that the last piece lacks: its last one stands for them
    index = np.concatenate([axis.index, np.repeat(axis.index[-1:], missing, axis=0)])
    read = np.sort(index.reshape(len(index) // step, -1), axis=1)
    new = np.ones(read.shape, dtype=np.bool_)
    new[:, 1:] = read[:, 1:] != read[:, :-1]
    place = np.cumsum(new, axis=1) - 1
    counts = place[:, -1] + 1
    used = np.repeat(read[:, :1], counts.max(), axis=1)
    np.put_along_axis(used, place, read, axis=1)
    return used, counts


def _possible_classes(logits_chw: Float32, rows_used: Index, tiles_used: Index) -> Bool:
    """Which classes may win a pixel of a tile: tiles x C x strips.  At least one everywhere."""
    low_csw = logits_chw[:, rows_used[:, 0]]
    high_csw = low_csw.copy()
    for used in rows_used.T[1:]:
        row = logits_chw[:, used]
        np.minimum(low_csw, row, out=low_csw)
        np.maximum(high_csw, row, out=high_csw)
    low_wcs = np.ascontiguousarray(low_csw.transpose(2, 0, 1))  # tiles are then picked in long runs
    high_wcs = np.ascontiguousarray(high_csw.transpose(2, 0, 1))
    low_tcs, high_tcs = low_wcs[tiles_used[:, 0]], high_wcs[tiles_used[:, 0]]
    for used in tiles_used.T[1:]:
        np.minimum(low_tcs, low_wcs[used], out=low_tcs)
        np.maximum(high_tcs, high_wcs[used], out=high_tcs)
    doubt = SURE * max(high_tcs.max(), -low_tcs.min())
    behind: Bool = high_tcs < low_tcs.max(axis=1, keepdims=True) - doubt
    return ~behind


@dataclass(frozen=True)
class _Band:
    """Some strips' logits at the frame's columns, of the classes and the tiles that they need.

    ``classes``: which; ``inputs``: rows of the grid; ``logits_crtx``: C x rows x tiles x columns of a tile.
    """

    classes: Index
    inputs: Index
    logits_crtx: Float32

    @classmethod
    def widened(cls, logits_chw: Float32, left: Bool, rows: _Cut, strips: range, cols: _Cut, contested: Bool) -> _Band:
        """The band of ``strips``, where ``contested`` says of every tile whether it is needed at all."""
        classes, inputs = np.flatnonzero(left), np.unique(rows.used[strips.start : strips.stop])
        wanted = np.unique(np.flatnonzero(contested) * TILE_COLS // PRODUCT_COLS)
        wide_chw = np.empty((classes.size, inputs.size, contested.size * TILE_COLS), dtype=np.float32)
        if wanted.size < len(cols) or wide_chw.shape[2] > len(cols.weights):
            wide_chw[:] = 0  # a strip may be computed whole, and what memory held might be no numbers
        if classes.size == len(logits_chw):
            _widen(logits_chw[:, inputs], cols, wanted, wide_chw)
        elif classes.size:
            _widen(logits_chw[classes[:, None], inputs], cols, wanted, wide_chw)
        return cls(classes, inputs, wide_chw.reshape(classes.size, inputs.size, contested.size, TILE_COLS))

    def settle(
        self, labels_ytx: UInt8, used: Index, by_row: Float32, contested: Index, left: Index, buffer: Float32
    ) -> None:
        """Write the labels of a strip's contested tiles, in which the classes ``left`` are left."""
        classes, height, tiles, _ = self.logits_crtx.shape
        if contested.size * left.size > WORTH_PICKING * tiles * classes:
            left, reckoned = self.classes, tiles
            source = self.logits_crtx.reshape(classes, height, -1)[:, _places(self.inputs, used)]
        else:
            reckoned = contested.size
            place = np.searchsorted(self.classes, left)[:, None] * height + np.searchsorted(self.inputs, used)
            picked = self.logits_crtx.reshape(-1, TILE_COLS).take(place[:, :, None] * tiles + contested, axis=0)
            source = picked.reshape(left.size, used.size, -1)
        shape = (left.size, len(by_row), reckoned * TILE_COLS)
        logits_chw = np.matmul(by_row, source, out=buffer[: math.prod(shape)].reshape(shape))
        winners_ytx = _winners(logits_chw, left).reshape(-1, reckoned, TILE_COLS)
        if contested.size == tiles:
            labels_ytx[:] = winners_ytx
        else:
            labels_ytx[:, contested] = winners_ytx if reckoned == contested.size else winners_ytx[:, contested]


def _winners(logits_chw: Float32, classes: Index) -> UInt8:
    """Which of the classes, given in rising order, has a pixel's largest logit.  The logits are used up."""
    best = logits_chw[0]
    winner = np.full(best.shape, classes[0], dtype=np.uint8)
    better = np.empty(best.shape, dtype=np.bool_)
    place = np.empty(best.shape, dtype=np.uint8)
    for logits, label in zip(logits_chw[1:], classes[1:].astype(np.uint8), strict=True):
        np.greater(logits, best, out=better)
        np.maximum(best, logits, out=best)
        # labels come in rising order, so the last better one is the largest: one byte-wide maximum,
        # which is faster than a masked store
        np.multiply(better.view(np.uint8), label, out=place)
        np.maximum(winner, place, out=winner)
    return winner


def _places(inputs: Index, used: Index) -> slice | Index:
    """Where ``used`` stand in ``inputs``, both rising: as a slice, which copies nothing, where nothing is between."""
    first, last = np.searchsorted(inputs, (used[0], used[-1]))
    return slice(first, last + 1) if last + 1 - first == used.size else np.searchsorted(inputs, used)


def _widen(logits_chw: Float32, cols: _Cut, pieces: Iterable[int], wide_chw: Float32) -> None:
    """Write the logits at the frame's columns, in those pieces of the columns, into ``wide_chw``."""
    flat = logits_chw.reshape(-1, logits_chw.shape[2])
    wide = wide_chw.reshape(len(flat), -1)
    for piece in pieces:
        used, by_col = cols.piece(piece)
        narrow, turned = flat[:, used], by_col.T
        part = max(PRODUCT_LIMIT // (PRODUCT_COLS * used.size), 1)
        for top in range(0, len(flat), part):
            np.matmul(narrow[top : top + part], turned, out=wide[top : top + part, cols.span(piece)])
