"""IoU and accuracy from a confusion matrix, as mmsegmentation's ``IoUMetric`` defines them.

mmsegmentation 1.2.2, ``mmseg/evaluation/metrics/iou_metric.py``, ``iou_metrics=["mIoU"]``.  Over all pixels whose
ground truth is not void:

- intersect: pixels of a class that were given its label;
- predicted: pixels that were given its label, those whose ground truth is outside the classes included;
- true: pixels whose ground truth is the class;
- IoU = intersect / (predicted + true - intersect), Acc = intersect / true, aAcc = sum of intersect / sum of true;
- mIoU and mAcc are the means over the classes for which the fraction exists (0 / 0 is nan and left out).

So a class that is predicted and never true has IoU 0 and Acc nan.  mmsegmentation adds up in float32, which loses
single pixels of a class beyond 2^24 of them; counts here are exact, and fractions float64.  With one class alone
mmsegmentation counts ground truth outside the classes as that class (``torch.histc`` from 0 to 0 takes the data's own
range); here it stays outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = ["Scores", "percent", "scores"]

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Fractions, 0 to 1; nan where there is no pixel to judge by.

    ``iou`` and ``acc`` have one value a class, in the order of the labels; ``miou`` and ``macc`` are their means
    without the nan; ``aacc`` is the fraction with the right label among all pixels whose ground truth is a class.
    """

    iou: tuple[float, ...]
    acc: tuple[float, ...]
    miou: float
    macc: float
    aacc: float


def scores(counts_tl: npt.NDArray[np.int64]) -> Scores:
    """The scores of a confusion matrix: integers, (classes + 1) x classes, ground truth by label, of which the last
    row counts ground truth outside the classes (:class:`~isa_deploy.evaluate.confusion.ConfusionMatrix`).

    Raises :class:`InputError` where the array is not of this kind.
    """
    if counts_tl.ndim != 2 or counts_tl.shape[0] != counts_tl.shape[1] + 1 or counts_tl.dtype.kind not in "iu":
        raise InputError(
            f"counts of dtype {counts_tl.dtype} and shape {counts_tl.shape}: pass integers, (classes + 1) x classes"
        )
    intersect = np.diagonal(counts_tl)  # of the rows that are classes: the last one has no diagonal
    predicted = counts_tl.sum(axis=0)
    true = counts_tl[:-1].sum(axis=1)
    iou = _fractions(intersect, predicted + true - intersect)
    acc = _fractions(intersect, true)
    aacc = _fractions(intersect.sum(keepdims=True), true.sum(keepdims=True))
    return Scores(
        iou=tuple(iou.tolist()),
        acc=tuple(acc.tolist()),
        miou=_mean(iou),
        macc=_mean(acc),
        aacc=float(aacc[0]),
    )


def percent(fraction: float) -> float:
    """Per cent with two decimals, rounded as mmsegmentation rounds (``numpy.round``); nan stays nan."""
    return float(np.round(np.float64(fraction) * 100, 2))


def _fractions(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Float64:
    fractions = np.full(len(whole), np.nan)
    np.divide(part, whole, out=fractions, where=whole > 0)
    return fractions


def _mean(fractions: Float64) -> float:
    # numpy.nanmean warns where nothing is left
    return float("nan") if np.isnan(fractions).all() else float(np.nanmean(fractions))
