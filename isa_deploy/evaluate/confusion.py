"""How often a pixel of one class was given the label of another, counted exactly.

``benchmarks/confusion.py`` measured the ways to count, 1024 x 2048, 19 and 150 classes, one core
(``benchmarks/results/confusion.json``).  OpenCV's histogram of two channels took 2.6 to 3.4 ms (the least of
45 runs) on regions and noise alike, less than half of ``numpy.bincount``.  Counting runs or blocks of equal neighbours
at once was a fifth faster where classes and borders are few; elsewhere it costs more, and runs some fifteen times as
much on noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.dataset import VOID

__all__ = ["MAX_CLASSES", "ConfusionMatrix"]

UInt8 = npt.NDArray[np.uint8]

MAX_CLASSES = 255
"""0 to 254; 255 is void."""

STRIP_PIXELS = 1 << 23  # OpenCV gives counts as float32, which holds every integer only up to 2^24


class ConfusionMatrix:
    """Counts of (ground truth, label) over any number of pictures, for one thread at a time.

    ``counts_tl`` is int64, (classes + 1) x classes: ground truth by label.  The last row counts the pixels whose
    ground truth is a value from ``classes`` to 254, outside the classes; void ones (255) are in no row.
    """

    def __init__(self, classes: int) -> None:
        """Raises :class:`InputError` unless ``classes`` is 1 to 255."""
        if not 1 <= classes <= MAX_CLASSES:
            raise InputError(f"{classes} classes: pass 1 to {MAX_CLASSES}; {VOID} stands for void")
        self.classes = classes
        self.counts_tl: npt.NDArray[np.int64] = np.zeros((classes + 1, classes), dtype=np.int64)

    def add(self, truth_hw: UInt8, labels_hw: UInt8) -> npt.NDArray[np.int64]:
        """Count a picture, and return its own counts: a new array laid out as ``counts_tl``.

        Both are uint8 H x W of any memory layout; no copy of a whole picture is made.  Raises
        :class:`InputError`, with nothing counted, where an array is of another kind, the sizes differ, or a label
        is not below ``classes`` (under void ground truth too: the engine has other classes then).
        """
        _check(truth_hw, "ground truth")
        _check(labels_hw, "labels")
        if truth_hw.shape != labels_hw.shape:
            raise InputError(
                f"ground truth of {_size(truth_hw)} and labels of {_size(labels_hw)} (height x width): "
                "pass the labels of this picture at its own size"
            )
        by_value_tl = np.zeros((VOID + 1, self.classes), dtype=np.int64)
        for rows, columns in _strips(*truth_hw.shape):
            truth, labels = truth_hw[rows, columns], labels_hw[rows, columns]
            counted = _histogram(truth, labels, self.classes)
            if counted.sum() != truth.size:
                raise InputError(
                    f"labels of up to {labels_hw.max()}, and {self.classes} classes: labels are 0 to "
                    f"{self.classes - 1}; pass the engine's own number of classes"
                )
            by_value_tl += counted
        counts_tl = np.concatenate(
            [by_value_tl[: self.classes], by_value_tl[self.classes : VOID].sum(axis=0, keepdims=True)]
        )
        self.counts_tl += counts_tl
        return counts_tl


def _histogram(truth: UInt8, labels: UInt8, classes: int) -> npt.NDArray[np.int64]:
    """Counts, 256 x ``classes``, of at most 2^24 pixels; labels that are no class are left out."""
    channels = [np.ascontiguousarray(truth), np.ascontiguousarray(labels)]
    counted = cv2.calcHist(channels, [0, 1], None, [VOID + 1, classes], [0, VOID + 1, 0, classes])
    return counted.reshape(VOID + 1, classes).astype(np.int64)


def _strips(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of parts of at most ``STRIP_PIXELS`` pixels, which partition the picture."""
    columns = min(width, STRIP_PIXELS)
    rows = STRIP_PIXELS // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield slice(top, top + rows), slice(left, left + columns)


def _check(array_hw: UInt8, what: str) -> None:
    if not isinstance(array_hw, np.ndarray):
        raise InputError(f"{what} of type {type(array_hw).__name__}: pass a uint8 array, height x width")
    if array_hw.dtype != np.uint8:
        raise InputError(f"{what} of dtype {array_hw.dtype}: pass uint8, one byte a pixel")
    if array_hw.ndim != 2 or array_hw.size == 0:
        raise InputError(f"{what} of shape {array_hw.shape}: pass height x width, at least 1 x 1")


def _size(array_hw: UInt8) -> str:
    return "x".join(str(side) for side in array_hw.shape)
