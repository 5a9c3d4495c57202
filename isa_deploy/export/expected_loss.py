"""What a change of the labels costs in mIoU, told without label maps: by the float32 checkpoint's own probabilities.

A pixel that flips is mostly one where two classes were nearly as likely, and there the other answer is right nearly as
often.  So the truth of a pixel is taken to be each class with the checkpoint's softmax for it: the expected confusion
matrix adds that softmax to the column of the label that was given.  The mIoU of the float32 labels under it, less the
mIoU of the others', is the loss.  A checkpoint that is too sure of itself makes the estimate too high, not too low.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["ExpectedLoss"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class ExpectedLoss:
    """The measure of :mod:`isa_deploy.export.expected_loss`, over some frames.

    ``reference_chw``: the float32 checkpoint's logits, C x h x w at the head's stride, of each frame.
    """

    def __init__(self, reference_chw: Sequence[Float32]) -> None:
        self._reference_chw = list(reference_chw)
        self._shares = [_softmax(each) for each in self._reference_chw]
        labels = [each.argmax(0).ravel() for each in self._reference_chw]
        classes = len(self._reference_chw[0])
        self._classes = np.unique(np.concatenate(labels))  # one that is never answered is not in the mean
        self._best = self._miou(labels, classes)
        mean = np.mean([np.mean(each.astype(np.float64)) for each in self._reference_chw])
        self._spread = float(np.mean([np.mean((each.astype(np.float64) - mean) ** 2) for each in self._reference_chw]))

    def points(self, logits_chw: Sequence[Float32]) -> float:
        """By how many points of mIoU (of 100) the labels of other logits of the same frames are worse."""
        labels = [each.argmax(0).ravel() for each in logits_chw]
        return 100 * (self._best - self._miou(labels, len(logits_chw[0])))

    def error(self, logits_chw: Sequence[Float32]) -> float:
        """The mean squared error of other logits, as a share of the reference's own variance.

        It moves with every rounding, where :meth:`points` needs labels to flip.
        """
        errors = [
            np.mean((one.astype(np.float64) - other) ** 2)
            for one, other in zip(logits_chw, self._reference_chw, strict=True)
        ]
        return float(np.mean(errors)) / self._spread if self._spread else 0.0

    def agreement(self, logits_chw: Sequence[Float32]) -> float:
        """Share of equal labels, 0 to 1."""
        equal = [
            np.mean(one.argmax(0) == other.argmax(0))
            for one, other in zip(logits_chw, self._reference_chw, strict=True)
        ]
        return float(np.mean(equal))

    def _miou(self, labels: Sequence[npt.NDArray[np.intp]], classes: int) -> float:
        expected_tl = np.zeros((classes, classes))
        for shares, given in zip(self._shares, labels, strict=True):
            for label in np.unique(given):
                expected_tl[:, label] += shares[:, given == label].sum(axis=1)
        both = np.diagonal(expected_tl)
        either = expected_tl.sum(axis=0) + expected_tl.sum(axis=1) - both
        return float(np.mean((both / either)[self._classes]))


def _softmax(logits_chw: Float32) -> Float64:
    """C x (h * w), float64."""
    flat = logits_chw.reshape(len(logits_chw), -1).astype(np.float64)
    powers = np.exp(flat - flat.max(axis=0))
    shares: Float64 = powers / powers.sum(axis=0)
    return shares
