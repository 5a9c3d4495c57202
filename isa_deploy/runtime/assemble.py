"""Logits at the head's stride to labels of the frame's size, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.runtime.resample import AxisMap

__all__ = ["LogitsGrid", "labels_from_logits", "labels_from_softmax_mean"]

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

STRIP_ROWS = 16
BLOCK_COLS = 128
"""A strip's block of 19 classes is 16 x 128 x 19 floats, 156 KB: it stays in a core's L2 cache.  Measured on
1024 x 2048, 19 classes: 8 x 64 takes 1.4 x, 32 x 512 takes 1.3 x the time (benchmarks/assemble.py)."""


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
    height, width = grid.frame_hw
    out = np.empty((height, width), dtype=np.uint8)
    for rows, cols, logits_chw in _blocks(grid):
        best = logits_chw[0].copy()
        winner = np.zeros(best.shape, dtype=np.uint8)
        better = np.empty(best.shape, dtype=np.bool_)
        for label in range(1, logits_chw.shape[0]):
            np.greater(logits_chw[label], best, out=better)
            np.maximum(best, logits_chw[label], out=best)
            # labels come in rising order, so the last better one is the largest: one byte-wide maximum,
            # 3 x as fast as a masked store
            np.maximum(winner, better.view(np.uint8) * np.uint8(label), out=winner)
        out[rows, cols] = winner
    return out


def labels_from_softmax_mean(grids: Sequence[LogitsGrid]) -> tuple[UInt8, UInt8]:
    """The winning class of the mean of several predictions' softmaxes, and that mean x 255.

    Both uint8 H x W.  This is mmsegmentation's test-time augmentation (SegTTAModel): probabilities are
    averaged at the frame's size, not logits.  Raises ValueError where the frames' sizes differ.
    """
    sizes = {grid.frame_hw for grid in grids}
    if len(sizes) != 1:
        raise ValueError(f"predictions of different frame sizes cannot be averaged: {sorted(sizes)}")
    height, width = sizes.pop()
    winner = np.empty((height, width), dtype=np.uint8)
    confidence = np.empty((height, width), dtype=np.uint8)
    for group in zip(*(_blocks(grid) for grid in grids), strict=True):
        rows, cols, _ = group[0]
        mean = np.zeros(group[0][2].shape, dtype=np.float32)
        for _, _, logits_chw in group:
            shares = np.exp(logits_chw - logits_chw.max(axis=0))
            mean += shares / shares.sum(axis=0)
        mean /= len(group)
        winner[rows, cols] = mean.argmax(axis=0)
        confidence[rows, cols] = np.rint(mean.max(axis=0) * 255)
    return winner, confidence


def _blocks(grid: LogitsGrid) -> Iterator[tuple[slice, slice, Float32]]:
    """The frame's logits, C x rows x columns, a block at a time in reading order."""
    height, width = grid.frame_hw
    classes = grid.logits_chw.shape[0]
    blocks = [(x, min(x + BLOCK_COLS, width)) for x in range(0, width, BLOCK_COLS)]
    columns = [grid.cols.block(start, stop) for start, stop in blocks]
    for y in range(0, height, STRIP_ROWS):
        y_stop = min(y + STRIP_ROWS, height)
        used_rows, by_row = grid.rows.block(y, y_stop)
        strip = np.matmul(by_row, grid.logits_chw[:, used_rows])
        for (start, stop), (used_cols, by_col) in zip(blocks, columns, strict=True):
            flat = strip[:, :, used_cols].reshape(-1, used_cols.size) @ by_col.T
            yield slice(y, y_stop), slice(start, stop), flat.reshape(classes, y_stop - y, stop - start)
