"""Labels of a video over time: each pixel's most frequent class of the last frames.

For cameras that stand.  What moves drags its old labels behind it, and those change late: measured with the demo model
on drawn drives (``benchmarks/flicker.py``, ``benchmarks/results/flicker.json``; flicker is the share of pixels that
change their label though the truth stays):

================================  ================  ================  ================
camera                            1 frame (off)     3 frames          7 frames
================================  ================  ================  ================
drives, 15 frames/s: flicker      3.7 %             4.5 %             3.3 %
... accuracy, mIoU                93.4 %, 64.2 %    90.1 %, 54.6 %    85.9 %, 45.9 %
drives, 30 frames/s: flicker      3.1 %             2.9 %             2.2 %
... accuracy, mIoU                93.4 %, 66.8 %    92.1 %, 62.0 %    89.6 %, 54.0 %
stands, 15 frames/s: flicker      1.5 %             1.6 %             1.4 %
... accuracy, mIoU                93.1 %, 61.7 %    92.3 %, 60.8 %    90.7 %, 58.5 %
================================  ================  ================  ================

So it is off unless asked for, and from a driving camera it takes more than it gives.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.runtime.palette import checked_labels

__all__ = ["MAX_SMOOTHED", "Smoother"]

UInt8 = npt.NDArray[np.uint8]

MAX_SMOOTHED = 99
"""Frames: their counts fit a byte, and their label maps (with the counts, twice as many) some memory."""

STRIP_PIXELS = 1 << 14  # a strip of a few frames and counts stays in a core's caches


class Smoother:
    """The majority over the last ``frames`` label maps, pixel by pixel.

    Causal: the labels of a frame depend on it and the ones before it, and come without delay.  Where classes are
    as frequent as each other, the one that was seen last wins, so that with ``frames`` of 1 or 2 nothing
    changes.  At the beginning, and after the size of the labels has changed, the frames since then count.
    A label without a class (255) counts like a class.

    How often a frame's label occurs among the last frames is kept beside each frame, and a new frame changes
    those counts by one comparison a frame: time and memory are in proportion to ``frames``, whatever the number
    of classes.
    """

    def __init__(self, frames: int) -> None:
        """Raises :class:`InputError` unless ``frames`` is 1 to :data:`MAX_SMOOTHED`."""
        if not 1 <= frames <= MAX_SMOOTHED:
            raise InputError(f"smoothing over {frames} frames: take 1 (off) to {MAX_SMOOTHED}")
        self._frames = frames
        self._labels: deque[UInt8] = deque()  # flat, the oldest first
        self._counts: deque[UInt8] = deque()  # how often each of them occurs in the window
        self._size_hw: tuple[int, int] | None = None

    def add(self, labels_hw: UInt8) -> UInt8:
        """The smoothed labels of the next frame, uint8 H x W.

        ``labels_hw``: uint8 H x W, which must not change afterwards; where nothing is smoothed it comes back
        itself.  Raises :class:`InputError` for an array that is none.
        """
        checked_labels(labels_hw)
        if self._frames <= 2:
            return labels_hw
        size_hw = int(labels_hw.shape[0]), int(labels_hw.shape[1])
        if size_hw != self._size_hw:
            self._labels.clear()
            self._counts.clear()
            self._size_hw = size_hw
        newest = np.ascontiguousarray(labels_hw).reshape(-1)
        leaving = self._labels.popleft() if len(self._labels) == self._frames else None
        newest_count = self._counts.popleft() if leaving is not None else np.empty_like(newest)
        smoothed = np.empty_like(newest)
        equal = np.empty(min(STRIP_PIXELS, newest.size), dtype=np.bool_)
        for start in range(0, newest.size, STRIP_PIXELS):
            strip = slice(start, min(start + STRIP_PIXELS, newest.size))
            self._add_strip(
                newest[strip],
                None if leaving is None else leaving[strip],
                [(labels[strip], counts[strip]) for labels, counts in zip(self._labels, self._counts, strict=True)],
                newest_count[strip],
                smoothed[strip],
                equal[: strip.stop - start],
            )
        self._labels.append(newest)
        self._counts.append(newest_count)
        return smoothed.reshape(size_hw)

    def _add_strip(
        self,
        newest: UInt8,
        leaving: UInt8 | None,
        kept: list[tuple[UInt8, UInt8]],
        newest_count: UInt8,
        smoothed: UInt8,
        equal: npt.NDArray[np.bool_],
    ) -> None:
        """Fill ``newest_count`` and ``smoothed``, and bring the counts of the ``kept`` frames up to date."""
        newest_count.fill(1)
        same = equal.view(np.uint8)
        for labels, counts in kept:
            if leaving is not None:
                np.equal(labels, leaving, out=equal)
                np.subtract(counts, same, out=counts)
            np.equal(labels, newest, out=equal)
            np.add(counts, same, out=counts)
            np.add(newest_count, same, out=newest_count)
        np.copyto(smoothed, newest)
        most = newest_count.copy()
        for labels, counts in reversed(kept):
            np.greater(counts, most, out=equal)
            np.copyto(smoothed, labels, where=equal)
            np.maximum(most, counts, out=most)
