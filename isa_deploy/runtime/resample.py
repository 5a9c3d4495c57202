"""Everything between the network's logits and a frame's labels, as one linear map an axis.

mmsegmentation resizes the logits of a window to the window, averages overlapping windows, and resizes the
result to the picture, all bilinear.  Each of these steps is linear and works on rows and columns
separately, so their chain is too: ``logits_full = R @ grid @ C^T`` with one sparse matrix ``R`` for the
rows and one ``C`` for the columns, where ``grid`` holds the windows' logits side by side.  A strip of
the picture needs only its own rows of ``R``, so no float map of the picture's size ever exists, and
whole pictures, test scales, sliding windows and blended tiles all go through the same few lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["AxisMap", "Index", "average_windows", "bilinear", "weigh_windows"]

Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]


@dataclass(frozen=True)
class AxisMap:
    """A sparse matrix ``outputs x inputs`` of one axis, with the same number of taps in every row.

    ``out[i] = sum_t weight[i, t] * in[index[i, t]]``; unused taps have weight 0.
    """

    inputs: int
    index: Index
    weight: npt.NDArray[np.float64]

    @property
    def outputs(self) -> int:
        """Length of the axis after the map."""
        return int(self.index.shape[0])

    def after(self, first: AxisMap) -> AxisMap:
        """The map that applies ``first`` and then this one.  Raises ValueError where lengths disagree."""
        if first.outputs != self.inputs:
            raise ValueError(f"a map of {self.inputs} inputs cannot follow one of {first.outputs} outputs")
        index = first.index[self.index].reshape(self.outputs, -1)
        weight = (self.weight[:, :, None] * first.weight[self.index]).reshape(self.outputs, -1)
        return AxisMap(first.inputs, *_merge_taps(index, weight))

    def dense(self) -> Float32:
        """The whole matrix, outputs x inputs, for a graph that holds it as a constant."""
        matrix = np.zeros((self.outputs, self.inputs))
        np.add.at(matrix, (np.arange(self.outputs)[:, None], self.index), self.weight)
        return matrix.astype(np.float32)


def _merge_taps(index: Index, weight: npt.NDArray[np.float64]) -> tuple[Index, npt.NDArray[np.float64]]:
    """Add up the taps of a row that read the same input, and keep as many taps as the fullest row needs."""
    order = np.argsort(index, axis=1, kind="stable")
    index = np.take_along_axis(index, order, axis=1)
    weight = np.take_along_axis(weight, order, axis=1)
    new = np.ones(index.shape, dtype=bool)
    new[:, 1:] = index[:, 1:] != index[:, :-1]
    slot = np.cumsum(new, axis=1) - 1
    taps = int(slot[:, -1].max()) + 1
    rows = np.broadcast_to(np.arange(index.shape[0])[:, None], index.shape)
    merged_weight = np.zeros((index.shape[0], taps))
    np.add.at(merged_weight, (rows, slot), weight)
    # an unused tap repeats the row's first input, so that it is always a valid index near the others
    merged_index = np.repeat(index[:, :1], taps, axis=1)
    merged_index[rows, slot] = index
    return merged_index, merged_weight


def bilinear(inputs: int, outputs: int, align_corners: bool) -> AxisMap:
    """Bilinear resize of one axis as ``torch.nn.functional.interpolate`` does it (no antialiasing).

    The source positions are computed in float32 as torch's CPU kernel does: at 2048 columns the rounding
    of a position is 1e-4 of a pixel, which a gate of 1e-3 on the logits would see.
    """
    out = np.arange(outputs, dtype=np.float32)
    if align_corners:
        step = np.float32(inputs - 1) / np.float32(outputs - 1) if outputs > 1 else np.float32(0)
        position = out * step
    else:
        step = np.float32(inputs) / np.float32(outputs)
        position = np.maximum(step * (out + np.float32(0.5)) - np.float32(0.5), np.float32(0))
    low = np.minimum(position.astype(np.intp), inputs - 1)
    high = np.minimum(low + 1, inputs - 1)
    fraction = np.clip(position - low.astype(np.float32), 0, 1).astype(np.float64)
    return AxisMap(inputs, np.stack([low, high], axis=1), np.stack([1 - fraction, fraction], axis=1))


def average_windows(spans: Sequence[tuple[int, int]], cells: int, length: int, align_corners: bool) -> AxisMap:
    """The map of one axis from windows' logits, laid side by side, to their average over the axis.

    ``spans`` are the windows' (start, stop) in pixels, each resized from ``cells`` logits; ``length`` is
    the axis in pixels.  Raises ValueError where a pixel is under no window.
    """
    window = bilinear(cells, spans[0][1] - spans[0][0], align_corners)
    return weigh_windows(spans, [np.ones(stop - start) for start, stop in spans], window, (0, length))


def weigh_windows(
    spans: Sequence[tuple[int, int]],
    weights: Sequence[npt.NDArray[np.float64]],
    window: AxisMap,
    pixels: tuple[int, int],
) -> AxisMap:
    """The map of one axis from windows' logits, laid side by side, to their weighted mean over some pixels.

    ``spans`` are the windows' (start, stop) in pixels, all of one length; ``weights`` has a number of 0 or
    more for each pixel of each window, and the mean is divided by their sum; ``window`` is the map from one window's
    logits to its pixels; ``pixels`` are the first pixel and the one after the last that are wanted.
    The two-dimensional mean is the product of the two axes' means because the windows form a grid.
    Raises ValueError where a pixel is under no window, or only under windows that have no weight there.
    """
    start, stop = pixels
    taps = window.index.shape[1]
    index = np.zeros((stop - start, len(spans) * taps), dtype=np.intp)
    weight = np.zeros((stop - start, len(spans) * taps))
    total = np.zeros(stop - start)
    for number, ((first, last), share) in enumerate(zip(spans, weights, strict=True)):
        low, high = max(first, start), min(last, stop)
        if low >= high:
            continue
        here, inside = slice(low - start, high - start), slice(low - first, high - first)
        columns = slice(number * taps, (number + 1) * taps)
        index[here, columns] = window.index[inside] + number * window.inputs
        weight[here, columns] = window.weight[inside] * share[inside, None]
        total[here] += share[inside]
    if not total.all():
        raise ValueError(f"pixel {start + int(np.flatnonzero(total == 0)[0])} lies under no window")
    weight /= total[:, None]
    # a tap without weight repeats the row's heaviest one, so that it asks for no other logits
    heaviest = np.take_along_axis(index, weight.argmax(axis=1)[:, None], axis=1)
    index = np.where(weight == 0, heaviest, index)
    return AxisMap(window.inputs * len(spans), *_merge_taps(index, weight))
