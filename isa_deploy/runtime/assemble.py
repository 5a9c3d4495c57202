"""Logits at the head's stride to labels of the frame's size, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.resample import AxisMap, Index

__all__ = ["LogitsGrid", "labels_from_logits", "labels_from_softmax_mean", "margins_from_logits"]

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

STRIP_ROWS = 16
BAND_ROWS = 256
"""The logits are widened to the frame's columns a band at a time, and then to its rows a strip at a time: the
wider axis first, because few rows are wide yet.  16 rows were the fastest of 8, 16 and 32."""

PRODUCT_COLS = 64
PRODUCT_LIMIT = 1 << 18
"""Products have at most this many multiplications, which BLAS computes in the calling thread.  Larger ones
wake its own threads, which on a busy machine wait for each other: a frame then took 4 s instead of 0.06 s.
Threads of ours gained nothing on two cores, measured: numpy's calls are too short beside Python's lock."""


@dataclass(frozen=True)
class LogitsGrid:
    """Windows' logits side by side, and how they become the frame's.

    ``logits_chw``: float32, C x (window rows * h) x (window columns * w); one window is a grid too.
    ``rows``/``cols``: the maps from the grid's axes to the frame's height and width.
    """

    logits_chw: Float32
    rows: AxisMap
    cols: AxisMap

    @property
    def frame_hw(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return self.rows.outputs, self.cols.outputs


def labels_from_logits(grid: LogitsGrid) -> UInt8:
    """The winning class of every pixel, uint8 H x W.  Of equal logits the lower class wins, as in argmax."""
    labels_hw = np.zeros(grid.frame_hw, dtype=np.uint8)
    for rows, logits_chw in _strips(grid):
        winner, best = labels_hw[rows], logits_chw[0].copy()
        better = np.empty(best.shape, dtype=np.bool_)
        place = np.empty(best.shape, dtype=np.uint8)
        for label in range(1, logits_chw.shape[0]):
            np.greater(logits_chw[label], best, out=better)
            np.maximum(best, logits_chw[label], out=best)
            # labels come in rising order, so the last better one is the largest: one byte-wide maximum,
            # which is faster than a masked store
            np.multiply(better.view(np.uint8), np.uint8(label), out=place)
            np.maximum(winner, place, out=winner)
    return labels_hw


def labels_from_softmax_mean(grids: Sequence[LogitsGrid]) -> tuple[UInt8, UInt8]:
    """The winning class of the mean of several predictions' softmaxes, and that mean x 255.

    Both uint8 H x W.  This is mmsegmentation's test-time augmentation (SegTTAModel): probabilities are
    averaged at the frame's size, not logits.  Raises ValueError where the frames' sizes differ.
    """
    sizes = {grid.frame_hw for grid in grids}
    if len(sizes) != 1:
        raise ValueError(f"predictions of different frame sizes cannot be averaged: {sorted(sizes)}")
    winner = np.empty(sizes.pop(), dtype=np.uint8)
    confidence = np.empty_like(winner)
    for group in zip(*(_strips(grid) for grid in grids), strict=True):
        rows = group[0][0]
        mean = np.zeros(group[0][1].shape, dtype=np.float32)
        for _, logits_chw in group:
            shares = np.exp(logits_chw - logits_chw.max(axis=0))
            mean += shares / shares.sum(axis=0)
        mean /= len(group)
        winner[rows] = mean.argmax(axis=0)
        confidence[rows] = np.rint(mean.max(axis=0) * 255)
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
    height, width = grid.frame_hw
    classes = grid.logits_chw.shape[0]
    edges = [(x, min(x + PRODUCT_COLS, width)) for x in range(0, width, PRODUCT_COLS)]
    columns = [(slice(start, stop), *grid.cols.block(start, stop)) for start, stop in edges]
    buffer_chw = np.empty((classes, STRIP_ROWS, width), dtype=np.float32)
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        band, _ = grid.rows.block(top, bottom)
        wide_chw = _widen(grid.logits_chw[:, band], columns, width)
        for y in range(top, bottom, STRIP_ROWS):
            stop = min(y + STRIP_ROWS, bottom)
            used, by_row = grid.rows.block(y, stop)
            first, last = np.searchsorted(band, (used[0], used[-1]))
            source = wide_chw[:, first : last + 1]
            if source.shape[1] != used.size:  # rows of another window lie between
                source = wide_chw[:, np.searchsorted(band, used)]
            if stop - y == STRIP_ROWS:
                yield slice(y, stop), np.matmul(by_row, source, out=buffer_chw)
            else:
                yield slice(y, stop), np.matmul(by_row, source)


def _widen(logits_chw: Float32, columns: list[tuple[slice, Index, Float32]], width: int) -> Float32:
    """Logits C x h x w at the frame's columns, C x h x W."""
    classes, height, _ = logits_chw.shape
    flat = logits_chw.reshape(classes * height, -1)
    wide = np.empty((classes * height, width), dtype=np.float32)
    for cols, used, by_col in columns:
        narrow, turned = flat[:, used], by_col.T
        part = max(PRODUCT_LIMIT // (PRODUCT_COLS * used.size), 1)
        for top in range(0, flat.shape[0], part):
            np.matmul(narrow[top : top + part], turned, out=wide[top : top + part, cols])
    return wide.reshape(classes, height, width)
