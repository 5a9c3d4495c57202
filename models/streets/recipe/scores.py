"""Intersection over union on scenes that no training saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from streetscenes import CLASSES, VOID, draw_scene
from torch import nn
from torch.nn import functional as F

from recipe.batches import normalise

__all__ = ["Scores", "confusion_matrix", "measure", "predict", "scores_of"]


@dataclass(frozen=True)
class Scores:
    """Fractions 0..1: the mean over the classes that occur, all pixels' accuracy, and each class's IoU.

    A class that neither the truth nor the prediction holds has an IoU of NaN and is not in the mean.
    """

    miou: float
    pixel_accuracy: float
    iou: dict[str, float]


def confusion_matrix(
    truth_hw: npt.NDArray[np.uint8], labels_hw: npt.NDArray[np.uint8], classes: int
) -> npt.NDArray[np.int64]:
    """Pixel counts, classes x classes, rows the truth; pixels whose truth is void are left out."""
    known = truth_hw != VOID
    pairs = truth_hw[known].astype(np.int64) * classes + labels_hw[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def scores_of(confusion: npt.NDArray[np.int64]) -> Scores:
    """IoU = both / (truth + predicted - both), class by class."""
    both = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - both
    iou = np.divide(both, union, out=np.full(len(both), np.nan), where=union > 0)
    return Scores(
        float(np.nanmean(iou)),
        float(both.sum() / max(1, confusion.sum())),
        {name: float(v) for name, v in zip(CLASSES, iou, strict=True)},
    )


@torch.inference_mode()
def predict(net: nn.Module, frame_hwc: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Labels uint8 H x W of a BGR frame: logits resized bilinearly to the frame's size, then the argmax."""
    logits_nchw = net(normalise(frame_hwc)[None])
    logits_nchw = F.interpolate(logits_nchw, size=frame_hwc.shape[:2], mode="bilinear", align_corners=False)
    labels: npt.NDArray[np.uint8] = logits_nchw[0].argmax(0).to(torch.uint8).numpy()
    return labels


def measure(net: nn.Module, seeds: Iterable[int], size_hw: tuple[int, int]) -> Scores:
    """Scores of ``net`` in evaluation mode over the scenes of ``seeds``, all pixels in one confusion matrix."""
    was_training = net.training
    net.eval()
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for seed in seeds:
        frame_hwc, truth_hw = draw_scene(seed, *size_hw)
        confusion += confusion_matrix(truth_hw, predict(net, frame_hwc), len(CLASSES))
    net.train(was_training)
    return scores_of(confusion)
