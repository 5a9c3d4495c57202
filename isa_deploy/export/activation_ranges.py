"""How far a tensor's values reach, as a histogram, and where symmetric int8 should clip them.

A histogram has :data:`BINS` equal bins of |x| from 0 to ``top``, a power of two above the largest value.  So bins of
two histograms coincide, or several of one make exactly one of the other: histograms of many frames are merged without
a first pass for the range, and the result does not depend on the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

__all__ = [
    "BINS",
    "METHODS",
    "TensorHistogram",
    "UnusableValuesError",
    "entropy",
    "int8_scale",
    "least_error",
    "measure",
    "merge",
    "minmax",
    "percentile",
    "squared_error",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

BINS = 8192
"""``top`` is less than twice the largest value, so that more than half of the bins are below it."""

LEVELS = 127
"""int8 without -128, so that the range is the same on both sides: the form that every engine takes."""

LEAST_EXPONENT, LARGEST_EXPONENT = -100, 126  # of ``top``: float32 holds it, and BINS / top

KL_BINS = 2048
KL_LEVELS = 128
KL_STEP = 8
"""Of the published method: bins, quantised levels; only every eighth candidate is tried, 0.4 % of the range apart."""

MSE_OCTAVES = 8
MSE_COARSE, MSE_FINE = 8, 64  # candidates an octave


class UnusableValuesError(ValueError):
    """Values that int8 cannot hold at any scale."""


@dataclass(frozen=True)
class TensorHistogram:
    """What is known of all values of one tensor.

    ``values``: how many.  ``counts``: float64 (:data:`BINS`,), how many |x| are in [i, i + 1) * ``width``; whole
    numbers, exact to 2 ** 53.  Where only one of k values is looked at, it counts for k.  ``top``: the end of the last
    bin; 0 where all values are 0, which are then in the first bin.  ``least``, ``most``: the exact extremes of all
    values, with their signs.  ``channel_sums``: float64 (C,), the sums of all values of each channel, of which all have
    equally many; None where the tensor has no channels.
    """

    values: int
    counts: Float64
    top: float
    least: float
    most: float
    channel_sums: Float64 | None = None

    @property
    def width(self) -> float:
        """Of one bin."""
        return self.top / len(self.counts)

    @property
    def largest(self) -> float:
        """The largest |x|, exactly."""
        return max(abs(self.least), abs(self.most))

    @property
    def channel_means(self) -> Float64 | None:
        """float64 (C,): the mean of each channel over everything else, None where there are no channels."""
        if self.channel_sums is None:
            return None
        return self.channel_sums * (len(self.channel_sums) / self.values)


def measure(values_rn: Float32, stride: int = 1, first_row: int = 0, channels: int = 0) -> TensorHistogram:
    """The histogram of an array, float32 rows x n, C-contiguous and not empty.

    ``stride``: one of so many values is counted, for as many; extremes and sums are of all.  ``channels``: row r
    belongs to channel ``(first_row + r) % channels``; 0 where there are none.  Counts are exact where no bin gets more
    than 2 ** 24 values.  Raises :class:`UnusableValuesError` for values that are not finite, or beyond 2 ** 126.
    """
    least, most = float(values_rn.min()), float(values_rn.max())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise UnusableValuesError("it holds values that are not finite")
    largest = max(abs(least), abs(most))
    sums: Float64 | None = None
    if channels:
        rows = np.asarray(cv2.reduce(values_rn, 1, cv2.REDUCE_SUM, dtype=cv2.CV_64F), np.float64).ravel()
        sums = np.zeros(channels)
        np.add.at(sums, (first_row + np.arange(len(rows))) % channels, rows)
    sample = np.ascontiguousarray(values_rn.reshape(-1)[::stride])
    counts = np.zeros(BINS, np.float64)
    if largest == 0.0:
        counts[0] = len(sample) * stride
        return TensorHistogram(values_rn.size, counts, 0.0, 0.0, 0.0, sums)
    exponent = max(math.frexp(largest)[1], LEAST_EXPONENT)
    if exponent > LARGEST_EXPONENT:
        raise UnusableValuesError(f"it reaches {largest:.3g}, which no scale makes an int8")
    top = 2.0**exponent
    if least < 0.0:  # a histogram of both signs, folded, would round values near the ends of bins into others
        sample = np.abs(sample)
    # the upper limit does not belong to the range, and no value is there
    counts[:] = cv2.calcHist([sample], [0], None, [BINS], [0.0, top]).ravel()  # OpenCV 4: bins x 1
    counts *= stride
    return TensorHistogram(values_rn.size, counts, top, least, most, sums)


def merge(one: TensorHistogram, other: TensorHistogram) -> TensorHistogram:
    """The histogram of the values of both; both of :func:`measure`, or merged.

    Channel sums are dropped where the two have not equally many channels.
    """
    top = max(one.top, other.top)
    sums = None
    a, b = one.channel_sums, other.channel_sums
    if a is not None and b is not None and a.shape == b.shape:
        sums = a + b
    counts = _coarsened(one, top) + _coarsened(other, top)
    return TensorHistogram(
        one.values + other.values, counts, top, min(one.least, other.least), max(one.most, other.most), sums
    )


def _coarsened(histogram: TensorHistogram, top: float) -> Float64:
    """The counts in bins that end at ``top``, a power of two not below the histogram's own."""
    if histogram.top == top:
        return histogram.counts
    bins = len(histogram.counts)
    counts = np.zeros(bins, np.float64)
    factor = top / histogram.top if histogram.top else bins
    if factor >= bins:
        counts[0] = histogram.counts.sum()
    else:
        joined = histogram.counts.reshape(-1, int(factor)).sum(axis=1)
        counts[: len(joined)] = joined
    return counts


def int8_scale(threshold: float) -> float:
    """The step of symmetric int8 that clips at a threshold; 1 for 0, where any step will do and 0 is no divisor."""
    return threshold / LEVELS if threshold > 0.0 else 1.0


def minmax(histogram: TensorHistogram) -> float:
    """The threshold that clips nothing."""
    return histogram.largest


def percentile(histogram: TensorHistogram, percent: float) -> float:
    """The threshold that at most ``100 - percent`` % of all values, zeros included, are above.

    The upper end of the bin in which the percentile is, or the largest value where that is less.
    """
    reached = np.cumsum(histogram.counts)
    index = int(np.searchsorted(reached, percent / 100.0 * reached[-1]))
    return min((index + 1) * histogram.width, histogram.largest)


def entropy(histogram: TensorHistogram) -> float:
    """The threshold whose 128 levels tell the distribution of |x| with the least Kullback-Leibler divergence.

    The method of TensorRT: S. Migacz, "8-bit Inference with TensorRT", GTC 2017.  What is clipped counts to the last
    bin of the reference and not to the quantised distribution.  The first bin is taken to be as the second: it holds
    the zeros, which are half of what a ReLU gives and which no threshold changes.
    """
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1
    join = -(-used // KL_BINS)
    bins = -(-used // join)
    if bins <= KL_LEVELS:
        return histogram.largest
    counts = np.zeros(bins * join, np.float64)
    counts[:used] = histogram.counts[:used]
    counts = counts.reshape(bins, join).sum(axis=1)
    counts[0] = counts[1]
    ends = [*range(KL_LEVELS, bins, KL_STEP), bins]
    divergences = [_divergence(counts, end) for end in ends]
    # of equals the largest, which clips the least
    best = ends[len(ends) - 1 - divergences[::-1].index(min(divergences))]
    threshold: float = min(best * join * histogram.width, histogram.largest)
    return threshold


def _divergence(counts: Float64, end: int) -> float:
    """Of the first ``end`` bins, told in :data:`KL_LEVELS` levels, from the whole, clipped there; inf where none."""
    inside = counts[:end]
    reference = inside.copy()
    reference[-1] += counts[end:].sum()
    levels = np.arange(end) * KL_LEVELS // end
    filled = inside > 0.0
    totals = np.bincount(levels, inside, KL_LEVELS)
    bins = np.bincount(levels, filled, KL_LEVELS)
    told = np.where(filled, (totals / np.maximum(bins, 1.0))[levels], 0.0)
    there = reference > 0.0
    if not told.any() or (told[there] == 0.0).any():
        return math.inf
    true = reference[there] / reference.sum()
    return float(np.dot(true, np.log(true / (told[there] / np.sum(told)))))


def squared_error(histogram: TensorHistogram, threshold: float) -> float:
    """The mean of (x - q(x)) ** 2 over all values, q symmetric int8 that clips at ``threshold`` > 0.

    Values are taken to be spread evenly inside a bin, and the integral over each bin is exact.  Those of the first bin
    are taken to be 0, which most of them are: the others' error is at most the square of a bin's width.
    """
    return float(_squared_errors(histogram, np.array([threshold]))[0])


def least_error(histogram: TensorHistogram) -> float:
    """The threshold with the least :func:`squared_error`, from 1 / 256 of the largest value to all of it.

    The best of eight candidates an octave, and then of 64 an octave round it.
    """
    if histogram.largest == 0.0:
        return 0.0
    coarse = np.arange(0, MSE_OCTAVES * MSE_COARSE + 1) / MSE_COARSE
    octaves = float(coarse[np.argmin(_squared_errors(histogram, histogram.largest * 2.0**-coarse))])
    span = MSE_FINE // MSE_COARSE
    fine = np.clip(octaves + np.arange(-span, span + 1) / MSE_FINE, 0.0, MSE_OCTAVES)
    thresholds = histogram.largest * 2.0**-fine
    return float(thresholds[np.argmin(_squared_errors(histogram, thresholds))])


def _squared_errors(histogram: TensorHistogram, thresholds: Float64) -> Float64:
    """:func:`squared_error` for each of several thresholds."""
    filled = np.flatnonzero(histogram.counts)
    filled = filled[filled > 0]
    total = histogram.counts.sum()
    if not len(filled):
        return np.zeros(len(thresholds))
    counts = histogram.counts[filled]
    errors = np.empty(len(thresholds))
    for index, threshold in enumerate(thresholds):
        # in units of the step; a bin's width is that of its values' interval too, cut off at the largest value
        step = threshold / LEVELS
        begin = filled * (histogram.width / step)
        end = np.maximum(np.minimum((filled + 1) * histogram.width, histogram.largest) / step, begin)
        width = end - begin
        point = width <= 1e-9 * end  # the largest value is where its bin begins
        spread = _integral(end) - _integral(begin)
        mean = np.where(point, _error(begin), spread / np.where(point, 1.0, width))
        errors[index] = step * step * float((counts * mean).sum()) / total
    return errors


def _error(u: Float64) -> Float64:
    """The squared distance of u >= 0 from the nearest of the levels 0 to 127."""
    return (u - np.minimum(np.floor(u + 0.5), LEVELS)) ** 2


def _integral(u: Float64) -> Float64:
    """Of :func:`_error` from 0 to u: each level k up to the last gives 1 / 12, and (u - k) ** 3 / 3 is what is left."""
    level = np.minimum(np.floor(u + 0.5), LEVELS)
    return level / 12.0 + (u - level) ** 3 / 3.0


METHODS: dict[str, Callable[[TensorHistogram], float]] = {
    "minmax": minmax,
    "percentile 99.9": partial(percentile, percent=99.9),
    "percentile 99.99": partial(percentile, percent=99.99),
    "percentile 99.999": partial(percentile, percent=99.999),
    "entropy": entropy,
    "mse": least_error,
}
"""The ways to choose a threshold, by the names that reports use."""
